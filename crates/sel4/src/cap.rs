//! Typed capabilities: a CPtr in the caller's CSpace, and the type that the caller expects there.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;

use crate::{CPtr, Word};

/// A capability of type `T` (a type of [`cap_type`]).
pub struct Cap<T> {
    cptr: CPtr,
    kind: PhantomData<T>,
}

impl<T> Cap<T> {
    /// The capability at `cptr`.
    pub const fn from_cptr(cptr: CPtr) -> Self {
        Self { cptr, kind: PhantomData }
    }

    /// The capability at the CPtr `bits`.
    pub const fn from_bits(bits: Word) -> Self {
        Self::from_cptr(CPtr::from_bits(bits))
    }

    /// Its CPtr.
    pub const fn cptr(self) -> CPtr {
        self.cptr
    }

    /// Its CPtr, as a word.
    pub const fn bits(self) -> Word {
        self.cptr.bits()
    }

    /// The same capability with another expected type.
    pub const fn cast<U>(self) -> Cap<U> {
        Cap::from_cptr(self.cptr)
    }
}

impl<T> Clone for Cap<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Cap<T> {}
impl<T> PartialEq for Cap<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cptr == other.cptr
    }
}
impl<T> Eq for Cap<T> {}
impl<T> Hash for Cap<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.cptr.hash(state);
    }
}
impl<T> fmt::Debug for Cap<T> {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let kind = core::any::type_name::<T>().rsplit("::").next().unwrap_or("Cap");
        write!(out, "{kind}({:#x})", self.bits())
    }
}

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Object types of capabilities.
        pub mod cap_type {
            $($(#[$doc])* #[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum $name {})*
        }
        $(#[doc = concat!("A capability: [`cap_type::", stringify!($name), "`].")] pub type $name = Cap<cap_type::$name>;)*
    };
}

types! {
    /// Any type; also that of an empty slot.
    Unspecified,
    /// Memory to retype into objects.
    Untyped,
    /// An IPC endpoint.
    Endpoint,
    /// A word of bits that can be signalled and waited for.
    Notification,
    /// A table of capabilities.
    CNode,
    /// A thread.
    Tcb,
    /// An address space: a PML4.
    VSpace,
    /// A page-directory-pointer table, the level below the PML4.
    Pdpt,
    /// A page directory.
    PageDirectory,
    /// A page table.
    PageTable,
    /// A 4 KiB frame.
    Granule,
    /// A 2 MiB frame.
    LargePage,
    /// A 1 GiB frame.
    HugePage,
    /// The authority to create ASID pools.
    AsidControl,
    /// A set of address space identifiers.
    AsidPool,
    /// The authority to create interrupt handlers.
    IrqControl,
    /// One interrupt.
    IrqHandler,
    /// The authority to create I/O-port capabilities.
    IoPortControl,
    /// A range of I/O ports.
    IoPort,
    /// The I/O address space of a PCI function.
    IoSpace,
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
    /// The authority to assign threads to scheduling domains.
    DomainSet,
}
