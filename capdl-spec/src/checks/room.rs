//! Refuses more devices than the servers' configurations hold, and longer names.

use layout::{
    event,
    limits::{
        MAX_FUNCTION_MEMORY, MAX_FUNCTION_PORTS, MAX_LINES, MAX_NAME, MAX_OWN_LINES, MAX_PCI_FUNCTIONS, MAX_PCI_PORTS,
    },
};
use toml::Spanned;

use super::{Found, places};
use crate::{
    compile::{lines::lines, memory, passthrough},
    description::owners::Owner,
};

/// Longest name of a device or interrupt, in bytes: a few more tell the lines of a device apart.
const NAME_BYTES: usize = MAX_NAME - 8;

pub(super) fn device_names_fit(found: &mut Found) {
    let system = found.system;
    for devices in system.owners().map(|owner| owner.devices) {
        let of_ports = devices.ioports.iter().map(|ports| &ports.get_ref().name);
        let of_devices = devices.pci_devices.iter().filter_map(|device| device.get_ref().name.as_ref());
        let of_irqs = devices.irqs.iter().map(|irq| &irq.name);
        for name in of_ports.chain(of_devices).chain(of_irqs) {
            let text = name.get_ref();
            if text.is_empty() || text.len() > NAME_BYTES || !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
                let remedy = format!("a device's name is 1 to {NAME_BYTES} printable characters of ASCII");
                found.add(name.span(), format!("`{text}` is not a name"), remedy);
            }
        }
    }
}

pub(super) fn functions_list_what_pci_server_holds(found: &mut Found) {
    let functions: Vec<_> = passthrough::functions(found.system).collect();
    for function in &functions {
        let device = &function.owner.devices.pci_devices[function.index];
        let ports = function.owner.devices.ports_of(Some(function.index)).count();
        let memory = device.get_ref().memory.iter().flatten().count();
        if ports > MAX_FUNCTION_PORTS || memory > MAX_FUNCTION_MEMORY {
            let message = format!("{ports} ranges of ports and {memory} of memory are too many for a function");
            let remedy = format!("a function has {MAX_FUNCTION_PORTS} and {MAX_FUNCTION_MEMORY} at most");
            found.add(device.span(), message, remedy);
        }
    }
    if let Some(last) = functions.get(MAX_PCI_FUNCTIONS) {
        let span = last.owner.devices.pci_devices[last.index].span();
        let message = format!("{} PCI functions are too many", functions.len());
        found.add(span, message, format!("pci-server holds {MAX_PCI_FUNCTIONS}"));
    }
}

pub(super) fn ports_and_lines_are_not_too_many(found: &mut Found) {
    let system = found.system;
    let ports = system.owners().flat_map(|owner| owner.devices.ioports);
    let lone: Vec<_> = ports.filter(|ports| ports.get_ref().pci_device.is_none()).collect();
    if let Some(ports) = lone.get(MAX_PCI_PORTS) {
        let message = format!("{} ranges of ports without a PCI device are too many", lone.len());
        found.add(ports.span(), message, format!("pci-server holds {MAX_PCI_PORTS}"));
    }
    let lines = lines(system, &system.parts());
    for owner in passthrough::owners(system) {
        let own = lines.iter().filter(|line| line.owner == owner.role).count();
        if own > MAX_OWN_LINES {
            too_many(found, owner.name, own, MAX_OWN_LINES, "one process");
        }
    }
    let of_line = |owner: &Owner| lines.get(MAX_LINES).is_some_and(|line| line.owner == owner.role);
    if let Some(owner) = system.owners().find(of_line) {
        too_many(found, owner.name, lines.len(), MAX_LINES, "the system, with its own two,");
    }
}

/// root-task signals pci-server when one of them stops, by the client's own bit.
pub(super) fn owners_of_devices_are_among_the_first(found: &mut Found) {
    let system = found.system;
    for owner in system.owners().skip(event::RINGS).filter(|owner| owner.devices.any()) {
        let message =
            format!("`{}` has devices, and {} VMs and components come before it", owner.name.get_ref(), event::RINGS);
        found.add(owner.name.span(), message, format!("put it among the first {}", event::RINGS));
    }
}

fn too_many(found: &mut Found, at: &Spanned<String>, count: usize, most: usize, whose: &str) {
    let message = format!("{count} interrupt lines are too many");
    let remedy = format!("{whose} has {most} at most; a function without `irq` has two");
    found.add(at.span(), message, remedy);
}

pub(super) fn memory_of_devices_is_not_too_large(found: &mut Found) {
    let system = found.system;
    for vm in &system.vms {
        let listed = vm.pci_devices.iter().flat_map(|device| device.get_ref().memory.iter().flatten());
        if listed.into_iter().any(|memory| places::is_misplaced(system.board(), memory.get_ref())) {
            continue;
        }
        let tables = memory::tables(&vm.devices());
        if tables > memory::MOST_TABLES {
            let message = format!("the devices of `{}` have too much memory", vm.name.get_ref());
            let remedy = format!("what is listed may touch {} areas of 2 MiB; leave `memory` out", memory::MOST_TABLES);
            found.add(vm.name.span(), message, remedy);
        }
    }
}
