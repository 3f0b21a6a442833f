//! A disk as a client has it: a part of a real one or a file, and the rings to the client.
//!
//! Of each request that is with the driver, the room for its completion is set aside, so that a client that takes no
//! completions keeps nobody else's.

use layout::{
    Slot,
    config::{self, Name},
};
use mmio::{Mended, NoRoom, Record, RecordConsumer, RecordProducer, Window};
use proto::{
    block::{Completion, Geometry, Operation, PARTITION_AT, Part, Request, SECTOR, Source, Status},
    file,
    tally::{Report, Tally},
    wire::Transport,
};

use crate::{
    image::{Fault, Files, Image},
    table::{self, BYTES, NoPartition, Partition},
};

/// Requests of a client that are with the driver at most: so many that the disk is busy, and so few that the next
/// client's are not far behind.
const IN_FLIGHT: u32 = 8;

/// The sectors of the disk that it is, and what comes before them.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    first: u64,
    sectors: u64,
    /// A partition, with the table in which it is alone.
    partition: Option<Partition>,
}

impl Extent {
    /// What `part` of a disk is.
    pub fn of(part: Part, sectors: u64, sector: &[u8; BYTES]) -> Result<Self, NoPartition> {
        match part {
            Part::Whole => Ok(Self { first: 0, sectors, partition: None }),
            Part::Partition(number) => {
                let partition = table::partition(sector, number, sectors)?;
                Ok(Self { first: partition.first, sectors: partition.sectors, partition: Some(partition) })
            }
            Part::Slice { first, sectors: len } => match first.checked_add(len) {
                Some(end) if end <= sectors && len > 0 => Ok(Self { first, sectors: len, partition: None }),
                _ => Err(NoPartition::Outside),
            },
        }
    }

    /// Sectors before those of the disk.
    const fn head(&self) -> u64 {
        if self.partition.is_some() { PARTITION_AT } else { 0 }
    }

    /// Whether both have a sector of the disk.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.first < other.first + other.sectors && other.first < self.first + self.sectors
    }

    /// The sectors of the disk: the first one, and the one behind the last.
    pub const fn range(&self) -> (u64, u64) {
        (self.first, self.first + self.sectors)
    }
}

/// What to do for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Answer it here: the disk has no part in it.
    Here,
    /// Pass this operation to the driver; the first sectors are not the disk's.
    Disk(Operation, u32),
    /// Refuse it.
    Refuse,
}

/// Where the sectors of a client's disk are.
pub enum Place {
    /// On a disk, by its position.
    Drive(usize),
    /// In a file.
    Image(Image),
    /// Nowhere: there is no such file.
    Nowhere,
}

/// The client's disk.
pub struct Export {
    pub client: Name,
    pub place: Place,
    pub part: Part,
    pub read_only: bool,
    /// A flush of another client has failed, and with it perhaps what this one has written.
    pub flush_lost: bool,
    pub requests: RecordConsumer,
    pub completions: RecordProducer,
    pub signal: Slot,
    /// As soon as it is known. `Some(None)` is none.
    pub extent: Option<Option<Extent>>,
    in_flight: u32,
    /// Bytes of the ring that completions of these take.
    set_aside: u32,
    /// The client has broken a ring.
    broken: bool,
    /// How often.
    breaks: Tally,
    /// Requests that it may not make.
    pub refusals: Tally,
}

/// Bytes of a ring that a completion with `data` bytes takes at most.
const fn span(data: u32) -> u32 {
    (Completion::BYTES as u32 + data + 4).next_multiple_of(8)
}

impl Export {
    /// A client's disk, of which nothing is known yet.
    /// A file is known at once.
    pub fn new<T: Transport>(
        config: &proto::block::Export,
        files: Option<&Files<T>>,
        memory: impl Fn(config::Window) -> Window,
        requests: RecordConsumer,
        completions: RecordProducer,
    ) -> Self {
        let proto::block::Export { client, source, part, read_only, signal, .. } = config;
        let (place, extent) = match source {
            Source::Disk(number) => (Place::Drive(usize::from(*number)), None),
            Source::File { name, layer } => {
                let (place, extent) = open(client, files, name, *layer, memory);
                (place, Some(extent))
            }
        };
        Self {
            client: client.clone(),
            read_only: *read_only || matches!(&place, Place::Image(image) if image.is_read_only()),
            place,
            part: *part,
            flush_lost: false,
            requests,
            completions,
            signal: *signal,
            extent,
            in_flight: 0,
            set_aside: 0,
            broken: false,
            breaks: Tally::default(),
            refusals: Tally::default(),
        }
    }

