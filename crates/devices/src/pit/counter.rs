//! One counter of the 8254: its six modes as functions of time.
//!
//! Intel 8254 data sheet (231164), "Mode Definitions".  Time is in ticks, the falling CLK edges since the guest's
//! start.  A counter is not stepped: it keeps the tick at which it was loaded, and the count and OUT follow from that.
//! A count is loaded one tick after its write or trigger, and until then reads as the new count, not as the old.

use core::num::NonZeroU32;

/// The counting modes, named after the data sheet's sections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CountingMode {
    TerminalCount = 0,
    OneShot = 1,
    RateGenerator = 2,
    SquareWave = 3,
    SoftwareStrobe = 4,
    HardwareStrobe = 5,
}

impl CountingMode {
    /// The mode of a control word: bits 3 to 1, of which 6 and 7 mean 2 and 3.
    pub(super) const fn of(control: u8) -> Self {
        match control >> 1 & 7 {
            0 => Self::TerminalCount,
            1 => Self::OneShot,
            2 | 6 => Self::RateGenerator,
            3 | 7 => Self::SquareWave,
            4 => Self::SoftwareStrobe,
            _ => Self::HardwareStrobe,
        }
    }

    const fn periodic(self) -> bool {
        matches!(self, Self::RateGenerator | Self::SquareWave)
    }

    /// Whether counting begins with a rising edge of GATE rather than with the count.
    const fn triggered(self) -> bool {
        matches!(self, Self::OneShot | Self::HardwareStrobe)
    }
}

/// Where the counting element is in its sequence: `done` ticks after a load of `count`.
#[derive(Clone, Copy, Debug)]
struct Run {
    count: u32,
    /// Ticks counted before `since`.
    done: u64,
    /// The tick from which it counts; `None` while GATE holds it.
    since: Option<u64>,
    /// OUT until `since`, while the load is still to come.
    before: bool,
}

impl Run {
    fn elapsed(&self, tick: u64) -> u64 {
        self.done + self.since.map_or(0, |since| tick.saturating_sub(since))
    }

    fn loaded(&self, tick: u64) -> bool {
        self.since.is_none_or(|since| tick >= since)
    }
}

/// A count that is loaded at the end of the running period.
#[derive(Clone, Copy, Debug)]
struct Successor {
    at: u64,
    run: Run,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Counter {
    mode: CountingMode,
    bcd: bool,
    gate: bool,
    /// The count register, once written since the control word.
    count: Option<NonZeroU32>,
    run: Option<Run>,
    next: Option<Successor>,
    /// OUT while nothing runs.
    rest: bool,
}

impl Counter {
    /// A counter as the PC's power-on leaves it: nothing programmed, OUT high.
    pub(super) const fn new(gate: bool) -> Self {
        Self { mode: CountingMode::SquareWave, bcd: false, gate, count: None, run: None, next: None, rest: true }
    }

    /// A control word: OUT goes to the mode's rest level and waits for a count.
    pub(super) fn program(&mut self, mode: CountingMode, bcd: bool) {
        let rest = mode != CountingMode::TerminalCount;
        *self = Self { mode, bcd, count: None, run: None, next: None, rest, ..*self };
    }

    /// Whether OUT rises again and again by itself.
    pub(super) const fn is_periodic(&self) -> bool {
        self.mode.periodic()
    }

    /// Mode and code as in bits 3 to 0 of the control word.
    pub(super) const fn control(&self) -> u8 {
        (self.mode as u8) << 1 | self.bcd as u8
    }

    /// The number of counts before the counter repeats: what the count 0 stands for.
    const fn modulus(&self) -> u32 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    /// The first byte of two: in mode 0 it stops the counting, with OUT low.
    pub(super) fn first_byte(&mut self) {
        if self.mode == CountingMode::TerminalCount {
            self.run = None;
            self.rest = false;
        }
    }

