//! The VMM's page tables in the guest's memory, in the range that the memory map reserves (`linux::low`). They have a few
//! 4 KiB pages, and are of one of two kinds, whatever kind the guest uses: 32-bit tables, or in long mode tables of four
//! levels. A guest that writes to this range only breaks its own instruction.

use crate::{
    linux::low::{FLUSH, NATIVE},
    ram::Ram,
};

const PAGE: u64 = 4096;
/// Tables below the first: three for each page in the worst case of long mode, which is an instruction with a stack and an
/// operand. Where one of them crosses a boundary, the next page mostly has the same tables; there are two more.
const TABLES: u64 = 11;
/// Pages of ones.
const ONES: u64 = 2;
const _: () = assert!(NATIVE + (1 + TABLES + ONES) * PAGE <= FLUSH, "the next page is taken");
/// Times that a page is mapped, for one instruction.
const MOST: u8 = 8;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// Accessed and dirty, so that the processor does not write the entry.
const ACCESSED_AND_DIRTY: u64 = 3 << 5;

/// A kind of tables: log2 of what an entry covers, from the first table to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two levels, with entries of 32 bits.
    Bits32,
    /// Four levels, with entries of 64 bits.
    Long,
}

impl Kind {
    const fn shifts(self) -> &'static [u32] {
        match self {
            Kind::Bits32 => &[22, 12],
            Kind::Long => &[39, 30, 21, 12],
        }
    }

    /// Bytes of an entry.
    const fn size(self) -> u64 {
        match self {
            Kind::Bits32 => 4,
            Kind::Long => 8,
        }
    }
}

/// The tables, as far as they are in use.
#[derive(Clone, Debug)]
pub struct Tables {
    ram: Ram,
    kind: Kind,
    tables: u64,
    ones: u64,
    mapped: u8,
    /// The guest is at privilege level 3.
    user: bool,
}

impl Tables {
    /// Tables without a page; `None` where the guest has no memory for them, as in everything below.
    pub fn new(ram: &Ram, kind: Kind, user: bool) -> Option<Self> {
        ram.fill(NATIVE, PAGE, 0).ok()?;
        Some(Self { ram: *ram, kind, tables: 0, ones: 0, mapped: 0, user })
    }

    /// CR3.
    pub const fn root(&self) -> u64 {
        NATIVE
    }

    /// Maps the page of `linear` to that of `gpa`; `None` where no more fit, or beyond 4 GiB in 32-bit tables.
    pub fn map(&mut self, linear: u64, gpa: u64, writable: bool) -> Option<()> {
        self.mapped = (self.mapped < MOST).then_some(self.mapped + 1)?;
        let (last, above) = self.kind.shifts().split_last()?;
        let mut table = NATIVE;
        for shift in above {
            let at = self.place(table, linear, *shift);
            let entry = self.read(at)?;
            table = entry & !(PAGE - 1);
            if entry & PRESENT == 0 {
                table = self.add_table()?;
                self.write(at, self.entry(table, true))?;
            }
        }
        self.write(self.place(table, linear, *last), self.entry(gpa, writable))
    }

    fn add_table(&mut self) -> Option<u64> {
        let table = (self.tables < TABLES).then_some(NATIVE + (1 + self.tables) * PAGE)?;
        self.ram.fill(table, PAGE, 0).ok()?;
        self.tables += 1;
        Some(table)
    }

    /// Where the entry of `linear` is.
    const fn place(&self, table: u64, linear: u64, shift: u32) -> u64 {
        let size = self.kind.size();
        table + (linear >> shift) % (PAGE / size) * size
    }

    fn read(&self, at: u64) -> Option<u64> {
        match self.kind {
            Kind::Bits32 => self.ram.read_u32(at).ok().map(u64::from),
            Kind::Long => self.ram.read_u64(at).ok(),
        }
    }

    fn write(&self, at: u64, entry: u64) -> Option<()> {
        match self.kind {
            Kind::Bits32 => self.ram.write_u32(at, u32::try_from(entry).ok()?).ok(),
            Kind::Long => self.ram.write_u64(at, entry).ok(),
        }
    }

    /// Maps the page of `linear` to a writable page of ones.
    pub fn map_ones(&mut self, linear: u64) -> Option<()> {
        let page = (self.ones < ONES).then_some(NATIVE + (1 + TABLES + self.ones) * PAGE)?;
        self.ram.fill(page, PAGE, 0xff).ok()?;
        self.ones += 1;
        self.map(linear, page, true)
    }

    const fn entry(&self, gpa: u64, writable: bool) -> u64 {
        let rights = if writable { WRITABLE } else { 0 } | if self.user { USER } else { 0 };
        gpa & !(PAGE - 1) | PRESENT | ACCESSED_AND_DIRTY | rights
    }
}
