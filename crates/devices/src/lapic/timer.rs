//! The local APIC's timer (SDM volume 3, "APIC Timer"): counts down once or periodically, at the divided rate of the
//! crystal, or waits for a value of the TSC. The model does not count: it stores the TSC value of the expiry, and
//! computes the count from it.

/// Ticks of the TSC per tick of the crystal, as in CPUID leaf 0x15.
pub const RATIO: u64 = 2;

/// The timer mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerMode {
    /// The count reaches zero, once.
    OneShot,
    /// The count reaches zero, and reloads.
    Periodic,
    /// The TSC reaches the deadline.
    Deadline,
    /// A reserved mode, in which the timer never expires.
    Reserved,
}

impl TimerMode {
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
    mode: TimerMode,
    initial: u32,
    /// The divide configuration register.
    divide: u8,
    /// TSC value of the expiry.
    due: Option<u64>,
}

impl Timer {
    pub const fn new() -> Self {
        Self { mode: TimerMode::OneShot, initial: 0, divide: 0, due: None }
    }

    #[inline]
    pub const fn due(&self) -> Option<u64> {
        self.due
    }

    /// Whether the timer has expired at `tsc`. If so, a periodic one begins its next period.
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

    /// The end of the first period after `tsc`, given that one has ended at `due`. It skips periods that have passed
    /// meanwhile, without a drift.
    const fn next(&self, due: u64, tsc: u64) -> Option<u64> {
        let period = self.ticks(self.initial);
        match self.mode {
            TimerMode::Periodic if period != 0 => {
                let whole = tsc.saturating_sub(due) / period * period;
                Some(due.saturating_add(whole).saturating_add(period))
            }
            _ => None,
        }
    }

    /// Sets the mode. A change between a counting mode and one that does not count disarms the timer.
    pub fn set_mode(&mut self, mode: TimerMode) {
        if mode != self.mode && !(mode.counts() && self.mode.counts()) {
            self.due = None;
        }
        self.mode = mode;
    }

    /// The initial count.
    pub const fn initial(&self) -> u32 {
        self.initial
    }

    /// Sets the initial count and starts to count down; zero stops the timer. Ignored in TSC-deadline mode.
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

    /// Sets the divide configuration. The rest of the count continues at the new rate.
    pub fn set_divide(&mut self, divide: u8, tsc: u64) {
        let rest = self.count(tsc);
        self.divide = divide & 0b1011;
        if self.mode.counts() && self.due.is_some() {
            self.due = Some(tsc.saturating_add(self.ticks(rest)));
        }
    }

    /// Whether it is in TSC-deadline mode.
    #[inline]
    pub fn has_deadlines(&self) -> bool {
        self.mode == TimerMode::Deadline
    }

    /// The deadline, or zero.
    pub const fn deadline(&self) -> u64 {
        match (self.mode, self.due) {
            (TimerMode::Deadline, Some(due)) => due,
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
