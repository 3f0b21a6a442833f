//! Flows that honest servers make: what each passes on is in the configuration that it finds at its start. A flow is only there
//! if the capabilities and mappings are that the server needs for it.

use layout::{Service, Slot, client_badge, config::Window, window};
use proto::{
    block::{self, Source},
    irq, net,
    pci::{self, Intx},
};
use serde::de::DeserializeOwned;

use super::{
    Class, Flow, Medium, Model,
    authority::{Held, rights},
};
use crate::{
    compile::{bundle::Bundle, error::CompileError},
    services::block::overlap,
    spec::{Fill, Id, Kind, Mapping, Process, Spec},
};

/// The configurations of the servers that connect their clients.
pub(crate) struct Configurations {
    pub pci: Option<pci::Config>,
    net: Option<net::Config>,
    block: Option<block::Config>,
    pub irq: Option<irq::Config>,
}

impl Configurations {
    pub fn of(bundle: &Bundle) -> Result<Self, CompileError> {
        Ok(Configurations {
            pci: configuration(bundle, pci::SERVICE)?,
            net: configuration(bundle, net::SERVICE)?,
            block: configuration(bundle, block::SERVICE)?,
            irq: configuration(bundle, irq::SERVICE)?,
        })
    }
}

fn server(spec: &Spec, service: Service) -> Option<&Process> {
    spec.processes.iter().find(|process| process.name == service.server)
}

/// The frames that a process has at an address.
fn frames_at(spec: &Spec, process: &Process, at: u64) -> Option<Id> {
    let mut mappings = spec.mappings.iter().filter(|mapping| mapping.space == process.vspace);
    mappings.find(|mapping| mapping.at == at).map(|mapping| mapping.frames)
}

/// The configuration of a server, as it reads it; `None` if the system does not have the server.
fn configuration<C: DeserializeOwned>(bundle: &Bundle, service: Service) -> Result<Option<C>, CompileError> {
    let spec = &bundle.spec;
    let Some(process) = server(spec, service) else { return Ok(None) };
    let unread = || CompileError::unwired("readable configuration", service.server);
    let frames = frames_at(spec, process, window::CONFIG).and_then(|frames| spec.kind(frames));
    let Some(&Kind::Frames { fill: Fill::Copy { offset, len, .. }, .. }) = frames else { return Err(unread()) };
    let range = offset.try_into().ok().zip(offset.saturating_add(len).try_into().ok());
    let page = range.and_then(|(first, end): (usize, usize)| bundle.bytes.get(first..end)).ok_or_else(unread)?;
    // The length of the rest comes first.
    let body = page.get(size_of::<u32>()..).ok_or_else(unread)?;
    Ok(Some(postcard::from_bytes(body).map_err(|_| unread())?))
}

