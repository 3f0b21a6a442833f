//! Memory of guests, and of components for their devices. Ordinary RAM of a guest begins at guest-physical 0, in large
//! pages. Where devices use it without an IOMMU, it lies at the guest-physical address that it has in the machine, above
//! one page at 0 for what a PC has below 1 MiB. Where an IOMMU confines them, it is in small pages, for IOMMUs need not
//! know others, and the devices' I/O address spaces hold it too.

use layout::{config::Window, slot, window};

use crate::{
    builder::Builder,
    devices::Devices,
    passthrough::{self, Placed, functions},
    spec::{Fill, Id, Kind, Level, PageSize, Rights},
    system::System,
    wire::Wiring,
};

/// Page directories and page tables of an EPT that a vmm-server with devices maps itself: a directory a gigabyte, and
/// tables where pages of 4 KiB are.
const DIRECTORIES: u8 = 4;
const TABLES: u64 = 16;

/// What a vmm-server may add to the EPT.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spare {
    pub directories: u8,
    pub tables: u8,
}

/// Spare paging structures for the memory of the VM's devices: for what the description lists a table each 2 MiB, beside
/// the usual.
pub(crate) fn spare(system: &System, vm: usize) -> Spare {
    let devices = system.vms[vm].devices();
    if !devices.any() {
        return Spare::default();
    }
    Spare { directories: DIRECTORIES, tables: tables(&devices).min(MOST_TABLES) as u8 }
}

/// Spare page tables for these devices.
pub(crate) fn tables(devices: &Devices) -> u64 {
    let listed = devices.pci_devices.iter().flat_map(|device| &device.get_ref().memory).flatten();
    let tables: u64 = listed
        .map(|memory| {
            let (first, last) = memory.get_ref().pages();
            (last >> Level::Table.bits()) - (first >> Level::Table.bits()) + 1
        })
        .sum();
    tables.max(TABLES)
}

/// As many as there are slots behind the directories.
pub(crate) const MOST_TABLES: u64 = (1 << layout::ROOT_BITS) - slot::PAGING.0 as u64 - DIRECTORIES as u64;

impl Wiring<'_> {
    /// The guest itself: its virtual CPU, and RAM that only it, its devices and its vmm-server see.
    pub fn guest(&mut self, process: usize, vm: usize) -> (Id, Id) {
        let owner = self.build.domains[process].name.clone();
        let vcpu = self.build.object(format!("{owner}.vcpu"), Kind::Vcpu);
        self.build.cap(process, slot::VCPU, vcpu, Rights::ALL, 0);
        let ept = self.build.object(format!("{owner}.ept"), Kind::Ept);
        let ram = self.system.vms[vm].memory.get_ref().0;
        let confined = self.system.vms[vm].devices().confined();
        match passthrough::placed_at(self.system, vm) {
            Some(paddr) => {
                self.guest_memory(process, ept, "guest-low", (0, 1), PageSize::Large, Fill::Zero);
                let pages = (ram >> PageSize::Large.bits()) as u32;
                self.guest_memory(process, ept, "guest-ram", (paddr, pages), PageSize::Large, Fill::Ram { paddr });
            }
            None => {
                let size = if confined { PageSize::Small } else { PageSize::Large };
                let pages = (ram >> size.bits()) as u32;
                let frames = self.guest_memory(process, ept, "guest-ram", (0, pages), size, Fill::Zero);
                self.io_spaces(process, frames, 0);
            }
        }
        self.spare_paging(process, vm, ept);
        (vcpu, ept)
    }

    /// Pages at this guest-physical address.
    fn guest_memory(
        &mut self,
        process: usize,
        ept: Id,
        what: &str,
        (at, pages): (u64, u32),
        size: PageSize,
        fill: Fill,
    ) -> Id {
        let (owner, vspace) = (self.build.domains[process].name.clone(), self.build.domains[process].vspace);
        let frames = self.build.object(format!("{owner}.{what}"), Kind::Frames { size, pages, fill });
        self.build.map(vspace, frames, window::GUEST_RAM + at, Rights::READ_WRITE);
        self.build.map(ept, frames, at, Rights::ALL);
        frames
    }

    /// Lets a vmm-server with devices map their memory in the EPT.
    fn spare_paging(&mut self, process: usize, vm: usize, ept: Id) {
        let spare = spare(self.system, vm);
        if spare.directories == 0 {
            return;
        }
        self.build.cap(process, slot::EPT, ept, Rights::ALL, 0);
        let owner = self.build.domains[process].name.clone();
        let directories = (0..spare.directories).map(|n| (Level::Directory, format!("{owner}.spare-directory.{n}")));
        let tables = (0..spare.tables).map(|n| (Level::Table, format!("{owner}.spare-table.{n}")));
        for ((level, name), n) in directories.chain(tables).zip(0..) {
            let paging = self.build.object(name, Kind::SparePaging { level });
            self.build.cap(process, slot::PAGING.plus(n), paging, Rights::ALL, 0);
        }
    }

    /// Maps memory in the I/O address space of each of the process's functions, if they have such.
    fn io_spaces(&mut self, process: usize, frames: Id, at: u64) {
        let owner = self.build.domains[process].name.clone();
        for function in functions(self.system).filter(|function| function.process == process) {
            let Some(domain) = function.domain(self.system) else { continue };
            let address = function.device.address;
            let (bus, device, function) = (address.bus, address.device, address.function);
            let kind = Kind::IoSpace { domain, bus, device, function };
            let space = self.build.object(format!("{owner}.iospace.{address}"), kind);
            self.build.map(space, frames, at, Rights::READ_WRITE);
        }
    }

    /// A component's memory for its devices: where it is mapped, and its address on the bus.
    pub fn dma_memory(&mut self, process: usize, component: usize) -> Option<(Window, u64)> {
        let len = self.system.components[component].dma_memory.as_ref()?.get_ref().0;
        let placed = passthrough::placed_at(self.system, self.system.vms.len() + component);
        let (bus, fill) = match placed {
            Some(paddr) => (paddr, Fill::Ram { paddr }),
            None => (passthrough::COMPONENT_BUS, Fill::Zero),
        };
        let here = self.build.window(process, len);
        let owner = &self.build.domains[process];
        let (name, vspace) = (format!("{}.dma-memory", owner.name), owner.vspace);
        let frames = self.build.frames(name, len, fill);
        self.build.map(vspace, frames, here.at, Rights::READ_WRITE);
        if placed.is_none() {
            self.io_spaces(process, frames, bus);
        }
        Some((here, bus))
    }
}

/// Physical memory that the kernel, root-task's program with the specification, and its CSpace take at most, beside the
/// bundle's blobs. The kernel lies
/// at 1 MiB and moves root-task right behind itself; the CSpace (8 MiB) follows, aligned to its size.
const BELOW_BUNDLE: u64 = 24 << 20;

/// The placed memory that begins below the end of root-task with a bundle of this size.
pub(crate) fn under_root_task(system: &System, build: &Builder) -> Option<(Placed, u64)> {
    let most = passthrough::TRUSTED_RAM - BELOW_BUNDLE;
    let bundle = build.blobs.len();
    passthrough::placed(system).first().filter(|_| bundle > most).map(|placed| (*placed, bundle))
}
