//! Phase 1, objects: makes every kernel object of the specification, and keeps root-task's own capability to each. Phase
//! 3, capabilities: fills the processes' CNodes.

use alloc::{string::String, vec::Vec};
use core::ops::Range;

use capdl_spec::spec::{CapEntry, Fill, Id, Kind, Level, PageSize, Rights, Spec};
use root_task::memory::{Pool, Untyped};
use sel4::{
    AbsoluteCPtr, BootInfoPtr, CNodeCapData, CPtr, CPtrWithDepth, CapRights, ObjectBlueprint,
    cap::{self, Cap},
    init_thread::slot,
};
use sel4_root_task::bundle;

use crate::{Context, Failure, Why};

/// The kernel makes at most this many objects with one call (its `RETYPE_FAN_OUT_LIMIT`).
const FAN_OUT: u64 = 256;

/// Where root-task's capabilities to the objects are.
pub struct Objects {
    /// By `Id`: the slots of the object's capabilities, one, or one a frame.
    slots: Vec<Range<usize>>,
    names: Vec<String>,
    empty: Range<usize>,
    /// A slot for copies that are needed for a moment.
    spare: usize,
    pool: Pool,
}

impl Objects {
    /// Makes them all.
    pub fn create(bootinfo: BootInfoPtr, bundle: &[u8], spec: &Spec) -> Result<Self, Failure> {
        let untyped = bootinfo.untyped_list().map(|untyped| Untyped {
            slot: untyped.cap.bits(),
            paddr: untyped.paddr,
            bits: untyped.size_bits as u8,
            device: untyped.is_device,
            used: 0,
        });
        let mut objects = Self {
            slots: Vec::with_capacity(spec.objects.len()),
            names: spec.objects.iter().map(|object| object.name.clone()).collect(),
            spare: bootinfo.empty().start,
            empty: bootinfo.empty().start + 1..bootinfo.empty().end,
            pool: Pool::new(untyped),
        };
        let bundle_frames = bundle::bundle_frames(bootinfo);
        debug_assert_eq!(bundle_frames.len() << PageSize::Small.bits(), bundle.len());
        for object in &spec.objects {
            let slots = match &object.kind {
                Kind::IrqControl => slot::IRQ_CONTROL.index()..slot::IRQ_CONTROL.index() + 1,
                &Kind::IoPorts { first, last } => {
                    let slots = objects.take_slots(1).map_err(|why| failure(&object.name, why))?;
                    sel4::ioport::ioport_issue(first, last, &own(slots.start)).context(|| object.name.clone())?;
                    slots
                }
                Kind::Frames { pages, fill: Fill::Bundle { offset }, .. } => {
                    let first = bundle_frames.start + (*offset >> PageSize::Small.bits()) as usize;
                    let frames = first..first + *pages as usize;
                    if frames.end > bundle_frames.end {
                        return Err(failure(&object.name, Why::BadSpec("beyond the bundle's end")));
                    }
                    frames
                }
                &Kind::Frames { size, pages, fill: Fill::Device { paddr } } => objects
                    .make_device(blueprint_of_page(size), pages, paddr)
                    .map_err(|why| failure(&object.name, why))?,
                kind => {
                    let (blueprint, count) = blueprint(spec, kind).map_err(|why| failure(&object.name, why))?;
                    objects.make(&blueprint, count).map_err(|why| failure(&object.name, why))?
                }
            };
            objects.slots.push(slots);
        }
        Ok(objects)
    }

    /// Bytes of RAM that nothing was made of.
    pub fn free(&self) -> u64 {
        self.pool.free()
    }

    /// The object's name.
    pub fn name(&self, id: Id) -> String {
        self.names.get(id.0 as usize).cloned().unwrap_or_default()
    }

    /// The slots of an object's capabilities.
    pub fn slots(&self, id: Id) -> Range<usize> {
        self.slots.get(id.0 as usize).cloned().unwrap_or_default()
    }

    /// An object's (first) capability. Of the wrong type, or of an unknown id, it is one that the kernel refuses.
    pub fn cap<T>(&self, id: Id) -> Cap<T> {
        Cap::from_cptr(CPtr::from_bits(self.slots(id).start as u64))
    }

    /// A slot that is empty but for the moment.
    pub fn spare(&self) -> usize {
        self.spare
    }

    /// Slots of root-task's CNode that nothing is in.
    pub fn take_slots(&mut self, count: usize) -> Result<Range<usize>, Why> {
        let end = self.empty.start + count;
        if end > self.empty.end {
            return Err(Why::OutOfSlots);
        }
        let taken = self.empty.start..end;
        self.empty.start = end;
        Ok(taken)
    }

    fn make(&mut self, blueprint: &ObjectBlueprint, count: u32) -> Result<Range<usize>, Why> {
        let slots = self.take_slots(count as usize)?;
        let mut next = slots.start;
        while next < slots.end {
            let wanted = ((slots.end - next) as u64).min(FAN_OUT);
            let bits = blueprint.physical_size_bits() as u8;
            let grant = self.pool.take(bits, wanted).ok_or(Why::OutOfMemory)?;
            let count = grant.count as usize;
            cap::Untyped::from_bits(grant.untyped)
                .untyped_retype(blueprint, &own_cnode(), next, count)
                .map_err(Why::Kernel)?;
            next += count;
        }
        Ok(slots)
    }

