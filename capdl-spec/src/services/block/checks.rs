//! What may be wrong with the disks of a description, and their drivers.

use layout::limits::{MAX_DISKS, MAX_EXPORTS, MAX_OWN_DISKS};
use proto::{
    block::{MOST, SECTOR, layer_table},
    timer,
};

use super::{Client, clients, driven, overlap, part};
use crate::{
    checks::found::{Check, Found},
    compile::bundle::PAGE,
    description::{
        devices::Access,
        guest::Origin,
        mistake::nearest,
        system::{Bytes, Component, System},
    },
    spec::OnFault,
};

pub(super) static CHECKS: [Check; 11] = [
    names_of_disks_fit,
    disks_have_one_driver,
    disks_are_not_too_many,
    disks_are_driven,
    parts_of_disks_have_one_owner,
    drivers_are_no_clients,
    drivers_have_a_controller,
    drivers_keep_their_disk,
    files_are_disks,
    files_are_read_only_or_have_a_layer,
    files_and_layers_fit_the_board,
];

/// Most memory for what a VM writes to a file.
const MOST_LAYER: u64 = 256 << 20;

/// Longest name of a disk, in bytes.
const NAME_BYTES: usize = 24;

fn names_of_disks_fit(found: &mut Found) {
    for disk in driven(found.system) {
        let text = disk.get_ref();
        if text.is_empty() || text.len() > NAME_BYTES || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let remedy = format!("a disk's name is 1 to {NAME_BYTES} printable characters of ASCII, without blanks");
            found.add(disk.span(), format!("`{text}` is not a name"), remedy);
        }
    }
}

fn disks_have_one_driver(found: &mut Found) {
    let mut taken = Vec::new();
    for disk in driven(found.system) {
        if taken.contains(&disk.get_ref()) {
            let message = format!("the disk `{}` has a driver already", disk.get_ref());
            found.add(disk.span(), message, "each disk has one driver: choose another name for this one");
        }
        taken.push(disk.get_ref());
    }
}

fn disks_are_not_too_many(found: &mut Found) {
    let system = found.system;
    if let Some(disk) = driven(system).nth(MAX_DISKS) {
        let message = format!("{} disks are too many", driven(system).count());
        found.add(disk.span(), message, format!("block-server has {MAX_DISKS} at most"));
    }
    if let Some(disk) = clients(system).flat_map(|client| client.disks).nth(MAX_EXPORTS) {
        let message = "VMs and components have too many disks".into();
        found.add(disk.span(), message, format!("{MAX_EXPORTS} in all, at most"));
    }
    for Client { name, disks, .. } in clients(system) {
        if let Some(disk) = disks.get(MAX_OWN_DISKS) {
            let message = format!("{} disks are too many for `{name}`", disks.len());
            found.add(disk.span(), message, format!("{MAX_OWN_DISKS} at most"));
        }
    }
}

fn disks_are_driven(found: &mut Found) {
    let known: Vec<&str> = driven(found.system).map(|disk| disk.get_ref().as_str()).collect();
    for disk in clients(found.system).flat_map(|client| client.disks) {
        let Some(name) = &disk.get_ref().name else { continue };
        if disk.get_ref().file.is_some() {
            continue;
        }
        if !known.contains(&name.get_ref().as_str()) {
            let message = format!("no component drives a disk `{}`", name.get_ref());
            let remedy = match known.is_empty() {
                true => format!("add a [[component]] with drives = \"{}\"", name.get_ref()),
                false => nearest(name.get_ref(), &known),
            };
            found.add(name.span(), message, remedy);
        }
        if let Err((message, remedy)) = part(disk.get_ref()) {
            found.add(disk.span(), message, remedy);
        }
    }
}

