//! The split virtqueue: requests that are served, violations, and notifications.

use super::{
    driver::{DATA, INDIRECT, LEN, NEXT, RAM, WRITE, write_descriptor},
    *,
};
use crate::virtio::{
    chain::Chain,
    queue::{Places, Queue},
};

const INDIRECT_DESC: u32 = 1 << 28;
const EVENT_IDX: u32 = 1 << 29;

/// The text "abc" in two buffers, and room for the answer in two more.
fn request(driver: &Driver<Echo>, ring: &Ring) {
    let memory = &driver.memory;
    memory.write(DATA, b"ab").unwrap();
    memory.write(DATA + 0x100, b"c").unwrap();
    ring.descriptor(memory, 0, DATA, 2, NEXT, 3);
    ring.descriptor(memory, 3, DATA + 0x100, 1, NEXT, 5);
    ring.descriptor(memory, 5, DATA + 0x200, 1, NEXT | WRITE, 1);
    ring.descriptor(memory, 1, DATA + 0x300, 9, WRITE, 0);
}

#[test]
fn a_request_is_read_and_answered_across_its_buffers() {
    let ring = Ring::new(8);
    let mut driver = Driver::modern(Echo::default(), &ring, 0);
    request(&driver, &ring);
    ring.offer(&driver.memory, 0, 0);
    assert_eq!(driver.kick(), Effect::LINES);
    assert_eq!(ring.used(&driver.memory), (1, 0, 3));
    assert_eq!(&driver.memory.bytes(DATA + 0x200), b"c");
    assert_eq!(&driver.memory.bytes(DATA + 0x300), b"ba\0");
    assert!(driver.function.irq());
    assert_eq!(driver.isr(), 1);
    assert!(!driver.function.irq(), "reading it takes the interrupt away");
    assert_eq!(driver.isr(), 0);
}

#[test]
fn every_descriptor_is_fetched_once() {
    let ring = Ring::new(8);
    let mut driver = Driver::modern(Echo::default(), &ring, 0);
    request(&driver, &ring);
    ring.offer(&driver.memory, 0, 0);
    driver.memory.forget();
    let _ = driver.kick();
    let reads = driver.memory.reads.borrow();
    for n in [0, 3, 5, 1u64] {
        let at = RING + 16 * n;
        let touched = reads.iter().filter(|&&(gpa, len)| gpa < at + 16 && at < gpa + len);
        assert_eq!(touched.collect::<Vec<_>>(), [&(at, 16)], "descriptor {n}");
    }
}

#[test]
fn indices_run_on_and_wrap() {
    let ring = Ring::new(4);
    let mut driver = Driver::modern(Echo::default(), &ring, 0);
    let memory = &driver.memory;
    for n in 0..4 {
        ring.descriptor(memory, n, DATA, 1, 0, 0);
    }
    for n in 0..=u16::MAX {
        ring.offer(&driver.memory, n, n % 4);
        let _ = driver.kick();
        assert_eq!(ring.used(&driver.memory), (n.wrapping_add(1), u32::from(n % 4), 0));
    }
    ring.offer(&driver.memory, 0, 2);
    let _ = driver.kick();
    assert_eq!(ring.used(&driver.memory), (1, 2, 0));
}

#[test]
fn an_indirect_table_has_the_buffers() {
    let ring = Ring::new(8);
    let mut driver = Driver::modern(Echo::default(), &ring, INDIRECT_DESC);
    let memory = &driver.memory;
    let table = DATA + 0x1000;
    memory.write(DATA, b"xyz").unwrap();
    write_descriptor(memory, table, 0, DATA, 3, NEXT, 2);
    write_descriptor(memory, table, 2, DATA + 0x100, 3, WRITE, 0);
    ring.descriptor(memory, 6, table, 48, INDIRECT | WRITE, 0);
    ring.offer(memory, 0, 6);
    let _ = driver.kick();
    assert_eq!(ring.used(&driver.memory), (1, 6, 3));
    assert_eq!(&driver.memory.bytes(DATA + 0x100), b"zyx");
}

