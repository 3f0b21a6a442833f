//! Phase 1, objects: makes every kernel object of the specification, and keeps root-task's own capability to each. Phase
//! 3, capabilities: fills the processes' CNodes.

use alloc::{string::String, vec, vec::Vec};
use core::ops::Range;

use capdl_spec::spec::{CapEntry, Fill, Id, Kind, Level, PageSize, Rights, Spec};
use layout::Bdf;
use root_task::memory::{Pool, Step, Untyped, What};
use sel4::{
    AbsoluteCPtr, BootInfoPtr, CNodeCapData, CPtr, CPtrWithDepth, CapRights, Error, ObjectBlueprint,
    cap::{self, Cap},
    init_thread::slot,
};
use sel4_root_task::bundle;

use crate::{Context, Failure, Why};

/// The kernel makes at most this many objects with one call (its `RETYPE_FAN_OUT_LIMIT`).
const FAN_OUT: u64 = 256;
/// Levels of tables that an IOMMU has at most (VT-d specification, section 3.6).
pub const MOST_IO_LEVELS: usize = 6;
/// Most IOMMU domains that the kernel keeps for itself (its `MAX_RMRR_ENTRIES`).
const MOST_KEPT_DOMAINS: u16 = 32;

/// Where root-task's capabilities to the objects are.
pub struct Objects {
    /// By `Id`: the slots of the object's capabilities: one, or one per frame.
    slots: Vec<Range<usize>>,
    names: Vec<String>,
    empty: Range<usize>,
    /// A slot for temporary copies.
    spare: usize,
    pool: Pool,
    /// The bundle's own pages.
    bundle: Range<usize>,
    iommu: bool,
    /// How many of the lowest domains the kernel keeps, as far as `issue_io_space` has found out.
    kept_domains: u16,
}

impl Objects {
    /// Takes over the untyped memory and the empty slots; there are no objects yet.
    pub fn new(bootinfo: BootInfoPtr) -> Self {
        let untyped = bootinfo.untyped_list().map(|untyped| Untyped {
            slot: untyped.cap.bits(),
            paddr: untyped.paddr,
            bits: untyped.size_bits as u8,
            device: untyped.is_device,
            used: 0,
        });
        Self {
            slots: Vec::new(),
            names: Vec::new(),
            spare: bootinfo.empty().start,
            empty: bootinfo.empty().start + 1..bootinfo.empty().end,
            pool: Pool::new(untyped),
            bundle: bundle::bundle_frames(bootinfo),
            iommu: (1..=MOST_IO_LEVELS).contains(&bootinfo.num_io_pt_levels()),
            kept_domains: 0,
        }
    }

    /// Makes the objects of root-task's console and power-off port, before anything else can fail.
    pub fn create_first(&mut self, spec: &Spec, first: &[Id]) -> Result<(), Failure> {
        self.names = spec.objects.iter().map(|object| object.name.clone()).collect();
        self.slots = vec![0..0; spec.objects.len()];
        for &id in first {
            self.create_object(spec, id.0 as usize)?;
        }
        Ok(())
    }

    /// Makes all other objects.
    pub fn create(&mut self, spec: &Spec) -> Result<(), Failure> {
        let placed = |kind: &Kind| matches!(kind, Kind::Frames { fill: Fill::Ram { .. }, .. });
        // RAM at chosen addresses comes first, before other objects use it up.
        for first in [true, false] {
            for (index, object) in spec.objects.iter().enumerate() {
                if placed(&object.kind) == first && self.slots.get(index).is_some_and(Range::is_empty) {
                    self.create_object(spec, index)?;
                }
            }
        }
        Ok(())
    }

    fn create_object(&mut self, spec: &Spec, index: usize) -> Result<(), Failure> {
        let Some(object) = spec.objects.get(index) else { return Ok(()) };
        let made = self.create_one(spec, &object.kind).map_err(|why| failure(&object.name, why))?;
        if let Some(slots) = self.slots.get_mut(index) {
            *slots = made;
        }
        Ok(())
    }

