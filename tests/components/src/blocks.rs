//! A client of block-server: what there is, what it may read and write, and errors of the disk. The test that boots it
//! (build/src/tests/sata.rs) has made the disk: each word of a sector is the sector's number there. It has the first flush
//! fail, and accesses to the sectors that `args` list.

use layout::{config::Component, event, slot};
use mmio::{RecordConsumer, RecordProducer};
use proto::block::{Completion, Geometry, MOST, Operation, PARTITION_AT, Request, SECTOR, Status};

use crate::verdict::{Verdict, flush};

/// Bytes of a sector.
const BYTES: usize = SECTOR as usize;
/// Sectors of the longest request that is made here, except those that are all of the same bytes.
const SOME: usize = 16;
/// The byte that is written.
const WRITTEN: u8 = 0xb5;

/// A disk.
struct Disk {
    requests: RecordProducer,
    completions: RecordConsumer,
    tag: u64,
}

impl Disk {
    fn send(&mut self, operation: Operation, byte: u8) -> u64 {
        let data = match operation {
            Operation::Write { sectors, .. } => sectors * SECTOR,
            _ => 0,
        };
        self.tag += 1;
        let len = Request::BYTES as u32 + data;
        while self.requests.reserve(len).is_err() {
            if !self.requests.park(len) {
                rt::wait();
            }
        }
        let Ok(mut record) = self.requests.reserve(len) else { panic!("no room") };
        let mut written = record.write(&Request { tag: self.tag, operation }.bytes());
        for _ in 0..data / SECTOR {
            written = written.and_then(|()| record.write(&[byte; BYTES]));
        }
        assert!(written.is_ok());
        record.publish();
        self.signal();
        self.tag
    }

    fn signal(&mut self) {
        if self.requests.must_signal() | self.completions.must_signal() {
            rt::signal(slot::BLOCK);
        }
    }

