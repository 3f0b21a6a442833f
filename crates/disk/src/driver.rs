//! The loop: takes requests of block-server from a ring, one after the other, and answers them into the other one.
//!
//! A request is released after it was answered. A process that begins again does what its predecessor has not finished once
//! more, which changes nothing: requests name sectors and what is to be in them.

use mmio::{RecordConsumer, RecordProducer};
use proto::block::{Completion, Geometry, Operation, Request, Status};

use crate::{Disk, Fault};

/// The driver of a disk, without its process. Where there is no disk, every request fails.
#[derive(Debug)]
pub struct Driver<D> {
    disk: Option<D>,
    requests: RecordConsumer,
    completions: RecordProducer,
}

/// Nothing more can be done before block-server signals.
struct Idle;

impl<D: Disk> Driver<D> {
    /// A driver at these ends of the rings.
    pub const fn new(disk: Option<D>, requests: RecordConsumer, completions: RecordProducer) -> Self {
        Self { disk, requests, completions }
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
            if let Err(fault) = self.carry_out(&request) {
                log::debug!("{:?}: {fault:?}", request.operation);
                self.fail(&request);
            }
        }
        if let Ok(Some(record)) = self.requests.peek() {
            record.release();
        }
        Ok(())
    }

    /// Carries a request out and sends its completion. Without one, nothing was sent.
    fn carry_out(&mut self, request: &Request) -> Result<(), Fault> {
        let Self { disk, requests, completions } = self;
        let disk = disk.as_mut().ok_or(Fault::Absent)?;
        let room = Completion::BYTES as u32 + request.answer();
        let mut record = completions.reserve(room).map_err(|_| Fault::Memory)?;
        record.write(&Completion { tag: request.tag, status: Status::Done }.bytes())?;
        match request.operation {
            Operation::Hello => record.write(&Geometry { sectors: disk.sectors(), read_only: false }.bytes())?,
            Operation::Flush => disk.flush()?,
            Operation::Read { sector, sectors } => {
                disk.read(sector, sectors, |bytes| record.copy_from(&bytes, 0, bytes.len() as u32))?;
            }
            Operation::Write { sector, sectors } => {
                let Ok(Some(data)) = requests.peek() else { return Err(Fault::Memory) };
                let mut at = Request::BYTES as u32;
                disk.write(sector, sectors, |bytes| {
                    data.copy_to(at, &bytes, 0, bytes.len() as u32)?;
                    at += bytes.len() as u32;
                    Ok(())
                })?;
            }
        }
        record.publish();
        Ok(())
    }

    fn fail(&mut self, request: &Request) {
        let Ok(mut record) = self.completions.reserve(Completion::BYTES as u32) else { return };
        if record.write(&Completion { tag: request.tag, status: Status::Failed }.bytes()).is_ok() {
            record.publish();
        }
    }
}
