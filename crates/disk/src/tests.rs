//! The loop, with real rings in this process's memory and a disk that is plain bytes.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    vec,
    vec::Vec,
};

use mmio::{OutOfRange, RecordConsumer, RecordProducer, RecordRing, Window};
use proptest::prelude::*;
use proto::block::{Completion, Geometry, MOST, Operation, RING_BYTES, Request, Status};

use crate::{BUFFER, Disk, Driver, Fault, Transfer};

const SECTORS: u64 = 300;

/// What has been done, and what is on the medium.
#[derive(Default)]
struct Medium {
    bytes: Vec<u8>,
    log: Vec<Operation>,
    flushes: u32,
    /// The next operation has this end.
    fault: Option<Fault>,
    /// The process dies when the next operation is done, before it is answered.
    dies: bool,
}

struct Bytes(Rc<RefCell<Medium>>, Window);

impl Bytes {
    fn end(&self) -> Result<(), Fault> {
        let mut medium = self.0.borrow_mut();
        let (fault, dies) = (medium.fault.take(), std::mem::take(&mut medium.dies));
        drop(medium);
        assert!(!dies, "dies");
        fault.map_or(Ok(()), Err)
    }
}

impl Bytes {
    fn transfer(&mut self, way: Transfer, sector: u64, sectors: u32) -> Result<(), Fault> {
        if sector.checked_add(sectors.into()).is_none_or(|end| end > SECTORS) {
            return Err(Fault::Disk);
        }
        let mut medium = self.0.borrow_mut();
        let bytes = sector as usize * 512..(sector as usize + sectors as usize) * 512;
        match way {
            Transfer::Read => {
                medium.log.push(Operation::Read { sector, sectors });
                self.1.write(BUFFER, &medium.bytes[bytes])?;
            }
            Transfer::Write => {
                medium.log.push(Operation::Write { sector, sectors });
                self.1.read(BUFFER, &mut medium.bytes[bytes])?;
            }
        }
        drop(medium);
        self.end()
    }

    fn buffer(&self, sectors: u32) -> Result<Window, OutOfRange> {
        self.1.part(BUFFER, u64::from(sectors) * 512)
    }
}

impl Disk for Bytes {
    fn sectors(&self) -> u64 {
        SECTORS
    }
    fn read(
        &mut self,
        sector: u64,
        sectors: u32,
        mut take: impl FnMut(Window) -> Result<(), OutOfRange>,
    ) -> Result<(), Fault> {
        self.transfer(Transfer::Read, sector, sectors)?;
        Ok(take(self.buffer(sectors)?)?)
    }
    fn write(
        &mut self,
        sector: u64,
        sectors: u32,
        mut give: impl FnMut(Window) -> Result<(), OutOfRange>,
    ) -> Result<(), Fault> {
        give(self.buffer(sectors)?)?;
        self.transfer(Transfer::Write, sector, sectors)
    }
    fn flush(&mut self) -> Result<(), Fault> {
        self.0.borrow_mut().log.push(Operation::Flush);
        self.0.borrow_mut().flushes += 1;
        self.end()
    }
    fn stray(&mut self) {}
}

/// A driver, and block-server's ends of its rings.
struct Bench {
    driver: Driver<Bytes>,
    medium: Rc<RefCell<Medium>>,
    requests: RecordProducer,
    completions: RecordConsumer,
    /// Of requests and completions; the driver's, with what is behind it.
    rings: [Window; 2],
    memory: Window,
    signals: u32,
}

const MEMORY: u64 = BUFFER + (MOST as u64) * 512;
const GUARD: u64 = 512;

fn window(len: u64) -> Window {
    Window::leak(vec![0; len as usize].leak())
}

impl Bench {
    fn with(ring: u64, has_disk: bool) -> Self {
        let rings = [window(ring), window(ring)];
        let outer = window(MEMORY + GUARD);
        outer.fill(MEMORY, GUARD, 0xa5).unwrap();
        let memory = outer.part(0, MEMORY).unwrap();
        let medium = Rc::new(RefCell::new(Medium {
            bytes: (0..SECTORS * 512).map(|at| (at / 512) as u8).collect(),
            ..Medium::default()
        }));
        let [requests, completions] = rings.map(|ring| RecordRing::new(ring).unwrap());
        let disk = has_disk.then(|| Bytes(medium.clone(), memory));
        let driver = Driver::new(disk, requests.consumer(), completions.producer());
        let (requests, completions) = (requests.producer(), completions.consumer());
        Self { driver, medium, requests, completions, rings, memory: outer, signals: 0 }
    }

