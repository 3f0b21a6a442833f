//! The processes of a system, one file each: the servers that it calls, what it holds, its configuration, its checks,
//! and how it is drawn. [`ALL`] is the only list of the servers; a new server is a file here and a line there
//! (docs/walkthroughs/add-a-server.md).

pub(crate) mod block;
pub(crate) mod channels;
pub(crate) mod component;
mod file;
mod irq;
pub(crate) mod lifecycle;
pub(crate) mod net;
pub(crate) mod pci;
pub(crate) mod pipes;
mod serial;
mod timer;
pub(crate) mod vmm;

use layout::Service;

use crate::{
    checks::found::Check,
    compile::{
        error::CompileError,
        part::{Part, Role},
        wire::Wiring,
    },
    description::{
        board::{Board, Device, PortRange},
        system::System,
    },
    laws::authority::{FrameUse, Holding},
};

/// The servers in their start order: a server starts before its clients. The drawing shows them from right to left.
pub(crate) static ALL: [&Server; 7] = [
    // Servers that other servers call.
    &irq::SERVER,
    &timer::SERVER,
    // All others.
    &serial::SERVER,
    &pci::SERVER,
    &file::SERVER,
    &net::SERVER,
    &block::SERVER,
];

/// A server, as its own file describes it.
pub(crate) struct Server {
    /// Its names, and where its clients hold its endpoint.
    pub service: Service,
    /// Whether a system has it.
    pub is_wanted: fn(&System) -> bool,
    /// Above its clients', so that none of them waits for another.
    pub priority: u8,
    /// The servers that it calls, which may depend on whether the system passes devices through.
    pub calls: fn(devices: bool) -> Vec<Service>,
    /// Whether it reads files of fileserver's in a system; `None` if it never does.
    pub files: Option<fn(&System) -> bool>,
    /// The board's ports that it holds from the start.
    pub ports: fn(&Board) -> Vec<PortRange>,
    /// The board's device whose interrupt is its own.
    pub line: Option<fn(&Board) -> Device>,
    /// Whether it passes capabilities in its replies.
    pub grants: bool,
    /// Whether it signals its clients, so that each needs a notification.
    pub signals_clients: bool,
    /// Whether processes other than the servers that it calls signal it.
    pub is_signalled: fn(devices: bool) -> bool,
    /// See [`Part::scratch_bits`].
    pub scratch_bits: fn(devices: bool) -> Option<u8>,
    /// See [`Part::asks_root_task`].
    pub asks_root_task: fn(devices: bool) -> bool,
    /// Gives it and its clients their capabilities and shared memory, beside the endpoint; returns its configuration,
    /// encoded.
    pub configure: fn(&mut Wiring) -> Result<Vec<u8>, CompileError>,
    /// Checks of descriptions that concern it: more entries than it has room for, say.
    pub checks: &'static [Check],
    /// What it and its clients may hold, beside the endpoint, ports and the interrupt.
    pub holdings: &'static [Holding],
    /// Where memory that it shares may be mapped.
    pub frames: &'static [FrameUse],
    /// What a signal with this badge means to it; `None` for badges that mean the same everywhere.
    pub event: fn(badge: u64) -> Option<String>,
    /// Memory of its own that the map shows in one line.
    pub own_memory: Option<OwnMemory>,
    /// How it is drawn.
    pub look: Look,
}

/// See [`Server::own_memory`].
pub(crate) struct OwnMemory {
    /// First address.
    pub at: u64,
    /// What is there.
    pub what: fn(&System) -> String,
}

/// How a server is drawn.
pub(crate) struct Look {
    /// Colour of its lines.
    pub line: &'static str,
    /// Colour of its box.
    pub fill: &'static str,
    /// What signals between it and its clients are.
    pub signals: &'static str,
    /// Least width of its box, in pixels.
    pub width: f64,
    /// Whether it is below the row of servers, on the right, since servers call it too.
    pub aside: bool,
}

impl Look {
    /// In these colours, in the row, with doorbells.
    pub const fn new(line: &'static str, fill: &'static str) -> Self {
        Look { line, fill, signals: "doorbells", width: 140.0, aside: false }
    }
}

