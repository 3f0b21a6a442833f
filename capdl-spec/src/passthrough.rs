//! What follows from a description's devices: the interrupt lines of the system, each with its number at irq-server and
//! at its owner; who has which function; and where in RAM memory lies that devices reach without an IOMMU.

use layout::{
    config::{Dma, Route, VmLine},
    event,
    limits::{MAX_FUNCTION_LINES, MAX_OWN_LINES},
};

use crate::{
    devices::{Access, DEFAULT_LIMIT, Irq, Owner, PciDevice},
    parts::Service,
    system::System,
};

/// Where the first memory lies that devices reach without an IOMMU: above the kernel and root-task with the bundle, which
/// `compile` checks.
pub const TRUSTED_RAM: u64 = 64 << 20;
/// Alignment of such memory: 32-bit kernels of Linux are moved by multiples of it (CONFIG_PHYSICAL_ALIGN at its largest).
pub const RAM_ALIGN: u64 = 16 << 20;
/// Bus address of a component's memory for devices behind an IOMMU.
pub const COMPONENT_BUS: u64 = 1 << 20;
/// Lines without a route that a function has when its description names no interrupt: an IDE controller in compatibility
/// mode has two, and only pci-server can tell.
const UNROUTED: usize = MAX_FUNCTION_LINES;

/// An interrupt line of the system. Its number is its position in [`lines`].
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub name: String,
    /// The process that has it.
    pub process: usize,
    /// Where it arrives; `None` leaves it to pci-server.
    pub route: Option<Route>,
    /// The event that it raises.
    pub event: u64,
    pub limit: u16,
    /// Input of the guest's PIC.
    pub dest: Option<u8>,
    /// For what: the entry of `irqs`, or the function.
    pub of: Of,
}

/// What a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// A device of a server's own.
    Server(Service),
    /// An entry of the owner's `irqs`.
    Irq(usize),
    /// A function without such an entry.
    Function(usize),
}

/// A function of a VM or component.
pub(crate) struct Function<'a> {
    pub process: usize,
    pub owner: Owner<'a>,
    /// Position in the owner's `pci_devices`.
    pub index: usize,
    pub device: &'a PciDevice,
}

/// The process of the owner at this position in [`System::owners`].
pub(crate) fn process(owner: usize) -> usize {
    Service::ALL.len() + owner
}

/// Owners that have devices, with their processes.
pub(crate) fn owners(system: &System) -> impl Iterator<Item = (usize, Owner<'_>)> {
    system.owners().enumerate().map(|(n, owner)| (process(n), owner)).filter(|(_, owner)| owner.devices.any())
}

/// All lines; the servers' own come first.
pub(crate) fn lines(system: &System) -> Vec<Line> {
    let board = system.board();
    let mut lines: Vec<Line> = [(board.pit, Service::Timer), (board.uart, Service::Serial)]
        .map(|(device, server)| Line {
            name: device.name.to_string(),
            process: server as usize,
            route: Some(Route { ioapic: device.line.ioapic, pin: device.line.pin, level: false, active_low: false }),
            event: event::INTERRUPT,
            limit: 0,
            dest: None,
            of: Of::Server(server),
        })
        .to_vec();
    for (process, owner) in owners(system) {
        let own = owner.devices.irqs.iter().enumerate().map(|(n, irq)| listed(process, n, irq));
        let found = owner.devices.pci_devices.iter().enumerate().flat_map(|(n, device)| {
            let device = device.get_ref();
            let count = if device.irq.is_some() { 0 } else { UNROUTED };
            (0..count).map(move |number| unrouted(process, n, device, number))
        });
        // Lines beyond have no event; `checks` refuses them.
        let event = |n| if n < MAX_OWN_LINES { event::line(n) } else { 0 };
        let numbered = own.chain(found).enumerate().map(|(n, line)| Line { event: event(n), ..line });
        lines.extend(numbered);
    }
    lines
}

fn listed(process: usize, index: usize, irq: &Irq) -> Line {
    Line {
        name: irq.name.get_ref().clone(),
        process,
        route: Some(irq.route()),
        event: 0,
        limit: irq.limit,
        dest: irq.dest.as_ref().map(|dest| *dest.get_ref()),
        of: Of::Irq(index),
    }
}

