//! Reads a function's header (PCI Local Bus Specification 3.0, chapter 6): identity, base address registers with
//! their sizes, interrupt, capability list.
//!
//! To size a BAR, the code writes ones and reads back which bits are writable. Meanwhile the BAR has a wrong address,
//! so decoding is off for that time, and no process that could use the function runs yet. BARs of host bridges are not
//! sized: with their decoding off, memory may be inaccessible. Bus mastering stays on. It leaves out the expansion ROM
//! and CardBus headers.

use heapless::Vec;
use layout::Bdf;
use proto::pci::{Bar, BarKind, Capability, Function, Header};

use crate::config_space::{ConfigSpace, byte, half};

pub const ID: u8 = 0x00;
pub const COMMAND: u8 = 0x04;
pub const CLASS: u8 = 0x08;
pub const HEADER_TYPE: u8 = 0x0c;
pub const BARS: u8 = 0x10;
const BUSES: u8 = 0x18;
pub const SUBSYSTEM: u8 = 0x2c;
pub const CAPABILITIES: u8 = 0x34;
pub const INTERRUPT: u8 = 0x3c;

/// Command: answers to I/O ports, to memory.
pub const DECODES: u16 = 0b11;
/// Status, in the upper half: there is a capability list.
pub const HAS_CAPABILITIES: u32 = 1 << (16 + 4);

/// The ports of IDE controllers in compatibility mode, which ignore their first four BARs (PCI IDE Controller
/// Specification 1.0, section 2.0): ports and sizes, and the bit of the programming interface for native mode.
const IDE_LEGACY: [(u64, u64, u8); 4] =
    [(0x1f0, 8, 1 << 0), (0x3f6, 1, 1 << 0), (0x170, 8, 1 << 2), (0x376, 1, 1 << 2)];

/// Reads a function's description.
pub fn describe(space: &mut impl ConfigSpace, at: Bdf) -> Function {
    let id = space.read(at, ID);
    let [revision, interface, subclass, base] = space.read(at, CLASS).to_le_bytes();
    let class = [base, subclass, interface];
    let buses = space.read(at, BUSES);
    let header = match byte(space.read(at, HEADER_TYPE), 2) & 0x7f {
        0 => Header::Device,
        1 => Header::Bridge { secondary: byte(buses, 1), subordinate: byte(buses, 2) },
        other => Header::Other(other),
    };
    let subsystem = if header == Header::Device { space.read(at, SUBSYSTEM) } else { 0 };
    let interrupt = space.read(at, INTERRUPT);
    Function {
        address: at,
        vendor: half(id, 0),
        device: half(id, 2),
        subsystem: (half(subsystem, 0), half(subsystem, 2)),
        class,
        revision,
        header,
        bars: bars(space, at, header, class),
        pin: byte(interrupt, 1),
        line: byte(interrupt, 0),
        capabilities: capabilities(space, at, header),
    }
}

fn bars(space: &mut impl ConfigSpace, at: Bdf, header: Header, class: [u8; 3]) -> [Option<Bar>; 6] {
    let mut bars = [None; 6];
    let count = match (header, class) {
        // With a host bridge's decoding off, memory may be inaccessible.
        (_, [0x06, 0x00, _]) | (Header::Other(_), _) => return bars,
        (Header::Bridge { .. }, _) => 2,
        (Header::Device, _) => 6,
    };
    // The upper half of the word is the status; zeros written there change nothing.
    let command = space.read(at, COMMAND) & 0xffff;
    space.write(at, COMMAND, command & !u32::from(DECODES));
    let mut index = 0;
    while index < count {
        let bar = bar(space, at, index, count);
        let wide = matches!(bar, Some(Bar { kind: BarKind::Memory64 { .. }, .. }));
        if let Some(place) = bars.get_mut(usize::from(index)) {
            *place = bar;
        }
        index += if wide { 2 } else { 1 };
    }
    space.write(at, COMMAND, command);
    if let [0x01, 0x01, interface] = class {
        for (bar, (base, size, native)) in bars.iter_mut().zip(IDE_LEGACY) {
            if interface & native == 0 {
                *bar = Some(Bar { kind: BarKind::Io, base, size });
            }
        }
    }
    bars
}

/// Register `index` of `count`, with decoding off.
fn bar(space: &mut impl ConfigSpace, at: Bdf, index: u8, count: u8) -> Option<Bar> {
    let offset = BARS + 4 * index;
    let (value, mask) = probe(space, at, offset);
    if mask == 0 {
        return None;
    }
    if value & 1 != 0 {
        // Some functions implement only the lower 16 bits of an I/O BAR.
        let mask = if mask >> 16 == 0 { mask | 0xffff_0000 } else { mask };
        return Some(Bar { kind: BarKind::Io, base: (value & !0b11).into(), size: size((mask & !0b11).into(), 32)? });
    }
    let prefetchable = value & 0b1000 != 0;
    let (base, mask) = (u64::from(value & !0xf), u64::from(mask & !0xf));
    if value & 0b110 == 0b100 && index + 1 < count {
        let (high, high_mask) = probe(space, at, offset + 4);
        let (base, mask) = (u64::from(high) << 32 | base, u64::from(high_mask) << 32 | mask);
        return Some(Bar { kind: BarKind::Memory64 { prefetchable }, base, size: size(mask, 64)? });
    }
    Some(Bar { kind: BarKind::Memory32 { prefetchable }, base, size: size(mask, 32)? })
}

/// A register's value, and what it reads after ones were written.
fn probe(space: &mut impl ConfigSpace, at: Bdf, offset: u8) -> (u32, u32) {
    let value = space.read(at, offset);
    space.write(at, offset, u32::MAX);
    let mask = space.read(at, offset);
    space.write(at, offset, value);
    (value, mask)
}

/// The size that the address bits in `mask` stand for: the lowest that can be set.
fn size(mask: u64, bits: u32) -> Option<u64> {
    let lowest = mask.trailing_zeros();
    (lowest < bits).then(|| 1 << lowest)
}

/// Walks the capability list. A list that loops ends after 48 entries of four bytes, which fill the space.
fn capabilities<const N: usize>(space: &mut impl ConfigSpace, at: Bdf, header: Header) -> Vec<Capability, N> {
    let mut list = Vec::new();
    if matches!(header, Header::Other(_)) || space.read(at, COMMAND) & HAS_CAPABILITIES == 0 {
        return list;
    }
    let mut next = byte(space.read(at, CAPABILITIES), 0) & !0b11;
    for _ in 0..48 {
        // The first 64 bytes are the header.
        if next < 0x40 {
            break;
        }
        let entry = space.read(at, next);
        if list.push(Capability { id: byte(entry, 0), at: next }).is_err() {
            break;
        }
        next = byte(entry, 1) & !0b11;
    }
    list
}
