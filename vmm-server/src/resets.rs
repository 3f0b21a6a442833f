//! Limits a guest's resets by a token bucket. Without it, a guest that crashes at each start would be reset without
//! end, and root-task would never be notified. A guest that runs for a while between its resets regains its tokens.

use devices::Nanos;

/// The time in which the bucket gains a token.
const REFILL: Nanos = Nanos(60_000_000_000);

/// The token bucket.
#[derive(Clone, Copy, Debug)]
pub struct Resets {
    most: u16,
    left: u16,
    /// Since when the next token accumulates.
    since: Nanos,
}

impl Resets {
    /// `most` resets in a row, and one more each minute.
    pub const fn new(most: u16) -> Self {
        Self { most, left: most, since: Nanos::ZERO }
    }

    /// Takes a token at the time `now`. Returns how many resets in a row this makes, or `None` if the bucket is empty.
    pub fn take(&mut self, now: Nanos) -> Option<u16> {
        let earned = now.0.saturating_sub(self.since.0) / REFILL.0;
        if u64::from(self.most - self.left) <= earned {
            (self.left, self.since) = (self.most, now);
        } else {
            self.left += earned as u16;
            self.since.0 += earned * REFILL.0;
        }
        self.left = self.left.checked_sub(1)?;
        Some(self.most - self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn so_many_in_a_row_and_no_more() {
        let mut resets = Resets::new(3);
        assert_eq!([1, 2, 3, 4].map(|at| resets.take(Nanos(at))), [Some(1), Some(2), Some(3), None]);
        assert_eq!(Resets::new(0).take(Nanos(u64::MAX)), None);
    }

    #[test]
    fn a_minute_gives_one_back_and_a_long_run_all() {
        let mut resets = Resets::new(2);
        assert_eq!([0, 1].map(|at| resets.take(Nanos(at * SECOND))), [Some(1), Some(2)]);
        assert_eq!([61, 62, 119].map(|at| resets.take(Nanos(at * SECOND))), [Some(2), None, None]);
        assert_eq!([121, 1000].map(|at| resets.take(Nanos(at * SECOND))), [Some(2), Some(1)]);
    }

    #[test]
    fn a_guest_that_runs_for_a_minute_between_its_resets_goes_on_for_ever() {
        let mut resets = Resets::new(1);
        assert!((1..1000).all(|n| resets.take(Nanos(n * 60 * SECOND)).is_some()));
    }
}
