//! The block device. Layouts and bits are written again from section 5.2.

use super::{
    driver::{DATA, LEN, NEXT, RAM, WRITE},
    *,
};
use crate::virtio::block::{Backend, Block, Disk, Finished, Operation, Started};
use proptest::prelude::*;
use std::{collections::VecDeque, vec};

const RO: u32 = 1 << 5;
const FLUSH: u32 = 1 << 9;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;
/// What no device writes to the status.
const UNTOUCHED: u8 = 0xee;

/// Sectors of the disk, and of an operation at most.
const SECTORS: u64 = 64;
const MOST: u32 = 4;

/// A disk whose operations end when the test says so.
#[derive(Clone, Debug)]
struct Platter {
    bytes: Vec<u8>,
    sectors: u64,
    read_only: bool,
    /// How many operations may be pending.
    room: usize,
    pending: VecDeque<(u32, Operation)>,
    ended: VecDeque<(Finished, Vec<u8>)>,
    /// All operations so far.
    log: Vec<Operation>,
    /// What was started since the last look.
    output: bool,
}

impl Platter {
    fn new() -> Self {
        let bytes = (0..SECTORS * 512).map(|at| (at / 512 + at % 7) as u8).collect();
        let (pending, ended) = (VecDeque::new(), VecDeque::new());
        Self { bytes, sectors: SECTORS, read_only: false, room: 99, pending, ended, log: vec![], output: false }
    }

    fn sector(&self, n: usize) -> &[u8] {
        &self.bytes[n * 512..(n + 1) * 512]
    }

    /// Ends the `n`th of the pending operations.
    fn end(&mut self, n: usize, ok: bool) {
        let (tag, operation) = self.pending.remove(n).unwrap();
        let data = match operation {
            Operation::Read { sector, sectors } if ok => {
                self.bytes[sector as usize * 512..][..sectors as usize * 512].to_vec()
            }
            _ => vec![],
        };
        self.ended.push_back((Finished { tag, ok, len: data.len() as u32 }, data));
    }

    fn end_all(&mut self) {
        while !self.pending.is_empty() {
            self.end(0, true);
        }
    }
}

impl Backend for Platter {
    const MOST: u32 = MOST;

    fn disk(&self) -> Disk {
        Disk { sectors: self.sectors, read_only: self.read_only, id: *b"a disk of a test\0\0\0\0" }
    }

    fn start(
        &mut self,
        tag: u32,
        operation: Operation,
        request: &mut Request<'_, impl GuestMemory>,
    ) -> Result<Started, Broken> {
        if self.pending.len() >= self.room {
            return Ok(Started::Busy);
        }
        if let Operation::Read { sector, sectors } | Operation::Write { sector, sectors } = operation {
            assert!(sectors > 0 && sectors <= MOST && sector + u64::from(sectors) <= self.sectors, "{operation:?}");
        }
        if let Operation::Write { sector, sectors } = operation {
            assert!(!self.read_only);
            let mut bytes = vec![0; sectors as usize * 512];
            if request.read(&mut bytes)? < bytes.len() {
                return Err(Broken::Request);
            }
            self.bytes[sector as usize * 512..][..bytes.len()].copy_from_slice(&bytes);
        }
        self.pending.push_back((tag, operation));
        self.log.push(operation);
        self.output = true;
        Ok(Started::Yes)
    }

    fn finished(&mut self) -> Option<Finished> {
        self.ended.front().map(|&(finished, _)| finished)
    }

    fn deliver(&mut self, request: &mut Request<'_, impl GuestMemory>) -> Result<u32, Broken> {
        let (_, data) = self.ended.front().unwrap();
        request.write(data).map(|len| len as u32)
    }

    fn release(&mut self) {
        self.ended.pop_front().unwrap();
    }

    fn has_output(&self) -> bool {
        self.output
    }
}

/// A driver of the device.
struct Bench {
    driver: Driver<Block<Platter>>,
    ring: Ring,
    offered: u16,
    features: u32,
}

