//! How INTA to INTD of PCI are wired to the I/O APIC. On a real board only the firmware's ACPI tables say that, in their
//! own language (`_PRT` methods), so nothing here guesses: the description names the input (`source`), or the chipset is one
//! whose wiring is known. Bochs' is known by the description's board. QEMU's have a subsystem ID of their own, so an image for
//! any board finds its interrupts there (hw/isa/piix.c and hw/isa/lpc_ich9.c of QEMU).

use layout::Bdf;
use proto::pci::{Function, Header, Intx};

use crate::config_space::ConfigSpace;

/// Subsystem vendor and ID of QEMU's functions.
const QEMU: (u16, u16) = (0x1af4, 0x1100);
const INTEL: u16 = 0x8086;
/// Device IDs of the host bridges of the i440FX and the Q35.
const I440FX: u16 = 0x1237;
const Q35: u16 = 0x29c0;
const HOST_BRIDGE: Bdf = Bdf { bus: 0, device: 0, function: 0 };
/// The i440FX's bridge to ISA.
const PIIX3: Bdf = Bdf { bus: 0, device: 1, function: 0 };
/// The PIIX3's PIRQ route control registers (82371SB data sheet, section 2.2.9): input of the 8259, and "off".
const ROUTE_CONTROL: u8 = 0x60;
const ROUTE_OFF: u8 = 1 << 7;

/// What is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// As the description's board has it.
    Board(Intx),
    /// QEMU's PIIX3: by the PIRQ that a pin is wired to. Its I/O APIC has the 8259's inputs.
    Piix3([u8; 4]),
}

impl Wiring {
    /// The wiring of the machine with these `functions`, of which the description says that it is like `board`.
    pub fn find(space: &mut impl ConfigSpace, functions: &[Function], board: Intx) -> Self {
        let at = |wanted: Bdf| functions.iter().find(|function| function.address == wanted);
        match at(HOST_BRIDGE).filter(|host| (host.vendor, host.subsystem) == (INTEL, QEMU)).map(|host| host.device) {
            Some(Q35) => Self::Board(Intx::Q35),
            Some(I440FX) => match at(PIIX3) {
                Some(_) => Self::Piix3(space.read(PIIX3, ROUTE_CONTROL).to_le_bytes()),
                None => Self::Board(Intx::Unknown),
            },
            _ => Self::Board(board),
        }
    }

    /// The input of the I/O APIC that a function's pin is wired to; `None` if nothing says that.
    pub fn input(&self, function: &Function, functions: &[Function]) -> Option<u8> {
        let (device, pin) = at_the_root(function, functions)?;
        // 0 is INTA.
        let pin = pin.checked_sub(1)?;
        match *self {
            Self::Board(Intx::Swizzle { base, add }) => {
                let turn = (u32::from(device) + u32::from(pin) + 1 + u32::from(add)) % 4;
                base.checked_add(turn as u8)
            }
            // Devices 25 to 29 and 31 begin with PIRQA, 30 with PIRQE; the PIRQs of all others turn with the device.
            Self::Board(Intx::Q35) => Some(match device {
                25..=29 | 31 => 16 + pin % 4,
                30 => 20 + pin % 4,
                _ => 20 + (device + pin) % 4,
            }),
            Self::Board(Intx::Unknown) => None,
            Self::Piix3(routes) => {
                let route = routes[usize::from((device.wrapping_sub(1)).wrapping_add(pin) & 3)];
                (route & ROUTE_OFF == 0 && route != 0).then_some(route & 0xf)
            }
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
        pin = (pin.checked_sub(1)? + at.device) % 4 + 1;
        at = bridge.address;
    }
    None
}
