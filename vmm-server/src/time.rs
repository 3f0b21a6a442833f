//! Time for the device models: nanoseconds since the guest's power-on, computed from the TSC by a multiplication and a
//! shift.

use devices::Nanos;

/// Converts TSC values.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// TSC at power-on.
    start: u64,
    /// Nanoseconds per tick, times 2^[`FRACTION`].
    scale: u64,
    /// Ticks per nanosecond, times 2^[`TICK_FRACTION`], rounded up.
    ticks: u64,
}

const SECOND: u64 = 1_000_000_000;
/// Bits of fraction. The error is below a nanosecond in a year of ticks, and the product with any TSC fits 128 bits.
const FRACTION: u32 = 48;
/// The same for ticks per nanosecond, up to ten of them.
const TICK_FRACTION: u32 = 60;
/// The least rate that is accepted, slower than any TSC: a lower one is a measuring error.
const SLOWEST: u64 = 1_000_000;

impl Clock {
    /// A clock that starts at `tsc`, on a machine whose TSC counts `hertz` a second, at least a million.
    pub fn new(tsc: u64, hertz: u64) -> Self {
        let hertz = hertz.max(SLOWEST);
        let scale = ((u128::from(SECOND) << FRACTION) / u128::from(hertz)) as u64;
        let ticks = (u128::from(hertz) << TICK_FRACTION).div_ceil(SECOND.into());
        Self { start: tsc, scale, ticks: u64::try_from(ticks).unwrap_or(u64::MAX) }
    }

    /// Leaves out these ticks, in which the guest was paused.
    pub fn skip(&mut self, ticks: u64) {
        self.start = self.start.saturating_add(ticks);
    }

    /// The guest's time at `tsc`.
    pub fn at(&self, tsc: u64) -> Nanos {
        Nanos(((u128::from(tsc.saturating_sub(self.start)) * u128::from(self.scale)) >> FRACTION) as u64)
    }

    /// The first TSC value at which the guest's time is `time` or later.
    pub fn tsc(&self, time: Nanos) -> u64 {
        let ticks = (u128::from(time.0) * u128::from(self.ticks)) >> TICK_FRACTION;
        // Two more ticks make up for the rounding down, here and in `scale`: a deadline must have passed when its TSC
        // is reached.
        self.start.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX)).saturating_add(2)
    }
}

/// The present time, read only when asked for: reading the TSC costs a tenth of what an exit may cost, and most exits
/// do not need the time.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    clock: &'a Clock,
    tsc: fn() -> u64,
}

impl<'a> Present<'a> {
    /// The time of `clock`, whose TSC `tsc` reads.
    pub const fn new(clock: &'a Clock, tsc: fn() -> u64) -> Self {
        Self { clock, tsc }
    }

    /// The TSC.
    pub fn tsc(self) -> u64 {
        (self.tsc)()
    }
}

impl From<Present<'_>> for Nanos {
    fn from(present: Present<'_>) -> Nanos {
        present.clock.at(present.tsc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_ticks_is_a_second() {
        for hertz in [1_000_000, 50_000_000, 2_400_000_001, 5_000_000_000] {
            let clock = Clock::new(1000, hertz);
            let second = clock.at(1000 + hertz).0;
            assert!((SECOND - 2..=SECOND).contains(&second), "{hertz}: {second}");
        }
    }

    #[test]
    fn a_deadline_has_passed_when_its_tsc_is_reached() {
        let clock = Clock::new(7, 49_999_999);
        for time in [0, 1, 999, 4_000_000, 3_600 * SECOND] {
            let tsc = clock.tsc(Nanos(time));
            assert!(clock.at(tsc).0 >= time, "{time}");
            assert!(clock.at(tsc - 4).0 <= time.max(7), "{time}: not much before");
        }
    }

    #[test]
    fn a_pause_does_not_count() {
        let mut clock = Clock::new(1000, 1_000_000);
        let before = clock.at(3000);
        clock.skip(5_000_000);
        assert_eq!(clock.at(5_003_000), before);
        assert_eq!(clock.at(5_004_000).0 - before.0, SECOND / 1000);
    }

    #[test]
    fn time_before_power_on_is_zero() {
        assert_eq!(Clock::new(500, 1_000_000).at(3), Nanos::ZERO);
    }
}
