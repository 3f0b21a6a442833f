//! ACPI tables (ACPI specification 6.4, chapter 5; for the DMAR Intel's VT-d specification, chapter 8; for the MCFG the PCI
//! Firmware Specification): found in memory, and read. Whatever they hold, nothing here takes longer than their length.

use heapless::Vec;

use crate::machine::{Memory, number};

/// Most tables that are kept.
pub const MOST_TABLES: usize = 8;
/// Bytes of a table's header.
const HEADER: usize = 36;
/// Longest table that is read.
const LONGEST: usize = 1 << 16;
/// Most entries of the XSDT that are looked at.
const MOST_ENTRIES: usize = 256;
/// The tables that this product needs.
const WANTED: [&[u8; 4]; 5] = [b"APIC", b"DMAR", b"FACP", b"HPET", b"MCFG"];
const _: () = assert!(WANTED.len() <= MOST_TABLES, "no room for a table of each kind");

/// An ACPI table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    /// Its signature.
    pub signature: [u8; 4],
    /// All of it, with the header.
    pub bytes: &'a [u8],
}

/// The root pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rsdp {
    /// ACPI revision: 0 for 1.0, 2 since 2.0.
    pub revision: u8,
    /// Physical address of the RSDT.
    pub rsdt: u64,
    /// Physical address of the XSDT; 0 if there is none.
    pub xsdt: u64,
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

impl Rsdp {
    /// Reads it; `None` if it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.get(..8)? != b"RSD PTR " || !sums_to_zero(bytes.get(..20)?) {
            return None;
        }
        let revision = *bytes.get(15)?;
        let xsdt = if revision >= 2 { number::<8>(bytes, 24).unwrap_or(0) } else { 0 };
        Some(Self { revision, rsdt: number::<4>(bytes, 16)?, xsdt })
    }

    /// Looks for it where a BIOS puts it: in the first KiB of the extended BIOS data area, and below 1 MiB.
    pub fn search<'a>(memory: &impl Memory<'a>) -> Option<Self> {
        let segment = number::<2>(memory.bytes(0x40e, 2)?, 0)?;
        let areas = [(segment << 4, 1 << 10), (0xe_0000, 0x2_0000)];
        areas.into_iter().find_map(|(start, length)| {
            let area = memory.bytes(start, length)?;
            (0..area.len()).step_by(16).find_map(|at| Self::parse(area.get(at..)?.get(..36)?))
        })
    }

    /// The tables that this product needs, by the XSDT, or the RSDT if there is none.
    pub fn tables<'a>(&self, memory: &impl Memory<'a>) -> Vec<Table<'a>, MOST_TABLES> {
        let mut tables = Vec::new();
        let (root, width) = if self.xsdt != 0 { (self.xsdt, 8) } else { (self.rsdt, 4) };
        let entries = table(memory, root).and_then(|(_, bytes)| bytes.get(HEADER..)).unwrap_or_default();
        for entry in entries.chunks_exact(width).take(MOST_ENTRIES) {
            let address = entry.iter().rev().fold(0, |address, byte| address << 8 | u64::from(*byte));
            let Some((signature, bytes)) = table(memory, address) else { continue };
            if is_wanted(&signature) {
                let _ = tables.push(Table { signature, bytes });
            }
        }
        tables
    }
}

/// A table at an address, if its length is plausible.
fn table<'a>(memory: &impl Memory<'a>, address: u64) -> Option<([u8; 4], &'a [u8])> {
    let header = memory.bytes(address, HEADER)?;
    let length = number::<4>(header, 4)? as usize;
    let bytes = memory.bytes(address, (HEADER..=LONGEST).contains(&length).then_some(length)?)?;
    Some((header.get(..4)?.try_into().ok()?, bytes))
}

/// Whether this product needs tables with this signature.
pub fn is_wanted(signature: &[u8; 4]) -> bool {
    WANTED.contains(&signature)
}

/// Whether the table's checksum is right.
pub fn is_whole(table: &[u8]) -> bool {
    table.len() >= HEADER && sums_to_zero(table)
}

