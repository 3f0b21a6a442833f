//! Clients, the server and a driver, by real rings in this process's memory.

use std::collections::VecDeque;

use block_server::Server;
use layout::{Slot, config::BlockRings, event};
use mmio::{Mended, RecordConsumer, RecordProducer, RecordRing, Window};
use proptest::prelude::*;
use proto::block::{
    Completion, Config, Disk, Export, Geometry, MOST, Operation, Part, RING_BYTES, Request, SECTOR, Status,
};

/// Sectors of the disk.
const SECTORS: u64 = 400;
/// Partitions 1 to 3: first sector, sectors.
const PARTITIONS: [(u64, u64); 3] = [(10, 100), (110, 200), (390, 11)];

/// The disk and its driver.
struct Driver {
    bytes: Vec<u8>,
    requests: RecordConsumer,
    completions: RecordProducer,
    sectors: u64,
    /// Operations so far, except greetings.
    log: Vec<Operation>,
    /// All operations fail.
    fails: bool,
}

impl Driver {
    /// Another process takes over, with the same disk.
    fn begin_anew(&mut self, memory: &[Window]) {
        let ring = |n: usize| RecordRing::new(memory[n]).unwrap();
        (self.requests, self.completions) = (ring(0).consumer(), ring(1).producer());
    }

    fn serve(&mut self) {
        if self.requests.mend().max(self.completions.mend()) == Mended::Broken {
            return;
        }
        loop {
            let mut bytes = [0; Request::BYTES];
            let Some(record) = self.requests.peek().unwrap() else { break };
            record.read(0, &mut bytes).unwrap();
            let data = record.len() - bytes.len() as u32;
            let request = Request::of(&bytes, data).expect("the server sends requests");
            let mut written = vec![0; data as usize];
            record.read(bytes.len() as u32, &mut written).unwrap();
            record.release();
            let mut answer = Vec::new();
            match request.operation {
                Operation::Hello => answer.extend(Geometry { sectors: self.sectors, read_only: false }.bytes()),
                Operation::Read { sector, sectors } => answer.extend(&self.bytes[range(sector, sectors)]),
                Operation::Write { sector, sectors } if !self.fails => {
                    self.bytes[range(sector, sectors)].copy_from_slice(&written);
                }
                Operation::Write { .. } | Operation::Flush => {}
            }
            let fails = self.fails && request.operation != Operation::Hello;
            let status = if fails { Status::Failed } else { Status::Done };
            let mut record = self.completions.reserve(Completion::BYTES as u32 + answer.len() as u32).unwrap();
            record.write(&Completion { tag: request.tag, status }.bytes()).unwrap();
            if !fails {
                record.write(&answer).unwrap();
            }
            record.publish();
            if request.operation != Operation::Hello {
                self.log.push(request.operation);
            }
        }
    }
}

fn range(sector: u64, sectors: u32) -> std::ops::Range<usize> {
    let first = sector as usize * 512;
    first..first + sectors as usize * 512
}

/// A client's end.
struct Client {
    requests: RecordProducer,
    completions: RecordConsumer,
}

impl Client {
    fn send(&mut self, tag: u64, operation: Operation, data: &[u8]) -> bool {
        let bytes = Request { tag, operation }.bytes();
        let Ok(mut record) = self.requests.reserve((bytes.len() + data.len()) as u32) else { return false };
        record.write(&bytes).unwrap();
        record.write(data).unwrap();
        record.publish();
        true
    }

    fn receive(&mut self) -> Option<(u64, Status, Vec<u8>)> {
        let record = self.completions.peek().unwrap()?;
        let mut bytes = vec![0; record.len() as usize];
        record.read(0, &mut bytes).unwrap();
        record.release();
        let (head, data) = bytes.split_at(Completion::BYTES);
        let Completion { tag, status } = Completion::of(head.try_into().unwrap());
        Some((tag, status, data.to_vec()))
    }
}

struct Bench {
    server: Server,
    driver: Driver,
    clients: Vec<Client>,
    signals: Vec<Slot>,
    memory: Vec<Window>,
}

