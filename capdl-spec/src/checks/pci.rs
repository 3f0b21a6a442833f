//! Mistakes in `pci_devices`, and with the memory that devices use.

use core::ops::Range;
use std::collections::BTreeMap;

use layout::Bdf;
use toml::Spanned;

use super::{Found, RAM_END, places};
use crate::{
    compile::{
        bundle::PAGE,
        placement::{placed, placed_at},
    },
    description::{
        devices::{Memory, PciDevice},
        mistake::nearest,
        owners::Devices,
        system::{Bytes, Decompress},
    },
};

/// Most of a component's memory for its devices: what a window of its address space holds.
pub(crate) const MOST_DMA_MEMORY: u64 = layout::window::SHARED_STEP;
/// Capabilities to 4 KiB frames that root-task has room for: of the 2^18 slots of its CSpace.
const FRAME_SLOTS: u64 = 200_000;

pub(super) fn functions_have_one_owner(found: &mut Found) {
    let mut owners = BTreeMap::new();
    let system = found.system;
    for owner in system.owners() {
        for device in owner.devices.pci_devices {
            let address = device.get_ref().address;
            if let Some(other) = owners.insert(address, owner.name.get_ref()) {
                let message = format!("the function {address} is `{other}`'s already");
                found.add(device.span(), message, "give each function to one VM or component, once");
            }
        }
    }
}

pub(super) fn memory_is_whole_pages(found: &mut Found) {
    let system = found.system;
    let devices = system.owners().flat_map(|owner| owner.devices.pci_devices);
    for memory in devices.flat_map(|device| device.get_ref().memory.iter().flatten()) {
        let &Memory { paddr, size, page_bits } = memory.get_ref();
        if !matches!(page_bits, 12 | 20 | 21) {
            let message = format!("there are no pages of 2^{page_bits} bytes");
            found.add(memory.span(), message, "page_bits is 12, 20 or 21; left out, it is 12");
        } else if size == 0 {
            found.add(memory.span(), "this memory has no bytes".into(), "write its size as lspci -v prints it");
        } else if !paddr.is_multiple_of(1 << page_bits) {
            let message = format!("the address {paddr:#x} is not that of a page of {}", Bytes(1 << page_bits));
            let remedy = format!(
                "pages near it begin at {:#x} and {:#x}",
                paddr >> page_bits << page_bits,
                ((paddr >> page_bits) + 1) << page_bits
            );
            found.add(memory.span(), message, remedy);
        }
    }
}

/// Compared by pages, since a mapping cannot divide a page between owners.
pub(super) fn memory_has_one_owner(found: &mut Found) {
    let mut taken: Vec<(u64, u64, String)> = Vec::new();
    let system = found.system;
    for owner in system.owners() {
        let ram = owner.memory.filter(|_| owner.is_vm()).map(|ram| {
            let at = placed_at(system, owner.role).unwrap_or(0);
            (at, at.saturating_add(ram.get_ref().0))
        });
        for device in owner.devices.pci_devices {
            for memory in device.get_ref().memory.iter().flatten() {
                let (first, last) = memory.get_ref().pages();
                if places::is_misplaced(system.board(), memory.get_ref()) {
                    continue;
                }
                if let Some((.., other)) = taken.iter().find(|(from, to, _)| first <= *to && *from <= last) {
                    let message = format!("`{other}` has pages of this memory already");
                    found.add(memory.span(), message, "list each page once");
                } else if ram.is_some_and(|(start, end)| first < end && start <= last) {
                    let message = format!("the guest has RAM at {first:#x}");
                    found.add(memory.span(), message, "give the VM less memory: devices keep their addresses in it");
                }
                taken.push((first, last, device.get_ref().label()));
            }
        }
    }
}

pub(super) fn dma_is_confined_or_trusted(found: &mut Found) {
    let system = found.system;
    let flags = system.vms.iter().map(|vm| &vm.pci_devices_iospace);
    let flags = flags.chain(system.components.iter().map(|component| &component.pci_devices_iospace));
    for (owner, flag) in system.owners().zip(flags) {
        if !owner.devices.iospace {
            continue;
        }
        if let Some(flag) = flag.as_ref().filter(|_| !system.board().iommu) {
            let message = format!("the board `{}` has no IOMMU", system.board().name);
            found.add(
                flag.span(),
                message,
                "leave it out; a function that is to be bus master needs dma = \"trusted\"",
            );
        }
        for trust in owner.devices.pci_devices.iter().filter_map(|device| device.get_ref().dma.as_ref()) {
            let message = "this function has an I/O address space and is trusted without".into();
            found.add(trust.span(), message, "leave dma out: the IOMMU confines it (pci_devices_iospace)");
        }
    }
}

/// What may write to 0xfeexxxxx, which is an interrupt of any vector: no I/O address space holds these writes.
fn raise_interrupts(devices: Devices) -> Vec<(Range<usize>, String)> {
    let masters = devices.pci_devices.iter().filter(|device| devices.is_master(device.get_ref()));
    let functions = masters.map(|device| (device.span(), format!("the function {}", device.get_ref().address)));
    let trusted = devices.ioports.iter().filter(|ports| ports.get_ref().trusted());
    functions.chain(trusted.map(|ports| (ports.span(), "who has these ports".into()))).collect()
}