impl Model<'_> {
    /// The flows that the servers make.
    pub(super) fn functions(&self, held: &[Held]) -> Vec<Flow> {
        let mut flows = self.networks();
        flows.extend(self.disks());
        flows.extend(self.lines(held));
        flows.retain(|flow| flow.from != flow.to);
        flows.sort();
        flows.dedup();
        flows
    }

    pub(super) fn server(&self, service: Service) -> Option<(usize, &Process)> {
        self.spec.processes.iter().enumerate().find(|(_, process)| process.name == service.server)
    }

    /// Processes that write to a server's window, which it reads.
    fn writers(&self, server: &Process, window: Window) -> Vec<usize> {
        self.partners(server, window, |server, other| server.rights.read && other.rights.write)
    }

    /// Processes that read what the server writes to a window.
    fn readers(&self, server: &Process, window: Window) -> Vec<usize> {
        self.partners(server, window, |server, other| server.rights.write && other.rights.read)
    }

    fn partners(&self, server: &Process, window: Window, flows: fn(&Mapping, &Mapping) -> bool) -> Vec<usize> {
        let here = self.spec.mappings.iter().find(|one| one.space == server.vspace && one.at == window.at);
        let Some(here) = here else { return Vec::new() };
        let others = self.spec.mappings.iter().filter(|other| other.frames == here.frames && flows(here, other));
        let names = others.map(|other| self.spec.owner_of(other.space)).filter(|name| *name != server.name);
        names.filter_map(|name| self.spec.processes.iter().position(|process| process.name == name)).collect()
    }

    /// Processes that call a server under this number.
    pub(super) fn clients_of<'a>(
        &'a self,
        held: &'a [Held],
        service: Service,
        client: u64,
    ) -> impl Iterator<Item = usize> + 'a {
        let endpoint = self.spec.endpoint_of(service.server);
        let calls = move |held: &Held| {
            held.iter().any(|(object, set, badge)| {
                Some(*object) == endpoint && rights(*set).write && *badge == client_badge(client)
            })
        };
        held.iter().enumerate().filter(move |(_, held)| calls(held)).map(|(n, _)| n)
    }

    /// Drivers: of disks, and components at a network's switch, which are its uplinks.
    pub(super) fn drivers(&self) -> Vec<usize> {
        let mut drivers = Vec::new();
        if let (Some((_, process)), Some(block)) = (self.server(block::SERVICE), &self.configurations.block) {
            drivers.extend(block.disks.iter().flat_map(|disk| self.readers(process, disk.rings.requests)));
        }
        if let (Some((_, process)), Some(net)) = (self.server(net::SERVICE), &self.configurations.net) {
            let at_switch = net.ports.iter().flat_map(|port| self.writers(process, port.input));
            drivers.extend(at_switch.filter(|&n| self.subjects[n].class == Class::Component));
        }
        drivers
    }

    /// Everyone at a switch to everyone else there.
    fn networks(&self) -> Vec<Flow> {
        let Some((server, process)) = self.server(net::SERVICE) else { return Vec::new() };
        let Some(net) = &self.configurations.net else { return Vec::new() };
        let ports = net.ports.iter().map(|port| (Medium::Network, port.network, &port.name, port.input, port.output));
        let sockets =
            net.sockets.iter().map(|port| (Medium::Sockets, port.network, &port.name, port.input, port.output));
        let ends: Vec<_> = ports.chain(sockets).collect();
        let mut flows = Vec::new();
        for &(medium, network, name, input, _) in &ends {
            // The names of ports are those of their networks and of their clients.
            let what = name.split('.').next().unwrap_or_default();
            for &(.., output) in ends.iter().filter(|(other, number, ..)| (*other, *number) == (medium, network)) {
                for (from, to) in pairs(&self.writers(process, input), &self.readers(process, output)) {
                    flows.push(Flow { from, to, medium, what: what.into(), server: Some(server) });
                }
            }
        }
        flows
    }

    /// A disk's clients to its driver and back, and to each other if they have the same sectors and one may write there.
    fn disks(&self) -> Vec<Flow> {
        let Some((server, process)) = self.server(block::SERVICE) else { return Vec::new() };
        let Some(block) = &self.configurations.block else { return Vec::new() };
        let mut flows = Vec::new();
        for (n, one) in block.exports.iter().enumerate() {
            // Nobody writes a file: what clients write is their own.
            let Source::Disk(number) = one.source else { continue };
            let Some(disk) = block.disks.get(usize::from(number)) else { continue };
            let client = (self.writers(process, one.rings.requests), self.readers(process, one.rings.completions));
            let driver = (self.writers(process, disk.rings.completions), self.readers(process, disk.rings.requests));
            let flow =
                |(from, to)| Flow { from, to, medium: Medium::Disk, what: disk.name.to_string(), server: Some(server) };
            flows.extend(pairs(&client.0, &driver.1).into_iter().map(flow));
            flows.extend(pairs(&driver.0, &client.1).into_iter().map(flow));
            for (_, other) in block.exports.iter().enumerate().filter(|(other, _)| *other != n) {
                let same = other.source == one.source && overlap(one.part, other.part);
                if same && !one.read_only {
                    let readers = self.readers(process, other.rings.completions);
                    flows.extend(pairs(&client.0, &readers).into_iter().map(flow));
                }
            }
        }
        flows
    }

    /// Owners of one interrupt line: each is signalled when another's device interrupts, and can delay the line by not serving
    /// its own. pci-server finds out at boot where most PCI functions' lines arrive, so they may be one.
    fn lines(&self, held: &[Held]) -> Vec<Flow> {
        let Some((server, process)) = self.server(irq::SERVICE) else { return Vec::new() };
        let (Some(irq), Some(pci)) = (&self.configurations.irq, &self.configurations.pci) else { return Vec::new() };
        let mut flows = Vec::new();
        for one in &irq.lines {
            for other in &irq.lines {
                let what = match (one.route, other.route) {
                    _ if one.owner == other.owner || one.own.is_none() || other.own.is_none() => continue,
                    (Some(a), Some(b)) if (a.ioapic, a.pin) == (b.ioapic, b.pin) => {
                        format!("I/O APIC {} input {}", a.ioapic, a.pin)
                    }
                    (Some(_), Some(_)) => continue,
                    (Some(route), None) | (None, Some(route)) if !may_be_pci(route, pci.intx) => continue,
                    _ => "perhaps one: where each arrives is found at boot".to_string(),
                };
                let owners: Vec<usize> = self.clients_of(held, irq::SERVICE, one.owner).collect();
                for (from, to) in pairs(&owners, &self.signalled(process, other.signal)) {
                    flows.push(Flow {
                        from,
                        to,
                        medium: Medium::InterruptLine,
                        what: what.clone(),
                        server: Some(server),
                    });
                }
            }
        }
        flows
    }

    /// Who listens to the notification in a slot of a server's.
    pub(super) fn signalled(&self, server: &Process, slot: Slot) -> Vec<usize> {
        let mut caps = self.spec.caps.iter().filter(|cap| cap.cnode == server.cspace && cap.slot == slot.0.into());
        let Some(events) = caps.next().filter(|cap| cap.rights.write).map(|cap| cap.object) else { return Vec::new() };
        let listens = |process: &Process| {
            self.spec.caps.iter().any(|cap| cap.cnode == process.cspace && cap.object == events && cap.rights.read)
        };
        self.spec.processes.iter().enumerate().filter(|(_, process)| listens(process)).map(|(n, _)| n).collect()
    }
}

/// Whether INTA to INTD may arrive at the input that a description names: they are level triggered and active low, and on
/// some boards have inputs of their own.
fn may_be_pci(route: irq::Route, intx: Intx) -> bool {
    let inputs = match intx {
        Intx::Swizzle { base, .. } => (base..base.saturating_add(4)).contains(&route.pin),
        Intx::Q35 => (16..24).contains(&route.pin),
        Intx::Unknown => true,
    };
    route.level && route.active_low && inputs
}

fn pairs(from: &[usize], to: &[usize]) -> Vec<(usize, usize)> {
    from.iter().flat_map(|from| to.iter().map(|to| (*from, *to))).collect()
}
