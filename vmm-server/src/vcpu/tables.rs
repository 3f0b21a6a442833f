//! The VMM's page tables in the guest's memory, in the range that the memory map reserves (`linux::low`). They are
//! 32-bit tables with a few 4 KiB pages, whatever kind the guest uses (long mode would need its own kind). A guest that
//! writes to this range only breaks its own instruction.

use crate::{
    linux::low::{FLUSH, NATIVE},
    ram::Ram,
};

const PAGE: u64 = 4096;
/// Tables: one for each page in the worst case, which is an instruction with a stack and an operand, all across boundaries.
const TABLES: u64 = 6;
/// Pages of ones.
const ONES: u64 = 2;
const _: () = assert!(NATIVE + (1 + TABLES + ONES) * PAGE <= FLUSH, "the next page is taken");
/// Times that a page is mapped, for one instruction.
const MOST: u8 = 8;

const PRESENT: u32 = 1 << 0;
const WRITABLE: u32 = 1 << 1;
const USER: u32 = 1 << 2;
/// Accessed and dirty, so that the processor does not write the entry.
const ACCESSED_AND_DIRTY: u32 = 3 << 5;

/// The tables, as far as they are in use.
#[derive(Clone, Debug)]
pub struct Tables {
    ram: Ram,
    tables: u64,
    ones: u64,
    mapped: u8,
    /// The guest is at privilege level 3.
    user: bool,
}

impl Tables {
    /// Tables without a page; `None` where the guest has no memory for them, as in everything below.
    pub fn new(ram: &Ram, user: bool) -> Option<Self> {
        ram.fill(NATIVE, PAGE, 0).ok()?;
        Some(Self { ram: *ram, tables: 0, ones: 0, mapped: 0, user })
    }

    /// CR3.
    pub const fn root(&self) -> u64 {
        NATIVE
    }

    /// Maps the page of `linear` to that of `gpa`; `None` where no more fit, or beyond 4 GiB.
    pub fn map(&mut self, linear: u64, gpa: u64, writable: bool) -> Option<()> {
        self.mapped = (self.mapped < MOST).then_some(self.mapped + 1)?;
        let entry = NATIVE + (linear >> 20 & 0xffc);
        let mut directory = self.ram.read_u32(entry).ok()?;
        if directory & PRESENT == 0 {
            let table = (self.tables < TABLES).then_some(NATIVE + (1 + self.tables) * PAGE)?;
            self.ram.fill(table, PAGE, 0).ok()?;
            self.tables += 1;
            directory = self.entry(table, true)?;
            self.ram.write_u32(entry, directory).ok()?;
        }
        let entry = u64::from(directory & !0xfff) | linear >> 10 & 0xffc;
        self.ram.write_u32(entry, self.entry(gpa, writable)?).ok()
    }

    /// Maps the page of `linear` to a writable page of ones.
    pub fn map_ones(&mut self, linear: u64) -> Option<()> {
        let page = (self.ones < ONES).then_some(NATIVE + (1 + TABLES + self.ones) * PAGE)?;
        self.ram.fill(page, PAGE, 0xff).ok()?;
        self.ones += 1;
        self.map(linear, page, true)
    }

    fn entry(&self, gpa: u64, writable: bool) -> Option<u32> {
        let page = u32::try_from(gpa).ok()? & !0xfff;
        let rights = if writable { WRITABLE } else { 0 } | if self.user { USER } else { 0 };
        Some(page | PRESENT | ACCESSED_AND_DIRTY | rights)
    }
}
