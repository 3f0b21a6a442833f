//! Bounds on memory: paging structures that a vmm-server maps itself, and what must fit below memory at chosen
//! addresses.

use layout::slot;

use crate::{
    compile::{
        builder::Builder,
        placement::{Placed, TRUSTED_RAM, placed},
    },
    description::{
        owners::Devices,
        system::{System, Vm},
    },
    spec::Level,
};

/// Page directories and page tables of an EPT that a vmm-server with devices maps itself: one directory per gigabyte,
/// and tables for pages of 4 KiB.
const DIRECTORIES: u8 = 4;
const TABLES: u64 = 16;

/// What a vmm-server may add to the EPT.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spare {
    pub directories: u8,
    pub tables: u8,
}

/// Spare paging structures for the memory of the VM's devices: one table per 2 MiB that the description lists, in
/// addition to the default number.
pub(crate) fn spare(vm: &Vm) -> Spare {
    let devices = vm.devices();
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

/// Physical memory that the kernel, root-task's program with the specification, and its CSpace take at most, beside the
/// bundle's blobs. The kernel lies
/// at 1 MiB and moves root-task right behind itself; the CSpace (8 MiB) follows, aligned to its size.
const BELOW_BUNDLE: u64 = 24 << 20;

/// The placed memory, if any, that begins below the end of root-task with a bundle of this size.
pub(crate) fn under_root_task(system: &System, build: &Builder) -> Option<(Placed, u64)> {
    let most = TRUSTED_RAM - BELOW_BUNDLE;
    let bundle = build.blobs.len();
    placed(system).first().filter(|_| bundle > most).map(|placed| (*placed, bundle))
}
