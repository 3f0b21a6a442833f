//! Pipes between VMs: two rings of bytes in memory that the vmm-servers of both ends map and nobody else, and a signal each
//! way. No server is between them.

use std::collections::BTreeMap;

use layout::{
    config::{ByteRings, Pipe, Window},
    event,
    limits::MAX_PIPES,
    slot,
};
use toml::Spanned;

use super::net::check_name;
use crate::{
    checks::found::{Check, Found},
    compile::{
        error::CompileError,
        part::Role,
        wire::{Wiring, name},
    },
    description::{mistake::nearest, system::System},
    laws::authority::{Badge, Contents, FrameUse, Holding, SHARED, Space, What, Who, Whose, frames, holding},
    spec::Rights,
};

/// Bytes of a ring.
const RING_BYTES: u64 = 32 << 10;
/// What the frames of a pipe are called, before its number.
pub(crate) const FRAMES_OF: &str = "pipe";

pub(crate) static HOLDINGS: [Holding; 1] = [holding(
    Who::Vmm,
    (slot::pipe(0).0, slot::pipe(MAX_PIPES).0),
    What::Notification,
    Whose::Peers,
    Rights::WRITE,
    Badge::Bit(event::PIPES),
)];

pub(crate) static FRAMES: [FrameUse; 1] = [frames(FRAMES_OF, Space::Vmm, SHARED, Rights::READ_WRITE, Contents::Zeros)];

pub(crate) static CHECKS: [Check; 3] = [pipes_have_names_and_two_ends, ends_are_vms, vms_have_room_for_their_pipes];

/// The names of the pipes that lead to or from a VM.
pub(crate) fn of_vm<'a>(system: &'a System, vm: &str) -> impl Iterator<Item = &'a Spanned<String>> {
    let has = move |member: &Spanned<String>| member.get_ref() == vm;
    system.pipes.iter().filter(move |pipe| pipe.members.iter().any(has)).map(|pipe| &pipe.name)
}

fn pipes_have_names_and_two_ends(found: &mut Found) {
    let pipes = &found.system.pipes;
    for (n, pipe) in pipes.iter().enumerate() {
        check_name(found, "pipe", &pipe.name, pipes[..n].iter().map(|other| &other.name));
        match pipe.members.as_slice() {
            [one, other] if one.get_ref() == other.get_ref() => {
                let message = format!("both ends of `{}` are `{}`", pipe.name.get_ref(), one.get_ref());
                found.add(other.span(), message, "list two VMs");
            }
            [_, _] => {}
            members => {
                let message = format!("the number of ends of `{}` is {}, not 2", pipe.name.get_ref(), members.len());
                let remedy = "list two VMs in `members`; a [[network]] or a [[vsock]] connects more";
                found.add(pipe.name.span(), message, remedy);
            }
        }
    }
}

fn ends_are_vms(found: &mut Found) {
    let system = found.system;
    let vms: Vec<&str> = system.vms.iter().map(|vm| vm.name.get_ref().as_str()).collect();
    for member in system.pipes.iter().flat_map(|pipe| &pipe.members) {
        let name = member.get_ref();
        if vms.contains(&name.as_str()) {
            continue;
        }
        let (message, remedy) = match system.components.iter().any(|component| component.name.get_ref() == name) {
            true => (
                format!("`{name}` is a component, and a pipe connects VMs"),
                "a [[vsock]] connects VMs and components".into(),
            ),
            false => (format!("no VM is called `{name}`"), nearest(name, &vms)),
        };
        found.add(member.span(), message, remedy);
    }
}

fn vms_have_room_for_their_pipes(found: &mut Found) {
    let system = found.system;
    for vm in &system.vms {
        if let Some(pipe) = of_vm(system, vm.name.get_ref()).nth(MAX_PIPES) {
            let message = format!("`{}` is an end of more than {MAX_PIPES} pipes", vm.name.get_ref());
            found.add(pipe.span(), message, format!("a VM has {MAX_PIPES} at most"));
        }
    }
}

/// Memory and signals of all pipes; returns each VM's ends, by its number.
pub(crate) fn configure(wiring: &mut Wiring) -> Result<BTreeMap<usize, Vec<Pipe>>, CompileError> {
    let system = wiring.system;
    let mut all: BTreeMap<usize, Vec<Pipe>> = BTreeMap::new();
    for (number, pipe) in system.pipes.iter().enumerate() {
        let vm = |member: usize| {
            let name = pipe.members.get(member).map(Spanned::get_ref);
            let vm = system.vms.iter().position(|vm| Some(vm.name.get_ref()) == name);
            vm.ok_or_else(|| CompileError::unwired("end", pipe.name.get_ref()))
        };
        let vms = [vm(0)?, vm(1)?];
        let [a, b] = [wiring.process(Role::Vmm(vms[0]))?, wiring.process(Role::Vmm(vms[1]))?];
        let (at_a, at_b) = (wiring.build.window(a, 2 * RING_BYTES), wiring.build.window(b, 2 * RING_BYTES));
        wiring.build.share(&format!("{FRAMES_OF}{number}"), (a, at_a), (b, at_b));
        let own = |vm: usize| all.get(&vm).map_or(0, Vec::len);
        let [n, m] = vms.map(own);
        if n.max(m) >= MAX_PIPES {
            return Err(CompileError::TooMany("pipes of a VM"));
        }
        wiring.doorbell(a, slot::pipe(n), b, event::pipe(m))?;
        wiring.doorbell(b, slot::pipe(m), a, event::pipe(n))?;
        let name = name(pipe.name.get_ref())?;
        // The first ring is the first end's output.
        let [first, second] = [at_a, at_b].map(halves);
        let ends = [ByteRings { output: first[0], input: first[1] }, ByteRings { output: second[1], input: second[0] }];
        for (vm, rings) in vms.into_iter().zip(ends) {
            all.entry(vm).or_default().push(Pipe { name: name.clone(), rings });
        }
    }
    Ok(all)
}

fn halves(window: Window) -> [Window; 2] {
    let len = window.len / 2;
    [Window { len, ..window }, Window { at: window.at + len, len }]
}
