//! The server: requests from clients to drivers, completions back, in turns.
//!
//! Each turn takes one request of each client, and the next turn begins with another one, so that no client waits for more
//! than one request of each of the others.

use core::ops::ControlFlow;

use heapless::Vec;
use layout::{
    Slot, config, event,
    limits::{MAX_DISKS, MAX_EXPORTS},
};
use mmio::{NotARing, RecordRing, Reservation, Window};
use proto::{
    block::{Completion, Config, Geometry, Operation, Request, SECTOR, Status},
    tally::Report,
    wire::Transport,
};

use crate::{
    drive::{Drive, For, Refused, State},
    export::{Export, Extent, Place, Way},
    image::Files,
    table::BYTES,
};

/// The server.
pub struct Server<T> {
    drives: Vec<Drive, MAX_DISKS>,
    /// fileserver, if any client has a file.
    files: Option<Files<T>>,
    exports: Vec<Export, MAX_EXPORTS>,
    /// The client whose turn is first.
    first: usize,
}

/// Whether a turn has changed anything, so that another one may.
type Moved = bool;

impl<T: Transport> Server<T> {
    /// The server of the configuration; `window` finds memory, and `files` leads to fileserver.
    pub fn new(config: &Config, window: impl Fn(config::Window) -> Window, files: T) -> Result<Self, NotARing> {
        let ring = |at| RecordRing::new(window(at));
        let mut drives = Vec::new();
        for disk in &config.disks {
            let (requests, completions) = (ring(disk.rings.requests)?, ring(disk.rings.completions)?);
            let mut drive = Drive::new(disk.name.clone(), requests.producer(), completions.consumer(), disk.signal);
            drive.ask();
            let _ = drives.push(drive);
        }
        let files = config.files.map(|buffer| Files::new(files, window(buffer)));
        let mut exports = Vec::new();
        for export in &config.exports {
            let (requests, completions) = (ring(export.rings.requests)?, ring(export.rings.completions)?);
            let (requests, completions) = (requests.consumer(), completions.producer());
            let _ = exports.push(Export::new(export, files.as_ref(), &window, requests, completions));
        }
        Ok(Self { drives, files, exports, first: 0 })
    }

    /// Does all that can be done now; `signal` signals a process whose rings have changed.
    pub fn step(&mut self, mut signal: impl FnMut(Slot)) {
        for number in 0..self.drives.len() {
            self.renew(number);
        }
        self.exports.iter_mut().for_each(Export::mend);
        loop {
            let mut moved = false;
            for number in 0..self.drives.len() {
                moved |= self.collect(number);
            }
            for n in 0..self.exports.len() {
                moved |= self.take((self.first + n) % self.exports.len());
            }
            self.first = (self.first + 1) % self.exports.len().max(1);
            if !moved {
                break;
            }
        }
        for drive in &mut self.drives {
            if drive.requests.must_signal() | drive.completions.must_signal() {
                signal(drive.signal);
            }
        }
        for export in &mut self.exports {
            if export.requests.must_signal() | export.completions.must_signal() {
                signal(export.signal);
            }
        }
    }

    /// Some drivers will not run again: those of `layout::event::ended`. The next step ends what waits for them.
    pub fn end(&mut self, bits: u64) {
        for (n, drive) in self.drives.iter_mut().enumerate() {
            if bits & event::ended(n) != 0 {
                drive.end();
            }
        }
    }

    /// Asks a driver that has begun anew what its disk is, if it cannot just go on.
    fn renew(&mut self, number: usize) {
        if !self.drives.get_mut(number).is_some_and(Drive::has_begun_anew) {
            return;
        }
        self.give_up(number);
        for export in self.exports.iter_mut().filter(|export| export.is_on(number)) {
            export.extent = None;
        }
        if let Some(drive) = self.drives.get_mut(number) {
            drive.ask();
        }
    }