    fn new() -> Self {
        Self::with(RING_BYTES, true)
    }

    fn step(&mut self) {
        self.driver.step(|| self.signals += 1);
    }

    fn send(&mut self, tag: u64, operation: Operation, data: &[u8]) {
        let mut record = self.requests.reserve((Request::BYTES + data.len()) as u32).unwrap();
        record.write(&Request { tag, operation }.bytes()).unwrap();
        record.write(data).unwrap();
        record.publish();
    }

    fn receive(&mut self) -> Option<(u64, Status, Vec<u8>)> {
        let record = self.completions.peek().unwrap()?;
        let (mut head, mut data) = ([0; Completion::BYTES], vec![0; record.len() as usize - Completion::BYTES]);
        record.read(0, &mut head).unwrap();
        record.read(Completion::BYTES as u32, &mut data).unwrap();
        record.release();
        let Completion { tag, status } = Completion::of(&head);
        Some((tag, status, data))
    }

    fn ask(&mut self, operation: Operation, data: &[u8]) -> (Status, Vec<u8>) {
        self.send(7, operation, data);
        self.step();
        let (tag, status, data) = self.receive().expect("an answer");
        assert_eq!((tag, self.receive()), (7, None));
        (status, data)
    }
}

const READ: Operation = Operation::Read { sector: 5, sectors: 2 };
const WRITE: Operation = Operation::Write { sector: 5, sectors: 2 };

#[test]
fn requests_are_carried_out_in_their_order() {
    let mut bench = Bench::new();
    bench.send(1, Operation::Hello, &[]);
    bench.send(2, READ, &[]);
    bench.send(3, WRITE, &[9; 1024]);
    bench.send(4, Operation::Flush, &[]);
    bench.send(5, READ, &[]);
    bench.step();
    let shape = Geometry { sectors: SECTORS, read_only: false }.bytes().to_vec();
    assert_eq!(bench.receive(), Some((1, Status::Done, shape)));
    assert_eq!(bench.receive(), Some((2, Status::Done, [[5; 512], [6; 512]].concat())));
    assert_eq!(bench.receive(), Some((3, Status::Done, vec![])));
    assert_eq!(bench.receive(), Some((4, Status::Done, vec![])));
    assert_eq!(bench.receive(), Some((5, Status::Done, vec![9; 1024])));
    assert_eq!(bench.medium.borrow().log, [READ, WRITE, Operation::Flush, READ]);
    let last = Operation::Read { sector: SECTORS - u64::from(MOST), sectors: MOST };
    assert_eq!(bench.ask(last, &[]).1, bench.medium.borrow().bytes[(SECTORS as usize - MOST as usize) * 512..]);
}

#[test]
fn a_fault_is_that_request_s_and_brings_no_data() {
    let mut bench = Bench::new();
    for operation in [READ, Operation::Flush, WRITE] {
        let data = if operation == WRITE { &[1; 1024][..] } else { &[] };
        bench.medium.borrow_mut().fault = Some(Fault::Disk);
        assert_eq!(bench.ask(operation, data), (Status::Failed, vec![]));
        assert_eq!(bench.ask(operation, data).0, Status::Done);
    }
    for sector in [SECTORS, SECTORS - 1, 1 << 32, 1 << 63, u64::MAX] {
        assert_eq!(bench.ask(Operation::Read { sector, sectors: 2 }, &[]), (Status::Failed, vec![]));
    }
}

#[test]
fn without_a_disk_every_request_fails() {
    let mut bench = Bench::with(RING_BYTES, false);
    for operation in [Operation::Hello, READ, Operation::Flush] {
        assert_eq!(bench.ask(operation, &[]), (Status::Failed, vec![]));
    }
    assert_eq!(bench.ask(WRITE, &[1; 1024]), (Status::Failed, vec![]));
}

#[test]
fn what_is_no_request_is_dropped() {
    let mut bench = Bench::new();
    for len in [0, 1, Request::BYTES - 1] {
        let mut record = bench.requests.reserve(64).unwrap();
        record.write(&vec![1; len]).unwrap();
        record.publish();
    }
    bench.send(1, Operation::Read { sector: 0, sectors: MOST + 1 }, &[]);
    bench.send(2, Operation::Read { sector: 0, sectors: 0 }, &[]);
    bench.send(3, WRITE, &[0; 1023]);
    bench.send(4, Operation::Flush, &[0]);
    bench.send(5, READ, &[]);
    bench.step();
    assert_eq!(bench.receive().map(|(tag, ..)| tag), Some(5));
    assert_eq!((bench.receive(), bench.medium.borrow().log.len()), (None, 1));
}