impl Bench {
    /// A disk with these clients.
    fn new(parts: &[(Part, bool)]) -> Self {
        let mut memory = Vec::new();
        let mut rings = || {
            let mut window = || {
                memory.push(Window::leak(vec![0; RING_BYTES as usize].leak()));
                layout::config::Window { at: memory.len() as u64 - 1, len: RING_BYTES }
            };
            BlockRings { requests: window(), completions: window() }
        };
        let disks = [Disk { name: "main".try_into().unwrap(), rings: rings(), signal: Slot(100) }];
        let exports = parts.iter().zip(0..).map(|(&(part, read_only), n)| {
            let client = format!("vm{n}").as_str().try_into().unwrap();
            Export { client, disk: 0, part, read_only, rings: rings(), signal: Slot(n) }
        });
        let exports = exports.collect();
        let config = Config { disks: disks.into_iter().collect(), exports };
        let server = Server::new(&config, |window| memory[window.at as usize]).unwrap();
        let ring = |n: usize| RecordRing::new(memory[n]).unwrap();
        let mut bytes: Vec<u8> = (0..SECTORS * 512).map(|at| (at / 512 + at % 5) as u8).collect();
        bytes[..512].fill(0);
        for (n, (first, sectors)) in PARTITIONS.into_iter().enumerate() {
            let entry = 446 + 16 * n;
            bytes[entry + 4] = 0x83;
            bytes[entry + 8..entry + 12].copy_from_slice(&(first as u32).to_le_bytes());
            bytes[entry + 12..entry + 16].copy_from_slice(&(sectors as u32).to_le_bytes());
        }
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        let (requests, completions) = (ring(0).consumer(), ring(1).producer());
        let driver = Driver { bytes, requests, completions, sectors: SECTORS, log: vec![], fails: false };
        let client = |n| Client { requests: ring(2 + 2 * n).producer(), completions: ring(3 + 2 * n).consumer() };
        let clients = (0..parts.len()).map(client).collect();
        Self { server, driver, clients, signals: vec![], memory }
    }

    /// One with the disk's table read.
    fn ready(parts: &[(Part, bool)]) -> Self {
        let mut bench = Self::new(parts);
        bench.settle();
        bench.driver.log.clear();
        bench
    }

    fn step(&mut self) {
        self.server.step(|slot| self.signals.push(slot));
    }

    /// Lets server and driver do all that there is.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.step();
            self.driver.serve();
        }
        self.step();
    }

    /// Has an operation done; returns its end.
    fn ask(&mut self, client: usize, operation: Operation, data: &[u8]) -> (Status, Vec<u8>) {
        assert!(self.clients[client].send(7, operation, data));
        self.settle();
        let (tag, status, data) = self.clients[client].receive().expect("an end");
        assert_eq!((tag, self.clients[client].receive()), (7, None));
        (status, data)
    }

    /// Takes all completions that there are; whether each is one that is expected, which then is no longer.
    fn ends_are(&mut self, expected: &mut [VecDeque<(u64, Status, Vec<u8>)>; 2]) -> bool {
        self.clients.iter_mut().zip(expected).all(|(client, expected)| {
            std::iter::from_fn(|| client.receive()).all(|end| {
                let at = expected.iter().position(|(tag, ..)| *tag == end.0);
                at.and_then(|at| expected.remove(at)) == Some(end)
            })
        })
    }

    fn read(&mut self, client: usize, sector: u64, sectors: u32) -> (Status, Vec<u8>) {
        self.ask(client, Operation::Read { sector, sectors }, &[])
    }

    fn write(&mut self, client: usize, sector: u64, byte: u8, sectors: u32) -> Status {
        let data = vec![byte; (sectors * SECTOR) as usize];
        self.ask(client, Operation::Write { sector, sectors }, &data).0
    }
}

const FIRST: (Part, bool) = (Part::Partition(1), false);
const SECOND: (Part, bool) = (Part::Partition(2), false);

