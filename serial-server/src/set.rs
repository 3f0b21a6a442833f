//! A set of sources, by position.

/// The set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set(u128);

impl Set {
    /// How many sources there may be.
    pub const MOST: usize = u128::BITS as usize;

    /// Of none.
    pub const NONE: Self = Self(0);

    /// Of one.
    pub const fn of(n: usize) -> Self {
        Self(1 << n)
    }

    /// Whether it has all of another, and that one is not empty.
    pub const fn contains(self, other: Self) -> bool {
        other.0 != 0 && self.0 & other.0 == other.0
    }

    /// Those of either.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are not in the other.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// How many.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The lowest position; that of the first source if there is none.
    pub const fn first(self) -> usize {
        if self.0 == 0 { 0 } else { self.0.trailing_zeros() as usize }
    }

    /// All, from the lowest position up.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let n = rest.trailing_zeros() as usize;
            (rest != 0).then(|| {
                rest &= rest - 1;
                n
            })
        })
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        positions.into_iter().fold(Self::NONE, |set, n| set.and(Self::of(n)))
    }
}
