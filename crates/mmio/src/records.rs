//! Records from one domain to another through shared memory, with one producer and one consumer: frames, requests,
//! completions. A record is bytes, as many as the producer puts in; what they mean, its users agree on.
//!
//! Layout: a cache line that the producer writes, one that the consumer writes, then the data, whose size is a power of
//! two. Indices count bytes, run on and wrap; their low bits are the places in the data. All are multiples of 8.
//!
//! | offset | written by | field |
//! |---|---|---|
//! | 0 | producer | index: the end of the last record |
//! | 4 | producer | signal it when the consumer's index goes past this |
//! | 8 | producer | its lives: how often the end was made; 12: the index at which the last one has begun |
//! | 64 | consumer | index: the end of the last record that it has released |
//! | 68 | consumer | signal it when the producer's index goes past this |
//! | 72 | consumer | its lives; 76: where the last one has begun |
//! | 128 | producer | the data: of each record its length in 4 bytes, then its bytes, which may wrap around |
//!
//! The fields at 4 and 68 are those that virtio has with `VIRTIO_F_EVENT_IDX` (VIRTIO 1.2, section 2.7.10): a side that
//! is awake leaves its field behind, and costs the other no signal.
//!
//! The peer may be hostile. Each side keeps a private copy of its own index, reads each of the peer's numbers once and
//! checks the copy. If one cannot be, the ring is broken for this side, until the peer is made anew: then either end may
//! mend it ([`RecordProducer::mend`]), and what was in it is lost. No call loops over what the peer wrote, but a peer that
//! goes on producing can keep a consumer busy: callers limit how many records they take at a time.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use crate::{NotARing, OutOfRange, Window};

const PRODUCER: u64 = 0;
const CONSUMER: u64 = 64;
/// In a side's line: its index, where the peer's index is to cause a signal, how often the side was made, and the index at
/// which it has begun.
const INDEX: u64 = 0;
const WAKE: u64 = 4;
const LIVES: u64 = 8;
const BEGIN: u64 = 12;
/// Not an index: a side that was made, and has found numbers that cannot be, begins where the peer says.
const NOWHERE: u32 = 1;
const DATA: u64 = 128;

/// Bytes of a record's length.
const PREFIX: u32 = 4;
const ALIGN: u32 = 8;

/// The peer has broken the rules: the ring is of no use before it is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRing;

/// What has become of a ring; of two rings, the greater one is what has become of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mended {
    /// The peer is who it was, and the ring is whole.
    Same,
    /// The peer was made anew, and goes on behind its predecessor's last record.
    Continued,
    /// The peer was made anew, and what was in the ring is lost.
    Emptied,
    /// The ring is broken.
    Broken,
}

/// Why there is no room for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// Not now: the consumer has to release records first.
    Full,
    /// Never: the ring is smaller.
    TooLong,
    /// See [`BrokenRing`].
    Broken,
}

/// A window laid out as a ring of records; the two ends are made from it. A window of zeros is an empty ring.
#[derive(Clone, Copy, Debug)]
pub struct RecordRing {
    window: Window,
    /// Bytes of data: a power of two.
    size: u32,
}

impl RecordRing {
    /// A ring in `window`, which must be aligned to 8 bytes. Its data are the largest power of two that fits behind the
    /// 128 bytes of the header, and at least 16 bytes.
    pub fn new(window: Window) -> Result<Self, NotARing> {
        /// So that an index tells a full ring from a backward step.
        const MOST: u64 = 1 << 30;
        let data = window.len().checked_sub(DATA).and_then(u64::checked_ilog2).ok_or(NotARing)?;
        let size = (1 << data).min(MOST) as u32;
        if size < 2 * ALIGN || !window.base().cast::<AtomicU64>().is_aligned() {
            return Err(NotARing);
        }
        Ok(Self { window, size })
    }

    /// Bytes of the longest record.
    pub const fn longest(&self) -> u32 {
        self.size - PREFIX
    }

    /// Empties the ring: for one side, before either of the ends is made, and while the other side makes none.
    pub fn clear(&self) {
        let cleared = self.window.fill(0, DATA, 0);
        debug_assert!(cleared.is_ok());
    }

    /// The producer. It continues behind the last record that its predecessor published; if the predecessor has left
    /// numbers that cannot be, it is broken until both ends have called `mend`.
    pub fn producer(self) -> RecordProducer {
        RecordProducer(Side::new(self, PRODUCER, CONSUMER))
    }

    /// The consumer. It continues behind the last record that its predecessor released, or is broken likewise.
    pub fn consumer(self) -> RecordConsumer {
        RecordConsumer(Side::new(self, CONSUMER, PRODUCER))
    }

