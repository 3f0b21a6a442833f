//! Counts of what should not happen, and how often to speak of it: whoever causes it must not fill the log.

/// How often each is worth a line at first.
const FIRST: u32 = 8;

/// A count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally(u32);

/// Whether an occurrence is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is one of the first eight, or makes the count a power of two.
    ALine,
    /// It is not.
    Silence,
}

impl Tally {
    /// Once more.
    pub fn add(&mut self) -> Worth {
        self.0 = self.0.saturating_add(1);
        if self.0 <= FIRST || self.0.is_power_of_two() { Worth::ALine } else { Worth::Silence }
    }

    /// How often it happened; `u32::MAX` is that often or more.
    pub fn count(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_occurrences_are_worth_a_screenful() {
        let mut tally = Tally::default();
        let lines = (0..1_000_000).filter(|_| tally.add() == Worth::ALine).count();
        assert_eq!((tally.count(), lines), (1_000_000, 24));
        let mut full = Tally(u32::MAX);
        assert_eq!(full.add(), Worth::Silence);
    }
}
