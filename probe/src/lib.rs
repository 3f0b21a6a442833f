//! What a board has for Portcullis. The program of this crate boots on the board in place of seL4, collects [`Facts`], judges
//! them line by line, and prints them as a block of text; `cargo xtask doctor --board` reads that block, or Linux' files, and
//! judges the same way. All of the library is pure: the machine is behind a trait.
//!
//! Sources: Intel SDM (CPUID, MSRs, VT-x), ACPI specification 6.4, Intel's VT-d specification 3.3, PCI 3.0 and PCI Express
//! 3.0, multiboot specifications 0.6.96 and 2.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod block;
pub mod clocks;
pub mod cpu;
mod facts;
pub mod framebuffer;
pub mod judge;
pub mod machine;
pub mod multiboot;
pub mod pci;
pub mod screen;
pub mod uart;
pub mod vmx;
mod wiring;

pub use facts::{Facts, Unit};
pub use judge::{Sink, Verdict, judge};
pub use wiring::Wiring;
