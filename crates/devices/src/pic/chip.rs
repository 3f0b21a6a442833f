//! One 8259A: priority resolver, initialisation and operation command words.
//!
//! Intel 8259A data sheet (231468), sections "Initialization Command Words" and "Operation Command Words"; the bit
//! of the ELCR is that of the PIIX3 (290550), which takes the place of ICW1's level bit.
//! Left out: MCS-80 mode, buffered mode, and the contents of ICW3 (the PC's wiring is fixed).

/// The input that carries the other chip's request on the first chip.
pub(super) const CASCADE: u8 = 2;

/// ICW1: this command starts an initialisation.
pub(super) const ICW1: u8 = 1 << 4;
/// ICW1: the chip stands alone, no ICW3 follows.
const ICW1_SINGLE: u8 = 1 << 1;
/// ICW1: an ICW4 follows.
const ICW1_ICW4: u8 = 1 << 0;
/// ICW4: end of interrupt at the acknowledge.
const ICW4_AUTO_EOI: u8 = 1 << 1;
/// ICW4: special fully nested mode.
const ICW4_NESTED: u8 = 1 << 4;
/// OCW3 rather than OCW2.
const OCW3: u8 = 1 << 3;
const OCW3_READ_ISR: u8 = 1 << 0;
const OCW3_READ: u8 = 1 << 1;
const OCW3_POLL: u8 = 1 << 2;
const OCW3_MASK_MODE: u8 = 1 << 5;
const OCW3_SET_MASK_MODE: u8 = 1 << 6;
/// The level of a spurious interrupt: the request was gone when it was acknowledged.
pub(super) const SPURIOUS: u8 = 7;

/// What the next write to the odd port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    Icw2 { icw3: bool, icw4: bool },
    Icw3 { icw4: bool },
    Icw4,
    Mask,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Chip {
    /// Levels of the input pins.
    lines: u8,
    /// Edges seen and not yet acknowledged.
    edges: u8,
    /// Inputs that are level-triggered.
    elcr: u8,
    imr: u8,
    isr: u8,
    /// ICW2: the vector of input 0; its low three bits are zero.
    base: u8,
    expect: Expect,
    /// The input of lowest priority; the one after it has the highest.
    lowest: u8,
    auto_eoi: bool,
    rotate_on_auto_eoi: bool,
    nested: bool,
    special_mask: bool,
    read_isr: bool,
    poll: bool,
}

impl Chip {
    pub(super) const fn new() -> Self {
        Self {
            lines: 0,
            edges: 0,
            elcr: 0,
            imr: 0xff,
            isr: 0,
            base: 0,
            expect: Expect::Mask,
            lowest: 7,
            auto_eoi: false,
            rotate_on_auto_eoi: false,
            nested: false,
            special_mask: false,
            read_isr: false,
            poll: false,
        }
    }

    /// Drives an input pin. A falling edge withdraws a request that was not acknowledged. Returns the pin's bit if it rises.
    pub(super) fn set_line(&mut self, level: u8, high: bool) -> u8 {
        let bit = 1 << (level & 7);
        if !high {
            self.edges &= !bit;
            self.lines &= !bit;
            return 0;
        }
        let rises = bit & !self.lines;
        self.lines |= rises;
        self.edges |= rises & !self.elcr;
        rises
    }

    /// The levels of the input pins.
    pub(super) const fn lines(&self) -> u8 {
        self.lines
    }

    /// Drives the cascade input, which this model samples as a level.
    pub(super) fn set_cascade(&mut self, high: bool) {
        self.edges = self.edges & !(1 << CASCADE) | u8::from(high) << CASCADE;
    }

    pub(super) const fn irr(&self) -> u8 {
        (self.lines & self.elcr) | (self.edges & !self.elcr)
    }

    pub(super) const fn imr(&self) -> u8 {
        self.imr
    }

    pub(super) const fn isr(&self) -> u8 {
        self.isr
    }

    pub(super) const fn elcr(&self) -> u8 {
        self.elcr
    }

    pub(super) fn set_elcr(&mut self, elcr: u8) {
        self.elcr = elcr;
        self.edges &= !elcr;
    }

    pub(super) const fn vector(&self, level: u8) -> u8 {
        self.base | (level & 7)
    }

    /// How far `level` stands behind the highest priority.
    const fn rank(&self, level: u8) -> u8 {
        level.wrapping_sub(self.lowest).wrapping_sub(1) & 7
    }

    /// The level of highest priority among `bits`.
    fn first(&self, bits: u8) -> Option<u8> {
        let highest = self.lowest.wrapping_add(1) & 7;
        let rank = bits.rotate_right(highest.into()).trailing_zeros() as u8;
        (bits != 0).then_some(highest.wrapping_add(rank) & 7)
    }