/// What an untidy driver does to its ring, and what that is.
fn breaks(features: u32, broken: Broken, set: impl Fn(&Fake, &Ring)) {
    let ring = Ring::new(8);
    let mut driver = Driver::modern(Echo::default(), &ring, features);
    request(&driver, &ring);
    ring.offer(&driver.memory, 0, 0);
    set(&driver.memory, &ring);
    assert_eq!(driver.kick(), Effect::LINES | Effect::OUTPUT, "{broken:?}");
    assert_eq!(driver.function.take_fault(), Some(Fault { queue: 0, broken }));
    assert_eq!(driver.status(), 0x4f, "DEVICE_NEEDS_RESET");
    assert_eq!(driver.isr(), 2, "a change of the configuration");
    assert_eq!(ring.used(&driver.memory).0, 0);

    // Nothing is served until the driver resets the device; then all is well.
    request(&driver, &ring);
    ring.offer(&driver.memory, 0, 0);
    assert_eq!(driver.kick(), Effect::QUIET);
    driver.set_status(0x0f);
    assert_eq!(driver.status(), 0x4f, "it is not the driver's to clear");
    driver.initialise(features);
    driver.set_up(0, &ring);
    driver.set_status(0x0f);
    assert_eq!(ring.used(&driver.memory), (1, 0, 3), "{broken:?}");
    assert_eq!((driver.status(), driver.function.take_fault()), (0x0f, None));
}

#[test]
fn each_violation_breaks_the_queue_and_a_reset_mends_it() {
    let end = RAM + LEN as u64;
    breaks(0, Broken::Available, |memory, ring| memory.write_u16(ring.available + 2, 9).unwrap());
    breaks(0, Broken::Available, |memory, ring| memory.write_u16(ring.available + 2, u16::MAX).unwrap());
    breaks(0, Broken::Head, |memory, ring| ring.offer(memory, 0, 8));
    breaks(0, Broken::Next, |memory, ring| ring.descriptor(memory, 3, DATA, 1, NEXT, 8));
    breaks(0, Broken::Chain, |memory, ring| ring.descriptor(memory, 3, DATA, 1, NEXT, 3));
    breaks(0, Broken::Chain, |memory, ring| ring.descriptor(memory, 1, DATA, 1, NEXT | WRITE, 5));
    breaks(0, Broken::Order, |memory, ring| ring.descriptor(memory, 1, DATA, 1, 0, 0));
    breaks(0, Broken::Buffer, |memory, ring| ring.descriptor(memory, 0, end - 1, 2, NEXT, 3));
    breaks(0, Broken::Buffer, |memory, ring| ring.descriptor(memory, 0, RAM - 1, 2, NEXT, 3));
    breaks(0, Broken::Buffer, |memory, ring| ring.descriptor(memory, 0, u64::MAX, 2, NEXT, 3));
    breaks(0, Broken::Buffer, |memory, ring| ring.descriptor(memory, 0, DATA, u32::MAX, NEXT, 3));
}

#[test]
fn an_indirect_table_is_judged_as_strictly() {
    let end = RAM + LEN as u64;
    let refer = |gpa, len, flags| move |memory: &Fake, ring: &Ring| ring.descriptor(memory, 0, gpa, len, flags, 1);
    breaks(0, Broken::Indirect, refer(DATA, 16, INDIRECT));
    breaks(INDIRECT_DESC, Broken::Indirect, refer(DATA, 16, INDIRECT | NEXT));
    breaks(INDIRECT_DESC, Broken::Indirect, refer(DATA, 0, INDIRECT));
    breaks(INDIRECT_DESC, Broken::Indirect, refer(DATA, 24, INDIRECT));
    breaks(INDIRECT_DESC, Broken::Buffer, refer(end - 16, 32, INDIRECT));
    let nested = |flags, next| {
        move |memory: &Fake, ring: &Ring| {
            write_descriptor(memory, DATA, 0, DATA + 0x100, 16, flags, next);
            ring.descriptor(memory, 0, DATA, 32, INDIRECT, 0);
        }
    };
    breaks(INDIRECT_DESC, Broken::Indirect, nested(INDIRECT, 0));
    breaks(INDIRECT_DESC, Broken::Next, nested(NEXT, 2));
    breaks(INDIRECT_DESC, Broken::Chain, nested(NEXT, 0));
}

