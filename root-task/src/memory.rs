//! Untyped memory and free slots. The kernel hands out an untyped from its start to its end and never takes back, so
//! this only remembers how much of each is used, and picks the smallest that still has room: the kernel clears an
//! untyped as a whole at its first use, and what is not touched is not cleared.

use alloc::vec::Vec;

/// An untyped of the boot information.
pub struct Untyped {
    /// Where its capability is.
    pub slot: u64,
    /// Physical address.
    pub paddr: u64,
    /// log2 of its size.
    pub bits: u8,
    /// Outside RAM.
    pub device: bool,
    /// Bytes handed out, from the start.
    pub used: u64,
}

impl Untyped {
    /// Bytes used before an object of `bits` can begin.
    fn aligned(&self, bits: u8) -> u64 {
        self.used.next_multiple_of(1 << bits)
    }

    /// How many objects of `bits` still fit.
    fn room(&self, bits: u8) -> u64 {
        (1u64 << self.bits).saturating_sub(self.aligned(bits)) >> bits
    }
}

/// All of the machine's memory that the kernel left.
pub struct Pool(Vec<Untyped>);

/// A part of an untyped for `count` objects.
pub struct Grant {
    /// The untyped to retype.
    pub untyped: u64,
    /// How many objects: at least one, at most as many as were asked for.
    pub count: u64,
}

impl Pool {
    /// A pool of these.
    pub fn new(untyped: impl Iterator<Item = Untyped>) -> Self {
        let mut all: Vec<_> = untyped.collect();
        all.sort_by_key(|untyped| (untyped.bits, untyped.paddr));
        Self(all)
    }

    /// Memory for up to `count` objects of 2^`bits` bytes in RAM, or `None` when there is none left for even one.
    pub fn take(&mut self, bits: u8, count: u64) -> Option<Grant> {
        let fits = |untyped: &&mut Untyped| !untyped.device && untyped.room(bits) > 0;
        let whole = self.0.iter().position(|untyped| !untyped.device && untyped.room(bits) >= count);
        let chosen = match whole {
            Some(index) => self.0.get_mut(index),
            None => self.0.iter_mut().rev().find(fits),
        }?;
        let count = count.min(chosen.room(bits));
        chosen.used = chosen.aligned(bits) + (count << bits);
        Some(Grant { untyped: chosen.slot, count })
    }

    /// The device untyped that covers `paddr`, which the caller retypes from where it stands.
    pub fn device(&mut self, paddr: u64) -> Option<&mut Untyped> {
        self.0.iter_mut().find(|untyped| {
            untyped.device && (untyped.paddr + untyped.used..untyped.paddr + (1 << untyped.bits)).contains(&paddr)
        })
    }

    /// Bytes of RAM not yet handed out.
    pub fn free(&self) -> u64 {
        self.0.iter().filter(|untyped| !untyped.device).map(|untyped| (1 << untyped.bits) - untyped.used).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(rows: &[(u64, u8)]) -> Pool {
        Pool::new(rows.iter().enumerate().map(|(n, &(paddr, bits))| Untyped {
            slot: n as u64,
            paddr,
            bits,
            device: false,
            used: 0,
        }))
    }

    #[test]
    fn the_smallest_untyped_with_room_is_taken() {
        let mut pool = pool(&[(0x10_0000, 20), (0x20_0000, 14)]);
        assert_eq!(pool.take(12, 2).unwrap().untyped, 1);
        assert_eq!(pool.take(12, 4).unwrap().untyped, 0);
        assert_eq!(pool.take(12, 2).unwrap().untyped, 1);
    }

    #[test]
    fn an_object_begins_at_a_multiple_of_its_size() {
        let mut pool = pool(&[(0, 14)]);
        pool.take(5, 1).unwrap();
        assert_eq!(pool.take(13, 1).unwrap().count, 1);
        assert!(pool.take(13, 1).is_none());
    }

    #[test]
    fn a_row_of_frames_may_come_in_pieces() {
        let mut pool = pool(&[(0, 14), (0x10_0000, 13)]);
        let grant = pool.take(12, 6).unwrap();
        assert_eq!((grant.untyped, grant.count), (0, 4));
        let grant = pool.take(12, 2).unwrap();
        assert_eq!((grant.untyped, grant.count), (1, 2));
        assert!(pool.take(12, 1).is_none());
    }
}