    /// Takes a completion of a driver.
    fn collect(&mut self, number: usize) -> Moved {
        let Some(drive) = self.drives.get_mut(number) else { return false };
        if matches!(drive.state, State::Gone) {
            return self.give_up(number);
        }
        let (asked, known) = match drive.state {
            State::Asked => (true, 0),
            State::Reading { sectors } => (false, sectors),
            State::Ready { .. } | State::Gone => (false, 0),
        };
        let (Drive { completions, pending, .. }, exports) = (&mut *drive, &mut self.exports);
        let record = match completions.peek() {
            Ok(Some(record)) => record,
            Ok(None) => return completions.park(),
            Err(_) => {
                drive.lose("has broken the ring");
                return true;
            }
        };
        let mut bytes = [0; Completion::BYTES];
        let completion = record.read(0, &mut bytes).map(|()| Completion::of(&bytes));
        let data = record.len().saturating_sub(Completion::BYTES as u32);
        let place = completion.ok().and_then(|completion| {
            let place = pending.iter_mut().find(|place| place.is_some_and(|one| one.tag == completion.tag))?;
            place.take().map(|one| (one.whose, one.operation, completion.status))
        });
        match place {
            // A driver that begins again may answer a request twice.
            None => record.release(),
            Some((For::Export { number: export, request, head }, operation, status)) => {
                let expected = request.answer().saturating_sub(head * SECTOR);
                let failed = status != Status::Done || data != expected;
                if let Some(export) = exports.get_mut(export) {
                    export.came_back(&request);
                    match (failed, request.operation) {
                        (true, _) => export.end(request.tag, Status::Failed),
                        (false, Operation::Read { .. }) => export.answer_read(&request, head, Some(&record)),
                        (false, _) => export.end(request.tag, Status::Done),
                    }
                }
                record.release();
                if failed && request.operation == Operation::Flush {
                    // Whoever has written learns of it, not only who has asked.
                    let others = exports.iter_mut().enumerate().filter(|(n, _)| *n != export);
                    for (_, other) in others.filter(|(_, other)| other.is_on(number) && !other.read_only) {
                        other.flush_lost = true;
                    }
                }
                if failed && drive.failures.add() == Report::Log {
                    let client = exports.get(export).map(|export| export.client.as_str()).unwrap_or_default();
                    let count = drive.failures.count();
                    log::error!("`{}`: {operation:?} of {client} failed ({count} so far)", drive.name);
                }
            }
            Some((For::Server, _, status)) => {
                let (mut shape, mut table) = ([0; Geometry::BYTES], [0; BYTES]);
                let into: &mut [u8] = if asked { &mut shape } else { &mut table };
                let whole = data as usize == into.len() && record.read(Completion::BYTES as u32, into).is_ok();
                let state = match (whole && status == Status::Done, asked) {
                    (false, _) => State::Gone,
                    (true, true) => State::Reading { sectors: Geometry::of(&shape).sectors },
                    (true, false) => State::Ready { sectors: known, table },
                };
                record.release();
                drive.state = state;
                self.learn(number);
            }
        }
        true
    }

    /// Goes on with what is known of a disk by now.
    fn learn(&mut self, number: usize) {
        let Some(drive) = self.drives.get_mut(number) else { return };
        match drive.state {
            State::Asked => {}
            State::Reading { sectors } => {
                let first = Operation::Read { sector: 0, sectors: 1 };
                if sectors == 0 || drive.pass(first, For::Server, 0, |_| true).is_err() {
                    drive.state = State::Gone;
                }
            }
            State::Ready { sectors, table } => {
                log::info!("`{}`: {sectors} sectors", drive.name);
                for n in 0..self.exports.len() {
                    self.find(n, number, sectors, &table);
                }
            }
            State::Gone => {}
        }
    }

    /// Finds the sectors of client `n`, if it is a client of this disk.
    fn find(&mut self, n: usize, disk: usize, sectors: u64, table: &[u8; BYTES]) {
        let name = self.drives.get(disk).map(|drive| drive.name.clone()).unwrap_or_default();
        let Some(export) = self.exports.get(n).filter(|export| export.is_on(disk)) else { return };
        let extent = match Extent::of(export.part, sectors, table) {
            Ok(extent) => Some(extent),
            Err(why) => {
                log::error!("{}: `{name}` does not have {}: {why:?}", export.client, export.part);
                None
            }
        };
        let extent = extent.filter(|extent| {
            let shared = self.exports.iter().filter(|other| other.is_on(disk));
            let shared = shared.filter(|other| !(other.read_only && export.read_only));
            let other = shared.clone().find(|other| other.extent.flatten().is_some_and(|other| other.overlaps(extent)));
            if let Some(other) = other {
                log::error!("{}: {} of `{name}` overlaps what {} has", export.client, export.part, other.client);
            }
            other.is_none()
        });
        if let Some((first, end)) = extent.map(|extent| extent.range()) {
            log::info!("{}: {} of `{name}`, sectors {first} to {}", export.client, export.part, end - 1);
        }
        if let Some(export) = self.exports.get_mut(n) {
            export.extent = Some(extent);
        }
    }

