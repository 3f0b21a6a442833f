//! The block device: requests to read, write and flush sectors, passed to a back end and answered when that is done.
//!
//! VIRTIO 1.2, section 5.2. A request is held while it is with the back end; several are, and they end in any order. A
//! long one goes there in pieces, one after the other.
//! Left out: discarding, zeroing, several queues, topology, and a cache mode that the driver can change.

use super::{Broken, Device, Features, Held, Kind, Request, Requests, Served};
use crate::GuestMemory;

/// Bytes of a sector, the unit of all numbers of the interface.
pub const SECTOR: u64 = 512;
/// Buffers of data in a request at most (`seg_max`): of a page each, a read-ahead as Linux has it by default (128 KiB).
pub const SEGMENTS: u32 = 32;
/// Bytes of each at most (`size_max`): what fits a chunk of most DMA engines.
pub const SEGMENT: u32 = 0x1_0000;
/// Requests that are with the back end at the same time, at most: enough for a disk that does one after the other.
pub const IN_FLIGHT: usize = 4;
/// Bytes of the text by which the driver may know the device.
pub const ID: usize = 20;

/// Buffers of a request at most: header, data, status.
const BUFFERS: usize = SEGMENTS as usize + 2;
/// Bytes of a request's header: type, reserved, sector.
const HEADER: usize = 16;

// Types of requests (5.2.6).
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;

/// Feature bits of the device type (5.2.3).
const SIZE_MAX: u64 = 1 << 1;
const SEG_MAX: u64 = 1 << 2;
const RO: u64 = 1 << 5;
const BLK_SIZE: u64 = 1 << 6;
const CACHE: u64 = 1 << 9;

/// The last byte of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    Ok = 0,
    IoErr = 1,
    Unsupp = 2,
}

/// What a disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disk {
    /// Its sectors.
    pub sectors: u64,
    /// Writes fail.
    pub read_only: bool,
    /// The text by which the driver may know it, filled up with zeros.
    pub id: [u8; ID],
}

/// What a back end has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Read sectors.
    Read {
        /// The first one.
        sector: u64,
        /// How many.
        sectors: u32,
    },
    /// Write sectors.
    Write {
        /// The first one.
        sector: u64,
        /// How many.
        sectors: u32,
    },
    /// Have the writes that are finished on the medium.
    Flush,
}

/// Whether a back end has begun with an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Started {
    /// It has.
    Yes,
    /// It has no room for it now. It has the device polled when it has.
    Busy,
}

/// The end of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Finished {
    /// The operation, as the device has called it.
    pub tag: u32,
    /// It was carried out.
    pub ok: bool,
    /// Bytes of data with it.
    pub len: u32,
}

/// What has the sectors.
pub trait Backend {
    /// Sectors of an operation at most, not 0.
    const MOST: u32;

    /// What it is.
    fn disk(&self) -> Disk;

    /// Begins with an operation, which stays known by `tag`. For a write it reads as many bytes of `request`, unless it is
    /// busy; it forgets the operation if that fails.
    fn start(
        &mut self,
        tag: u32,
        operation: Operation,
        request: &mut Request<'_, impl GuestMemory>,
    ) -> Result<Started, Broken>;

    /// An operation that has ended, if there is one. It remains this one until it is released.
    fn finished(&mut self) -> Option<Finished>;

    /// Appends its data to the answer of `request`; returns how many bytes there were.
    fn deliver(&mut self, request: &mut Request<'_, impl GuestMemory>) -> Result<u32, Broken>;

    /// Forgets it.
    fn release(&mut self);

    /// Whether operations were started that whoever carries them out was not told about.
    fn has_output(&self) -> bool;
}

/// What is left to do for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Work {
    write: bool,
    /// The next sector.
    sector: u64,
    /// How many are left.
    sectors: u64,
    /// Afterwards, a flush.
    flush: bool,
}