#[test]
fn a_partition_is_a_disk_of_its_own() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    let (status, shape) = bench.ask(0, Operation::Hello, &[]);
    assert_eq!(status, Status::Done);
    let shape = Geometry::of(shape.as_slice().try_into().unwrap());
    assert_eq!(shape, Geometry { sectors: 164, read_only: false });
    let (status, table) = bench.read(0, 0, 64);
    assert_eq!((status, table.len()), (Status::Done, 64 * 512));
    assert_eq!(table[446..462], [0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff, 64, 0, 0, 0, 100, 0, 0, 0]);
    assert_eq!(table[510..512], [0x55, 0xaa]);
    assert!(table[..446].iter().chain(&table[462..510]).chain(&table[512..]).all(|&byte| byte == 0));
    assert_eq!(bench.driver.log, [], "the disk has no part in it");
    assert_eq!(bench.read(0, 64, 100), (Status::Done, bench.driver.bytes[range(10, 100)].to_vec()));
    assert_eq!(bench.read(1, 263, 1), (Status::Done, bench.driver.bytes[range(309, 1)].to_vec()));
    assert_eq!(
        bench.driver.log,
        [Operation::Read { sector: 10, sectors: 100 }, Operation::Read { sector: 309, sectors: 1 }]
    );
}

#[test]
fn a_read_across_the_table_s_end_has_both() {
    let mut bench = Bench::ready(&[FIRST]);
    let (status, data) = bench.read(0, 0, 100);
    assert_eq!((status, data.len()), (Status::Done, 51_200));
    assert_eq!(data[510..512], [0x55, 0xaa]);
    assert!(data[512..64 * 512].iter().all(|&byte| byte == 0));
    assert_eq!(data[64 * 512..], bench.driver.bytes[range(10, 36)]);
    assert_eq!(bench.driver.log, [Operation::Read { sector: 10, sectors: 36 }]);
    let (status, data) = bench.read(0, 63, 2);
    assert_eq!((status, &data[512..]), (Status::Done, &bench.driver.bytes[range(10, 1)]));
}

#[test]
fn nothing_outside_is_read_or_written() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    let before = bench.driver.bytes.clone();
    for sector in [164, 165, 1 << 32, (1 << 32) + 64, 1 << 55, 1 << 63, u64::MAX - 63, u64::MAX] {
        assert_eq!(bench.read(0, sector, 1), (Status::Refused, vec![]), "{sector:#x}");
        assert_eq!(bench.write(0, sector, 1, 1), Status::Refused, "{sector:#x}");
    }
    for (sector, sectors) in [(163, 2), (64, 101), (u64::MAX, 128), (37, 128)] {
        assert_eq!(bench.read(0, sector, sectors).0, Status::Refused);
        assert_eq!(bench.write(0, sector, 1, sectors), Status::Refused);
    }
    // Nor the table.
    for (sector, sectors) in [(0, 1), (63, 1), (63, 2), (0, 100)] {
        assert_eq!(bench.write(0, sector, 1, sectors), Status::Refused, "{sector}");
    }
    assert_eq!((bench.driver.log.len(), &bench.driver.bytes), (0, &before));
    assert_eq!(bench.write(0, 163, 1, 1), Status::Done);
    assert_eq!(bench.driver.bytes[range(109, 1)], [1; 512]);
    assert_eq!(bench.driver.bytes[range(110, 290)], before[range(110, 290)]);
}

#[test]
fn writes_and_flushes_end_when_the_driver_says_so() {
    let mut bench = Bench::ready(&[FIRST]);
    bench.clients[0].send(1, Operation::Write { sector: 64, sectors: 1 }, &[9; 512]);
    bench.clients[0].send(2, Operation::Flush, &[]);
    bench.step();
    assert_eq!(bench.clients[0].receive(), None);
    bench.driver.serve();
    assert_eq!(bench.driver.log, [Operation::Write { sector: 10, sectors: 1 }, Operation::Flush]);
    bench.step();
    assert_eq!(bench.clients[0].receive(), Some((1, Status::Done, vec![])));
    assert_eq!(bench.clients[0].receive(), Some((2, Status::Done, vec![])));
}

#[test]
fn a_failure_is_that_request_s() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    bench.driver.fails = true;
    assert_eq!(bench.read(0, 64, 4), (Status::Failed, vec![]));
    assert_eq!(bench.write(0, 64, 1, 4), Status::Failed);
    assert_eq!(bench.ask(0, Operation::Flush, &[]).0, Status::Failed);
    bench.driver.fails = false;
    assert_eq!(bench.read(0, 64, 4).0, Status::Done);
    assert_eq!(bench.read(1, 64, 4).0, Status::Done);
}

