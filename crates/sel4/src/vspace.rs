//! Address spaces: frames, paging structures, EPT, I/O address spaces, ASIDs (seL4 manual, chapter 7).

use crate::{
    AbsoluteCPtr, Error, GRANULE_BITS, LARGE_PAGE_BITS, Result, Word, cap, cap::Cap, cap::cap_type, init_thread, sys,
};

/// The rights of a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapRights {
    write: bool,
    read: bool,
    grant: bool,
    grant_reply: bool,
}

impl CapRights {
    /// Nothing.
    pub const fn none() -> Self {
        Self { write: false, read: false, grant: false, grant_reply: false }
    }

    /// Everything.
    pub const fn all() -> Self {
        Self { write: true, read: true, grant: true, grant_reply: true }
    }

    /// Reading and writing memory; sending and receiving.
    pub const fn read_write() -> Self {
        Self { write: true, read: true, ..Self::none() }
    }

    /// Reading memory; receiving.
    pub const fn read_only() -> Self {
        Self { read: true, ..Self::none() }
    }

    /// Sending; signalling.
    pub const fn write_only() -> Self {
        Self { write: true, ..Self::none() }
    }

    /// With the right to send capabilities. Calling needs it on kernels that have no grant-reply right.
    pub const fn with_grant(self) -> Self {
        Self { grant: true, ..self }
    }

    /// With the right to call. Implied by grant, and by write on kernels without this right.
    pub const fn with_grant_reply(self) -> Self {
        Self { grant_reply: true, ..self }
    }

    pub(crate) const fn into_sys(self) -> sys::seL4_CapRights_t {
        let mut rights = sys::seL4_CapRights_t { words: [0] };
        rights = sys::seL4_CapRights_set_capAllowWrite(rights, self.write as Word);
        rights = sys::seL4_CapRights_set_capAllowRead(rights, self.read as Word);
        rights = sys::seL4_CapRights_set_capAllowGrant(rights, self.grant as Word);
        #[cfg(grant_reply)]
        {
            rights = sys::seL4_CapRights_set_capAllowGrantReply(rights, self.grant_reply as Word);
        }
        rights
    }
}

/// The memory type of a mapping (Intel SDM volume 3, section 11.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmAttributes {
    /// Write-back.
    WriteBack,
    /// Write-through.
    WriteThrough,
    /// Uncacheable: for device registers.
    Uncacheable,
    /// Write-combining: for frame buffers.
    WriteCombining,
}

impl VmAttributes {
    /// Write-back.
    pub const DEFAULT: Self = Self::WriteBack;

    const fn into_sys(self) -> Word {
        match self {
            Self::WriteBack => sys::seL4_X86_WriteBack,
            Self::WriteThrough => sys::seL4_X86_WriteThrough,
            Self::Uncacheable => sys::seL4_X86_Uncacheable,
            Self::WriteCombining => sys::seL4_X86_WriteCombining,
        }
    }
}

/// The memory type of a guest's memory.
pub type EptAttributes = VmAttributes;

#[cfg(all(vtx, ept_attributes))]
fn ept_attributes(attributes: EptAttributes) -> Word {
    match attributes {
        VmAttributes::WriteBack => sys::seL4_X86_EPT_WriteBack,
        VmAttributes::WriteThrough => sys::seL4_X86_EPT_WriteThrough,
        VmAttributes::Uncacheable => sys::seL4_X86_EPT_Uncacheable,
        VmAttributes::WriteCombining => sys::seL4_X86_EPT_WriteCombining,
    }
}

#[cfg(all(vtx, not(ept_attributes)))]
fn ept_attributes(attributes: EptAttributes) -> Word {
    attributes.into_sys()
}

/// Sizes of frames.
pub trait FrameType {
    /// log2 of the bytes.
    const FRAME_BITS: usize;
}

impl FrameType for cap_type::Granule {
    const FRAME_BITS: usize = GRANULE_BITS;
}

impl FrameType for cap_type::LargePage {
    const FRAME_BITS: usize = LARGE_PAGE_BITS;
}

impl<T: FrameType> Cap<T> {
    /// log2 of the bytes.
    pub const FRAME_BITS: usize = T::FRAME_BITS;

    /// Maps the frame at `vaddr` in another process's address space. Refuses the initial thread's own: see
    /// [`frame_map_here`](Self::frame_map_here).
    pub fn frame_map(
        self,
        vspace: cap::VSpace,
        vaddr: Word,
        rights: CapRights,
        attributes: VmAttributes,
    ) -> Result<()> {
        if vspace == init_thread::slot::VSPACE.cap() {
            return Err(Error::InvalidCapability);
        }
        sys::seL4_X86_Page_Map(self.bits(), vspace.bits(), vaddr, rights.into_sys(), attributes.into_sys())
    }

    /// Maps the frame at `vaddr` in the caller's own address space, `vspace`.
    ///
    /// # Safety
    /// `vaddr` is not used by the program, and no Rust reference to the frame's memory exists while another mapping may
    /// change it.
    pub unsafe fn frame_map_here(
        self,
        vspace: cap::VSpace,
        vaddr: Word,
        rights: CapRights,
        attributes: VmAttributes,
    ) -> Result<()> {
        sys::seL4_X86_Page_Map(self.bits(), vspace.bits(), vaddr, rights.into_sys(), attributes.into_sys())
    }

    /// Unmaps the frame from where this capability mapped it. Later accesses there fault.
    pub fn frame_unmap(self) -> Result<()> {
        sys::seL4_X86_Page_Unmap(self.bits())
    }