impl Server {
    /// A server of every system that calls nobody, has no port, no interrupt and no capability but its endpoint.
    pub const fn new(
        service: Service,
        priority: u8,
        configure: fn(&mut Wiring) -> Result<Vec<u8>, CompileError>,
        look: Look,
    ) -> Self {
        Server {
            service,
            is_wanted: |_| true,
            priority,
            calls: |_| Vec::new(),
            files: None,
            ports: |_| Vec::new(),
            line: None,
            grants: false,
            signals_clients: false,
            is_signalled: |_| false,
            scratch_bits: |_| None,
            asks_root_task: |_| false,
            configure,
            checks: &[],
            holdings: &[],
            frames: &[],
            event: |_| None,
            own_memory: None,
            look,
        }
    }

    fn part(&self, system: &System, devices: bool) -> Part {
        let board = system.board();
        let mut calls = (self.calls)(devices);
        calls.extend(self.files.is_some_and(|reads| reads(system)).then_some(proto::file::SERVICE));
        Part {
            name: self.service.server.to_string(),
            role: Role::Server(self.service),
            program: self.service.server.to_string(),
            priority: self.priority,
            devices,
            ports: (self.ports)(board),
            line: self.line.map(|line| line(board)),
            threads: 1,
            is_signalled: (self.is_signalled)(devices) || are_signalled(&calls),
            scratch_bits: (self.scratch_bits)(devices),
            asks_root_task: (self.asks_root_task)(devices),
            calls,
        }
    }
}

/// The server of a service.
pub(crate) fn server(service: Service) -> Option<&'static Server> {
    ALL.into_iter().find(|server| server.service == service)
}

/// The server that descriptions name by this word.
pub(crate) fn by_word(word: &str) -> Option<&'static Server> {
    ALL.into_iter().find(|server| server.service.word == word)
}

/// Whether clients of these servers need a notification.
fn are_signalled(calls: &[Service]) -> bool {
    calls.iter().filter_map(|service| server(*service)).any(|server| server.signals_clients)
}

impl System {
    /// Its servers, in the order of [`ALL`].
    pub(crate) fn servers(&self) -> impl Iterator<Item = &'static Server> {
        ALL.into_iter().filter(|server| (server.is_wanted)(self))
    }

    /// All processes in their start order. A server's clients are numbered in this order.
    pub fn parts(&self) -> Vec<Part> {
        let any = self.owners().any(|owner| owner.devices.any());
        let servers = self.servers().map(|server| server.part(self, any));
        let vmms = self.vms.iter().enumerate().map(|(n, vm)| vmm::part(n, vm, net::connects(self, Role::Vmm(n))));
        let components = self.components.iter().enumerate();
        let components = components.map(|(n, one)| component::part(n, one, net::connects(self, Role::Component(n))));
        let mut parts: Vec<Part> = servers.chain(vmms).chain(components).collect();
        for part in parts.iter_mut().filter(|part| !part.is_server()) {
            part.is_signalled = are_signalled(&part.calls)
                || channels::connects(self, part.role)
                || lifecycle::is_manager(self, part.role);
        }
        parts
    }

    /// Packages to build, each once.
    pub fn packages(&self) -> Vec<String> {
        let mut packages: Vec<String> = Vec::new();
        for part in self.parts() {
            let path =
                matches!(part.role, Role::Component(n) if self.components.get(n).is_some_and(|c| c.image_is_path()));
            if !path && !packages.contains(&part.program) {
                packages.push(part.program);
            }
        }
        packages
    }
}

#[cfg(test)]
mod tests {
    use layout::limits::{MAX_CLIENTS, MAX_GUESTS};

    use super::*;

    #[test]
    fn no_two_servers_have_a_name_or_a_slot_in_common() {
        for (n, server) in ALL.into_iter().enumerate() {
            let Service { word, server: name, slot } = server.service;
            assert!(layout::slot::SERVERS.contains(&slot.0), "{name}");
            for Service { word: other_word, server: other, slot: taken } in ALL[..n].iter().map(|other| other.service) {
                assert!(word != other_word && name != other && slot != taken, "{name} and {other}");
            }
        }
    }

    #[test]
    fn a_server_has_room_for_all_others() {
        assert!(ALL.len() - 1 + MAX_GUESTS <= MAX_CLIENTS);
    }

    #[test]
    fn servers_start_before_their_clients() {
        for (n, server) in ALL.into_iter().enumerate() {
            let files = server.files.map(|_| proto::file::SERVICE);
            for service in [(server.calls)(false), (server.calls)(true)].concat().into_iter().chain(files) {
                assert!(ALL[..n].iter().any(|before| before.service == service), "{:?}", server.service);
            }
        }
    }
}