#[test]
fn whole_disks_slices_and_read_only_ones() {
    let mut bench = Bench::ready(&[(Part::Whole, true), (Part::Slice { first: 5, sectors: 10 }, true)]);
    let (_, shape) = bench.ask(0, Operation::Hello, &[]);
    assert_eq!(Geometry::of(shape.as_slice().try_into().unwrap()), Geometry { sectors: SECTORS, read_only: true });
    assert_eq!(bench.read(0, 399, 1).1, bench.driver.bytes[range(399, 1)]);
    assert_eq!(bench.read(0, 399, 2).0, Status::Refused);
    assert_eq!(bench.write(0, 5, 1, 1), Status::Refused);
    assert_eq!(bench.read(1, 0, 10).1, bench.driver.bytes[range(5, 10)]);
    assert_eq!(bench.read(1, 10, 1).0, Status::Refused);
    assert_eq!(bench.write(1, 0, 1, 1), Status::Refused);
}

#[test]
fn who_has_no_part_is_told_so() {
    // Partition 3 ends behind the disk, 4 is empty, and the slice has a part that the first client may write.
    let parts = [
        FIRST,
        (Part::Partition(3), false),
        (Part::Partition(4), false),
        (Part::Slice { first: 109, sectors: 2 }, true),
    ];
    let mut bench = Bench::ready(&parts);
    for client in 1..4 {
        assert_eq!(bench.ask(client, Operation::Hello, &[]), (Status::Failed, vec![]), "{client}");
        assert_eq!(bench.read(client, 0, 1).0, Status::Refused);
    }
    assert_eq!(bench.ask(0, Operation::Hello, &[]).0, Status::Done);
}

#[test]
fn without_a_disk_every_request_ends() {
    let mut bench = Bench::new(&[FIRST]);
    bench.driver.sectors = 0;
    assert_eq!(bench.ask(0, Operation::Hello, &[]).0, Status::Failed);
    // A driver that breaks its ring.
    let mut bench = Bench::ready(&[FIRST]);
    bench.clients[0].send(1, Operation::Read { sector: 64, sectors: 1 }, &[]);
    bench.step();
    bench.memory[1].write_u32(0, 0xffff_fff0).unwrap();
    bench.step();
    assert_eq!(bench.clients[0].receive(), Some((1, Status::Failed, vec![])));
    bench.clients[0].send(2, Operation::Flush, &[]);
    bench.step();
    assert_eq!(bench.clients[0].receive(), Some((2, Status::Failed, vec![])));
}

/// What a process that breaks its rings may leave: at the index of which end, and what.
const LEFT: [(u64, u32); 4] = [(0, 0x8000_0000), (64, 0x8000_0000), (0, 3), (64, 7)];

#[test]
fn a_driver_that_begins_anew_after_it_has_broken_a_ring_serves_again() {
    for (at, left) in LEFT {
        for ring in 0..2 {
            let mut bench = Bench::ready(&[FIRST, SECOND]);
            bench.clients[0].send(1, Operation::Write { sector: 64, sectors: 1 }, &[1; 512]);
            bench.step();
            bench.memory[ring].write_u32(at, left).unwrap();
            bench.step();
            // It dies, and begins anew. What was under way has ended, in one way or the other.
            bench.driver.begin_anew(&bench.memory);
            bench.settle();
            let end = bench.clients[0].receive().expect("an end");
            assert!(end.0 == 1 && end.2.is_empty(), "{end:?}");
            for client in 0..2 {
                assert_eq!(bench.write(client, 64, 7, 2), Status::Done, "{at} {left:#x} of ring {ring}");
                assert_eq!(bench.read(client, 64, 2), (Status::Done, vec![7; 1024]));
            }
        }
    }
}

