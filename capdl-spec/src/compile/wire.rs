//! Wiring: what all processes have alike, and the operations that `services` uses to let processes call, signal and
//! share memory with each other, by slots and addresses of `layout`. Lookups here decide authority, so a failed one is
//! an error, never a default.

use std::collections::BTreeMap;

use layout::{FAULT_BIT, Service, Slot, client_badge, config::Name, config::Window, slot};
use serde::Serialize;

use crate::{
    compile::{
        binaries::Binaries,
        builder::{Builder, Domain},
        error::CompileError,
        lines::{Line, lines},
        part::{Part, Role},
    },
    description::system::System,
    spec::{Id, Kind, Rights},
};

/// A system under construction, from parts to objects. A process's number is its position in `parts`.
pub(crate) struct Wiring<'a> {
    pub system: &'a System,
    pub parts: &'a [Part],
    pub binaries: &'a dyn Binaries,
    pub build: Builder,
    /// Windows for memory that a process shares with a server, by what is shared: the process's, and the server's.
    windows: BTreeMap<(usize, &'static str), (Window, Window)>,
}

/// A name as configurations have it.
pub(crate) fn name(text: &str) -> Result<Name, CompileError> {
    Name::try_from(text).map_err(|_| CompileError::TooLong(text.into()))
}

/// A configuration as its process finds it: length, then postcard.
pub(crate) fn encode(config: &impl Serialize) -> Result<Vec<u8>, CompileError> {
    let body = postcard::to_allocvec(config)?;
    let mut page = (body.len() as u32).to_le_bytes().to_vec();
    page.extend(body);
    Ok(page)
}

/// A list that `checks` keeps short enough.
pub(crate) fn bounded<T, const N: usize>(
    list: Vec<T>,
    what: &'static str,
) -> Result<heapless::Vec<T, N>, CompileError> {
    if list.len() > N { Err(CompileError::TooMany(what)) } else { Ok(list.into_iter().collect()) }
}

impl<'a> Wiring<'a> {
    /// The processes of these parts, without anything that connects them.
    pub fn new(system: &'a System, parts: &'a [Part], binaries: &'a dyn Binaries) -> Self {
        let mut build = Builder::default();
        for part in parts {
            build.process(part);
        }
        Self { system, parts, binaries, build, windows: BTreeMap::new() }
    }

    /// The number of a process.
    pub fn process(&self, role: Role) -> Result<usize, CompileError> {
        let number = self.parts.iter().position(|part| part.role == role);
        number.ok_or_else(|| CompileError::unwired("process", format!("{role:?}")))
    }

    /// The number of a server's process.
    pub fn server(&self, service: Service) -> Result<usize, CompileError> {
        self.process(Role::Server(service))
    }

