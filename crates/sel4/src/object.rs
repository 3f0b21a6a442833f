//! Retyping untyped memory into objects (seL4 manual, section 2.4).

use crate::{AbsoluteCPtr, Result, Word, cap, sys};

/// An object to create. Sizes are log2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectBlueprint {
    /// Smaller untyped memory, of 2^`size_bits` bytes.
    Untyped {
        /// log2 of its bytes.
        size_bits: usize,
    },
    /// A table of 2^`size_bits` capabilities.
    CNode {
        /// log2 of its slots.
        size_bits: usize,
    },
    /// An endpoint.
    Endpoint,
    /// A notification.
    Notification,
    /// A thread.
    Tcb,
    /// An address space (PML4).
    VSpace,
    /// A page-directory-pointer table.
    Pdpt,
    /// A page directory.
    PageDirectory,
    /// A page table.
    PageTable,
    /// A 4 KiB frame.
    Granule,
    /// A 2 MiB frame.
    LargePage,
    /// An I/O page table.
    IoPageTable,
    /// A virtual processor.
    VCpu,
    /// The root of a guest-physical address space.
    EptPml4,
    /// A page-directory-pointer table of a guest-physical address space.
    EptPdpt,
    /// A page directory of a guest-physical address space.
    EptPageDirectory,
    /// A page table of a guest-physical address space.
    EptPageTable,
}

impl ObjectBlueprint {
    /// The kernel's number of the type.
    pub const fn ty(self) -> Word {
        match self {
            Self::Untyped { .. } => sys::seL4_UntypedObject,
            Self::CNode { .. } => sys::seL4_CapTableObject,
            Self::Endpoint => sys::seL4_EndpointObject,
            Self::Notification => sys::seL4_NotificationObject,
            Self::Tcb => sys::seL4_TCBObject,
            Self::VSpace => sys::seL4_X64_PML4Object,
            Self::Pdpt => sys::seL4_X86_PDPTObject,
            Self::PageDirectory => sys::seL4_X86_PageDirectoryObject,
            Self::PageTable => sys::seL4_X86_PageTableObject,
            Self::Granule => sys::seL4_X86_4K,
            Self::LargePage => sys::seL4_X86_LargePageObject,
            Self::IoPageTable => sys::seL4_X86_IOPageTableObject,
            Self::VCpu => sys::seL4_X86_VCPUObject,
            Self::EptPml4 => sys::seL4_X86_EPTPML4Object,
            Self::EptPdpt => sys::seL4_X86_EPTPDPTObject,
            Self::EptPageDirectory => sys::seL4_X86_EPTPDObject,
            Self::EptPageTable => sys::seL4_X86_EPTPTObject,
        }
    }

    /// log2 of the object's size in bytes.
    pub const fn physical_size_bits(self) -> usize {
        let bits = match self {
            Self::Untyped { size_bits } => return size_bits,
            Self::CNode { size_bits } => return size_bits + sys::seL4_SlotBits as usize,
            Self::Endpoint => sys::seL4_EndpointBits,
            Self::Notification => sys::seL4_NotificationBits,
            Self::Tcb => sys::seL4_TCBBits,
            Self::VSpace => sys::seL4_PML4Bits,
            Self::Pdpt => sys::seL4_PDPTBits,
            Self::PageDirectory => sys::seL4_PageDirBits,
            Self::PageTable => sys::seL4_PageTableBits,
            Self::Granule => sys::seL4_PageBits,
            Self::LargePage => sys::seL4_LargePageBits,
            Self::IoPageTable => sys::seL4_IOPageTableBits,
            Self::VCpu => sys::seL4_X86_VCPUBits,
            Self::EptPml4 => sys::seL4_X86_EPTPML4Bits,
            Self::EptPdpt => sys::seL4_X86_EPTPDPTBits,
            Self::EptPageDirectory => sys::seL4_X86_EPTPDBits,
            Self::EptPageTable => sys::seL4_X86_EPTPTBits,
        };
        bits as usize
    }

    /// The size argument of the invocation, for types of variable size.
    const fn api_size_bits(self) -> usize {
        match self {
            Self::Untyped { size_bits } | Self::CNode { size_bits } => size_bits,
            _ => 0,
        }
    }
}

impl cap::Untyped {
    /// Retypes this memory into `count` objects, with their capabilities in the CNode at `cnode`, from slot `first` on.
    pub fn untyped_retype(
        self,
        what: &ObjectBlueprint,
        cnode: &AbsoluteCPtr,
        first: usize,
        count: usize,
    ) -> Result<()> {
        sys::seL4_Untyped_Retype(
            self.bits(),
            what.ty(),
            what.api_size_bits() as Word,
            cnode.root().bits(),
            cnode.path().bits(),
            cnode.path().depth().into(),
            first as Word,
            count as Word,
        )
    }
}
