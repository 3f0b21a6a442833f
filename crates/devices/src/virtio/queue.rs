//! A split virtqueue, from the device's side.
//!
//! VIRTIO 1.2, section 2.7; section 2.7.2 for the legacy layout. The driver owns the descriptor table and the available
//! ring, the device the used ring. Indices run on and wrap; their low bits are the places in the rings.

use super::{
    Broken, Features, MAX_SIZE,
    chain::{Chain, DESCRIPTOR, Table},
};
use crate::GuestMemory;
use core::sync::atomic::{Ordering, fence};

/// Alignment of the used ring in the legacy layout, and of the whole.
pub(super) const LEGACY_ALIGN: u64 = 4096;

/// Flag of the available ring: the driver wants no interrupts.
const NO_INTERRUPT: u16 = 1;
/// Bytes of a ring before its entries: flags and index.
const RING_HEADER: u64 = 4;
const AVAILABLE_ENTRY: u64 = 2;
const USED_ENTRY: u64 = 8;

/// Where the three parts are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Places {
    /// The descriptor table.
    pub table: u64,
    /// The available ring.
    pub available: u64,
    /// The used ring.
    pub used: u64,
}

/// A queue's registers and state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    max: u16,
    /// As the driver has it, valid or not, until it enables the queue.
    pub size: u16,
    /// As the driver has them.
    pub places: Places,
    enabled: bool,
    /// It was set up by the legacy interface.
    legacy: bool,
    indirect: bool,
    event_index: bool,
    /// The available entry that comes next.
    next: u16,
    /// The used entry that comes next.
    used: u16,
    /// How many used entries are written, from that one on, that the driver does not see yet.
    filled: u16,
    /// The used index when the need for an interrupt was last checked.
    signalled: u16,
    /// Counts resets: a request that was held before one is none of the queue's.
    epoch: u32,
}

impl Queue {
    /// A queue of at most `max` entries, not set up.
    pub const fn new(max: u16) -> Self {
        Self {
            max,
            size: max,
            places: Places { table: 0, available: 0, used: 0 },
            enabled: false,
            legacy: false,
            indirect: false,
            event_index: false,
            next: 0,
            used: 0,
            filled: 0,
            signalled: 0,
            epoch: 0,
        }
    }

    /// Resets the queue. Requests that the device still holds are lost.
    pub const fn reset(&mut self) {
        *self = Self { epoch: self.epoch.wrapping_add(1), ..Self::new(self.max) };
    }

    /// Which of the driver's rings this is, counted by resets.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether the driver has enabled it.
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether it did so by the legacy interface.
    pub const fn is_legacy(&self) -> bool {
        self.legacy
    }

    /// Takes the features that the driver has accepted so far.
    pub const fn accept(&mut self, features: Features) {
        self.indirect = features.contains(Features::INDIRECT_DESC);
        self.event_index = features.contains(Features::EVENT_IDX);
    }

    /// Begins with what `size` and `places` say.
    pub fn enable(&mut self, memory: &impl GuestMemory) -> Result<(), Broken> {
        self.enabled = true;
        if !self.size.is_power_of_two() || self.size > self.max {
            return Err(Broken::Size);
        }
        let Places { table, available, used } = self.places;
        let size = u64::from(self.size);
        // Each ring ends with the other side's event index.
        let parts = [
            (table, DESCRIPTOR, DESCRIPTOR * size),
            (available, 2, RING_HEADER + AVAILABLE_ENTRY * size + 2),
            (used, 4, RING_HEADER + USED_ENTRY * size + 2),
        ];
        match parts.iter().all(|&(gpa, align, len)| gpa.is_multiple_of(align) && memory.has(gpa, len)) {
            true => Ok(()),
            false => Err(Broken::Ring),
        }
    }

    /// Begins with the legacy layout at `gpa`.
    pub fn enable_legacy(&mut self, gpa: u64, memory: &impl GuestMemory) -> Result<(), Broken> {
        self.legacy = true;
        self.size = self.max;
        let size = u64::from(self.size);
        let available = gpa + DESCRIPTOR * size;
        let end = available + RING_HEADER + AVAILABLE_ENTRY * size + 2;
        self.places = Places { table: gpa, available, used: end.next_multiple_of(LEGACY_ALIGN) };
        self.enable(memory)
    }

