//! One chain of descriptors, fetched and checked: the buffers of a request.
//!
//! VIRTIO 1.2, sections 2.7.5 (the descriptor table) and 2.7.5.3 (indirect descriptors).

use super::Broken;
use crate::GuestMemory;
use heapless::Vec;

/// The largest size of a queue, and with it the longest chain.
pub const MAX_SIZE: u16 = 256;

/// Bytes of a descriptor.
pub(super) const DESCRIPTOR: u64 = 16;
/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A descriptor, copied.
#[derive(Clone, Copy, Debug)]
struct Descriptor {
    gpa: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn fetch(memory: &impl GuestMemory, at: u64) -> Result<Self, Broken> {
        let mut bytes = [0; DESCRIPTOR as usize];
        memory.read(at, &mut bytes).map_err(|_| Broken::Ring)?;
        let [low, high] = [0, 8].map(|at| {
            let word = bytes[at..].first_chunk().copied();
            u64::from_le_bytes(word.unwrap_or_default())
        });
        Ok(Self { gpa: low, len: high as u32, flags: (high >> 32) as u16, next: (high >> 48) as u16 })
    }

    const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// A table of descriptors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    /// Its guest-physical address.
    pub at: u64,
    /// How many descriptors it has.
    pub len: u32,
    /// Whether it is one that a descriptor refers to.
    pub indirect: bool,
}

/// A buffer in RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Buffer {
    /// Its guest-physical address.
    pub gpa: u64,
    /// Its bytes.
    pub len: u32,
}

/// The buffers of one request: first those that the device reads, then those that it writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    /// The descriptor that it begins with, by which the driver knows the request.
    pub head: u16,
    buffers: Vec<Buffer, { MAX_SIZE as usize }>,
    /// How many of them the device reads.
    readable: usize,
    /// Bytes of all.
    total: u64,
}

impl Chain {
    /// Follows the chain that begins at `head` of `table`; `indirect` is whether it may go on in another one.
    pub fn follow(
        &mut self,
        memory: &impl GuestMemory,
        mut table: Table,
        head: u16,
        indirect: bool,
    ) -> Result<(), Broken> {
        let most = table.len as usize;
        self.head = head;
        self.buffers.clear();
        (self.readable, self.total) = (0, 0);
        let mut at = head;
        loop {
            let descriptor = Descriptor::fetch(memory, table.at.saturating_add(u64::from(at) * DESCRIPTOR))?;
            if descriptor.has(INDIRECT) {
                if table.indirect || !indirect {
                    return Err(Broken::Indirect);
                }
                (table, at) = (refer(memory, descriptor)?, 0);
                continue;
            }
            self.add(memory, descriptor, most)?;
            if !descriptor.has(NEXT) {
                return Ok(());
            }
            at = descriptor.next;
            if u32::from(at) >= table.len {
                return Err(Broken::Next);
            }
        }
    }

    fn add(&mut self, memory: &impl GuestMemory, descriptor: Descriptor, most: usize) -> Result<(), Broken> {
        let Descriptor { gpa, len, .. } = descriptor;
        if self.buffers.len() == most {
            return Err(Broken::Chain);
        }
        if !memory.has(gpa, len.into()) {
            return Err(Broken::Buffer);
        }
        self.total += u64::from(len);
        if self.total > u32::MAX.into() {
            return Err(Broken::Length);
        }
        if !descriptor.has(WRITE) {
            if self.readable != self.buffers.len() {
                return Err(Broken::Order);
            }
            self.readable += 1;
        }
        self.buffers.push(Buffer { gpa, len }).map_err(|_| Broken::Chain)
    }

    /// All buffers, and how many of them the device reads.
    pub fn buffers(&self) -> (&[Buffer], usize) {
        (&self.buffers, self.readable)
    }
}

/// The table that a descriptor refers to.
fn refer(memory: &impl GuestMemory, descriptor: Descriptor) -> Result<Table, Broken> {
    let Descriptor { gpa, len, .. } = descriptor;
    if descriptor.has(NEXT) || len == 0 || u64::from(len) % DESCRIPTOR != 0 {
        return Err(Broken::Indirect);
    }
    if !memory.has(gpa, len.into()) {
        return Err(Broken::Buffer);
    }
    Ok(Table { at: gpa, len: len / DESCRIPTOR as u32, indirect: true })
}

/// A position in some buffers, moved by copying.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    buffer: usize,
    offset: u32,
}

impl Cursor {
    /// How many bytes are left from here on.
    pub fn left(self, buffers: &[Buffer]) -> u64 {
        let rest = buffers.get(self.buffer..).unwrap_or_default();
        rest.iter().map(|buffer| u64::from(buffer.len)).sum::<u64>().saturating_sub(self.offset.into())
    }

    /// The next piece of at most `most` bytes, if there is one. The cursor is behind it then.
    pub fn advance(&mut self, buffers: &[Buffer], most: usize) -> Option<Buffer> {
        loop {
            let &Buffer { gpa, len } = buffers.get(self.buffer)?;
            let left = len.saturating_sub(self.offset);
            if left == 0 {
                (self.buffer, self.offset) = (self.buffer + 1, 0);
                continue;
            }
            let len = left.min(u32::try_from(most).unwrap_or(u32::MAX));
            let piece = Buffer { gpa: gpa + u64::from(self.offset), len };
            self.offset += len;
            return Some(piece);
        }
    }
}
