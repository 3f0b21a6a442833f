//! Requests, as a device sees them: bytes to read, room to write, and an end.
//!
//! A device finishes a request at once, or holds it until its back end is done with it. A held request keeps the copies of
//! its descriptors, so the driver cannot change what was checked; it belongs to the ring that it came from, so after a
//! reset nothing is left of it.

use super::{
    Broken,
    chain::{Buffer, Chain, Cursor},
    queue::Queue,
};
use crate::GuestMemory;
use heapless::Vec;
use mmio::{Record, Reservation};

/// The pending requests of a queue, as many as one turn may serve. The limit bounds the time of an exit, however fast
/// the guest adds requests.
pub struct Requests<'a, M> {
    pub(super) queue: &'a mut Queue,
    pub(super) chain: &'a mut Chain,
    pub(super) memory: &'a M,
    /// How many more there are in this turn.
    pub(super) left: u16,
    pub(super) progress: Progress,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    read: Cursor,
    write: Cursor,
    /// Bytes written.
    written: u32,
    /// It is no longer the queue's next one.
    taken: bool,
}

impl<M: GuestMemory> Requests<'_, M> {
    /// The next request. It remains the next one, now or in a later turn, until it is finished or held.
    pub fn peek(&mut self) -> Result<Option<Request<'_, M>>, Broken> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        if !self.queue.fetch(self.memory, self.chain)? {
            return Ok(None);
        }
        self.left = left;
        self.progress = Progress::default();
        let Self { queue, chain, memory, progress, .. } = self;
        let (buffers, readable) = chain.buffers();
        Ok(Some(Request { queue, memory, head: chain.head, buffers, readable, progress }))
    }

    /// How many requests the queue has room for.
    pub const fn size(&self) -> u16 {
        self.queue.size
    }

    /// Goes on with a request that was held; `None` if the queue was reset since.
    pub fn resume<'a, const N: usize>(&'a mut self, held: &'a mut Held<N>) -> Option<Request<'a, M>> {
        if held.epoch != self.queue.epoch() {
            return None;
        }
        let Held { head, buffers, readable, progress, .. } = held;
        Some(Request { queue: self.queue, memory: self.memory, head: *head, buffers, readable: *readable, progress })
    }
}

/// Two bytes of a request's answer that are not written yet.
#[derive(Clone, Copy, Debug)]
pub struct Place([u64; 2]);

/// A request of at most `N` buffers that its device has taken and not finished.
#[derive(Clone, Debug)]
pub struct Held<const N: usize> {
    epoch: u32,
    head: u16,
    buffers: Vec<Buffer, N>,
    readable: usize,
    progress: Progress,
}

/// One request.
pub struct Request<'a, M> {
    queue: &'a mut Queue,
    memory: &'a M,
    head: u16,
    /// First those that the device reads, then those that it writes.
    buffers: &'a [Buffer],
    readable: usize,
    progress: &'a mut Progress,
}

impl<'a, M: GuestMemory> Request<'a, M> {
    /// Bytes that were not read yet.
    pub fn readable(&self) -> u64 {
        self.progress.read.left(self.inputs())
    }

    /// Bytes that there is room for.
    pub fn writable(&self) -> u64 {
        self.progress.write.left(self.outputs())
    }

