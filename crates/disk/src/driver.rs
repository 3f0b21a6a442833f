//! The loop: takes requests of block-server from a ring, one after the other, and answers them into the other one.
//!
//! A request is released after it was answered. A process that begins again does what its predecessor has not finished once
//! more, which changes nothing: requests name sectors and what is to be in them.

use mmio::{RecordConsumer, RecordProducer, Window};
use proto::block::{self, Completion, Geometry, Operation, Request, Status};

use crate::{BUFFER, Disk, Fault, Transfer};

/// The driver of a disk, without its process. Where there is no disk, every request fails.
#[derive(Debug)]
pub struct Driver<D> {
    disk: Option<D>,
    memory: Window,
    requests: RecordConsumer,
    completions: RecordProducer,
}

/// Nothing more can be done before block-server signals.
struct Idle;

impl<D: Disk> Driver<D> {
    /// A driver at these ends of the rings; the disk's controller reaches `memory`.
    pub const fn new(disk: Option<D>, memory: Window, requests: RecordConsumer, completions: RecordProducer) -> Self {
        Self { disk, memory, requests, completions }
    }

    /// Does all that can be done now; `signal` signals block-server.
    pub fn step(&mut self, mut signal: impl FnMut()) {
        // If a predecessor has broken the rings, both ends have to find out that there is a new one.
        self.requests.mend();
        self.completions.mend();
        loop {
            let served = self.serve();
            // After each request, since the next one may take long.
            if self.requests.must_signal() | self.completions.must_signal() {
                signal();
            }
            if served.is_err() {
                break;
            }
        }
    }

    /// See [`Disk::stray`].
    pub fn stray(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.stray();
        }
    }

    /// Serves one request, or parks.
    fn serve(&mut self) -> Result<(), Idle> {
        let mut bytes = [0; Request::BYTES];
        let request = match self.requests.peek() {
            Ok(Some(record)) => match record.read(0, &mut bytes) {
                Ok(()) => Request::of(&bytes, record.len() - Request::BYTES as u32),
                Err(_) => None,
            },
            Ok(None) => return if self.requests.park() { Ok(()) } else { Err(Idle) },
            Err(_) => return Err(Idle),
        };
        if let Some(request) = request {
            let room = Completion::BYTES as u32 + request.answer();
            match self.completions.reserve(room).map(drop) {
                Ok(()) => {}
                Err(mmio::NoRoom::Full) => return if self.completions.park(room) { Ok(()) } else { Err(Idle) },
                Err(mmio::NoRoom::TooLong | mmio::NoRoom::Broken) => return Err(Idle),
            }
            let done = self.carry_out(&request);
            if let Err(fault) = done {
                log::debug!("{:?}: {fault:?}", request.operation);
            }
            self.answer(&request, done.is_ok());
        }
        if let Ok(Some(record)) = self.requests.peek() {
            record.release();
        }
        Ok(())
    }

    fn carry_out(&mut self, request: &Request) -> Result<(), Fault> {
        let disk = self.disk.as_mut().ok_or(Fault::Absent)?;
        match request.operation {
            Operation::Hello => Ok(()),
            Operation::Flush => disk.flush(),
            Operation::Read { sector, sectors } => disk.transfer(Transfer::Read, sector, sectors),
            Operation::Write { sector, sectors } => {
                let Ok(Some(record)) = self.requests.peek() else { return Err(Fault::Memory) };
                record.copy_to(Request::BYTES as u32, &self.memory, BUFFER, sectors * block::SECTOR)?;
                disk.transfer(Transfer::Write, sector, sectors)
            }
        }
    }

    fn answer(&mut self, request: &Request, done: bool) {
        let status = if done { Status::Done } else { Status::Failed };
        let sectors = self.disk.as_ref().map_or(0, Disk::sectors);
        let Ok(mut record) = self.completions.reserve(Completion::BYTES as u32 + request.answer()) else { return };
        let mut written = record.write(&Completion { tag: request.tag, status }.bytes());
        if done {
            written = written.and_then(|()| match request.operation {
                Operation::Hello => record.write(&Geometry { sectors, read_only: false }.bytes()),
                Operation::Read { sectors, .. } => record.copy_from(&self.memory, BUFFER, sectors * block::SECTOR),
                Operation::Write { .. } | Operation::Flush => Ok(()),
            });
        }
        if written.is_ok() {
            record.publish();
        }
    }
}
