//! CR0, CR3, CR4 and IA32_EFER: the values that the guest reads, and those that the processor uses (SDM volume 3, "Control
//! Registers", "IA-32e Mode Operation", and "Changes to Instruction Behavior in VMX Non-Root Operation").
//!
//! The kernel keeps PE, NE and PG set in the real CR0 and VMXE in the real CR4. A guest whose own paging is off
//! therefore runs on an identity page directory of 4 MiB pages for 4 GiB, and the VMM only stores its CR3. Once the
//! guest turns paging on, the processor uses its CR3, and accesses to CR3 no longer exit. CD and NW never reach the
//! processor: its caches belong to the host.
//!
//! Where the kernel supports 64-bit guests, the guest has an EFER of its own, which every entry loads. Long mode is active
//! (EFER.LMA) while EFER.LME and CR0.PG are set, and the entry control "IA-32e mode guest" says so to the processor.
//!
//! CR0.TS, EM and MP must stay out of the CR0 mask, and #NM out of the exception bitmap: the kernel switches the FPU
//! lazily, takes TS over while the guest does not own the FPU, and forwards #NM and writes of TS to the VMM only where
//! the VMM claims those bits (`handleLazyFpu` and `handleVmexit` in its vcpu.c).
//!
//! Left out: real mode, for which there is no firmware; tables of five levels, protection keys and other features that
//! CPUID hides. Nor does a guest run without paging where the kernel lets it ("unrestricted guest"): the identity directory is needed on
//! other kernels, and a step over an instruction on tables of the VMM needs paging everywhere.

use crate::event::Exception;
use crate::exit::Cr;
use crate::vmcs::EntryControls;

/// Bits of CR0.
#[allow(missing_docs)]
pub mod cr0 {
    pub const PE: u64 = 1 << 0;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
    /// Bits that exist. Writes to others below bit 32 are ignored.
    pub const ALL: u64 = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG;
    /// Bits in the guest/host mask: the VMM owns them.
    pub const OWNED: u64 = PE | NE | NW | CD | PG;
    /// Bits that are always set in the real CR0.
    pub const FIXED: u64 = PE | NE | PG;
}

/// Bits of CR4.
#[allow(missing_docs)]
pub mod cr4 {
    pub const VME: u64 = 1 << 0;
    pub const PVI: u64 = 1 << 1;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const UMIP: u64 = 1 << 11;
    pub const VMXE: u64 = 1 << 13;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
    /// Bits that the guest owns, so that writes of them do not exit: every processor with VT-x has them, and they mean
    /// the same with paging on or off. PGE is the important one, since Linux toggles it for each global TLB flush. The
    /// VMM owns all other bits, reserved ones included.
    pub const FREE: u64 = VME | PVI | TSD | DE | PGE | PCE | OSFXSR | OSXMMEXCPT;
    /// Owned bits that a guest may set and that never reach the processor: the host handles machine checks.
    pub const KEPT: u64 = MCE;
    /// Owned bits that a guest may set only where its CPUID has the feature. It may always set those above, PSE and
    /// PAE.
    pub const BY_CPUID: u64 = UMIP | FSGSBASE | PCIDE | OSXSAVE | SMEP | SMAP;
    /// Bits without meaning while the guest's paging is off. They must not reach the processor then: the identity pages
    /// are 32-bit user pages, and would fault.
    pub const PAGED_ONLY: u64 = PAE | SMEP | SMAP;
}

/// Bits of IA32_EFER.
#[allow(missing_docs)]
pub mod efer {
    pub const SCE: u64 = 1 << 0;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
}

/// The bits that a guest may set only where its CPUID has the feature: see [`crate::cpuid::features`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Of [`cr4::BY_CPUID`].
    pub cr4: u64,
    /// Of [`efer`]; zero where the kernel gives guests no EFER.
    pub efer: u64,
    /// XCR0, which is the kernel's own; zero where guests have no XSAVE.
    pub xcr0: u64,
}

