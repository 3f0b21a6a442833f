//! A disk, by the rings to its driver: requests that are with the driver, and what is known of the disk.

use layout::{Slot, config::Name};
use mmio::{Mended, NoRoom, RecordConsumer, RecordProducer, Reservation};
use proto::{
    block::{Operation, Request},
    tally::{Report, Tally},
};

use crate::table::BYTES;

/// Requests that are with a driver at most.
pub const DEPTH: usize = 32;

/// What is known of a disk.
#[expect(clippy::large_enum_variant, reason = "nothing allocates, and there are few of them")]
pub enum State {
    /// The driver has been asked.
    Asked,
    /// The first sector is being read.
    Reading {
        /// How many it has.
        sectors: u64,
    },
    /// It can be used.
    Ready {
        /// How many it has.
        sectors: u64,
        /// The first one.
        table: [u8; BYTES],
    },
    /// There is no disk, or its driver has broken a ring, or has ended.
    Gone,
}

/// Who waits for a request's end.
#[derive(Clone, Copy, Debug)]
pub enum For {
    /// block-server itself.
    Server,
    /// A client.
    Export {
        /// Which one.
        number: usize,
        /// The client's request.
        request: Request,
        /// How many of its first sectors are not the disk's.
        head: u32,
    },
}

/// A request that is with the driver.
#[derive(Clone, Copy, Debug)]
pub struct Pending {
    pub tag: u64,
    pub operation: Operation,
    pub whose: For,
}

/// The disk.
pub struct Drive {
    pub name: Name,
    pub requests: RecordProducer,
    pub completions: RecordConsumer,
    pub signal: Slot,
    pub state: State,
    pub pending: [Option<Pending>; DEPTH],
    /// The last request's tag.
    tag: u64,
    /// Requests that the driver could not carry out.
    pub failures: Tally,
    /// How often the driver was lost.
    losses: Tally,
    /// The driver will not run again.
    ended: bool,
}

/// Why a request does not go to the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Not now: there are as many as may be, or there is no room for it.
    Enough,
    /// There is no driver.
    Gone,
    /// What should follow the operation is not there.
    NoData,
}

impl Drive {
    /// A disk of which nothing is known yet.
    pub fn new(name: Name, requests: RecordProducer, completions: RecordConsumer, signal: Slot) -> Self {
        let pending = [const { None }; DEPTH];
        let (failures, losses) = (Tally::default(), Tally::default());
        let state = State::Asked;
        Self { name, requests, completions, signal, state, pending, tag: 0, failures, losses, ended: false }
    }

    /// Asks the driver what the disk is.
    pub fn ask(&mut self) {
        self.state = match self.pass(Operation::Hello, For::Server, 0, |_| true) {
            Ok(()) => State::Asked,
            Err(_) => State::Gone,
        };
    }

    /// There is no driver from now on.
    pub fn lose(&mut self, why: &str) {
        self.state = State::Gone;
        if self.losses.add() == Report::Log {
            log::error!("`{}`: its driver {why} ({} so far)", self.name, self.losses.count());
        }
    }

    /// The driver will not run again.
    pub fn end(&mut self) {
        self.ended = true;
        self.lose("has ended, and all requests fail");
    }

    /// Whether the driver has begun anew where requests are lost, or the disk was gone: it has to be asked again.
    pub fn has_begun_anew(&mut self) -> bool {
        match self.requests.mend().max(self.completions.mend()) {
            _ if self.ended => false,
            Mended::Same | Mended::Broken => false,
            Mended::Continued => matches!(self.state, State::Gone),
            Mended::Emptied => true,
        }
    }

    /// Passes an operation to the driver; `data` appends what follows.
    pub fn pass(
        &mut self,
        operation: Operation,
        whose: For,
        data: u32,
        append: impl FnOnce(&mut Reservation<'_>) -> bool,
    ) -> Result<(), Refused> {
        let place = self.pending.iter_mut().find(|place| place.is_none()).ok_or(Refused::Enough)?;
        let len = Request::BYTES as u32 + data;
        let tag = self.tag.wrapping_add(1);
        match self.requests.reserve(len).map(drop) {
            // Without room, the driver signals when there is some.
            Err(NoRoom::Full) if !self.requests.park(len) => return Err(Refused::Enough),
            Ok(()) | Err(NoRoom::Full) => {}
            Err(NoRoom::TooLong | NoRoom::Broken) => return Err(Refused::Gone),
        }
        let mut record = self.requests.reserve(len).map_err(|_| Refused::Gone)?;
        if record.write(&Request { tag, operation }.bytes()).is_err() || !append(&mut record) {
            return Err(Refused::NoData);
        }
        record.publish();
        self.tag = tag;
        *place = Some(Pending { tag, operation, whose });
        Ok(())
    }
}
