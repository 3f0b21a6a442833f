//! Managers of VMs: components, and the console's commands. A manager and the vmm-server share a page that nobody else
//! maps, and signal each other (`proto::lifecycle`).

use std::collections::BTreeMap;

use layout::{
    config::{Managed, Manager},
    event,
    limits::{MAX_GUESTS, MAX_MANAGED, MAX_MANAGERS},
    slot,
};
use proto::{
    lifecycle::{PAGE, Verb},
    serial,
};

use super::vmm;
use crate::{
    checks::found::{Check, Found},
    compile::{
        error::CompileError,
        part::Role,
        wire::{Wiring, name},
    },
    description::{
        lifecycle::CONSOLE,
        mistake::nearest,
        system::{System, Vm},
    },
    laws::authority::{Badge, Contents, FrameUse, Holding, SHARED, Space, What, Who, Whose, frames, holding},
    spec::Rights,
};

/// What the page is called.
pub(crate) const FRAMES_OF: &str = "lifecycle";

pub(crate) static HOLDINGS: [Holding; 2] = [
    holding(
        Who::Anyone,
        (slot::managed(0).0, slot::managed(MAX_GUESTS).0),
        What::Notification,
        Whose::Managed,
        Rights::WRITE,
        Badge::Bit(event::MANAGED),
    ),
    holding(
        Who::Vmm,
        (slot::manager(0).0, slot::manager(MAX_MANAGERS).0),
        What::Notification,
        Whose::Managers,
        Rights::WRITE,
        Badge::Bit(event::MANAGED),
    ),
];

pub(crate) static FRAMES: [FrameUse; 1] =
    [frames(FRAMES_OF, Space::Process, SHARED, Rights::READ_WRITE, Contents::Zeros)];

pub(crate) static CHECKS: [Check; 5] = [
    managers_are_components_or_the_console,
    managers_are_listed_once,
    managers_may_do_something,
    managers_outrank_their_vms,
    there_is_room_for_managers,
];

/// The VMs that a component, or serial-server, manages.
pub(crate) fn managed(system: &System, role: Role) -> impl Iterator<Item = &Vm> {
    let manager = match role {
        Role::Component(number) => system.components.get(number).map(|component| component.name.get_ref().as_str()),
        Role::Server(serial::SERVICE) => Some(CONSOLE),
        Role::Server(_) | Role::Vmm(_) => None,
    };
    let lists = move |vm: &&Vm| vm.managers.iter().any(|one| Some(one.get_ref().name.as_str()) == manager);
    system.vms.iter().filter(lists)
}

/// Whether a process manages a VM.
pub(crate) fn is_manager(system: &System, role: Role) -> bool {
    managed(system, role).next().is_some()
}

fn managers_are_components_or_the_console(found: &mut Found) {
    let system = found.system;
    let components: Vec<&str> = system.components.iter().map(|one| one.name.get_ref().as_str()).collect();
    let known: Vec<&str> = components.iter().copied().chain([CONSOLE]).collect();
    for manager in system.vms.iter().flat_map(|vm| &vm.managers) {
        let text = manager.get_ref().name.as_str();
        let (message, remedy) = match text {
            CONSOLE if components.contains(&CONSOLE) => (
                format!("`{CONSOLE}` is a component here, and in `managers` whoever types commands at the console"),
                "give the component another name".into(),
            ),
            _ if known.contains(&text) => continue,
            _ if system.vms.iter().any(|vm| vm.name.get_ref() == text) => (
                format!("`{text}` is a VM, and a VM manages none"),
                format!("list components, or \"{CONSOLE}\" for the commands that are typed at the console"),
            ),
            _ => (format!("no component is called `{text}`"), nearest(text, &known)),
        };
        found.add(manager.span(), message, remedy);
    }
}

fn managers_are_listed_once(found: &mut Found) {
    for vm in &found.system.vms {
        for (n, manager) in vm.managers.iter().enumerate() {
            let name = &manager.get_ref().name;
            if vm.managers[..n].iter().any(|other| other.get_ref().name == *name) {
                let message = format!("`{name}` is listed twice");
                found.add(manager.span(), message, "list each manager once, with all that it may do");
            }
        }
    }
}

fn managers_may_do_something(found: &mut Found) {
    for manager in found.system.vms.iter().flat_map(|vm| &vm.managers) {
        if manager.get_ref().may().is_empty() {
            let message = format!("`{}` may do nothing", manager.get_ref().name);
            let verbs = Verb::ALL.map(|verb| format!("\"{}\"", verb.word())).join(", ");
            let remedy = format!("list some of {verbs}, leave `may` out for all of them, or leave the manager out");
            found.add(manager.span(), message, remedy);
        }
    }
}

