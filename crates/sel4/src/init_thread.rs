//! The slots of the initial thread's capabilities (seL4 manual, table 9.1).

use core::marker::PhantomData;

use crate::{CPtr, Word, cap::Cap};

/// A slot of the initial thread's CNode, with a capability of type `T`.
pub struct Slot<T> {
    index: Word,
    kind: PhantomData<T>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Slot<T> {}

impl<T> Slot<T> {
    /// Slot number `index`.
    pub const fn from_index(index: usize) -> Self {
        Self { index: index as Word, kind: PhantomData }
    }

    /// Its number.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// The CPtr of its capability: the same number, in the initial thread's CSpace.
    pub const fn cptr(self) -> CPtr {
        CPtr::from_bits(self.index)
    }

    /// Its capability.
    pub const fn cap(self) -> Cap<T> {
        Cap::from_cptr(self.cptr())
    }
}

/// The slots by name.
pub mod slot {
    use super::Slot;
    use crate::{cap::cap_type, sys};

    /// Its own thread.
    pub const TCB: Slot<cap_type::Tcb> = Slot::from_index(sys::seL4_CapInitThreadTCB as usize);
    /// Its CSpace.
    pub const CNODE: Slot<cap_type::CNode> = Slot::from_index(sys::seL4_CapInitThreadCNode as usize);
    /// Its address space.
    pub const VSPACE: Slot<cap_type::VSpace> = Slot::from_index(sys::seL4_CapInitThreadVSpace as usize);
    /// All interrupts.
    pub const IRQ_CONTROL: Slot<cap_type::IrqControl> = Slot::from_index(sys::seL4_CapIRQControl as usize);
    /// All ASIDs.
    pub const ASID_CONTROL: Slot<cap_type::AsidControl> = Slot::from_index(sys::seL4_CapASIDControl as usize);
    /// The ASID pool that its own address space is from.
    pub const ASID_POOL: Slot<cap_type::AsidPool> = Slot::from_index(sys::seL4_CapInitThreadASIDPool as usize);
    /// All I/O ports.
    #[cfg(not(ioport_control))]
    pub const IO_PORT: Slot<cap_type::IoPort> = Slot::from_index(sys::seL4_CapIOPort as usize);
    /// The authority to create I/O-port capabilities.
    #[cfg(ioport_control)]
    pub const IO_PORT_CONTROL: Slot<cap_type::IoPortControl> = Slot::from_index(sys::seL4_CapIOPortControl as usize);
    /// All devices behind the IOMMU; empty without one.
    pub const IO_SPACE: Slot<cap_type::IoSpace> = Slot::from_index(sys::seL4_CapIOSpace as usize);
    /// The frame of its IPC buffer.
    pub const IPC_BUFFER: Slot<cap_type::Granule> = Slot::from_index(sys::seL4_CapInitThreadIPCBuffer as usize);
    /// The scheduling domains.
    pub const DOMAIN: Slot<cap_type::DomainSet> = Slot::from_index(sys::seL4_CapDomain as usize);
}
