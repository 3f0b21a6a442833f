//! block-server: rings shared with the clients that have disks and with the drivers of disks, and signals both ways; memory
//! for what clients write to files. Systems in which nobody drives or has a disk do not have it.

use heapless::Vec as Bounded;
use layout::{
    config::{BlockRings, Window},
    event,
    limits::{MAX_DISKS, MAX_EXPORTS, MAX_OWN_DISKS},
    slot, window,
};
use proto::{
    block::{Config, Disk, Export, MOST, Part, RING_BYTES, SECTOR, SERVICE, Source, layer_table},
    file as files, timer,
};
use toml::Spanned;

use super::{Look, Server};
use crate::{
    checks::found::{Check, Found},
    compile::{
        bundle::PAGE,
        error::CompileError,
        part::Role,
        wire::{Wiring, bounded, encode, name},
    },
    description::{
        devices::Access,
        disks::DiskPart,
        guest::{Form, Origin},
        mistake::nearest,
        system::{Bytes, Component, System},
    },
    laws::authority::{
        Badge, Contents, FrameUse, Holding, RINGS as RING_BITS, Space, What, Who, Whose, at, frames, holding, shared,
        signals,
    },
    spec::{Fill, Id, Rights},
};

pub(super) static SERVER: Server = Server {
    is_wanted: |system| driven(system).next().is_some() || has_files(system),
    files: Some(has_files),
    signals_clients: true,
    is_signalled: |_| true,
    checks: &CHECKS,
    holdings: &HOLDINGS,
    frames: &FRAMES,
    event: |badge| (badge & RING_BITS != 0).then(|| format!("rings of client {}", badge.trailing_zeros())),
    ..Server::new(SERVICE, 180, configure, Look::new("#a16207", "#fdf6e3"))
};

/// The badges of clients and drivers. Those behind are root-task's, for the ends of drivers.
const DOORBELLS: u64 = (1 << (MAX_EXPORTS + MAX_DISKS)) - 1;

static HOLDINGS: [Holding; 2] = [
    holding(
        Who::Anyone,
        at(slot::BLOCK),
        What::Notification,
        Whose::Server(SERVICE),
        Rights::WRITE,
        Badge::Bit(DOORBELLS),
    ),
    signals(SERVICE, Whose::Callers, event::BLOCK),
];

/// The names of the rings of a process's disks: to block-server, and from it. A driver has the first two.
const RINGS: [[&str; 2]; MAX_OWN_DISKS] =
    [["disk0-out", "disk0-in"], ["disk1-out", "disk1-in"], ["disk2-out", "disk2-in"], ["disk3-out", "disk3-in"]];

/// What clients write to files.
const LAYER: FrameUse =
    frames("layer", Space::Server(SERVICE), (window::LAYERS, window::GUEST_RAM), Rights::READ_WRITE, Contents::Zeros);

static FRAMES: [FrameUse; 2 * MAX_OWN_DISKS + 1] = {
    let [[a, b], [c, d], [e, f], [g, h]] = RINGS;
    [shared(a), shared(b), shared(c), shared(d), shared(e), shared(f), shared(g), shared(h), LAYER]
};

static CHECKS: [Check; 10] = [
    names_of_disks_fit,
    disks_have_one_driver,
    disks_are_not_too_many,
    disks_are_driven,
    parts_of_disks_have_one_owner,
    drivers_are_no_clients,
    drivers_have_a_controller,
    files_are_disks,
    files_are_read_only_or_have_a_layer,
    files_and_layers_fit_the_board,
];

/// Most memory for what a VM writes to a file.
const MOST_LAYER: u64 = 256 << 20;

/// Longest name of a disk, in bytes.
const NAME_BYTES: usize = 24;

/// The disks that components drive.
fn driven(system: &System) -> impl Iterator<Item = &Spanned<String>> {
    system.components.iter().filter_map(|component| component.drives.as_ref())
}

/// A VM or a component that has disks.
struct Client<'a> {
    name: &'a str,
    role: Role,
    disks: &'a [Spanned<DiskPart>],
}

