//! What root-task sets a thread up with, and keeps for itself.

use layout::{FAULT_BIT, client_of, event, limits::MAX_CLIENTS, slot, window};
use proto::pci;

use super::unless;
use crate::{
    part::ROOT_PRIORITY,
    services::ALL,
    spec::{Id, Kind, PageSize, Process, Spec},
};

/// Thread, spaces and guest of a process are its own, of the right kind, and where `layout` has them.
pub(super) fn a_process_is_made_of_its_parts(spec: &Spec) -> Result<(), String> {
    spec.processes.iter().try_for_each(|process| unless(is_whole(spec, process), || process.name.clone()))
}

fn is_whole(spec: &Spec, process: &Process) -> bool {
    let is = |id: Id, what: &str, right: fn(&Kind) -> bool| {
        spec.kind(id).is_some_and(right) && spec.name(id) == format!("{}.{what}", process.name)
    };
    let root = |kind: &Kind| matches!(kind, Kind::CNode { bits } if *bits == layout::ROOT_BITS);
    let page = |kind: &Kind| matches!(kind, Kind::Frames { size: PageSize::Small, pages: 1, .. });
    let buffer = spec.mappings.iter().any(|mapping| {
        (mapping.space, mapping.frames, mapping.at) == (process.vspace, process.ipc_buffer, window::IPC_BUFFER)
    });
    let listens = spec.caps.iter().any(|cap| {
        cap.cnode == process.cspace && cap.slot == slot::EVENTS.0.into() && process.events == Some(cap.object)
    });
    is(process.tcb, "tcb", |kind| *kind == Kind::Tcb)
        && is(process.cspace, "cspace", root)
        && is(process.vspace, "vspace", |kind| *kind == Kind::VSpace)
        && is(process.ipc_buffer, "ipc-buffer", page)
        && buffer
        && process.events.is_none_or(|id| listens && is(id, "events", |kind| *kind == Kind::Notification))
        && process.guest.is_none_or(|(vcpu, ept)| {
            is(vcpu, "vcpu", |kind| *kind == Kind::Vcpu) && is(ept, "ept", |kind| *kind == Kind::Ept)
        })
        && process.guard_bits == layout::GUARD_BITS
        && process.ipc_buffer_at == window::IPC_BUFFER
        && process.stack == window::STACK_TOP
        && (window::IMAGE..window::STACK_TOP - window::STACK_BYTES).contains(&process.entry)
        && (1..ROOT_PRIORITY).contains(&process.priority)
}

/// What the description gives a process is what its capabilities are judged by: servers' endpoints, and the ports that it
/// holds, each once.
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

/// Who holds devices in a process's name is pci-server, and knows the process by its number there.
pub(super) fn a_stop_is_told_to_pci_server(spec: &Spec) -> Result<(), String> {
    let pci = spec.processes.iter().find(|process| process.name == pci::SERVICE.server);
    spec.processes.iter().try_for_each(|process| {
        let Some((events, badge)) = process.on_stop else { return Ok(()) };
        let cap = spec.caps.iter().find(|cap| cap.cnode == process.cspace && cap.slot == pci::SERVICE.slot.0.into());
        let number = cap.and_then(|cap| client_of(cap.badge)).and_then(|number| usize::try_from(number).ok());
        let own = number.is_some_and(|number| number < MAX_CLIENTS && event::client(number) == badge);
        let heard = pci.is_some_and(|pci| pci.events == Some(events));
        unless(own && heard && badge < FAULT_BIT, || process.name.clone())
    })
}

/// Its endpoint, the switch and the console's ports.
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