#[test]
fn a_chain_is_as_long_as_the_queue_at_most() {
    for (count, served) in [(8, true), (9, false)] {
        let ring = Ring::new(8);
        let mut driver = Driver::modern(Echo::default(), &ring, INDIRECT_DESC);
        for n in 0..count {
            let flags = if n + 1 < count { NEXT } else { 0 };
            write_descriptor(&driver.memory, DATA, n, DATA + 0x1000, 1, flags, n + 1);
        }
        ring.descriptor(&driver.memory, 0, DATA, 16 * u32::from(count), INDIRECT, 0);
        ring.offer(&driver.memory, 0, 0);
        let _ = driver.kick();
        assert_eq!(ring.used(&driver.memory).0, u16::from(served), "{count}");
        assert_eq!(driver.function.take_fault().map(|fault| fault.broken), (!served).then_some(Broken::Chain));
    }
}

#[test]
fn buffers_of_4_gib_break_it() {
    let ring = Ring::new(8);
    let mut queue = Queue::new(8);
    /// All of it is RAM; what is read of it is a descriptor of 2 GiB that goes on with itself.
    struct Endless;
    impl GuestMemory for Endless {
        fn has(&self, _: u64, _: u64) -> bool {
            true
        }
        fn read(&self, _: u64, into: &mut [u8]) -> Result<(), crate::NotRam> {
            let descriptor = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0, 0, 0];
            into.copy_from_slice(if into.len() == 16 { &descriptor } else { &[1, 0] });
            Ok(())
        }
        fn write(&self, _: u64, _: &[u8]) -> Result<(), crate::NotRam> {
            Ok(())
        }
    }
    queue.places = Places { table: ring.table, available: ring.available, used: ring.used };
    queue.enable(&Endless).unwrap();
    assert_eq!(queue.fetch(&Endless, &mut Chain::default()).err(), Some(Broken::Length));
}

#[test]
fn a_ring_must_be_there_and_aligned_when_it_is_enabled() {
    let good = Ring::new(8);
    let end = RAM + LEN as u64;
    let rings = [
        Ring { table: good.table + 8, ..Ring::new(8) },
        Ring { available: good.available + 1, ..Ring::new(8) },
        Ring { used: good.used + 2, ..Ring::new(8) },
        Ring { table: end - 112, ..Ring::new(8) },
        Ring { available: end - 16, ..Ring::new(8) },
        Ring { used: end - 68, ..Ring::new(8) },
        Ring { table: RAM - 16, ..Ring::new(8) },
        Ring { used: 0xffff_ffff_ffff_fffc, ..Ring::new(8) },
    ];
    let sizes = [0, 3, 7, 12, 16, 32768, 65535].map(|size| Ring { size, ..Ring::new(8) });
    for (ring, broken) in
        rings.iter().map(|ring| (ring, Broken::Ring)).chain(sizes.iter().map(|ring| (ring, Broken::Size)))
    {
        let mut driver = Driver::new(Echo::default());
        driver.initialise(0);
        driver.set_up(0, ring);
        assert_eq!(driver.function.take_fault(), Some(Fault { queue: 0, broken }));
        assert_eq!(driver.status(), 0x4b);
        driver.set_status(0x0f);
        assert_eq!(driver.kick(), Effect::QUIET);
    }
}

#[test]
fn the_driver_says_whether_it_wants_interrupts() {
    let ring = Ring::new(8);
    let mut driver = Driver::modern(Echo::default(), &ring, 0);
    request(&driver, &ring);
    driver.memory.write_u16(ring.available, 1).unwrap();
    ring.offer(&driver.memory, 0, 0);
    assert_eq!(driver.kick(), Effect::QUIET);
    assert_eq!(ring.used(&driver.memory).0, 1, "served all the same");
    driver.memory.write_u16(ring.available, 0).unwrap();
    ring.offer(&driver.memory, 1, 0);
    assert_eq!(driver.kick(), Effect::LINES);
}