    /// The whole count, as it stands in the count register.
    pub(super) fn load(&mut self, register: u16, tick: u64) {
        let modulus = self.modulus();
        let count = if self.bcd { from_bcd(register) } else { register.into() } % modulus;
        let count = if count == 0 { modulus } else { count };
        self.count = NonZeroU32::new(count);
        if self.mode.triggered() {
            return;
        }
        match self.run {
            Some(run) if self.mode.periodic() && self.gate && run.loaded(tick) => self.succeed(run, count, tick),
            _ => self.start(count, tick),
        }
    }

    /// Loads `count` at the next tick.
    fn start(&mut self, count: u32, tick: u64) {
        let before = self.mode != CountingMode::TerminalCount;
        self.next = None;
        self.run = Some(Run { count, done: 0, since: self.gate.then_some(tick + 1), before });
    }

    /// Lets `count` follow on `run`: at the end of the period (mode 2) or of the half period (mode 3).
    fn succeed(&mut self, run: Run, count: u32, tick: u64) {
        let period = u64::from(run.count);
        let high = high_half(run.count);
        let phase = run.elapsed(tick) % period;
        let falls = self.mode == CountingMode::SquareWave && phase < high;
        let at = tick + if falls { high - phase } else { period - phase };
        let done = if falls { high_half(count) } else { 0 };
        self.next = Some(Successor { at, run: Run { count, done, since: Some(at), before: true } });
    }

    /// Loads the waiting count if its time has come.
    pub(super) fn advance(&mut self, tick: u64) {
        if let Some(next) = self.next.filter(|next| tick >= next.at) {
            self.run = Some(next.run);
            self.next = None;
        }
    }

    /// The tick at which the waiting count is loaded, if there is one.
    pub(super) fn successor(&self) -> Option<u64> {
        self.next.map(|next| next.at)
    }

    /// Drives GATE: a level for modes 0 and 4, a trigger for 1 and 5, both for 2 and 3.
    pub(super) fn set_gate(&mut self, gate: bool, tick: u64) {
        if gate == core::mem::replace(&mut self.gate, gate) {
            return;
        }
        let Some(count) = self.count.map(NonZeroU32::get) else { return };
        if gate && (self.mode.triggered() || self.mode.periodic()) {
            let before = self.out(tick);
            self.run = Some(Run { count, done: 0, since: Some(tick + 1), before });
        } else if let Some(run) = self.run.as_mut().filter(|_| !self.mode.triggered()) {
            *run = Run { done: run.elapsed(tick), since: gate.then_some(tick), ..*run };
        }
        self.next = None;
    }

    /// Whether a count was loaded, so that time makes a difference.
    #[inline]
    pub(super) const fn runs(&self) -> bool {
        self.run.is_some()
    }

    /// The count as it can be read at `tick`, in the counter's code.
    #[inline(always)]
    pub(super) fn value(&self, tick: u64) -> u16 {
        let value = match self.run {
            None => self.count.map_or(0, NonZeroU32::get),
            Some(run) => self.count_of(&run, run.elapsed(tick)),
        };
        // The highest count reads as zero, in both codes.
        if self.bcd { to_bcd(value) } else { value as u16 }
    }

    fn count_of(&self, run: &Run, elapsed: u64) -> u32 {
        let period = u64::from(run.count);
        let left = match self.mode {
            CountingMode::RateGenerator => period - elapsed % period,
            CountingMode::SquareWave => {
                // Each half counts down by two from the count, less one if that is odd.
                let (phase, high) = (elapsed % period, high_half(run.count));
                let steps = if phase < high { phase } else { phase - high };
                u64::from(run.count & !1).saturating_sub(2 * steps)
            }
            _ => period + u64::from(self.modulus()) - elapsed % u64::from(self.modulus()),
        };
        left as u32
    }

