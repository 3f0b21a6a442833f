//! Counters of errors, and which occurrences are logged: a client that causes errors must not fill the log.

/// Occurrences that are all logged.
const FIRST: u32 = 8;

/// A counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally(u32);

/// Whether to log an occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Log it: it is one of the first eight, or makes the count a power of two.
    Log,
    /// Only count it.
    Suppress,
}

impl Tally {
    /// Counts an occurrence.
    pub const fn add(&mut self) -> Report {
        self.0 = self.0.saturating_add(1);
        if self.0 <= FIRST || self.0.is_power_of_two() { Report::Log } else { Report::Suppress }
    }

    /// The count; it saturates at `u32::MAX`.
    pub const fn count(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_million_occurrences_24_are_logged() {
        let mut tally = Tally::default();
        let lines = (0..1_000_000).filter(|_| tally.add() == Report::Log).count();
        assert_eq!((tally.count(), lines), (1_000_000, 24));
        let mut full = Tally(u32::MAX);
        assert_eq!(full.add(), Report::Suppress);
    }
}
