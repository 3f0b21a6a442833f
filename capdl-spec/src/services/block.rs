//! block-server: rings shared with the clients that have disks and with the drivers of disks, and signals both ways; memory
//! for what clients write to files. Systems in which nobody drives or has a disk do not have it.

mod checks;

use heapless::Vec as Bounded;
use layout::{
    config::{BlockRings, Window},
    event,
    limits::{MAX_DISKS, MAX_EXPORTS, MAX_OWN_DISKS},
    slot, window,
};
use proto::{
    block::{Config, Disk, Export, Part, RING_BYTES, SERVICE, Source},
    file as files,
};
use toml::Spanned;

use super::{Look, Server};
use crate::{
    compile::{
        bundle::PAGE,
        error::CompileError,
        part::Role,
        wire::{Wiring, bounded, encode, name},
    },
    description::{disks::DiskPart, guest::Form, system::System},
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
    checks: &checks::CHECKS,
    holdings: &HOLDINGS,
    frames: &FRAMES,
    event: |badge| (badge & RING_BITS != 0).then(|| format!("rings of client {}", badge.trailing_zeros())),
    ..Server::new(SERVICE, 180, configure, Look::new("#a16207", "#fdf6e3"))
};

/// The badges of clients and drivers. Those behind are root-task's, for the ends of drivers.
pub(crate) const DOORBELLS: u64 = (1 << (MAX_EXPORTS + MAX_DISKS)) - 1;

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

/// Whether a disk of a VM is a file.
fn has_files(system: &System) -> bool {
    system.disk_files().next().is_some()
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
