//! The contents of the process's own CSpace, by a debug kernel: a line for every slot that is not empty, with the
//! kernel's number for the type of the capability.

use layout::{ROOT_BITS, SCRATCH_BITS, Slot, scratch_cptr, slot};
use sel4::{CPtr, debug_cap_identify};

/// Identifies every CPtr that may have a capability, and some that cannot.
pub fn list() {
    for number in 0..1 << ROOT_BITS {
        let kind = at(Slot(number).cptr());
        if kind != 0 {
            log::info!("slot {number} type {kind}");
        }
    }
    if at(slot::SCRATCH.cptr()) != 0 {
        for number in 0..1 << SCRATCH_BITS {
            let kind = at(scratch_cptr(number));
            if kind != 0 {
                log::info!("scratch {number} type {kind}");
            }
        }
    }
    // Bits above those of the two levels are the guard, which is zero.
    let beyond = (ROOT_BITS + SCRATCH_BITS..64).filter(|&bit| at(1 << bit | slot::LOG.cptr()) != 0);
    log::info!("slots end, {} beyond", beyond.count());
}

fn at(cptr: u64) -> u32 {
    debug_cap_identify(CPtr::from_bits(cptr))
}
