//! The local APIC's timer (SDM volume 3, "APIC Timer"): counts down once or periodically, at the crystal's rate divided, or
//! waits for a value of the TSC. Nothing counts here: the moment of the end is kept, and the count computed from it.

/// Ticks of the TSC to one of the crystal, as CPUID leaf 0x15 tells.
pub const RATIO: u64 = 2;

/// What ends the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The count reaches zero, once.
    OneShot,
    /// The count reaches zero, and begins anew.
    Periodic,
    /// The TSC reaches the deadline.
    Deadline,
    /// A reserved mode, in which nothing does.
    Reserved,
}

impl Mode {
    /// The mode by the timer's LVT entry.
    pub const fn of(lvt: u32) -> Self {
        match lvt >> 17 & 3 {
            0 => Self::OneShot,
            1 => Self::Periodic,
            2 => Self::Deadline,
            _ => Self::Reserved,
        }
    }

    const fn counts(self) -> bool {
        matches!(self, Self::OneShot | Self::Periodic)
    }
}

/// The timer.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    mode: Mode,
    initial: u32,
    /// The divide configuration register.
    divide: u8,
    /// TSC at which the wait ends.
    due: Option<u64>,
}

impl Timer {
    pub const fn new() -> Self {
        Self { mode: Mode::OneShot, initial: 0, divide: 0, due: None }
    }

    #[inline]
    pub const fn due(&self) -> Option<u64> {
        self.due
    }

    /// Whether the wait has ended at `tsc`. If so, the next one begins, if there is one.
    #[inline]
    pub const fn expires(&mut self, tsc: u64) -> bool {
        match self.due {
            Some(due) if due <= tsc => {
                self.due = self.next(due, tsc);
                true
            }
            _ => false,
        }
    }

    /// The end of the first period after `tsc`, where the one at `due` has ended.
    const fn next(&self, due: u64, tsc: u64) -> Option<u64> {
        let period = self.ticks(self.initial);
        match self.mode {
            Mode::Periodic if period != 0 => {
                let whole = tsc.saturating_sub(due) / period * period;
                Some(due.saturating_add(whole).saturating_add(period))
            }
            _ => None,
        }
    }

    /// A mode that counts and one that does not end each other's wait.
    pub fn set_mode(&mut self, mode: Mode) {
        if mode != self.mode && !(mode.counts() && self.mode.counts()) {
            self.due = None;
        }
        self.mode = mode;
    }

    /// The initial count.
    pub const fn initial(&self) -> u32 {
        self.initial
    }

    /// Sets the initial count, and counts down from there; zero stops the timer. Ignored while there are deadlines.
    pub const fn start(&mut self, initial: u32, tsc: u64) {
        if self.mode.counts() {
            self.initial = initial;
            self.due = if initial == 0 { None } else { Some(tsc.saturating_add(self.ticks(initial))) };
        }
    }

    /// The current count.
    pub fn count(&self, tsc: u64) -> u32 {
        let rest = self.due.filter(|_| self.mode.counts()).map_or(0, |due| due.saturating_sub(tsc));
        u32::try_from(rest.div_ceil(self.ticks(1))).unwrap_or(u32::MAX)
    }

    /// The divide configuration.
    pub const fn divide(&self) -> u8 {
        self.divide
    }

    /// Sets the divide configuration; what is left of the count goes on at the new rate.
    pub fn set_divide(&mut self, divide: u8, tsc: u64) {
        let rest = self.count(tsc);
        self.divide = divide & 0b1011;
        if self.mode.counts() && self.due.is_some() {
            self.due = Some(tsc.saturating_add(self.ticks(rest)));
        }
    }

    /// Whether it waits for deadlines.
    #[inline]
    pub fn has_deadlines(&self) -> bool {
        self.mode == Mode::Deadline
    }

    /// The deadline, or zero.
    pub const fn deadline(&self) -> u64 {
        match (self.mode, self.due) {
            (Mode::Deadline, Some(due)) => due,
            _ => 0,
        }
    }

    /// Sets the deadline; zero for none. Ignored in the other modes.
    #[inline]
    pub fn set_deadline(&mut self, deadline: u64) {
        if self.has_deadlines() {
            self.due = Some(deadline).filter(|&deadline| deadline != 0);
        }
    }

    /// Ticks of the TSC in so many counts.
    const fn ticks(&self, counts: u32) -> u64 {
        // Bits 3, 1 and 0: divide by 2, 4, 8 and so on to 128, and then by 1.
        let exponent = ((self.divide >> 1 & 0b100 | self.divide & 0b011) + 1) & 0b111;
        (counts as u64 * RATIO) << exponent
    }
}