pub(super) fn interrupts_by_dma_are_allowed(found: &mut Found) {
    let system = found.system;
    let Some(allowed) = &system.policy.interrupts_by_dma else { return };
    // A name that is misspelt is the only mistake then.
    if allowed.iter().any(|name| system.owners().all(|owner| owner.name.get_ref() != name.get_ref())) {
        return;
    }
    for owner in system.owners() {
        let name = owner.name.get_ref();
        if allowed.iter().any(|one| one.get_ref() == name) {
            continue;
        }
        for (span, who) in raise_interrupts(owner.devices) {
            let message = format!("{who} can raise any interrupt by DMA to 0xfeexxxxx");
            let remedy = format!("give it no DMA, or name `{name}` in the interrupts_by_dma of [policy]");
            found.add(span, message, remedy);
        }
    }
}

pub(super) fn interrupts_by_dma_name_who_can(found: &mut Found) {
    let system = found.system;
    let owners = system.owners().filter(|owner| !raise_interrupts(owner.devices).is_empty());
    let known: Vec<&str> = owners.map(|owner| owner.name.get_ref().as_str()).collect();
    for name in system.policy.interrupts_by_dma.iter().flatten() {
        if !known.contains(&name.get_ref().as_str()) {
            let message = format!("no function of `{}` may be bus master", name.get_ref());
            let remedy = if known.is_empty() { "leave it out".into() } else { nearest(name.get_ref(), &known) };
            found.add(name.span(), message, remedy);
        }
    }
}

/// Of groups, the host knows the functions of one device; pci-server finds on the board what is behind one bridge.
pub(super) fn devices_have_one_owner_or_are_trusted(found: &mut Found) {
    let system = found.system;
    for owner in system.owners() {
        let device = |address: Bdf| (address.bus, address.device);
        let others = system.owners().filter(|other| other.role != owner.role);
        let others: Vec<_> =
            others.flat_map(|other| other.devices.pci_devices.iter().map(move |one| (one, other.name))).collect();
        for function in owner.devices.pci_devices {
            let address = function.get_ref().address;
            let same = |(one, _): &&(&Spanned<PciDevice>, _)| device(one.get_ref().address) == device(address);
            match &function.get_ref().group {
                Some(trust) if !owner.devices.iospace => {
                    let message = "no IOMMU confines this function".into();
                    found.add(trust.span(), message, "leave group out: it is for pci_devices_iospace = 1");
                }
                None if owner.devices.iospace => {
                    let Some((one, other)) = others.iter().find(same) else { continue };
                    let (one, other) = (one.get_ref().address, other.get_ref());
                    let message = format!("the function {one} of the same device is `{other}`'s");
                    let remedy = "no IOMMU keeps them apart: give both to one owner, or write group = \"trusted\"";
                    found.add(function.span(), message, remedy);
                }
                _ => {}
            }
        }
    }
}

pub(super) fn trusted_memory_has_a_place(found: &mut Found) {
    let system = found.system;
    let end = system.board().guest_ram.min(RAM_END);
    for placed in placed(system) {
        let mut owners = system.owners();
        let Some(memory) = owners.find(|owner| owner.role == placed.owner).and_then(|owner| owner.memory) else {
            continue;
        };
        if placed.paddr.saturating_add(placed.bytes) > end {
            let message = format!("with its place in RAM, at {:#x}, this memory ends too high", placed.paddr);
            let remedy =
                format!("memory of all that have devices of dma = \"trusted\" has to end below {}", Bytes(end));
            found.add(memory.span(), message, remedy);
        }
    }
    for vm in system.vms.iter().filter(|vm| vm.devices().trusted() && vm.decompress == Decompress::Guest) {
        let trust = vm.pci_devices.iter().find_map(|device| device.get_ref().dma.as_ref());
        let message = "the guest's kernel has to be moved to its RAM's place, which takes the build".into();
        found.add(trust.map_or(0..0, |trust| trust.span()), message, "leave out decompress = \"guest\"");
    }
}

pub(super) fn confined_memory_fits_root_task(found: &mut Found) {
    let system = found.system;
    let mut slots = 0;
    for owner in system.owners().filter(|owner| owner.devices.confined()) {
        let Some(memory) = owner.memory else { continue };
        let copies = 2 + owner.devices.pci_devices.len() as u64;
        slots += (memory.get_ref().0 / PAGE).saturating_mul(copies);
        if slots > FRAME_SLOTS {
            let message = "this memory takes more capabilities than root-task has room for".to_string();
            let remedy = format!(
                "behind an IOMMU each 4 KiB take two and one more a function, of {FRAME_SLOTS}: give the VM less memory"
            );
            found.add(memory.span(), message, remedy);
            return;
        }
    }
}

pub(super) fn components_have_memory_for_dma(found: &mut Found) {
    let system = found.system;
    for component in &system.components {
        let devices = component.devices();
        let masters = devices.trusted() || devices.confined();
        match &component.dma_memory {
            Some(memory) if !masters => {
                let message = "no function of this component may use memory".into();
                let remedy = "leave dma_memory out, or write dma = \"trusted\", or pci_devices_iospace = 1";
                found.add(memory.span(), message, remedy);
            }
            Some(memory)
                if memory.get_ref().0 == 0
                    || memory.get_ref().0 % PAGE != 0
                    || memory.get_ref().0 > MOST_DMA_MEMORY =>
            {
                let message = format!("{} is no size for dma_memory", memory.get_ref());
                found.add(
                    memory.span(),
                    message,
                    format!("write a multiple of {} up to {}", Bytes(PAGE), Bytes(MOST_DMA_MEMORY)),
                );
            }
            None if masters => {
                let message =
                    format!("functions of `{}` may use memory, but there is none for them", component.name.get_ref());
                found.add(component.name.span(), message, "add a line such as: dma_memory = \"64 KiB\"");
            }
            _ => {}
        }
    }
}