/// Structures in a table that follow each other, each with its length at `length_at` in `WIDTH` bytes.
fn structures<const WIDTH: usize>(bytes: &[u8], length_at: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let length = number::<WIDTH>(rest, length_at)? as usize;
        let (structure, others) = rest.split_at_checked(length.max(length_at + WIDTH))?;
        rest = others;
        Some(structure)
    })
}

/// An entry of the MADT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// A processor's local APIC.
    Processor {
        /// APIC ID.
        apic: u32,
        /// Whether it can be used.
        enabled: bool,
    },
    /// An I/O APIC.
    IoApic {
        /// Its number.
        id: u8,
        /// Its registers.
        address: u64,
        /// The first of its inputs, counted over all of them.
        base: u32,
    },
    /// An ISA interrupt that arrives at another input.
    Override {
        /// The interrupt.
        irq: u8,
        /// The input, counted over all I/O APICs.
        input: u32,
        /// Polarity and trigger mode (MPS INTI flags).
        flags: u16,
    },
}

/// The MADT's entries.
pub fn madt(table: &[u8]) -> impl Iterator<Item = Interrupts> {
    structures::<1>(table.get(HEADER + 8..).unwrap_or_default(), 1).filter_map(|entry| match entry.first()? {
        0 => Some(Interrupts::Processor { apic: u32::from(*entry.get(3)?), enabled: number::<4>(entry, 4)? & 1 != 0 }),
        1 => Some(Interrupts::IoApic {
            id: *entry.get(2)?,
            address: number::<4>(entry, 4)?,
            base: number::<4>(entry, 8)? as u32,
        }),
        2 => Some(Interrupts::Override {
            irq: *entry.get(3)?,
            input: number::<4>(entry, 4)? as u32,
            flags: number::<2>(entry, 8)? as u16,
        }),
        9 => Some(Interrupts::Processor {
            apic: number::<4>(entry, 4)? as u32,
            enabled: number::<4>(entry, 8)? & 1 != 0,
        }),
        _ => None,
    })
}

/// A device scope of the DMAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// 1 a function, 2 a bridge and all behind it, 3 an I/O APIC, 4 an HPET.
    pub kind: u8,
    /// The bus on which the path starts.
    pub bus: u8,
    /// The path's first device and function.
    pub first: (u8, u8),
    /// How many further steps it has, through bridges.
    pub further: usize,
}

/// An entry of the DMAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remapping<'a> {
    /// A hardware unit (DRHD).
    Unit {
        /// Its registers.
        address: u64,
        /// Whether it serves all functions of the segment that no other does.
        all: bool,
        /// PCI segment.
        segment: u16,
        /// Its scopes, for [`scopes`].
        scopes: &'a [u8],
    },
    /// Memory that firmware reserves for functions (RMRR).
    Reserved {
        /// First byte.
        base: u64,
        /// Last byte.
        last: u64,
        /// For which functions, for [`scopes`].
        scopes: &'a [u8],
    },
}

/// The DMAR's entries.
pub fn dmar(table: &[u8]) -> impl Iterator<Item = Remapping<'_>> {
    structures::<2>(table.get(HEADER + 12..).unwrap_or_default(), 2).filter_map(|entry| match number::<2>(entry, 0)? {
        0 => Some(Remapping::Unit {
            address: number::<8>(entry, 8)?,
            all: entry.get(4)? & 1 != 0,
            segment: number::<2>(entry, 6)? as u16,
            scopes: entry.get(16..)?,
        }),
        1 => Some(Remapping::Reserved {
            base: number::<8>(entry, 8)?,
            last: number::<8>(entry, 16)?,
            scopes: entry.get(24..)?,
        }),
        _ => None,
    })
}

/// Whether the DMAR's entries fill it to its end, or to zeros at its end, and each unit is as long as its registers' address
/// needs.
pub fn dmar_is_whole(table: &[u8]) -> bool {
    let Some(mut rest) = table.get(HEADER + 12..) else { return false };
    while rest.iter().any(|&byte| byte != 0) {
        let (Some(kind), Some(length)) = (number::<2>(rest, 0), number::<2>(rest, 2)) else { return false };
        if length < if kind == 0 { 16 } else { 4 } {
            return false;
        }
        let Some((_, others)) = rest.split_at_checked(length as usize) else { return false };
        rest = others;
    }
    true
}