    /// Whether one more request may be with the driver.
    pub const fn has_turn(&self) -> bool {
        !self.broken && self.in_flight < IN_FLIGHT
    }

    /// Takes nothing more from a client that has broken its ring, before it begins anew.
    pub fn break_off(&mut self) {
        self.broken = true;
        if self.breaks.add() == Report::Log {
            log::error!("{} has broken its ring ({} so far)", self.client, self.breaks.count());
        }
    }

    /// Goes on with a client that has begun anew.
    pub fn mend(&mut self) {
        match self.requests.mend().max(self.completions.mend()) {
            Mended::Same | Mended::Broken => {}
            Mended::Continued | Mended::Emptied => self.broken = false,
        }
    }

    /// Whether no request is with the driver.
    pub const fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// What the disk is, if it is one.
    pub fn geometry(&self) -> Option<Geometry> {
        let extent = self.extent.flatten()?;
        Some(Geometry { sectors: extent.head() + extent.sectors, read_only: self.read_only })
    }

    /// Judges an operation.
    pub fn judge(&self, operation: Operation) -> Way {
        let Some(extent) = self.extent.flatten() else { return Way::Refuse };
        let (sector, sectors, write) = match operation {
            Operation::Hello => return Way::Here,
            Operation::Flush => return Way::Disk(Operation::Flush, 0),
            Operation::Read { sector, sectors } => (sector, sectors, false),
            Operation::Write { sector, sectors } => (sector, sectors, true),
        };
        let head = extent.head();
        let end = sector.checked_add(sectors.into()).filter(|&end| end <= head + extent.sectors);
        // Nobody writes the table of a partition.
        if end.is_none() || write && (self.read_only || sector < head) {
            return Way::Refuse;
        }
        let before = u32::try_from(head.saturating_sub(sector)).unwrap_or(sectors).min(sectors);
        let (at, left) = (extent.first + sector.max(head) - head, sectors - before);
        match (left, write) {
            (0, _) => Way::Here,
            (_, true) => Way::Disk(Operation::Write { sector: at, sectors: left }, 0),
            (_, false) => Way::Disk(Operation::Read { sector: at, sectors: left }, before),
        }
    }

    /// Whether there is room for the completion of a request, beside those that are set aside. `Err` is to come again:
    /// there is by now.
    pub fn has_room(&mut self, request: &Request) -> Result<bool, ()> {
        let all = self.set_aside + span(request.answer());
        match self.completions.reserve(all - 4) {
            Ok(_) => Ok(true),
            Err(NoRoom::Broken) => {
                self.break_off();
                Ok(false)
            }
            Err(NoRoom::TooLong) => Ok(false),
            Err(NoRoom::Full) => {
                if self.completions.park(all - 4) {
                    Err(())
                } else {
                    Ok(false)
                }
            }
        }
    }

    /// A request has gone to the driver.
    pub const fn passed(&mut self, request: &Request) {
        self.in_flight += 1;
        self.set_aside += span(request.answer());
    }

