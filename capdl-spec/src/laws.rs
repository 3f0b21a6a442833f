//! Laws that every compiled specification keeps, one short function each. `compile` returns no specification that
//! breaks one, so a mistake in the wiring shows on the developer's machine.

use std::collections::{BTreeMap, BTreeSet};

use layout::{FAULT_BIT, slot};
use proto::serial;

use crate::services;
use crate::spec::{CapEntry, Fill, Id, Kind, Level, Mapping, PageSize, Process, Rights, Spec};

/// A broken law, and what breaks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The law's name.
    pub law: &'static str,
    /// What breaks it.
    pub by: String,
}

pub(crate) mod authority;
mod channels;
mod devices;
mod holdings;
mod lifecycle;
mod mappings;
mod pipes;
mod processes;

use authority::RINGS;
use channels::{a_channel_has_two_ends, dataports_are_at_home, is_event};
use devices::{
    a_function_has_one_io_address_space, an_ept_is_held_with_spare_paging_structures_only,
    an_io_address_space_is_no_other_owners, device_windows_are_apart_from_what_others_own, has_windows,
    ram_at_physical_addresses_does_not_overlap,
};

use holdings::{
    a_capability_has_the_badge_of_its_use, a_capability_has_the_rights_of_its_use,
    a_process_holds_its_own_and_what_it_was_given, capabilities_are_of_kinds_that_processes_may_hold,
    numbers_have_no_gaps, resources_of_the_machine_bear_their_numbers,
};
use lifecycle::{a_manager_has_a_page_and_a_signal, is_of_lifecycle};
use mappings::{
    a_guests_memory_is_where_its_vmm_has_it, frames_are_mapped_where_their_use_is, frames_hold_what_their_use_takes,
    mappings_have_the_rights_of_their_use,
};
use pipes::a_pipe_has_two_ends;
use processes::{
    a_process_is_made_of_its_parts, block_server_is_notified_of_ends, device_windows_are_pci_servers,
    pci_server_is_notified_of_stops, root_task_keeps_its_own, what_is_given_is_there_once,
};

type Law = fn(&Spec) -> Result<(), String>;

/// All laws.
const LAWS: [(&str, Law); 41] = [
    ("names are unique", names_are_unique),
    ("every id names an object", every_id_names_an_object),
    ("a slot holds one capability", a_slot_holds_one_capability),
    ("capabilities are of kinds that processes may hold", capabilities_are_of_kinds_that_processes_may_hold),
    ("a process holds its own and what it was given", a_process_holds_its_own_and_what_it_was_given),
    ("a capability has the rights of its use", a_capability_has_the_rights_of_its_use),
    ("a capability has the badge of its use", a_capability_has_the_badge_of_its_use),
    ("numbers have no gaps", numbers_have_no_gaps),
    ("resources of the machine bear their numbers", resources_of_the_machine_bear_their_numbers),
    ("frames are mapped where their use is", frames_are_mapped_where_their_use_is),
    ("a guest's memory is where its VMM has it", a_guests_memory_is_where_its_vmm_has_it),
    ("mappings have the rights of their use", mappings_have_the_rights_of_their_use),
    ("frames hold what their use takes", frames_hold_what_their_use_takes),
    ("a process is made of its parts", a_process_is_made_of_its_parts),
    ("what is given is there once", what_is_given_is_there_once),
    ("pci-server is notified of stops", pci_server_is_notified_of_stops),
    ("only block-server is signalled of ends, those of its drivers", block_server_is_notified_of_ends),
    ("root-task keeps its own", root_task_keeps_its_own),
    ("device windows are pci-server's", device_windows_are_pci_servers),
    ("a process names its own objects only", a_process_names_its_own_objects_only),
    ("no process holds its own CSpace root", no_process_holds_its_own_cspace_root),
    ("root-task tells processes apart", root_task_tells_processes_apart),
    ("an endpoint has one receiver", an_endpoint_has_one_receiver),
    ("no client outranks its server", no_client_outranks_its_server),
    ("badges are unique", badges_are_unique),
    ("events are single bits", events_are_single_bits),
    ("no port has two owners", no_port_has_two_owners),
    ("device windows are apart from what others own", device_windows_are_apart_from_what_others_own),
    ("an EPT is held with spare paging structures only", an_ept_is_held_with_spare_paging_structures_only),
    ("RAM at physical addresses does not overlap", ram_at_physical_addresses_does_not_overlap),
    ("a function has one I/O address space", a_function_has_one_io_address_space),
    ("an I/O address space is no other owner's", an_io_address_space_is_no_other_owners),
    ("IRQControl has one owner", irq_control_has_one_owner),
    ("windows do not overlap", windows_do_not_overlap),
    ("frames are shared by name only", frames_are_shared_by_name_only),
    ("a pipe has two ends", a_pipe_has_two_ends),
    ("a channel has two ends", a_channel_has_two_ends),
    ("dataports are at home", dataports_are_at_home),
    ("a manager has a page and a signal", a_manager_has_a_page_and_a_signal),
    ("the bundle's own pages are read-only", the_bundles_own_pages_are_read_only),
    ("paging structures are those that the mappings need", paging_structures_are_those_that_the_mappings_need),
];