/// Device scopes.
pub fn scopes(bytes: &[u8]) -> impl Iterator<Item = Scope> {
    structures::<1>(bytes, 1).filter_map(|scope| {
        Some(Scope {
            kind: *scope.first()?,
            bus: *scope.get(5)?,
            first: (*scope.get(6)?, *scope.get(7)?),
            further: (scope.len() - 8) / 2,
        })
    })
}

/// Configuration space in memory (ECAM): its address, segment, first and last bus.
pub fn mcfg(table: &[u8]) -> impl Iterator<Item = (u64, u16, u8, u8)> {
    table.get(HEADER + 8..).unwrap_or_default().chunks_exact(16).filter_map(|entry| {
        Some((number::<8>(entry, 0)?, number::<2>(entry, 8)? as u16, *entry.get(10)?, *entry.get(11)?))
    })
}

/// The port of the power management timer, by the FADT: PM_TMR_BLK, or X_PM_TMR_BLK in I/O space.
pub fn pm_timer(table: &[u8]) -> Option<u16> {
    let old = number::<4>(table, 76).filter(|port| *port != 0 && table.get(91) == Some(&4));
    let new = || number::<8>(table, 212).filter(|port| *port != 0 && table.get(208) == Some(&1));
    old.or_else(new)?.try_into().ok()
}

