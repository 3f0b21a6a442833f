//! Base address registers.
//!
//! PCI Local Bus Specification 2.3, section 6.2.5.1.

/// What a base address register stands for, with its size in bytes: a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bar {
    /// I/O ports, 4 to 256 of them.
    Ports(u32),
    /// Memory below 4 GiB, 16 bytes to 2 GiB.
    Memory(u32),
    /// Memory anywhere, 16 bytes or more. It takes two registers.
    Memory64(u64),
}

/// The two address spaces of the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    /// I/O ports.
    Ports,
    /// Memory.
    Memory,
}

/// Where a function answers, both ends inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// In which address space.
    pub space: Space,
    /// Its first address.
    pub first: u64,
    /// Its last address.
    pub last: u64,
}

/// Low bits of the register: I/O; memory that may be anywhere.
const PORTS: u32 = 1;
const WIDE: u32 = 0b100;

impl Bar {
    /// Its size in bytes.
    pub const fn size(self) -> u64 {
        match self {
            Self::Ports(size) | Self::Memory(size) => size as u64,
            Self::Memory64(size) => size,
        }
    }

    /// The address space it is in.
    pub const fn space(self) -> Space {
        match self {
            Self::Ports(_) => Space::Ports,
            Self::Memory(_) | Self::Memory64(_) => Space::Memory,
        }
    }

    /// How many registers it takes.
    pub const fn registers(self) -> usize {
        if matches!(self, Self::Memory64(_)) { 2 } else { 1 }
    }

    /// The read-only low bits, which say what kind it is.
    pub(super) const fn kind(self) -> u32 {
        match self {
            Self::Ports(_) => PORTS,
            Self::Memory(_) => 0,
            Self::Memory64(_) => WIDE,
        }
    }

    /// The bits of the register, or both, that software writes.
    pub(super) const fn mask(self) -> u64 {
        !(self.size() - 1)
    }

    /// Whether there can be one of this size.
    pub(super) const fn is_valid(self) -> bool {
        let largest = match self {
            Self::Ports(_) => 256,
            Self::Memory(_) => 1 << 31,
            Self::Memory64(_) => 1 << 63,
        };
        let smallest = if matches!(self, Self::Ports(_)) { 4 } else { 16 };
        self.size().is_power_of_two() && smallest <= self.size() && self.size() <= largest
    }
}
