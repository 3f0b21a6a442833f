//! Rings and accesses of arbitrary content: no panic, no endless loop, and no byte written that was not the device's to write.

use super::{
    driver::{DATA, LEN, RAM},
    *,
};
use proptest::prelude::*;

/// Numbers as a hostile driver likes them, and small ones.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..20u64,
        2 => RAM..RAM + LEN as u64,
        2 => prop::sample::select(std::vec![0, 16, 0xffff, 0x8000_0000, 0xffff_ffff, u64::MAX, u64::MAX - 15, RAM - 1]),
        1 => any::<u64>(),
    ]
}

/// A descriptor, mostly one that could be.
fn descriptor() -> impl Strategy<Value = [u64; 4]> {
    let gpa = prop_oneof![6 => DATA..DATA + 0x1000, 1 => number(), 2 => (RAM..RAM + 0x3000).prop_map(|gpa| gpa & !15)];
    let len = prop_oneof![4 => 0..0x40u64, 2 => prop::sample::select(std::vec![16, 32, 64, 128]), 1 => number()];
    let flags = prop_oneof![6 => 0..4u64, 2 => Just(4u64), 1 => 0..8u64, 1 => any::<u64>()];
    let next = prop_oneof![8 => 0..8u64, 1 => any::<u64>()];
    (gpa, len, flags, next).prop_map(|(gpa, len, flags, next)| [gpa, len, flags, next])
}

#[derive(Clone, Debug)]
enum Act {
    /// Writes a descriptor to a table: of the queue, or one that is referred to.
    Describe(bool, u16, [u64; 4]),
    /// Makes a chain available.
    Offer(u16),
    /// Writes the available index.
    Index(u16),
    /// Writes anywhere in the rings.
    Scribble(u64, u64),
    Kick,
    Register(u8, u64, Width, u64),
    Read(u8, u64, Width),
    Config(u8, Width, u32),
    Poll,
    /// Resets the device and sets it up again.
    Restart(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let width = || prop::sample::select(std::vec![Width::Byte, Width::Word, Width::Dword, Width::Qword]);
    let at = || prop_oneof![4 => 0..0x40u64, 1 => 0x1000..0x1008u64, 1 => 0x2ff8..0x3010u64, 1 => any::<u64>()];
    let bar = || prop::sample::select(std::vec![0u8, 1, 4, 4, 5]);
    prop_oneof![
        8 => (any::<bool>(), 0..8u16, descriptor()).prop_map(|(own, n, bits)| Act::Describe(own, n, bits)),
        8 => prop_oneof![9 => 0..8u16, 1 => any::<u16>()].prop_map(Act::Offer),
        1 => any::<u16>().prop_map(Act::Index),
        1 => (RING..RING + 0x2000, number()).prop_map(|(at, value)| Act::Scribble(at, value)),
        8 => Just(Act::Kick),
        2 => (bar(), at(), width(), number()).prop_map(|(bar, at, width, value)| Act::Register(bar, at, width, value)),
        1 => (bar(), at(), width()).prop_map(|(bar, at, width)| Act::Read(bar, at, width)),
        1 => (any::<u8>(), width(), any::<u32>()).prop_map(|(at, width, value)| Act::Config(at, width, value)),
        1 => Just(Act::Poll),
        2 => prop::sample::select(std::vec![0u32, 1 << 28, 1 << 29, 3 << 28]).prop_map(Act::Restart),
    ]
}

/// What one access may cost: the ring's entries, each with its chain, and each buffer copied twice.
const BOUND: usize = 2 * (8 + 16) * (16 + 40);

struct Bench {
    driver: Driver<Echo>,
    ring: Ring,
    index: u16,
}

impl Bench {
    fn restart(&mut self, features: u32) {
        let _ = self.driver.function.write_config(0x04, Width::Word, 7, &self.driver.memory);
        self.driver.initialise(features);
        self.driver.set_up(0, &self.ring);
        self.driver.set_status(0x0f);
        self.index = self.driver.memory.read_u16(self.ring.available + 2).unwrap();
    }