/// The HPET's registers.
pub fn hpet(table: &[u8]) -> Option<u64> {
    number::<8>(table, HEADER + 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut table = [&signature[..], &(36 + body.len() as u32).to_le_bytes(), &[0; 28], body].concat();
        table[9] = 0u8.wrapping_sub(table.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
        table
    }

    #[test]
    fn a_madt_of_a_desktop() {
        let body = [
            &[0, 0, 0xe0, 0xfe, 1, 0, 0, 0][..],
            &[0, 8, 1, 2, 1, 0, 0, 0],
            &[0, 8, 2, 0, 1, 0, 0, 0],
            &[0, 8, 3, 4, 0, 0, 0, 0],
            &[1, 12, 2, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
            &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
            &[2, 10, 0, 9, 9, 0, 0, 0, 13, 0],
            &[4, 6, 0xff, 5, 0, 1],
        ]
        .concat();
        let table = table(b"APIC", &body);
        assert!(is_whole(&table));
        let entries: Vec<_> = madt(&table).collect();
        assert_eq!(entries[0], Interrupts::Processor { apic: 2, enabled: true });
        assert_eq!(entries[2], Interrupts::Processor { apic: 4, enabled: false });
        assert_eq!(entries[3], Interrupts::IoApic { id: 2, address: 0xfec0_0000, base: 0 });
        assert_eq!(entries[5], Interrupts::Override { irq: 9, input: 9, flags: 13 });
        assert_eq!(entries.len(), 6);
    }

    #[test]
    fn a_dmar_with_two_units_and_a_reserved_region() {
        let body = [
            &[38, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            // The graphics' unit, for 00:02.0.
            &[0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0],
            &[1, 8, 0, 0, 0, 0, 2, 0],
            // The other one, for all, with the I/O APIC.
            &[0, 0, 24, 0, 1, 0, 0, 0, 0, 0x10, 0xd9, 0xfe, 0, 0, 0, 0],
            &[3, 8, 0, 0, 8, 0xf0, 0x1f, 0],
            // Reserved for a USB controller, 0x9d800000 to 0x9d81ffff.
            &[1, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x9d, 0, 0, 0, 0, 0xff, 0xff, 0x81, 0x9d, 0, 0, 0, 0],
            &[2, 10, 0, 0, 0, 0, 0x1c, 3, 1, 0],
        ];
        let body = body.concat();
        // The last structure is two bytes longer than it says: a damaged end is left out, the rest counts.
        let table = table(b"DMAR", &body);
        let entries: Vec<_> = dmar(&table).collect();
        let Remapping::Unit { address, all, segment, scopes: first } = entries[0] else { panic!("{entries:?}") };
        assert_eq!((address, all, segment), (0xfed9_0000, false, 0));
        assert_eq!(scopes(first).collect::<Vec<_>>(), [Scope { kind: 1, bus: 0, first: (2, 0), further: 0 }]);
        assert!(matches!(entries[1], Remapping::Unit { address: 0xfed9_1000, all: true, .. }));
        let Remapping::Reserved { base, last, scopes: of } = entries[2] else { panic!("{entries:?}") };
        assert_eq!((base, last), (0x9d80_0000, 0x9d81_ffff));
        assert_eq!(scopes(of).count(), 0, "its scope does not fit");
        assert!(!dmar_is_whole(&table) && dmar_is_whole(&table[..HEADER + 12]));
        assert!(dmar_is_whole(&table[..table.len() - 2]));
        // Filled up with zeros, but not with more behind them.
        let filled = [&table[..table.len() - 2], &[0; 22]].concat();
        assert!(dmar_is_whole(&filled) && !dmar_is_whole(&[&filled[..], &[1]].concat()));
        assert_eq!(dmar(&filled).count(), entries.len());
        // A unit that ends in front of its address.
        assert!(!dmar_is_whole(&[&table[..HEADER + 12], &[0, 0, 8, 0, 1, 0, 0, 0]].concat()));
    }

    #[test]
    fn damaged_tables_end_early() {
        for length in 0..4 {
            let entry = [0u8, length, 1, 1, 1, 0, 0, 0];
            let table = table(b"APIC", &[&[0; 8][..], &entry].concat());
            assert!(madt(&table).count() <= 8, "length {length}");
        }
        assert_eq!(dmar(&[0; 40]).count(), 0);
        assert_eq!(scopes(&[1, 3, 0, 1, 200]).count(), 0);
        assert_eq!(scopes(&[1, 6, 0, 0, 0, 0]).count(), 0);
        assert_eq!(pm_timer(&[0; 20]), None);
    }

    #[test]
    fn the_power_management_timer_is_in_either_place() {
        let mut fadt = [0u8; 244];
        assert_eq!(pm_timer(&fadt), None);
        fadt[208] = 1;
        fadt[212..214].copy_from_slice(&0x1808u16.to_le_bytes());
        assert_eq!(pm_timer(&fadt), Some(0x1808));
        fadt[76..78].copy_from_slice(&0x408u16.to_le_bytes());
        fadt[91] = 4;
        assert_eq!(pm_timer(&fadt), Some(0x408));
    }

    /// Memory from address 0 on.
    struct Low(&'static [u8]);
    impl Memory<'static> for Low {
        fn bytes(&self, address: u64, length: usize) -> Option<&'static [u8]> {
            self.0.get(address as usize..)?.get(..length)
        }
    }

    #[test]
    fn the_root_pointer_is_found_below_1_mib_and_leads_to_the_tables() {
        let mut memory = std::vec![0u8; 1 << 20];
        let madt = table(b"APIC", &[0; 8]);
        let xsdt = table(
            b"XSDT",
            &[0x2000u64.to_le_bytes(), 0x3000u64.to_le_bytes(), 0xffff_ffff_0000u64.to_le_bytes()].concat(),
        );
        let other = table(b"SSDT", &[]);
        for (at, table) in [(0x1000, &xsdt), (0x2000, &other), (0x3000, &madt)] {
            memory[at..at + table.len()].copy_from_slice(table);
        }
        let rsdp = &mut memory[0xf_5ad0..][..36];
        rsdp[..8].copy_from_slice(b"RSD PTR ");
        rsdp[15] = 2;
        rsdp[24..32].copy_from_slice(&0x1000u64.to_le_bytes());
        rsdp[8] = 0u8.wrapping_sub(rsdp[..20].iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
        let memory = Low(std::boxed::Box::leak(memory.into_boxed_slice()));
        let found = Rsdp::search(&memory).unwrap();
        assert_eq!(found, Rsdp { revision: 2, rsdt: 0, xsdt: 0x1000 });
        let tables = found.tables(&memory);
        assert_eq!(tables.iter().map(|table| &table.signature).collect::<Vec<_>>(), [b"APIC"]);
    }
}
