//! Memory that another protection domain may change at any moment: a [`Window`], and what servers build on it, a
//! [`SharedBuffer`] for bulk data and a [`Ring`] for byte streams. Nothing here ever lends a reference to such
//! memory: bytes are copied first and judged afterwards, so they cannot change between the check and the use.
//! [`Ports`] is the I/O-port side of the same idea: hardware behind a trait, so that drivers run in host tests.
#![no_std]

#[cfg(test)]
extern crate std;

mod buffer;
mod ports;
mod ring;
mod window;

pub use buffer::{SharedBuffer, Span};
pub use ports::Ports;
pub use ring::{Consumer, NotARing, Producer, Ring};
pub use window::{OutOfRange, Window};
