//! Laws for what root-task configures a thread with, and what it keeps for itself.

use layout::{
    FAULT_BIT, client_of, event,
    limits::{MAX_CLIENTS, MAX_DISKS, MAX_VCPUS},
    slot, window,
};
use proto::{block, pci};

use super::unless;
use crate::{
    compile::{builder::of_thread, part::ROOT_PRIORITY},
    services::ALL,
    spec::{Id, Kind, PageSize, Process, Spec, Thread},
};

/// Threads, spaces and guest of a process are its own, of the right kind, and where `layout` has them.
pub(super) fn a_process_is_made_of_its_parts(spec: &Spec) -> Result<(), String> {
    spec.processes.iter().try_for_each(|process| {
        let mut threads = process.threads.iter().enumerate();
        let whole =
            is_whole(spec, process) && threads.all(|(number, thread)| is_threads(spec, process, number, thread));
        unless(whole, || process.name.clone())
    })
}

fn is(spec: &Spec, id: Id, name: &str, right: fn(&Kind) -> bool) -> bool {
    spec.kind(id).is_some_and(right) && spec.name(id) == name
}

fn is_whole(spec: &Spec, process: &Process) -> bool {
    let own = |id: Id, what: &str, right: fn(&Kind) -> bool| is(spec, id, &format!("{}.{what}", process.name), right);
    let root = |kind: &Kind| matches!(kind, Kind::CNode { bits } if *bits == layout::ROOT_BITS);
    own(process.cspace, "cspace", root)
        && own(process.vspace, "vspace", |kind| *kind == Kind::VSpace)
        && process.ept.is_none_or(|ept| own(ept, "ept", |kind| *kind == Kind::Ept))
        && (1..=MAX_VCPUS).contains(&process.threads.len())
        // A process without a guest has one thread.
        && (process.ept.is_some() || process.threads.len() == 1)
        && process.guard_bits == layout::GUARD_BITS
        && (window::IMAGE..window::STACKS).contains(&process.entry)
        && (1..ROOT_PRIORITY).contains(&process.priority)
}

/// Each virtual CPU of a guest has a thread, and no other process's thread has a virtual CPU.
fn is_threads(spec: &Spec, process: &Process, number: usize, thread: &Thread) -> bool {
    let name = |what| of_thread(&process.name, what, number);
    let own = |id: Id, what, right: fn(&Kind) -> bool| is(spec, id, &name(what), right);
    let page = |kind: &Kind| matches!(kind, Kind::Frames { size: PageSize::Small, pages: 1, .. });
    let mapped = |frames: &str, at: u64| {
        let mut own = spec.mappings.iter().filter(|mapping| mapping.space == process.vspace && mapping.at == at);
        own.any(|mapping| spec.name(mapping.frames) == frames)
    };
    let listens = spec.caps.iter().any(|cap| {
        cap.cnode == process.cspace && cap.slot == slot::events(number).0.into() && thread.events == Some(cap.object)
    });
    own(thread.tcb, "tcb", |kind| *kind == Kind::Tcb)
        && own(thread.ipc_buffer, "ipc-buffer", page)
        && mapped(&name("ipc-buffer"), window::ipc_buffer(number))
        && thread.ipc_buffer_at == window::ipc_buffer(number)
        && mapped(&name("stack"), window::stack_top(number) - window::stack_bytes(process.ept.is_some()))
        && thread.stack == window::stack_top(number)
        && thread.events.is_none_or(|id| listens && own(id, "events", |kind| *kind == Kind::Notification))
        && thread.vcpu.is_some() == process.ept.is_some()
        && thread.vcpu.is_none_or(|id| own(id, "vcpu", |kind| *kind == Kind::Vcpu))
}