impl Work {
    /// The next operation, if there is one.
    fn next(self, most: u32) -> Option<Operation> {
        let Self { write, sector, sectors, flush } = self;
        let sectors = u32::try_from(sectors).unwrap_or(most).min(most);
        match (sectors, write) {
            (0, _) => flush.then_some(Operation::Flush),
            (_, true) => Some(Operation::Write { sector, sectors }),
            (_, false) => Some(Operation::Read { sector, sectors }),
        }
    }

    /// What is left after it.
    const fn after(mut self, operation: Operation) -> Self {
        match operation {
            Operation::Read { sectors, .. } | Operation::Write { sectors, .. } => {
                self.sector = self.sector.saturating_add(sectors as u64);
                self.sectors = self.sectors.saturating_sub(sectors as u64);
            }
            Operation::Flush => self.flush = false,
        }
        self
    }
}

/// A request that the device holds.
#[derive(Clone, Debug)]
struct Slot {
    held: Held<BUFFERS>,
    work: Work,
    /// Its operation at the back end, and the tag of that; `None` while there is no room for one.
    started: Option<(u32, Operation)>,
}

/// The device.
#[derive(Clone, Debug)]
pub struct Block<B> {
    backend: B,
    slots: [Option<Slot>; IN_FLIGHT],
    /// The tag of the last operation. Tags of operations that a reset has orphaned do not come again while those are there.
    tag: u32,
    /// The driver flushes by itself.
    flushes: bool,
}

impl<B: Backend> Block<B> {
    /// A device with the sectors of `backend`.
    pub const fn new(backend: B) -> Self {
        Self { backend, slots: [const { None }; IN_FLIGHT], tag: 0, flushes: false }
    }

    /// The back end.
    pub const fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// What the request with this header asks for, or the status that it has already.
    fn judge(&self, header: &[u8; HEADER], request: &Request<'_, impl GuestMemory>) -> Result<Work, Status> {
        let number = |at: usize| header.iter().skip(at).take(8).rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        let (kind, sector) = (number(0) as u32, number(8));
        let write = kind == OUT;
        let bytes = match kind {
            IN => request.writable().saturating_sub(1),
            OUT => request.readable(),
            FLUSH => return Ok(Work { write: false, sector: 0, sectors: 0, flush: true }),
            _ => return Err(Status::Unsupp),
        };
        let Disk { sectors: capacity, read_only, .. } = self.backend.disk();
        let sectors = bytes / SECTOR;
        let end = sector.checked_add(sectors).filter(|&end| end <= capacity);
        if !bytes.is_multiple_of(SECTOR) || end.is_none() || write && read_only {
            return Err(Status::IoErr);
        }
        // "If VIRTIO_BLK_F_FLUSH was not negotiated, the device MUST … writethrough" (5.2.6.2).
        Ok(Work { write, sector, sectors, flush: write && !self.flushes })
    }

    /// Takes new requests while there are slots for them.
    fn take(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        loop {
            // A request that waits for room goes first.
            let blocked = self.slots.iter().flatten().any(|slot| slot.started.is_none());
            let Some(n) = self.slots.iter().position(Option::is_none).filter(|_| !blocked) else {
                return Ok(Served::Held);
            };
            let Some(mut request) = requests.peek()? else { return Ok(Served::All) };
            let mut header = [0; HEADER];
            if request.writable() == 0 || request.read(&mut header)? < HEADER {
                return Err(Broken::Request);
            }
            let work = if u32::from_le_bytes([header[0], header[1], header[2], header[3]]) == GET_ID {
                let room = usize::try_from(request.writable() - 1).unwrap_or(ID).min(ID);
                request.write(self.backend.disk().id.get(..room).unwrap_or_default())?;
                Err(Status::Ok)
            } else {
                self.judge(&header, &request)
            };
            match work {
                Ok(work) => {
                    if let Some(slot) = self.slots.get_mut(n) {
                        *slot = Some(Slot { held: request.hold()?, work, started: None });
                    }
                    self.advance(n, requests)?;
                }
                Err(status) => end(request, status)?,
            }
        }
    }