    /// Copies the next bytes of the request; returns how many there were.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Broken> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let mut cursor = self.progress.read;
            let Some(piece) = cursor.advance(self.inputs(), rest.len()) else { break };
            let Some(rest) = rest.get_mut(..piece.len as usize) else { break };
            self.memory.read(piece.gpa, rest).map_err(|_| Broken::Buffer)?;
            self.progress.read = cursor;
            done += rest.len();
        }
        Ok(done)
    }

    /// Leaves out the next `len` bytes of the request: those that a device has taken of it in an earlier turn.
    pub fn skip(&mut self, len: u32) {
        let mut left = len;
        while left > 0 {
            let mut cursor = self.progress.read;
            let Some(piece) = cursor.advance(self.inputs(), left as usize) else { break };
            self.progress.read = cursor;
            left -= piece.len;
        }
    }

    /// Appends bytes to the answer; returns how many there was room for.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let mut cursor = self.progress.write;
            let Some(piece) = cursor.advance(self.outputs(), rest.len()) else { break };
            let Some(rest) = rest.get(..piece.len as usize) else { break };
            self.memory.write(piece.gpa, rest).map_err(|_| Broken::Buffer)?;
            self.progress.write = cursor;
            self.progress.written += piece.len;
            done += rest.len();
        }
        Ok(done)
    }

    /// Writes the last byte of the answer, where some device types have a status, without counting it as written unless
    /// all bytes before it were.
    pub fn write_last(&mut self, byte: u8) -> Result<(), Broken> {
        if self.writable() == 1 {
            return self.write(&[byte]).map(drop);
        }
        let last = self.outputs().iter().rfind(|buffer| buffer.len > 0).ok_or(Broken::Request)?;
        self.memory.write(last.gpa + u64::from(last.len) - 1, &[byte]).map_err(|_| Broken::Buffer)
    }

    /// Takes the request off the queue, for later. Its end comes by [`Requests::resume`].
    ///
    /// # Errors
    /// It has more than `N` buffers.
    pub fn hold<const N: usize>(self) -> Result<Held<N>, Broken> {
        let buffers = Vec::from_slice(self.buffers).map_err(|_| Broken::Request)?;
        if !self.progress.taken {
            self.queue.take();
        }
        let progress = Progress { taken: true, ..*self.progress };
        Ok(Held { epoch: self.queue.epoch(), head: self.head, buffers, readable: self.readable, progress })
    }

    /// Appends the next bytes of the request to a record, as many as there are and it has reserved; returns how many.
    pub fn send(&mut self, to: &mut Reservation<'_>) -> Result<u32, Broken> {
        let mut done = 0;
        while to.left() > 0 {
            let mut cursor = self.progress.read;
            let Some(piece) = cursor.advance(self.inputs(), to.left() as usize) else { break };
            self.memory.send(piece.gpa, piece.len, to).map_err(|_| Broken::Buffer)?;
            self.progress.read = cursor;
            done += piece.len;
        }
        Ok(done)
    }

    /// Appends the bytes of a record from offset `at` on to the answer; returns how many there was room for.
    pub fn receive(&mut self, from: &Record<'_>, mut at: u32) -> Result<u32, Broken> {
        let start = at;
        while let Some(left) = from.len().checked_sub(at).filter(|&left| left > 0) {
            let mut cursor = self.progress.write;
            let Some(piece) = cursor.advance(self.outputs(), left as usize) else { break };
            self.memory.receive(piece.gpa, piece.len, from, at).map_err(|_| Broken::Buffer)?;
            self.progress.write = cursor;
            self.progress.written += piece.len;
            at += piece.len;
        }
        Ok(at - start)
    }

    /// Leaves the next two bytes of the answer for [`Request::fill_in`]; `None` if there is no room.
    pub fn leave_out(&mut self) -> Option<Place> {
        let mut cursor = self.progress.write;
        let mut next = || Some(cursor.advance(self.outputs(), 1)?.gpa);
        let place = Place([next()?, next()?]);
        self.progress.write = cursor;
        self.progress.written += 2;
        Some(place)
    }

    /// Writes a little-endian `u16` where it was left out, of this or of an earlier request.
    pub fn fill_in(&self, Place(place): Place, value: u16) -> Result<(), Broken> {
        let bytes = value.to_le_bytes();
        place
            .into_iter()
            .zip(bytes)
            .try_for_each(|(gpa, byte)| self.memory.write(gpa, &[byte]))
            .map_err(|_| Broken::Buffer)
    }

    /// Gives the request back to the driver, with what was written.
    pub fn finish(self) -> Result<(), Broken> {
        let (queue, memory) = self.give()?;
        queue.publish(memory)
    }

    /// Likewise, but the driver does not see it before the next request that is finished.
    pub fn fill(self) -> Result<(), Broken> {
        self.give().map(drop)
    }

    fn give(self) -> Result<(&'a mut Queue, &'a M), Broken> {
        let Self { queue, memory, head, progress, .. } = self;
        if !progress.taken {
            queue.take();
        }
        queue.fill(head, progress.written, memory)?;
        Ok((queue, memory))
    }

    fn inputs(&self) -> &[Buffer] {
        self.buffers.get(..self.readable).unwrap_or_default()
    }

    fn outputs(&self) -> &[Buffer] {
        self.buffers.get(self.readable..).unwrap_or_default()
    }
}
