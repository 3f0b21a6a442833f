//! Flows that capabilities and mappings allow, whatever the programs do with them.

use layout::mainboard;
use proto::pci::Dma;

use super::{
    Class, Flow, Medium, Model,
    authority::{Held, rights},
};
use crate::{
    description::board::PortRange,
    spec::{Fill, Id, Kind, Mapping},
};

impl Model<'_> {
    /// The flows between processes that hold these capabilities.
    pub(super) fn reach(&self, held: &[Held]) -> Vec<Flow> {
        let mut flows = self.memory();
        flows.extend(self.messages(held));
        flows.extend(self.stops());
        flows.extend(self.ports(held));
        flows.extend(self.control(held));
        flows.extend(self.all_memory(held));
        flows.extend(self.interrupt_messages(held));
        flows.extend(self.buses(held));
        flows.retain(|flow| flow.from != flow.to);
        flows.sort();
        flows.dedup();
        flows
    }

    /// The process whose VSpace, guest's EPT or device's I/O address space it is.
    fn mapper(&self, mapping: &Mapping) -> Option<usize> {
        let owner = self.spec.owner_of(mapping.space);
        self.spec.processes.iter().position(|process| process.name == owner)
    }

    /// Memory that one process, its guest or its device may write, and another's may read.
    fn memory(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        for writer in self.spec.mappings.iter().filter(|mapping| mapping.rights.write) {
            let Some(from) = self.mapper(writer) else { continue };
            let same = |reader: &&Mapping| self.is_same_memory(writer.frames, reader.frames) && reader.rights.read;
            for to in self.spec.mappings.iter().filter(same).filter_map(|reader| self.mapper(reader)) {
                flows.push(Flow { from, to, medium: Medium::Memory, what: self.what(writer.frames), server: None });
            }
        }
        flows
    }

    /// Whether two objects are, or contain, the same memory.
    fn is_same_memory(&self, one: Id, other: Id) -> bool {
        let place = |frames: Id| match self.spec.kind(frames)? {
            Kind::Frames { size, pages, fill: Fill::Ram { paddr } | Fill::Device { paddr } } => {
                Some((*paddr, paddr.saturating_add(u64::from(*pages) << size.bits())))
            }
            _ => None,
        };
        let overlap = |(a, b): (u64, u64), (c, d): (u64, u64)| a < d && c < b;
        one == other || place(one).zip(place(other)).is_some_and(|(one, other)| overlap(one, other))
    }

    /// An object's name without those of its owners.
    fn what(&self, object: Id) -> String {
        let name = self.spec.name(object);
        name.split_once('.').map_or(name, |(_, what)| what).to_string()
    }

    /// Endpoints and notifications.
    fn messages(&self, held: &[Held]) -> Vec<Flow> {
        let mut flows = Vec::new();
        for (from, senders) in held.iter().enumerate() {
            for (object, set, _) in senders.iter().filter(|(_, set, _)| rights(*set).write) {
                let kind = self.spec.kind(*object);
                if !matches!(kind, Some(Kind::Endpoint | Kind::Notification)) {
                    continue;
                }
                let listens = |to: &usize| held[*to].iter().any(|(other, set, _)| other == object && rights(*set).read);
                for to in (0..held.len()).filter(listens) {
                    let flow = |from, to, medium| Flow { from, to, medium, what: String::new(), server: None };
                    match kind {
                        Some(Kind::Notification) => flows.push(flow(from, to, Medium::Signal)),
                        _ => {
                            flows.push(flow(from, to, Medium::Call));
                            flows.extend(rights(*set).grant.then(|| flow(to, from, Medium::Reply)));
                        }
                    }
                }
            }
        }
        flows
    }

    /// root-task says when a process stops.
    fn stops(&self) -> Vec<Flow> {
        let processes = self.spec.processes.iter().enumerate();
        let told = processes.filter_map(|(from, process)| {
            let (events, _) = process.on_stop?;
            let to = self.spec.processes.iter().position(|other| other.events() == Some(events))?;
            Some(Flow { from, to, medium: Medium::Signal, what: String::new(), server: None })
        });
        told.collect()
    }

    /// Ranges of ports that a process holds.
    fn ports_of(&self, held: &Held) -> Vec<PortRange> {
        let ranges = held.iter().filter_map(|(object, ..)| match self.spec.kind(*object)? {
            Kind::IoPorts { first, last } => Some(PortRange { first: *first, last: *last }),
            _ => None,
        });
        ranges.collect()
    }

    /// Ports that two processes have.
    fn ports(&self, held: &[Held]) -> Vec<Flow> {
        let mut flows = Vec::new();
        for (from, one) in held.iter().enumerate() {
            for (to, other) in held.iter().enumerate() {
                let theirs = self.ports_of(other);
                for range in self.ports_of(one) {
                    let shared =
                        theirs.iter().filter(|other| other.overlaps(&range)).map(|other| other.overlap(&range));
                    flows.extend(shared.map(|ports| Flow {
                        from,
                        to,
                        medium: Medium::Ports,
                        what: ports.to_string(),
                        server: None,
                    }));
                }
            }
        }
        flows
    }

    /// Whoever holds a thread, a CNode or an address space of another process controls that.
    fn control(&self, held: &[Held]) -> Vec<Flow> {
        let mut flows = Vec::new();
        for (holder, caps) in held.iter().enumerate() {
            for (object, ..) in caps {
                let controls = matches!(
                    self.spec.kind(*object),
                    Some(Kind::CNode { .. } | Kind::Tcb | Kind::VSpace | Kind::Ept | Kind::Vcpu | Kind::IoSpace { .. })
                );
                let owner = self.spec.name(*object).split('.').next().unwrap_or_default();
                let owner = self.spec.processes.iter().position(|process| process.name == owner);
                if let Some(owner) = owner.filter(|_| controls) {
                    flows.extend(both(holder, owner, Medium::Control, self.spec.name(*object)));
                }
            }
        }
        flows
    }

    /// The process that calls pci-server under this number, of those that hold these capabilities.
    fn pci_clients<'a>(&'a self, held: &'a [Held], client: u8) -> impl Iterator<Item = usize> + 'a {
        self.clients_of(held, proto::pci::SERVICE, client.into())
    }

    /// Who reaches all memory: by a function that is bus master without an IOMMU, or by ports that program DMA.
    fn all_memory(&self, held: &[Held]) -> Vec<Flow> {
        let mut masters: Vec<(usize, String)> = Vec::new();
        if let Some(pci) = &self.configurations.pci {
            for function in pci.functions.iter().filter(|function| function.dma == Dma::Trusted) {
                masters
                    .extend(self.pci_clients(held, function.owner).map(|who| (who, format!("DMA of {}", function.at))));
            }
            for ports in pci.ports.iter().filter(|ports| ports.trusted) {
                let range = PortRange { first: ports.first, last: ports.last };
                masters.extend(self.pci_clients(held, ports.owner).map(|who| (who, format!("trusted ports {range}"))));
            }
        }
        for (who, caps) in held.iter().enumerate() {
            let reaching = self.ports_of(caps).into_iter().filter(|range| self.reaches_memory(*range));
            masters.extend(reaching.map(|range| (who, format!("ports {range}"))));
        }
        let all = 0..held.len();
        let flows = masters
            .iter()
            .flat_map(|(who, what)| all.clone().flat_map(move |other| both(*who, other, Medium::AllMemory, what)));
        flows.collect()
    }

    /// Functions behind an IOMMU that raise interrupts. It does not translate writes to 0xfee00000-0xfeefffff, which are
    /// messages with any vector (VT-d specification, section 3.14), and the kernel remaps none. Servers are left out: everyone
    /// calls them anyway.
    fn interrupt_messages(&self, held: &[Held]) -> Vec<Flow> {
        let (Some(pci), Some(irq)) = (&self.configurations.pci, &self.configurations.irq) else { return Vec::new() };
        let Some((_, server)) = self.server(proto::irq::SERVICE) else { return Vec::new() };
        let listeners = irq.lines.iter().flat_map(|line| self.signalled(server, line.signal));
        let listeners: Vec<usize> = listeners.filter(|&to| self.subjects[to].class != Class::Server).collect();
        let mut flows = Vec::new();
        for function in pci.functions.iter().filter(|function| function.dma == Dma::Domain) {
            let what = format!("DMA of {}", function.at);
            for from in self.pci_clients(held, function.owner) {
                flows.extend(listeners.iter().map(|&to| Flow {
                    from,
                    to,
                    medium: Medium::InterruptMessage,
                    what: what.clone(),
                    server: None,
                }));
            }
        }
        flows
    }

    /// Whether its holder can have a device read and write memory at will. By PCI configuration space it takes a machine
    /// without an IOMMU: with one, functions without an I/O address space reach nothing.
    fn reaches_memory(&self, range: PortRange) -> bool {
        let confined = self.spec.objects.iter().any(|object| matches!(object.kind, Kind::IoSpace { .. }));
        match mainboard::reaches_memory(range.first, range.last) {
            Some(mainboard::Reaches::ByItself) => true,
            Some(mainboard::Reaches::ByPci) => !confined,
            None => false,
        }
    }

    /// Functions of one device, and bus masters of one bus behind a bridge: what one sends to the other's registers passes no
    /// IOMMU (PCI Express 5.0, section 6.12, without its access control services).
    fn buses(&self, held: &[Held]) -> Vec<Flow> {
        let Some(pci) = &self.configurations.pci else { return Vec::new() };
        let mut flows = Vec::new();
        for (n, one) in pci.functions.iter().enumerate() {
            for other in pci.functions.iter().skip(n + 1) {
                let (a, b) = (one.at, other.at);
                let master = [one.dma, other.dma].iter().any(|dma| *dma != Dma::No);
                let device = a.bus == b.bus && a.device == b.device;
                // Which functions are a group shows on the board alone.
                let trusted = one.group_trusted || other.group_trusted;
                let shared = match device {
                    true => "one device",
                    false if a.bus == b.bus && a.bus != 0 && master => "one bus",
                    false if trusted => "what may be one group",
                    false => continue,
                };
                let what = format!("{a} and {b}, functions of {shared}");
                let others: Vec<usize> = self.pci_clients(held, other.owner).collect();
                for holder in self.pci_clients(held, one.owner) {
                    flows.extend(others.iter().flat_map(|other| both(holder, *other, Medium::PciBus, &what)));
                }
            }
        }
        flows
    }
}

/// A flow each way.
fn both(one: usize, other: usize, medium: Medium, what: &str) -> [Flow; 2] {
    [(one, other), (other, one)].map(|(from, to)| Flow { from, to, medium, what: what.into(), server: None })
}
