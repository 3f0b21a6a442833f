//! Components: the user's own processes beside the VMs. The description says which servers each may call.

use layout::{
    Service,
    config::{Component as Config, Managed, Window},
    window,
};
use proto::{block, file, irq, net, pci};

use super::{by_word, channels::End, vmm};
use crate::{
    compile::{
        error::CompileError,
        guest_memory::io_spaces,
        lines::lines_of,
        part::{Part, Role},
        passthrough::COMPONENT_BUS,
        placement,
        wire::{Wiring, bounded, encode, name},
    },
    description::system::Component,
    laws::authority::{Contents, FrameUse, SHARED, Space, frames},
    spec::{Fill, Rights},
};

pub(crate) static FRAMES: [FrameUse; 2] = [
    frames("dma-memory", Space::Process, SHARED, Rights::READ_WRITE, Contents::Memory),
    frames(
        "dma-memory",
        Space::Device,
        (COMPONENT_BUS, COMPONENT_BUS + window::SHARED_STEP),
        Rights::READ_WRITE,
        Contents::Memory,
    ),
];

/// Servers that it calls: those of its description, and those that its devices need. Unknown words are left out here;
/// `checks` refuses them.
pub(crate) fn calls(component: &Component) -> Vec<Service> {
    let described = component.services.iter().filter_map(|word| by_word(word.get_ref()));
    let mut calls: Vec<Service> = described.map(|server| server.service).collect();
    let of_devices = if component.devices().any() { [irq::SERVICE, pci::SERVICE].as_slice() } else { &[] };
    let has_disk = component.drives.is_some() || !component.disks.is_empty();
    let of_guests = [component.uplink.as_ref().map(|_| net::SERVICE), has_disk.then_some(block::SERVICE)];
    for service in of_devices.iter().chain(of_guests.iter().flatten()) {
        if !calls.contains(service) {
            calls.push(*service);
        }
    }
    calls
}

pub(super) fn part(number: usize, component: &Component, is_connected: bool) -> Part {
    let (mut calls, devices) = (calls(component), component.devices().any());
    if is_connected && !calls.contains(&net::SERVICE) {
        calls.push(net::SERVICE);
    }
    let scratch_bits = if devices { layout::SCRATCH_BITS } else { layout::ROOT_BITS };
    Part {
        name: component.name.get_ref().clone(),
        role: Role::Component(number),
        program: component.image.get_ref().clone(),
        priority: *component.priority.get_ref(),
        devices,
        ports: Vec::new(),
        line: None,
        threads: 1,
        is_signalled: false,
        scratch_bits: calls.contains(&irq::SERVICE).then_some(scratch_bits),
        asks_root_task: false,
        calls,
    }
}

/// Its memory for devices, and its configuration, with these ends of channels and the VMs that it manages.
pub(crate) fn configure(
    wiring: &mut Wiring,
    number: usize,
    channels: Vec<End>,
    managed: Vec<Managed>,
) -> Result<Vec<u8>, CompileError> {
    let role = Role::Component(number);
    let process = wiring.process(role)?;
    let component = wiring.system.components.get(number);
    let component = component.ok_or_else(|| CompileError::unwired("description", format!("component {number}")))?;
    let dma = dma_memory(wiring, process, role, component)?;
    let files = match wiring.part(process)?.calls(file::SERVICE) {
        true => Some(wiring.window(process, "files")?),
        false => None,
    };
    let disk = match &component.drives {
        Some(_) => Some(super::block::rings_of_driver(wiring, process)?),
        None => None,
    };
    let vsock = vmm::vsock(wiring, role, process)?;
    let args = component.args.as_ref().map_or("", |args| args.get_ref());
    encode(&Config {
        name: name(component.name.get_ref())?,
        files,
        args: args.try_into().map_err(|_| CompileError::TooLong(args.into()))?,
        lines: bounded(lines_of(wiring.system, wiring.parts, role).collect(), "interrupt lines of a process")?,
        dma,
        nics: bounded(super::net::rings(wiring, process, role)?, "network devices of a process")?,
        disk,
        disks: super::block::rings_of_client(wiring, process, component.disks.len())?,
        vsock,
        channels: bounded(channels.into_iter().map(|end| end.config).collect(), "channels of a process")?,
        managed: bounded(managed, "VMs that a component manages")?,
    })
}

/// A component's memory for its devices: where it is mapped, and its address on the bus.
fn dma_memory(
    wiring: &mut Wiring,
    process: usize,
    role: Role,
    component: &Component,
) -> Result<Option<(Window, u64)>, CompileError> {
    let Some(memory) = &component.dma_memory else { return Ok(None) };
    let placed = placement::placed_at(wiring.system, role);
    let (bus, fill) = match placed {
        Some(paddr) => (paddr, Fill::Ram { paddr }),
        None => (COMPONENT_BUS, Fill::Zero),
    };
    let len = memory.get_ref().0;
    let here = wiring.build.window(process, len);
    let domain = wiring.domain(process)?;
    let (name, vspace) = (format!("{}.dma-memory", domain.name), domain.vspace);
    let frames = wiring.build.frames(name, len, fill);
    wiring.build.map(vspace, frames, here.at, Rights::READ_WRITE);
    if placed.is_none() {
        io_spaces(wiring, process, frames, bus)?;
    }
    Ok(Some((here, bus)))
}