    /// Frames at a physical address outside RAM. The untyped there is used up to that address first: the kernel hands
    /// out an untyped from its start.
    fn make_device(&mut self, blueprint: ObjectBlueprint, pages: u32, paddr: u64) -> Result<Range<usize>, Why> {
        let page_bits = blueprint.physical_size_bits();
        let slots = self.take_slots(pages as usize)?;
        for (at, slot) in (paddr..).step_by(1 << page_bits).zip(slots.clone()) {
            loop {
                let untyped = self.pool.device(at).ok_or(Why::BadSpec("no device memory at its physical address"))?;
                let here = untyped.paddr + untyped.used;
                let gap = at - here;
                let retype = cap::Untyped::from_bits(untyped.slot);
                if gap == 0 {
                    retype.untyped_retype(&blueprint, &own_cnode(), slot, 1).map_err(Why::Kernel)?;
                    untyped.used += 1 << page_bits;
                    break;
                }
                // The largest piece that is aligned where it begins and ends before the frame.
                let size_bits = (here.trailing_zeros()).min(gap.ilog2());
                untyped.used += 1 << size_bits;
                let filler = self.take_slots(1)?.start;
                let piece = ObjectBlueprint::Untyped { size_bits: size_bits as usize };
                retype.untyped_retype(&piece, &own_cnode(), filler, 1).map_err(Why::Kernel)?;
            }
        }
        Ok(slots)
    }

    /// Puts every capability of the specification into its CNode.
    pub fn distribute(&mut self, spec: &Spec) -> Result<(), Failure> {
        for entry in &spec.caps {
            let target = self.target(entry);
            let source = own(self.slots(entry.object).start);
            let placed = match spec.objects.get(entry.object.0 as usize).map(|object| &object.kind) {
                // The kernel has one and lets nobody copy it.
                Some(Kind::IrqControl) => target.move_from(&source),
                // Its first slots are found behind a guard of zeros.
                Some(&Kind::CNode { bits }) => {
                    let guard = layout::SCRATCH_BITS.saturating_sub(bits);
                    target.mint_cnode(&source, CapRights::all(), CNodeCapData::new(0, guard))
                }
                Some(Kind::Endpoint | Kind::Notification) if entry.badge != 0 => {
                    target.mint(&source, rights(entry.rights), entry.badge)
                }
                _ => target.copy(&source, rights(entry.rights)),
            };
            placed.context(|| alloc::format!("{} slot {}", self.name(entry.cnode), entry.slot))?;
        }
        Ok(())
    }

    /// The slot that an entry describes.
    pub fn target(&self, entry: &CapEntry) -> AbsoluteCPtr {
        slot_of(self.cap(entry.cnode), entry.slot)
    }
}

/// Slot `index` of a CNode that root-task has a capability to. The CNode itself has no guard here, and its radix is at
/// most the one of the first level.
pub fn slot_of(cnode: cap::CNode, index: u32) -> AbsoluteCPtr {
    cnode.absolute_cptr(CPtrWithDepth::from_bits_with_depth(index.into(), layout::ROOT_BITS))
}

/// A slot of root-task's own CNode.
pub fn own(index: usize) -> AbsoluteCPtr {
    slot::CNODE.cap().absolute_cptr(CPtr::from_bits(index as u64))
}

fn own_cnode() -> AbsoluteCPtr {
    slot::CNODE.cap().absolute_cptr(CPtrWithDepth::EMPTY)
}

fn failure(name: &str, why: Why) -> Failure {
    Failure { what: name.into(), why }
}

/// What the kernel is asked to make, and how many.
fn blueprint(spec: &Spec, kind: &Kind) -> Result<(ObjectBlueprint, u32), Why> {
    let one = |blueprint| Ok((blueprint, 1));
    match *kind {
        Kind::Endpoint => one(ObjectBlueprint::Endpoint),
        Kind::Notification => one(ObjectBlueprint::Notification),
        Kind::CNode { bits } => one(ObjectBlueprint::CNode { size_bits: bits.into() }),
        Kind::Tcb => one(ObjectBlueprint::Tcb),
        Kind::VSpace => one(ObjectBlueprint::VSpace),
        Kind::Vcpu => one(ObjectBlueprint::VCpu),
        Kind::Ept => one(ObjectBlueprint::EptPml4),
        Kind::Paging { space, level, .. } => one(match (is_ept(spec, space), level) {
            (false, Level::Pdpt) => ObjectBlueprint::Pdpt,
            (false, Level::Directory) => ObjectBlueprint::PageDirectory,
            (false, Level::Table) => ObjectBlueprint::PageTable,
            (true, Level::Pdpt) => ObjectBlueprint::EptPdpt,
            (true, Level::Directory) => ObjectBlueprint::EptPageDirectory,
            (true, Level::Table) => ObjectBlueprint::EptPageTable,
        }),
        Kind::Frames { size, pages, .. } => Ok((blueprint_of_page(size), pages)),
        Kind::SparePaging { level: Level::Directory } => one(ObjectBlueprint::EptPageDirectory),
        Kind::SparePaging { .. } => one(ObjectBlueprint::EptPageTable),
        Kind::IoSpace { .. } | Kind::IoPorts { .. } | Kind::IrqControl => Err(Why::BadSpec("not made from memory")),
    }
}

fn blueprint_of_page(size: PageSize) -> ObjectBlueprint {
    match size {
        PageSize::Small => ObjectBlueprint::Granule,
        PageSize::Large => ObjectBlueprint::LargePage,
    }
}

/// Whether a space is a guest's.
pub fn is_ept(spec: &Spec, space: Id) -> bool {
    matches!(spec.objects.get(space.0 as usize).map(|object| &object.kind), Some(Kind::Ept))
}

/// As the kernel takes them.
pub fn rights(rights: Rights) -> CapRights {
    let base = match (rights.read, rights.write) {
        (true, true) => CapRights::read_write(),
        (true, false) => CapRights::read_only(),
        (false, true) => CapRights::write_only(),
        (false, false) => CapRights::none(),
    };
    if rights.grant { base.with_grant().with_grant_reply() } else { base }
}
