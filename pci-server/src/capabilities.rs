//! The capability list (PCI Local Bus Specification 3.0, section 6.7) as a guest sees it, and whose each register from
//! 0x40 on is. Shown are power management (PCI Bus Power Management 1.2, section 3.2), vendor specific, PCI Express (PCI
//! Express Base Specification 2.0, section 7.8) and serial ATA. All others are taken out of the list and read as zeros:
//! message signalled interrupts first of all, since whoever writes their address writes anywhere in memory.
//! It leaves out the extended list of PCI Express, which configuration mechanism 1 does not reach.

use heapless::Vec;
use layout::Bdf;
use proto::pci::Header;

use crate::config_space::{ConfigSpace, byte, half};
use crate::function::{COMMAND, HAS_CAPABILITIES};

const POWER: u8 = 0x01;
const MSI: u8 = 0x05;
const PCI_X: u8 = 0x07;
const VENDOR: u8 = 0x09;
const EXPRESS: u8 = 0x10;
const MSI_X: u8 = 0x11;
const SATA: u8 = 0x12;
const ADVANCED: u8 = 0x13;

/// First byte behind the header.
const FIRST: u8 = 0x40;
/// Registers of four bytes from there on.
const REGISTERS: usize = 48;
const POINTER: u8 = 0x34;

/// What a register from 0x40 on is to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// The device's own: the guest's to read and write.
    Device,
    /// Read, not written.
    Fixed,
    /// As `Fixed`, and the first of a capability that is shown; the next one is there, 0 at the end.
    Link(u8),
    /// Not there.
    Hidden,
    /// Power management control and status.
    Power,
    /// Device control and status of PCI Express.
    ExpressControl,
}

/// The list, sorted out.
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
    /// What follows ID and pointer.
    upper: u16,
}

impl Capabilities {
    /// Reads the list. It need not be sound: an entry is taken once, wherever it stands.
    pub fn read(space: &mut impl ConfigSpace, at: Bdf, header: Header) -> Self {
        let found = walk(space, at, header);
        let mut this = Self { registers: [Register::Device; REGISTERS], first: 0, found };
        // Hidden ones first: where entries overlap, hidden wins.
        for entry in this.found.clone().iter().filter(|entry| !entry.is_shown()) {
            this.mark(entry.at, this.length(entry), |_| Register::Hidden);
        }
        let mut next = 0;
        for entry in this.found.clone().iter().rev().filter(|entry| entry.is_shown()) {
            if this.register(entry.at) == Register::Hidden {
                continue;
            }
            let kind = match entry.id {
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

    /// What the register at `offset` is; the header is nobody's.
    pub fn register(&self, offset: u8) -> Register {
        let place = offset.checked_sub(FIRST).map(|offset| usize::from(offset / 4));
        place.and_then(|place| self.registers.get(place)).copied().unwrap_or(Register::Fixed)
    }

    /// Offset of the first capability that is shown; 0 is none.
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

    /// Does not make anything visible again that is hidden.
    fn mark(&mut self, at: u8, length: u8, kind: impl Fn(u8) -> Register) {
        let first = usize::from(at.saturating_sub(FIRST) / 4);
        let places = self.registers.iter_mut().skip(first).take(usize::from(length.div_ceil(4)));
        for (offset, place) in (0..).step_by(4).zip(places) {
            if *place != Register::Hidden {
                *place = kind(offset);
            }
        }
    }

    /// How long an entry is, in bytes. An unknown one is taken to reach to the next, or to the end.
    fn length(&self, entry: &Entry) -> u8 {
        match entry.id {
            POWER | SATA | ADVANCED => 8,
            // Bit 7: 64-bit address; bit 8: mask and pending bits.
            MSI => 12 + if entry.upper & 1 << 7 != 0 { 4 } else { 0 } + if entry.upper & 1 << 8 != 0 { 8 } else { 0 },
            MSI_X => 12,
            PCI_X if entry.upper & 0x3000 == 0 => 8,
            PCI_X => 24,
            VENDOR => (entry.upper as u8).max(4),
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
    fn is_shown(&self) -> bool {
        matches!(self.id, POWER | VENDOR | EXPRESS | SATA)
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
