//! The test bench: memory, slots, and the objects that checks create. Memory and slots are not reused, except objects
//! that a check deletes itself: there is enough for all.

use alloc::vec::Vec;
use core::array;
use core::ops::Range;

use sel4::cap::{self, Cap, cap_type};
use sel4::init_thread::slot;
use sel4::{
    AbsoluteCPtr, BootInfoPtr, CNodeCapData, CPtr, CPtrWithDepth, CapRights, GRANULE_BITS, GRANULE_SIZE,
    ObjectBlueprint, Result, VmAttributes, Word,
};
use sel4_root_task::Scratch;

/// log2 of the bytes of a VCPU.
pub const VCPU_BITS: usize = ObjectBlueprint::VCpu.physical_size_bits();
const VCPU_FRAMES: usize = 1 << (VCPU_BITS - GRANULE_BITS);

/// The calling thread.
pub const SELF: cap::Tcb = slot::TCB.cap();

/// Types of capabilities whose objects are made of memory, and always of the same amount.
pub trait Object {
    /// The blueprint for the kernel.
    const BLUEPRINT: ObjectBlueprint;
}

macro_rules! objects {
    ($($kind:ident)*) => { $(impl Object for cap_type::$kind { const BLUEPRINT: ObjectBlueprint = ObjectBlueprint::$kind; })* };
}

objects! { Endpoint Notification Tcb VSpace Pdpt PageDirectory PageTable Granule LargePage IoPageTable VCpu EptPml4 EptPdpt EptPageDirectory EptPageTable }

/// Memory, slots, and access to the contents of frames.
pub struct Bench {
    memory: cap::Untyped,
    empty: Range<usize>,
    cnode_bits: u8,
    vectors: Range<Word>,
    lent: Vec<cap::IoPort>,
    /// Where our IPC buffer is.
    pub ipc_buffer: Word,
    /// For the contents of frames that are not mapped.
    pub scratch: Scratch,
}

impl Bench {
    /// With the largest untyped memory in RAM.
    pub fn new(bootinfo: BootInfoPtr) -> Self {
        let ram = bootinfo.untyped_list().filter(|untyped| !untyped.is_device);
        Self {
            memory: ram.max_by_key(|untyped| untyped.size_bits).expect("there is RAM").cap,
            empty: bootinfo.empty(),
            cnode_bits: bootinfo.init_thread_cnode_size_bits() as u8,
            vectors: 50..100,
            lent: Vec::new(),
            ipc_buffer: bootinfo.ipc_buffer() as Word,
            scratch: Scratch::new(),
        }
    }

    /// The CPtr of an empty slot.
    pub fn empty_slot(&mut self) -> CPtr {
        CPtr::from_bits(self.empty.next().expect("a slot is left") as Word)
    }

    /// A new object.
    pub fn make<T: Object>(&mut self) -> Result<Cap<T>> {
        self.make_of(self.memory)
    }

    /// A new object from this memory.
    pub fn make_of<T: Object>(&mut self, memory: cap::Untyped) -> Result<Cap<T>> {
        let cap = Cap::from_cptr(self.empty_slot());
        remake(cap, memory)?;
        Ok(cap)
    }

    /// Memory of 2^`bits` bytes.
    pub fn memory(&mut self, bits: usize) -> Result<cap::Untyped> {
        let cap = cap::Untyped::from_cptr(self.empty_slot());
        retype(self.memory, ObjectBlueprint::Untyped { size_bits: bits }, cap)?;
        Ok(cap)
    }

    /// A table of 16 capabilities, all empty.
    pub fn cnode(&mut self) -> Result<cap::CNode> {
        let cap = cap::CNode::from_cptr(self.empty_slot());
        retype(self.memory, ObjectBlueprint::CNode { size_bits: 4 }, cap)?;
        Ok(cap)
    }

    /// An unused interrupt vector, as the kernel numbers them.
    pub fn vector(&mut self) -> Word {
        self.vectors.next().expect("a vector is left")
    }