impl Bench {
    fn with(platter: Platter, features: u32) -> Self {
        let ring = Ring::new(128);
        let driver = Driver::modern(Block::new(platter), &ring, features);
        Self { driver, ring, offered: 0, features }
    }

    fn new() -> Self {
        Self::with(Platter::new(), FLUSH)
    }

    fn platter(&mut self) -> &mut Platter {
        self.driver.function.device().backend()
    }

    /// Where request `n` has its data; its header and status are before.
    fn data(n: u16) -> u64 {
        DATA + 0x1000 * u64::from(n)
    }

    /// Makes request `n` available, of three descriptors, without notifying the device.
    fn offer(&mut self, n: u16, kind: u32, sector: u64, len: u32) {
        let (memory, ring, data) = (&self.driver.memory, &self.ring, Self::data(n));
        let header = data - 32;
        memory.write_u32(header, kind).unwrap();
        memory.write_u32(header + 4, 0xdead_beef).unwrap();
        memory.write_u64(header + 8, sector).unwrap();
        memory.write(data - 1, &[UNTOUCHED]).unwrap();
        let way = if kind == 1 { 0 } else { WRITE };
        let [first, second, third] = [3 * n, 3 * n + 1, 3 * n + 2];
        ring.descriptor(memory, first, header, 16, NEXT, if len > 0 { second } else { third });
        ring.descriptor(memory, second, data, len, NEXT | way, third);
        ring.descriptor(memory, third, data - 1, 1, WRITE, 0);
        ring.offer(memory, self.offered, first);
        self.offered = self.offered.wrapping_add(1);
    }

    fn status(&self, n: u16) -> u8 {
        let [status] = self.driver.memory.bytes(Self::data(n) - 1);
        status
    }

    fn kick(&mut self) -> Effect {
        self.driver.kick()
    }

    fn poll(&mut self) -> Effect {
        self.driver.function.poll(&self.driver.memory)
    }

    /// Has request `n` served by itself; returns its status and the length in the used ring.
    fn serve(&mut self, n: u16, kind: u32, sector: u64, len: u32) -> (u8, u32) {
        self.offer(n, kind, sector, len);
        let _ = self.kick();
        while !self.platter().pending.is_empty() {
            self.platter().end_all();
            let _ = self.poll();
        }
        let (index, head, written) = self.ring.used(&self.driver.memory);
        assert_eq!((index, head), (self.offered, u32::from(3 * n)));
        (self.status(n), written)
    }

    fn restart(&mut self) {
        self.driver.memory.write(self.ring.available, &[0; 4]).unwrap();
        self.driver.memory.write(self.ring.used, &[0; 4]).unwrap();
        self.offered = 0;
        self.driver.initialise(self.features);
        self.driver.set_up(0, &self.ring);
        self.driver.set_status(0x0f);
    }
}

#[test]
fn it_is_found_by_either_kind_of_driver() {
    let mut bench = Bench::new();
    let config = bench.driver.config();
    assert_eq!(config.read(0x00, Width::Dword), 0x1001_1af4);
    assert_eq!(config.read(0x08, Width::Dword), 0x0100_0000, "mass storage, SCSI");
    assert_eq!(config.read(0x2c, Width::Dword), 0x0002_1af4);
    // SIZE_MAX, SEG_MAX, BLK_SIZE, FLUSH, and the transport's.
    let _ = bench.driver.common(0x00, Width::Dword, 0);
    assert_eq!(bench.driver.read(4, 0x04, Width::Dword), 1 << 1 | 1 << 2 | 1 << 6 | 1 << 9 | 7 << 27);
    assert_eq!(bench.driver.read(0, 0x00, Width::Dword), 1 << 1 | 1 << 2 | 1 << 6 | 1 << 9 | 7 << 27);
    // Capacity, size_max, seg_max, geometry, blk_size; behind 20 bytes of the legacy interface, and by themselves.
    for (bar, at) in [(0, 20), (4, 0x2000)] {
        assert_eq!(bench.driver.read(bar, at, Width::Qword), SECTORS);
        assert_eq!(bench.driver.read(bar, at + 8, Width::Dword), 0x1_0000);
        assert_eq!(bench.driver.read(bar, at + 12, Width::Dword), 32);
        assert_eq!(bench.driver.read(bar, at + 16, Width::Dword), 0);
        assert_eq!(bench.driver.read(bar, at + 20, Width::Dword), 512);
        assert_eq!(bench.driver.read(bar, at + 24, Width::Dword), 0);
    }
}