    /// Makes one object, or one row of frames; returns its slots.
    fn create_one(&mut self, spec: &Spec, kind: &Kind) -> Result<Range<usize>, Why> {
        match *kind {
            Kind::IrqControl => Ok(slot::IRQ_CONTROL.index()..slot::IRQ_CONTROL.index() + 1),
            Kind::IoPorts { first, last } => {
                let slots = self.take_slots(1)?;
                sel4::ioport::ioport_issue(first, last, &own(slots.start)).map_err(Why::Kernel)?;
                Ok(slots)
            }
            Kind::IoSpace { domain, function } => {
                if !self.iommu {
                    let mistake = "the description asks for an I/O address space, but this machine has no IOMMU, or none that \
                                   the kernel uses (then a line above says why): switch VT-d on in the firmware's set-up, \
                                   or let the description say `dma = \"trusted\"`";
                    return Err(Why::BadSpec(mistake));
                }
                let slots = self.take_slots(1)?;
                self.issue_io_space(domain, function, &own(slots.start)).map_err(Why::Kernel)?;
                Ok(slots)
            }
            Kind::Frames { pages, fill: Fill::Bundle { offset }, .. } => {
                let first = self.bundle.start + (offset >> PageSize::Small.bits()) as usize;
                let frames = first..first + pages as usize;
                if frames.end > self.bundle.end { Err(Why::BadSpec("beyond the bundle's end")) } else { Ok(frames) }
            }
            Kind::Frames { size, pages, fill: Fill::Device { paddr } } => {
                self.make_at(size, pages, paddr, What::Device)
            }
            Kind::Frames { size, pages, fill: Fill::Ram { paddr } } => self.make_at(size, pages, paddr, What::Ram),
            _ => {
                let (blueprint, count) = blueprint(spec, kind)?;
                self.make(&blueprint, count)
            }
        }
    }

    /// Puts the capability to a function's I/O address space, with nothing mapped in it, into `slot`.
    ///
    /// Where the firmware reserves memory for a function (RMRR: VT-d specification, section 8.4), the kernel has mapped
    /// it in a domain of its own. The kernel does not say how many domains it used, but refuses them, so this tries
    /// higher ones until one is accepted. When the last capability to a space is deleted, the kernel removes all its
    /// mappings; so this issues the capability, deletes it, and issues it again for an empty space.
    fn issue_io_space(&mut self, domain: u16, function: Bdf, slot: &AbsoluteCPtr) -> sel4::Result<()> {
        let function = (function.bus, function.device, function.function);
        while let Err(error) = sel4::vspace::io_space_issue(domain + self.kept_domains, function, slot) {
            if error != Error::IllegalOperation || self.kept_domains == MOST_KEPT_DOMAINS {
                return Err(error);
            }
            self.kept_domains += 1;
        }
        slot.delete()?;
        sel4::vspace::io_space_issue(domain + self.kept_domains, function, slot)
    }

    /// Bytes of RAM that no object uses.
    pub fn free(&self) -> u64 {
        self.pool.free()
    }

