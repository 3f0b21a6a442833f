//! Where frames may be mapped, as one table: their use, the space, the addresses, the rights, and the source of their
//! contents. The frames' name has their use after the names of the processes that share them, which the law "frames are
//! shared by name only" checks. Registers of PCI functions have no row: root-task makes their frames while the system
//! runs, in the windows that the specification lists.

use std::collections::BTreeSet;

use layout::{limits::MAX_VCPUS, window};

use crate::{
    laws::authority::{Contents, FrameUse, Space, frames},
    services::{ALL, channels, component, lifecycle, pipes, vmm},
    spec::{Fill, Kind, Mapping, Rights, Spec},
};

/// For any process. A process's program is its own memory, writable or not.
#[rustfmt::skip]
static COMMON: [FrameUse; 5] = [
    frames("segment", Space::Process, (window::IMAGE, window::STACKS), Rights::READ, Contents::Copied),
    frames("segment", Space::Process, (window::IMAGE, window::STACKS), Rights::READ_WRITE, Contents::Copied),
    frames("stack", Space::Process, (window::STACKS, window::STACK_TOP), Rights::READ_WRITE, Contents::Zeros),
    frames("ipc-buffer", Space::Process, (window::IPC_BUFFER, window::ipc_buffer(MAX_VCPUS)), Rights::READ_WRITE, Contents::Zeros),
    frames("config", Space::Process, (window::CONFIG, window::LOG), Rights::READ, Contents::Copied),
];

/// Uses of which a process may have several: their numbers are behind them.
const NUMBERED: [&str; 7] =
    ["segment", "stack", "ipc-buffer", "layer", pipes::FRAMES_OF, channels::EVENTS_OF, channels::DATAPORT_OF];

/// All rows.
fn frame_uses() -> impl Iterator<Item = &'static FrameUse> {
    let of_servers = ALL.into_iter().flat_map(|server| server.frames);
    let of_peers = pipes::FRAMES.iter().chain(&channels::FRAMES).chain(&lifecycle::FRAMES);
    COMMON.iter().chain(of_servers).chain(&component::FRAMES).chain(&vmm::FRAMES).chain(of_peers)
}

impl FrameUse {
    fn is_called(&self, name: &str) -> bool {
        let Some((_, what)) = name.split_once('.') else { return false };
        match what.strip_prefix(self.name) {
            Some("") => true,
            // Of segments, of further threads, of pipes, of channels, and of what is written over files.
            Some(number) if NUMBERED.contains(&self.name) => number.bytes().all(|byte| byte.is_ascii_digit()),
            Some(_) => matches!(self.contents, Contents::Bundle),
            None => false,
        }
    }

    fn is_filled(&self, fill: Fill) -> bool {
        match self.contents {
            Contents::Zeros => fill == Fill::Zero,
            Contents::Memory => matches!(fill, Fill::Zero | Fill::Ram { .. }),
            Contents::Copied => matches!(fill, Fill::Zero | Fill::Copy { .. }),
            Contents::Bundle => matches!(fill, Fill::Bundle { .. }),
            Contents::Registers(paddr) => fill == (Fill::Device { paddr }),
        }
    }
}

fn space(spec: &Spec, mapping: &Mapping) -> Option<Space> {
    match spec.kind(mapping.space)? {
        Kind::VSpace => Some(Space::Process),
        Kind::Ept => Some(Space::Guest),
        Kind::IoSpace { .. } => Some(Space::Device),
        _ => None,
    }
}

/// The rows for a mapping in its space.
fn uses<'a>(spec: &'a Spec, mapping: &'a Mapping) -> impl Iterator<Item = &'static FrameUse> + 'a {
    let (start, end) = super::extent(spec, mapping);
    let space = space(spec, mapping);
    let inside = move |(first, behind): (u64, u64)| first <= start && end <= behind && start < end;
    let name = spec.name(mapping.frames);
    let owner = spec.owner_of(mapping.space);
    let has_guest = spec.processes.iter().any(|process| process.vspace == mapping.space && process.ept.is_some());
    let is_there = move |row: &FrameUse| match row.space {
        Space::Server(service) => space == Some(Space::Process) && owner == service.server,
        Space::AllBut(service) => space == Some(Space::Process) && owner != service.server,
        Space::Vmm => has_guest,
        other => space == Some(other),
    };
    frame_uses().filter(move |row| row.is_called(name) && is_there(row) && inside(row.at))
}

fn each(spec: &Spec, holds: impl Fn(&Mapping) -> bool) -> Result<(), String> {
    spec.mappings.iter().try_for_each(|mapping| {
        let what = || format!("{} in {} at {:#x}", spec.name(mapping.frames), spec.name(mapping.space), mapping.at);
        super::unless(holds(mapping), what)
    })
}

/// And each space maps them once.
pub(super) fn frames_are_mapped_where_their_use_is(spec: &Spec) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let there = |mapping: &Mapping| uses(spec, mapping).next().is_some();
    each(spec, there)?;
    let twice = spec.mappings.iter().find(|mapping| !seen.insert((mapping.space, mapping.frames)));
    super::unless(twice.is_none(), || twice.map_or(String::new(), |mapping| spec.name(mapping.frames).into()))
}

/// A guest, its devices and its VMM see its memory at the same guest-physical address.
pub(super) fn a_guests_memory_is_where_its_vmm_has_it(spec: &Spec) -> Result<(), String> {
    let gpa = |mapping: &Mapping| match space(spec, mapping) {
        Some(Space::Process) => mapping.at.checked_sub(window::GUEST_RAM),
        _ => Some(mapping.at),
    };
    each(spec, |mapping| {
        let name = spec.name(mapping.frames);
        let is_guests = name.ends_with(".guest-ram") || name.ends_with(".guest-low");
        let mut others = spec.mappings.iter().filter(|other| other.frames == mapping.frames);
        !is_guests || others.all(|other| gpa(other) == gpa(mapping))
    })
}

/// RAM is cached, and registers are not.
pub(super) fn mappings_have_the_rights_of_their_use(spec: &Spec) -> Result<(), String> {
    each(spec, |mapping| {
        uses(spec, mapping)
            .any(|row| row.rights == mapping.rights && mapping.cached != matches!(row.contents, Contents::Registers(_)))
    })
}

pub(super) fn frames_hold_what_their_use_takes(spec: &Spec) -> Result<(), String> {
    spec.objects.iter().try_for_each(|object| {
        let Kind::Frames { fill, .. } = object.kind else { return Ok(()) };
        let right = frame_uses().any(|row| row.is_called(&object.name) && row.is_filled(fill));
        super::unless(right, || object.name.clone())
    })
}
