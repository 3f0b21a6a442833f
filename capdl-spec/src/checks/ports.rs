//! Mistakes in `ioports`, and in all other uses of ports.

use core::ops::Range;

use layout::{
    guest_board,
    mainboard::{self, CARDS},
};

use super::Found;
use crate::description::{board::PortRange, devices::IoPorts, owners::Owner, system::System};

/// Ports there are.
const PORTS: u32 = 0x1_0000;

pub(super) fn port_ranges_are_ranges(found: &mut Found) {
    let system = found.system;
    for ports in system.owners().flat_map(|owner| owner.devices.ioports) {
        let IoPorts { start, end, .. } = ports.get_ref();
        let (first, behind) = (*start.get_ref(), *end.get_ref());
        if behind > PORTS || first >= PORTS {
            let span = if behind > PORTS { end.span() } else { start.span() };
            found.add(span, "the highest port is 0xffff".into(), "`end` is the port behind the last, 0x10000 at most");
        } else if first >= behind {
            let message = format!("the range from {first:#x} to {behind:#x} has no ports");
            let remedy = format!("`end` is the port behind the last: for one port write end = {:#x}", first + 1);
            found.add(end.span(), message, remedy);
        }
    }
}

pub(super) fn ports_name_a_function_that_is_there(found: &mut Found) {
    let system = found.system;
    for owner in system.owners() {
        for ports in owner.devices.ioports {
            let ports = ports.get_ref();
            let (Some(number), true) = (&ports.pci_device, owner.devices.function_of(ports).is_none()) else {
                continue;
            };
            let message = format!("no PCI device {:#x} with ports `{}`", number.get_ref(), ports.name.get_ref());
            let remedy = format!(
                "list it in the pci_devices of `{}` (of several with this number the name decides), or leave pci_device out",
                owner.name.get_ref()
            );
            found.add(number.span(), message, remedy);
        }
    }
}

pub(super) fn no_port_has_two_owners(found: &mut Found) {
    let board = found.system.board();
    let mut owned: Vec<(PortRange, String)> = Vec::new();
    // A description may deliberately give the power-off port to a guest as a debug port.
    let switch = board.power_off.map(|switch| PortRange { first: switch.port, last: switch.port });
    for (range, span, owner, debug) in given(found) {
        let boards: Vec<_> = board.owned().into_iter().filter(|(own, ..)| range.overlaps(own)).collect();
        for (own, device, server) in &boards {
            let common = range.overlap(own);
            let message = format!("port {common} is that of the board's {device}");
            let what = if common == range { "it out".to_string() } else { format!("{common} out of the range") };
            found.add(span.clone(), message, format!("leave {what}: {} has it", server.server));
        }
        if !boards.is_empty() {
            continue;
        }
        let taken = owned.iter().find(|(other, _)| range.overlaps(other)).map(|(other, whose)| (*other, whose.clone()));
        if let Some((other, whose)) = taken {
            let message = format!("port {} belongs to {whose} already", range.overlap(&other));
            found.add(span, message, "give each port to one VM or component, once");
            continue;
        }
        if let Some(switch) = switch.filter(|switch| !debug && range.overlaps(switch)) {
            let message = format!("port {switch} switches the machine off, which is root-task's to do");
            found.add(span, message, "leave it out of the range");
            continue;
        }
        owned.push((range, format!("`{owner}`")));
    }
}

/// Ports of the mainboard that reach memory, raise SMIs, reset or power off: no PCI function has them, and for other
/// devices the description has to trust the owner.
pub(super) fn ports_of_the_mainboard_take_trust(found: &mut Found) {
    let system = found.system;
    for ports in system.owners().flat_map(|owner| owner.devices.ioports) {
        let (first, last) = ports.get_ref().range();
        let range = PortRange { first, last };
        if first > last || is_taken(system, range) {
            continue;
        }
        let (span, of_function) = (ports.span(), ports.get_ref().pci_device.is_some());
        let (trusted, takes_trust) = (ports.get_ref().trusted(), mainboard::takes_trust(first, last));
        match mainboard::among(first, last) {
            Some(fixed) if fixed.kernel => {
                let message = format!("port {range} is the kernel's own: {}", fixed.what);
                found.add(span, message, "leave it out: no description gives it away");
            }
            Some(fixed) if of_function => {
                let message = format!("port {range} is the mainboard's, and no PCI function's: {}", fixed.what);
                found.add(span, message, "take the function's own from `lspci -v`, or leave its ports out");
            }
            among if takes_trust && !of_function && !trusted => {
                let what = among.map_or("a chipset's power management may be there", |fixed| fixed.what);
                let message = format!("who has port {range} may have the whole machine: {what}");
                let remedy = format!(
                    "a card without PCI has its ports in {:#x}-{:#x}; a function's need pci_device; if this is meant, write \
                     trusted = true in this entry",
                    CARDS.0, CARDS.1
                );
                found.add(span, message, remedy);
            }
            _ if trusted && (of_function || !takes_trust) => {
                let message = format!("port {range} takes no trust");
                found.add(span, message, "leave trusted out");
            }
            _ => {}
        }
    }
}

/// A guest would find the modelled device there, never the real one.
pub(super) fn ports_are_not_those_of_the_guests_board(found: &mut Found) {
    let system = found.system;
    for ports in system.owners().filter(Owner::is_vm).flat_map(|owner| owner.devices.ioports) {
        let (first, last) = ports.get_ref().range();
        if first > last || is_taken(system, PortRange { first, last }) || mainboard::is_kernels(first, last) {
            continue;
        }
        if let Some(&(first, last, what)) = guest_board::owner_of_ports(first, last) {
            let message = format!("port {} is that of the guest's own {what}", PortRange { first, last });
            found.add(ports.span(), message, "leave it out of the range, or give it to a component");
        }
    }
}

/// Ports of a server, root-task's power-off port, or a guest's debug ports: another law reports these.
fn is_taken(system: &System, range: PortRange) -> bool {
    let one = |port| PortRange { first: port, last: port };
    let switch = system.board().power_off.map(|switch| one(switch.port));
    let debug = system.vms.iter().flat_map(|vm| &vm.direct_ports).map(|port| one(*port.get_ref()));
    let owned = system.board().owned().into_iter().map(|(owned, ..)| owned);
    owned.chain(switch).chain(debug).any(|taken| range.overlaps(&taken))
}

/// Every range that the description gives away: its place in the text, its owner, and whether it is a debug port.
fn given(found: &Found) -> Vec<(PortRange, Range<usize>, String, bool)> {
    let mut given = Vec::new();
    let debug_ports = found.system.board().debug_ports;
    for vm in &found.system.vms {
        // Another law reports ports that are not debug ports.
        for port in vm.direct_ports.iter().filter(|port| debug_ports.iter().any(|(known, _)| known == port.get_ref())) {
            let range = PortRange { first: *port.get_ref(), last: *port.get_ref() };
            given.push((range, port.span(), vm.name.get_ref().clone(), true));
        }
    }
    for owner in found.system.owners() {
        for ports in owner.devices.ioports {
            let (first, last) = ports.get_ref().range();
            if first <= last {
                given.push((PortRange { first, last }, ports.span(), owner.name.get_ref().clone(), false));
            }
        }
    }
    given
}
