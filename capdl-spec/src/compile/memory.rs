//! Bounds on memory: paging structures that a vmm-server maps itself.

use layout::slot;

use crate::{
    description::{owners::Devices, system::Vm},
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
