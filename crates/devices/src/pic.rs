//! The PC's interrupt controllers: two 8259A, the second on input 2 of the first, and the edge/level register.
//!
//! Intel 8259A data sheet (231468); 82371SB (PIIX3, 290550) for the ELCR at 0x4d0.
//! The two INTA pulses are one call, so a request cannot be withdrawn between them: a spurious interrupt is always
//! input 7 of the first chip, never of the second. The cascade input is sampled as a level.

mod chip;
#[cfg(test)]
mod tests;

use crate::{Device, Nanos, Width, read_bytes, write_bytes};
use chip::{CASCADE, Chip, ICW1, SPURIOUS};

/// Inputs of each chip that the board wires as edge-triggered: timer, keyboard and cascade; RTC and FPU.
const ALWAYS_EDGE: [u8; 2] = [0b0000_0111, 0b0010_0001];

/// The interrupt controller pair.
///
/// [`Pic::new`] gives the state in which firmware leaves it: initialised, everything masked, vectors from 0.
#[derive(Clone, Debug)]
pub struct Pic {
    first: Chip,
    second: Chip,
    ended: u16,
    risen: u16,
}

impl Default for Pic {
    fn default() -> Self {
        Self::new()
    }
}

impl Pic {
    /// A pair with all inputs low and masked.
    pub const fn new() -> Self {
        Self { first: Chip::new(), second: Chip::new(), ended: 0, risen: 0 }
    }

    /// Drives interrupt line `irq` (0 to 15).  Line 2 is the cascade; it and anything above 15 is ignored.
    pub fn set_line(&mut self, irq: u8, level: bool) {
        match irq {
            CASCADE => {}
            0..8 => self.risen |= u16::from(self.first.set_line(irq, level)),
            8..16 => {
                self.risen |= u16::from(self.second.set_line(irq - 8, level)) << 8;
                self.cascade();
            }
            _ => {}
        }
    }

    /// The INTR output: a request is pending that is neither masked nor outranked.
    pub fn pending(&self) -> bool {
        self.first.request().is_some()
    }

    /// Whether INTR may be high: a request that is not masked is pending, outranked or not. Cheaper than
    /// [`pending`](Self::pending), and never false when that is true.
    #[inline(always)]
    pub const fn asks(&self) -> bool {
        self.first.irr() & !self.first.imr() != 0
    }

    /// The processor's interrupt acknowledge: returns the vector and puts the line into service.
    ///
    /// If the request is gone, it is the vector of line 7, and no service begins (8259A, "Interrupt Sequence").
    pub fn acknowledge(&mut self) -> u8 {
        let Some(level) = self.first.acknowledge() else {
            return self.first.vector(SPURIOUS);
        };
        if level != CASCADE {
            self.note_automatic_end(level);
            return self.first.vector(level);
        }
        let level = self.second.acknowledge().unwrap_or(SPURIOUS);
        self.cascade();
        self.note_automatic_end(level + 8);
        self.second.vector(level)
    }

    /// Whether line `irq` has a request that was not acknowledged yet (its IRR bit), masked or not.
    pub const fn requested(&self, irq: u8) -> bool {
        Self::bit(self.first.irr(), self.second.irr(), irq)
    }

    /// Whether the guest has masked line `irq`, itself or by the cascade.
    pub const fn masked(&self, irq: u8) -> bool {
        let cascade = if self.first.imr() & 1 << CASCADE != 0 { 0xff } else { 0 };
        Self::bit(self.first.imr(), self.second.imr() | cascade, irq)
    }

    /// Whether a write to port 0x20, or with `odd` to port 0x21, certainly leaves INTR low. INTR may be low even if the
    /// answer is no.
    pub const fn keeps_quiet(&self, odd: bool, value: u8) -> bool {
        self.first.keeps_quiet(odd, value)
    }

    /// Whether line `irq` is being served: acknowledged, its end of interrupt not yet written.
    pub const fn in_service(&self, irq: u8) -> bool {
        Self::bit(self.first.isr(), self.second.isr(), irq)
    }

    /// The lines, one bit each, whose service has ended since the last call: a passed-through line can be unmasked
    /// then.
    pub fn take_ended(&mut self) -> u16 {
        core::mem::take(&mut self.ended)
    }

    /// The levels of the lines, one bit each, for a controller that is wired to the same ones.
    pub const fn levels(&self) -> u16 {
        u16::from_le_bytes([self.first.lines(), self.second.lines()])
    }