#[test]
fn sectors_are_read_and_written() {
    let mut bench = Bench::new();
    assert_eq!(bench.serve(0, 0, 3, 512), (OK, 513));
    assert_eq!(&bench.driver.memory.bytes::<512>(Bench::data(0))[..], Platter::new().sector(3));
    bench.driver.memory.write(Bench::data(1), &[0x5a; 1024]).unwrap();
    assert_eq!(bench.serve(1, 1, 62, 1024), (OK, 1));
    assert_eq!(bench.platter().bytes[61 * 512..], [Platter::new().sector(61), &[0x5a; 1024]].concat());
    assert_eq!(bench.serve(2, 4, 0, 0), (OK, 1));
    assert_eq!(
        bench.platter().log,
        [Operation::Read { sector: 3, sectors: 1 }, Operation::Write { sector: 62, sectors: 2 }, Operation::Flush,]
    );
}

#[test]
fn a_long_request_goes_in_pieces_across_its_buffers() {
    let mut bench = Bench::new();
    let memory = &bench.driver.memory;
    let at = DATA + 0x3000;
    // A header in two buffers, 4,608 bytes in three of odd lengths, and the status behind data in the last one.
    memory.write_u64(DATA, 0).unwrap();
    memory.write_u64(DATA + 0x100, 7).unwrap();
    let buffers =
        [(DATA, 8, 0), (DATA + 0x100, 8, 0), (at, 1001, WRITE), (at + 0x1000, 0, WRITE), (at + 0x2000, 3608, WRITE)];
    for (n, (gpa, len, way)) in (0..).zip(buffers) {
        let next = if n < 4 { NEXT } else { 0 };
        bench.ring.descriptor(memory, n, gpa, len, way | next, n + 1);
    }
    bench.ring.offer(memory, 0, 0);
    bench.offered = 1;
    let _ = bench.kick();
    for (sector, sectors) in [(7, 4), (11, 4), (15, 1)] {
        assert_eq!(bench.platter().log.last(), Some(&Operation::Read { sector, sectors }));
        assert_eq!(bench.ring.used(&bench.driver.memory).0, 0, "not before the last one");
        bench.platter().end_all();
        let _ = bench.poll();
    }
    assert_eq!(bench.ring.used(&bench.driver.memory), (1, 0, 4609));
    let found = [&bench.driver.memory.bytes::<1001>(at)[..], &bench.driver.memory.bytes::<3608>(at + 0x2000)].concat();
    assert_eq!(found[..4608], Platter::new().bytes[7 * 512..16 * 512]);
    assert_eq!(found[4608], OK);
}

#[test]
fn a_long_write_goes_in_pieces_too() {
    let mut bench = Bench::new();
    let bytes: Vec<u8> = (0..3072).map(|at| (at / 5) as u8).collect();
    bench.driver.memory.write(Bench::data(0), &bytes).unwrap();
    assert_eq!(bench.serve(0, 1, 10, 3072), (OK, 1));
    assert_eq!(bench.platter().bytes[10 * 512..16 * 512], bytes);
    let log = &bench.platter().log;
    assert_eq!(log[..], [Operation::Write { sector: 10, sectors: 4 }, Operation::Write { sector: 14, sectors: 2 }]);
}

