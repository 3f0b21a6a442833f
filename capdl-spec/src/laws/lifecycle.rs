//! Managers: whoever shares a page of this use with a vmm-server may signal it, once, and no other process with a guest has a
//! part in it.

use layout::event;

use super::{is_server, unless};
use crate::{
    services::lifecycle::FRAMES_OF,
    spec::{CapEntry, Id, Kind, Process, Spec},
};

/// The pages of all managers.
fn pages(spec: &Spec) -> impl Iterator<Item = Id> {
    let is_page = |name: &str| name.split_once('.').is_some_and(|(_, what)| what == FRAMES_OF);
    let objects = spec.objects.iter().zip(0..).filter(|(object, _)| matches!(object.kind, Kind::Frames { .. }));
    objects.filter(move |(object, _)| is_page(&object.name)).map(|(_, n)| Id(n))
}

/// The processes that map these frames, once for each mapping.
fn mappers(spec: &Spec, frames: Id) -> Vec<&Process> {
    let mappings = spec.mappings.iter().filter(move |mapping| mapping.frames == frames);
    mappings.filter_map(|mapping| spec.processes.iter().find(|process| process.vspace == mapping.space)).collect()
}

/// Whether a process has a page with the one of a guest.
pub(super) fn manages(spec: &Spec, manager: &Process, vmm: &Process) -> bool {
    let maps = |frames: Id, one: &Process| mappers(spec, frames).iter().any(|process| process.cspace == one.cspace);
    manager.ept.is_none() && vmm.ept.is_some() && pages(spec).any(|frames| maps(frames, manager) && maps(frames, vmm))
}

/// Whether it signals a vmm-server or a manager of the other: servers have another event of this number.
pub(super) fn is_of_lifecycle(spec: &Spec, cap: &CapEntry) -> bool {
    let mut others = spec.processes.iter().filter(|process| !is_server(process));
    cap.badge == event::MANAGED && others.any(|process| process.events() == Some(cap.object))
}

/// Each page has a manager and a vmm-server, and each of them has one signal to the other; nobody else has such a signal. What
/// serial-server gets is the doorbell of its rings.
pub(super) fn a_manager_has_a_page_and_a_signal(spec: &Spec) -> Result<(), String> {
    let mut wanted = Vec::new();
    for frames in pages(spec) {
        let (with, without): (Vec<&Process>, Vec<&Process>) =
            mappers(spec, frames).into_iter().partition(|process| process.ept.is_some());
        let ([vmm], [manager]) = (with.as_slice(), without.as_slice()) else { return Err(spec.name(frames).into()) };
        wanted.push((manager.cspace, vmm.events()));
        if !is_server(manager) {
            wanted.push((vmm.cspace, manager.events()));
        }
    }
    let held = spec.caps.iter().filter(|cap| is_of_lifecycle(spec, cap));
    let mut held: Vec<_> = held.map(|cap| (cap.cnode, Some(cap.object))).collect();
    held.sort_unstable();
    wanted.sort_unstable();
    let odd = held.iter().find(|signal| !wanted.contains(signal)).or(wanted.iter().find(|want| !held.contains(want)));
    unless(held == wanted, || odd.map_or(String::new(), |odd| spec.name(odd.0).into()))
}
