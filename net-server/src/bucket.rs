//! A token bucket: how many frames to groups a port may send.

/// Frames per second in the long run: ten times what address resolution and discovery need in a large network.
const RATE: u64 = 4_000;
/// Frames at once.
const BURST: u64 = 512;

/// The bucket. It counts in ticks of the TSC, so that it needs no remainder.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Ticks that a frame costs.
    price: u64,
    tokens: u64,
    filled: u64,
}

impl Bucket {
    /// A full bucket at time `now`, of a TSC with this rate.
    pub const fn new(hertz: u64, now: u64) -> Self {
        let price = hertz / RATE;
        Self { price, tokens: price * BURST, filled: now }
    }

    /// Takes a frame out, if there is one at time `now`.
    pub fn take(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(core::mem::replace(&mut self.filled, now));
        self.tokens = self.tokens.saturating_add(passed).min(self.price * BURST);
        let left = self.tokens.checked_sub(self.price);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_4000_a_second() {
        let hertz = 2_000_000_000;
        let mut bucket = Bucket::new(hertz, 7);
        let burst = (0..10_000).filter(|_| bucket.take(7)).count();
        assert_eq!(burst, 512);
        let second = (1..=1_000_000).filter(|n| bucket.take(7 + n * 2_000)).count();
        assert_eq!(second, 4_000);
        assert!(!bucket.take(0), "a clock that goes backwards fills nothing");
    }
}