    /// The next completion, whose data begin with `into`.
    fn receive(&mut self, into: &mut [u8]) -> (Completion, usize) {
        loop {
            match self.completions.peek() {
                Ok(Some(record)) => {
                    let mut head = [0; Completion::BYTES];
                    let data = record.len() as usize - head.len();
                    let wanted = into.len().min(data);
                    let read = record
                        .read(0, &mut head)
                        .and_then(|()| record.read(head.len() as u32, into.get_mut(..wanted).unwrap_or_default()));
                    assert!(read.is_ok());
                    record.release();
                    self.signal();
                    return (Completion::of(&head), data);
                }
                Ok(None) => {
                    if !self.completions.park() {
                        while rt::wait() & event::BLOCK == 0 {}
                    }
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn ask(&mut self, operation: Operation, byte: u8, into: &mut [u8]) -> Status {
        let tag = self.send(operation, byte);
        let (completion, _) = self.receive(into);
        assert_eq!(completion.tag, tag);
        completion.status
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Status {
        let sectors = (into.len() / BYTES) as u32;
        self.ask(Operation::Read { sector, sectors }, 0, into)
    }

    fn write(&mut self, sector: u64, sectors: u32) -> Status {
        self.ask(Operation::Write { sector, sectors }, WRITTEN, &mut [])
    }
}

/// Whether each word is its sector's number, from `first` on.
fn numbered(bytes: &[u8], first: u64) -> bool {
    let words = bytes.as_chunks::<4>().0.iter();
    words.enumerate().all(|(n, word)| u64::from(u32::from_le_bytes(*word)) == first + (n / (BYTES / 4)) as u64)
}

/// `args`: of the partition, its first sector on the disk and how many it has; of the range likewise; then the sectors of
/// the partition at which reads and writes fail.
pub fn all(verdict: &mut Verdict, config: &Component, args: &str) {
    let numbers: heapless::Vec<u64, 6> = args.split(',').filter_map(|number| number.parse().ok()).collect();
    let Ok([first, sectors, range, length, unread, unwritten]) = numbers.into_array::<6>() else {
        return verdict.holds("six numbers", false);
    };
    let [Some(mut partition), Some(mut slice)] = [0, 1].map(|n| disk(config, n)) else {
        return verdict.holds("two disks", false);
    };
    let whole = greet(&mut partition);
    verdict.equal("sectors of the partition's disk", whole, Some(PARTITION_AT + sectors));
    verdict.equal("sectors of the range", greet(&mut slice), Some(length));
    log::info!("{} sectors, {} sectors", whole.unwrap_or_default(), length);
    flush();

    let mut bytes = [0; SOME * BYTES];
    table(verdict, &mut partition, sectors);
    let status = partition.read(PARTITION_AT, &mut bytes);
    verdict.holds("the partition's first sectors", status == Status::Done && numbered(&bytes, first));
    for at in [0, length - SOME as u64] {
        let status = slice.read(at, &mut bytes);
        verdict.holds("sectors of the range", status == Status::Done && numbered(&bytes, range + at));
    }
    refusals(verdict, &mut partition, PARTITION_AT + sectors);
    refusals(verdict, &mut slice, length);
    verdict.equal("a write to the table", partition.write(0, 1), Status::Refused);
    verdict.equal("a write to what is read-only", slice.write(0, 1), Status::Refused);

    verdict.equal("a write", partition.write(PARTITION_AT + 100, SOME as u32), Status::Done);
    verdict.equal("the longest write", partition.write(PARTITION_AT + 200, MOST), Status::Done);
    verdict.equal("a write of the last sector", partition.write(PARTITION_AT + sectors - 1, 1), Status::Done);
    verdict.equal("a flush that fails", partition.ask(Operation::Flush, 0, &mut []), Status::Failed);
    verdict.equal("the next flush", partition.ask(Operation::Flush, 0, &mut []), Status::Done);
    let status = partition.read(PARTITION_AT + 100, &mut bytes);
    verdict.holds("what was written", status == Status::Done && bytes == [WRITTEN; SOME * BYTES]);
    verdict.equal("the sectors behind it", partition.read(PARTITION_AT + 116, &mut bytes), Status::Done);
    verdict.holds("are as they were", numbered(&bytes, first + 116));
    many(verdict, &mut partition, first);
    errors(verdict, &mut partition, first, (unread, unwritten));
}

fn disk(config: &Component, n: usize) -> Option<Disk> {
    let rings = config.disks.get(n)?;
    let (requests, completions) = (rt::records(rings.requests).producer(), rt::records(rings.completions).consumer());
    Some(Disk { requests, completions, tag: 0 })
}

fn greet(disk: &mut Disk) -> Option<u64> {
    let mut shape = [0; Geometry::BYTES];
    let status = disk.ask(Operation::Hello, 0, &mut shape);
    (status == Status::Done).then(|| Geometry::of(&shape).sectors)
}

/// The disk of a partition begins with a table that has only this one.
fn table(verdict: &mut Verdict, disk: &mut Disk, sectors: u64) {
    let mut table = [0; BYTES];
    verdict.equal("the table", disk.read(0, &mut table), Status::Done);
    let word = |at: usize| u32::from_le_bytes([table[at], table[at + 1], table[at + 2], table[at + 3]]);
    verdict.equal("where the partition is", (u64::from(word(454)), u64::from(word(458))), (PARTITION_AT, sectors));
    verdict.holds("no other partition", table[462..510].iter().all(|&byte| byte == 0));
    verdict.equal("the signature", (table[510], table[511]), (0x55, 0xaa));
}

/// At the end, beyond it, and where additions overflow.
fn refusals(verdict: &mut Verdict, disk: &mut Disk, end: u64) {
    for sector in [end, end + 1, 1 << 32, (1 << 32) + PARTITION_AT, 1 << 48, 1 << 63, u64::MAX] {
        verdict.equal("a read beyond the end", disk.read(sector, &mut [0; BYTES]), Status::Refused);
        verdict.equal("a write beyond the end", disk.write(sector, 1), Status::Refused);
    }
    verdict.equal("a read across the end", disk.read(end - 1, &mut [0; 2 * BYTES]), Status::Refused);
    verdict.equal("a write across the end", disk.write(end - 1, 2), Status::Refused);
    verdict.equal("a read of the last sector", disk.read(end - 1, &mut [0; BYTES]), Status::Done);
}

/// More requests at once than are with the driver.
fn many(verdict: &mut Verdict, disk: &mut Disk, first: u64) {
    const MANY: u64 = 32;
    let tags = disk.tag + 1;
    for n in 0..MANY {
        disk.send(Operation::Read { sector: PARTITION_AT + 1000 + 7 * n, sectors: 1 }, 0);
    }
    let (mut seen, mut right) = (0u64, true);
    for _ in 0..MANY {
        let mut bytes = [0; BYTES];
        let (Completion { tag, status }, data) = disk.receive(&mut bytes);
        let n = tag.wrapping_sub(tags);
        right &= n < MANY && status == Status::Done && data == BYTES && numbered(&bytes, first + 1000 + 7 * n);
        seen |= 1u64.checked_shl(n as u32).unwrap_or_default();
    }
    verdict.equal("each of many requests ends once", (seen, right), ((1 << MANY) - 1, true));
}

/// An error is that request's: its neighbours, and the same sector the other way, are there.
fn errors(verdict: &mut Verdict, disk: &mut Disk, first: u64, (unread, unwritten): (u64, u64)) {
    let (unread, unwritten) = (PARTITION_AT + unread, PARTITION_AT + unwritten);
    let number = |sector: u64| first + sector - PARTITION_AT;
    let mut bytes = [0; BYTES];
    verdict.equal("a read that fails", disk.read(unread, &mut bytes), Status::Failed);
    verdict.equal("the next sector", disk.read(unread + 1, &mut bytes), Status::Done);
    verdict.holds("its number", numbered(&bytes, number(unread + 1)));
    verdict.equal("a write that fails", disk.write(unwritten, 1), Status::Failed);
    verdict.equal("the sector", disk.read(unwritten, &mut bytes), Status::Done);
    verdict.holds("is as it was", numbered(&bytes, number(unwritten)));
}
