//! A component's port of a network: frames as they are on a wire, whole and with their checksums.
//!
//! Guests leave checksums and the splitting of segments to whoever gets the frame (`proto::net`); [`Input`] does both.
//! Rings, doorbells and addresses are those of the component's configuration.
#![no_std]
#![forbid(unsafe_code)]

mod input;
mod port;
#[cfg(feature = "smoltcp")]
mod stack;
mod wire;

pub use input::{Input, Next};
pub use port::{Full, Port};
#[cfg(feature = "smoltcp")]
pub use stack::{Stack, StackReceives, StackSends};
pub use wire::{Frame, LONGEST, Refused, Wire};