    /// Begins with the next operation of slot `n`, or ends the request if there is none.
    fn advance(&mut self, n: usize, requests: &mut Requests<'_, impl GuestMemory>) -> Result<(), Broken> {
        let Some(place) = self.slots.get_mut(n) else { return Ok(()) };
        let Some(Slot { held, work, started }) = place else { return Ok(()) };
        let Some(mut request) = requests.resume(held) else {
            *place = None;
            return Ok(());
        };
        let Some(operation) = work.next(B::MOST) else {
            end(request, Status::Ok)?;
            *place = None;
            return Ok(());
        };
        let tag = self.tag.wrapping_add(1);
        *started = match self.backend.start(tag, operation, &mut request)? {
            Started::Yes => Some((tag, operation)),
            Started::Busy => None,
        };
        self.tag = tag;
        Ok(())
    }

    /// Goes on with the request whose operation has ended.
    fn on_finished(&mut self, finished: Finished, requests: &mut Requests<'_, impl GuestMemory>) -> Result<(), Broken> {
        let Finished { tag, ok, len } = finished;
        let of = |slot: &Slot| slot.started.filter(|&(started, _)| started == tag).map(|(_, operation)| operation);
        let mut slots = self.slots.iter_mut().enumerate();
        let found = slots.find_map(|(n, place)| of(place.as_ref()?).map(|operation| (n, operation, place)));
        // It may have been orphaned by a reset.
        let Some((n, operation, place)) = found else { return Ok(()) };
        let Some(Slot { held, work, started }) = place else { return Ok(()) };
        let Some(mut request) = requests.resume(held) else {
            *place = None;
            return Ok(());
        };
        let expected = match operation {
            Operation::Read { sectors, .. } => u64::from(sectors) * SECTOR,
            Operation::Write { .. } | Operation::Flush => 0,
        };
        let whole = ok && u64::from(len) == expected;
        if !whole || len > 0 && self.backend.deliver(&mut request)? != len {
            end(request, Status::IoErr)?;
            *place = None;
            return Ok(());
        }
        (*work, *started) = (work.after(operation), None);
        self.advance(n, requests)
    }
}

/// Ends a request with its status, the last byte.
fn end(mut request: Request<'_, impl GuestMemory>, status: Status) -> Result<(), Broken> {
    request.write_last(status as u8)?;
    request.finish()
}

impl<B: Backend> Device for Block<B> {
    const KIND: Kind = Kind { id: 2, transitional: Some(0x1001), class: 0x0100 };
    const QUEUES: &'static [u16] = &[128];
    const CONFIG: u16 = 24;

    fn features(&self) -> Features {
        let read_only = if self.backend.disk().read_only { RO } else { 0 };
        Features::from_bits_retain(SIZE_MAX | SEG_MAX | BLK_SIZE | CACHE | read_only)
    }

    fn accept(&mut self, features: Features) {
        self.flushes = features.bits() & CACHE != 0;
    }

    /// Section 5.2.4. Geometry, from 16 on, is not offered.
    fn read_config(&self, at: u16) -> u8 {
        let (field, from): (u64, u16) = match at {
            0..8 => (self.backend.disk().sectors, 0),
            8..12 => (SEGMENT.into(), 8),
            12..16 => (SEGMENTS.into(), 12),
            20..24 => (SECTOR, 20),
            _ => return 0,
        };
        (field >> (8 * (at - from))) as u8
    }

    fn serve(&mut self, _queue: usize, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        // The bound is for a back end that makes ends up.
        for _ in 0..IN_FLIGHT {
            let Some(finished) = self.backend.finished() else { break };
            let result = self.on_finished(finished, requests);
            self.backend.release();
            result?;
        }
        for n in 0..IN_FLIGHT {
            if self.slots.get(n).is_some_and(|slot| slot.as_ref().is_some_and(|slot| slot.started.is_none())) {
                self.advance(n, requests)?;
            }
        }
        let served = self.take(requests)?;
        Ok(if self.backend.finished().is_some() { Served::Waiting } else { served })
    }

    fn has_output(&self) -> bool {
        self.backend.has_output()
    }

    fn reset(&mut self) {
        self.slots = [const { None }; IN_FLIGHT];
        self.flushes = false;
    }
}