/// The laws that a specification breaks.
pub fn breaches(spec: &Spec) -> Vec<Breach> {
    each(spec).collect()
}

/// The first of them.
pub fn first_breach(spec: &Spec) -> Option<Breach> {
    each(spec).next()
}

fn each(spec: &Spec) -> impl Iterator<Item = Breach> {
    let broken = |(law, holds): (&'static str, Law)| holds(spec).err().map(|by| Breach { law, by });
    LAWS.into_iter().filter_map(broken)
}

fn unless(holds: bool, by: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(by()) }
}

fn is_server(process: &Process) -> bool {
    services::ALL.iter().any(|server| process.name == server.service.server)
}

fn names_are_unique(spec: &Spec) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let objects = spec.objects.iter().map(|object| &object.name);
    objects
        .chain(spec.processes.iter().map(|process| &process.name))
        .try_for_each(|name| unless(seen.insert(name), || name.clone()))
}

fn every_id_names_an_object(spec: &Spec) -> Result<(), String> {
    let mut ids: Vec<Id> = Vec::new();
    ids.extend(spec.caps.iter().flat_map(|cap| [cap.cnode, cap.object]));
    ids.extend(spec.mappings.iter().flat_map(|mapping| [mapping.space, mapping.frames]));
    ids.extend(spec.processes.iter().flat_map(process_ids));
    ids.extend(spec.objects.iter().filter_map(|object| match object.kind {
        Kind::Paging { space, .. } => Some(space),
        _ => None,
    }));
    ids.push(spec.supervisor);
    ids.extend(spec.power_off.iter().map(|switch| switch.ports));
    ids.extend(spec.console.iter().map(|console| console.ports));
    let signals = spec.processes.iter().flat_map(|process| [process.on_stop, process.on_end]);
    ids.extend(signals.flatten().map(|(events, _)| events));
    ids.extend(spec.processes.iter().flat_map(|process| process.calls.iter().chain(&process.ports)));
    ids.into_iter().try_for_each(|id| unless(spec.kind(id).is_some(), || format!("{id:?}")))
}

fn process_ids(process: &Process) -> Vec<Id> {
    let mut ids = vec![process.cspace, process.vspace];
    ids.extend(process.threads.iter().flat_map(|thread| [thread.tcb, thread.ipc_buffer]));
    ids.extend(process.threads.iter().flat_map(|thread| thread.events.into_iter().chain(thread.vcpu)));
    ids.extend(process.ept);
    ids
}

fn a_slot_holds_one_capability(spec: &Spec) -> Result<(), String> {
    let mut taken = BTreeSet::new();
    spec.caps.iter().try_for_each(|cap| {
        let inside = matches!(spec.kind(cap.cnode), Some(Kind::CNode { bits }) if cap.slot < 1 << bits);
        unless(inside && taken.insert((cap.cnode, cap.slot)), || at(spec, cap))
    })
}

fn at(spec: &Spec, cap: &CapEntry) -> String {
    format!("{} in slot {} of {}", spec.name(cap.object), cap.slot, spec.name(cap.cnode))
}

fn a_process_names_its_own_objects_only(spec: &Spec) -> Result<(), String> {
    spec.processes.iter().try_for_each(|process| {
        let own = format!("{}.", process.name);
        let foreign = process_ids(process).into_iter().find(|id| !spec.name(*id).starts_with(&own));
        unless(foreign.is_none(), || format!("{}: {}", process.name, foreign.map_or("", |id| spec.name(id))))
    })
}

fn no_process_holds_its_own_cspace_root(spec: &Spec) -> Result<(), String> {
    let roots: BTreeSet<Id> = spec.processes.iter().map(|process| process.cspace).collect();
    spec.caps.iter().try_for_each(|cap| unless(!roots.contains(&cap.object), || at(spec, cap)))
}

