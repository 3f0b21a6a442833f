//! The capability list (PCI Local Bus Specification 3.0, section 6.7) as a guest sees it, and which registers from 0x40
//! on it may access. The guest sees power management (PCI Bus Power Management 1.2, section 3.2), vendor specific, PCI
//! Express (PCI Express Base Specification 2.0, section 7.8) and serial ATA; and MSI or MSI-X where the function interrupts by it, with
//! virtual registers: a guest that sets the address can have the device write anywhere in memory. All others are removed from
//! the list and read as zeros. It leaves out the extended list of PCI Express, which configuration mechanism 1 cannot access.

use heapless::Vec;
use layout::Bdf;
use proto::pci::Header;

use crate::config_space::{ConfigSpace, byte, half};
use crate::function::{COMMAND, HAS_CAPABILITIES};

const POWER: u8 = 0x01;
/// Message-signalled interrupts.
pub const MSI: u8 = 0x05;
const PCI_X: u8 = 0x07;
const VENDOR: u8 = 0x09;
pub(crate) const EXPRESS: u8 = 0x10;
/// The same with a table.
pub const MSI_X: u8 = 0x11;
const SATA: u8 = 0x12;
const ADVANCED: u8 = 0x13;

/// First byte after the header.
const FIRST: u8 = 0x40;
/// Registers of four bytes from there on.
const REGISTERS: usize = 48;
const POINTER: u8 = 0x34;

/// A guest's view of a register from 0x40 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// Device-specific: the guest may read and write it.
    Device,
    /// Read-only.
    Fixed,
    /// Read-only: the first register of a visible capability, with the offset of the next one, 0 at the end.
    Link(u8),
    /// Reads as zero; writes are refused.
    Hidden,
    /// Of MSI: virtual.
    Msi,
    /// Power management control and status.
    Power,
    /// Device control and status of PCI Express.
    ExpressControl,
}

/// The capability list, and the view of each register.
#[derive(Clone, Debug)]
pub struct Capabilities {
    registers: [Register; REGISTERS],
    first: u8,
    found: Vec<Entry, REGISTERS>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u8,
    id: u8,
    /// The two bytes after ID and pointer.
    upper: u16,
}

impl Capabilities {
    /// Reads the list. It may loop or overlap: each offset is read once. `by` is the one of
    /// [`MSI`] and [`MSI_X`] that is visible, if any.
    pub fn read(space: &mut impl ConfigSpace, at: Bdf, header: Header, by: Option<u8>) -> Self {
        let found = walk(space, at, header);
        let mut this = Self { registers: [Register::Device; REGISTERS], first: 0, found };
        // Hidden capabilities first: where entries overlap, the guest must not reach a hidden register.
        for entry in this.found.clone().iter().filter(|entry| !entry.is_shown(by)) {
            this.mark(entry.at, this.length(entry), |_| Register::Hidden);
        }
        let mut next = 0;
        for entry in this.found.clone().iter().rev().filter(|entry| entry.is_shown(by)) {
            if this.register(entry.at) == Register::Hidden {
                continue;
            }
            let kind = match entry.id {
                MSI => |_| Register::Msi,
                POWER => |offset| if offset == 4 { Register::Power } else { Register::Fixed },
                EXPRESS => |offset| if offset == 8 { Register::ExpressControl } else { Register::Fixed },
                _ => |_| Register::Fixed,
            };
            this.mark(entry.at, this.length(entry), kind);
            this.mark(entry.at, 4, |_| Register::Link(next));
            next = entry.at;
        }
        this.first = next;
        this
    }

    /// The view of the register at `offset`; `Fixed` for the header.
    pub fn register(&self, offset: u8) -> Register {
        let place = offset.checked_sub(FIRST).map(|offset| usize::from(offset / 4));
        place.and_then(|place| self.registers.get(place)).copied().unwrap_or(Register::Fixed)
    }

    /// Offset of the first visible capability; 0 is none.
    pub fn first(&self) -> u8 {
        self.first
    }

    /// Offset of power management.
    pub fn power(&self) -> Option<u8> {
        self.offset(POWER)
    }

    /// Offset of PCI Express.
    pub fn express(&self) -> Option<u8> {
        self.offset(EXPRESS)
    }

    /// Offset of the advanced features.
    pub fn advanced(&self) -> Option<u8> {
        self.offset(ADVANCED)
    }

    /// Offset of the control words of message signalled interrupts, and the bit that enables them.
    pub fn message_signalled(&self) -> impl Iterator<Item = (u8, u16)> {
        self.found.iter().filter_map(|entry| match entry.id {
            MSI => Some((entry.at + 2, 1 << 0)),
            MSI_X => Some((entry.at + 2, 1 << 15)),
            _ => None,
        })
    }

    fn offset(&self, id: u8) -> Option<u8> {
        self.found.iter().find(|entry| entry.id == id).map(|entry| entry.at)
    }

    /// Sets the view of an entry's registers, except of those that are hidden already.
    fn mark(&mut self, at: u8, length: u8, kind: impl Fn(u8) -> Register) {
        let first = usize::from(at.saturating_sub(FIRST) / 4);
        let places = self.registers.iter_mut().skip(first).take(usize::from(length.div_ceil(4)));
        for (offset, place) in (0..).step_by(4).zip(places) {
            if *place != Register::Hidden {
                *place = kind(offset);
            }
        }
    }

    /// An entry's length in bytes. An unknown one is assumed to end at the next, or at the end of the space.
    fn length(&self, entry: &Entry) -> u8 {
        match entry.id {
            POWER | SATA | ADVANCED => 8,
            // Bit 7: 64-bit address; bit 8: mask and pending bits.
            MSI => 12 + if entry.upper & 1 << 7 != 0 { 4 } else { 0 } + if entry.upper & 1 << 8 != 0 { 8 } else { 0 },
            MSI_X => 12,
            // Version 0 has no registers for ECC.
            PCI_X if entry.upper & 0x3000 == 0 => 8,
            PCI_X => 24,
            // Its third byte is the length. Less than 4 would leave its first register to the guest.
            VENDOR => (entry.upper as u8).max(4),
            // Version 1 has the registers of an endpoint only.
            EXPRESS if entry.upper & 0xf == 1 => 0x14,
            EXPRESS => 0x3c,
            _ => {
                let behind = self.found.iter().map(|other| other.at).filter(|&other| other > entry.at);
                behind.min().unwrap_or(0).wrapping_sub(entry.at)
            }
        }
    }
}

impl Entry {
    fn is_shown(&self, by: Option<u8>) -> bool {
        matches!(self.id, POWER | VENDOR | EXPRESS | SATA) || by == Some(self.id)
    }
}

fn walk(space: &mut impl ConfigSpace, at: Bdf, header: Header) -> Vec<Entry, REGISTERS> {
    let mut found = Vec::<Entry, REGISTERS>::new();
    if header != Header::Device || space.read(at, COMMAND) & HAS_CAPABILITIES == 0 {
        return found;
    }
    let mut next = byte(space.read(at, POINTER), 0) & !0b11;
    while next >= FIRST && found.iter().all(|entry| entry.at != next) {
        let word = space.read(at, next);
        if found.push(Entry { at: next, id: byte(word, 0), upper: half(word, 2) }).is_err() {
            break;
        }
        next = byte(word, 1) & !0b11;
    }
    found
}
