//! A bit set of lines: line n is bit n.

/// A set of lines 0 to 31.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineSet(u32);

impl LineSet {
    /// These lines.
    pub fn of(lines: impl IntoIterator<Item = u8>) -> Self {
        let mut set = Self::default();
        lines.into_iter().for_each(|line| set.insert(line));
        set
    }

    /// The set as it is sent in messages: bit n is line n.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether `line` is in it.
    pub fn contains(self, line: u8) -> bool {
        self.0 & bit(line) != 0
    }

    /// Whether no line is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many lines are in it.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Adds `line`.
    pub fn insert(&mut self, line: u8) {
        self.0 |= bit(line);
    }

    /// Removes `line`; returns whether it was in the set.
    pub fn remove(&mut self, line: u8) -> bool {
        let was_in = self.contains(line);
        self.0 &= !bit(line);
        was_in
    }

    /// The union with `other`.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The difference: the lines that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The lines, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..32).filter(move |&line| self.contains(line))
    }
}

/// The bit of a line; none for a number above 31, which is no line.
fn bit(line: u8) -> u32 {
    1u32.checked_shl(line.into()).unwrap_or(0)
}
