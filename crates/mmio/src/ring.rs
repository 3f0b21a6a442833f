//! A byte stream from one domain to another through shared memory, with one producer and one consumer.
//!
//! Layout: 64 bytes of header, then the data; the capacity is the size of the data less one byte, so that a full ring
//! differs from an empty one. `head` and `tail` are offsets in the data, 0 to capacity.
//!
//! | offset | written by | field |
//! |---|---|---|
//! | 0 | consumer | `head`: the next byte to read |
//! | 4 | producer | `tail`: the next byte to write |
//! | 8 | consumer sets, producer clears | the consumer has parked: signal it when there are bytes |
//! | 12 | producer sets, consumer clears | the producer has parked: signal it when there is room |
//! | 16 | producer | a word for the consumer, whose meaning is theirs; nobody is signalled for it |
//!
//! The peer may be hostile. Each side keeps a private copy of its own offset and takes the other's modulo the size:
//! whatever the header contains, every access stays in the window and every call ends. A hostile peer garbles its own
//! stream only.

use core::sync::atomic::{AtomicU32, Ordering, fence};

use crate::Window;

const HEAD: u64 = 0;
const TAIL: u64 = 4;
const CONSUMER_PARKED: u64 = 8;
const PRODUCER_PARKED: u64 = 12;
const WORD: u64 = 16;
const HEADER: u64 = 64;

/// The window is too small, too large or not aligned for a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARing;

/// A window laid out as a ring; the two ends are made from it. A window of zeros is an empty ring.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    window: Window,
    /// Bytes of data, one more than the capacity.
    size: u32,
}

impl Ring {
    /// A ring in `window`, which must be aligned to 4 bytes and have room for the header and at least 2 bytes.
    pub fn new(window: Window) -> Result<Self, NotARing> {
        let data = window.len().checked_sub(HEADER).ok_or(NotARing)?;
        let size = u32::try_from(data).map_err(|_| NotARing)?;
        // Half of u32, so that the sum of two offsets cannot overflow.
        let fits = (2..=u32::MAX / 2).contains(&size);
        if !fits || !window.base().cast::<AtomicU32>().is_aligned() {
            return Err(NotARing);
        }
        Ok(Self { window, size })
    }

    /// The most bytes that the ring holds.
    pub fn capacity(&self) -> u32 {
        self.size - 1
    }

    /// The producer. It continues at the last producer's `tail`, so a restarted process neither repeats nor skips
    /// bytes.
    pub fn producer(self) -> Producer {
        Producer { tail: self.offset(TAIL), ring: self }
    }

    /// The consumer. It continues at the last consumer's `head`.
    pub fn consumer(self) -> Consumer {
        Consumer { head: self.offset(HEAD), ring: self }
    }

    /// A field of the header.
    fn field(&self, at: u64) -> &AtomicU32 {
        // SAFETY: `new` checked that the header is inside the window and aligned, all offsets are multiples of 4, and
        // another process may change an atomic.
        unsafe { AtomicU32::from_ptr(self.window.base().wrapping_add(at as usize).cast()) }
    }

    /// An offset from the header, reduced to the size of the data: a hostile peer may have written any value.
    fn offset(&self, at: u64) -> u32 {
        // Acquire pairs with the release of the peer's store: the bytes that the offset covers are visible.
        self.field(at).load(Ordering::Acquire) % self.size
    }

    /// Bytes from `from` up to `to`, wrapping around.
    fn distance(&self, from: u32, to: u32) -> u32 {
        (to + self.size - from) % self.size
    }

    /// Marks the caller as parked.
    fn set_parked(&self, flag: u64) {
        self.field(flag).store(1, Ordering::Relaxed);
        // The caller reads the peer's offset next. x86 may reorder that load before the store of the mark, and then
        // both sides could miss each other: the peer sees no mark, and the caller sees no new bytes.
        fence(Ordering::SeqCst);
    }

    /// Whether the peer has parked. Clears the mark, since one signal wakes the peer.
    fn take_parked(&self, flag: u64) -> bool {
        // The counterpart of the fence in `set_parked`: orders the store of the caller's offset before the load of the
        // mark.
        fence(Ordering::SeqCst);
        // The load avoids a locked instruction at each push while the peer is awake.
        self.field(flag).load(Ordering::Relaxed) != 0 && self.field(flag).swap(0, Ordering::AcqRel) != 0
    }
}

