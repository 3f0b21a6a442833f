//! The VMX-preemption timer (SDM volume 3, "VMX-Preemption Timer"): a count in the VMCS that goes down while the guest runs,
//! and ends its run at zero. Exits save what is left, so it stands still while the guest does, and has to be written only
//! when another moment is meant.
//!
//! It counts at the TSC's rate shifted right by IA32_VMX_MISC[4:0], which user space cannot read. So the shift is learnt:
//! the TSC goes on by at least 2^shift for each count. What is believed is never too small, so the timer never comes late,
//! only too early at first.

/// IA32_VMX_MISC[4:0] has five bits.
const MAX_SHIFT: u32 = 31;
/// With so many counts, the fraction of the first and the last do not matter to what is learnt.
const LEAST: u32 = 16;

/// The timer of a virtual CPU.
#[derive(Clone, Copy, Debug)]
pub struct Countdown {
    /// The timer counts at the TSC's rate shifted right by this or less.
    shift: u32,
    /// What was written last, and the TSC then.
    count: u32,
    since: u64,
    /// TSC at which that ends the guest's run, if nothing else does before. Zero when it has.
    until: u64,
    /// Ticks of the TSC that the guest runs at most.
    longest: u64,
    /// Ticks of the TSC that do not matter.
    tolerance: u64,
}

impl Countdown {
    /// The count to begin with, before anything is known.
    pub const FIRST: u32 = LEAST;

    /// A timer that ends the guest's run after `longest` ticks of the TSC, and to which a delay of `tolerance` is nothing.
    pub const fn new(longest: u64, tolerance: u64) -> Self {
        Self { shift: MAX_SHIFT, count: LEAST, since: 0, until: 0, longest, tolerance }
    }

    /// The same timer with the count that a start of the guest leaves in it.
    pub const fn restarted(self) -> Self {
        Self { until: 0, ..self }
    }

    /// Has the guest's run end when the TSC is `due`, or before. Returns the count to write, if the one that is running does
    /// not do. It does if it was written lately: since then, the guest may have stood still.
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

    /// Has the guest's run end at all. Returns the count to write, if none is running.
    pub fn bound(&mut self, tsc: u64) -> Option<u32> {
        if self.until == 0 { self.set(u64::MAX, tsc) } else { None }
    }

    /// The timer has ended the guest's run, at `tsc`. It does so again and again until it is set.
    pub fn expired(&mut self, tsc: u64) {
        let passed = tsc.saturating_sub(self.since);
        // Up to a count less may have passed than were written: an eighth more is enough for LEAST of them.
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

    /// Lets the timer expire after `count` counts of a processor with `shift`; `outside` ticks more are the VMM's and others'.
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
        /// The whole point of never believing too small a shift.
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
                // The least count is what a processor with such a shift can do.
                prop_assert!(at <= due.max(tsc + (u64::from(LEAST) << shift)), "{at} {due} {:?}", timer);
                tsc = at + outside;
                timer.expired(tsc);
                prop_assert!(timer.shift >= shift);
            }
        }
    }
}
