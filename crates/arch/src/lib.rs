//! Words of the x86 platform that several crates have to mean the same by. No device, no VT-x, no seL4 in here.
#![no_std]
#![forbid(unsafe_code)]

mod mode;
mod width;

pub use mode::Mode;
pub use width::Width;