/// The processes that have disks, VMs first.
fn clients(system: &System) -> impl Iterator<Item = Client<'_>> {
    let vms = system.vms.iter().enumerate().map(|(n, vm)| Client {
        name: vm.name.get_ref(),
        role: Role::Vmm(n),
        disks: &vm.disks,
    });
    let components = system.components.iter().enumerate().map(|(n, component)| Client {
        name: component.name.get_ref(),
        role: Role::Component(n),
        disks: &component.disks,
    });
    vms.chain(components).filter(|client| !client.disks.is_empty())
}

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

/// Whether a disk of a VM is a file.
fn has_files(system: &System) -> bool {
    system.disk_files().next().is_some()
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

/// Whether two parts certainly have a sector in common.
pub(crate) fn overlap(one: Part, other: Part) -> bool {
    match (one, other) {
        (Part::Whole, _) | (_, Part::Whole) => true,
        (Part::Partition(one), Part::Partition(other)) => one == other,
        (Part::Slice { first: a, sectors: m }, Part::Slice { first: b, sectors: n }) => {
            a < b.saturating_add(n) && b < a.saturating_add(m)
        }
        // The table, which says where all partitions are, is in the first sector.
        (Part::Slice { first: 0, .. }, Part::Partition(_)) | (Part::Partition(_), Part::Slice { first: 0, .. }) => true,
        (Part::Slice { .. }, Part::Partition(_)) | (Part::Partition(_), Part::Slice { .. }) => false,
    }
}

/// What a client gets of a disk; or what is wrong, and what to do.
fn part(disk: &DiskPart) -> Result<Part, (String, &'static str)> {
    match (disk.partition, disk.first, disk.sectors) {
        (None, None, None) => Ok(Part::Whole),
        (Some(number @ 1..=4), None, None) => Ok(Part::Partition(number)),
        (Some(number), None, None) => Err((format!("a disk has no primary partition {number}"), "write 1 to 4")),
        (None, Some(first), Some(sectors)) if sectors > 0 && first.checked_add(sectors).is_some() => {
            Ok(Part::Slice { first, sectors })
        }
        (None, ..) => Err((
            "this is no range of sectors".into(),
            "write both the first sector and how many, for example first = 2048, sectors = 65536",
        )),
        (Some(_), ..) => Err((
            "a disk is a partition or a range of sectors, not both".into(),
            "write partition alone, or first and sectors",
        )),
    }
}

/// Shares the rings of a process's `n`th disk with block-server; returns block-server's windows, to it and from it.
fn share(wiring: &mut Wiring, process: usize, server: usize, n: usize) -> Result<[Window; 2], CompileError> {
    let names = RINGS.get(n).ok_or(CompileError::TooMany("disks of a process"))?;
    Ok(names.map(|name| wiring.share(name, process, server, RING_BYTES)))
}

/// The rings of a client's disks, as its process has them.
pub(super) fn rings_of_client(
    wiring: &Wiring,
    process: usize,
    disks: usize,
) -> Result<Bounded<BlockRings, MAX_OWN_DISKS>, CompileError> {
    bounded((0..disks).map(|n| rings(wiring, process, n)).collect::<Result<_, _>>()?, "disks of a process")
}

/// The rings of a process's `n`th disk.
fn rings(wiring: &Wiring, process: usize, n: usize) -> Result<BlockRings, CompileError> {
    let [out, input] = RINGS.get(n).ok_or(CompileError::TooMany("disks of a process"))?;
    Ok(BlockRings { requests: wiring.window(process, out)?, completions: wiring.window(process, input)? })
}

/// The rings of a driver, as its process has them: requests come from block-server.
pub(super) fn rings_of_driver(wiring: &Wiring, process: usize) -> Result<BlockRings, CompileError> {
    let BlockRings { requests, completions } = rings(wiring, process, 0)?;
    Ok(BlockRings { requests: completions, completions: requests })
}

/// The notification and badge that root-task signals when a driver will not run again, so that nobody waits for it.
pub(crate) fn on_end(wiring: &Wiring, role: Role) -> Result<Option<(Id, u64)>, CompileError> {
    let Role::Component(number) = role else { return Ok(None) };
    let drivers = wiring.system.components.iter().enumerate().filter(|(_, component)| component.drives.is_some());
    match drivers.map(|(number, _)| number).position(|driver| driver == number) {
        Some(disk) => Ok(Some((wiring.events(wiring.server(SERVICE)?)?, event::ended(disk)))),
        None => Ok(None),
    }
}

fn configure(wiring: &mut Wiring) -> Result<Vec<u8>, CompileError> {
    let server = wiring.server(SERVICE)?;
    let mut signals = Vec::new();
    for (client, process) in wiring.clients(SERVICE).into_iter().enumerate() {
        if client >= MAX_EXPORTS + MAX_DISKS {
            return Err(CompileError::TooMany("clients of block-server"));
        }
        wiring.doorbell(process, slot::BLOCK, server, event::ring(client))?;
        signals.push((process, wiring.signal(server, process, event::BLOCK)?));
    }
    let system = wiring.system;
    let signal = |process| {
        let signal = signals.iter().find(|(to, _)| *to == process).map(|(_, slot)| *slot);
        signal.ok_or_else(|| CompileError::unwired("signal", format!("process {process}")))
    };
    let mut disks = Vec::new();
    for (n, component) in system.components.iter().enumerate() {
        let Some(disk) = &component.drives else { continue };
        let process = wiring.process(Role::Component(n))?;
        let [completions, requests] = share(wiring, process, server, 0)?;
        let rings = BlockRings { requests, completions };
        disks.push(Disk { name: name(disk.get_ref())?, rings, signal: signal(process)? });
    }
    // fileserver is configured later, and finds the buffer then.
    let files = match has_files(system) {
        true => {
            wiring.share("files", server, wiring.server(files::SERVICE)?, files::BUFFER_BYTES);
            Some(wiring.window(server, "files")?)
        }
        false => None,
    };
    let mut exports = Vec::new();
    let mut layers = window::LAYERS;
    for Client { name: client, role, disks } in clients(system) {
        for (own, disk) in disks.iter().map(Spanned::get_ref).enumerate() {
            let process = wiring.process(role)?;
            let source = source(wiring, server, disk, &mut layers, exports.len())?;
            let [requests, completions] = share(wiring, process, server, own)?;
            exports.push(Export {
                client: name(client)?,
                source,
                part: part(disk).map_err(|(what, _)| CompileError::unwired("part", what))?,
                read_only: disk.read_only,
                rings: BlockRings { requests, completions },
                signal: signal(process)?,
            });
        }
    }
    encode(&Config {
        disks: bounded(disks, "disks")?,
        exports: bounded(exports, "disks of VMs and components")?,
        files,
    })
}

/// Where the sectors of a client's disk are. Memory for writes to a file is at `at`, which then is behind it.
fn source(
    wiring: &mut Wiring,
    server: usize,
    disk: &DiskPart,
    at: &mut u64,
    number: usize,
) -> Result<Source, CompileError> {
    let system = wiring.system;
    let missing = || CompileError::unwired("disk", format!("number {number}"));
    let Some(file) = &disk.file else {
        let name = disk.name.as_ref().ok_or_else(missing)?;
        let number = driven(system).position(|driven| driven.get_ref() == name.get_ref()).ok_or_else(missing)?;
        return Ok(Source::Disk(number as u8));
    };
    let index = system.image_index(file.get_ref(), &Form::AsIs).ok_or_else(missing)?;
    let image = system.images().into_iter().nth(index).ok_or_else(missing)?;
    let layer = match &disk.copy_on_write {
        None => None,
        Some(size) => {
            let layer = Window { at: *at, len: size.get_ref().0 };
            let vspace = wiring.domain(server)?.vspace;
            let frames = wiring.build.frames(format!("{}.layer{number}", SERVICE.server), layer.len, Fill::Zero);
            wiring.build.map(vspace, frames, layer.at, Rights::READ_WRITE);
            *at += layer.len.next_multiple_of(PAGE);
            Some(layer)
        }
    };
    Ok(Source::File { name: name(&image.name)?, layer })
}