/// `calls` and `ports`, by which the laws judge a process's capabilities, are what the description gives it: servers'
/// endpoints and ports, each once.
pub(super) fn what_is_given_is_there_once(spec: &Spec) -> Result<(), String> {
    let sorted = |ids: &mut dyn Iterator<Item = Id>| {
        let mut ids: Vec<Id> = ids.collect();
        ids.sort_unstable();
        ids
    };
    let once = |ids: &[Id]| ids.windows(2).all(|pair| pair[0] != pair[1]);
    let servers: Vec<Id> = ALL.iter().filter_map(|server| spec.endpoint_of(server.service.server)).collect();
    spec.processes.iter().try_for_each(|process| {
        let own = spec.caps.iter().filter(|cap| cap.cnode == process.cspace).map(|cap| cap.object);
        let held = sorted(&mut own.filter(|id| matches!(spec.kind(*id), Some(Kind::IoPorts { .. }))));
        let calls = sorted(&mut process.calls.iter().copied());
        let right = held == sorted(&mut process.ports.iter().copied()) && calls.iter().all(|id| servers.contains(id));
        unless(right && once(&held) && once(&calls), || process.name.clone())
    })
}

/// Only pci-server holds devices on behalf of a process, and the badge is the process's number there.
pub(super) fn pci_server_is_notified_of_stops(spec: &Spec) -> Result<(), String> {
    let pci = spec.processes.iter().find(|process| process.name == pci::SERVICE.server);
    spec.processes.iter().try_for_each(|process| {
        let Some((events, badge)) = process.on_stop else { return Ok(()) };
        let cap = spec.caps.iter().find(|cap| cap.cnode == process.cspace && cap.slot == pci::SERVICE.slot.0.into());
        let number = cap.and_then(|cap| client_of(cap.badge)).and_then(|number| usize::try_from(number).ok());
        let own = number.is_some_and(|number| number < MAX_CLIENTS && event::client(number) == badge);
        let heard = pci.is_some_and(|pci| pci.events() == Some(events));
        unless(own && heard && badge < FAULT_BIT, || process.name.clone())
    })
}

/// Only block-server waits for processes: for the drivers of its disks, which have rings to it.
pub(super) fn block_server_is_notified_of_ends(spec: &Spec) -> Result<(), String> {
    let block = spec.processes.iter().find(|process| process.name == block::SERVICE.server);
    let drivers = spec.processes.iter().filter_map(|process| Some((process, process.on_end?)));
    drivers.enumerate().try_for_each(|(disk, (process, (events, badge)))| {
        let known = disk < MAX_DISKS && event::ended(disk) == badge;
        let rings = spec
            .caps
            .iter()
            .any(|cap| cap.cnode == process.cspace && cap.slot == slot::BLOCK.0.into() && cap.object == events);
        let heard = block.is_some_and(|block| block.events() == Some(events));
        unless(known && rings && heard, || process.name.clone())
    })
}

/// Its endpoint, the power-off port and the console's ports.
pub(super) fn root_task_keeps_its_own(spec: &Spec) -> Result<(), String> {
    let endpoint = spec.kind(spec.supervisor) == Some(&Kind::Endpoint);
    unless(endpoint && spec.name(spec.supervisor) == "root-task.supervisor", || spec.name(spec.supervisor).into())?;
    let within = |id: Id, from: u16, to: u16| matches!(spec.kind(id), Some(Kind::IoPorts { first, last }) if *first <= from && to <= *last);
    if let Some(switch) = &spec.power_off {
        unless(within(switch.ports, switch.port, switch.port), || spec.name(switch.ports).into())?;
    }
    if let Some(console) = &spec.console {
        let last = console.port.checked_add(7);
        unless(last.is_some_and(|last| within(console.ports, console.port, last)), || spec.name(console.ports).into())?;
    }
    Ok(())
}

/// Only pci-server asks for device memory and ports.
pub(super) fn device_windows_are_pci_servers(spec: &Spec) -> Result<(), String> {
    spec.windows.iter().try_for_each(|window| {
        let process = spec.processes.get(window.process as usize);
        let right = process.is_some_and(|process| process.name == pci::SERVICE.server);
        unless(right, || format!("{window:?}"))
    })
}
