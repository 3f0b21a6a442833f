//! Pipes: the only memory that processes of two VMs share, and the only signals from one to the other. Neither is a guest's
//! RAM, which the laws for mappings keep to its own VM.

use layout::{event, limits::MAX_PIPES, slot};

use super::unless;
use crate::{
    services::pipes::FRAMES_OF,
    spec::{CapEntry, Id, Kind, Process, Spec},
};

/// The frames of all pipes.
fn pipes(spec: &Spec) -> impl Iterator<Item = Id> {
    let is_pipe = |name: &str| name.split_once('.').is_some_and(|(_, what)| what.starts_with(FRAMES_OF));
    let objects = spec.objects.iter().zip(0..).filter(|(object, _)| matches!(object.kind, Kind::Frames { .. }));
    objects.filter(move |(object, _)| is_pipe(&object.name)).map(|(_, n)| Id(n))
}

/// Whether a process maps these frames.
fn maps(spec: &Spec, process: &Process, frames: Id) -> bool {
    spec.mappings.iter().any(|mapping| mapping.space == process.vspace && mapping.frames == frames)
}

/// How many pipes two processes have between them.
pub(super) fn pipes_between(spec: &Spec, one: &Process, other: &Process) -> usize {
    let differ = one.cspace != other.cspace;
    pipes(spec).filter(|&frames| differ && maps(spec, one, frames) && maps(spec, other, frames)).count()
}

/// Two processes map the memory of a pipe, and each of them has one signal to the other for it: in the slot of its own number
/// for the pipe, and with the bit of the other's.
pub(super) fn a_pipe_has_two_ends(spec: &Spec) -> Result<(), String> {
    let with_guest: Vec<&Process> = spec.processes.iter().filter(|process| process.ept.is_some()).collect();
    let mut numbers = vec![0; with_guest.len()];
    let mut wanted = Vec::new();
    for frames in pipes(spec) {
        let mapped = spec.mappings.iter().filter(|mapping| mapping.frames == frames).count();
        let ends: Vec<usize> = (0..with_guest.len()).filter(|&n| maps(spec, with_guest[n], frames)).collect();
        let &[a, b] = ends.as_slice() else { return Err(spec.name(frames).into()) };
        unless(mapped == 2 && numbers[a].max(numbers[b]) < MAX_PIPES, || spec.name(frames).into())?;
        for (from, to) in [(a, b), (b, a)] {
            let slot = u32::from(slot::pipe(numbers[from]).0);
            let (holder, events) = (with_guest[from].cspace, with_guest[to].events());
            wanted.push((holder, slot, events, event::pipe(numbers[to])));
        }
        numbers[a] += 1;
        numbers[b] += 1;
    }
    let is_others = |cap: &CapEntry| {
        // Those of channels have a law of their own.
        let mut others = with_guest.iter().filter(|other| other.cspace != cap.cnode);
        cap.badge != event::CHANNEL
            && with_guest.iter().any(|own| own.cspace == cap.cnode)
            && others.any(|other| other.events() == Some(cap.object))
    };
    let held = spec.caps.iter().filter(|cap| is_others(cap));
    let mut held: Vec<_> = held.map(|cap| (cap.cnode, cap.slot, Some(cap.object), cap.badge)).collect();
    held.sort_unstable();
    wanted.sort_unstable();
    let odd = held.iter().find(|signal| !wanted.contains(signal)).or(wanted.iter().find(|want| !held.contains(want)));
    unless(held == wanted, || odd.map_or(String::new(), |odd| format!("slot {} of {}", odd.1, spec.name(odd.0))))
}
