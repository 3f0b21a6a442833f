//! Channels: what two processes share without a server, if not both have guests with a pipe.

use layout::{event, slot};

use super::{is_server, unless};
use crate::{
    services::channels::{DATAPORT_OF, EVENTS_OF, places},
    spec::{CapEntry, Id, Kind, Mapping, Process, Spec},
};

/// The frames whose use is called so, each with what its name has behind that.
fn called<'a>(spec: &'a Spec, prefix: &'a str) -> impl Iterator<Item = (Id, &'a str)> {
    let objects = spec.objects.iter().zip(0..).filter(|(object, _)| matches!(object.kind, Kind::Frames { .. }));
    objects.filter_map(move |(object, n)| {
        let (_, what) = object.name.split_once('.')?;
        Some((Id(n), what.strip_prefix(prefix)?))
    })
}

fn mappings(spec: &Spec, frames: Id) -> impl Iterator<Item = &Mapping> {
    spec.mappings.iter().filter(move |mapping| mapping.frames == frames)
}

/// The processes that map these frames, but only if there are two.
fn ends(spec: &Spec, frames: Id) -> Option<[&Process; 2]> {
    let maps = |process: &&Process| mappings(spec, frames).any(|mapping| mapping.space == process.vspace);
    let ends: Vec<&Process> = spec.processes.iter().filter(maps).collect();
    ends.try_into().ok()
}

/// Whether two processes have a channel between them.
pub(super) fn are_ends_of_one(spec: &Spec, one: &Process, other: &Process) -> bool {
    let both = |ends: [&Process; 2]| {
        let has = |process: &Process| ends.iter().any(|end| end.cspace == process.cspace);
        one.cspace != other.cspace && has(one) && has(other)
    };
    called(spec, EVENTS_OF).filter_map(|(page, _)| ends(spec, page)).any(both)
}

/// Whether a capability signals the event of channels to a process that is no server.
pub(super) fn is_event(spec: &Spec, cap: &CapEntry) -> bool {
    let receiver = spec.processes.iter().find(|process| process.events() == Some(cap.object));
    cap.rights.write && cap.badge == event::CHANNEL && receiver.is_some_and(|process| !is_server(process))
}

/// Two processes map the counters of a channel, and each of them has one signal to the other for it, in the slot of its own
/// number for the channel. They, their guests, and nobody else map its dataports; a guest with the same rights as its
/// vmm-server; and somebody may write.
pub(super) fn a_channel_has_two_ends(spec: &Spec) -> Result<(), String> {
    let mut wanted = Vec::new();
    let mut numbers = vec![0; spec.processes.len()];
    let mut dataports = 0;
    for (page, number) in called(spec, EVENTS_OF) {
        let wrong = || spec.name(page).to_string();
        let both = ends(spec, page).ok_or_else(wrong)?;
        unless(mappings(spec, page).count() == 2 && !both.into_iter().any(is_server), wrong)?;
        for (from, to) in [(0, 1), (1, 0)] {
            let count =
                spec.processes.iter().zip(&mut numbers).find(|(process, _)| process.cspace == both[from].cspace);
            let Some((_, count)) = count else { continue };
            wanted.push((both[from].cspace, u32::from(slot::channel(*count).0), both[to].events()));
            *count += 1;
        }
        // The last digit is the dataport's own number.
        let own =
            called(spec, DATAPORT_OF).filter(|(_, name)| name.len() == number.len() + 1 && name.starts_with(number));
        for (frames, _) in own {
            dataports += 1;
            let wrong = || spec.name(frames).to_string();
            let same = ends(spec, frames).is_some_and(|ends| ends.map(|end| end.cspace) == both.map(|end| end.cspace));
            unless(same && mappings(spec, frames).any(|mapping| mapping.rights.write), wrong)?;
            let guests = both.iter().filter(|end| end.ept.is_some()).count();
            unless(mappings(spec, frames).count() == 2 + guests, wrong)?;
            for end in both.iter().filter(|end| end.ept.is_some()) {
                let of = |space: Option<Id>| {
                    let mapping = mappings(spec, frames).find(|mapping| Some(mapping.space) == space);
                    mapping.map(|mapping| mapping.rights)
                };
                unless(of(end.ept).is_some() && of(end.ept) == of(Some(end.vspace)), wrong)?;
            }
        }
    }
    let stray = || "a dataport of no channel".to_string();
    unless(called(spec, DATAPORT_OF).count() == dataports, stray)?;
    let held = spec.caps.iter().filter(|cap| is_event(spec, cap));
    let mut held: Vec<_> = held.map(|cap| (cap.cnode, cap.slot, Some(cap.object))).collect();
    held.sort_unstable();
    wanted.sort_unstable();
    let odd = held.iter().find(|signal| !wanted.contains(signal)).or(wanted.iter().find(|want| !held.contains(want)));
    unless(held == wanted, || odd.map_or(String::new(), |odd| format!("slot {} of {}", odd.1, spec.name(odd.0))))
}

/// Guests have the dataports of their channels one behind the other, behind their RAM.
pub(super) fn dataports_are_at_home(spec: &Spec) -> Result<(), String> {
    let guests = spec.processes.iter().filter_map(|process| process.ept);
    guests.map(|ept| (ept, spec.mappings.iter().filter(move |mapping| mapping.space == ept))).try_for_each(
        |(ept, all)| {
            let ram = all.clone().filter(|mapping| spec.name(mapping.frames).ends_with(".guest-ram"));
            let ram = ram.map(|mapping| super::extent(spec, mapping).1).max().unwrap_or_default();
            let is_dataport =
                |mapping: &&Mapping| called(spec, DATAPORT_OF).any(|(frames, _)| frames == mapping.frames);
            let mut found: Vec<&Mapping> = all.filter(is_dataport).collect();
            found.sort_by_key(|mapping| mapping.frames);
            let sizes = found.iter().map(|mapping| {
                let (first, end) = super::extent(spec, mapping);
                end - first
            });
            let right = places(ram, sizes).into_iter().map(|(at, _)| at).eq(found.iter().map(|mapping| mapping.at));
            unless(right, || spec.name(ept).to_string())
        },
    )
}
