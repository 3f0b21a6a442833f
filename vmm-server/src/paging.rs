//! Walks the guest's page tables: linear to guest-physical address, for an access that the VMM makes in the guest's
//! place (SDM volume 3, "Paging"). A walk reads two or three entries and so always ends, whatever the tables hold.
//!
//! Protection is checked as the processor would, since a guest's user process chooses the addresses of a string
//! instruction. Left out: accessed and dirty bits, which the guest's next own access sets; 64-bit tables; NX, which CPUID
//! hides.

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
/// Address bits of a 64-bit entry. What lies above them is reserved, or NX, which is reserved without EFER.NXE.
const PAE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PAE_RESERVED: u64 = 0xfff0_0000_0000_0000;

/// The guest-physical address of `linear`. `read` gives the 4 or 8 bytes of a table entry at a guest-physical address, or
/// `None` where there is no RAM.
pub fn translate(
    root: &Root,
    linear: u64,
    intent: Intent,
    mut read: impl FnMut(u64, EntrySize) -> Option<u64>,
) -> Result<u64, PageFault> {
    let walk = Walk { root, linear, intent };
    match root.paging {
        Paging::Off => Ok(linear),
        Paging::Bits32 { large } => walk.bits32(large, |at| read(at, EntrySize::Four)),
        Paging::Pae => walk.pae(|at| read(at, EntrySize::Eight)),
    }
}

/// The guest-physical address of `linear`, for an access that the processor has allowed: no rights are checked. None for
/// whatever is unusual, be it allowed or not.
#[inline(always)]
pub fn locate(paging: Paging, cr3: u64, ram: &Ram, linear: u32) -> Option<u64> {
    match paging {
        Paging::Bits32 { large } => locate_by_32_bits(large, cr3 as u32, ram, linear),
        Paging::Pae => locate_by_64_bits(cr3 as u32, ram, linear),
        Paging::Off => Some(linear.into()),
    }
}

#[inline(always)]
fn locate_by_32_bits(large: bool, cr3: u32, ram: &Ram, linear: u32) -> Option<u64> {
    const PRESENT: u32 = 1 << 0;
    const LARGE: u32 = 1 << 7;
    /// Of a large page's entry: address bits 32 to 39, and one that is reserved. No page with those is looked at.
    const HIGH: u32 = 0x003f_e000;
    let pde = ram.read_u32((cr3 & !0xfff | linear >> 20 & 0xffc).into()).ok()?;
    if large && pde & LARGE != 0 {
        return (pde & (PRESENT | HIGH) == PRESENT).then(|| (pde & 0xffc0_0000 | linear & 0x003f_ffff).into());
    }
    let pte = ram.read_u32((pde & !0xfff | linear >> 10 & 0xffc).into()).ok()?;
    (pde & pte & PRESENT != 0).then(|| (pte & !0xfff | linear & 0xfff).into())
}

#[inline(always)]
fn locate_by_64_bits(cr3: u32, ram: &Ram, linear: u32) -> Option<u64> {
    /// Of a large page's entry.
    const RESERVED: u64 = 0x1f_e000;
    let linear = u64::from(linear);
    let pdpte = ram.read_u64(u64::from(cr3 & !0x1f) + (linear >> 30 << 3)).ok()?;
    let pde = ram.read_u64(pdpte & PAE_ADDRESS | linear >> 18 & 0xff8).ok()?;
    let (all, any) = (pdpte & pde, pdpte | pde);
    if pde & LARGE != 0 {
        let usable = all & PRESENT != 0 && any & PAE_RESERVED == 0 && pde & RESERVED == 0;
        return usable.then_some(pde & PAE_ADDRESS & !0x1f_ffff | linear & 0x1f_ffff);
    }
    let pte = ram.read_u64(pde & PAE_ADDRESS | linear >> 9 & 0xff8).ok()?;
    let usable = all & pte & PRESENT != 0 && (any | pte) & PAE_RESERVED == 0;
    usable.then_some(pte & PAE_ADDRESS | linear & 0xfff)
}

/// How long a table entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntrySize {
    /// 4 bytes
    Four,
    /// 8 bytes
    Eight,
}

struct Walk<'a> {
    root: &'a Root,
    linear: u64,
    intent: Intent,
}

impl Walk<'_> {
    fn bits32(&self, large: bool, mut read: impl FnMut(u64) -> Option<u64>) -> Result<u64, PageFault> {
        let directory = self.root.cr3 & 0xffff_f000;
        let pde = self.entry(read(directory + (self.linear >> 22 << 2)), 0)?;
        if large && pde & LARGE != 0 {
            // PSE-36: bits 13 to 20 are bits 32 to 39 of the address, and bit 21 is reserved.
            self.refuse_reserved(pde, 1 << 21)?;
            self.check(pde)?;
            let high = (pde >> 13 & 0xff) << 32;
            return Ok(high | pde & 0xffc0_0000 | self.linear & 0x3f_ffff);
        }
        let pte = self.entry(read((pde & 0xffff_f000) + (self.linear >> 12 & 0x3ff) * 4), 0)?;
        self.check(pde & pte)?;
        Ok(pte & 0xffff_f000 | self.linear & 0xfff)
    }

    fn pae(&self, mut read: impl FnMut(u64) -> Option<u64>) -> Result<u64, PageFault> {
        // The processor has these four in registers, checked when CR3 was loaded.
        let pdpte = self.entry(read((self.root.cr3 & 0xffff_ffe0) + (self.linear >> 30) * 8), PAE_RESERVED)?;
        let pde = self.entry(read((pdpte & PAE_ADDRESS) + (self.linear >> 21 & 0x1ff) * 8), PAE_RESERVED)?;
        if pde & LARGE != 0 {
            self.refuse_reserved(pde, 0x1f_e000)?;
            self.check(pde)?;
            return Ok(pde & PAE_ADDRESS & !0x1f_ffff | self.linear & 0x1f_ffff);
        }
        let pte = self.entry(read((pde & PAE_ADDRESS) + (self.linear >> 12 & 0x1ff) * 8), PAE_RESERVED)?;
        self.check(pde & pte)?;
        Ok(pte & PAE_ADDRESS | self.linear & 0xfff)
    }

    /// A present entry without reserved bits.
    fn entry(&self, entry: Option<u64>, reserved: u64) -> Result<u64, PageFault> {
        let entry = entry.filter(|entry| entry & PRESENT != 0).ok_or(self.fault(false, false))?;
        self.refuse_reserved(entry, reserved)?;
        Ok(entry)
    }

    fn refuse_reserved(&self, entry: u64, reserved: u64) -> Result<(), PageFault> {
        if entry & reserved == 0 { Ok(()) } else { Err(self.fault(true, true)) }
    }

    /// Whether the permissions, those of all levels and-ed together, allow the access.
    fn check(&self, permissions: u64) -> Result<(), PageFault> {
        let Intent { write, user } = self.intent;
        let needs_writable = write && (user || self.root.write_protect);
        if (user && permissions & USER == 0) || (needs_writable && permissions & WRITABLE == 0) {
            return Err(self.fault(true, false));
        }
        Ok(())
    }

    fn fault(&self, protection: bool, reserved: bool) -> PageFault {
        PageFault { protection, write: self.intent.write, user: self.intent.user, reserved }
    }
}
