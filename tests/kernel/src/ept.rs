//! Guest-physical address spaces. An invalid INVEPT of the kernel (patch 0005) would show in the emulator's log, which
//! the host checks; Bochs flushes translations at every exit, so the checks of 0006 test the tables, not the flush.

use sel4::cap::{self, cap_type};
use sel4::{CapRights, EptAttributes, Error, Word, init_thread, ipc_buffer};

use crate::bench::{Bench, delete, revoke};
use crate::check::{Check, Outcome, Seen, expect};
use crate::guest::{Guest, reason};

/// The checks of this file.
pub const CHECKS: &[Check] = &[
    Check { defect: "invept", name: "a guest loses a page that is unmapped", run: unmapped },
    Check { defect: "copies", name: "a guest loses a page whose copied capability is deleted", run: deleted },
    Check { defect: "copies", name: "a guest loses a page whose original capability is revoked", run: revoked },
    Check { defect: "large-pages", name: "a large frame fills a page table, and leaves it empty", run: in_small_pages },
    Check { defect: "large-pages", name: "a revoked large frame leaves small pages", run: revoked_from_small_pages },
    Check { defect: "large-pages", name: "a large page of a device is not executed", run: not_executed },
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

/// Guest-physical address of a large frame; and its last page, which the guest writes and reads.
const LARGE: Word = 0x20_0000;
const LAST: Word = 0x3f_f000;
/// `mov byte [0x3ff000], 0x5a; mov eax, [0x3ff000]; out 0x80, al; mov eax, [0x3ff000]; out 0x80, al; jmp` to the last two.
const WRITE: [u8; 23] = [
    0xc6, 0x05, 0x00, 0xf0, 0x3f, 0x00, 0x5a, 0xa1, 0x00, 0xf0, 0x3f, 0x00, 0xe6, 0x80, 0xa1, 0x00, 0xf0, 0x3f, 0x00,
    0xe6, 0x80, 0xeb, 0xf7,
];

fn map_large(guest: &Guest, frame: cap::LargePage, attributes: EptAttributes) -> sel4::Result<()> {
    frame.frame_map_ept(guest.ept, LARGE, CapRights::read_write(), attributes)
}

/// A guest that has written to a large frame in small pages: the guest, the table, the frame, and where the guest is.
fn wrote(bench: &mut Bench) -> Result<(Guest, cap::EptPageTable, cap::LargePage, Word), Seen> {
    let guest = Guest::new(bench, &WRITE)?;
    let (table, frame): (cap::EptPageTable, cap::LargePage) = (bench.make()?, bench.make()?);
    table.ept_page_table_map(guest.ept, LARGE, EptAttributes::DEFAULT)?;
    let copy = bench.copy(frame)?;
    expect("a large frame where an empty page table is", map_large(&guest, copy, EptAttributes::DEFAULT), Ok(()))?;
    let exit = guest.enter(0);
    expect("reason of the exit after a write", (exit.reason, exit.eax), (reason::PORT, 0x5a))?;
    Ok((guest, table, copy, exit.next))
}

/// 0060: no small page fits in until the frame is unmapped; and what the guest wrote is at the same place in a large page.
fn in_small_pages(bench: &mut Bench) -> Outcome {
    let (guest, table, frame, at) = wrote(bench)?;
    let small: cap::Granule = bench.make()?;
    expect("a small frame in a filled table", guest.map(small, LAST), Err(Error::DeleteFirst))?;
    frame.frame_unmap()?;
    expect("reason of the exit at a read of nothing", guest.enter(at).reason, reason::EPT_VIOLATION)?;
    expect("a small frame in an emptied table", guest.map(small, LAST), Ok(()))?;
    let mapped = map_large(&guest, frame, EptAttributes::DEFAULT);
    expect("a large frame where a page table is in use", mapped, Err(Error::DeleteFirst))?;
    delete(table)?;
    map_large(&guest, frame, EptAttributes::DEFAULT)?;
    let exit = guest.enter(at);
    expect("what a large page has there", (exit.reason, exit.eax), (reason::PORT, 0x5a))
}

/// 0060: as a guest's memory is taken back.
fn revoked_from_small_pages(bench: &mut Bench) -> Outcome {
    let (guest, _, frame, at) = wrote(bench)?;
    delete(frame)?;
    expect("reason of the exit at a read of nothing", guest.enter(at).reason, reason::EPT_VIOLATION)?;
    expect("a small frame in an emptied table", guest.map(bench.make()?, LAST), Ok(()))
}

/// `mov byte [0x200000], 0xf4; mov eax, 0x200000; jmp eax`: writes HLT there, and goes to it.
const EXECUTE: [u8; 14] = [0xc6, 0x05, 0x00, 0x00, 0x20, 0x00, 0xf4, 0xb8, 0x00, 0x00, 0x20, 0x00, 0xff, 0xe0];

/// 0060: code in memory is executed, and code in a device's registers is not.
fn not_executed(bench: &mut Bench) -> Outcome {
    for (attributes, reason) in
        [(EptAttributes::WriteBack, reason::HLT), (EptAttributes::Uncacheable, reason::EPT_VIOLATION)]
    {
        let guest = Guest::new(bench, &EXECUTE)?;
        map_large(&guest, bench.make()?, attributes)?;
        expect("reason of the exit", guest.enter(0).reason, reason)?;
    }
    Ok(())
}