#[test]
fn requests_end_in_any_order_each_once() {
    let mut bench = Bench::new();
    for n in 0..3 {
        bench.offer(n, 0, u64::from(n), 512);
    }
    assert_eq!(bench.kick(), Effect::OUTPUT, "the back end gets its turn");
    bench.platter().output = false;
    bench.platter().end(1, true);
    assert_eq!(bench.poll(), Effect::LINES);
    assert_eq!(bench.ring.used(&bench.driver.memory), (1, 3, 513));
    assert_eq!([0, 1, 2].map(|n| bench.status(n)), [UNTOUCHED, OK, UNTOUCHED]);
    bench.platter().end(1, true);
    bench.platter().end(0, true);
    let _ = bench.poll();
    assert_eq!(bench.ring.used(&bench.driver.memory), (3, 0, 513));
    for n in 0..3 {
        let bytes = bench.driver.memory.bytes::<512>(Bench::data(n));
        assert_eq!(bytes[..], *Platter::new().sector(n.into()), "{n}");
    }
    assert_eq!(bench.poll(), Effect::QUIET);
    assert_eq!(bench.ring.used(&bench.driver.memory).0, 3);
}

#[test]
fn four_are_in_flight_and_the_rest_wait_without_being_asked_for() {
    let mut bench = Bench::new();
    for n in 0..7 {
        bench.offer(n, 0, n.into(), 512);
    }
    let _ = bench.kick();
    assert_eq!(bench.platter().pending.len(), 4);
    bench.platter().output = false;
    assert_eq!(bench.poll(), Effect::QUIET, "no end, no work");
    for left in [3, 0] {
        bench.platter().end_all();
        let _ = bench.poll();
        assert_eq!(bench.platter().pending.len(), left);
    }
    assert_eq!(bench.ring.used(&bench.driver.memory).0, 7);
}

#[test]
fn without_room_a_request_waits_and_keeps_its_place() {
    let mut bench = Bench::new();
    bench.platter().room = 1;
    bench.driver.memory.write(Bench::data(1), &[7; 512]).unwrap();
    for (n, kind) in [(0, 0), (1, 1), (2, 0)] {
        bench.offer(n, kind, 20 + u64::from(n), 512);
    }
    let _ = bench.kick();
    for sector in [20, 21, 22] {
        let last = bench.platter().log.last().copied();
        assert!(
            matches!(last, Some(Operation::Read { sector: at, .. } | Operation::Write { sector: at, .. }) if at == sector)
        );
        bench.platter().end_all();
        let _ = bench.poll();
    }
    assert_eq!(bench.ring.used(&bench.driver.memory), (3, 6, 513));
    assert_eq!(bench.platter().sector(21), [7; 512]);
}

#[test]
fn an_error_of_the_back_end_is_the_requests_and_no_other() {
    let mut bench = Bench::new();
    for (n, kind) in [(0, 0), (1, 1), (2, 4), (3, 0)] {
        bench.offer(n, kind, 5, if kind == 4 { 0 } else { 3072 });
    }
    let _ = bench.kick();
    for _ in 0..3 {
        bench.platter().end(0, false);
    }
    while !bench.platter().pending.is_empty() {
        bench.platter().end_all();
        let _ = bench.poll();
    }
    assert_eq!([0, 1, 2, 3].map(|n| bench.status(n)), [IOERR, IOERR, IOERR, OK]);
    assert_eq!(bench.ring.used(&bench.driver.memory).0, 4);
    assert_eq!(bench.driver.status(), 0x0f, "the device goes on");
    // The pieces behind a failed one were not tried.
    assert_eq!(bench.platter().log.len(), 3 + 2);
}

#[test]
fn a_second_piece_that_fails_fails_the_request() {
    let mut bench = Bench::new();
    bench.offer(0, 0, 0, 3072);
    let _ = bench.kick();
    bench.platter().end(0, true);
    let _ = bench.poll();
    bench.platter().end(0, false);
    let _ = bench.poll();
    assert_eq!((bench.status(0), bench.ring.used(&bench.driver.memory)), (IOERR, (1, 0, 2048)));
}

