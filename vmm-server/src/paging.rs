//! Walks the guest's page tables: linear to guest-physical address, for accesses that the VMM emulates (SDM volume 3,
//! "Paging"). A walk reads two to four entries, so it always ends, whatever the tables hold.
//!
//! Protection is checked as the processor would, since a guest's user process chooses the addresses of a string
//! instruction. Left out: accessed and dirty bits, which the guest's next own access sets; NX, where it is not reserved, since
//! the processor has fetched the instruction already; SMAP.
//!
//! The format of the tables is data: entry size and levels. One walk serves all formats, with two kinds of checks:
//! [`translate`] checks as the processor does, [`locate`] is the fast path for an access that the processor has already
//! allowed.

pub use vtx::cr::Paging;

use crate::ram::Ram;

/// The guest's CR3, its paging mode, and the protection bits that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// How the guest translates.
    pub paging: Paging,
    /// CR3.
    pub cr3: u64,
    /// CR0.WP: read-only pages hold for the kernel as well.
    pub write_protect: bool,
}

/// What an access wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// It writes.
    pub write: bool,
    /// It comes from privilege level 3.
    pub user: bool,
}

/// The walk ended at an entry that does not allow the access; what the processor would push with #PF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The entry is there, but protects the page. Otherwise it is not present, or not in RAM.
    pub protection: bool,
    /// The access was a write.
    pub write: bool,
    /// The access came from privilege level 3.
    pub user: bool,
    /// A reserved bit of the entry is set.
    pub reserved: bool,
}

/// Bits of a linear address in long mode; those above are copies of the highest one.
const LINEAR_BITS: u32 = 48;

/// Whether a linear address is canonical, as an access in 64-bit mode needs.
pub const fn is_canonical(linear: u64) -> bool {
    let unused = 64 - LINEAR_BITS;
    (linear as i64) << unused >> unused == linear as i64
}

impl PageFault {
    /// The error code.
    pub const fn error_code(&self) -> u32 {
        self.protection as u32 | (self.write as u32) << 1 | (self.user as u32) << 2 | (self.reserved as u32) << 3
    }
}

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;

/// How long a table entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntrySize {
    /// 4 bytes
    Four,
    /// 8 bytes
    Eight,
}

/// A format of page tables.
struct Format {
    entry: EntrySize,
    /// Bits of CR3 that are the address of the first table.
    root: u64,
    /// Bits of an entry that are an address.
    address: u64,
    /// Bits of an entry that must be zero.
    reserved: u64,
    /// From the first to the last, whose entries are of pages of 4 KiB.
    levels: &'static [Level],
}

/// A level of tables.
struct Level {
    /// log2 of what an entry covers.
    shift: u32,
    /// log2 of the entries.
    bits: u32,
    /// Whether entries have rights.
    rights: bool,
    /// Entries may be pages.
    large: Option<LargePage>,
}

/// A page that an entry of a higher level is.
#[derive(Clone, Copy)]
struct LargePage {
    reserved: u64,
    /// Bits of the entry that are address bits from 32 on (PSE-36).
    high: u64,
}

const fn level(shift: u32, bits: u32) -> Level {
    Level { shift, bits, rights: true, large: None }
}

const BITS32: Format = Format {
    entry: EntrySize::Four,
    root: 0xffff_f000,
    address: 0xffff_f000,
    reserved: 0,
    levels: &[level(22, 10), level(12, 10)],
};
/// With CR4.PSE.
const BITS32_LARGE: Format = Format {
    levels: &[Level { large: Some(LargePage { reserved: 1 << 21, high: 0x1f_e000 }), ..level(22, 10) }, level(12, 10)],
    ..BITS32
};
const PAE: Format = Format {
    entry: EntrySize::Eight,
    root: 0xffff_ffe0,
    address: 0x000f_ffff_ffff_f000,
    reserved: 0x7ff0_0000_0000_0000 | NO_EXECUTE,
    levels: &[
        // The processor has these four in registers, checked when CR3 was loaded.
        Level { rights: false, ..level(30, 2) },
        Level { large: Some(LargePage { reserved: 0x1f_e000, high: 0 }), ..level(21, 9) },
        level(12, 9),
    ],
};
/// NX, which is reserved without EFER.NXE.
const NO_EXECUTE: u64 = 1 << 63;
const PAE_NO_EXECUTE: Format = Format { reserved: PAE.reserved & !NO_EXECUTE, ..PAE };
const LONG: Format = Format {
    entry: EntrySize::Eight,
    root: 0x000f_ffff_ffff_f000,
    address: 0x000f_ffff_ffff_f000,
    reserved: NO_EXECUTE,
    levels: &[
        Level { large: Some(LargePage { reserved: LARGE, high: 0 }), ..level(39, 9) },
        Level { large: Some(LargePage { reserved: 0x3fff_e000, high: 0 }), ..level(30, 9) },
        Level { large: Some(LargePage { reserved: 0x1f_e000, high: 0 }), ..level(21, 9) },
        level(12, 9),
    ],
};
const LONG_NO_EXECUTE: Format = Format { reserved: 0, ..LONG };

