//! Types of the x86 platform that several crates share: modes and access widths. No device, no VT-x, no seL4.
#![no_std]
#![forbid(unsafe_code)]

mod mode;
mod width;

pub use mode::Mode;
pub use width::Width;
