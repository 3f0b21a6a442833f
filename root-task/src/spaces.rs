//! Phase 2, address spaces: gives the roots their ASIDs, maps paging structures and frames, fills frames from the bundle.

use alloc::format;

use capdl_spec::spec::{Fill, Id, Kind, Level, Mapping, PageSize, Process, Spec};
use sel4::{
    CPtr, CapRights, Error, ObjectBlueprint, VmAttributes,
    cap::{self, Cap, cap_type},
    init_thread::slot,
    ipc_buffer,
    vspace::FrameType,
};
use sel4_root_task::Scratch;

use crate::{
    Context, Failure, Why,
    objects::{MOST_IO_LEVELS, Objects, is_ept, own, rights},
};

const PAGE: usize = 1 << PageSize::Small.bits();

/// Fills all frames that have contents in the bundle. They are not mapped anywhere yet.
pub fn fill(objects: &Objects, spec: &Spec, bundle: &[u8], scratch: &mut Scratch) -> Result<(), Failure> {
    for id in (0..spec.objects.len() as u32).map(Id) {
        let Some(contents) = contents(objects, spec, id, bundle)? else { continue };
        for (page, slot) in objects.slots(id).enumerate() {
            // The kernel has cleared the frame.
            let (at, bytes) = contents.of_page(page);
            if !bytes.is_empty() {
                let frame = cap::Granule::from_bits(slot as u64);
                scratch.write(frame, at, bytes).context(|| format!("{}, filling", objects.name(id)))?;
            }
        }
    }
    Ok(())
}

/// Restores the private memory of a process, which is all that only its VSpace maps, to its initial contents. This
/// writes the frames through copies of their capabilities, so the mappings stay.
pub fn refill(
    objects: &Objects,
    spec: &Spec,
    process: &Process,
    bundle: &[u8],
    scratch: &mut Scratch,
) -> Result<(), Failure> {
    let shared = |frames| spec.mappings.iter().filter(|mapping| mapping.frames == frames).count() > 1;
    for mapping in spec.mappings.iter().filter(|mapping| mapping.space == process.vspace && !shared(mapping.frames)) {
        let frames = mapping.frames;
        let contents = match kind(spec, frames) {
            Some(Kind::Frames { size: PageSize::Small, fill: Fill::Zero, .. }) => Contents { bytes: &[], skip: 0 },
            _ => match contents(objects, spec, frames, bundle)? {
                Some(contents) => contents,
                None => continue,
            },
        };
        let spare = own(objects.spare());
        for (page, slot) in objects.slots(frames).enumerate() {
            spare.copy(&own(slot), CapRights::all()).context(|| objects.name(frames))?;
            let (at, bytes) = contents.of_page(page);
            let mut whole = [0; PAGE];
            if let Some(to) = whole.get_mut(at..at + bytes.len()) {
                to.copy_from_slice(bytes);
            }
            let written = scratch.write(cap::Granule::from_bits(objects.spare() as u64), 0, &whole);
            spare.delete().and(written).context(|| format!("{}, filling", objects.name(frames)))?;
        }
    }
    Ok(())
}

/// The initial contents of a row of frames.
struct Contents<'a> {
    bytes: &'a [u8],
    skip: usize,
}

impl Contents<'_> {
    /// The bytes of page `number` of the row, and where in the page they begin. The rest of the page is zero.
    fn of_page(&self, number: usize) -> (usize, &[u8]) {
        let start = (number * PAGE).saturating_sub(self.skip);
        let at = if number == 0 { self.skip } else { 0 };
        let rest = self.bytes.get(start..).unwrap_or_default();
        let len = rest.len().min(PAGE.saturating_sub(at));
        (at, rest.get(..len).unwrap_or_default())
    }
}