    /// Slots of root-task's CNode that are empty.
    pub fn empty_slots(&self) -> usize {
        self.empty.len()
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

    /// A slot for temporary capabilities, empty between uses.
    pub fn spare(&self) -> usize {
        self.spare
    }

    /// Empty slots of root-task's CNode.
    pub fn take_slots(&mut self, count: usize) -> Result<Range<usize>, Why> {
        let end = self.empty.start + count;
        if end > self.empty.end {
            return Err(Why::OutOfSlots);
        }
        let taken = self.empty.start..end;
        self.empty.start = end;
        Ok(taken)
    }

    /// Makes `count` objects from unused memory; returns their slots.
    pub fn make(&mut self, blueprint: &ObjectBlueprint, count: u32) -> Result<Range<usize>, Why> {
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

    /// Frames at a physical address, where all memory must be `what`.
    fn make_at(&mut self, size: PageSize, pages: u32, paddr: u64, what: What) -> Result<Range<usize>, Why> {
        self.expect_at(paddr, u64::from(pages) << size.bits(), what)?;
        let slots = self.take_slots(pages as usize)?;
        self.retype_at(size, paddr, what, slots.clone())?;
        Ok(slots)
    }

    /// Checks that `len` bytes from `paddr` on are all `what`, so that frames can be made there.
    pub fn expect_at(&self, paddr: u64, len: u64, what: What) -> Result<(), Why> {
        let end = paddr.checked_add(len).ok_or(Why::BadSpec("beyond the last physical address"))?;
        let there = self.pool.contents(paddr..end);
        if there.iter().all(|&(_, part)| part == what) { Ok(()) } else { Err(Why::NotThere(what, there)) }
    }

    /// Makes frames at a physical address, in these slots. The memory before them in their untyped becomes smaller
    /// untypeds.
    pub fn retype_at(&mut self, size: PageSize, paddr: u64, what: What, slots: Range<usize>) -> Result<(), Why> {
        let mut next = slots.start;
        while next < slots.end {
            let at = paddr + (((next - slots.start) as u64) << size.bits());
            let wanted = ((slots.end - next) as u64).min(FAN_OUT);
            let step = self.pool.step(at, size.bits(), wanted).ok_or(Why::BadSpec("no whole frame at its address"))?;
            let (untyped, blueprint, first, count) = match step {
                Step::Take { untyped, count } => (untyped, blueprint_of_page(size), next, count as usize),
                Step::Split { untyped, paddr, bits } => {
                    let slot = self.take_slots(1)?.start;
                    self.pool.add(Untyped { slot: slot as u64, paddr, bits, device: what == What::Device, used: 0 });
                    (untyped, ObjectBlueprint::Untyped { size_bits: bits.into() }, slot, 1)
                }
            };
            cap::Untyped::from_bits(untyped)
                .untyped_retype(&blueprint, &own_cnode(), first, count)
                .map_err(Why::Kernel)?;
            if matches!(step, Step::Take { .. }) {
                next += count;
            }
        }
        Ok(())
    }

    /// Puts every capability of the specification into its CNode.
    pub fn distribute(&mut self, spec: &Spec) -> Result<(), Failure> {
        for entry in &spec.caps {
            let target = self.target(spec, entry);
            let source = own(self.slots(entry.object).start);
            let placed = match spec.objects.get(entry.object.0 as usize).map(|object| &object.kind) {
                // The kernel refuses to copy its one IRQControl, and tables that are not mapped.
                Some(Kind::IrqControl | Kind::SparePaging { .. }) => target.move_from(&source),
                // A guard of zeros makes a scratch CNode's addresses independent of its size.
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
    fn target(&self, spec: &Spec, entry: &CapEntry) -> AbsoluteCPtr {
        let bits = match spec.objects.get(entry.cnode.0 as usize).map(|object| &object.kind) {
            Some(&Kind::CNode { bits }) => bits,
            _ => 0,
        };
        slot_of(self.cap(entry.cnode), bits, entry.slot)
    }

    /// Whether a slot is empty: tries to copy a capability into it, and deletes the copy again. (Copying out of the
    /// slot would show the same, but a debug kernel prints every error, and most slots are empty.)
    pub fn is_empty(&self, slot: &AbsoluteCPtr) -> bool {
        slot.copy(&own(slot::TCB.index()), CapRights::none()).and_then(|()| slot.delete()).is_ok()
    }
}

/// Slot `index` of a CNode of 2^`bits` slots that root-task has a capability to; that one has no guard.
pub fn slot_of(cnode: cap::CNode, bits: u8, index: u32) -> AbsoluteCPtr {
    cnode.absolute_cptr(CPtrWithDepth::from_bits_with_depth(index.into(), bits))
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

/// The kernel objects to make, and how many.
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
        Kind::Paging { space, level, count, .. } => {
            let blueprint = match (is_ept(spec, space), level) {
                (false, Level::Pdpt) => ObjectBlueprint::Pdpt,
                (false, Level::Directory) => ObjectBlueprint::PageDirectory,
                (false, Level::Table) => ObjectBlueprint::PageTable,
                (true, Level::Pdpt) => ObjectBlueprint::EptPdpt,
                (true, Level::Directory) => ObjectBlueprint::EptPageDirectory,
                (true, Level::Table) => ObjectBlueprint::EptPageTable,
            };
            Ok((blueprint, count))
        }
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

/// Whether a space is a guest's EPT.
pub fn is_ept(spec: &Spec, space: Id) -> bool {
    matches!(spec.objects.get(space.0 as usize).map(|object| &object.kind), Some(Kind::Ept))
}

/// The rights in the kernel's form.
pub fn rights(rights: Rights) -> CapRights {
    let base = match (rights.read, rights.write) {
        (true, true) => CapRights::read_write(),
        (true, false) => CapRights::read_only(),
        (false, true) => CapRights::write_only(),
        (false, false) => CapRights::none(),
    };
    if rights.grant { base.with_grant().with_grant_reply() } else { base }
}
