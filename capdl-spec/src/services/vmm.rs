//! vmm-servers: one for each VM, with its guest's virtual CPUs and memory.

use core::num::NonZeroU16;

use layout::{
    config::{ByteRings, Manager, Pipe, Vmm, Vsock},
    limits::MAX_VCPUS,
    slot,
};
use proto::{block as blocks, file, irq, net as network, pci, serial, timer};

use super::{block, channels::End, net};
use crate::{
    checks::found::{Check, Found},
    compile::{
        builder::of_thread,
        error::CompileError,
        guest_memory,
        lines::lines_of,
        memory,
        part::{Part, Role},
        wire::{Wiring, bounded, encode, name},
    },
    description::{
        board::PortRange,
        system::{Policy, Vm},
    },
    laws::authority::{Badge, Contents, FrameUse, Holding, Space, What, Who, Whose, at, frames, holding},
    spec::{Id, Kind, Rights},
};

/// Priority of every vmm-server.
pub(crate) const PRIORITY: u8 = 100;
/// All guest-physical addresses.
const EVERYWHERE: (u64, u64) = (0, u64::MAX);

pub(crate) static HOLDINGS: [Holding; 3] = [
    holding(Who::Vmm, (slot::vcpu(0).0, slot::vcpu(MAX_VCPUS).0), What::Vcpu, Whose::Guests, Rights::ALL, Badge::None),
    holding(Who::Vmm, at(slot::EPT), What::Ept, Whose::Guests, Rights::ALL, Badge::None),
    holding(
        Who::Vmm,
        (slot::PAGING.0, 1 << layout::ROOT_BITS),
        What::SparePaging,
        Whose::Own,
        Rights::ALL,
        Badge::None,
    ),
];

#[rustfmt::skip]
pub(crate) static FRAMES: [FrameUse; 5] = [
    frames("guest-ram", Space::Process, (guest_memory::HERE, u64::MAX), Rights::READ_WRITE, Contents::Memory),
    frames("guest-ram", Space::Guest, EVERYWHERE, Rights::ALL, Contents::Memory),
    frames("guest-ram", Space::Device, EVERYWHERE, Rights::READ_WRITE, Contents::Memory),
    frames("guest-low", Space::Process, (guest_memory::HERE, guest_memory::HERE + guest_memory::LOW), Rights::READ_WRITE, Contents::Zeros),
    frames("guest-low", Space::Guest, (0, guest_memory::LOW), Rights::ALL, Contents::Zeros),
];

pub(crate) static CHECKS: [Check; 1] = [a_vm_has_one_virtual_cpu];

/// Only this check limits the number; everything else handles as many as the list has.
fn a_vm_has_one_virtual_cpu(found: &mut Found) {
    for (vm, cpus) in found.system.vms.iter().filter_map(|vm| Some((vm, vm.cpus.as_ref()?))) {
        let message = match cpus.get_ref() {
            1 => continue,
            0 => format!("`{}` has no virtual CPU", vm.name.get_ref()),
            many => format!("`{}` has {many} virtual CPUs, and a vmm-server runs one", vm.name.get_ref()),
        };
        found.add(cpus.span(), message, "write cpus = 1, or leave it out");
    }
}

pub(super) fn part(number: usize, vm: &Vm, is_connected: bool) -> Part {
    let devices = vm.devices().any();
    let mut calls = vec![timer::SERVICE, serial::SERVICE, pci::SERVICE, file::SERVICE];
    calls.extend(devices.then_some(irq::SERVICE));
    calls.extend(is_connected.then_some(network::SERVICE));
    calls.extend((!vm.disks.is_empty()).then_some(blocks::SERVICE));
    Part {
        name: format!("vmm-{}", vm.name.get_ref()),
        role: Role::Vmm(number),
        program: "vmm-server".into(),
        priority: PRIORITY,
        calls,
        devices,
        ports: vm.direct_ports.iter().map(|port| one(*port.get_ref())).collect(),
        line: None,
        threads: vm.cpus(),
        is_signalled: false,
        scratch_bits: Some(if devices { layout::SCRATCH_BITS } else { layout::ROOT_BITS }),
        asks_root_task: false,
    }
}

const fn one(port: u16) -> PortRange {
    PortRange { first: port, last: port }
}

/// The kernel objects of a guest.
pub(crate) struct Guest {
    pub ept: Id,
    /// One for each of the process's threads.
    pub vcpus: Vec<Id>,
}

