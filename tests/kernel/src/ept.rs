//! Guest-physical address spaces. An invalid INVEPT of the kernel (patch 0005) would show in the emulator's log, which
//! the host checks; Bochs flushes translations at every exit, so the checks of 0006 test the tables, not the flush.

use sel4::cap::{self, cap_type};
use sel4::{EptAttributes, Error, Word, init_thread, ipc_buffer};

use crate::bench::{Bench, delete, revoke};
use crate::check::{Check, Outcome, expect};
use crate::guest::{Guest, reason};

/// The checks of this file.
pub const CHECKS: &[Check] = &[
    Check { defect: "invept", name: "a guest loses a page that is unmapped", run: unmapped },
    Check { defect: "copies", name: "a guest loses a page whose copied capability is deleted", run: deleted },
    Check { defect: "copies", name: "a guest loses a page whose original capability is revoked", run: revoked },
    Check { defect: "ept-levels", name: "a failed mapping tells which table is missing", run: missing_level },
];

/// `mov eax, [0x2000]; out 0x80, al; jmp` to the start.
const READ: [u8; 9] = [0xa1, 0x00, 0x20, 0x00, 0x00, 0xe6, 0x80, 0xeb, 0xf7];
/// The page that it reads.
const PAGE: Word = 0x2000;

/// A guest reads a page, which is then unmapped by `take`, through the original capability or the copy that mapped it.
fn read_before_and_after(bench: &mut Bench, take: fn(cap::Granule, cap::Granule) -> sel4::Result<()>) -> Outcome {
    let guest = Guest::new(bench, &READ)?;
    let frame: cap::Granule = bench.make()?;
    bench.scratch.write(frame, 0, &[0x11, 0x22])?;
    let copy = bench.copy(frame)?;
    guest.map(copy, PAGE)?;
    let mut at = 0;
    for _ in 0..3 {
        let exit = guest.enter(at);
        expect("reason of the exit after a read", exit.reason, reason::PORT)?;
        expect("what was read", exit.eax, 0x2211)?;
        at = exit.next;
    }
    take(frame, copy)?;
    expect("reason of the exit at a read of nothing", guest.enter(at).reason, reason::EPT_VIOLATION)
}

/// 0006 (and 0005).
fn unmapped(bench: &mut Bench) -> Outcome {
    read_before_and_after(bench, |_, copy| copy.frame_unmap())
}

/// 0012: the frame itself has another capability.
fn deleted(bench: &mut Bench) -> Outcome {
    read_before_and_after(bench, |_, copy| delete(copy))
}

/// 0012: as a server revokes a frame that it handed over.
fn revoked(bench: &mut Bench) -> Outcome {
    read_before_and_after(bench, |original, _| revoke(original))
}

/// 0015: the number of address bits that the missing table translates, as in an address space of a process.
fn missing_level(bench: &mut Bench) -> Outcome {
    let ept: cap::EptPml4 = bench.make()?;
    init_thread::slot::ASID_POOL.cap().asid_pool_assign(ept)?;
    let frame: cap::Granule = bench.make()?;
    // The message of an error: the kind of the failed look-up, bits left, and so on (seL4 manual, section 10.1).
    let level = || {
        let mapped = frame.frame_map_ept(ept, 0, sel4::CapRights::read_write(), EptAttributes::DEFAULT);
        mapped.map_err(|error| (error, ipc_buffer().word(2)))
    };
    expect("without a PDPT", level(), Err((Error::FailedLookup, 39)))?;
    bench.make::<cap_type::EptPdpt>()?.ept_pdpt_map(ept, 0, EptAttributes::DEFAULT)?;
    expect("without a page directory", level(), Err((Error::FailedLookup, 30)))?;
    bench.make::<cap_type::EptPageDirectory>()?.ept_page_directory_map(ept, 0, EptAttributes::DEFAULT)?;
    expect("without a page table", level(), Err((Error::FailedLookup, 21)))?;
    bench.make::<cap_type::EptPageTable>()?.ept_page_table_map(ept, 0, EptAttributes::DEFAULT)?;
    expect("with all tables", level(), Ok(()))
}