#[test]
fn a_read_with_too_few_bytes_is_an_error() {
    let mut bench = Bench::new();
    bench.offer(0, 0, 0, 1024);
    let _ = bench.kick();
    bench.platter().end(0, true);
    bench.platter().ended[0].0.len = 512;
    let _ = bench.poll();
    assert_eq!((bench.status(0), bench.ring.used(&bench.driver.memory)), (IOERR, (1, 0, 0)));
}

#[test]
fn no_sector_beyond_the_end_whatever_its_number() {
    let mut bench = Bench::new();
    let past = [64, 65, 1 << 32, (1 << 32) + 3, 1 << 55, (1 << 63) - 1, 1 << 63, u64::MAX - 1, u64::MAX];
    for kind in [0, 1] {
        for sector in past {
            assert_eq!(bench.serve(0, kind, sector, 512).0, IOERR, "{kind} {sector:#x}");
        }
        assert_eq!(bench.serve(0, kind, 63, 1024).0, IOERR, "one of two");
        assert_eq!(bench.serve(0, kind, u64::MAX, 1024).0, IOERR);
        assert_eq!(bench.serve(0, kind, 0, 513).0, IOERR, "not whole sectors");
        assert_eq!(bench.serve(0, kind, 0, 511).0, IOERR);
        assert_eq!(bench.serve(0, kind, 64, 0).0, OK, "nothing");
        assert_eq!(bench.serve(0, kind, 65, 0).0, IOERR, "nothing, but elsewhere");
    }
    assert_eq!(bench.platter().log, []);
    assert_eq!(bench.platter().bytes, Platter::new().bytes);
    assert_eq!(bench.serve(0, 0, 63, 512), (OK, 513));
}

#[test]
fn a_large_disk_has_its_last_sector() {
    let mut bench = Bench::with(Platter { sectors: u64::MAX, ..Platter::new() }, FLUSH);
    bench.offer(0, 0, u64::MAX - 1, 512);
    let _ = bench.kick();
    assert_eq!(bench.platter().log, [Operation::Read { sector: u64::MAX - 1, sectors: 1 }]);
    bench.platter().end(0, false);
    let _ = bench.poll();
    assert_eq!(bench.serve(1, 0, u64::MAX, 512).0, IOERR);
}

#[test]
fn a_read_only_disk_is_not_written() {
    let mut bench = Bench::with(Platter { read_only: true, ..Platter::new() }, FLUSH | RO);
    assert_eq!(bench.driver.read(0, 0x00, Width::Dword) as u32 & RO, RO);
    assert_eq!(bench.serve(0, 1, 0, 512).0, IOERR);
    assert_eq!(bench.serve(0, 0, 0, 512).0, OK);
    assert_eq!(bench.platter().bytes, Platter::new().bytes);
}

#[test]
fn other_requests_are_not_supported_and_the_name_is_known() {
    let mut bench = Bench::new();
    for kind in [2, 3, 5, 11, 13, 14, 0x8000_0000, u32::MAX] {
        bench.driver.memory.write(Bench::data(0), &[9; 512]).unwrap();
        assert_eq!(bench.serve(0, kind, 0, 512).0, UNSUPP, "{kind}");
        assert_eq!(bench.driver.memory.bytes(Bench::data(0)), [9; 512]);
    }
    assert_eq!(bench.serve(0, 8, 0, 20), (OK, 21));
    assert_eq!(&bench.driver.memory.bytes(Bench::data(0)), b"a disk of a test\0\0\0\0");
    assert_eq!(bench.serve(1, 8, 0, 4), (OK, 5));
    assert_eq!(&bench.driver.memory.bytes(Bench::data(1)), b"a di\0");
    assert_eq!(bench.serve(2, 8, 0, 64), (OK, 20));
    assert_eq!(bench.serve(2, 8, 0, 0), (OK, 1));
}