    /// Where `len` bytes from index `at` on are: in two parts, of which the second is empty unless they wrap around.
    #[inline]
    const fn parts(&self, at: u32, len: u32) -> [(u64, u32); 2] {
        let start = at & (self.size - 1);
        let until_end = self.size - start;
        let first = if len < until_end { len } else { until_end };
        [(DATA + start as u64, first), (DATA, len - first)]
    }

    #[inline]
    fn get(&self, at: u64) -> u32 {
        // The window is longer than the header, and an index is inside the data.
        self.window.read_u32(at).unwrap_or_default()
    }

    #[inline]
    fn set(&self, at: u64, value: u32) {
        let written = self.window.write_u32(at, value);
        debug_assert!(written.is_ok());
    }

    fn read(&self, at: u32, into: &mut [u8]) -> Result<(), OutOfRange> {
        let [(first, len), (second, _)] = self.parts(at, into.len() as u32);
        let (head, tail) = into.split_at_mut(len as usize);
        self.window.read(first, head)?;
        if tail.is_empty() { Ok(()) } else { self.window.read(second, tail) }
    }

    fn write(&self, at: u32, bytes: &[u8]) -> Result<(), OutOfRange> {
        let [(first, len), (second, _)] = self.parts(at, bytes.len() as u32);
        let (head, tail) = bytes.split_at(len as usize);
        self.window.write(first, head)?;
        if tail.is_empty() { Ok(()) } else { self.window.write(second, tail) }
    }
}

/// Bytes that a record of `len` takes.
#[inline]
const fn span(len: u32) -> Option<u32> {
    match len.checked_add(PREFIX) {
        Some(whole) => whole.checked_next_multiple_of(ALIGN),
        None => None,
    }
}

/// What both ends have: their own line, and the peer's.
#[derive(Debug)]
struct Side {
    ring: RecordRing,
    own: u64,
    peer: u64,
    index: u32,
    /// The index when the need for a signal was last checked; `None` before the first time.
    signalled: Option<u32>,
    broken: bool,
    /// How often the peer was made, as far as this side knows.
    lives: u32,
}

impl Side {
    fn new(ring: RecordRing, own: u64, peer: u64) -> Self {
        let (index, lives) = (ring.get(own + INDEX), ring.get(peer + LIVES));
        let mut side = Self { ring, own, peer, index, signalled: None, broken: false, lives };
        side.broken = !index.is_multiple_of(ALIGN) || !side.agrees(ring.get(peer + INDEX));
        side.live(if side.broken { NOWHERE } else { index });
        side
    }

    /// Whether the peer can be at `index`.
    const fn agrees(&self, index: u32) -> bool {
        let used = if self.own == PRODUCER { self.index.wrapping_sub(index) } else { index.wrapping_sub(self.index) };
        used <= self.ring.size && used.is_multiple_of(ALIGN)
    }

    /// Says that there is a new one of this side.
    fn live(&self, begin: u32) {
        self.ring.set(self.own + BEGIN, begin);
        self.ring.set(self.own + LIVES, self.ring.get(self.own + LIVES).wrapping_add(1));
    }

    /// Looks whether the peer was made anew. A peer that only says so harms itself.
    fn mend(&mut self) -> Mended {
        let lives = self.ring.get(self.peer + LIVES);
        if lives == self.lives {
            return if self.broken { Mended::Broken } else { Mended::Same };
        }
        self.lives = lives;
        let begin = self.ring.get(self.peer + BEGIN);
        if begin.is_multiple_of(ALIGN) {
            if !self.broken && self.agrees(begin) {
                return Mended::Continued;
            }
            self.begin(begin);
        } else {
            // The peer waits for a beginning. This side has its own in memory that nobody else writes; until the peer
            // takes it over, its number is what a predecessor has left.
            self.begin(self.index & !(ALIGN - 1));
            self.ring.set(self.peer + INDEX, self.index);
            self.live(self.index);
        }
        Mended::Emptied
    }

    /// Goes on with an empty ring.
    fn begin(&mut self, index: u32) {
        self.index = index;
        self.ring.set(self.own + INDEX, index);
        (self.signalled, self.broken) = (None, false);
    }

    /// How far the producer is ahead of the consumer, if that can be.
    #[inline]
    fn used(&mut self, used: impl FnOnce(u32, u32) -> u32) -> Result<u32, BrokenRing> {
        // A MOV that the compiler does not move, which on x86 is a load with acquire semantics: what the peer has
        // written before its index is visible.
        let used = used(self.index, self.ring.get(self.peer + INDEX));
        if self.broken || used > self.ring.size || !used.is_multiple_of(ALIGN) {
            return Err(self.give_up());
        }
        Ok(used)
    }

