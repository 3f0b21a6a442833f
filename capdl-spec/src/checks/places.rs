//! Refuses device memory where no device can be: in RAM, at the interrupt controllers, or above all physical addresses.

use super::Found;
use crate::description::{
    board::{ADDRESSES_END, Board},
    devices::Memory,
};

/// Below this a PC has RAM, the VGA window and the firmware.
const LOW: u64 = 1 << 20;
/// The I/O APICs' and the local APIC's megabytes, both ends inclusive (82093AA, section 3.0; Intel SDM volume 3, section
/// 11.4.1). Message-signalled interrupts are written to the second.
const CONTROLLERS: [(u64, u64); 2] = [(0xfec0_0000, 0xfecf_ffff), (0xfee0_0000, 0xfeef_ffff)];

/// What is wrong with the place of a device's memory, and what to do.
fn misplaced(board: &Board, memory: &Memory) -> Option<(String, String)> {
    let (first, last) = memory.pages();
    let take = |or_not: &str| format!("take address and size from `lspci -v`{or_not}");
    let ram_end = board.pci_memory.0;
    if last >= ADDRESSES_END {
        let message =
            format!("this memory ends at {last:#x}, which is too high: no address is beyond {:#x}", ADDRESSES_END - 1);
        return Some((message, take("")));
    }
    if first < LOW {
        let message = format!("at {first:#x}, below 1 MiB, a PC has its RAM, its video memory and its firmware");
        return Some((message, take(", or leave memory out: then pci-server finds it")));
    }
    // A real board's RAM may end earlier; root-task finds out.
    if board.emulated && first < ram_end {
        let message = format!("at {first:#x} the board `{}` has RAM", board.name);
        return Some((message, format!("devices begin at {ram_end:#x}: {}", take(""))));
    }
    let (from, to) = CONTROLLERS.into_iter().find(|(from, to)| first <= *to && *from <= last)?;
    let message = format!("from {from:#x} to {to:#x} the interrupt controllers are, which are the kernel's own");
    let remedy = if from <= first { "leave it out: no description gives it away".into() } else { take("") };
    Some((message, remedy))
}

/// Whether this memory is misplaced, so that other laws need not report it again.
pub(super) fn is_misplaced(board: &Board, memory: &Memory) -> bool {
    misplaced(board, memory).is_some()
}

pub(super) fn memory_is_where_devices_are(found: &mut Found) {
    let system = found.system;
    for owner in system.owners() {
        for memory in owner.devices.pci_devices.iter().flat_map(|device| device.get_ref().memory.iter().flatten()) {
            if let Some((message, remedy)) = misplaced(system.board(), memory.get_ref()) {
                found.add(memory.span(), message, remedy);
            }
        }
    }
}
