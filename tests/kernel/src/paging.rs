//! Address spaces of processes (seL4 manual, chapter 7).

use sel4::cap::{self, cap_type};
use sel4::{CapRights, Error, VmAttributes, Word, init_thread};

use crate::bench::{Bench, delete, slot_of};
use crate::check::{Check, Outcome, expect, refused};

/// The checks of this file.
pub const CHECKS: &[Check] = &[
    Check { defect: "copies", name: "deleting a copy unmaps it", run: deleting_a_copy_unmaps_it },
    Check { defect: "copies", name: "revoking unmaps copies", run: revoking_unmaps_copies },
    Check { defect: "pdpt", name: "a PDPT's capability can be copied", run: a_pdpt_can_be_copied },
    Check { defect: "last-page", name: "nothing is mapped at the gap's edge", run: nothing_at_the_edge },
    Check { defect: "dead-space", name: "a dead address space takes no tables", run: a_dead_space_takes_no_tables },
];

/// An arbitrary address.
const ADDRESS: Word = 0x4000_0000;

fn map(frame: cap::Granule, space: cap::VSpace, address: Word) -> sel4::Result<()> {
    frame.frame_map(space, address, CapRights::read_write(), VmAttributes::DEFAULT)
}

/// 0012: deleting the capability that mapped a frame unmaps it. While it is mapped, another frame is refused.
fn deleting_a_copy_unmaps_it(bench: &mut Bench) -> Outcome {
    let space = bench.space(ADDRESS)?;
    let (frame, other) = (bench.make()?, bench.make()?);
    let copy = bench.copy(frame)?;
    map(copy, space, ADDRESS)?;
    let mapped = map(other, space, ADDRESS);
    if mapped.is_ok() {
        // Later releases replace a mapping. On those, the checks of ept.rs tell.
        return Ok(());
    }
    expect("another frame at a mapped address", mapped, Err(Error::DeleteFirst))?;
    delete(copy)?;
    expect("another frame at the same address", map(other, space, ADDRESS), Ok(()))
}

/// 0012: also if the copy is deleted by revoking the original.
fn revoking_unmaps_copies(bench: &mut Bench) -> Outcome {
    let space = bench.space(ADDRESS)?;
    let (frame, other) = (bench.make::<cap_type::Granule>()?, bench.make()?);
    map(bench.copy(frame)?, space, ADDRESS)?;
    slot_of(frame).revoke()?;
    expect("another frame at the same address", map(other, space, ADDRESS), Ok(()))
}

/// 0013: copying works, and deleting the copy does not unmap the table.
fn a_pdpt_can_be_copied(bench: &mut Bench) -> Outcome {
    let space = bench.make()?;
    init_thread::slot::ASID_POOL.cap().asid_pool_assign(space)?;
    let pdpt: cap::Pdpt = bench.make()?;
    pdpt.pdpt_map(space, ADDRESS, VmAttributes::DEFAULT)?;
    let copy = bench.copy(pdpt)?;
    delete(copy)?;
    let directory: cap::PageDirectory = bench.make()?;
    let mapped = directory.page_directory_map(space, ADDRESS, VmAttributes::DEFAULT);
    expect("a page directory below the PDPT", mapped, Ok(()))
}

/// 0022: a system call as the last instruction of the lower half would return to an address that is not canonical.
fn nothing_at_the_edge(bench: &mut Bench) -> Outcome {
    const LAST: Word = 0x7fff_ffff_f000;
    let space = bench.space(LAST - 0x1000)?;
    let frame = bench.make()?;
    expect("the last page of the lower half", map(frame, space, LAST).is_ok(), false)?;
    expect("the page below", map(frame, space, LAST - 0x1000), Ok(()))
}

/// 0023: once its ASID pool is deleted, unmapping would not find tables that are mapped in an address space.
fn a_dead_space_takes_no_tables(bench: &mut Bench) -> Outcome {
    let memory = bench.memory(12)?;
    let pool = cap::AsidPool::from_cptr(bench.empty_slot());
    init_thread::slot::ASID_CONTROL.cap().asid_control_make_pool(memory, &slot_of(pool))?;
    let space = bench.make()?;
    pool.asid_pool_assign(space)?;
    bench.make::<cap_type::Pdpt>()?.pdpt_map(space, ADDRESS, VmAttributes::DEFAULT)?;
    delete(pool)?;
    let directory: cap::PageDirectory = bench.make()?;
    let mapped = directory.page_directory_map(space, ADDRESS, VmAttributes::DEFAULT);
    refused("a page directory", mapped, Error::InvalidCapability)?;
    let pdpt: cap::Pdpt = bench.make()?;
    let mapped = pdpt.pdpt_map(space, ADDRESS + (1 << 39), VmAttributes::DEFAULT);
    refused("a PDPT", mapped, Error::InvalidCapability)
}