#[test]
fn event_indices_say_when_either_side_wants_to_know() {
    let ring = Ring::new(8);
    let mut driver = Driver::modern(Echo::default(), &ring, EVENT_IDX);
    request(&driver, &ring);
    let event = |driver: &Driver<Echo>, index| driver.memory.write_u16(ring.used_event(), index).unwrap();
    let mut n = 0;
    let mut offer = |driver: &mut Driver<Echo>, count| {
        for _ in 0..count {
            ring.offer(&driver.memory, n, 0);
            n += 1;
        }
        driver.kick()
    };
    event(&driver, 0);
    assert_eq!(offer(&mut driver, 1), Effect::LINES, "entry 0 is used");
    driver.isr();
    assert_eq!(driver.memory.read_u16(ring.available_event()), Ok(1), "notify of the next");
    event(&driver, 3);
    assert_eq!(offer(&mut driver, 2), Effect::QUIET, "entries 1 and 2");
    assert_eq!(offer(&mut driver, 4), Effect::LINES, "entries 3 to 6");
    driver.isr();
    assert_eq!(offer(&mut driver, 1), Effect::QUIET, "it has not asked again");
    assert_eq!(driver.memory.read_u16(ring.available_event()), Ok(8));
    driver.memory.write_u16(ring.available, 1).unwrap();
    event(&driver, 8);
    assert_eq!(offer(&mut driver, 1), Effect::LINES, "the flag does not count then");
}

#[test]
fn what_has_no_answer_yet_stays_the_next_request() {
    let ring = Ring::new(8);
    let mut driver = Driver::modern(Echo::default(), &ring, 0);
    driver.function.device().stuck = true;
    request(&driver, &ring);
    ring.offer(&driver.memory, 0, 0);
    assert_eq!(driver.kick(), Effect::OUTPUT);
    assert_eq!(driver.function.poll(&driver.memory), Effect::OUTPUT);
    assert_eq!(ring.used(&driver.memory).0, 0);
    driver.function.device().stuck = false;
    assert_eq!(driver.function.poll(&driver.memory), Effect::LINES);
    assert_eq!(ring.used(&driver.memory), (1, 0, 3));
}

#[test]
fn one_turn_serves_what_the_ring_holds() {
    let ring = Ring::new(8);
    let mut driver = Driver::modern(Echo::default(), &ring, 0);
    request(&driver, &ring);
    for n in 0..8 {
        ring.offer(&driver.memory, n, 0);
    }
    assert_eq!(driver.kick(), Effect::LINES);
    assert_eq!(ring.used(&driver.memory).0, 8);
}

#[test]
fn each_queue_is_its_own() {
    let (first, second) = (Ring::new(8), Ring::at(RAM + 0x4000, 16));
    let mut driver = Driver::new(Echo::default());
    driver.initialise(0);
    driver.set_up(0, &first);
    driver.set_up(1, &second);
    driver.set_status(0x0f);
    driver.memory.write(DATA, b"hello").unwrap();
    second.descriptor(&driver.memory, 15, DATA, 5, NEXT, 14);
    second.descriptor(&driver.memory, 14, DATA + 0x100, 5, WRITE, 0);
    second.offer(&driver.memory, 0, 15);
    assert_eq!(driver.kick(), Effect::QUIET, "queue 0 has nothing");
    assert_eq!(driver.function.write(4, 0x3004, Width::Word, 1, &driver.memory), Effect::LINES);
    assert_eq!(second.used(&driver.memory), (1, 15, 5));
    for beyond in [0x3008, 0x3ffe] {
        assert_eq!(driver.function.write(4, beyond, Width::Word, 2, &driver.memory), Effect::QUIET);
    }
    assert_eq!(first.used(&driver.memory).0, 0);
}