#[test]
fn without_flush_a_write_is_on_the_medium_when_it_ends() {
    let mut bench = Bench::with(Platter::new(), 0);
    bench.offer(0, 1, 0, 512);
    let _ = bench.kick();
    bench.platter().end(0, true);
    let _ = bench.poll();
    assert_eq!(bench.platter().log, [Operation::Write { sector: 0, sectors: 1 }, Operation::Flush]);
    assert_eq!(bench.status(0), UNTOUCHED);
    bench.platter().end(0, false);
    let _ = bench.poll();
    assert_eq!(bench.status(0), IOERR, "it may not be there");
    assert_eq!(bench.serve(1, 0, 0, 512).0, OK);
    assert_eq!(bench.platter().log.len(), 3, "reads are not flushed");
}

#[test]
fn a_request_without_header_or_status_breaks_the_queue() {
    let cases: [&[(u32, u16)]; 4] =
        [&[(15, 0), (513, WRITE)], &[(16, 0), (512, 0)], &[(513, WRITE)], &[(16, 0), (0, WRITE)]];
    for buffers in cases {
        let mut bench = Bench::new();
        for (n, &(len, way)) in (0..).zip(buffers) {
            let next = if usize::from(n) + 1 < buffers.len() { NEXT } else { 0 };
            bench.ring.descriptor(&bench.driver.memory, n, DATA, len, way | next, n + 1);
        }
        bench.ring.offer(&bench.driver.memory, 0, 0);
        let _ = bench.kick();
        let fault = bench.driver.function.take_fault();
        assert_eq!(fault, Some(Fault { queue: 0, broken: Broken::Request }), "{buffers:?}");
        bench.restart();
        assert_eq!(bench.serve(0, 0, 0, 512), (OK, 513));
    }
}

#[test]
fn more_segments_than_agreed_break_the_queue() {
    for (segments, fault) in [(32, None), (33, Some(Fault { queue: 0, broken: Broken::Request }))] {
        let mut bench = Bench::new();
        let memory = &bench.driver.memory;
        bench.ring.descriptor(memory, 0, DATA, 16, NEXT, 1);
        for n in 1..=segments {
            bench.ring.descriptor(memory, n, DATA + 512 * u64::from(n), 512, NEXT | WRITE, n + 1);
        }
        bench.ring.descriptor(memory, segments + 1, DATA + 32, 1, WRITE, 0);
        bench.ring.offer(memory, 0, 0);
        let _ = bench.kick();
        assert_eq!(bench.driver.function.take_fault(), fault);
        assert_eq!(bench.platter().log.len(), usize::from(fault.is_none()));
    }
}

#[test]
fn an_end_after_a_reset_touches_nothing() {
    // A reset by the driver, and one of the machine.
    for machine in [false, true] {
        let mut bench = Bench::new();
        bench.offer(0, 0, 9, 512);
        let _ = bench.kick();
        bench.driver.set_status(0);
        if machine {
            Function::reset(&mut bench.driver.function);
        }
        bench.driver.memory.forget();
        bench.platter().end(0, true);
        assert_eq!(bench.poll(), Effect::QUIET);
        assert_eq!(bench.driver.memory.writes.borrow()[..], [], "stopped");

        // Set up anew, with a request of its own: the old end is not taken for that one's.
        let _ = bench.driver.function.write_config(0x04, Width::Word, 7, &bench.driver.memory);
        bench.restart();
        bench.offer(0, 0, 3, 512);
        let _ = bench.kick();
        assert_eq!(bench.ring.used(&bench.driver.memory).0, 0);
        assert_eq!(bench.status(0), UNTOUCHED);
        bench.platter().end(0, true);
        let _ = bench.poll();
        assert_eq!(bench.ring.used(&bench.driver.memory), (1, 0, 513));
        assert_eq!(bench.driver.memory.bytes::<512>(Bench::data(0))[..], *Platter::new().sector(3));
    }
}