    /// Does one thing, and answers for what the device has done to memory.
    fn act(&mut self, act: &Act) {
        let (ring, memory) = (&self.ring, &self.driver.memory);
        let table = [DATA, ring.table];
        match *act {
            Act::Describe(own, n, [gpa, len, flags, next]) => {
                let at = table[usize::from(own)];
                driver::write_descriptor(memory, at, n, gpa, len as u32, flags as u16, next as u16);
            }
            Act::Offer(head) => {
                ring.offer(memory, self.index, head);
                self.index = self.index.wrapping_add(1);
            }
            Act::Index(index) => {
                memory.write_u16(ring.available + 2, index).unwrap();
                self.index = index;
            }
            Act::Scribble(at, value) => memory.write_u64(at, value).unwrap(),
            Act::Restart(features) => return self.restart(features),
            _ => {}
        }
        memory.forget();
        let function = &mut self.driver.function;
        match *act {
            Act::Kick => {
                let _ = function.write(4, 0x3000, Width::Word, 0, memory);
            }
            Act::Poll => {
                let _ = function.poll(memory);
            }
            Act::Register(bar, at, width, value) => {
                let _ = function.write(bar, at, width, value, memory);
            }
            Act::Read(bar, at, width) => assert_eq!(function.read(bar, at, width, memory).0 & !width.mask(), 0),
            Act::Config(at, Width::Dword, _) => {
                let _ = function.read_config(at & !3, Width::Dword, memory);
            }
            Act::Config(at, width, value) if width != Width::Qword => {
                let _ = function.write_config(at, width, value, memory);
            }
            _ => {}
        }
        assert!(memory.reads.borrow().len() + memory.writes.borrow().len() <= BOUND);
        assert_eq!(function.irq(), function.config().intx());
        // There are as many messages as vectors, at most.
        assert!(core::iter::from_fn(|| function.take_message()).count() <= Echo::QUEUES.len() + 1);
    }
}

proptest! {
    #![proptest_config(driver::cases(1_000))]

    #[test]
    fn no_driver_breaks_more_than_its_own_device(acts in prop::collection::vec(act(), 1..60)) {
        let mut bench = Bench { driver: Driver::new(Echo::default()), ring: Ring::new(8), index: 0 };
        bench.restart(3 << 28);
        for act in &acts {
            bench.act(act);
        }
        // Whatever it was, a reset and a new ring make it work again.
        bench.driver = Driver { function: bench.driver.function, memory: Fake::new(RAM, LEN) };
        bench.restart(0);
        let Bench { driver, ring, .. } = &mut bench;
        driver.memory.write(DATA, b"ok").unwrap();
        ring.descriptor(&driver.memory, 0, DATA, 2, 1, 1);
        ring.descriptor(&driver.memory, 1, DATA + 16, 2, 2, 0);
        ring.offer(&driver.memory, 0, 0);
        let _ = driver.kick();
        prop_assert_eq!(ring.used(&driver.memory), (1, 0, 2));
        prop_assert_eq!(&driver.memory.bytes(DATA + 16), b"ko");
    }

    /// Descriptors only, with a look at each byte that was written.
    #[test]
    fn only_the_used_ring_and_writable_buffers_are_written(
        table in prop::collection::vec(descriptor(), 16),
        offers in prop::collection::vec(0..9u16, 1..9),
        indirect: bool,
    ) {
        let ring = Ring::new(8);
        let mut driver = Driver::modern(Echo::default(), &ring, if indirect { 1 << 28 } else { 0 });
        for (n, &[gpa, len, flags, next]) in (0..).zip(&table) {
            let at = if n < 8 { ring.table } else { DATA };
            driver::write_descriptor(&driver.memory, at, n % 8, gpa, len as u32, flags as u16, next as u16);
        }
        for (n, &head) in (0..).zip(&offers) {
            ring.offer(&driver.memory, n, head);
        }
        driver.memory.forget();
        let _ = driver.kick();
        // Buffers may lie over tables, so what the device finds there changes: those that it has copied count.
        let read = driver.memory.reads.borrow();
        let writable: Vec<(u64, u64)> = driver.memory.seen.borrow().iter()
            .filter(|bytes| bytes[12] & 2 != 0)
            .map(|bytes| (u64::from_le_bytes(bytes[..8].try_into().unwrap()), u64::from(u32::from_le_bytes(bytes[8..12].try_into().unwrap()))))
            .chain([(ring.used, 4 + 8 * 8 + 2)])
            .collect();
        for &(gpa, len) in driver.memory.writes.borrow().iter() {
            let inside = |&(from, room): &(u64, u64)| gpa >= from && gpa - from + len <= room;
            prop_assert!(writable.iter().any(inside), "{:#x} {}", gpa, len);
        }
        prop_assert!(read.len() <= BOUND);
        prop_assert_eq!(driver.memory.refused.get(), 0, "it looks before it touches");
    }
}
