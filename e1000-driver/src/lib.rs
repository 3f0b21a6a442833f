//! e1000-driver: a network's uplink. It moves frames between the rings of a switch's port and an Intel gigabit controller.
#![no_std]
#![forbid(unsafe_code)]

mod card;
mod uplink;

pub use card::{Card, Fault, Link, Model, Registers};
pub use uplink::{Counts, Uplink};
