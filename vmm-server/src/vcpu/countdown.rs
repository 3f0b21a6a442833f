//! The VMX-preemption timer (SDM volume 3, "VMX-Preemption Timer"): a count in the VMCS that decreases while the guest
//! runs, and ends its run at zero. Exits save the remaining count, so the timer pauses while the guest does not run,
//! and the VMM writes the field only for a new deadline.
//!
//! It counts at the TSC's rate shifted right by IA32_VMX_MISC[4:0], which user space cannot read. So the VMM measures
//! the shift: for each count, the TSC advances by at least 2^shift. The assumed shift is never too small, so the timer
//! itself is never late, only early at first.

/// IA32_VMX_MISC[4:0] has five bits.
const MAX_SHIFT: u32 = 31;
/// The least count. With so many, the fractions of the first and the last count do not distort the measurement.
const LEAST: u32 = 16;

/// The timer of a virtual CPU.
#[derive(Clone, Copy, Debug)]
pub struct Countdown {
    /// The timer counts at the TSC's rate shifted right by this or less.
    shift: u32,
    /// The count that was written last, and the TSC at that time.
    count: u32,
    since: u64,
    /// TSC value at which this count expires if the guest runs all the time. Zero once it has expired.
    until: u64,
    /// The longest run of the guest, in ticks of the TSC.
    longest: u64,
    /// A delay that does not matter, in ticks of the TSC.
    tolerance: u64,
}

impl Countdown {
    /// The count to begin with, before the rate is known.
    pub const FIRST: u32 = LEAST;

    /// A timer that ends each run of the guest after `longest` ticks of the TSC at most, and that is not rewritten for
    /// a delay of `tolerance` ticks or less.
    pub const fn new(longest: u64, tolerance: u64) -> Self {
        Self { shift: MAX_SHIFT, count: LEAST, since: 0, until: 0, longest, tolerance }
    }

    /// The same timer with the count that a start of the guest leaves in it.
    pub const fn restarted(self) -> Self {
        Self { until: 0, ..self }
    }

    /// Has the guest's run end at the TSC value `due` or before. Returns the count to write, or `None` if the running
    /// count expires soon enough and was written within the last sixteenth of `longest`. An older count is not reused:
    /// it may have paused while the guest did not run.
    pub fn set(&mut self, due: u64, tsc: u64) -> Option<u32> {
        let due = due.min(tsc.saturating_add(self.longest));
        let lately = tsc.saturating_sub(self.since) <= self.longest / 16;
        let soon = self.until != 0 && self.until <= due.saturating_add(self.tolerance);
        if lately && soon {
            return None;
        }
        let count = due.saturating_sub(tsc) >> self.shift;
        self.count = u32::try_from(count).unwrap_or(u32::MAX).max(LEAST);
        self.since = tsc;
        self.until = tsc.saturating_add(u64::from(self.count) << self.shift);
        Some(self.count)
    }

    /// Bounds the guest's run. Returns the count to write if none is running.
    pub fn bound(&mut self, tsc: u64) -> Option<u32> {
        if self.until == 0 { self.set(u64::MAX, tsc) } else { None }
    }

    /// Notes that the timer has ended the guest's run, at `tsc`, and measures its rate. At zero it ends each run at
    /// once, until a new count is written.
    pub fn expired(&mut self, tsc: u64) {
        let passed = tsc.saturating_sub(self.since);
        // The timer may have counted one less than was written, as its first count may be a fraction. An eighth more
        // makes up for that with LEAST counts or more, so the shift is never assumed too small.
        let each = passed.saturating_add(passed / 8) / u64::from(self.count);
        self.shift = self.shift.min(each.max(1).ilog2());
        self.until = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONGEST: u64 = 625_000;
    const TOLERANCE: u64 = 1_000;

    /// TSC after `count` counts of a processor with `shift`, and `outside` ticks in which the VMM and others run.
    fn expiry(tsc: u64, count: u32, shift: u32, outside: u64) -> u64 {
        let counted = ((tsc >> shift) + u64::from(count)) << shift;
        counted + outside
    }

    #[test]
    fn the_rate_is_learnt_from_few_exits() {
        for (shift, outside) in [(0, 600), (5, 600), (5, 60_000), (7, 2_000)] {
            let mut timer = Countdown::new(37_500_000, TOLERANCE);
            let mut tsc = 123_456_789;
            for _ in 0..3 {
                let count = timer.set(u64::MAX, tsc).unwrap();
                tsc = expiry(tsc, count, shift, outside);
                timer.expired(tsc);
            }
            assert_eq!(timer.shift, shift, "with {outside} ticks outside");
        }
    }

    #[test]
    fn an_earlier_deadline_is_written_and_a_later_one_is_not() {
        let mut timer = learnt();
        assert_eq!(timer.set(200_000, 0), Some(200_000));
        assert_eq!(timer.set(300_000, 30_000), None, "it comes too early, and is set then");
        assert_eq!(timer.set(199_500, 30_000), None, "within the tolerance");
        assert_eq!(timer.set(100_000, 30_000), Some(70_000));
    }

    #[test]
    fn the_guest_runs_no_longer_than_the_longest() {
        assert_eq!(learnt().set(u64::MAX, 7), Some(LONGEST as u32));
    }

    #[test]
    fn a_count_that_may_have_stood_still_is_written_again() {
        let mut timer = learnt();
        timer.set(200_000, 0);
        assert_eq!(timer.set(250_000, 150_000), Some(100_000));
        assert_eq!(timer.bound(5_000_000), None, "it bounds all the same");
    }

    #[test]
    fn once_expired_it_is_written_even_for_the_same_deadline() {
        let mut timer = learnt();
        timer.set(200_000, 0);
        timer.expired(150_000);
        assert_eq!(timer.set(200_000, 150_000), Some(50_000));
    }

    /// A timer that knows its rate: that of the TSC.
    fn learnt() -> Countdown {
        Countdown { shift: 0, ..Countdown::new(LONGEST, TOLERANCE) }
    }

    proptest! {
        /// Holds because the assumed shift is never too small.
        #[test]
        fn the_timer_is_never_late_by_itself(
            shift in 0u32..=31,
            steps in prop::collection::vec((0u64..1 << 40, 0u64..100_000), 1..20),
        ) {
            let mut timer = Countdown::new(u64::MAX, 0);
            let mut tsc = 1 << 40;
            for (wait, outside) in steps {
                let due = tsc + wait;
                let count = timer.set(due, tsc).unwrap();
                let at = expiry(tsc, count, shift, 0);
                // A processor with such a shift cannot expire earlier than the least count allows.
                prop_assert!(at <= due.max(tsc + (u64::from(LEAST) << shift)), "{at} {due} {:?}", timer);
                tsc = at + outside;
                timer.expired(tsc);
                prop_assert!(timer.shift >= shift);
            }
        }
    }
}