/// The checks on a walk's entries.
trait Judge {
    /// Why the walk gives no address.
    type Fault;
    /// Whether address bits from 32 on are taken from where large pages of 32-bit tables have them.
    const WIDE: bool;
    /// There is no RAM where the entry would be.
    fn missing(&self) -> Self::Fault;
    /// An entry on the way.
    fn entry(&mut self, entry: u64, level: &Level, format: &Format) -> Result<(), Self::Fault>;
    /// The last entry is a large page.
    fn large(&mut self, entry: u64, page: LargePage) -> Result<(), Self::Fault>;
    /// All entries have been seen.
    fn page(&self, format: &Format) -> Result<(), Self::Fault>;
}

#[inline(always)]
fn walk<J: Judge>(
    format: &Format,
    cr3: u64,
    linear: u64,
    mut judge: J,
    mut read: impl FnMut(u64, EntrySize) -> Option<u64>,
) -> Result<u64, J::Fault> {
    let entry_bits = if matches!(format.entry, EntrySize::Four) { 2 } else { 3 };
    let mut table = cr3 & format.root;
    for level in format.levels {
        let index = linear >> level.shift & ((1 << level.bits) - 1);
        let Some(entry) = read(table | index << entry_bits, format.entry) else { return Err(judge.missing()) };
        judge.entry(entry, level, format)?;
        let within = (1 << level.shift) - 1;
        if let Some(page) = level.large
            && entry & LARGE != 0
        {
            judge.large(entry, page)?;
            judge.page(format)?;
            let high =
                if J::WIDE && page.high != 0 { (entry & page.high) >> page.high.trailing_zeros() << 32 } else { 0 };
            return Ok(high | entry & format.address & !within | linear & within);
        }
        if level.shift == SMALL {
            judge.page(format)?;
            return Ok(entry & format.address | linear & within);
        }
        table = entry & format.address;
    }
    Err(judge.missing())
}

/// log2 of the smallest page.
const SMALL: u32 = 12;

/// The guest-physical address of `linear`; one that is not canonical has none, which on a processor is #GP. `read` gives the 4 or 8 bytes of a table entry at a guest-physical address, or
/// `None` where there is no RAM.
pub fn translate(
    root: &Root,
    linear: u64,
    intent: Intent,
    read: impl FnMut(u64, EntrySize) -> Option<u64>,
) -> Result<u64, PageFault> {
    let format = match root.paging {
        Paging::Off => return Ok(linear),
        Paging::Bits32 { large: false } => &BITS32,
        Paging::Bits32 { large: true } => &BITS32_LARGE,
        Paging::Pae { no_execute: false } => &PAE,
        Paging::Pae { no_execute: true } => &PAE_NO_EXECUTE,
        Paging::Long { no_execute: false } => &LONG,
        Paging::Long { no_execute: true } => &LONG_NO_EXECUTE,
    };
    let rights = Rights { root, intent, permissions: u64::MAX };
    if matches!(root.paging, Paging::Long { .. }) && !is_canonical(linear) {
        return Err(rights.missing());
    }
    walk(format, root.cr3, linear, rights, read)
}