/// The processes' capabilities to objects of a kind, with their holders.
fn held(spec: &Spec, kind: fn(&Kind) -> bool) -> impl Iterator<Item = (&CapEntry, &Process)> {
    spec.caps.iter().filter(move |cap| spec.kind(cap.object).is_some_and(kind)).filter_map(|cap| {
        let holder = spec.processes.iter().find(|process| process.cspace == cap.cnode)?;
        Some((cap, holder))
    })
}

/// Each process's notices and faults arrive under its own number, and no process listens to those of others.
fn root_task_tells_processes_apart(spec: &Spec) -> Result<(), String> {
    for (process, number) in spec.processes.iter().zip(1..) {
        let held = spec.caps.iter().filter(|cap| cap.cnode == process.cspace && cap.object == spec.supervisor);
        let mut held: Vec<_> = held.map(|cap| (cap.slot, cap.badge, cap.rights)).collect();
        held.sort_by_key(|(slot, ..)| *slot);
        let rights = if has_windows(spec, number - 1) { Rights::CALL } else { Rights::WRITE };
        let notices = (slot::SUPERVISOR.0.into(), number, rights);
        let faults = (slot::FAULT.0.into(), number | FAULT_BIT, Rights::CALL);
        unless(held == [notices, faults], || process.name.clone())?;
    }
    Ok(())
}

fn an_endpoint_has_one_receiver(spec: &Spec) -> Result<(), String> {
    let mut receivers = BTreeSet::new();
    held(spec, |kind| *kind == Kind::Endpoint).filter(|(cap, _)| cap.rights.read).try_for_each(|(cap, _)| {
        let first = receivers.insert(cap.object);
        unless(first && cap.slot == u32::from(slot::SERVICE.0) && !cap.rights.write && cap.badge == 0, || at(spec, cap))
    })
}

fn no_client_outranks_its_server(spec: &Spec) -> Result<(), String> {
    let endpoint = |kind: &Kind| *kind == Kind::Endpoint;
    let servers: BTreeMap<Id, &Process> =
        held(spec, endpoint).filter(|(cap, _)| cap.rights.read).map(|(cap, server)| (cap.object, server)).collect();
    held(spec, endpoint).filter(|(cap, _)| cap.rights.write).try_for_each(|(cap, client)| {
        let server = servers.get(&cap.object);
        unless(server.is_none_or(|server| server.priority >= client.priority), || at(spec, cap))
    })
}

/// All badged capabilities of an object have different badges, and all that can send have a badge.
fn badges_are_unique(spec: &Spec) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    held(spec, |kind| *kind == Kind::Endpoint).filter(|(cap, _)| cap.rights.write).try_for_each(|(cap, _)| {
        unless(cap.badge != 0 && cap.badge < 1 << 28 && seen.insert((cap.object, cap.badge)), || at(spec, cap))
    })
}

/// Each bit of a notification has one meaning and one sender. Streams to serial-server share bits if there are not enough:
/// it looks at all streams whatever the bit. So do the ends of channels, a VM's managers, and the VMs of a manager.
fn events_are_single_bits(spec: &Spec) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let console = spec.processes.iter().find(|process| process.name == serial::SERVICE.server);
    let console = console.and_then(|process| process.events());
    let of_streams = |cap: &CapEntry| Some(cap.object) == console && cap.badge & RINGS != 0;
    held(spec, |kind| *kind == Kind::Notification).try_for_each(|(cap, holder)| {
        let fine = match cap.rights.write {
            true => {
                let first = seen.insert((cap.object, cap.badge));
                cap.badge.is_power_of_two()
                    && cap.badge < FAULT_BIT
                    && (first || of_streams(cap) || is_event(spec, cap) || is_of_lifecycle(spec, cap))
            }
            false => {
                cap.rights.read
                    && cap.badge == 0
                    && holder.threads.iter().any(|thread| thread.events == Some(cap.object))
            }
        };
        unless(fine, || at(spec, cap))
    })
}

fn no_port_has_two_owners(spec: &Spec) -> Result<(), String> {
    let mut owned: Vec<(u16, u16, &CapEntry)> = held(spec, |kind| matches!(kind, Kind::IoPorts { .. }))
        .filter_map(|(cap, _)| match spec.kind(cap.object)? {
            Kind::IoPorts { first, last } => Some((*first, *last, cap)),
            _ => None,
        })
        .collect();
    owned.sort_by_key(|(first, ..)| *first);
    owned.windows(2).try_for_each(|pair| unless(pair[0].1 < pair[1].0, || at(spec, pair[1].2)))
}

