//! Laws of passthrough: capabilities that only a vmm-server or pci-server may hold, and the memory that devices may
//! access.

use std::collections::BTreeSet;

use layout::{mainboard, slot};

use super::{at, held, unless};
use crate::compile::placement::TRUSTED_RAM;
use crate::spec::{DeviceRange, Fill, Id, Kind, PageSize, Spec};

/// Whether the process at this position may ask root-task for device memory and ports.
pub(super) fn has_windows(spec: &Spec, process: u64) -> bool {
    spec.windows.iter().any(|window| u64::from(window.process) == process)
}

/// Windows belong to processes, contain no RAM and no port that has an object, and do not overlap. No window and no
/// object contains a port of the kernel.
pub(super) fn device_windows_are_apart_from_what_others_own(spec: &Spec) -> Result<(), String> {
    let (mut ports, mut memory) = (Vec::new(), Vec::new());
    for window in &spec.windows {
        let there = (window.process as usize) < spec.processes.len();
        let (ordered, list, range) = match window.range {
            DeviceRange::Ports { first, last } => (first <= last, &mut ports, (first.into(), last.into())),
            DeviceRange::Memory { first, last } => (first <= last, &mut memory, (first, last)),
        };
        unless(there && ordered, || format!("{window:?}"))?;
        list.push(range);
    }
    ports.extend(crate::compile::windows::owned(spec).map(|range| (u64::from(range.first), u64::from(range.last))));
    let kernels = |range: &&(u64, u64)| mainboard::is_kernels(range.0 as u16, range.1 as u16);
    unless(!ports.iter().any(|range| kernels(&range)), || format!("{:#x?}", ports.iter().find(kernels)))?;
    memory.extend(placed(spec).into_iter().map(|(start, end, _)| (start, end - 1)));
    apart(&mut ports)?;
    apart(&mut memory)
}

fn apart(ranges: &mut [(u64, u64)]) -> Result<(), String> {
    ranges.sort_unstable();
    ranges.windows(2).try_for_each(|pair| unless(pair[0].1 < pair[1].0, || format!("{:#x?}", pair[1])))
}

/// A process that holds an EPT holds its own guest's, and paging structures to map with; no other process holds these.
pub(super) fn an_ept_is_held_with_spare_paging_structures_only(spec: &Spec) -> Result<(), String> {
    let with_ept: BTreeSet<Id> = held(spec, |kind| *kind == Kind::Ept).map(|(_, process)| process.cspace).collect();
    let spare = |kind: &Kind| matches!(kind, Kind::SparePaging { .. });
    let with_spare: BTreeSet<Id> = held(spec, spare).map(|(_, process)| process.cspace).collect();
    unless(with_ept == with_spare, || format!("{:?}", with_ept.symmetric_difference(&with_spare).next()))?;
    held(spec, |kind| *kind == Kind::Ept).try_for_each(|(cap, process)| {
        let own = process.ept == Some(cap.object);
        unless(own && cap.slot == u32::from(slot::EPT.0), || at(spec, cap))
    })?;
    let mut holders = BTreeSet::new();
    held(spec, spare).try_for_each(|(cap, _)| unless(holders.insert(cap.object), || at(spec, cap)))
}

/// RAM at chosen physical addresses: start, end and name.
fn placed(spec: &Spec) -> Vec<(u64, u64, &str)> {
    let placed = spec.objects.iter().filter_map(|object| match object.kind {
        Kind::Frames { size, pages, fill: Fill::Ram { paddr } } if pages > 0 => {
            Some((paddr, paddr.saturating_add(u64::from(pages) << size.bits()), object.name.as_str()))
        }
        _ => None,
    });
    placed.collect()
}

/// And it does not overlap the kernel and root-task.
pub(super) fn ram_at_physical_addresses_does_not_overlap(spec: &Spec) -> Result<(), String> {
    for object in &spec.objects {
        let Kind::Frames { size, fill: Fill::Ram { paddr }, .. } = object.kind else { continue };
        let free = paddr >= TRUSTED_RAM && paddr.is_multiple_of(1 << size.bits());
        unless(free, || object.name.clone())?;
    }
    let mut placed = placed(spec);
    placed.sort_unstable();
    placed.windows(2).try_for_each(|pair| unless(pair[0].1 <= pair[1].0, || pair[1].2.into()))
}

/// And a domain of its own.
pub(super) fn a_function_has_one_io_address_space(spec: &Spec) -> Result<(), String> {
    let (mut seen, mut domains) = (BTreeSet::new(), BTreeSet::new());
    for object in &spec.objects {
        let Kind::IoSpace { domain, function } = object.kind else { continue };
        let alone = domain != 0 && domains.insert(domain);
        unless(alone && seen.insert(function), || object.name.clone())?;
    }
    Ok(())
}

/// It maps small frames of its owner's memory only.
pub(super) fn an_io_address_space_is_no_other_owners(spec: &Spec) -> Result<(), String> {
    spec.mappings.iter().filter(|mapping| spec.is_io_space(mapping.space)).try_for_each(|mapping| {
        let owner = spec.owner_of(mapping.space);
        let plain =
            matches!(spec.kind(mapping.frames), Some(Kind::Frames { size: PageSize::Small, fill: Fill::Zero, .. }));
        unless(plain && spec.owners(mapping.frames) == [owner], || spec.name(mapping.frames).into())
    })
}