    #[cold]
    const fn give_up(&mut self) -> BrokenRing {
        self.broken = true;
        BrokenRing
    }

    /// Moves the index on by what a record of `len` bytes takes.
    #[inline]
    fn advance(&mut self, len: u32) {
        // `len` has been found to fit.
        self.index = self.index.wrapping_add(span(len).unwrap_or_default());
        // Likewise a store with release semantics.
        self.ring.set(self.own + INDEX, self.index);
    }

    /// Asks the peer for a signal when its index goes past `index`. Look at its index again afterwards.
    fn wake_at(&self, index: u32) {
        self.ring.set(self.own + WAKE, index);
        // x86 may carry out the load of the peer's index before this store. Then both sides could miss each other: the
        // peer reads the old field, and this side the old index.
        fence(Ordering::SeqCst);
    }

    fn must_signal(&mut self) -> bool {
        let old = self.signalled.replace(self.index);
        if old == Some(self.index) {
            return false;
        }
        // The counterpart: the index must be written before the peer's field is read.
        fence(Ordering::SeqCst);
        let wake = self.ring.get(self.peer + WAKE);
        // An end that has just begun does not know what its predecessor has signalled, so the peer gets one signal.
        old.is_none_or(|old| self.index.wrapping_sub(wake).wrapping_sub(1) < self.index.wrapping_sub(old))
    }
}

/// The producer of a ring of records.
#[derive(Debug)]
pub struct RecordProducer(Side);

impl RecordProducer {
    /// Reserves room for a record of at most `len` bytes.
    #[inline]
    pub fn reserve(&mut self, len: u32) -> Result<Reservation<'_>, NoRoom> {
        let needed = self.needed(len).ok_or(NoRoom::TooLong)?;
        if self.room().map_err(|BrokenRing| NoRoom::Broken)? < needed {
            return Err(NoRoom::Full);
        }
        Ok(Reservation { side: &mut self.0, most: len, len: 0 })
    }

    /// Whether the consumer wants a signal for what was published since the last call; the caller must send it then.
    #[inline]
    pub fn must_signal(&mut self) -> bool {
        self.0.must_signal()
    }

    /// Has the consumer signal when there is room for a record of `len` bytes. `true` if there is by now, or the ring is
    /// broken: then the caller goes on instead of waiting.
    pub fn park(&mut self, len: u32) -> bool {
        let needed = self.needed(len).unwrap_or(self.0.ring.size);
        // The room is there when the consumer's index has reached what is not reserved of the data's last round.
        self.0.wake_at(self.0.index.wrapping_add(needed).wrapping_sub(self.0.ring.size).wrapping_sub(1));
        self.room().is_ok_and(|room| room >= needed) || self.0.broken
    }

    /// Looks whether the consumer was made anew, and mends a broken ring then: both ends have to.
    pub fn mend(&mut self) -> Mended {
        self.0.mend()
    }

    /// Whether the consumer has released all records.
    pub fn is_drained(&mut self) -> bool {
        self.room().is_ok_and(|room| room == self.0.ring.size)
    }

    /// See [`RecordRing::longest`].
    pub const fn longest(&self) -> u32 {
        self.0.ring.longest()
    }

    #[inline]
    fn needed(&self, len: u32) -> Option<u32> {
        span(len).filter(|&needed| needed <= self.0.ring.size)
    }

    #[inline]
    fn room(&mut self) -> Result<u32, BrokenRing> {
        let used = self.0.used(|own, consumer| own.wrapping_sub(consumer))?;
        Ok(self.0.ring.size - used)
    }
}

/// Room for a record. Dropped, it leaves no trace.
#[derive(Debug)]
#[must_use]
pub struct Reservation<'a> {
    side: &'a mut Side,
    most: u32,
    len: u32,
}