/// The producer of a ring.
#[derive(Debug)]
pub struct Producer {
    ring: Ring,
    tail: u32,
}

impl Producer {
    /// Bytes that can be pushed now.
    pub fn room(&self) -> u32 {
        self.ring.capacity() - self.ring.distance(self.ring.offset(HEAD), self.tail)
    }

    /// Bytes pushed that the consumer has not read yet.
    pub fn pending(&self) -> u32 {
        self.ring.capacity() - self.room()
    }

    /// Writes as many of `bytes` as there is room for and returns how many. Call [`Self::must_signal`] afterwards.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room() as usize);
        let until_end = (self.ring.size - self.tail) as usize;
        let (first, rest) = bytes[..count].split_at(count.min(until_end));
        let data = HEADER + u64::from(self.tail);
        // Both parts are inside: `tail` is below `size`, and `count` is below `size` too.
        let written = self.ring.window.write(data, first).and(self.ring.window.write(HEADER, rest));
        debug_assert!(written.is_ok());
        self.tail = (self.tail + count as u32) % self.ring.size;
        self.ring.field(TAIL).store(self.tail, Ordering::Release);
        count
    }

    /// The word for the consumer, as the last producer left it.
    pub fn word(&self) -> u32 {
        self.ring.field(WORD).load(Ordering::Relaxed)
    }

    /// Sets the word for the consumer. Who sees it also sees all bytes that were pushed before.
    pub fn set_word(&mut self, word: u32) {
        self.ring.field(WORD).store(word, Ordering::Release);
    }

    /// Whether the consumer has parked. If `true`, the caller must signal it; the next call returns `false`.
    pub fn must_signal(&mut self) -> bool {
        self.ring.take_parked(CONSUMER_PARKED)
    }

    /// Parks: the consumer signals when there is room. If there is room already, does not park and returns `true`.
    pub fn park(&mut self) -> bool {
        self.ring.set_parked(PRODUCER_PARKED);
        // The consumer may have made room before it could see the mark, and then does not signal.
        let room = self.room() > 0;
        if room {
            self.ring.field(PRODUCER_PARKED).store(0, Ordering::Relaxed);
        }
        room
    }
}

/// The consumer of a ring.
#[derive(Debug)]
pub struct Consumer {
    ring: Ring,
    head: u32,
}

impl Consumer {
    /// Bytes that can be read now.
    pub fn available(&self) -> u32 {
        self.ring.distance(self.head, self.ring.offset(TAIL))
    }

    /// Reads as many bytes as are available and fit `into`; returns how many.
    pub fn pop(&mut self, into: &mut [u8]) -> usize {
        let count = into.len().min(self.available() as usize);
        let until_end = (self.ring.size - self.head) as usize;
        let (first, rest) = into[..count].split_at_mut(count.min(until_end));
        let data = HEADER + u64::from(self.head);
        let read = self.ring.window.read(data, first).and(self.ring.window.read(HEADER, rest));
        debug_assert!(read.is_ok());
        self.head = (self.head + count as u32) % self.ring.size;
        self.ring.field(HEAD).store(self.head, Ordering::Release);
        count
    }