#[test]
fn a_ring_that_a_legacy_driver_has_moved_gets_no_old_end() {
    let page = (RAM + 0x1000) / 4096;
    let mut driver = Driver::legacy(Block::new(Platter::new()), page as u32, FLUSH);
    let ring = Ring::new(128);
    let mut bench = Bench { offered: 0, features: 0, ring, driver: Driver::new(Block::new(Platter::new())) };
    core::mem::swap(&mut bench.driver, &mut driver);
    bench.offer(0, 0, 9, 512);
    let _ = bench.driver.outp(16, Width::Word, 0);
    assert_eq!(bench.platter().pending.len(), 1);
    // The queue goes away and comes back elsewhere, without a reset of the device.
    let _ = bench.driver.outp(8, Width::Dword, 0);
    let _ = bench.driver.outp(8, Width::Dword, page as u32 + 3);
    bench.driver.memory.forget();
    bench.platter().end(0, true);
    let _ = bench.poll();
    let other = Ring::at(RAM + 0x4000, 128);
    assert_eq!((other.used(&bench.driver.memory).0, bench.status(0)), (0, UNTOUCHED));
    let inside = |&(gpa, _): &(u64, u64)| gpa < DATA;
    assert!(bench.driver.memory.writes.borrow().iter().all(inside), "at most where the ring's events are");
    bench.ring = other;
    bench.offered = 0;
    bench.offer(1, 0, 3, 512);
    let _ = bench.driver.outp(16, Width::Word, 0);
    bench.platter().end_all();
    let _ = bench.poll();
    assert_eq!(bench.ring.used(&bench.driver.memory), (1, 3, 513));
}

#[test]
fn what_the_driver_changes_in_flight_is_not_looked_at_again() {
    let mut bench = Bench::new();
    bench.offer(0, 0, 3, 512);
    let _ = bench.kick();
    let (memory, ring) = (&bench.driver.memory, &bench.ring);
    for n in 0..3 {
        ring.descriptor(memory, n, RAM - 0x1000, u32::MAX, NEXT, n);
    }
    memory.write_u32(Bench::data(0) - 32, 1).unwrap();
    bench.platter().end(0, true);
    let _ = bench.poll();
    assert_eq!(bench.ring.used(&bench.driver.memory), (1, 0, 513));
    assert_eq!(bench.driver.memory.bytes::<512>(Bench::data(0))[..], *Platter::new().sector(3));
    assert_eq!((bench.driver.function.take_fault(), bench.platter().log.len()), (None, 1));
}

#[test]
fn interrupts_follow_the_event_index() {
    const EVENT_IDX: u32 = 1 << 29;
    let mut bench = Bench::with(Platter::new(), FLUSH | EVENT_IDX);
    for n in 0..3 {
        bench.offer(n, 0, n.into(), 512);
    }
    bench.driver.memory.write_u16(bench.ring.used_event(), 1).unwrap();
    let _ = bench.kick();
    assert_eq!(bench.driver.memory.read_u16(bench.ring.available_event()), Ok(3), "all are taken");
    bench.platter().output = false;
    bench.platter().end(0, true);
    assert_eq!((bench.poll(), bench.driver.function.irq()), (Effect::QUIET, false));
    bench.platter().end(0, true);
    assert_eq!((bench.poll(), bench.driver.function.irq()), (Effect::LINES, true));
}