impl Reservation<'_> {
    /// Appends bytes.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), OutOfRange> {
        let at = self.append(u32::try_from(bytes.len()).map_err(|_| OutOfRange)?)?;
        self.side.ring.write(at, bytes)
    }

    /// Appends the `len` bytes from offset `at` of `from`, without an intermediate copy.
    #[inline]
    pub fn copy_from(&mut self, from: &Window, mut at: u64, len: u32) -> Result<(), OutOfRange> {
        // First, so that a refused copy has appended nothing.
        from.part(at, len.into())?;
        let index = self.append(len)?;
        for (to, len) in self.side.ring.parts(index, len) {
            if len > 0 {
                from.copy_to(at, &self.side.ring.window, to, len.into())?;
                at += u64::from(len);
            }
        }
        Ok(())
    }

    /// Bytes that can be appended.
    pub const fn left(&self) -> u32 {
        self.most - self.len
    }

    /// Publishes what was appended as a record. Call [`RecordProducer::must_signal`] after this, or after several.
    #[inline]
    pub fn publish(self) {
        let Self { side, len, .. } = self;
        let [(prefix, _), _] = side.ring.parts(side.index, PREFIX);
        side.ring.set(prefix, len);
        side.advance(len);
    }

    /// Where in the ring the next `len` bytes belong.
    #[inline]
    fn append(&mut self, len: u32) -> Result<u32, OutOfRange> {
        if len > self.left() {
            return Err(OutOfRange);
        }
        let at = self.side.index.wrapping_add(PREFIX).wrapping_add(self.len);
        self.len += len;
        Ok(at)
    }
}

/// The consumer of a ring of records.
#[derive(Debug)]
pub struct RecordConsumer(Side);

impl RecordConsumer {
    /// The next record, if there is one. It remains the next one until it is released.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Record<'_>>, BrokenRing> {
        let side = &mut self.0;
        let used = side.used(|own, producer| producer.wrapping_sub(own))?;
        if used == 0 {
            return Ok(None);
        }
        let [(prefix, _), _] = side.ring.parts(side.index, PREFIX);
        let len = side.ring.get(prefix);
        match span(len) {
            Some(span) if span <= used => Ok(Some(Record { side, len })),
            _ => Err(side.give_up()),
        }
    }

    /// Has the producer signal when it publishes a record. `true` if there is one by now, or the ring is broken: then
    /// the caller goes on instead of waiting.
    pub fn park(&mut self) -> bool {
        self.0.wake_at(self.0.index);
        self.0.used(|own, producer| producer.wrapping_sub(own)).is_ok_and(|used| used > 0) || self.0.broken
    }

    /// Looks whether the producer was made anew, and mends a broken ring then: both ends have to.
    pub fn mend(&mut self) -> Mended {
        self.0.mend()
    }

    /// Whether the producer wants a signal for what was released since the last call; the caller must send it then.
    #[inline]
    pub fn must_signal(&mut self) -> bool {
        self.0.must_signal()
    }
}

/// A record to be read. The producer may change its bytes at any time, but not its length.
#[derive(Debug)]
pub struct Record<'a> {
    side: &'a mut Side,
    len: u32,
}

impl Record<'_> {
    /// Its bytes.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the bytes from offset `at` on to `into`.
    #[inline]
    pub fn read(&self, at: u32, into: &mut [u8]) -> Result<(), OutOfRange> {
        let at = self.index(at, u32::try_from(into.len()).map_err(|_| OutOfRange)?)?;
        self.side.ring.read(at, into)
    }

    /// Copies the `len` bytes from offset `at` on to offset `to` of `other`, without an intermediate copy.
    #[inline]
    pub fn copy_to(&self, at: u32, other: &Window, mut to: u64, len: u32) -> Result<(), OutOfRange> {
        let at = self.index(at, len)?;
        // First, so that a refused copy has written nothing.
        other.part(to, len.into())?;
        for (from, len) in self.side.ring.parts(at, len) {
            if len > 0 {
                self.side.ring.window.copy_to(from, other, to, len.into())?;
                to += u64::from(len);
            }
        }
        Ok(())
    }

    /// Appends the `len` bytes from offset `at` on to a record of another ring.
    #[inline]
    pub fn forward(&self, at: u32, to: &mut Reservation<'_>, len: u32) -> Result<(), OutOfRange> {
        let at = self.index(at, len)?;
        if len > to.left() {
            return Err(OutOfRange);
        }
        for (from, len) in self.side.ring.parts(at, len) {
            if len > 0 {
                to.copy_from(&self.side.ring.window, from, len)?;
            }
        }
        Ok(())
    }

    /// Gives its room back to the producer. Call [`RecordConsumer::must_signal`] after this, or after several.
    #[inline]
    pub fn release(self) {
        self.side.advance(self.len);
    }

    /// Where in the ring the `len` bytes from offset `at` on are.
    #[inline]
    fn index(&self, at: u32, len: u32) -> Result<u32, OutOfRange> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(self.side.index.wrapping_add(PREFIX).wrapping_add(at)),
            _ => Err(OutOfRange),
        }
    }
}

#[cfg(test)]
mod tests;