#[test]
fn a_client_that_begins_anew_after_it_has_broken_a_ring_is_served_again() {
    for (at, left) in LEFT {
        for ring in 2..4 {
            let mut bench = Bench::ready(&[FIRST, SECOND]);
            bench.clients[0].send(1, Operation::Read { sector: 64, sectors: 1 }, &[]);
            bench.step();
            bench.memory[ring].write_u32(at, left).unwrap();
            bench.settle();
            let ring = |n: usize| RecordRing::new(bench.memory[n]).unwrap();
            bench.clients[0] = Client { requests: ring(2).producer(), completions: ring(3).consumer() };
            bench.step();
            (bench.clients[0].requests.mend(), bench.clients[0].completions.mend());
            bench.settle();
            while bench.clients[0].receive().is_some() {}
            assert_eq!(bench.ask(0, Operation::Hello, &[]).0, Status::Done, "{at} {left:#x}");
            assert_eq!(bench.read(0, 64, 4).1, bench.driver.bytes[range(10, 4)]);
            assert_eq!(bench.read(1, 64, 4).1, bench.driver.bytes[range(110, 4)]);
        }
    }
}

#[test]
fn a_driver_that_finds_its_disk_at_last_is_asked_again() {
    let mut bench = Bench::new(&[FIRST]);
    bench.driver.sectors = 0;
    assert_eq!(bench.ask(0, Operation::Hello, &[]).0, Status::Failed);
    bench.driver.sectors = SECTORS;
    bench.driver.begin_anew(&bench.memory);
    assert_eq!(bench.ask(0, Operation::Hello, &[]).0, Status::Done);
    assert_eq!(bench.read(0, 64, 1).0, Status::Done);
}

#[test]
fn when_a_driver_has_ended_every_request_ends() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    bench.clients[0].send(1, Operation::Read { sector: 64, sectors: 1 }, &[]);
    bench.clients[1].send(2, Operation::Flush, &[]);
    bench.step();
    // Of another disk, which is not there.
    bench.server.end(event::ended(1));
    bench.step();
    assert_eq!(bench.clients[0].receive(), None);
    bench.server.end(event::ended(0));
    bench.step();
    assert_eq!(bench.clients[0].receive(), Some((1, Status::Failed, vec![])));
    assert_eq!(bench.clients[1].receive(), Some((2, Status::Failed, vec![])));
    bench.clients[1].send(3, Operation::Write { sector: 64, sectors: 1 }, &[1; 512]);
    bench.step();
    assert_eq!(bench.clients[1].receive(), Some((3, Status::Failed, vec![])));
    // A late answer of its is none.
    bench.driver.serve();
    bench.driver.begin_anew(&bench.memory);
    bench.settle();
    assert_eq!((bench.clients[0].receive(), bench.clients[1].receive()), (None, None));
}

#[test]
fn a_greeting_is_answered_after_all_before_it() {
    let mut bench = Bench::ready(&[FIRST]);
    bench.clients[0].send(1, Operation::Read { sector: 64, sectors: 1 }, &[]);
    bench.clients[0].send(2, Operation::Hello, &[]);
    bench.clients[0].send(3, Operation::Read { sector: 65, sectors: 1 }, &[]);
    bench.step();
    assert_eq!(bench.clients[0].receive(), None);
    bench.settle();
    let tags: Vec<u64> = std::iter::from_fn(|| bench.clients[0].receive()).map(|(tag, ..)| tag).collect();
    assert_eq!(tags, [1, 2, 3]);
}

#[test]
fn one_client_cannot_take_all() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    // The first sends as much as it can, and takes no completions.
    let mut sent = 0;
    for _ in 0..100 {
        while bench.clients[0].send(sent, Operation::Read { sector: 64, sectors: 100 }, &[]) {
            sent += 1;
            if sent > 5000 {
                break;
            }
        }
        bench.settle();
    }
    assert!(bench.driver.log.len() < 16, "its ring has room for {}", bench.driver.log.len());
    assert_eq!(bench.read(1, 64, 200).0, Status::Done);
    bench.driver.log.clear();
    // It takes what it has: everything ends.
    let mut ended = 0;
    while ended < sent {
        bench.settle();
        while let Some((tag, status, data)) = bench.clients[0].receive() {
            assert_eq!((tag, status, data.len()), (ended, Status::Done, 51_200));
            ended += 1;
        }
        if bench.driver.log.len() > 100 {
            break;
        }
    }
    // Turns: the second client's request is among the next of the first's.
    bench.driver.log.clear();
    bench.clients[1].send(1, Operation::Read { sector: 64, sectors: 1 }, &[]);
    bench.step();
    bench.driver.serve();
    assert!(bench.driver.log.iter().take(9).any(|done| matches!(done, Operation::Read { sector: 110, .. })));
}

