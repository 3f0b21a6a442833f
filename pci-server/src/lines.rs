//! Interrupt routing of functions. An IDE controller in compatibility mode has the ISA interrupts 14 and 15 (PCI IDE
//! Controller Specification 1.0, section 2.0), edge-triggered. All others share INTA to INTD: level-triggered, active
//! low (PCI Local Bus Specification 3.0, section 2.2.6), where the chipset is wired to (`wiring`).

use heapless::Vec;
use layout::limits::MAX_FUNCTION_LINES;
use proto::irq::Route;
use proto::pci::{Dma, Function, PciFunction};

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

/// Says that nothing connects a function's pin, and what to do.
pub fn explain(wanted: &PciFunction, has_msix: bool) {
    let PciFunction { name, at, .. } = wanted;
    let why = match wanted.dma {
        Dma::No => "it may send no messages, since it is no bus master",
        _ if has_msix => "until its driver switches MSI-X on",
        _ => "it has no MSI",
    };
    log::error!(
        "`{name}` ({at}) cannot interrupt: {why}, and only this machine's firmware knows where its pin is wired"
    );
    log::error!("`{name}`: in Linux on this machine, booted with pci=nomsi, see /proc/interrupts for the IRQ that");
    log::error!("`{name}`: `lspci -vs {at}` shows; that of an IO-APIC is the `source` of an entry of `irqs`");
}
