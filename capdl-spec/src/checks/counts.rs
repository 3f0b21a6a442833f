//! Refuses lists that are longer than any server could hold. Other checks know the exact limit of each server.

use core::ops::Range;

use toml::Spanned;

use super::Found;

/// Entries of the longest list.
const MOST: usize = 256;

pub(super) fn lists_have_an_end(found: &mut Found) {
    let system = found.system;
    let mut check = |what: &str, count: usize, span: Option<Range<usize>>| {
        if count > MOST {
            let message = format!("{count} {what} are too many");
            found.add(span.unwrap_or(0..0), message, format!("no list has more than {MOST} entries"));
        }
    };
    let (vms, components) = (&system.vms, &system.components);
    check("VMs", vms.len(), vms.get(MOST).map(|vm| vm.name.span()));
    check("components", components.len(), components.get(MOST).map(|component| component.name.span()));
    let networks = &system.networks;
    check("networks", networks.len(), networks.get(MOST).map(|network| network.name.span()));
    for network in networks.iter().take(MOST) {
        check("members", network.members.len(), network.members.get(MOST).map(Spanned::span));
    }
    let vsocks = &system.vsocks;
    check("networks of sockets", vsocks.len(), vsocks.get(MOST).map(|vsock| vsock.name.span()));
    for vsock in vsocks.iter().take(MOST) {
        check("members", vsock.members.len(), vsock.members.get(MOST).map(Spanned::span));
    }
    let pipes = &system.pipes;
    check("pipes", pipes.len(), pipes.get(MOST).map(|pipe| pipe.name.span()));
    for pipe in pipes.iter().take(MOST) {
        check("members", pipe.members.len(), pipe.members.get(MOST).map(Spanned::span));
    }
    let channels = &system.channels;
    check("channels", channels.len(), channels.get(MOST).map(|channel| channel.name.span()));
    for channel in channels.iter().take(MOST) {
        check("members", channel.members.len(), channel.members.get(MOST).map(Spanned::span));
        let dataports = channel.dataports.as_deref().unwrap_or_default();
        check("dataports", dataports.len(), dataports.get(MOST).map(Spanned::span));
    }
    for devices in system.owners().take(MOST).map(|owner| owner.devices) {
        check("ranges of ports", devices.ioports.len(), devices.ioports.get(MOST).map(Spanned::span));
        check("PCI functions", devices.pci_devices.len(), devices.pci_devices.get(MOST).map(Spanned::span));
        check("interrupts", devices.irqs.len(), devices.irqs.get(MOST).map(|irq| irq.name.span()));
        for memory in devices.pci_devices.iter().take(MOST).filter_map(|device| device.get_ref().memory.as_ref()) {
            check("ranges of memory", memory.len(), memory.get(MOST).map(Spanned::span));
        }
    }
    for vm in vms.iter().take(MOST) {
        check("disks", vm.disks.len(), vm.disks.get(MOST).map(Spanned::span));
        check("managers", vm.managers.len(), vm.managers.get(MOST).map(Spanned::span));
        check("direct ports", vm.direct_ports.len(), vm.direct_ports.get(MOST).map(Spanned::span));
    }
    for component in components.iter().take(MOST) {
        check("services", component.services.len(), component.services.get(MOST).map(Spanned::span));
        check("files", component.files.len(), component.files.get(MOST).map(Spanned::span));
        check("disks", component.disks.len(), component.disks.get(MOST).map(Spanned::span));
    }
    let faults = &system.policy.on_fault;
    check("policies", faults.len(), faults.keys().nth(MOST).map(Spanned::span));
    let nevers = &system.policy.never;
    check("policies", nevers.len(), nevers.get(MOST).map(|never| never.from.span()));
    for never in nevers.iter().take(MOST) {
        for names in [&never.except_through, &never.even_if_taken_over] {
            check("names", names.len(), names.get(MOST).map(Spanned::span));
        }
    }
    let masters = system.policy.interrupts_by_dma.as_deref().unwrap_or_default();
    check("names", masters.len(), masters.get(MOST).map(Spanned::span));
    let defects = &system.accept_kernel_defects;
    check("kernel defects", defects.len(), defects.get(MOST).map(Spanned::span));
    let cards = &system.emulator.cards;
    check("cards", cards.len(), cards.get(MOST).map(|card| card.slot.span()));
}