    /// A second capability to the same object.
    pub fn copy<T>(&mut self, original: Cap<T>) -> Result<Cap<T>> {
        let copy = Cap::from_cptr(self.empty_slot());
        slot_of(copy).copy(&slot_of(original), CapRights::all())?;
        Ok(copy)
    }

    /// A capability to these ports, until the end of the check.
    pub fn ports(&mut self, first: u16, last: u16) -> Result<cap::IoPort> {
        let ports = self.ports_for_good(first, last)?;
        self.lent.push(ports);
        Ok(ports)
    }

    /// A capability to these ports.
    pub fn ports_for_good(&mut self, first: u16, last: u16) -> Result<cap::IoPort> {
        let ports = cap::IoPort::from_cptr(self.empty_slot());
        sel4::ioport::ioport_issue(first, last, &slot_of(ports))?;
        Ok(ports)
    }

    /// Takes the check's ports back: since 10.0.0 the kernel issues a port again only after that.
    pub fn take_ports_back(&mut self) {
        for ports in self.lent.drain(..) {
            // The slot is empty if the check has deleted it.
            let _ = delete(ports);
        }
    }

    /// Retypes all of this memory, which was a VCPU, into frames.
    pub fn frames_of(&mut self, memory: cap::Untyped) -> Result<[cap::Granule; VCPU_FRAMES]> {
        let frames = array::from_fn(|_| cap::Granule::from_cptr(self.empty_slot()));
        frames.into_iter().try_for_each(|frame| remake(frame, memory))?;
        Ok(frames)
    }

    /// The number of non-zero bytes in these frames.
    pub fn used_bytes(&mut self, frames: &[cap::Granule]) -> Result<usize> {
        let mut page = [0; GRANULE_SIZE];
        let mut used = 0;
        for &frame in frames {
            self.scratch.read(frame, 0, &mut page)?;
            used += page.iter().filter(|byte| **byte != 0).count();
        }
        Ok(used)
    }

    /// An address space with the tables for one page, at `address`.
    pub fn space(&mut self, address: Word) -> Result<cap::VSpace> {
        let space: cap::VSpace = self.make()?;
        slot::ASID_POOL.cap().asid_pool_assign(space)?;
        self.make::<cap_type::Pdpt>()?.pdpt_map(space, address, VmAttributes::DEFAULT)?;
        self.make::<cap_type::PageDirectory>()?.page_directory_map(space, address, VmAttributes::DEFAULT)?;
        self.make::<cap_type::PageTable>()?.page_table_map(space, address, VmAttributes::DEFAULT)?;
        Ok(space)
    }

    /// The root task's CSpace, for another thread.
    pub fn cspace(&self) -> (cap::CNode, CNodeCapData) {
        (slot::CNODE.cap(), CNodeCapData::skip_high_bits(self.cnode_bits))
    }
}

/// Retypes memory into an object in a given empty slot.
pub fn remake<T: Object>(cap: Cap<T>, memory: cap::Untyped) -> Result<()> {
    retype(memory, T::BLUEPRINT, cap)
}

fn retype<T>(memory: cap::Untyped, blueprint: ObjectBlueprint, to: Cap<T>) -> Result<()> {
    let cnode = slot::CNODE.cap().absolute_cptr(CPtrWithDepth::EMPTY);
    memory.untyped_retype(&blueprint, &cnode, to.bits() as usize, 1)
}

/// The slot of a capability.
pub fn slot_of<T>(cap: Cap<T>) -> AbsoluteCPtr {
    slot::CNODE.cap().absolute_cptr(cap)
}

/// Deletes the capability; its slot stays empty.
pub fn delete<T>(cap: Cap<T>) -> Result<()> {
    slot_of(cap).delete()
}

/// Deletes all capabilities derived from it, including copies.
pub fn revoke<T>(cap: Cap<T>) -> Result<()> {
    slot_of(cap).revoke()
}
