//! virtio devices, on PCI: the transport has registers, features and queues; the device behind it knows requests only.
//!
//! Virtual I/O Device (VIRTIO) Version 1.2, chapters 2 (facilities) and 4.1 (over PCI). Functions are transitional where the
//! device type has a transitional number: drivers from Linux 2.6.25 on find the legacy interface, today's the modern one.
//!
//! All guest input is treated as hostile. The device copies each value once, then checks the copy. A violation stops
//! the device until the driver resets it, and affects nothing else.
//! Left out: packed rings, in-order use, notification data, resets of single queues.

pub mod block;
mod chain;
pub mod console;
pub mod entropy;
pub mod network;
mod queue;
mod request;
#[cfg(test)]
mod tests;
mod transport;
pub mod vsock;

use crate::GuestMemory;
use bitflags::bitflags;
pub use chain::MAX_SIZE;
pub use request::{Held, Place, Request, Requests};
pub use transport::{Fault, Virtio};

/// The vendor of all virtio functions.
pub const VENDOR: u16 = 0x1af4;
/// Queues of a device at most: a console's.
pub const MAX_QUEUES: usize = console::QUEUES;

bitflags! {
    /// Feature bits (chapter 6, and 5 for those of a device type).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Features: u64 {
        /// The device relies on no layout of a request's descriptors. Legacy interface only.
        const ANY_LAYOUT = 1 << 27;
        /// Descriptors may refer to tables of descriptors.
        const INDIRECT_DESC = 1 << 28;
        /// Each side publishes the index at which it wants to be notified.
        const EVENT_IDX = 1 << 29;
        /// The driver follows the specification, and not the legacy interface.
        const VERSION_1 = 1 << 32;
        const _ = !0;
    }
}

impl Features {
    /// What the transport does for every device.
    const TRANSPORT: Self = Self::ANY_LAYOUT.union(Self::INDIRECT_DESC).union(Self::EVENT_IDX).union(Self::VERSION_1);
}

/// How a driver has violated the rules of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// The size is 0, not a power of two, or above the device's.
    Size,
    /// A part of the ring is not in RAM, or not aligned.
    Ring,
    /// The available index is more than the queue's size ahead.
    Available,
    /// An available entry names no descriptor of the table.
    Head,
    /// A descriptor's successor is not in its table.
    Next,
    /// The chain has more descriptors than the queue: it may be a loop.
    Chain,
    /// The buffers of a chain are 4 GiB or more.
    Length,
    /// A buffer is not all RAM.
    Buffer,
    /// A buffer that the device reads follows one that it writes.
    Order,
    /// An indirect table where none may be: not negotiated, within another one, with a successor, or not of whole descriptors.
    Indirect,
    /// The request is not one that the device's type has.
    Request,
}

/// How far a device has got with the requests of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Served {
    /// All requests that it was given are done, or held.
    All,
    /// The remaining requests are pending for the device's back end, which cannot say when it has something for them.
    Waiting,
    /// The remaining requests are pending until a held one ends, for which the device is polled.
    Held,
}

/// A device type's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// The device type (chapter 5).
    pub id: u16,
    /// The PCI device number of a transitional function; `None` if the type came after the legacy interface.
    pub transitional: Option<u16>,
    /// PCI base class (high byte) and subclass.
    pub class: u16,
}

/// A device behind the transport.
pub trait Device {
    /// What it is.
    const KIND: Kind;
    /// By queue, its size: a power of two, at most [`MAX_SIZE`]. There are at most [`MAX_QUEUES`].
    const QUEUES: &'static [u16];
    /// Bytes of its device-specific configuration, at most 128.
    const CONFIG: u16 = 0;

    /// The features of its type that it offers.
    fn features(&self) -> Features {
        Features::empty()
    }

    /// A byte of its configuration.
    fn read_config(&self, _at: u16) -> u8 {
        0
    }

    /// Takes a byte that the driver writes to its configuration.
    fn write_config(&mut self, _at: u16, _value: u8) {}

    /// Serves the pending requests of queue number `queue`.
    fn serve(&mut self, queue: usize, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken>;

    /// Takes the features that the driver has accepted: those of its type, and the transport's.
    fn accept(&mut self, _features: Features) {}

    /// Whether it has passed something to its back end that the back end was not told about.
    fn has_output(&self) -> bool {
        false
    }

    /// Resets the device: pending and held requests are dropped.
    fn reset(&mut self) {}
}
