//! Untyped memory and free slots. The kernel allocates from an untyped from its start to its end, and root-task never
//! frees, so this only remembers how much of each is used. It picks the smallest untyped that still has room, since the
//! kernel clears a whole untyped at its first use, and clearing takes time.
//!
//! Frames at a chosen physical address work the same way: the memory before them in their untyped first becomes smaller
//! untypeds, which join the pool.

use alloc::vec::Vec;
use core::ops::Range;

/// An untyped: of the boot information, or a piece of one.
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

    /// Physical addresses not handed out.
    fn free(&self) -> Range<u64> {
        self.paddr + self.used..self.paddr + (1 << self.bits)
    }
}

/// All of the machine's memory that the kernel left.
pub struct Pool(Vec<Untyped>);

/// Most untypeds of a pool. Cutting one frame out of the middle of an untyped leaves one piece per power of two, and a
/// process may ask for frames anywhere in its windows. The limit keeps the pool within root-task's heap of 1 MiB.
const MOST: usize = 4096;

/// A part of an untyped for `count` objects.
pub struct Grant {
    /// The untyped to retype.
    pub untyped: u64,
    /// How many objects: at least one, at most as many as were asked for.
    pub count: u64,
}

/// The next step towards frames at a chosen address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Retype `untyped` into one untyped of 2^`bits` bytes, which is the start of what it has left, at `paddr`; and
    /// [`Pool::add`] that.
    Split {
        /// The untyped to retype.
        untyped: u64,
        /// Where the piece begins.
        paddr: u64,
        /// log2 of its size.
        bits: u8,
    },
    /// Retype `untyped` into `count` of the frames.
    Take {
        /// The untyped to retype.
        untyped: u64,
        /// How many: at least one, at most as many as were asked for.
        count: u64,
    },
}

/// What the machine has at a range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// RAM, not handed out.
    Ram,
    /// Addresses outside RAM, not handed out.
    Device,
    /// Memory of the kernel and of root-task's image, and memory that was handed out.
    Taken,
}

impl Pool {
    /// A pool of these.
    pub fn new(untyped: impl Iterator<Item = Untyped>) -> Self {
        let mut all: Vec<_> = untyped.collect();
        all.sort_by_key(Self::order);
        Self(all)
    }

    fn order(untyped: &Untyped) -> (u8, u64) {
        (untyped.bits, untyped.paddr)
    }

