//! Limits how long pci-server waits for devices on behalf of a client. While it waits, it serves no other client and
//! uses time slices of others. Each client therefore has a token bucket of waiting time: [`CAPACITY`], refilled at a
//! tenth of the real time. When it is empty, pci-server starts no wait for the client: it omits operations that need
//! one, and does the necessary ones without waiting. A wait that has begun is completed, since a device in the middle
//! of a reset would lose the configuration that is written to it.

use crate::hardware::{Clock, Millis, ticks_of, wait, wait_until};
use crate::refusals::is_logged;

/// The size of a client's bucket.
const CAPACITY: Millis = Millis(200);
/// The bucket gains a tick per so many ticks of real time.
const REFILL_PERIOD: u64 = 10;

/// One client's token bucket, in ticks.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaitBudget {
    /// Tokens taken and not refilled yet.
    spent: u64,
    /// Time of the last refill.
    refilled: u64,
    /// Waits that timed out.
    timeouts: u32,
}

impl WaitBudget {
    /// Refills the bucket; returns whether it is empty.
    pub fn is_empty(&mut self, clock: &mut impl Clock) -> bool {
        let now = clock.ticks();
        self.spent = self.spent.saturating_sub(now.saturating_sub(self.refilled) / REFILL_PERIOD);
        self.refilled = now;
        self.spent >= ticks_of(clock, CAPACITY)
    }

    /// Waits at least `time`.
    pub fn wait(&mut self, clock: &mut impl Clock, time: Millis) {
        self.charge(clock, |clock| wait(clock, ticks_of(clock, time)));
    }

    /// Polls `holds` with timeout `time`; returns whether it became true.
    pub fn wait_until<C: Clock>(&mut self, clock: &mut C, time: Millis, holds: impl FnMut(&mut C) -> bool) -> bool {
        self.charge(clock, |clock| wait_until(clock, ticks_of(clock, time), holds))
    }

    /// Counts a timeout; returns whether to log it.
    pub fn count_timeout(&mut self) -> bool {
        self.timeouts = self.timeouts.saturating_add(1);
        is_logged(self.timeouts)
    }

    fn charge<C: Clock, T>(&mut self, clock: &mut C, what: impl FnOnce(&mut C) -> T) -> T {
        // Time slices of other processes count too: the wall clock is all that this process can read.
        let start = clock.ticks();
        let done = what(clock);
        self.spent = self.spent.saturating_add(clock.ticks().saturating_sub(start));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock of 1 MHz that advances by one at each read.
    struct Time(u64);

    impl Clock for Time {
        fn ticks(&mut self) -> u64 {
            self.0 += 1;
            self.0
        }
        fn ticks_per_millisecond(&self) -> u64 {
            1000
        }
    }

    #[test]
    fn the_bucket_is_refilled_at_a_tenth_of_the_time() {
        let (mut time, mut budget) = (Time(5_000_000), WaitBudget::default());
        assert!(!budget.is_empty(&mut time));
        budget.wait(&mut time, Millis(199));
        assert!(!budget.is_empty(&mut time));
        assert!(!budget.wait_until(&mut time, Millis(100), |_| false));
        assert!(budget.is_empty(&mut time));
        time.0 += 1_000_000;
        assert!(!budget.is_empty(&mut time), "100 of 300 ms are refilled after a second");
    }

    #[test]
    fn a_device_that_became_ready_while_others_ran_does_not_time_out() {
        let (mut time, mut budget, mut polls) = (Time(0), WaitBudget::default(), 0);
        let ready = budget.wait_until(&mut time, Millis(5), |time| {
            time.0 += 10_000;
            polls += 1;
            polls == 2
        });
        assert!(ready, "the timeout had passed, but the device is polled once more");
    }

    #[test]
    fn a_device_that_answers_at_once_costs_nothing() {
        let (mut time, mut budget) = (Time(0), WaitBudget::default());
        for _ in 0..1000 {
            assert!(budget.wait_until(&mut time, Millis(100), |_| true));
        }
        assert!(!budget.is_empty(&mut time));
    }
}