    /// The level for which INT is high.
    pub(super) fn request(&self) -> Option<u8> {
        let level = self.first(self.irr() & !self.imr)?;
        let visible = if self.special_mask { self.isr & !self.imr } else { self.isr };
        match self.first(visible) {
            // A slave in service may be interrupted by itself: its own priorities decide.
            Some(CASCADE) if level == CASCADE && self.nested => Some(level),
            Some(served) if self.rank(served) <= self.rank(level) => None,
            _ => Some(level),
        }
    }

    /// The interrupt acknowledge: returns the level that goes into service, if a request is still pending.
    pub(super) fn acknowledge(&mut self) -> Option<u8> {
        let level = self.request()?;
        self.edges &= !(1 << level);
        if !self.auto_eoi {
            self.isr |= 1 << level;
        } else if self.rotate_on_auto_eoi {
            self.lowest = level;
        }
        Some(level)
    }

    /// Ends the service of `levels`, and says of which.
    fn end(&mut self, levels: u8) -> u8 {
        let ended = self.isr & levels;
        self.isr &= !levels;
        ended
    }

    /// The mask register as the odd port reads it, unless the next read is to acknowledge.
    #[inline]
    pub(super) const fn mask(&self) -> Option<u8> {
        if self.poll { None } else { Some(self.imr) }
    }

    /// Reads the even port (`odd` false) or the odd one.
    pub(super) fn read(&mut self, odd: bool) -> u8 {
        if core::mem::take(&mut self.poll) {
            return self.acknowledge().map_or(0, |level| 0x80 | level);
        }
        match (odd, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.irr(),
        }
    }

    /// Writes the even port; returns the levels whose service this ends.
    pub(super) fn write_command(&mut self, value: u8) -> u8 {
        if value & ICW1 != 0 {
            self.initialise(value);
            0
        } else if value & OCW3 != 0 {
            self.write_ocw3(value);
            0
        } else {
            self.write_ocw2(value)
        }
    }

    /// Whether a write certainly leaves INT low: it sets masks or ends a service, and no request passes the masks.
    pub(super) const fn keeps_quiet(&self, odd: bool, value: u8) -> bool {
        let masks = match (odd, self.expect) {
            (true, Expect::Mask) => value,
            (false, _) if value & (ICW1 | OCW3) == 0 => self.imr,
            _ => return false,
        };
        self.irr() & !masks == 0
    }

    /// Writes the odd port: the initialisation words in their order, then masks.
    pub(super) fn write_data(&mut self, value: u8) {
        self.expect = match self.expect {
            Expect::Icw2 { icw3, icw4 } => {
                self.base = value & 0xf8;
                match (icw3, icw4) {
                    (true, _) => Expect::Icw3 { icw4 },
                    (false, true) => Expect::Icw4,
                    (false, false) => Expect::Mask,
                }
            }
            Expect::Icw3 { icw4: true } => Expect::Icw4,
            Expect::Icw3 { icw4: false } => Expect::Mask,
            Expect::Icw4 => {
                self.auto_eoi = value & ICW4_AUTO_EOI != 0;
                self.nested = value & ICW4_NESTED != 0;
                Expect::Mask
            }
            Expect::Mask => {
                self.imr = value;
                Expect::Mask
            }
        };
    }

    /// ICW1: resets everything but the pins, their trigger modes and the vector.
    fn initialise(&mut self, icw1: u8) {
        *self = Self {
            lines: self.lines,
            elcr: self.elcr,
            base: self.base,
            imr: 0,
            expect: Expect::Icw2 { icw3: icw1 & ICW1_SINGLE == 0, icw4: icw1 & ICW1_ICW4 != 0 },
            ..Self::new()
        };
    }

    fn write_ocw2(&mut self, value: u8) -> u8 {
        let level = value & 7;
        let in_service = self.first(self.isr);
        match value >> 5 {
            0b000 => self.rotate_on_auto_eoi = false,
            0b100 => self.rotate_on_auto_eoi = true,
            0b001 => return in_service.map_or(0, |served| self.end(1 << served)),
            0b101 => {
                if let Some(served) = in_service {
                    self.lowest = served;
                    return self.end(1 << served);
                }
            }
            0b011 => return self.end(1 << level),
            0b110 => self.lowest = level,
            0b111 => {
                self.lowest = level;
                return self.end(1 << level);
            }
            _ => {} // 0b010: no operation
        }
        0
    }

    fn write_ocw3(&mut self, value: u8) {
        if value & OCW3_SET_MASK_MODE != 0 {
            self.special_mask = value & OCW3_MASK_MODE != 0;
        }
        if value & OCW3_READ != 0 {
            self.read_isr = value & OCW3_READ_ISR != 0;
        }
        self.poll = value & OCW3_POLL != 0;
    }
}