/// What block-server cannot know before it has read the table is checked there again.
fn parts_of_disks_have_one_owner(found: &mut Found) {
    let disks: Vec<_> = clients(found.system).flat_map(|client| client.disks).collect();
    for (n, disk) in disks.iter().enumerate() {
        let (this, Ok(part)) = (disk.get_ref(), self::part(disk.get_ref())) else { continue };
        let Some(name) = &this.name else { continue };
        let taken = disks.iter().take(n).map(|other| other.get_ref()).any(|other| {
            let same = other.name.as_ref().is_some_and(|other| other.get_ref() == name.get_ref());
            let same = same && !(other.read_only && this.read_only);
            same && self::part(other).is_ok_and(|other| overlap(part, other))
        });
        if taken {
            let message = format!("this part of `{}` has an owner already", name.get_ref());
            found.add(disk.span(), message, "give each its own part, or write read_only = true for all of them");
        }
    }
}

/// The rings of a driver have the names that those of a client's first disk have.
fn drivers_are_no_clients(found: &mut Found) {
    for component in found.system.components.iter().filter(|component| component.drives.is_some()) {
        if let Some(disk) = component.disks.first() {
            let message = format!("`{}` drives a disk, and has none of block-server's", component.name.get_ref());
            found.add(disk.span(), message, "leave `disks` out: give the disk to another component, or to a VM");
        }
    }
}

/// Bytes of memory that a driver of ours has for its controller: a page of structures, and the longest request.
const LEAST_DMA_MEMORY: u64 = 4096 + MOST as u64 * SECTOR as u64;

/// What drivers of ours need; the user's own may be for something else than a controller.
fn drivers_have_a_controller(found: &mut Found) {
    for component in &found.system.components {
        let Component { name, image, drives: Some(disk), .. } = component else { continue };
        let name = name.get_ref();
        let (device, mediated) = match image.get_ref().as_str() {
            "ide-driver" => ("{ address = \"00:01.1\", dma = \"trusted\" }", false),
            "ahci-driver" => ("{ address = \"00:1f.2\", access = \"mediated\", dma = \"trusted\" }", true),
            _ => continue,
        };
        match component.pci_devices.first() {
            None => {
                let message = format!("`{name}` has no controller to drive the disk with");
                found.add(disk.span(), message, format!("list it, for example pci_devices = [{device}]"));
            }
            Some(controller) if mediated && controller.get_ref().access == Access::Direct => {
                let message = format!("`{name}` cannot reach the registers of its controller");
                found.add(controller.span(), message, "add access = \"mediated\": pci-server passes each access on");
            }
            Some(_) => {}
        }
        if let Some(memory) = component.dma_memory.as_ref().filter(|memory| memory.get_ref().0 < LEAST_DMA_MEMORY) {
            let message = format!("{} of dma_memory are too few for `{name}`", memory.get_ref());
            found.add(memory.span(), message, format!("{} KiB at least", LEAST_DMA_MEMORY >> 10));
        }
        if !component.services.iter().any(|word| word.get_ref() == timer::SERVICE.word) {
            let message = format!("`{name}` cannot tell when its controller does not answer");
            found.add(image.span(), message, "add services = [\"timer\"]");
        }
    }
}

/// A driver that begins anew does not know which disk its predecessor had. If that one is away, the first port with a disk has
/// another, to which requests would go that are in the ring.
fn drivers_keep_their_disk(found: &mut Found) {
    for component in found.system.components.iter().filter(|component| component.image.get_ref() == "ahci-driver") {
        let name = component.name.get_ref();
        let policy = found.system.policy.on_fault.iter().find(|(process, _)| process.get_ref() == name);
        let says = component.args.as_ref().is_some_and(|args| args.get_ref().trim_start().starts_with("port "));
        if let (Some((process, OnFault::Restart)), false) = (policy, says) {
            let message = format!("`{name}` may come back with another disk than it had");
            let remedy = format!(
                "add args = \"port 0\" to `{name}`, with the port that it logs when it starts: without that it takes the first \
                 one that has a disk"
            );
            found.add(process.span(), message, remedy);
        }
    }
}

