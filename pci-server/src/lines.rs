//! Interrupt routing of functions. An IDE controller in compatibility mode has the ISA interrupts 14 and 15 (PCI IDE
//! Controller Specification 1.0, section 2.0), edge-triggered. All others share INTA to INTD: level-triggered, active
//! low (PCI Local Bus Specification 3.0, section 2.2.6), where the chipset is wired to (`wiring`).

use heapless::Vec;
use layout::limits::MAX_FUNCTION_LINES;
use proto::irq::{self, Route};
use proto::pci::{Dma, Function, PciFunction};

use crate::capabilities::{MSI, MSI_X};
use crate::hardware::Machine;
use crate::msi::Msi;
use crate::msix::{Msix, Table};
use crate::resources::MemoryRange;
use crate::wiring::Wiring;

/// An interrupt of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The input of the I/O APIC; `None` if only the description can have it.
    pub route: Option<Route>,
    /// The ISA interrupt that drivers expect.
    pub isa: Option<u8>,
}

/// The interrupts of `function`, one of the machine's `functions`.
pub fn arrivals(function: &Function, functions: &[Function], wiring: Wiring) -> Vec<Arrival, MAX_FUNCTION_LINES> {
    let mut all = Vec::new();
    let mut add = |arrival| {
        // Two channels, at most one of which uses INTx instead: the list never has more than two.
        let _ = all.push(arrival);
    };
    let compatible = match function.class {
        [0x01, 0x01, interface] => [interface & 1 << 0 == 0, interface & 1 << 2 == 0],
        _ => [false; 2],
    };
    for (_, isa) in compatible.into_iter().zip([14, 15]).filter(|(compatible, _)| *compatible) {
        let route = Route { ioapic: 0, pin: isa, level: false, active_low: false };
        add(Arrival { route: Some(route), isa: Some(isa) });
    }
    if compatible != [true; 2] && (1..=4).contains(&function.pin) {
        let route = |pin| Route { ioapic: 0, pin, level: true, active_low: true };
        add(Arrival { route: wiring.input(function, functions).map(route), isa: None });
    }
    all
}

/// The messages by which a function interrupts: if it has MSI, and may write to memory, which a message is; unless the description
/// has it keep its pin.
pub fn messages(machine: &mut impl Machine, wanted: &PciFunction, function: &Function) -> Option<Msi> {
    let line = *wanted.lines.first().filter(|_| wanted.dma != Dma::No)?;
    let found = Msi::find(machine, function)?;
    match machine.message(line, function.address) {
        Ok(message) => Some(Msi::new(found, message)),
        Err(irq::Error::RouteTaken) => None,
        Err(error) => {
            log::error!("`{}`: irq-server refuses line {line} for messages: {error:?}", wanted.name);
            None
        }
    }
}

/// The MSI-X of a function without MSI, and its line: that behind its pins', if the description has one.
pub fn table<'a>(
    machine: &mut impl Machine,
    memory: impl Fn(u8) -> Option<&'a MemoryRange>,
    wanted: &PciFunction,
    function: &Function,
    pins: usize,
) -> Option<(u8, Msix)> {
    let line = *wanted.lines.get(pins)?;
    let table = Table::find(machine, function)?;
    let range = memory(table.bar).filter(|range| range.table.is_some())?;
    let mapped = range.mapped? + table.offset;
    let message = machine.message(line, function.address).ok()?;
    Some((line, Msix::new(table, mapped, message)))
}

/// Says that nothing connects a function's pin, and what to do.
pub fn explain(wanted: &PciFunction, function: &Function, has_msix: bool) {
    let PciFunction { name, at, .. } = wanted;
    let has = |id| function.capabilities.iter().any(|capability| capability.id == id);
    let why = match wanted.dma {
        Dma::No => "it may send no messages, since it is no bus master",
        _ if has_msix => "until its driver switches MSI-X on",
        // irq-server or the description refused it, or it is not as the specification has it.
        _ if has(MSI) => "its MSI is not used",
        // Likewise, or the memory with its table is too large.
        _ if has(MSI_X) => "its MSI-X is not used",
        _ => "it has no MSI",
    };
    log::error!(
        "`{name}` ({at}) cannot interrupt: {why}, and only this machine's firmware knows where its pin is wired"
    );
    log::error!("`{name}`: in Linux on this machine, booted with pci=nomsi, see /proc/interrupts for the IRQ that");
    log::error!("`{name}`: `lspci -vs {at}` shows; that of an IO-APIC is the `source` of an entry of `irqs`");
}