    /// One that did has ended.
    pub const fn came_back(&mut self, request: &Request) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.set_aside = self.set_aside.saturating_sub(span(request.answer()));
    }

    /// Sends a completion without data.
    pub fn end(&mut self, tag: u64, status: Status) {
        let Ok(mut record) = self.completions.reserve(Completion::BYTES as u32) else { return };
        if record.write(&Completion { tag, status }.bytes()).is_ok() {
            record.publish();
        }
    }

    /// Sends what the disk is.
    pub fn answer_hello(&mut self, tag: u64) {
        let Some(geometry) = self.geometry() else { return self.end(tag, Status::Failed) };
        let len = Completion::BYTES + Geometry::BYTES;
        let Ok(mut record) = self.completions.reserve(len as u32) else { return };
        let head = Completion { tag, status: Status::Done }.bytes();
        if record.write(&head).and_then(|()| record.write(&geometry.bytes())).is_ok() {
            record.publish();
        }
    }

    /// Whether its sectors are on this disk.
    pub const fn is_on(&self, drive: usize) -> bool {
        matches!(self.place, Place::Drive(number) if number == drive)
    }

    /// Carries an operation on a file out, and ends the request. Sectors are those of the file.
    pub fn on_image<T: Transport>(&mut self, files: &Files<T>, request: &Request) {
        let Self { client, place: Place::Image(image), requests, completions, .. } = self else { return };
        let Ok(mut end) = completions.reserve(Completion::BYTES as u32 + request.answer()) else { return };
        let mut done = end.write(&Completion { tag: request.tag, status: Status::Done }.bytes()).map_err(Fault::from);
        done = done.and_then(|()| match request.operation {
            Operation::Read { sector, sectors } => image.read(files, sector, sectors, &mut end),
            Operation::Write { sector, sectors } => match requests.peek() {
                Ok(Some(record)) => image.write(files, sector, sectors, &record, Request::BYTES as u32),
                _ => Err(Fault::OutOfRange),
            },
            // A layer has no other medium.
            Operation::Flush | Operation::Hello => Ok(()),
        });
        match done {
            Ok(()) => end.publish(),
            Err(fault) => {
                // Once: a client whose layer is full would fill the log as well.
                if image.last.replace(fault) != Some(fault) {
                    let (name, (room, used)) = (&image.name, image.room());
                    let why = if fault == Fault::Full { "there is no room for more writes" } else { "it fails" };
                    log::error!("{client}: `{name}`: {why} ({fault:?}), {used} of {room} KiB of copy_on_write in use");
                }
                self.end(request.tag, Status::Failed);
            }
        }
    }

    /// Sends the sectors of a read: `head` that are not the disk's, and then those of `rest`, behind a completion.
    pub fn answer_read(&mut self, request: &Request, head: u32, rest: Option<&Record<'_>>) {
        let Operation::Read { sector, sectors } = request.operation else { return };
        let left = (sectors - head) * SECTOR;
        let Ok(mut record) = self.completions.reserve(Completion::BYTES as u32 + sectors * SECTOR) else { return };
        let table = self.extent.flatten().and_then(|extent| extent.partition).map(table::alone);
        let head = (sector..).take(head as usize).map(|sector| if sector == 0 { table } else { None });
        let mut done = record.write(&Completion { tag: request.tag, status: Status::Done }.bytes());
        for bytes in head {
            done = done.and_then(|()| record.write(&bytes.unwrap_or([0; BYTES])));
        }
        if let Some(rest) = rest {
            done = done.and_then(|()| rest.forward(Completion::BYTES as u32, &mut record, left));
        }
        if done.is_ok() {
            record.publish();
        }
    }
}

/// A file, and the sectors that it has.
fn open<T: Transport>(
    client: &Name,
    files: Option<&Files<T>>,
    name: &Name,
    layer: Option<config::Window>,
    memory: impl Fn(config::Window) -> Window,
) -> (Place, Option<Extent>) {
    let image = files.ok_or(file::Error::NotFound).and_then(|files| Image::open(files, name, layer.map(memory)));
    match image {
        Ok(image) if image.sectors() > 0 => {
            let (sectors, (room, used)) = (image.sectors(), image.room());
            match image.is_read_only() {
                true => log::info!("{client}: `{name}`, {sectors} sectors, read-only"),
                false => {
                    log::info!("{client}: `{name}`, {sectors} sectors, {used} of {room} KiB of copy_on_write in use")
                }
            }
            (Place::Image(image), Some(Extent { first: 0, sectors, partition: None }))
        }
        image => {
            log::error!("{client}: `{name}` is no disk: {:?}", image.err());
            (Place::Nowhere, None)
        }
    }
}
