//! Requests, as a device sees them: bytes to read, room to write, and an end.

use super::{
    Broken,
    chain::{Chain, Cursor},
    queue::Queue,
};
use crate::GuestMemory;

/// The pending requests of a queue, as many as one turn may serve. The limit bounds the time of an exit, however fast
/// the guest adds requests.
pub struct Requests<'a, M> {
    pub(super) queue: &'a mut Queue,
    pub(super) chain: &'a mut Chain,
    pub(super) memory: &'a M,
    /// How many more there are in this turn.
    pub(super) left: u16,
}

impl<M: GuestMemory> Requests<'_, M> {
    /// The next request. It remains the next one, now or in a later turn, until it is finished.
    pub fn peek(&mut self) -> Result<Option<Request<'_, M>>, Broken> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        if !self.queue.fetch(self.memory, self.chain)? {
            return Ok(None);
        }
        self.left = left;
        let (read, write) = (Cursor::default(), Cursor::default());
        Ok(Some(Request { queue: self.queue, chain: self.chain, memory: self.memory, read, write, written: 0 }))
    }
}

/// One request.
pub struct Request<'a, M> {
    queue: &'a mut Queue,
    chain: &'a Chain,
    memory: &'a M,
    read: Cursor,
    write: Cursor,
    written: u32,
}

impl<M: GuestMemory> Request<'_, M> {
    /// Bytes that were not read yet.
    pub fn readable(&self) -> u64 {
        self.read.left(self.chain.readable())
    }

    /// Bytes that there is room for.
    pub fn writable(&self) -> u64 {
        self.write.left(self.chain.writable())
    }

    /// Copies the next bytes of the request; returns how many there were.
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Broken> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(piece) = self.read.advance(self.chain.readable(), rest.len()) else { break };
            let Some(rest) = rest.get_mut(..piece.len as usize) else { break };
            self.memory.read(piece.gpa, rest).map_err(|_| Broken::Buffer)?;
            done += rest.len();
        }
        Ok(done)
    }

    /// Appends bytes to the answer; returns how many there was room for.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let Some(piece) = self.write.advance(self.chain.writable(), rest.len()) else { break };
            let Some(rest) = rest.get(..piece.len as usize) else { break };
            self.memory.write(piece.gpa, rest).map_err(|_| Broken::Buffer)?;
            done += rest.len();
            self.written += piece.len;
        }
        Ok(done)
    }

    /// Gives the request back to the driver, with what was written.
    pub fn finish(self) -> Result<(), Broken> {
        self.queue.finish(self.chain.head, self.written, self.memory)
    }
}