/// The contents of a row of frames, if they come from the bundle.
fn contents<'a>(objects: &Objects, spec: &Spec, id: Id, bundle: &'a [u8]) -> Result<Option<Contents<'a>>, Failure> {
    let failure = |why| Failure { what: objects.name(id), why: Why::BadSpec(why) };
    match kind(spec, id) {
        Some(&Kind::Frames { size: PageSize::Small, fill: Fill::Copy { offset, len, skip }, .. }) => {
            let bytes = bundle.get(offset as usize..).and_then(|rest| rest.get(..len as usize));
            let bytes = bytes.ok_or_else(|| failure("beyond the bundle's end"))?;
            Ok(Some(Contents { bytes, skip: skip.into() }))
        }
        Some(Kind::Frames { size: PageSize::Large, fill: Fill::Copy { .. }, .. }) => {
            Err(failure("large frames with contents"))
        }
        _ => Ok(None),
    }
}

/// Maps everything.
pub fn map(objects: &mut Objects, spec: &Spec) -> Result<(), Failure> {
    for (n, object) in spec.objects.iter().enumerate() {
        let id = Id(n as u32);
        let pool = slot::ASID_POOL.cap();
        match object.kind {
            Kind::VSpace => pool.asid_pool_assign(objects.cap::<cap_type::VSpace>(id)),
            Kind::Ept => pool.asid_pool_assign(objects.cap::<cap_type::EptPml4>(id)),
            Kind::Paging { space, level, at, .. } => {
                let mut rows = objects.slots(id).zip((at..).step_by(1 << level.bits()));
                rows.try_for_each(|(slot, at)| map_table(objects, spec, slot, (space, level), at))
            }
            _ => Ok(()),
        }
        .context(|| object.name.clone())?;
    }
    // A frame capability can be mapped once; every further mapping takes a copy.
    let mut mapped = alloc::vec![false; spec.objects.len()];
    for mapping in &spec.mappings {
        let first = !core::mem::replace(&mut mapped[mapping.frames.0 as usize], true);
        let in_bundle = matches!(kind(spec, mapping.frames), Some(Kind::Frames { fill: Fill::Bundle { .. }, .. }));
        map_frames(objects, spec, mapping, first && !in_bundle)?;
    }
    Ok(())
}

/// Maps the paging structure in a slot of root-task's.
fn map_table(objects: &Objects, spec: &Spec, slot: usize, (space, level): (Id, Level), at: u64) -> Result<(), Error> {
    let attributes = VmAttributes::DEFAULT;
    let (vspace, ept) = (objects.cap(space), objects.cap(space));
    let table = CPtr::from_bits(slot as u64);
    match (is_ept(spec, space), level) {
        (false, Level::Pdpt) => cap::Pdpt::from_cptr(table).pdpt_map(vspace, at, attributes),
        (false, Level::Directory) => cap::PageDirectory::from_cptr(table).page_directory_map(vspace, at, attributes),
        (false, Level::Table) => cap::PageTable::from_cptr(table).page_table_map(vspace, at, attributes),
        (true, Level::Pdpt) => cap::EptPdpt::from_cptr(table).ept_pdpt_map(ept, at, attributes),
        (true, Level::Directory) => cap::EptPageDirectory::from_cptr(table).ept_page_directory_map(ept, at, attributes),
        (true, Level::Table) => cap::EptPageTable::from_cptr(table).ept_page_table_map(ept, at, attributes),
    }
}