#[test]
fn what_is_no_request_is_dropped_and_a_broken_ring_is_that_client_s() {
    let mut bench = Bench::ready(&[FIRST, SECOND]);
    for len in [0usize, 3, 23] {
        let mut record = bench.clients[0].requests.reserve(64).unwrap();
        record.write(&vec![1; len]).unwrap();
        record.publish();
    }
    bench.clients[0].send(5, Operation::Read { sector: 64, sectors: MOST + 1 }, &[]);
    bench.clients[0].send(6, Operation::Write { sector: 64, sectors: 2 }, &[0; 512]);
    bench.settle();
    assert_eq!((bench.clients[0].receive(), bench.driver.log.len()), (None, 0));
    assert_eq!(bench.read(0, 64, 1).0, Status::Done);
    bench.memory[2].write_u32(0, 3).unwrap();
    bench.settle();
    bench.clients[0].send(7, Operation::Flush, &[]);
    bench.settle();
    assert_eq!(bench.clients[0].receive(), None);
    assert_eq!(bench.read(1, 64, 1).0, Status::Done);
}

#[test]
fn whoever_waits_is_signalled() {
    let mut bench = Bench::ready(&[FIRST]);
    assert!(bench.signals.contains(&Slot(100)), "the driver got requests");
    bench.signals.clear();
    assert!(!bench.clients[0].completions.park());
    bench.clients[0].send(1, Operation::Flush, &[]);
    assert!(bench.clients[0].requests.must_signal(), "the server waits");
    assert!(!bench.driver.requests.park());
    bench.step();
    assert!(bench.signals.contains(&Slot(100)));
    bench.signals.clear();
    bench.driver.serve();
    bench.step();
    assert!(bench.signals.contains(&Slot(0)));
    bench.signals.clear();
    bench.step();
    assert_eq!(bench.signals, [], "nobody waits for nothing");
}

