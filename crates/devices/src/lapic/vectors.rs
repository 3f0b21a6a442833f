//! A set of vectors: the interrupt request register, the in-service register, and messages on their way.

/// A set of the 256 vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vectors {
    low: u128,
    high: u128,
}

impl Vectors {
    /// No vector.
    pub const NONE: Self = Self { low: 0, high: 0 };

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.low | self.high == 0
    }

    /// The highest vector.
    #[inline]
    pub const fn highest(&self) -> Option<u8> {
        if self.high != 0 {
            Some(255 - self.high.leading_zeros() as u8)
        } else if self.low != 0 {
            Some(127 - self.low.leading_zeros() as u8)
        } else {
            None
        }
    }

    /// Adds a vector.
    pub const fn set(&mut self, vector: u8) {
        *self.half(vector) |= 1 << (vector % 128);
    }

    /// Adds all of `others`.
    pub const fn add(&mut self, others: Self) {
        (self.low, self.high) = (self.low | others.low, self.high | others.high);
    }

    /// Removes a vector.
    pub const fn clear(&mut self, vector: u8) {
        *self.half(vector) &= !(1 << (vector % 128));
    }

    /// Whether a vector is among them.
    pub const fn contains(&self, vector: u8) -> bool {
        let half = if vector < 128 { self.low } else { self.high };
        half & 1 << (vector % 128) != 0
    }

    /// The 32 vectors from `32 * n` on, `n` below 8.
    pub const fn word(&self, n: u8) -> u32 {
        let half = if n < 4 { self.low } else { self.high };
        (half >> (n % 4 * 32)) as u32
    }

    const fn half(&mut self, vector: u8) -> &mut u128 {
        if vector < 128 { &mut self.low } else { &mut self.high }
    }
}