/// The guest-physical address of `linear`, for an access that the processor has allowed, so rights are not checked.
/// `None` in every unusual case, allowed or not: the slow path handles it.
#[inline(always)]
pub fn locate(paging: Paging, cr3: u64, ram: &Ram, linear: u64) -> Option<u64> {
    let read = |at, size| match size {
        EntrySize::Four => ram.read_u32(at).ok().map(u64::from),
        EntrySize::Eight => ram.read_u64(at).ok(),
    };
    // Each format gets a walk of its own, with constant levels: half as many instructions as one walk for any format.
    let located = match paging {
        Paging::Off => Ok(linear),
        Paging::Bits32 { large: false } => walk(&BITS32, cr3, linear, Usual::NONE, read),
        Paging::Bits32 { large: true } => walk(&BITS32_LARGE, cr3, linear, Usual::NONE, read),
        Paging::Pae { no_execute: false } => walk(&PAE, cr3, linear, Usual::NONE, read),
        Paging::Pae { no_execute: true } => walk(&PAE_NO_EXECUTE, cr3, linear, Usual::NONE, read),
        Paging::Long { .. } if !is_canonical(linear) => Err(Unusual),
        Paging::Long { no_execute: false } => walk(&LONG, cr3, linear, Usual::NONE, read),
        Paging::Long { no_execute: true } => walk(&LONG_NO_EXECUTE, cr3, linear, Usual::NONE, read),
    };
    located.ok()
}

/// The processor's checks.
struct Rights<'a> {
    root: &'a Root,
    intent: Intent,
    /// The rights of all levels, and-ed.
    permissions: u64,
}

impl Rights<'_> {
    fn refuse(&self, reserved: u64) -> Result<(), PageFault> {
        if reserved == 0 { Ok(()) } else { Err(self.fault(true, true)) }
    }

    fn fault(&self, protection: bool, reserved: bool) -> PageFault {
        PageFault { protection, write: self.intent.write, user: self.intent.user, reserved }
    }
}

impl Judge for Rights<'_> {
    type Fault = PageFault;
    const WIDE: bool = true;

    fn missing(&self) -> PageFault {
        self.fault(false, false)
    }

    fn entry(&mut self, entry: u64, level: &Level, format: &Format) -> Result<(), PageFault> {
        if entry & PRESENT == 0 {
            return Err(self.missing());
        }
        self.permissions &= if level.rights { entry } else { u64::MAX };
        self.refuse(entry & format.reserved)
    }

    fn large(&mut self, entry: u64, page: LargePage) -> Result<(), PageFault> {
        self.refuse(entry & page.reserved)
    }

    fn page(&self, _: &Format) -> Result<(), PageFault> {
        let Intent { write, user } = self.intent;
        let needs_writable = write && (user || self.root.write_protect);
        if (user && self.permissions & USER == 0) || (needs_writable && self.permissions & WRITABLE == 0) {
            return Err(self.fault(true, false));
        }
        Ok(())
    }
}

/// Checks all entries together, at the end of the walk: one branch instead of one per level. A walk beyond a missing
/// entry reads in vain, and is then refused.
struct Usual {
    /// All of them, and-ed.
    all: u64,
    /// All of them, or-ed.
    any: u64,
    /// Set for an unusual large page.
    large: u64,
}

impl Usual {
    const NONE: Self = Self { all: u64::MAX, any: 0, large: 0 };
}

/// An unusual case: the slow path decides.
struct Unusual;

impl Judge for Usual {
    type Fault = Unusual;
    const WIDE: bool = false;

    #[inline(always)]
    fn missing(&self) -> Unusual {
        Unusual
    }

    #[inline(always)]
    fn entry(&mut self, entry: u64, _: &Level, _: &Format) -> Result<(), Unusual> {
        self.all &= entry;
        self.any |= entry;
        Ok(())
    }

    #[inline(always)]
    fn large(&mut self, entry: u64, page: LargePage) -> Result<(), Unusual> {
        self.large = entry & (page.reserved | page.high);
        Ok(())
    }

    #[inline(always)]
    fn page(&self, format: &Format) -> Result<(), Unusual> {
        if self.all & PRESENT != 0 && self.any & format.reserved == 0 && self.large == 0 {
            Ok(())
        } else {
            Err(Unusual)
        }
    }
}