/// The control registers as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlRegisters {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    cr4_allowed: u64,
    efer: u64,
    efer_allowed: u64,
    xcr0: u64,
    identity: u64,
}

/// The control registers as the VMCS has them: `GuestCr0`, `GuestCr3`, `GuestCr4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Real {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
}

/// The VMCS fields that give the guest these control registers.
///
/// When the guest writes CR0, CR3 or CR4, the processor discards cached translations. When the VMM writes these fields,
/// it does not if translations are tagged by VPID (SDM volume 3, "Operations that Invalidate Cached Mappings"); so the
/// kernel discards them before the next entry after a write of one of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// `GuestCr0`, `GuestCr3` and `GuestCr4`.
    pub real: Real,
    /// `Cr0Mask`.
    pub cr0_mask: u64,
    /// `Cr0Shadow`.
    pub cr0_shadow: u64,
    /// `Cr4Mask`.
    pub cr4_mask: u64,
    /// `Cr4Shadow`.
    pub cr4_shadow: u64,
    /// Whether `PrimaryControls::CR3_LOAD` and `CR3_STORE` are to be set.
    pub cr3_exits: bool,
    /// Where the four page-directory-pointer-table entries are that go into `GuestPdpte0` to `GuestPdpte3`, if the guest
    /// has PAE paging, and [the instruction loads them](ControlRegisters::loads_pdptes). They must satisfy [`pdpte_is_valid`]; else the instruction gets #GP, and nothing is written.
    pub pdptes: Option<u64>,
    /// What only a kernel with 64-bit guests takes.
    pub long: Option<Long>,
}

/// The VMCS fields of long mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Long {
    /// `GuestEfer`.
    pub efer: u64,
    /// `EntryControls`.
    pub entry: EntryControls,
}

/// How the guest translates linear addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// Paging is off: linear addresses are physical.
    Off,
    /// Two levels of 32-bit entries, with 4 MiB pages where `large` (CR4.PSE).
    Bits32 {
        /// CR4.PSE
        large: bool,
    },
    /// Three levels of 64-bit entries.
    Pae {
        /// EFER.NXE
        no_execute: bool,
    },
    /// Four levels of 64-bit entries, in long mode.
    Long {
        /// EFER.NXE
        no_execute: bool,
    },
}

/// Why a write is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The guest gets this exception.
    Raise(Exception),
    /// The guest leaves protected mode, and real mode is not supported. Linux does so to restart through the BIOS.
    RealMode,
}

const GP: Refusal = Refusal::Raise(Exception::GeneralProtection);

impl ControlRegisters {
    /// The state that the 32-bit boot protocol starts in: protected mode without paging. `identity` is the guest-physical
    /// address of the page directory that maps every address to itself.
    pub const fn new(identity: u64, features: Features) -> Self {
        let cr4_allowed = cr4::FREE | cr4::KEPT | cr4::PSE | cr4::PAE | features.cr4 & cr4::BY_CPUID;
        let efer_allowed = features.efer & (efer::SCE | efer::LME | efer::NXE);
        let xcr0 = features.xcr0;
        ControlRegisters { cr0: cr0::PE | cr0::ET, cr3: 0, cr4: 0, cr4_allowed, efer: 0, efer_allowed, xcr0, identity }
    }

    /// The state that the 64-bit boot protocol starts in: long mode, with the PML4 at `root`. The features must have it.
    pub const fn start_long(&mut self, root: u64) -> Program {
        self.cr0 = cr0::PE | cr0::ET | cr0::PG;
        self.cr3 = root;
        self.cr4 = cr4::PAE;
        self.efer = efer::LME;
        self.program()
    }

    /// Whether long mode is active: EFER.LMA.
    #[inline(always)]
    pub const fn is_long(&self) -> bool {
        self.efer & efer::LME != 0 && self.cr0 & cr0::PG != 0
    }

