//! The MP configuration table (Intel, MultiProcessor Specification 1.4, chapter 4): one processor with a local APIC, an ISA
//! bus, and PIC mode. Without it, and without ACPI, Linux leaves the local APIC alone.
//!
//! PIC mode, since Linux then has the 8259's interrupts pass through LINT0. In virtual wire mode it counts on an I/O APIC for
//! them. There is none; yet Linux takes a table without an input of one for a mistake of the BIOS, so there is an input, of
//! one that is marked as not to be used.

use devices::lapic;
use heapless::Vec;

/// Guest-physical address of the floating pointer structure: in the last kilobyte of a PC's base memory, where a system
/// looks for it. The table comes right behind.
pub const AT: u64 = 0x9_fc00;

/// Bytes of both.
pub const SIZE: usize = POINTER + HEADER + PROCESSOR + 4 * OTHER;
const POINTER: usize = 16;
const HEADER: usize = 44;
const PROCESSOR: usize = 20;
/// Of every entry but the processor's.
const OTHER: usize = 8;
const ENTRIES: u8 = 5;
/// The specification's revision.
const REVISION: u8 = 4;

/// An interrupt whose vector the 8259 has.
const EXTERNAL: u8 = 3;
const ISA: u8 = 0;
const IO_APIC: u8 = 1;

/// The floating pointer structure and the table.
pub fn table() -> Vec<u8, SIZE> {
    let mut bytes = Vec::new();
    let mut put = |part: &[u8]| {
        // SIZE is the sum of all parts.
        let _ = bytes.extend_from_slice(part);
    };
    let at = (AT as u32 + POINTER as u32).to_le_bytes();
    put(b"_MP_");
    put(&at);
    // One paragraph; no default configuration; PIC mode, with an IMCR.
    put(&[1, REVISION, 0, 0, 0x80, 0, 0, 0]);

    put(b"PCMP");
    put(&((SIZE - POINTER) as u16).to_le_bytes());
    put(&[REVISION, 0]);
    put(b"PORTCULL");
    put(b"PORTCULLISVM");
    // No table of the manufacturer's.
    put(&[0; 6]);
    put(&[ENTRIES, 0]);
    put(&(lapic::BASE as u32).to_le_bytes());
    put(&[0; 4]);

    // Processor 0: its APIC's version, enabled and bootstrap, family 6, with FPU, CMPXCHG8B and APIC.
    put(&[0, 0, 0x15, 0b11, 0x00, 0x06, 0, 0, 0x01, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    put(&[1, ISA]);
    put(b"ISA   ");
    // Version 0x11, not usable.
    put(&[2, IO_APIC, 0x11, 0, 0, 0, 0xc0, 0xfe]);
    put(&[3, EXTERNAL, 0, 0, ISA, 0, IO_APIC, 0]);
    // To LINT0 of the local APIC 0.
    put(&[4, EXTERNAL, 0, 0, ISA, 0, 0, 0]);

    seal(&mut bytes, 0..POINTER, 10);
    seal(&mut bytes, POINTER..SIZE, POINTER + 7);
    bytes
}

/// Has the bytes of `range` add up to zero, by the one at `checksum`.
fn seal(bytes: &mut [u8], range: core::ops::Range<usize>, checksum: usize) {
    let sum = bytes.get(range).unwrap_or_default().iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(place) = bytes.get_mut(checksum) {
        *place = place.wrapping_sub(sum);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn a_system_finds_the_pointer_and_by_it_the_table() {
        let bytes = table();
        assert_eq!((bytes.len(), &bytes[..4], sum(&bytes[..16])), (SIZE, b"_MP_".as_slice(), 0));
        assert!(AT.is_multiple_of(16), "it is looked for at paragraphs");
        assert!((0x9_fc00..0xa_0000 - SIZE as u64 + 1).contains(&AT), "in the last kilobyte of 640");
        assert_eq!(bytes[4..8], [0x10, 0xfc, 0x09, 0x00]);
        let table = &bytes[16..];
        assert_eq!((&table[..4], sum(table)), (b"PCMP".as_slice(), 0));
        assert_eq!(usize::from(table[4]), table.len());
        assert_eq!(table[36..40], [0, 0, 0xe0, 0xfe], "the local APIC's address");
    }

    #[test]
    fn its_entries_are_of_the_lengths_that_their_types_have() {
        let bytes = table();
        let (mut rest, mut types) = (&bytes[16 + 44..], std::vec::Vec::new());
        while let [kind, ..] = *rest {
            types.push(kind);
            rest = &rest[if kind == 0 { 20 } else { 8 }..];
        }
        assert_eq!(types, [0, 1, 2, 3, 4]);
        assert_eq!(usize::from(bytes[16 + 34]), types.len());
        assert_eq!(bytes[16 + 44 + 20 + 8 + 3], 0, "the I/O APIC is not to be used");
    }
}
