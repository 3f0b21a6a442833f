//! Register models of the devices that a PC guest expects.
//!
//! A device is its registers and its queues.  It holds no capability, no lock, no clock and no pointer to the
//! machine it sits in: time comes in as an argument, bytes wait in a queue, the interrupt is a level to ask for.
//! What the ports mean is written beside each model, with the data sheet it follows and what it leaves out.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod channel;
mod controllers;
mod effect;
pub mod ioapic;
pub mod lapic;
mod memory;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod power;
pub mod reset_ports;
mod router;
pub mod rtc;
pub mod uart;
pub mod virtio;

#[cfg(test)]
mod fuzz;

pub use arch::Width;
pub use controllers::Controllers;
use core::ops::Add;
pub use effect::Effect;
pub use memory::{GuestMemory, NoMemory, NotRam};
pub use router::{Pin, Router};

/// Nanoseconds since the guest's start.
///
/// The type is a point in time; plain `u64` nanoseconds are distances.  Sums saturate: five centuries of
/// running time is as good as never.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Nanos(pub u64);

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

impl Nanos {
    /// The guest's start.
    pub const ZERO: Self = Self(0);

    /// `seconds` after the start.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(SECOND))
    }

    /// `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros.saturating_mul(1_000))
    }

    /// The nanoseconds from `earlier` until here, or none if `earlier` is later.
    pub const fn saturating_sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Nanos {
    type Output = Self;

    fn add(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }
}

/// A device behind I/O ports.
///
/// `offset` counts from the device's first port.  Reads of unmapped registers float high, writes to them vanish.
/// The value of a read has no bits outside the width; those of a written value are ignored.
pub trait Device {
    /// What an IN instruction of `width` at `offset` reads.
    fn read(&mut self, offset: u16, width: Width, now: Nanos) -> u32;
    /// Takes what an OUT instruction of `width` at `offset` writes.
    fn write(&mut self, offset: u16, width: Width, value: u32, now: Nanos);
    /// The level of the device's interrupt line now.
    fn irq(&self) -> bool {
        false
    }
}

/// Reads a device of byte-wide registers as ISA does: byte by byte, at consecutive offsets.
#[inline]
pub fn read_bytes(offset: u16, width: Width, mut byte: impl FnMut(u16) -> u8) -> u32 {
    if width == Width::Byte {
        return byte(offset).into();
    }
    (0u16..).take(width.bytes()).fold(0, |value, i| value | u32::from(byte(offset.wrapping_add(i))) << (8 * i))
}

/// Writes a device of byte-wide registers as ISA does: byte by byte, at consecutive offsets.
#[inline]
pub fn write_bytes(offset: u16, width: Width, value: u32, mut byte: impl FnMut(u16, u8)) {
    if width == Width::Byte {
        return byte(offset, value as u8);
    }
    for (i, value) in (0u16..).zip(value.to_le_bytes()).take(width.bytes()) {
        byte(offset.wrapping_add(i), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn wide_accesses_split_into_bytes_lowest_first() {
        assert_eq!(read_bytes(0x10, Width::Dword, |offset| offset as u8), 0x1312_1110);
        assert_eq!(read_bytes(0xffff, Width::Word, |offset| offset as u8), 0x00ff);
        let mut seen = Vec::new();
        write_bytes(2, Width::Word, 0xaabb_ccdd, |offset, value| seen.push((offset, value)));
        assert_eq!(seen, [(2, 0xdd), (3, 0xcc)]);
    }

    #[test]
    fn time_saturates() {
        assert_eq!(Nanos(u64::MAX) + 1, Nanos(u64::MAX));
        assert_eq!(Nanos(3).saturating_sub(Nanos(5)), 0);
        assert_eq!(Nanos::from_millis(2), Nanos::from_micros(2000));
        assert_eq!(Nanos::from_secs(1), Nanos(SECOND));
    }
}