    /// A process by its number.
    pub fn part(&self, process: usize) -> Result<&'a Part, CompileError> {
        self.parts.get(process).ok_or_else(|| CompileError::unwired("process", process.to_string()))
    }

    /// The objects of a process so far.
    pub fn domain(&self, process: usize) -> Result<&Domain, CompileError> {
        self.build.domains.get(process).ok_or_else(|| CompileError::unwired("process", process.to_string()))
    }

    /// Numbers of the processes that call a server; the position is the client's number there, hence its badge.
    pub fn clients(&self, service: Service) -> Vec<usize> {
        self.parts.iter().enumerate().filter(|(_, part)| part.calls(service)).map(|(n, _)| n).collect()
    }

    /// A server's clients in their order, with their names.
    pub fn named_clients(&self, service: Service) -> Result<Vec<(usize, Name)>, CompileError> {
        self.clients(service).into_iter().map(|process| Ok((process, name(&self.part(process)?.name)?))).collect()
    }

    /// The number of a process among a server's clients.
    pub fn client(&self, service: Service, process: usize) -> Result<usize, CompileError> {
        let number = self.clients(service).iter().position(|&n| n == process);
        let what = || format!("number at {}", service.server);
        match number {
            Some(number) => Ok(number),
            None => Err(CompileError::unwired(what(), &self.part(process)?.name)),
        }
    }

    /// All interrupt lines.
    pub fn lines(&self) -> Vec<Line> {
        lines(self.system, self.parts)
    }

    /// The line of a server's own device.
    pub fn line_of(&self, service: Service) -> Result<u8, CompileError> {
        let number = self.lines().iter().position(|line| line.owner == Role::Server(service));
        number.map(|number| number as u8).ok_or_else(|| CompileError::unwired("interrupt line", service.server))
    }

    /// root-task's endpoint. Each process may send notices to it under the badge of its number + 1; the kernel sends
    /// the thread's faults there too, under the same badge with `layout::FAULT_BIT`.
    pub fn supervisor(&mut self) {
        let endpoint = self.build.object("root-task.supervisor", Kind::Endpoint);
        self.build.spec.supervisor = endpoint;
        for (process, part) in self.parts.iter().enumerate() {
            let badge = process as u64 + 1;
            // A process that asks for device memory and ports waits for the reply.
            let rights = if part.asks_root_task { Rights::CALL } else { Rights::WRITE };
            self.build.cap(process, slot::SUPERVISOR, endpoint, rights, badge);
            self.build.cap(process, slot::FAULT, endpoint, Rights::CALL, badge | FAULT_BIT);
        }
    }

    /// A server's endpoint, and its clients' capabilities to it. A server that passes capabilities in its replies needs the
    /// grant right to do so.
    pub fn service(&mut self, service: Service, grants: bool) -> Result<(), CompileError> {
        let server = self.server(service)?;
        let endpoint = self.build.object(format!("{}.service", service.server), Kind::Endpoint);
        self.build.cap(server, slot::SERVICE, endpoint, Rights { grant: grants, ..Rights::READ }, 0);
        for (client, process) in self.clients(service).into_iter().enumerate() {
            self.build.cap(process, service.slot, endpoint, Rights::CALL, client_badge(client as u64));
        }
        Ok(())
    }

    /// Lets a server signal another process's notification, from the server's next slot for signals.
    pub fn signal(&mut self, server: usize, client: usize, event: u64) -> Result<Slot, CompileError> {
        let slot = self.build.next_signal(server);
        self.doorbell(server, slot, client, event)?;
        Ok(slot)
    }

    /// As `signal`, from a slot of its own.
    pub fn doorbell(&mut self, from: usize, slot: Slot, to: usize, event: u64) -> Result<(), CompileError> {
        let events = self.events(to)?;
        self.build.cap(from, slot, events, Rights::WRITE, event);
        Ok(())
    }

    /// A process's notification.
    pub fn events(&self, process: usize) -> Result<Id, CompileError> {
        let domain = self.domain(process)?;
        domain
            .threads
            .first()
            .and_then(|thread| thread.events)
            .ok_or_else(|| CompileError::unwired("notification", &domain.name))
    }

    /// Memory that a client shares with a server, in the next window of each; asking again gives the same. Returns the
    /// server's window; [`Wiring::window`] finds the client's.
    pub fn share(&mut self, what: &'static str, client: usize, server: usize, len: u64) -> Window {
        if let Some((_, there)) = self.windows.get(&(client, what)) {
            return *there;
        }
        let (here, there) = (self.build.window(client, len), self.build.window(server, len));
        self.build.share(what, (client, here), (server, there));
        self.windows.insert((client, what), (here, there));
        there
    }

    /// A process's window for what it shares with a server.
    pub fn window(&self, process: usize, what: &'static str) -> Result<Window, CompileError> {
        match self.windows.get(&(process, what)) {
            Some((here, _)) => Ok(*here),
            None => Err(CompileError::unwired(format!("window `{what}`"), &self.part(process)?.name)),
        }
    }
}