fn unrouted(process: usize, index: usize, device: &PciDevice, number: usize) -> Line {
    let label = device.label();
    let name = if number == 0 { label } else { format!("{label}/{}", number + 1) };
    Line { name, process, route: None, event: 0, limit: DEFAULT_LIMIT, dest: None, of: Of::Function(index) }
}

/// A process's lines as its configuration has them.
pub(crate) fn lines_of(system: &System, process: usize) -> impl Iterator<Item = VmLine> {
    let own = (0..).zip(lines(system)).filter(move |(_, line)| line.process == process);
    own.map(|(line, Line { dest, limit, .. })| VmLine { line, dest, limit })
}

/// All functions that have an owner.
pub(crate) fn functions(system: &System) -> impl Iterator<Item = Function<'_>> {
    owners(system).flat_map(|(process, owner)| {
        let devices = owner.devices.pci_devices.iter().enumerate();
        devices.map(move |(index, device)| Function { process, owner, index, device: device.get_ref() })
    })
}

impl Function<'_> {
    /// The domain of its I/O address space, if it has one: 1 for the first such function of the system. No two share one,
    /// since all of a domain have to share their page tables (VT-d specification 1.3, section 3.4.3).
    pub fn domain(&self, system: &System) -> Option<u16> {
        let mut confined = functions(system).filter(|function| function.owner.devices.confined());
        let first = confined.position(|one| (one.process, one.index) == (self.process, self.index));
        first.map(|n| n as u16 + 1)
    }

    /// The numbers of its lines.
    pub fn lines(&self, all: &[Line]) -> Vec<u8> {
        let named = |index: usize| {
            let name = self.owner.devices.irqs.get(index).map(|irq| irq.name.get_ref());
            name.is_some() && name == self.device.irq.as_ref().map(|irq| irq.get_ref())
        };
        let of = |line: &Line| match line.of {
            Of::Irq(index) => named(index),
            Of::Function(index) => index == self.index,
            Of::Server(_) => false,
        };
        let own = (0..).zip(all).filter(|(_, line)| line.process == self.process && of(line));
        own.map(|(number, _)| number).collect()
    }

    pub fn dma(&self) -> Dma {
        match (self.owner.devices.iospace, &self.device.dma) {
            (true, _) => Dma::Domain,
            (false, Some(_)) => Dma::Trusted,
            (false, None) => Dma::No,
        }
    }

    pub fn direct(&self) -> bool {
        self.device.access == Access::Direct
    }

    /// First and last port of the ranges that the description lists of it, if it lists any.
    pub fn ports(&self) -> Option<Vec<(u16, u16)>> {
        let ports: Vec<_> = self.owner.devices.ports_of(Some(self.index)).map(|ports| ports.range()).collect();
        (!ports.is_empty()).then_some(ports)
    }
}

impl Irq {
    /// Where it arrives.
    pub fn route(&self) -> Route {
        Route {
            ioapic: self.ioapic,
            pin: *self.source.get_ref(),
            level: self.level_trig.0,
            active_low: self.active_low.0,
        }
    }
}

/// Memory at a place of its own in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Position in [`System::owners`].
    pub owner: usize,
    pub paddr: u64,
    pub bytes: u64,
}

/// The memory of the owners whose devices reach it without an IOMMU, one behind the other.
pub(crate) fn placed(system: &System) -> Vec<Placed> {
    let mut next = TRUSTED_RAM;
    let mut placed = Vec::new();
    for (owner, Owner { devices, memory, .. }) in system.owners().enumerate() {
        let (true, Some(memory)) = (devices.trusted(), memory) else { continue };
        let bytes = memory.get_ref().0;
        placed.push(Placed { owner, paddr: next, bytes });
        next = next.saturating_add(bytes).checked_next_multiple_of(RAM_ALIGN).unwrap_or(u64::MAX);
    }
    placed
}

/// Where an owner's memory was placed.
pub(crate) fn placed_at(system: &System, owner: usize) -> Option<u64> {
    placed(system).into_iter().find(|placed| placed.owner == owner).map(|placed| placed.paddr)
}