    /// The lines that have risen since the last call, likewise.
    pub const fn take_risen(&mut self) -> u16 {
        core::mem::replace(&mut self.risen, 0)
    }

    /// Whether a line has risen since then.
    pub const fn has_risen(&self, irq: u8) -> bool {
        self.risen >> (irq % 16) & 1 != 0
    }

    /// What the mask registers, ports 0x21 and 0xa1, read without side effects. `None` for a chip in poll mode, whose
    /// next read acknowledges.
    #[inline]
    pub const fn masks(&self) -> [Option<u8>; 2] {
        [self.first.mask(), self.second.mask()]
    }

    /// The first chip's ports, 0x20 and 0x21.
    pub fn primary(&mut self) -> Ports<'_> {
        Ports { pic: self, bank: Bank::First }
    }

    /// The second chip's ports, 0xa0 and 0xa1.
    pub fn secondary(&mut self) -> Ports<'_> {
        Ports { pic: self, bank: Bank::Second }
    }

    /// The edge/level control registers, 0x4d0 and 0x4d1.
    pub fn elcr(&mut self) -> Ports<'_> {
        Ports { pic: self, bank: Bank::Elcr }
    }

    /// Sets input `irq` to level in the edge/level registers, as firmware does for PCI. Inputs that the board wires as edges
    /// stay that.
    pub fn set_level_triggered(&mut self, irq: u8) {
        let Some(bit) = 1u16.checked_shl(irq.into()) else { return };
        let [first, second] = bit.to_le_bytes();
        let mut elcr = self.elcr();
        for (offset, bit) in [(0, first), (1, second)] {
            let before = elcr.read_byte(offset);
            elcr.write_byte(offset, before | bit);
        }
    }

    const fn bit(first: u8, second: u8, irq: u8) -> bool {
        irq < 16 && (first as u16 | (second as u16) << 8) & 1 << irq != 0
    }

    /// In automatic EOI mode the service ends with the acknowledge.
    const fn note_automatic_end(&mut self, irq: u8) {
        if !self.in_service(irq) {
            self.ended |= 1 << irq;
        }
    }

    /// Carries the second chip's INT to the first chip's input 2.
    fn cascade(&mut self) {
        self.first.set_cascade(self.second.request().is_some());
    }
}

#[derive(Clone, Copy, Debug)]
enum Bank {
    First,
    Second,
    Elcr,
}

/// Two ports of the pair, as a device.
#[derive(Debug)]
pub struct Ports<'a> {
    pic: &'a mut Pic,
    bank: Bank,
}

impl Ports<'_> {
    fn read_byte(&mut self, offset: u16) -> u8 {
        match (self.bank, offset) {
            (Bank::First, 0 | 1) => self.pic.first.read(offset == 1),
            (Bank::Second, 0 | 1) => {
                let value = self.pic.second.read(offset == 1);
                // A poll acknowledges.
                self.pic.cascade();
                value
            }
            (Bank::Elcr, 0) => self.pic.first.elcr(),
            (Bank::Elcr, 1) => self.pic.second.elcr(),
            _ => 0xff,
        }
    }

    /// Writes one of the two.
    #[inline]
    pub fn write_byte(&mut self, offset: u16, value: u8) {
        let pic = &mut *self.pic;
        match (self.bank, offset) {
            (Bank::First, 0) => {
                pic.ended |= u16::from(pic.first.write_command(value));
                // An initialisation clears the second chip's INT at input 2; other commands to the first chip leave it
                // as it is.
                if value & ICW1 == 0 {
                    return;
                }
            }
            (Bank::First, 1) => return pic.first.write_data(value),
            (Bank::Second, 0) => pic.ended |= u16::from(pic.second.write_command(value)) << 8,
            (Bank::Second, 1) => pic.second.write_data(value),
            (Bank::Elcr, 0) => pic.first.set_elcr(value & !ALWAYS_EDGE[0]),
            (Bank::Elcr, 1) => pic.second.set_elcr(value & !ALWAYS_EDGE[1]),
            _ => {}
        }
        pic.cascade();
    }
}

impl Device for Ports<'_> {
    fn read(&mut self, offset: u16, width: Width, _now: Nanos) -> u32 {
        read_bytes(offset, width, |offset| self.read_byte(offset))
    }

    fn write(&mut self, offset: u16, width: Width, value: u32, _now: Nanos) {
        write_bytes(offset, width, value, |offset, value| self.write_byte(offset, value));
    }
}