    /// Adds an untyped.
    pub fn add(&mut self, untyped: Untyped) {
        let place = self.0.partition_point(|other| Self::order(other) < Self::order(&untyped));
        self.0.insert(place, untyped);
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

    /// The next step towards up to `count` frames of 2^`bits` bytes at `paddr`, a multiple of their size. `None` when no
    /// untyped has a whole frame there, or there are too many pieces.
    pub fn step(&mut self, paddr: u64, bits: u8, count: u64) -> Option<Step> {
        let is_full = self.0.len() >= MOST;
        let untyped = self.0.iter_mut().find(|untyped| untyped.free().contains(&paddr))?;
        let Range { start, end } = untyped.free();
        if (end - paddr) >> bits == 0 || is_full && start < paddr {
            return None;
        }
        let gap = paddr - start;
        if gap == 0 {
            let count = count.min(untyped.room(bits));
            untyped.used += count << bits;
            return Some(Step::Take { untyped: untyped.slot, count });
        }
        // The largest piece that is aligned where it begins and ends before the frame.
        let bits = start.trailing_zeros().min(gap.ilog2()) as u8;
        untyped.used += 1 << bits;
        Some(Step::Split { untyped: untyped.slot, paddr: start, bits })
    }

    /// What the machine has at `range`, from its start to its end.
    pub fn contents(&self, range: Range<u64>) -> Vec<(Range<u64>, What)> {
        let mut parts = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let here = self.0.iter().find(|untyped| untyped.free().contains(&at));
            let (end, what) = match here {
                Some(untyped) => (untyped.free().end, if untyped.device { What::Device } else { What::Ram }),
                None => {
                    let behind = self.0.iter().map(Untyped::free).filter(|free| !free.is_empty() && free.start > at);
                    (behind.map(|free| free.start).min().unwrap_or(u64::MAX), What::Taken)
                }
            };
            let part = at..end.min(range.end);
            at = part.end;
            match parts.last_mut() {
                Some((Range { end, .. }, last)) if *last == what => *end = part.end,
                _ => parts.push((part, what)),
            }
        }
        parts
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

    /// Does what the pool asks for, as the kernel would; returns the addresses of the frames.
    fn frames_at(pool: &mut Pool, paddr: u64, bits: u8, count: u64) -> Option<Vec<u64>> {
        let mut frames = Vec::new();
        let mut next_slot = 100;
        while (frames.len() as u64) < count {
            let at = paddr + ((frames.len() as u64) << bits);
            match pool.step(at, bits, count - frames.len() as u64)? {
                Step::Split { paddr, bits, .. } => {
                    assert_eq!(paddr % (1 << bits), 0, "the kernel would leave a gap");
                    pool.add(Untyped { slot: next_slot, paddr, bits, device: false, used: 0 });
                    next_slot += 1;
                }
                Step::Take { count, .. } => frames.extend((0..count).map(|n| at + (n << bits))),
            }
        }
        Some(frames)
    }

    #[test]
    fn frames_are_had_at_an_address_in_the_middle() {
        let mut pool = pool(&[(0x10_0000, 20)]);
        assert_eq!(frames_at(&mut pool, 0x18_3000, 12, 2).unwrap(), [0x18_3000, 0x18_4000]);
        assert_eq!(pool.free(), 0x10_0000 - 0x2000);
    }

    #[test]
    fn frames_may_cross_from_one_untyped_to_the_next() {
        let mut pool = pool(&[(0x400_0000, 26), (0x800_0000, 27)]);
        let frames = frames_at(&mut pool, 0x600_0000, 21, 64).unwrap();
        assert!(frames.iter().copied().eq((0x600_0000..0xe00_0000).step_by(1 << 21)));
    }

    #[test]
    fn the_addresses_before_and_behind_can_be_asked_for_later() {
        let mut pool = pool(&[(0x10_0000, 20)]);
        for paddr in [0x18_3000, 0x18_5000, 0x18_1000, 0x10_0000, 0x18_4000, 0x1f_f000] {
            assert_eq!(frames_at(&mut pool, paddr, 12, 1), Some([paddr].into()), "{paddr:#x}");
            assert_eq!(frames_at(&mut pool, paddr, 12, 1), None, "{paddr:#x} again");
        }
        assert_eq!(pool.free(), 0x10_0000 - 6 * 0x1000);
    }

    #[test]
    fn pieces_split_off_are_memory_like_any_other() {
        let mut pool = pool(&[(0x10_0000, 14)]);
        frames_at(&mut pool, 0x10_2000, 12, 2).unwrap();
        let grant = pool.take(12, 2).unwrap();
        assert_eq!((grant.untyped, grant.count), (100, 2));
        assert!(pool.take(4, 1).is_none());
    }

    #[test]
    fn frames_all_over_an_untyped_do_not_cut_it_into_ever_more_pieces() {
        let mut pool = pool(&[(1 << 40, 40)]);
        let mut there = 0;
        for n in 1..1200u64 {
            // Downwards, so that each is cut out of the pieces that lie before the last one.
            let at = (2 << 40) - n * 0x3_3335 * 0x1000;
            there += u64::from(frames_at(&mut pool, at & !0xfff, 12, 1).is_some());
        }
        assert!(there > 50 && pool.0.len() <= MOST, "{there} frames, {} pieces", pool.0.len());
    }

    #[test]
    fn a_large_frame_needs_an_untyped_of_its_size() {
        let mut pool = pool(&[(0x20_0000, 20), (0x30_0000, 20)]);
        assert_eq!(pool.step(0x20_0000, 21, 1), None);
        assert_eq!(pool.step(0x10_0000, 20, 1), None);
        assert_eq!(pool.free(), 0x20_0000);
    }

    #[test]
    fn a_range_is_classified() {
        let mut pool = pool(&[(0x10_0000, 20), (0x20_0000, 20), (0x40_0000, 20)]);
        pool.add(Untyped { slot: 9, paddr: 0x50_0000, bits: 20, device: true, used: 0 });
        assert_eq!(pool.contents(0x18_0000..0x28_0000), [(0x18_0000..0x28_0000, What::Ram)]);
        assert_eq!(
            pool.contents(0x28_0000..0x70_0000),
            [
                (0x28_0000..0x30_0000, What::Ram),
                (0x30_0000..0x40_0000, What::Taken),
                (0x40_0000..0x50_0000, What::Ram),
                (0x50_0000..0x60_0000, What::Device),
                (0x60_0000..0x70_0000, What::Taken),
            ]
        );
        frames_at(&mut pool, 0x21_0000, 12, 1).unwrap();
        assert_eq!(pool.contents(0x20_f000..0x21_1000)[1], (0x21_0000..0x21_1000, What::Taken));
    }
}
