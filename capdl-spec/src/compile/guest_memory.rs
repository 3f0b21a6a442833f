//! Maps the memory of guests, of their devices, and of components' devices. Ordinary RAM of a guest begins at
//! guest-physical 0, in large frames. The guest has them in small pages where a processor may have the erratum "iTLB
//! multihit", by which code in large ones stops the machine (decision 0041). Where devices use it without an IOMMU, its
//! guest-physical address is its physical address, since the guest's driver gives devices guest-physical addresses and
//! nothing translates them; one more page, at 0, is the guest's memory below 1 MiB. Where an IOMMU confines them, it is
//! in small frames, since an IOMMU need not support others, and the devices' I/O address spaces map it too.

use layout::{slot, window};

use crate::{
    compile::{error::CompileError, memory::spare, part::Role, passthrough::functions, placement, wire::Wiring},
    description::system::Vm,
    spec::{Fill, Id, Kind, Level, PageSize, Rights},
};

/// Where a vmm-server has guest-physical address 0.
pub(crate) const HERE: u64 = window::GUEST_RAM;
/// Low memory of a guest whose RAM is elsewhere: one large page.
pub(crate) const LOW: u64 = 1 << PageSize::Large.bits();

/// The RAM of a guest, in its EPT and in its vmm-server.
pub(crate) fn ram(wiring: &mut Wiring, process: usize, ept: Id, number: usize, vm: &Vm) -> Result<(), CompileError> {
    let ram = vm.memory.get_ref().0;
    match placement::placed_at(wiring.system, Role::Vmm(number)) {
        Some(paddr) => {
            guest_memory(wiring, (process, vm), ept, "guest-low", (0, LOW), PageSize::Large, Fill::Zero)?;
            let fill = Fill::Ram { paddr };
            guest_memory(wiring, (process, vm), ept, "guest-ram", (paddr, ram), PageSize::Large, fill)?;
            Ok(())
        }
        None => {
            let size = if vm.devices().confined() { PageSize::Small } else { PageSize::Large };
            let frames = guest_memory(wiring, (process, vm), ept, "guest-ram", (0, ram), size, Fill::Zero)?;
            io_spaces(wiring, process, frames, 0)
        }
    }
}

/// Pages at this guest-physical address.
fn guest_memory(
    wiring: &mut Wiring,
    (process, vm): (usize, &Vm),
    ept: Id,
    what: &str,
    (at, bytes): (u64, u64),
    size: PageSize,
    fill: Fill,
) -> Result<Id, CompileError> {
    let domain = wiring.domain(process)?;
    let (name, vspace) = (format!("{}.{what}", domain.name), domain.vspace);
    let pages = (bytes >> size.bits()) as u32;
    let frames = wiring.build.object(name, Kind::Frames { size, pages, fill });
    wiring.build.map(vspace, frames, HERE + at, Rights::READ_WRITE);
    let pages = if wiring.system.in_small_pages(vm) { PageSize::Small } else { size };
    wiring.build.map_in(ept, frames, at, Rights::ALL, pages);
    Ok(frames)
}

/// Lets a vmm-server with devices map their memory in the EPT.
pub(crate) fn spare_paging(wiring: &mut Wiring, process: usize, ept: Id, vm: &Vm) -> Result<(), CompileError> {
    let spare = spare(vm);
    if spare.directories == 0 {
        return Ok(());
    }
    wiring.build.cap(process, slot::EPT, ept, Rights::ALL, 0);
    let owner = wiring.domain(process)?.name.clone();
    let directories = (0..spare.directories).map(|n| (Level::Directory, format!("{owner}.spare-directory.{n}")));
    let tables = (0..spare.tables).map(|n| (Level::Table, format!("{owner}.spare-table.{n}")));
    for ((level, name), n) in directories.chain(tables).zip(0..) {
        let paging = wiring.build.object(name, Kind::SparePaging { level });
        wiring.build.cap(process, slot::PAGING.plus(n), paging, Rights::ALL, 0);
    }
    Ok(())
}

/// Maps memory in the I/O address space of each of the process's functions that has one.
pub(crate) fn io_spaces(wiring: &mut Wiring, process: usize, frames: Id, at: u64) -> Result<(), CompileError> {
    let (owner, role) = (wiring.domain(process)?.name.clone(), wiring.part(process)?.role);
    for function in functions(wiring.system).filter(|function| function.owner.role == role) {
        let Some(domain) = function.domain(wiring.system) else { continue };
        let function = function.device.address;
        let space = wiring.build.object(format!("{owner}.iospace.{function}"), Kind::IoSpace { domain, function });
        wiring.build.map(space, frames, at, Rights::READ_WRITE);
    }
    Ok(())
}