    /// Maps the frame at guest-physical address `gpa`.
    pub fn frame_map_ept(
        self,
        ept: cap::EptPml4,
        gpa: Word,
        rights: CapRights,
        attributes: EptAttributes,
    ) -> Result<()> {
        #[cfg(vtx)]
        return sys::seL4_X86_Page_MapEPT(self.bits(), ept.bits(), gpa, rights.into_sys(), ept_attributes(attributes));
        #[cfg(not(vtx))]
        return without_vtx((ept, gpa, rights, attributes));
    }

    /// Maps the frame at `ioaddr` in the I/O address space `iospace`.
    pub fn frame_map_io(self, iospace: cap::IoSpace, rights: CapRights, ioaddr: Word) -> Result<()> {
        sys::seL4_X86_Page_MapIO(self.bits(), iospace.bits(), rights.into_sys(), ioaddr)
    }
}

/// Paging structures: each is mapped for the range that contains an address.
macro_rules! tables {
    ($($table:ident: $map:ident = $sys_map:ident, $unmap:ident = $sys_unmap:ident;)*) => {$(
        impl cap::$table {
            /// Maps this table for the range that contains `vaddr`.
            pub fn $map(self, vspace: cap::VSpace, vaddr: Word, attributes: VmAttributes) -> Result<()> {
                sys::$sys_map(self.bits(), vspace.bits(), vaddr, attributes.into_sys())
            }

            /// Unmaps the table, with everything mapped through it.
            pub fn $unmap(self) -> Result<()> {
                sys::$sys_unmap(self.bits())
            }
        }
    )*};
}

tables! {
    Pdpt: pdpt_map = seL4_X86_PDPT_Map, pdpt_unmap = seL4_X86_PDPT_Unmap;
    PageDirectory: page_directory_map = seL4_X86_PageDirectory_Map, page_directory_unmap = seL4_X86_PageDirectory_Unmap;
    PageTable: page_table_map = seL4_X86_PageTable_Map, page_table_unmap = seL4_X86_PageTable_Unmap;
}

/// EPT paging structures, likewise.
macro_rules! ept_tables {
    ($($table:ident: $map:ident = $sys_map:ident, $unmap:ident = $sys_unmap:ident;)*) => {$(
        impl cap::$table {
            /// Maps this table for the range that contains the guest-physical address `gpa`.
            pub fn $map(self, ept: cap::EptPml4, gpa: Word, attributes: EptAttributes) -> Result<()> {
                #[cfg(vtx)]
                return sys::$sys_map(self.bits(), ept.bits(), gpa, ept_attributes(attributes));
                #[cfg(not(vtx))]
                return without_vtx((ept, gpa, attributes));
            }

            /// Unmaps the table, with everything mapped through it.
            pub fn $unmap(self) -> Result<()> {
                #[cfg(vtx)]
                return sys::$sys_unmap(self.bits());
                #[cfg(not(vtx))]
                return without_vtx(());
            }
        }
    )*};
}

ept_tables! {
    EptPdpt: ept_pdpt_map = seL4_X86_EPTPDPT_Map, ept_pdpt_unmap = seL4_X86_EPTPDPT_Unmap;
    EptPageDirectory: ept_page_directory_map = seL4_X86_EPTPD_Map, ept_page_directory_unmap = seL4_X86_EPTPD_Unmap;
    EptPageTable: ept_page_table_map = seL4_X86_EPTPT_Map, ept_page_table_unmap = seL4_X86_EPTPT_Unmap;
}

/// Creates a capability to the I/O address space of the PCI function `address` (bus, device, function) in `slot`. Only
/// the root task can call it: it uses the initial thread's capability to all I/O spaces, which exists with an IOMMU.
pub fn io_space_issue(domain: u16, address: (u8, u8, u8), slot: &AbsoluteCPtr) -> Result<()> {
    let (bus, device, function) = address;
    let requester = Word::from(bus) << 8 | Word::from(device) << 3 | Word::from(function);
    let all = init_thread::slot::CNODE.cap().absolute_cptr(init_thread::slot::IO_SPACE.cap());
    // The kernel's `io_space_capdata`, which is not installed: the domain in bits 31:16, the function in bits 15:0.
    slot.mint_word(&all, CapRights::all(), Word::from(domain) << 16 | requester)
}

impl cap::IoPageTable {
    /// Maps this table as the next level for the range that contains `ioaddr`.
    pub fn io_page_table_map(self, iospace: cap::IoSpace, ioaddr: Word) -> Result<()> {
        sys::seL4_X86_IOPageTable_Map(self.bits(), iospace.bits(), ioaddr)
    }
}

/// Roots of address spaces, which need an ASID before frames can be mapped.
pub trait VSpaceRoot {}
impl VSpaceRoot for cap_type::VSpace {}
impl VSpaceRoot for cap_type::EptPml4 {}

impl cap::AsidPool {
    /// Assigns an ASID to an address space or EPT.
    pub fn asid_pool_assign<T: VSpaceRoot>(self, root: Cap<T>) -> Result<()> {
        sys::seL4_X86_ASIDPool_Assign(self.bits(), root.bits())
    }
}

impl cap::AsidControl {
    /// Creates an ASID pool from 4 KiB of untyped memory, with its capability in `slot`.
    pub fn asid_control_make_pool(self, untyped: cap::Untyped, slot: &AbsoluteCPtr) -> Result<()> {
        sys::seL4_X86_ASIDControl_MakePool(
            self.bits(),
            untyped.bits(),
            slot.root().bits(),
            slot.path().bits(),
            slot.path().depth(),
        )
    }
}

/// The result of VT-x invocations on a kernel without VT-x.
#[cfg(not(vtx))]
pub(crate) fn without_vtx<A, T>(_unused: A) -> Result<T> {
    Err(Error::IllegalOperation)
}