    /// Whether there is a long mode.
    pub const fn has_long_mode(&self) -> bool {
        self.efer_allowed & efer::LME != 0
    }

    /// XCR0: the kernel's, whatever the guest writes.
    pub const fn xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Whether XSETBV takes this value for XCR0: x87 is always on, AVX needs SSE, and the others have to be there (SDM volume 1,
    /// "Enabling the XSAVE Feature Set and XSAVE-Enabled Features").
    pub const fn takes_xcr0(&self, value: u64) -> bool {
        const X87: u64 = 1 << 0;
        const SSE: u64 = 1 << 1;
        const AVX: u64 = 1 << 2;
        value & !self.xcr0 == 0 && value & X87 != 0 && value & (SSE | AVX) != AVX
    }

    /// RDMSR of IA32_EFER.
    pub const fn efer(&self) -> u64 {
        self.efer | if self.is_long() { efer::LMA } else { 0 }
    }

    /// WRMSR to IA32_EFER. LMA is read-only, and a write of it vanishes. If refused, nothing changes.
    pub const fn set_efer(&mut self, value: u64) -> Result<Program, Refusal> {
        let value = value & !efer::LMA;
        let switches = (value ^ self.efer) & efer::LME != 0;
        if value & !self.efer_allowed != 0 || switches && self.cr0 & cr0::PG != 0 {
            return Err(GP);
        }
        self.efer = value;
        Ok(self.program())
    }

    /// Reads back what the guest changed without an exit since the last [`Program`]. Call it before the other methods.
    pub const fn refresh(&mut self, real: Real) {
        self.cr0 = self.cr0 & cr0::OWNED | real.cr0 & cr0::ALL & !cr0::OWNED;
        self.cr4 = self.cr4 & !cr4::FREE | real.cr4 & cr4::FREE;
        if self.cr0 & cr0::PG != 0 {
            self.cr3 = real.cr3;
        }
    }

    /// The value that MOV from `cr` reads.
    pub const fn read(&self, cr: Cr) -> u64 {
        match cr {
            Cr::Cr0 => self.cr0,
            Cr::Cr3 => self.cr3,
            Cr::Cr4 => self.cr4,
            Cr::Cr8 => 0,
        }
    }

    /// MOV to `cr`. If refused, nothing changes.
    pub fn mov_to(&mut self, cr: Cr, value: u64) -> Result<Program, Refusal> {
        let mut next = *self;
        match cr {
            Cr::Cr0 => next.cr0 = self.checked_cr0(value)?,
            Cr::Cr3 => next.cr3 = value,
            Cr::Cr4 => next.cr4 = self.checked_cr4(value)?,
            // It is the local APIC's, and exists in 64-bit mode only.
            Cr::Cr8 => return Err(Refusal::Raise(Exception::InvalidOpcode)),
        }
        *self = next;
        Ok(next.program())
    }

    /// LMSW: the low four bits of CR0, of which PE can be set but not cleared.
    pub fn lmsw(&mut self, value: u16) -> Result<Program, Refusal> {
        const WRITTEN: u64 = cr0::MP | cr0::EM | cr0::TS;
        let value = u64::from(value);
        self.mov_to(Cr::Cr0, self.cr0 & !WRITTEN | value & (WRITTEN | cr0::PE))
    }

    /// CLTS.
    pub fn clts(&mut self) -> Result<Program, Refusal> {
        self.mov_to(Cr::Cr0, self.cr0 & !cr0::TS)
    }

    /// Whether MOV to CR0 or CR4 loads the page-directory-pointer-table entries from memory, if there is PAE paging after it (SDM
    /// volume 3, "Loading Paging-Structure Entries of PAE Paging"). MOV to CR3 does so always; WRMSR never does.
    pub const fn loads_pdptes(&self, before: &Self) -> bool {
        const CR0: u64 = cr0::CD | cr0::NW | cr0::PG;
        const CR4: u64 = cr4::PAE | cr4::PGE | cr4::PSE | cr4::SMEP;
        (self.cr0 ^ before.cr0) & CR0 != 0 || (self.cr4 ^ before.cr4) & CR4 != 0
    }

    /// How the guest translates addresses, with [`Self::read`] of CR3 as the root.
    pub const fn paging(&self) -> Paging {
        let no_execute = self.efer & efer::NXE != 0;
        match (self.cr0 & cr0::PG != 0, self.cr4 & cr4::PAE != 0) {
            (false, _) => Paging::Off,
            (true, true) if self.efer & efer::LME != 0 => Paging::Long { no_execute },
            (true, true) => Paging::Pae { no_execute },
            (true, false) => Paging::Bits32 { large: self.cr4 & cr4::PSE != 0 },
        }
    }

    /// The VMCS fields for these control registers.
    pub const fn program(&self) -> Program {
        let paged = self.cr0 & cr0::PG != 0;
        let pae = matches!(self.paging(), Paging::Pae { .. });
        let cr4 = self.cr4 & !cr4::KEPT;
        Program {
            real: Real {
                cr0: self.cr0 & !cr0::OWNED | cr0::FIXED | cr0::ET,
                cr3: if paged { self.cr3 } else { self.identity },
                cr4: cr4::VMXE | if paged { cr4 } else { cr4 & !cr4::PAGED_ONLY | cr4::PSE },
            },
            cr0_mask: cr0::OWNED,
            cr0_shadow: self.cr0,
            cr4_mask: !cr4::FREE,
            cr4_shadow: self.cr4,
            cr3_exits: !paged,
            pdptes: if pae { Some(self.cr3 & 0xffff_ffe0) } else { None },
            long: if self.efer_allowed != 0 { Some(self.long()) } else { None },
        }
    }

    /// On the identity directory, the processor pages where the guest does not, so LME must not be set there.
    const fn long(&self) -> Long {
        let own = EntryControls::LOAD_PAT.union(EntryControls::LOAD_EFER);
        let paged = self.cr0 & cr0::PG != 0;
        Long {
            efer: if paged { self.efer() } else { self.efer & !efer::LME },
            entry: if self.is_long() { own.union(EntryControls::IA_32E_MODE) } else { own },
        }
    }

    /// The last two rules are those of long mode: it needs PAE, and PCIDE needs it.
    fn checked_cr0(&self, value: u64) -> Result<u64, Refusal> {
        let has = |bit| value & bit != 0;
        let pages = has(cr0::PG) && self.cr0 & cr0::PG == 0;
        if value >> 32 != 0
            || has(cr0::PG) && !has(cr0::PE)
            || has(cr0::NW) && !has(cr0::CD)
            || pages && self.efer & efer::LME != 0 && self.cr4 & cr4::PAE == 0
            || !has(cr0::PG) && self.cr4 & cr4::PCIDE != 0
        {
            return Err(GP);
        }
        if !has(cr0::PE) {
            return Err(Refusal::RealMode);
        }
        Ok(value & cr0::ALL | cr0::ET)
    }

    fn checked_cr4(&self, value: u64) -> Result<u64, Refusal> {
        const PCID: u64 = 0xfff;
        let tags = value & cr4::PCIDE != 0 && self.cr4 & cr4::PCIDE == 0;
        if value & !self.cr4_allowed != 0
            || self.is_long() && value & cr4::PAE == 0
            || tags && (!self.is_long() || self.cr3 & PCID != 0)
        {
            return Err(GP);
        }
        Ok(value)
    }
}

/// Whether the processor accepts this page-directory-pointer-table entry; `address_bits` is the guest's physical address
/// width, CPUID leaf 0x8000_0008.
pub const fn pdpte_is_valid(entry: u64, address_bits: u32) -> bool {
    const PRESENT: u64 = 1;
    const RESERVED_LOW: u64 = 0x1e6;
    entry & PRESENT == 0 || (entry & RESERVED_LOW == 0 && entry.unbounded_shr(address_bits) == 0)
}
