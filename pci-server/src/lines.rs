//! Interrupt routing of functions. An IDE controller in compatibility mode has the ISA interrupts 14 and 15 (PCI IDE
//! Controller Specification 1.0, section 2.0), edge-triggered. All others share INTA to INTD: level-triggered, active
//! low (PCI Local Bus Specification 3.0, section 2.2.6), at the inputs that the board's description has.

use heapless::Vec;
use layout::limits::MAX_FUNCTION_LINES;
use proto::irq::Route;
use proto::pci::{Function, Header, Intx};

/// An interrupt of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The input of the I/O APIC; `None` if only the description can have it.
    pub route: Option<Route>,
    /// The ISA interrupt that drivers expect.
    pub isa: Option<u8>,
}

/// The interrupts of `function`, one of the machine's `functions`.
pub fn arrivals(function: &Function, functions: &[Function], intx: Intx) -> Vec<Arrival, MAX_FUNCTION_LINES> {
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
        add(Arrival { route: input(function, functions, intx).map(route), isa: None });
    }
    all
}

/// The input of the I/O APIC that a function's pin is wired to; `None` if unknown.
fn input(function: &Function, functions: &[Function], intx: Intx) -> Option<u8> {
    match intx {
        // 0 is the timer's input, and firmware writes 255 if the pin is not connected.
        Intx::FirmwareLine => (1..=23).contains(&function.line).then_some(function.line),
        Intx::Swizzle { base, add } => {
            let (device, pin) = at_the_root(function, functions)?;
            let turn = (u32::from(device) + u32::from(pin) + u32::from(add)) % 4;
            base.checked_add(turn as u8)
        }
    }
}

/// The device on bus 0, and its pin, to which a function's pin is wired: each bridge rotates the pins by the number of
/// the device behind it (PCI-to-PCI Bridge Architecture Specification 1.2, section 9.1).
fn at_the_root(function: &Function, functions: &[Function]) -> Option<(u8, u8)> {
    let (mut at, mut pin) = (function.address, function.pin);
    // There are at most 256 buses, so a longer path is a loop of wrongly numbered bridges.
    for _ in 0..=u8::MAX {
        if at.bus == 0 {
            return Some((at.device, pin));
        }
        let leads_here = |header| matches!(header, Header::Bridge { secondary, .. } if secondary == at.bus);
        let bridge = functions.iter().find(|function| leads_here(function.header))?;
        pin = (pin - 1 + at.device) % 4 + 1;
        at = bridge.address;
    }
    None
}