/// A disk is on a disk that is driven, or it is a whole file, which has sectors.
fn files_are_disks(found: &mut Found) {
    let system = found.system;
    for disk in clients(system).flat_map(|client| client.disks) {
        let (span, disk) = (disk.span(), disk.get_ref());
        let file = match (&disk.name, &disk.file) {
            (Some(_), None) => continue,
            (None, Some(file)) => file,
            (Some(_), Some(_)) => {
                let remedy = "write name for a disk that a component drives, or file for one of the boot image's";
                found.add(span, "a disk is driven by a component or is a file, not both".into(), remedy);
                continue;
            }
            (None, None) => {
                let remedy = "add name = \"main\" for a disk that a component drives, or file = \"./disk.img\"";
                found.add(span, "this disk has no name, and is no file".into(), remedy);
                continue;
            }
        };
        if disk.partition.is_some() || disk.first.is_some() || disk.sectors.is_some() {
            let remedy = "leave partition, first and sectors out, or cut the part into a file of its own";
            found.add(span, "a file is a disk as a whole".into(), remedy);
        }
        // Whether it is there is another check's.
        let Some(bytes) = length(system, file.get_ref()) else { continue };
        if !bytes.is_multiple_of(SECTOR.into()) {
            let message = format!("`{}` has {bytes} bytes, which are no whole sectors", file.get_ref().base_name());
            let remedy = format!("pad it to a multiple of {SECTOR}: truncate -s %{SECTOR} FILE");
            found.add(file.span(), message, remedy);
        }
    }
}

fn files_are_read_only_or_have_a_layer(found: &mut Found) {
    let system = found.system;
    for disk in clients(system).flat_map(|client| client.disks) {
        let (span, disk) = (disk.span(), disk.get_ref());
        match (&disk.file, &disk.copy_on_write) {
            (None, None) => {}
            (None, Some(size)) => {
                let remedy = "leave copy_on_write out: the VM writes to the disk itself, unless it is read_only";
                found.add(size.span(), "only a disk that is a file can have copy_on_write".into(), remedy);
            }
            (Some(_), None) if disk.read_only => {}
            (Some(_), None) => {
                let remedy = "add read_only = true, or copy_on_write = \"4 MiB\" for what the VM writes";
                found.add(span, "nobody writes the file of a disk".into(), remedy);
            }
            (Some(_), Some(size)) if disk.read_only => {
                let remedy = "write one of them";
                found.add(size.span(), "a disk that is read_only needs no memory for writes".into(), remedy);
            }
            (Some(file), Some(size)) => {
                let bytes = size.get_ref().0;
                // The table of what was written, and one block.
                let least = layer_table(length(system, file.get_ref()).unwrap_or(0)) + PAGE;
                if bytes < least || !bytes.is_multiple_of(PAGE) || bytes > MOST_LAYER {
                    let message = format!("{} is no size for copy_on_write", size.get_ref());
                    let (unit, least, most) = (Bytes(PAGE), Bytes(least), Bytes(MOST_LAYER));
                    found.add(size.span(), message, format!("write a multiple of {unit}, from {least} up to {most}"));
                }
            }
        }
    }
}

/// All are in memory while the system runs: each file once, and what each VM writes to it.
fn files_and_layers_fit_the_board(found: &mut Found) {
    let (system, board) = (found.system, found.system.board());
    let guests: u64 = system.vms.iter().map(|vm| vm.memory.get_ref().0).fold(0, u64::saturating_add);
    let mut left = board.guest_ram.saturating_sub(guests);
    let mut seen = Vec::new();
    for (disk, file) in system.disk_files() {
        let new = !seen.contains(&file.get_ref());
        seen.push(file.get_ref());
        let bytes = length(system, file.get_ref()).filter(|_| new).unwrap_or(0);
        let layer = disk.copy_on_write.as_ref().map(|size| (size.span(), size.get_ref().0));
        for (span, bytes) in core::iter::once((file.span(), bytes)).chain(layer) {
            let Some(rest) = left.checked_sub(bytes) else {
                let message = format!("{} are more than the {} of memory that are left", Bytes(bytes), Bytes(left));
                let remedy = format!("VMs, files and copy_on_write may have {} in all", Bytes(board.guest_ram));
                return found.add(span, message, remedy);
            };
            left = rest;
        }
    }
}

/// Bytes of a file, if it is there. Those of stock images are known when the build makes them.
fn length(system: &System, file: &Origin) -> Option<u64> {
    let Origin::File(path) = file else { return None };
    let about = system.folder().join(path).metadata().ok()?;
    about.is_file().then_some(about.len())
}
