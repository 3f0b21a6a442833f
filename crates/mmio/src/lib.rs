//! Memory that another protection domain may change at any moment: a [`Window`], and on top of it a [`SharedBuffer`]
//! for bulk data, a [`Ring`] for byte streams and a [`RecordRing`] for records. No function returns a reference to such memory: callers copy bytes
//! first and check the copy, so the bytes cannot change between check and use. [`Ports`] does the same for I/O ports:
//! hardware behind a trait, so that drivers run in host tests.
#![no_std]

#[cfg(test)]
extern crate std;

mod buffer;
mod ports;
mod records;
mod ring;
mod window;

pub use buffer::{SharedBuffer, Span};
pub use ports::Ports;
pub use records::{BrokenRing, Mended, NoRoom, Record, RecordConsumer, RecordProducer, RecordRing, Reservation};
pub use ring::{Consumer, NotARing, Producer, Ring};
pub use window::{OutOfRange, Window};