    /// Ends what waits for a disk that is not there.
    fn give_up(&mut self, number: usize) -> Moved {
        let Self { drives, exports, .. } = self;
        let Some(drive) = drives.get_mut(number) else { return false };
        let mut moved = false;
        for one in drive.pending.iter_mut().filter_map(Option::take) {
            moved = true;
            if let For::Export { number, request, .. } = one.whose
                && let Some(export) = exports.get_mut(number)
            {
                export.came_back(&request);
                export.end(request.tag, Status::Failed);
            }
        }
        for export in exports.iter_mut().filter(|export| export.is_on(number) && export.extent.is_none()) {
            log::error!("{}: there is no disk `{}`", export.client, drive.name);
            export.extent = Some(None);
            moved = true;
        }
        moved
    }

    /// Takes a request of a client, if it has one, and it is its turn.
    fn take(&mut self, n: usize) -> Moved {
        let Self { drives, files, exports, .. } = self;
        let Some(export) = exports.get_mut(n) else { return false };
        if export.extent.is_none() || !export.has_turn() {
            return false;
        }
        let mut bytes = [0; Request::BYTES];
        let request = match export.requests.peek() {
            Ok(Some(record)) => match record.read(0, &mut bytes) {
                Ok(()) => Request::of(&bytes, record.len() - Request::BYTES as u32),
                Err(_) => None,
            },
            Ok(None) => return export.requests.park(),
            Err(_) => {
                export.break_off();
                return false;
            }
        };
        let Some(request) = request else {
            // It has no tag to which there could be an answer.
            refuse(export, "is no request");
            return release(export);
        };
        match export.has_room(&request) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(()) => return true,
        }
        match (export.judge(request.operation), request.operation) {
            (_, Operation::Hello) if !export.is_idle() => return false,
            (_, Operation::Hello) => export.answer_hello(request.tag),
            (Way::Here, Operation::Read { sectors, .. }) => export.answer_read(&request, sectors, None),
            (Way::Here, _) => export.end(request.tag, Status::Done),
            (Way::Refuse, _) => {
                refuse(export, "is outside its disk, or a write where it may not");
                export.end(request.tag, Status::Refused);
            }
            (Way::Disk(..), Operation::Flush) if core::mem::take(&mut export.flush_lost) => {
                export.end(request.tag, Status::Failed);
            }
            (Way::Disk(operation, head), _) => match export.place {
                Place::Drive(number) => {
                    let Some(drive) = drives.get_mut(number) else { return false };
                    match pass(drive, export, operation, For::Export { number: n, request, head }) {
                        ControlFlow::Continue(()) => {}
                        ControlFlow::Break(moved) => return moved,
                    }
                }
                Place::Image(_) => files.iter().for_each(|files| export.on_image(files, &request)),
                Place::Nowhere => export.end(request.tag, Status::Failed),
            },
        }
        release(export)
    }
}

/// Passes a client's request to a driver. A break leaves it where it is, or ends the client.
fn pass(drive: &mut Drive, export: &mut Export, operation: Operation, whose: For) -> ControlFlow<Moved> {
    let For::Export { request, .. } = whose else { return ControlFlow::Break(false) };
    if matches!(drive.state, State::Gone) {
        export.end(request.tag, Status::Failed);
        return ControlFlow::Continue(());
    }
    let data = if let Operation::Write { sectors, .. } = operation { sectors * SECTOR } else { 0 };
    let Ok(Some(record)) = export.requests.peek() else { return ControlFlow::Break(false) };
    let append = |to: &mut Reservation<'_>| record.forward(Request::BYTES as u32, to, data).is_ok();
    match drive.pass(operation, whose, data, append) {
        Ok(()) => {
            export.passed(&request);
            ControlFlow::Continue(())
        }
        Err(Refused::Enough) => ControlFlow::Break(false),
        // The client has changed the record's length since it was judged.
        Err(Refused::NoData) => {
            export.break_off();
            ControlFlow::Break(false)
        }
        Err(Refused::Gone) => {
            drive.lose("has broken the ring");
            ControlFlow::Break(true)
        }
    }
}

/// Gives the room of a client's request back.
fn release(export: &mut Export) -> Moved {
    if let Ok(Some(record)) = export.requests.peek() {
        record.release();
    }
    true
}

/// Logs a request that a client may not make.
fn refuse(export: &mut Export, why: &str) {
    if export.refusals.add() == Report::Log {
        log::warn!("{}: a request {why} ({} so far)", export.client, export.refusals.count());
    }
}