/// Its configuration, with these ends of pipes and channels and these managers, and its guest.
pub(crate) fn configure(
    wiring: &mut Wiring,
    number: usize,
    pipes: Vec<Pipe>,
    channels: Vec<End>,
    managers: Vec<Manager>,
) -> Result<(Vec<u8>, Guest), CompileError> {
    let role = Role::Vmm(number);
    let process = wiring.process(role)?;
    let missing = |what: &str| CompileError::unwired(what, format!("VM {number}"));
    let vm = wiring.system.vms.get(number).ok_or_else(|| missing("description"))?;
    let (kernel, initrd) = wiring.system.boots(number).ok_or_else(|| missing("kernel"))?;
    let mut direct_ports = heapless::Vec::new();
    for port in &vm.direct_ports {
        let ports = wiring.build.ports(process, one(*port.get_ref()));
        direct_ports.push(ports).map_err(|_| CompileError::TooMany("direct ports"))?;
    }
    let nics = bounded(net::rings(wiring, process, role)?, "network devices of a VM")?;
    let disks = block::rings_of_client(wiring, process, vm.disks.len())?;
    let spare = memory::spare(vm);
    let homes: Vec<_> = channels.iter().flat_map(|end| end.homes.clone()).collect();
    let config = encode(&Vmm {
        name: name(vm.name.get_ref())?,
        chipset: vm.chipset(),
        vcpus: vm.cpus() as u8,
        ram: vm.memory.get_ref().0,
        ram_at: wiring.system.ram_at(number),
        kernel: name(&kernel)?,
        initrd: initrd.as_deref().map(name).transpose()?,
        cmdline: vm.cmdline().as_ref().try_into().map_err(|_| CompileError::TooLong(vm.cmdline().into()))?,
        files: wiring.window(process, "files")?,
        console_out: wiring.window(process, "console-out")?,
        console_in: wiring.window(process, "console-in")?,
        direct_ports,
        lines: bounded(lines_of(wiring.system, wiring.parts, role).collect(), "interrupt lines of a process")?,
        directories: spare.directories,
        tables: spare.tables,
        resets: wiring.system.policy.resets.map_or(Policy::RESETS, NonZeroU16::get),
        rng: vm.rng,
        nics,
        disks,
        vsock: vsock(wiring, role, process)?,
        hvc: hvc(wiring, vm, process)?,
        pipes: bounded(pipes, "pipes of a VM")?,
        channels: bounded(channels.into_iter().map(|end| end.config).collect(), "channels of a process")?,
        managers: bounded(managers, "managers of a VM")?,
    })?;
    let guest = guest(wiring, process, number, vm)?;
    for (frames, at, rights) in homes {
        wiring.build.map(guest.ept, frames, at, rights);
    }
    Ok((config, guest))
}

/// The socket device of a VM, or a component's own sockets.
pub(crate) fn vsock(wiring: &Wiring, role: Role, process: usize) -> Result<Option<Vsock>, CompileError> {
    let Some(member) = net::sockets::member(wiring.system, role) else { return Ok(None) };
    let [output, input] = net::sockets::RINGS;
    let (output, input) = (wiring.window(process, output)?, wiring.window(process, input)?);
    Ok(Some(Vsock { cid: member.cid, output, input }))
}

/// The second console of a VM.
fn hvc(wiring: &Wiring, vm: &Vm, process: usize) -> Result<Option<ByteRings>, CompileError> {
    if !vm.hvc {
        return Ok(None);
    }
    let (output, input) = (wiring.window(process, "hvc-out")?, wiring.window(process, "hvc-in")?);
    Ok(Some(ByteRings { output, input }))
}

/// The guest itself: its virtual CPUs, and RAM that only it, its devices and its vmm-server map.
fn guest(wiring: &mut Wiring, process: usize, number: usize, vm: &Vm) -> Result<Guest, CompileError> {
    let owner = wiring.domain(process)?.name.clone();
    let mut vcpus = Vec::new();
    for n in 0..vm.cpus() {
        let vcpu = wiring.build.object(of_thread(&owner, "vcpu", n), Kind::Vcpu);
        wiring.build.cap(process, slot::vcpu(n), vcpu, Rights::ALL, 0);
        vcpus.push(vcpu);
    }
    let ept = wiring.build.object(format!("{owner}.ept"), Kind::Ept);
    guest_memory::ram(wiring, process, ept, number, vm)?;
    guest_memory::spare_paging(wiring, process, ept, vm)?;
    Ok(Guest { ept, vcpus })
}