fn operation() -> impl Strategy<Value = Operation> {
    let sector = prop_oneof![
        4 => 0..300u64,
        1 => prop::sample::select(vec![164u64, 1 << 32, 1 << 63, u64::MAX]),
        1 => any::<u64>()
    ];
    let sectors = prop_oneof![4 => 1..=128u32, 1 => 1..5u32];
    prop_oneof![
        3 => (sector.clone(), sectors.clone()).prop_map(|(sector, sectors)| Operation::Read { sector, sectors }),
        3 => (sector, sectors).prop_map(|(sector, sectors)| Operation::Write { sector, sectors }),
        1 => Just(Operation::Flush),
        1 => Just(Operation::Hello),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// Against disks that are plain bytes. Nothing outside the two partitions changes, and every request ends once.
    #[test]
    fn two_clients_have_two_disks(
        work in prop::collection::vec((0..2usize, operation(), any::<u8>(), prop::bool::ANY), 1..40),
    ) {
        let mut bench = Bench::ready(&[FIRST, SECOND]);
        let before = bench.driver.bytes.clone();
        let mut disks: Vec<Vec<u8>> = (0..2).map(|n| {
            let (first, sectors) = PARTITIONS[n];
            [bench.read(n, 0, 64).1, before[range(first, sectors as u32)].to_vec()].concat()
        }).collect();
        let mut expected = [VecDeque::new(), VecDeque::new()];
        for (tag, (client, operation, byte, settle)) in (100..).zip(work) {
            let disk = &mut disks[client];
            let inside = |sector: u64, sectors: u32| {
                let end = sector.checked_add(sectors.into()).filter(|&end| end <= disk.len() as u64 / 512);
                end.map(|_| range(sector, sectors))
            };
            let mut data = vec![];
            let answer = match operation {
                Operation::Hello => {
                    let sectors = disk.len() as u64 / 512;
                    (Status::Done, Geometry { sectors, read_only: false }.bytes().to_vec())
                }
                Operation::Flush => (Status::Done, vec![]),
                Operation::Read { sector, sectors } => match inside(sector, sectors) {
                    Some(range) => (Status::Done, disk[range].to_vec()),
                    None => (Status::Refused, vec![]),
                },
                Operation::Write { sector, sectors } => {
                    data = vec![byte; (sectors * SECTOR) as usize];
                    match inside(sector, sectors).filter(|_| sector >= 64) {
                        Some(range) => {
                            disk[range].copy_from_slice(&data);
                            (Status::Done, vec![])
                        }
                        None => (Status::Refused, vec![]),
                    }
                }
            };
            if !bench.clients[client].send(tag, operation, &data) {
                bench.settle();
                prop_assert!(bench.clients[client].send(tag, operation, &data));
            }
            expected[client].push_back((tag, answer.0, answer.1));
            if settle {
                bench.settle();
            }
            prop_assert!(bench.ends_are(&mut expected));
        }
        for _ in 0..20 {
            bench.settle();
            prop_assert!(bench.ends_are(&mut expected));
        }
        prop_assert!(expected.iter().all(VecDeque::is_empty));
        prop_assert_eq!(&bench.driver.bytes[range(10, 100)], &disks[0][64 * 512..]);
        prop_assert_eq!(&bench.driver.bytes[range(110, 200)], &disks[1][64 * 512..]);
        prop_assert_eq!(&bench.driver.bytes[..5120], &before[..5120]);
        prop_assert_eq!(&bench.driver.bytes[range(310, 90)], &before[range(310, 90)]);
    }

    /// Records of any bytes, and any indices: the other client's disk is there and unchanged.
    #[test]
    fn a_hostile_client_harms_itself_only(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..20),
        indices in prop::collection::vec((2..4usize, prop::sample::select(vec![0u64, 4, 64, 68]), any::<u32>()), 0..4),
    ) {
        let mut bench = Bench::ready(&[FIRST, SECOND]);
        let before = bench.driver.bytes.clone();
        for bytes in records {
            let mut record = bench.clients[0].requests.reserve(64).unwrap();
            record.write(&bytes).unwrap();
            record.publish();
        }
        bench.settle();
        for (ring, at, index) in indices {
            bench.memory[ring].write_u32(at, index).unwrap();
            bench.settle();
        }
        prop_assert_eq!(bench.read(1, 64, 200), (Status::Done, before[range(110, 200)].to_vec()));
        prop_assert_eq!(&bench.driver.bytes[..5120], &before[..5120]);
        prop_assert_eq!(&bench.driver.bytes[range(110, 290)], &before[range(110, 290)]);
    }

    /// Any completions, and any indices: no request ends twice, and none that was not made.
    #[test]
    fn a_hostile_driver_ends_what_was_asked_at_most(
        records in prop::collection::vec((0..8u64, 0..4u64, 0..2000usize), 0..20),
        indices in prop::collection::vec((0..2usize, prop::sample::select(vec![0u64, 4, 64, 68]), any::<u32>()), 0..3),
    ) {
        let mut bench = Bench::ready(&[FIRST, SECOND]);
        for (client, tag) in [(0, 10), (0, 11), (1, 12)] {
            let read = Operation::Read { sector: 64, sectors: 2 };
            prop_assert!(bench.clients[client].send(tag, read, &[]));
        }
        bench.step();
        for (tag, status, len) in records {
            let mut record = bench.driver.completions.reserve(2016).unwrap();
            record.write(&tag.to_le_bytes()).unwrap();
            record.write(&status.to_le_bytes()).unwrap();
            record.write(&vec![0x5a; len]).unwrap();
            record.publish();
            bench.step();
        }
        for (ring, at, index) in indices {
            bench.memory[ring].write_u32(at, index).unwrap();
            bench.step();
        }
        for (client, mut tags) in [vec![10, 11], vec![12]].into_iter().enumerate() {
            while let Some((tag, status, data)) = bench.clients[client].receive() {
                let at = tags.iter().position(|known| *known == tag);
                prop_assert!(at.is_some(), "{} ends again", tag);
                tags.remove(at.unwrap());
                prop_assert_eq!(data.len(), usize::from(status == Status::Done) * 1024);
            }
        }
    }
}
