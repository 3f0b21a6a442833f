//! The interrupt lines of a system, each with its number at irq-server and at its owner.

use layout::{
    config::VmLine,
    event,
    limits::{MAX_FUNCTION_LINES, MAX_OWN_LINES},
};
use proto::irq::Route;

use crate::{
    compile::{
        part::{Part, Role},
        passthrough::{Function, owners},
    },
    description::{
        board::IoApicInput,
        devices::{DEFAULT_LIMIT, Interrupts, Irq, PciDevice},
        owners::Owner,
        system::System,
    },
};

/// Lines without a route that a function gets when its description names no interrupt: an IDE controller in
/// compatibility mode has two interrupts, and only pci-server can find out.
const UNROUTED: usize = MAX_FUNCTION_LINES;

/// An interrupt line of the system. Its number is its position in [`lines`].
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub name: String,
    /// The process that owns it.
    pub owner: Role,
    /// The I/O APIC input; `None` lets pci-server find it.
    pub route: Option<Route>,
    /// pci-server may make it that of a function's messages.
    pub messages: bool,
    /// The event that it raises.
    pub event: u64,
    pub limit: u16,
    /// Input of the guest's PIC.
    pub dest: Option<u8>,
    /// Its source: the entry of `irqs`, or the function.
    pub of: Of,
}

/// What a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// A server's own device.
    Server,
    /// An entry of the owner's `irqs`.
    Irq(usize),
    /// A function without such an entry.
    Function(usize),
}

/// All lines; the servers' own come first.
pub(crate) fn lines(system: &System, parts: &[Part]) -> Vec<Line> {
    let of_servers = parts.iter().filter_map(|part| Some((part.line?, part.role)));
    let mut lines: Vec<Line> = of_servers
        .map(|(device, owner)| Line {
            name: device.name.to_string(),
            owner,
            route: Some(route(device.line)),
            messages: false,
            event: event::INTERRUPT,
            limit: 0,
            dest: None,
            of: Of::Server,
        })
        .collect();
    for owner in owners(system) {
        let own = owner.devices.irqs.iter().enumerate().map(|(n, irq)| listed(owner, n, irq));
        let found = owner.devices.pci_devices.iter().enumerate().flat_map(|(n, device)| {
            let device = device.get_ref();
            let has_none = device.irq.is_some() || device.interrupts() == Some(Interrupts::None);
            let count = if has_none { 0 } else { UNROUTED };
            (0..count).map(move |number| unrouted(owner, n, device, number))
        });
        // Further lines have no event; `checks` refuses them.
        let event = |n| if n < MAX_OWN_LINES { event::line(n) } else { 0 };
        let numbered = own.chain(found).enumerate().map(|(n, line)| Line { event: event(n), ..line });
        lines.extend(numbered);
    }
    lines
}

/// How a server's own device interrupts.
fn route(input: IoApicInput) -> Route {
    Route { ioapic: input.ioapic, pin: input.pin, level: input.is_pci(), active_low: input.is_pci() }
}

fn listed(owner: Owner, index: usize, irq: &Irq) -> Line {
    let named = |device: &&PciDevice| device.irq.as_ref().is_some_and(|name| name.get_ref() == irq.name.get_ref());
    let users: Vec<&PciDevice> =
        owner.devices.pci_devices.iter().map(|device| device.get_ref()).filter(named).collect();
    Line {
        name: irq.name.get_ref().clone(),
        owner: owner.role,
        route: Some(irq.route()),
        // Pins of several functions may arrive there, but the messages of one alone.
        messages: matches!(users[..], [device] if owner.devices.may_send(device)),
        event: 0,
        limit: irq.limit,
        dest: irq.dest.as_ref().map(|dest| *dest.get_ref()),
        of: Of::Irq(index),
    }
}

fn unrouted(owner: Owner, index: usize, device: &PciDevice, number: usize) -> Line {
    let label = device.label();
    let name = if number == 0 { label } else { format!("{label}/{}", number + 1) };
    Line {
        name,
        owner: owner.role,
        route: None,
        messages: owner.devices.may_send(device),
        event: 0,
        limit: DEFAULT_LIMIT,
        dest: None,
        of: Of::Function(index),
    }
}

/// A process's lines as its configuration has them.
pub(crate) fn lines_of(system: &System, parts: &[Part], owner: Role) -> impl Iterator<Item = VmLine> {
    let own = (0..).zip(lines(system, parts)).filter(move |(_, line)| line.owner == owner);
    own.map(|(line, Line { dest, limit, route, .. })| {
        let level = route.is_none_or(|route| route.level);
        VmLine { line, dest, level, limit }
    })
}

impl Function<'_> {
    /// The numbers of its lines.
    pub fn lines(&self, all: &[Line]) -> Vec<u8> {
        let named = |index: usize| {
            let name = self.owner.devices.irqs.get(index).map(|irq| irq.name.get_ref());
            name.is_some() && name == self.device.irq.as_ref().map(|irq| irq.get_ref())
        };
        let of = |line: &Line| match line.of {
            Of::Irq(index) => named(index),
            Of::Function(index) => index == self.index,
            Of::Server => false,
        };
        let own = (0..).zip(all).filter(|(_, line)| line.owner == self.owner.role && of(line));
        own.map(|(number, _)| number).collect()
    }
}