    /// How many requests the driver has made available and the device has not taken.
    pub fn waiting(&self, memory: &impl GuestMemory) -> Result<u16, Broken> {
        let index = memory.read_u16(self.places.available.wrapping_add(2)).map_err(|_| Broken::Ring)?;
        let waiting = index.wrapping_sub(self.next);
        // Acquire: the entries must be read after the index, since the driver has written them before it.
        fence(Ordering::Acquire);
        if waiting <= self.size { Ok(waiting) } else { Err(Broken::Available) }
    }

    /// Fetches the next request, if there is one. It stays the next one until it is taken.
    pub fn fetch(&self, memory: &impl GuestMemory, chain: &mut Chain) -> Result<bool, Broken> {
        if self.waiting(memory)? == 0 {
            return Ok(false);
        }
        let entry = self.places.available + RING_HEADER + AVAILABLE_ENTRY * self.slot(self.next);
        let head = memory.read_u16(entry).map_err(|_| Broken::Ring)?;
        if head >= self.size {
            return Err(Broken::Head);
        }
        let table = Table { at: self.places.table, len: self.size.into(), indirect: false };
        chain.follow(memory, table, head, self.indirect)?;
        Ok(true)
    }

    /// Takes the next request: the one behind it is the next one from now on.
    pub const fn take(&mut self) {
        self.next = self.next.wrapping_add(1);
    }

    /// Gives the request with this head back to the driver, with `len` bytes written, once [`publish`](Self::publish) is
    /// called.
    pub fn fill(&mut self, head: u16, len: u32, memory: &impl GuestMemory) -> Result<(), Broken> {
        let place = self.slot(self.used.wrapping_add(self.filled));
        let entry = self.places.used + RING_HEADER + USED_ENTRY * place;
        let both = u64::from(head) | u64::from(len) << 32;
        memory.write_u64(entry, both).map_err(|_| Broken::Ring)?;
        self.filled += 1;
        Ok(())
    }

    /// Has the driver see all that was given back, at once.
    pub fn publish(&mut self, memory: &impl GuestMemory) -> Result<(), Broken> {
        self.used = self.used.wrapping_add(core::mem::take(&mut self.filled));
        // The driver must see the entries before it sees the new index.
        fence(Ordering::Release);
        memory.write_u16(self.places.used + 2, self.used).map_err(|_| Broken::Ring)
    }

    /// Has the driver notify the device of the next request. Check [`waiting`](Self::waiting) afterwards, for one that
    /// came in between.
    pub fn arm(&self, memory: &impl GuestMemory) -> Result<(), Broken> {
        if self.event_index {
            let event = self.places.used + RING_HEADER + USED_ENTRY * u64::from(self.size);
            memory.write_u16(event, self.next).map_err(|_| Broken::Ring)?;
            // The driver writes its index, then reads this one. So this one must be written before the driver's index
            // is read, or both sides could miss a request.
            fence(Ordering::SeqCst);
        }
        Ok(())
    }

    /// Whether the driver wants an interrupt for what was finished since the last call.
    pub fn wants_interrupt(&mut self, memory: &impl GuestMemory) -> Result<bool, Broken> {
        let (new, old) = (self.used, core::mem::replace(&mut self.signalled, self.used));
        if new == old {
            return Ok(false);
        }
        // Likewise with roles exchanged: the used index must be written before the driver's event index is read.
        fence(Ordering::SeqCst);
        let available = self.places.available;
        if !self.event_index {
            let flags = memory.read_u16(available).map_err(|_| Broken::Ring)?;
            return Ok(flags & NO_INTERRUPT == 0);
        }
        let event = available + RING_HEADER + AVAILABLE_ENTRY * u64::from(self.size);
        let event = memory.read_u16(event).map_err(|_| Broken::Ring)?;
        // Section 2.7.10: whether the index has gone past `event` since.
        Ok(new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old))
    }

    fn slot(&self, index: u16) -> u64 {
        u64::from(index & (self.size - 1))
    }
}

const _: () = assert!(MAX_SIZE.is_power_of_two());