    /// Reads one byte.
    pub fn pop_byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        (self.pop(&mut byte) == 1).then_some(byte[0])
    }

    /// Drops all bytes that are available.
    pub fn clear(&mut self) {
        self.head = self.ring.offset(TAIL);
        self.ring.field(HEAD).store(self.head, Ordering::Release);
    }

    /// The producer's word, which it may change at any time.
    pub fn word(&self) -> u32 {
        self.ring.field(WORD).load(Ordering::Acquire)
    }

    /// Copies the bytes behind the next `skip` ones, as many as are available and fit `into`, and leaves them in the ring;
    /// returns how many. The producer may change them until they are read.
    pub fn peek(&self, skip: u32, into: &mut [u8]) -> usize {
        let count = into.len().min(self.available().saturating_sub(skip) as usize);
        // No sum overflows: `skip` is at most the capacity if `count` is not 0, and `size` is below half of u32.
        let from = if count == 0 { self.head } else { (self.head + skip) % self.ring.size };
        let until_end = (self.ring.size - from) as usize;
        let (first, rest) = into[..count].split_at_mut(count.min(until_end));
        let read = self.ring.window.read(HEADER + u64::from(from), first).and(self.ring.window.read(HEADER, rest));
        debug_assert!(read.is_ok());
        count
    }

    /// Parks: the producer signals when there are bytes. If there are some already, does not park and returns `true`.
    pub fn park(&mut self) -> bool {
        self.park_behind(0)
    }

    /// The same for a consumer that leaves `seen` bytes in the ring and waits for more.
    pub fn park_behind(&mut self, seen: u32) -> bool {
        self.ring.set_parked(CONSUMER_PARKED);
        // The producer may have written bytes before it could see the mark, and then does not signal.
        let bytes = self.available() > seen;
        if bytes {
            self.ring.field(CONSUMER_PARKED).store(0, Ordering::Relaxed);
        }
        bytes
    }

    /// Whether the producer has parked. If `true`, the caller must signal it; the next call returns `false`.
    pub fn must_signal(&mut self) -> bool {
        self.ring.take_parked(PRODUCER_PARKED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::zeros as window;
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    fn ring(capacity: u64) -> (Producer, Consumer, Window) {
        let window = window(HEADER + capacity + 1);
        let ring = Ring::new(window).unwrap();
        (ring.producer(), ring.consumer(), window)
    }

    #[test]
    fn bytes_come_out_in_order_and_once() {
        let (mut p, mut c, _) = ring(5);
        assert_eq!(p.push(b"abcdefg"), 5);
        assert_eq!(p.push(b"x"), 0);
        let mut out = [0; 3];
        assert_eq!((c.pop(&mut out), &out), (3, b"abc"));
        assert_eq!(p.push(b"fgh"), 3);
        let mut out = [0; 8];
        assert_eq!(c.pop(&mut out), 5);
        assert_eq!(&out[..5], b"defgh");
        assert_eq!(c.pop(&mut out), 0);
    }

    #[test]
    fn the_consumer_is_signalled_only_when_it_has_parked() {
        let (mut p, mut c, _) = ring(8);
        p.push(b"a");
        assert!(!p.must_signal(), "it has not parked");
        assert!(c.park(), "there is a byte, so it does not park");
        assert!(!p.must_signal());
        assert_eq!(c.pop_byte(), Some(b'a'));
        assert!(!c.park());
        p.push(b"b");
        assert!(p.must_signal());
        assert!(!p.must_signal(), "one signal is enough");
    }

    #[test]
    fn bytes_can_be_looked_at_across_the_end_of_the_ring() {
        let (mut p, mut c, _) = ring(5);
        p.push(b"abc");
        c.pop(&mut [0; 3]);
        p.push(b"defgh");
        let mut out = [0; 8];
        assert_eq!((c.peek(1, &mut out), &out[..4]), (4, &b"efgh"[..]));
        assert_eq!(c.peek(5, &mut out), 0);
        assert_eq!(c.peek(u32::MAX, &mut out), 0);
        assert_eq!((c.pop(&mut out), &out[..5]), (5, &b"defgh"[..]), "they stay");
    }

    #[test]
    fn a_consumer_that_has_seen_some_bytes_waits_for_more() {
        let (mut p, mut c, _) = ring(8);
        p.push(b"ab");
        assert!(c.park_behind(1), "there is one more");
        assert!(!c.park_behind(2));
        p.push(b"c");
        assert!(p.must_signal());
    }

    #[test]
    fn the_producer_is_signalled_when_room_appears() {
        let (mut p, mut c, _) = ring(2);
        p.push(b"ab");
        assert!(!p.park());
        c.pop_byte();
        assert!(c.must_signal());
        assert!(!c.must_signal());
        assert!(p.park(), "there is room already");
    }

    #[test]
    fn a_restarted_end_continues_where_the_last_stopped() {
        let (mut p, mut c, window) = ring(8);
        p.push(b"abc");
        c.pop_byte();
        let again = Ring::new(window).unwrap();
        again.producer().push(b"d");
        let mut out = [0; 8];
        assert_eq!(again.consumer().pop(&mut out), 3);
        assert_eq!(&out[..3], b"bcd");
    }

    #[test]
    fn a_consumer_can_drop_what_is_there() {
        let (mut p, mut c, _) = ring(5);
        p.push(b"abcde");
        assert!(!p.park());
        c.clear();
        assert!(c.must_signal(), "there is room");
        assert_eq!((c.available(), p.room()), (0, 5));
        p.push(b"f");
        assert_eq!(c.pop_byte(), Some(b'f'));
    }

    #[test]
    fn the_producers_word_outlives_it() {
        let (mut p, c, window) = ring(5);
        assert_eq!((p.word(), c.word()), (0, 0));
        p.set_word(7);
        assert_eq!(c.word(), 7);
        assert_eq!(Ring::new(window).unwrap().producer().word(), 7);
        assert_eq!(c.available(), 0, "it is none of the bytes");
    }

    #[test]
    fn a_window_without_room_or_alignment_is_no_ring() {
        assert!(Ring::new(window(HEADER + 1)).is_err());
        assert!(Ring::new(window(10)).is_err());
        assert!(Ring::new(window(200).part(1, 100).unwrap()).is_err());
        assert!(Ring::new(window(HEADER + 2)).is_ok());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u8>),
        Pop(usize),
        ParkProducer,
        ParkConsumer,
        Lie(u64, u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Push),
            (0usize..40).prop_map(Step::Pop),
            Just(Step::ParkProducer),
            Just(Step::ParkConsumer),
        ]
    }

    fn hostile_step() -> impl Strategy<Value = Step> {
        let lie = (0u64..16, prop_oneof![any::<u32>(), 0u32..50]).prop_map(|(f, v)| Step::Lie(f * 4, v));
        prop_oneof![step(), lie]
    }

    proptest! {
        #[test]
        fn honest_ends_lose_nothing(capacity in 1u64..30, steps in prop::collection::vec(step(), 0..80)) {
            let (mut p, mut c, _) = ring(capacity);
            let (mut sent, mut got) = (Vec::<u8>::new(), Vec::<u8>::new());
            for step in steps {
                match step {
                    Step::Push(bytes) => { let n = p.push(&bytes); sent.extend(&bytes[..n]); }
                    Step::Pop(len) => { let mut b = vec![0; len]; let n = c.pop(&mut b); got.extend(&b[..n]); }
                    Step::ParkProducer => prop_assert_eq!(p.park(), p.room() > 0),
                    _ => prop_assert_eq!(c.park(), c.available() > 0),
                }
                prop_assert_eq!(p.pending(), c.available());
            }
            let mut rest = vec![0; 64];
            let n = c.pop(&mut rest);
            got.extend(&rest[..n]);
            prop_assert_eq!(sent, got);
        }

        #[test]
        fn a_hostile_peer_breaks_neither_bounds_nor_calls(
            capacity in 1u64..30,
            steps in prop::collection::vec(hostile_step(), 0..80),
        ) {
            let guard = 32;
            let outer = window(HEADER + capacity + 1 + guard);
            outer.fill(HEADER + capacity + 1, guard, 0xa5).unwrap();
            let inner = outer.part(0, HEADER + capacity + 1).unwrap();
            let ring = Ring::new(inner).unwrap();
            let (mut p, mut c) = (ring.producer(), ring.consumer());
            for step in steps {
                match step {
                    Step::Push(bytes) => { prop_assert!(p.push(&bytes) <= bytes.len()); p.must_signal(); }
                    Step::Pop(len) => { prop_assert!(c.pop(&mut vec![0; len]) <= len); c.must_signal(); }
                    Step::ParkProducer => { p.park(); }
                    Step::ParkConsumer => { c.park(); }
                    Step::Lie(field, value) => inner.write_u32(field, value).unwrap(),
                }
                prop_assert!(p.room() <= ring.capacity() && c.available() <= ring.capacity());
            }
            let mut after = [0; 32];
            outer.read(HEADER + capacity + 1, &mut after).unwrap();
            prop_assert_eq!(after, [0xa5; 32]);
        }
    }
}