#[test]
fn without_room_for_its_answer_a_request_waits() {
    // Room for three answers of a sector each.
    let mut bench = Bench::with(128 + 2048, true);
    for tag in 0..8 {
        bench.send(tag, Operation::Read { sector: tag, sectors: 1 }, &[]);
    }
    bench.step();
    assert_eq!(bench.medium.borrow().log.len(), 3, "no request is carried out whose answer has no room");
    for tag in 0..8 {
        assert_eq!(bench.receive().unwrap(), (tag, Status::Done, vec![tag as u8; 512]));
        bench.completions.must_signal();
        bench.step();
    }
    assert_eq!(bench.receive(), None);
    // One that never has room ends nothing, and hangs nothing.
    bench.send(9, Operation::Read { sector: 0, sectors: 8 }, &[]);
    bench.step();
    assert_eq!(bench.receive(), None);
}

#[test]
fn block_server_is_signalled_when_it_waits() {
    let mut bench = Bench::new();
    bench.step();
    assert_eq!(bench.signals, 1, "of an end that begins");
    assert!(!bench.completions.park());
    bench.send(1, READ, &[]);
    assert!(bench.requests.must_signal(), "the driver waits");
    bench.send(2, READ, &[]);
    bench.step();
    assert_eq!(bench.signals, 2, "block-server has not said that it waits again");
    bench.step();
    assert_eq!(bench.signals, 2);
}

#[test]
fn who_begins_again_repeats_what_was_not_answered() {
    let mut bench = Bench::new();
    bench.send(1, READ, &[]);
    bench.send(2, WRITE, &[8; 1024]);
    bench.send(3, READ, &[]);
    bench.medium.borrow_mut().dies = true;
    for _ in 0..2 {
        let died = catch_unwind(AssertUnwindSafe(|| bench.step()));
        assert!(died.is_err());
        let [requests, completions] = bench.rings.map(|ring| RecordRing::new(ring).unwrap());
        let memory = bench.memory.part(0, MEMORY).unwrap();
        let disk = Bytes(bench.medium.clone(), memory);
        bench.driver = Driver::new(Some(disk), requests.consumer(), completions.producer());
        // The second life dies at the same request.
        let again = bench.medium.borrow().log.len() == 1;
        bench.medium.borrow_mut().dies = again;
        assert_eq!(bench.receive(), None);
    }
    bench.step();
    let tags: Vec<_> = std::iter::from_fn(|| bench.receive()).map(|(tag, status, _)| (tag, status)).collect();
    assert_eq!(tags, [(1, Status::Done), (2, Status::Done), (3, Status::Done)]);
    assert_eq!(bench.medium.borrow().log, [READ, READ, READ, WRITE, READ]);
}

#[test]
fn a_broken_ring_is_left_alone() {
    for ring in 0..2 {
        let mut bench = Bench::new();
        bench.send(1, READ, &[]);
        bench.rings[ring].write_u32(if ring == 0 { 0 } else { 64 }, 0x8000_0004).unwrap();
        bench.step();
        bench.step();
        assert_eq!(bench.medium.borrow().log, [], "ring {ring}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Whatever is in the rings, each step ends, and nothing is written outside the memory.
    #[test]
    fn a_hostile_block_server_reaches_the_memory_only(
        records in prop::collection::vec((0..5u32, any::<u64>(), 0..400u64, 0..140u32, 0..3000usize), 0..12),
        lies in prop::collection::vec((0..2usize, prop::sample::select(vec![0u64, 4, 64, 68, 128]), any::<u32>()), 0..4),
    ) {
        let mut bench = Bench::with(16 << 10, true);
        for (kind, tag, sector, sectors, data) in records {
            let mut bytes = Request { tag, operation: Operation::Read { sector, sectors } }.bytes();
            bytes[8..12].copy_from_slice(&kind.to_le_bytes());
            if let Ok(mut record) = bench.requests.reserve((Request::BYTES + data) as u32) {
                record.write(&bytes).unwrap();
                record.write(&vec![0x77; data]).unwrap();
                record.publish();
            }
            bench.step();
            while bench.receive().is_some() {}
        }
        for (ring, at, value) in lies {
            bench.rings[ring].write_u32(at, value).unwrap();
            bench.step();
        }
        let mut guard = [0; GUARD as usize];
        bench.memory.read(MEMORY, &mut guard).unwrap();
        prop_assert_eq!(guard, [0xa5; GUARD as usize]);
    }
}