#[derive(Clone, Debug)]
enum Act {
    /// Makes a request available: of descriptors that could be, mostly.
    Request {
        n: u16,
        kind: u32,
        sector: u64,
        buffers: Vec<(u64, u32, u16)>,
        header: u32,
        status: u32,
    },
    Kick,
    End(usize, bool),
    /// Ends an operation with another tag or length.
    Lie(u32, u32),
    Reset,
    Room(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let kind = prop_oneof![4 => 0..2u32, 1 => Just(4u32), 1 => Just(8u32), 1 => any::<u32>()];
    let sector = prop_oneof![
        6 => 0..SECTORS,
        1 => prop::sample::select(vec![SECTORS, 1 << 32, 1 << 63, u64::MAX]),
        1 => any::<u64>()
    ];
    let len = prop_oneof![6 => (0..9u32).prop_map(|n| 512 * n), 1 => 0..2000u32];
    let gpa = prop_oneof![9 => DATA + 0x1000..DATA + 0x6000, 1 => RAM..RAM + LEN as u64];
    let buffers = prop::collection::vec((gpa, len, prop_oneof![9 => Just(WRITE), 3 => Just(0)]), 0..3);
    let header = prop_oneof![9 => Just(16u32), 1 => 0..40u32];
    let status = prop_oneof![9 => Just(1u32), 1 => 0..4u32];
    prop_oneof![
        6 => (0..20u16, kind, sector, buffers, header, status).prop_map(|(n, kind, sector, buffers, header, status)|
            Act::Request { n, kind, sector, buffers, header, status }),
        4 => Just(Act::Kick),
        6 => (0..16usize, prop::bool::weighted(0.8)).prop_map(|(n, ok)| Act::End(n, ok)),
        1 => (0..64u32, any::<u32>()).prop_map(|(tag, len)| Act::Lie(tag, len)),
        1 => Just(Act::Reset),
        1 => (1..6usize).prop_map(Act::Room),
    ]
}

proptest! {
    #![proptest_config(driver::cases(1_000))]

    /// The platter checks each operation. Afterwards the device works, and every request ended at most once.
    #[test]
    fn no_sequence_leaves_the_disk_or_breaks_more_than_the_device(acts in prop::collection::vec(act(), 1..80)) {
        let mut bench = Bench::new();
        // Data may lie over the rings. What the driver finds there then is its own making.
        let mut scribbled = false;
        for act in &acts {
            let memory = &bench.driver.memory;
            match act {
                Act::Request { n, kind, sector, buffers, header, status } => {
                    let at = DATA + 64 * u64::from(*n);
                    memory.write_u64(at, u64::from(*kind)).unwrap();
                    memory.write_u64(at + 8, *sector).unwrap();
                    let whole = [(at, *header, 0)].into_iter().chain(buffers.iter().copied()).chain([(at + 48, *status, WRITE)]);
                    let last = buffers.len() as u16 + 1;
                    scribbled |= buffers.iter().any(|&(gpa, ..)| gpa < DATA);
                    for (k, (gpa, len, way)) in (0..).zip(whole) {
                        let next = if k == last { 0 } else { NEXT };
                        bench.ring.descriptor(memory, 5 * n + k, gpa, len, way | next, 5 * n + k + 1);
                    }
                    bench.ring.offer(memory, bench.offered, 5 * n);
                    bench.offered = bench.offered.wrapping_add(1);
                }
                Act::Kick => { let _ = bench.kick(); }
                Act::End(n, ok) => {
                    let pending = bench.platter().pending.len();
                    if pending > 0 {
                        bench.platter().end(n % pending, *ok);
                    }
                    let _ = bench.poll();
                }
                Act::Lie(tag, len) => {
                    let data = vec![0; 4 * 512];
                    let len = if *len % 2 == 0 { 512 } else { *len };
                    bench.platter().ended.push_back((Finished { tag: *tag, ok: true, len }, data));
                    let _ = bench.poll();
                }
                Act::Reset => bench.restart(),
                Act::Room(room) => bench.platter().room = *room,
            }
            let used = bench.ring.used(&bench.driver.memory).0;
            prop_assert!(scribbled || used <= bench.offered, "{} of {}", used, bench.offered);
        }
        bench.platter().end_all();
        bench.platter().room = 99;
        bench.restart();
        prop_assert_eq!(bench.serve(0, 0, 5, 512), (OK, 513));
    }
}
