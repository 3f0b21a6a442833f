//! The block device. Layouts and bits are written again from section 5.2.

mod ends;
mod hostile;
mod requests;

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
