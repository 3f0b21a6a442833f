//! Where frames may be, as one table: what they are for, in which space and at which addresses they are mapped, with which
//! rights, and where their contents come from. What frames are for is in their name, behind those of the processes that
//! share them; who those are is the law "frames are shared by name only". There is no use for device memory: that is made
//! while the system runs, in the windows that the specification lists.

use std::collections::BTreeSet;

use layout::window;

use crate::{
    bundle::PAGE,
    parts::Service,
    passthrough::COMPONENT_BUS,
    spec::{Fill, Kind, Mapping, Rights, Spec},
};

struct Use {
    /// The name, or its beginning where more follows.
    name: &'static str,
    space: Space,
    /// First address, and the one behind the last.
    at: (u64, u64),
    rights: Rights,
    contents: Contents,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Space {
    /// A process's.
    Process,
    /// serial-server's, which has the other end of all logs.
    SerialServer,
    /// A guest's.
    Guest,
    /// A device's.
    Device,
}

#[derive(Clone, Copy)]
enum Contents {
    Zeros,
    /// Zeros, in RAM wherever or at a chosen place.
    Memory,
    /// A copy, or zeros where a program's file has nothing.
    Copied,
    /// The bundle's own pages.
    Bundle,
}

use Contents::{Bundle, Copied, Memory, Zeros};
use Space::{Device, Guest, Process, SerialServer};

const STACK: u64 = window::STACK_TOP - window::STACK_BYTES;
const EVERYWHERE: (u64, u64) = (0, u64::MAX);
const SHARED: (u64, u64) = (window::SHARED, window::DEVICES);
/// Low memory of a guest whose RAM is elsewhere: one large page.
const LOW: u64 = 2 << 20;

#[rustfmt::skip]
const USES: [Use; 18] = [
    // Of a program: a process's own, whether it may write there or not.
    row("segment", Process, (window::IMAGE, STACK), Rights::READ, Copied),
    row("segment", Process, (window::IMAGE, STACK), Rights::READ_WRITE, Copied),
    row("stack", Process, (STACK, window::STACK_TOP), Rights::READ_WRITE, Zeros),
    row("ipc-buffer", Process, (window::IPC_BUFFER, window::IPC_BUFFER + PAGE), Rights::READ_WRITE, Zeros),
    row("config", Process, (window::CONFIG, window::LOG), Rights::READ, Copied),
    row("log", Process, (window::LOG, window::LOG + window::LOG_BYTES), Rights::READ_WRITE, Zeros),
    row("log", SerialServer, SHARED, Rights::READ_WRITE, Zeros),
    row("console-out", Process, SHARED, Rights::READ_WRITE, Zeros),
    row("console-in", Process, SHARED, Rights::READ_WRITE, Zeros),
    row("files", Process, SHARED, Rights::READ_WRITE, Zeros),
    row("image.", Process, (window::FILES, window::GUEST_RAM), Rights::READ, Bundle),
    row("dma-memory", Process, SHARED, Rights::READ_WRITE, Memory),
    row("dma-memory", Device, (COMPONENT_BUS, COMPONENT_BUS + window::SHARED_STEP), Rights::READ_WRITE, Memory),
    row("guest-ram", Process, (window::GUEST_RAM, u64::MAX), Rights::READ_WRITE, Memory),
    row("guest-ram", Guest, EVERYWHERE, Rights::ALL, Memory),
    row("guest-ram", Device, EVERYWHERE, Rights::READ_WRITE, Memory),
    row("guest-low", Process, (window::GUEST_RAM, window::GUEST_RAM + LOW), Rights::READ_WRITE, Zeros),
    row("guest-low", Guest, (0, LOW), Rights::ALL, Zeros),
];

const fn row(name: &'static str, space: Space, at: (u64, u64), rights: Rights, contents: Contents) -> Use {
    Use { name, space, at, rights, contents }
}

impl Use {
    fn is_called(&self, name: &str) -> bool {
        let Some((_, what)) = name.split_once('.') else { return false };
        match what.strip_prefix(self.name) {
            Some("") => true,
            Some(number) if matches!(self.contents, Copied) => number.bytes().all(|byte| byte.is_ascii_digit()),
            Some(_) => matches!(self.contents, Bundle),
            None => false,
        }
    }

    fn is_filled(&self, fill: Fill) -> bool {
        match self.contents {
            Zeros => fill == Fill::Zero,
            Memory => matches!(fill, Fill::Zero | Fill::Ram { .. }),
            Copied => matches!(fill, Fill::Zero | Fill::Copy { .. }),
            Bundle => matches!(fill, Fill::Bundle { .. }),
        }
    }
}

fn space(spec: &Spec, mapping: &Mapping) -> Option<Space> {
    match spec.kind(mapping.space)? {
        Kind::VSpace => Some(Process),
        Kind::Ept => Some(Guest),
        Kind::IoSpace { .. } => Some(Device),
        _ => None,
    }
}

/// The rows for a mapping in its space.
fn uses<'a>(spec: &'a Spec, mapping: &'a Mapping) -> impl Iterator<Item = &'static Use> + 'a {
    let (start, end) = super::extent(spec, mapping);
    let space = space(spec, mapping);
    let inside = move |(first, behind): (u64, u64)| first <= start && end <= behind && start < end;
    let name = spec.name(mapping.frames);
    let serial = space == Some(Process) && spec.owner_of(mapping.space) == Service::Serial.server();
    let is_there = move |row: &Use| match row.space {
        SerialServer => serial,
        // Of its own it has none: it prints by itself.
        Process if row.name == "log" => space == Some(Process) && !serial,
        other => space == Some(other),
    };
    USES.iter().filter(move |row| row.is_called(name) && is_there(row) && inside(row.at))
}

fn each(spec: &Spec, holds: impl Fn(&Mapping) -> bool) -> Result<(), String> {
    spec.mappings.iter().try_for_each(|mapping| {
        let what = || format!("{} in {} at {:#x}", spec.name(mapping.frames), spec.name(mapping.space), mapping.at);
        super::unless(holds(mapping), what)
    })
}

/// And in each space once.
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
        Some(Process) => mapping.at.checked_sub(window::GUEST_RAM),
        _ => Some(mapping.at),
    };
    each(spec, |mapping| {
        let name = spec.name(mapping.frames);
        let is_guests = name.ends_with(".guest-ram") || name.ends_with(".guest-low");
        let mut others = spec.mappings.iter().filter(|other| other.frames == mapping.frames);
        !is_guests || others.all(|other| gpa(other) == gpa(mapping))
    })
}

/// RAM is cached.
pub(super) fn mappings_have_the_rights_of_their_use(spec: &Spec) -> Result<(), String> {
    each(spec, |mapping| mapping.cached && uses(spec, mapping).any(|row| row.rights == mapping.rights))
}

pub(super) fn frames_hold_what_their_use_takes(spec: &Spec) -> Result<(), String> {
    spec.objects.iter().try_for_each(|object| {
        let Kind::Frames { fill, .. } = object.kind else { return Ok(()) };
        let right = USES.iter().any(|row| row.is_called(&object.name) && row.is_filled(fill));
        super::unless(right, || object.name.clone())
    })
}