fn map_frames(objects: &mut Objects, spec: &Spec, mapping: &Mapping, original: bool) -> Result<(), Failure> {
    let Some(Kind::Frames { size, .. }) = kind(spec, mapping.frames) else {
        return Err(Failure { what: objects.name(mapping.frames), why: Why::BadSpec("mapped, but not frames") });
    };
    let mut slots = objects.slots(mapping.frames);
    let name = || format!("{} in {}", objects.name(mapping.frames), objects.name(mapping.space));
    if !original {
        let what = name();
        let copies = objects.take_slots(slots.len()).map_err(|why| Failure { what, why })?;
        for (to, from) in copies.clone().zip(slots) {
            own(to).copy(&own(from), CapRights::all()).context(|| objects.name(mapping.frames))?;
        }
        slots = copies;
    }
    for (slot, at) in slots.zip((mapping.at..).step_by(1 << size.bits())) {
        let cptr = CPtr::from_bits(slot as u64);
        match size {
            PageSize::Small => map_frame(cap::Granule::from_cptr(cptr), objects, spec, mapping, at),
            PageSize::Large => map_frame(cap::LargePage::from_cptr(cptr), objects, spec, mapping, at),
        }
        .map_err(|why| Failure {
            what: format!("{} in {} at {at:#x}", objects.name(mapping.frames), objects.name(mapping.space)),
            why,
        })?;
    }
    Ok(())
}

fn map_frame<T: FrameType>(
    frame: Cap<T>,
    objects: &mut Objects,
    spec: &Spec,
    mapping: &Mapping,
    at: u64,
) -> Result<(), Why> {
    let attributes = if mapping.cached { VmAttributes::WriteBack } else { VmAttributes::Uncacheable };
    let rights = rights(mapping.rights);
    match kind(spec, mapping.space) {
        Some(Kind::Ept) => frame.frame_map_ept(objects.cap(mapping.space), at, rights, attributes).map_err(Why::Kernel),
        Some(Kind::IoSpace { .. }) => map_io(frame, objects, objects.cap(mapping.space), at, rights),
        _ => frame.frame_map(objects.cap(mapping.space), at, rights, attributes).map_err(Why::Kernel),
    }
}

/// Maps a frame for a device. The number of table levels depends on the IOMMU, so this makes a table whenever the
/// kernel reports one missing.
fn map_io<T: FrameType>(
    frame: Cap<T>,
    objects: &mut Objects,
    space: cap::IoSpace,
    at: u64,
    rights: CapRights,
) -> Result<(), Why> {
    for _ in 0..MOST_IO_LEVELS {
        match frame.frame_map_io(space, rights, at) {
            Err(Error::FailedLookup) => {}
            mapped => return mapped.map_err(Why::Kernel),
        }
        let table = objects.make(&ObjectBlueprint::IoPageTable, 1)?.start;
        cap::IoPageTable::from_bits(table as u64).io_page_table_map(space, at).map_err(Why::Kernel)?;
    }
    frame.frame_map_io(space, rights, at).map_err(Why::Kernel)
}

/// Maps device registers in a running process, and makes the page tables that are missing for that.
pub fn map_registers<T: FrameType>(
    frame: Cap<T>,
    objects: &mut Objects,
    space: cap::VSpace,
    at: u64,
) -> Result<(), Why> {
    let attributes = VmAttributes::DEFAULT;
    loop {
        match frame.frame_map(space, at, CapRights::read_write(), VmAttributes::Uncacheable) {
            Err(Error::FailedLookup) => {}
            mapped => return mapped.map_err(Why::Kernel),
        }
        // The lowest bit of an address that the missing table's parent translates (seL4 manual, section 10.1).
        let mut make = |blueprint| objects.make(&blueprint, 1).map(|slots| CPtr::from_bits(slots.start as u64));
        match ipc_buffer().word(2) {
            39 => cap::Pdpt::from_cptr(make(ObjectBlueprint::Pdpt)?).pdpt_map(space, at, attributes),
            30 => cap::PageDirectory::from_cptr(make(ObjectBlueprint::PageDirectory)?)
                .page_directory_map(space, at, attributes),
            21 => cap::PageTable::from_cptr(make(ObjectBlueprint::PageTable)?).page_table_map(space, at, attributes),
            _ => Err(Error::FailedLookup),
        }
        .map_err(Why::Kernel)?;
    }
}

fn kind(spec: &Spec, id: Id) -> Option<&Kind> {
    spec.objects.get(id.0 as usize).map(|object| &object.kind)
}