fn irq_control_has_one_owner(spec: &Spec) -> Result<(), String> {
    let owners: Vec<_> = held(spec, |kind| *kind == Kind::IrqControl).collect();
    unless(owners.len() <= 1, || owners.iter().map(|(_, process)| process.name.as_str()).collect::<Vec<_>>().join(", "))
}

/// First and last (exclusive) address of a mapping.
fn extent(spec: &Spec, mapping: &Mapping) -> (u64, u64) {
    match spec.kind(mapping.frames) {
        Some(Kind::Frames { size, pages, .. }) => {
            (mapping.at, mapping.at.saturating_add(u64::from(*pages) << size.bits()))
        }
        _ => (mapping.at, mapping.at),
    }
}

fn windows_do_not_overlap(spec: &Spec) -> Result<(), String> {
    let mut windows: Vec<(Id, u64, u64, &Mapping)> = spec
        .mappings
        .iter()
        .map(|mapping| {
            let (start, end) = extent(spec, mapping);
            (mapping.space, start, end, mapping)
        })
        .collect();
    windows.sort_by_key(|(space, start, ..)| (*space, *start));
    let aligned = |mapping: &Mapping| {
        matches!(spec.kind(mapping.frames), Some(Kind::Frames { size, pages, .. })
            if *pages > 0 && mapping.at.is_multiple_of(1 << size.bits()))
    };
    windows.iter().try_for_each(|(.., mapping)| unless(aligned(mapping), || spec.name(mapping.frames).into()))?;
    windows.windows(2).try_for_each(|pair| {
        unless(pair[0].0 != pair[1].0 || pair[0].2 <= pair[1].1, || spec.name(pair[1].3.frames).into())
    })
}

/// The name of frames begins with the names of all processes that map them: `a+b.log`.
fn frames_are_shared_by_name_only(spec: &Spec) -> Result<(), String> {
    spec.mappings.iter().try_for_each(|mapping| {
        let name = spec.name(mapping.frames);
        let mut named: Vec<&str> = name.split('.').next().unwrap_or_default().split('+').collect();
        let mut owners = spec.owners(mapping.frames);
        named.sort_unstable();
        owners.sort_unstable();
        unless(named == owners, || format!("{name} is mapped in {}", owners.join(", ")))
    })
}

fn the_bundles_own_pages_are_read_only(spec: &Spec) -> Result<(), String> {
    spec.mappings.iter().try_for_each(|mapping| {
        let bundle = matches!(spec.kind(mapping.frames), Some(Kind::Frames { fill: Fill::Bundle { .. }, .. }));
        unless(!bundle || !mapping.rights.write, || spec.name(mapping.frames).into())
    })
}

/// No paging structure is missing or unused, and each comes after its parent.
fn paging_structures_are_those_that_the_mappings_need(spec: &Spec) -> Result<(), String> {
    let mut there = BTreeSet::new();
    for object in &spec.objects {
        let Kind::Paging { space, level, at, count } = object.kind else { continue };
        let above = match level {
            Level::Pdpt => None,
            Level::Directory => Some(Level::Pdpt),
            Level::Table => Some(Level::Directory),
        };
        let root = matches!(spec.kind(space), Some(Kind::VSpace | Kind::Ept));
        unless(root && at == base(at, level) && count > 0, || object.name.clone())?;
        for at in (at..).step_by(1 << level.bits()).take(count as usize) {
            let ready = above.is_none_or(|above| there.contains(&(space, above, base(at, above))));
            unless(ready && there.insert((space, level, at)), || object.name.clone())?;
        }
    }
    let mut needed = BTreeSet::new();
    for mapping in &spec.mappings {
        let Some(Kind::Frames { size, pages, .. }) = spec.kind(mapping.frames) else { continue };
        let is_ept = matches!(spec.kind(mapping.space), Some(Kind::Ept));
        let fits = mapping.pages == *size || is_ept && *size == PageSize::Large;
        unless(fits, || format!("{} in {}", spec.name(mapping.frames), spec.name(mapping.space)))?;
        if spec.is_io_space(mapping.space) {
            continue;
        }
        for page in 0..u64::from(*pages) {
            let at = mapping.at + (page << size.bits());
            needed.extend(mapping.pages.levels().iter().map(|&level| (mapping.space, level, base(at, level))));
        }
    }
    let odd = there.symmetric_difference(&needed).next();
    unless(odd.is_none(), || format!("{odd:?}"))
}

fn base(at: u64, level: Level) -> u64 {
    at >> level.bits() << level.bits()
}