    /// OUT at `tick`.
    pub(super) fn out(&self, tick: u64) -> bool {
        let Some(run) = self.run else {
            return self.rest;
        };
        if !run.loaded(tick) {
            return run.before;
        }
        let (elapsed, count) = (run.elapsed(tick), u64::from(run.count));
        match self.mode {
            CountingMode::TerminalCount | CountingMode::OneShot => elapsed >= count,
            // GATE low forces OUT high.  The count 1 is not allowed: here OUT stays high for it.
            CountingMode::RateGenerator => !self.gate || count < 2 || elapsed % count != count - 1,
            CountingMode::SquareWave => !self.gate || elapsed % count < high_half(run.count),
            CountingMode::SoftwareStrobe | CountingMode::HardwareStrobe => elapsed != count,
        }
    }

    /// Whether a count was written that is not in the counting element yet: bit 6 of the status byte.
    pub(super) fn null_count(&self, tick: u64) -> bool {
        self.next.is_some() || self.run.is_none_or(|run| !run.loaded(tick))
    }

    /// How often OUT rises after `from`, until and including `to`, of itself.
    pub(super) fn rises(&mut self, from: u64, to: u64) -> u64 {
        let Some(next) = self.next.filter(|next| next.at <= to) else {
            return self.rises_of_run(from, to);
        };
        let before = self.rises_of_run(from, next.at);
        self.advance(next.at);
        before + self.rises_of_run(from.max(next.at), to)
    }

    fn rises_of_run(&self, from: u64, to: u64) -> u64 {
        let Some(run) = self.run.filter(|run| run.since.is_some()) else {
            return 0;
        };
        let (from, to) = (run.elapsed(from), run.elapsed(to));
        match self.rise_of(&run) {
            Rise::Never => 0,
            Rise::Once(at) => u64::from(from < at && at <= to),
            Rise::Every(period) => to / period - from / period,
        }
    }

    /// The first tick after `tick` at which OUT rises of itself.
    pub(super) fn next_rise(&self, tick: u64) -> Option<u64> {
        let own = self.run.and_then(|run| self.next_rise_of(&run, tick));
        match self.next {
            Some(next) if own.is_none_or(|own| own > next.at) => self.next_rise_of(&next.run, next.at),
            _ => own,
        }
    }

    fn next_rise_of(&self, run: &Run, tick: u64) -> Option<u64> {
        let since = run.since?;
        let elapsed = run.elapsed(tick);
        let at = match self.rise_of(run) {
            Rise::Never => return None,
            Rise::Once(at) => (elapsed < at).then_some(at)?,
            Rise::Every(period) => (elapsed / period + 1) * period,
        };
        Some(since + (at - run.done))
    }

    fn rise_of(&self, run: &Run) -> Rise {
        let count = u64::from(run.count);
        match self.mode {
            CountingMode::TerminalCount | CountingMode::OneShot => Rise::Once(count),
            CountingMode::SoftwareStrobe | CountingMode::HardwareStrobe => Rise::Once(count + 1),
            CountingMode::RateGenerator | CountingMode::SquareWave if count < 2 => Rise::Never,
            CountingMode::RateGenerator | CountingMode::SquareWave => Rise::Every(count),
        }
    }
}

/// When OUT rises, in elapsed ticks.
enum Rise {
    Never,
    Once(u64),
    Every(u64),
}

/// The ticks for which a square wave of period `count` is high; the odd tick belongs to this half.
const fn high_half(count: u32) -> u64 {
    (count as u64).div_ceil(2)
}

fn from_bcd(register: u16) -> u32 {
    [1000, 100, 10, 1]
        .into_iter()
        .zip([12, 8, 4, 0])
        .map(|(weight, shift)| weight * u32::from(register >> shift & 0xf))
        .sum()
}

const fn to_bcd(value: u32) -> u16 {
    let digits = [value / 1000 % 10, value / 100 % 10, value / 10 % 10, value % 10];
    (digits[0] << 12 | digits[1] << 8 | digits[2] << 4 | digits[3]) as u16
}
