//! At which input of the I/O APIC the pins of a chipset's own functions arrive, on Intel's chipsets from the ICH9 to the 9 series:
//! each device has a register of four bits a pin, which say PIRQA to PIRQH ("Device Interrupt Route Register"), and these are the
//! inputs 16 to 23. Firmware chooses. The registers are in memory at the address that the LPC bridge says ("Root Complex Base
//! Address"). Later chipsets have them behind a bridge that firmware hides, where nothing looks for them.
//!
//! Intel's data sheets, chapter "Chipset Configuration Registers": ICH9 (316972), ICH10 (319973), 5 series (322169), 6 series
//! (324645), C600 and X79 (326514), 7 series (326776), 8 series (328904), 9 series (330550), and those of the processors with
//! such a chipset in their package (fourth and fifth generation Core, U and Y).

use layout::Bdf;

use crate::machine::Machine;
use crate::pci::Bus;

/// What the registers say: for each device four bits for each pin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wiring([Option<u16>; 32]);

/// Chipsets that have the registers of the same devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Generation {
    /// ICH9 and ICH10.
    Ich,
    /// Since the 5 series, with the management engine at device 22.
    Engine,
    /// Since the 7 series, with an xHCI controller at device 20.
    Xhci,
}

/// Device IDs of the chipsets' LPC bridges, first and last.
const CHIPSETS: [(u16, u16, Generation); 10] = [
    (0x2910, 0x2919, Generation::Ich),
    (0x3a10, 0x3a1f, Generation::Ich),
    (0x3b00, 0x3b1f, Generation::Engine),
    (0x1c40, 0x1c5f, Generation::Engine),
    (0x1d40, 0x1d41, Generation::Engine),
    (0x1e40, 0x1e5f, Generation::Xhci),
    (0x8c40, 0x8c5f, Generation::Xhci),
    (0x8cc0, 0x8cdf, Generation::Xhci),
    (0x9c40, 0x9c4f, Generation::Xhci),
    (0x9cc0, 0x9ccf, Generation::Xhci),
];
/// Devices, their registers' offsets, and since when. Device 30, the bridge to conventional PCI, has no interrupt and a register
/// that reads zero.
const ROUTES: [(usize, u64, Generation); 8] = [
    (31, 0x3140, Generation::Ich),
    (29, 0x3144, Generation::Ich),
    (28, 0x3146, Generation::Ich),
    (27, 0x3148, Generation::Ich),
    (26, 0x314c, Generation::Ich),
    (25, 0x3150, Generation::Ich),
    (22, 0x315c, Generation::Engine),
    (20, 0x3160, Generation::Xhci),
];
const LPC: Bdf = Bdf { bus: 0, device: 0x1f, function: 0 };
const INTEL: u16 = 0x8086;
/// The class of bridges to ISA, in the upper half of the register at 8.
const ISA_BRIDGE: u32 = 0x0601;
/// The LPC bridge's register with the address of the others; bit 0 switches them on.
const ROOT_COMPLEX: usize = 0xf0;
const ENABLED: u32 = 1;
const ROOT_COMPLEX_BYTES: u32 = 0x4000;
/// The first input of the I/O APIC for PCI.
const FIRST_INPUT: u8 = 16;

impl Wiring {
    /// Reads the registers, if the chipset is one that has them.
    pub fn read<M: Machine>(bus: &Bus<M>) -> Self {
        let mut wiring = Self::default();
        let (id, class, base) = (bus.read(LPC, 0), bus.read(LPC, 8) >> 16, bus.read(LPC, ROOT_COMPLEX));
        let (vendor, device) = (id as u16, (id >> 16) as u16);
        let known = CHIPSETS.iter().find(|(first, last, _)| (*first..=*last).contains(&device));
        let Some((.., chipset)) = known.filter(|_| vendor == INTEL && class == ISA_BRIDGE && base & ENABLED != 0)
        else {
            return wiring;
        };
        for (device, at, _) in ROUTES.iter().filter(|(.., since)| since <= chipset) {
            let word = bus.machine.read32(u64::from(base & !(ROOT_COMPLEX_BYTES - 1)) + (at & !3));
            // A bridge that has said where they are and does not answer there.
            if word != u32::MAX {
                wiring.0[*device] = Some((word >> (8 * (at & 3))) as u16);
            }
        }
        wiring
    }

    /// The input of the first I/O APIC at which a function's pin (1 is INTA) arrives, where the chipset says so.
    pub fn input(&self, at: Bdf, pin: u8) -> Option<u8> {
        let route = self.0.get(usize::from(at.device)).copied().flatten().filter(|_| at.bus == 0)?;
        let shift = 4 * u32::from(pin.checked_sub(1).filter(|pin| *pin < 4)?);
        Some(FIRST_INPUT + (route >> shift & 0b111) as u8)
    }
}

#[cfg(test)]
mod tests;
