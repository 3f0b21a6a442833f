//! How long pci-server waits for devices. While it waits, it serves nobody else, and takes turns from others, so what clients ask
//! for may not add up: of its own time a client has [`SHARE`] at once, and a tenth of what passes comes back. When that
//! is used up, no wait begins in its name: what would need one is not done, and what must be done is done at once. A wait that
//! has begun goes on, since a device that was left half way would not keep what is written to it.

use crate::hardware::{Clock, Millis, ticks_of, wait, wait_until};
use crate::refusals::worth_a_line;

/// What a client may have pci-server wait at once.
const SHARE: Millis = Millis(200);
/// A client's part of all time is one of so many.
const PARTS: u64 = 10;

/// One client's account, in ticks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    spent: u64,
    /// When that was.
    at: u64,
    /// Waits that ended without what was waited for.
    in_vain: u32,
}

impl Patience {
    /// Whether there is none left.
    pub fn is_spent(&mut self, clock: &mut impl Clock) -> bool {
        let now = clock.ticks();
        self.spent = self.spent.saturating_sub(now.saturating_sub(self.at) / PARTS);
        self.at = now;
        self.spent >= ticks_of(clock, SHARE)
    }

    /// Waits that long.
    pub fn wait(&mut self, clock: &mut impl Clock, time: Millis) {
        self.charge(clock, |clock| wait(clock, ticks_of(clock, time)));
    }

    /// Waits until something holds, but no longer than that. Whether it did.
    pub fn wait_until<C: Clock>(&mut self, clock: &mut C, time: Millis, holds: impl FnMut(&mut C) -> bool) -> bool {
        self.charge(clock, |clock| wait_until(clock, ticks_of(clock, time), holds))
    }

    /// Counts a wait that was in vain; whether the log is to have a line of it.
    pub fn in_vain(&mut self) -> bool {
        self.in_vain = self.in_vain.saturating_add(1);
        worth_a_line(self.in_vain)
    }

    fn charge<C: Clock, T>(&mut self, clock: &mut C, what: impl FnOnce(&mut C) -> T) -> T {
        let start = clock.ticks();
        let done = what(clock);
        self.spent = self.spent.saturating_add(clock.ticks().saturating_sub(start));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A million ticks a second, one more at each look.
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
    fn what_was_waited_for_comes_back_tenfold_later() {
        let (mut time, mut patience) = (Time(5_000_000), Patience::default());
        assert!(!patience.is_spent(&mut time));
        patience.wait(&mut time, Millis(199));
        assert!(!patience.is_spent(&mut time));
        assert!(!patience.wait_until(&mut time, Millis(100), |_| false));
        assert!(patience.is_spent(&mut time));
        time.0 += 1_000_000;
        assert!(!patience.is_spent(&mut time), "100 of 300 ms are forgotten after a second");
    }

    #[test]
    fn a_device_that_was_ready_while_others_ran_is_not_given_up() {
        let (mut time, mut patience, mut looks) = (Time(0), Patience::default(), 0);
        let ready = patience.wait_until(&mut time, Millis(5), |time| {
            time.0 += 10_000;
            looks += 1;
            looks == 2
        });
        assert!(ready, "the time was over, but it was looked at once more");
    }

    #[test]
    fn a_device_that_answers_at_once_costs_nothing() {
        let (mut time, mut patience) = (Time(0), Patience::default());
        for _ in 0..1000 {
            assert!(patience.wait_until(&mut time, Millis(100), |_| true));
        }
        assert!(!patience.is_spent(&mut time));
    }
}