/// A busy guest would keep a manager below it from running, when it is needed most.
fn managers_outrank_their_vms(found: &mut Found) {
    let system = found.system;
    for (number, component) in system.components.iter().enumerate() {
        let Some(vm) = managed(system, Role::Component(number)).next() else { continue };
        if *component.priority.get_ref() <= vmm::PRIORITY {
            let (name, vm) = (component.name.get_ref(), vm.name.get_ref());
            let message = format!(
                "the priority {} of `{name}` is not above that of `{vm}`, which it manages",
                component.priority.get_ref()
            );
            let remedy = format!("write priority = {} or more: behind a busy VM it would not run", vmm::PRIORITY + 10);
            let named = !component.priority.span().is_empty();
            found.add(if named { component.priority.span() } else { component.name.span() }, message, remedy);
        }
    }
}

fn there_is_room_for_managers(found: &mut Found) {
    let system = found.system;
    for vm in &system.vms {
        if let Some(manager) = vm.managers.get(MAX_MANAGERS) {
            let message = format!("`{}` has more than {MAX_MANAGERS} managers", vm.name.get_ref());
            found.add(manager.span(), message, format!("list {MAX_MANAGERS} at most"));
        }
    }
    for (number, component) in system.components.iter().enumerate() {
        if let Some(vm) = managed(system, Role::Component(number)).nth(MAX_MANAGED) {
            let message = format!("`{}` manages more than {MAX_MANAGED} VMs", component.name.get_ref());
            found.add(vm.name.span(), message, format!("let it manage {MAX_MANAGED} at most"));
        }
    }
}

/// Pages and signals of the console, which serial-server finds in its configuration.
pub(super) fn of_console(wiring: &mut Wiring, server: usize) -> Result<Vec<Managed>, CompileError> {
    let system = wiring.system;
    let mut all = Vec::new();
    for (number, vm) in system.vms.iter().enumerate() {
        if !vm.managers.iter().any(|manager| manager.get_ref().name == CONSOLE) {
            continue;
        }
        let process = wiring.process(Role::Vmm(number))?;
        let page = wiring.share(FRAMES_OF, process, server, PAGE);
        wiring.doorbell(server, slot::managed(all.len()), process, event::MANAGED)?;
        all.push(Managed { name: name(vm.name.get_ref())?, page });
    }
    Ok(all)
}

/// What the configurations of both sides say.
#[derive(Default)]
pub(crate) struct Managing {
    /// By VM.
    pub managers: BTreeMap<usize, Vec<Manager>>,
    /// By component.
    pub managed: BTreeMap<usize, Vec<Managed>>,
}

/// Pages and signals of all components that manage a VM, and what vmm-servers know of all managers.
pub(crate) fn configure(wiring: &mut Wiring) -> Result<Managing, CompileError> {
    let system = wiring.system;
    let mut managing = Managing::default();
    for (number, vm) in system.vms.iter().enumerate() {
        let process = wiring.process(Role::Vmm(number))?;
        for (n, manager) in vm.managers.iter().map(|manager| manager.get_ref()).enumerate() {
            let (page, signal) = match manager.name.as_str() {
                // The doorbell of its rings is this one as well: serial-server looks at all that it shares.
                CONSOLE => (wiring.window(process, FRAMES_OF)?, slot::CONSOLE),
                component => {
                    let known = system.components.iter().position(|one| one.name.get_ref() == component);
                    let component = known.ok_or_else(|| CompileError::unwired("manager", component))?;
                    let other = wiring.process(Role::Component(component))?;
                    let (here, there) = (wiring.build.window(process, PAGE), wiring.build.window(other, PAGE));
                    wiring.build.share(FRAMES_OF, (process, here), (other, there));
                    let managed = managing.managed.entry(component).or_default();
                    wiring.doorbell(other, slot::managed(managed.len()), process, event::MANAGED)?;
                    managed.push(Managed { name: name(vm.name.get_ref())?, page: there });
                    wiring.doorbell(process, slot::manager(n), other, event::MANAGED)?;
                    (here, slot::manager(n))
                }
            };
            let may = manager.may().iter().fold(0, |bits, verb| bits | verb.bit());
            let manager = Manager { name: name(&manager.name)?, page, signal, may };
            managing.managers.entry(number).or_default().push(manager);
        }
    }
    Ok(managing)
}
