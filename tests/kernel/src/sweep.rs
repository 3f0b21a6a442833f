//! Every invocation of every type of capability, with messages that are too short, too large, or have hostile values.
//! The kernel has to reply; a kernel with assertions stops where one without silently misbehaves.

use alloc::format;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use sel4::cap::{self, cap_type};
use sel4::init_thread::slot;
use sel4::{CPtr, Error, MessageInfo, Word, ipc_buffer, sys};

use crate::bench::{Bench, slot_of};
use crate::check::{Check, Outcome, Seen, expect, refused};
use crate::guest::Guest;
use crate::thread::{EQUAL, Thread, reaches, rest, stage};

/// The checks of this file.
pub const CHECKS: &[Check] = &[
    Check { defect: "invocations", name: "an EPT's root has no invocations", run: ept_root },
    Check { defect: "invocations", name: "messages without words and capabilities are answered", run: empty_messages },
    Check { defect: "invocations", name: "hostile values are answered", run: hostile_values },
    Check { defect: "invocations", name: "guest-physical addresses end at 48 bits", run: guest_addresses },
    Check { defect: "invocations", name: "user addresses do not wrap around", run: wrapped_addresses },
    Check { defect: "invocations", name: "an IPC buffer is at a user address", run: ipc_buffer_address },
    Check { defect: "invocations", name: "an MSI handle has 32 bits", run: msi_handle },
    Check { defect: "invocations", name: "unmapping what is not mapped is done", run: unmap_twice },
];

/// Labels that no type of capability knows; the last one is the largest that a message can have.
const FOREIGN: [Word; 3] = [0, 1000, 0xf_ffff];

/// Labels of error replies.
const ERRORS: RangeInclusive<Word> = 1..=sys::seL4_NumErrors - 1;

/// A type of capability.
struct Subject {
    name: &'static str,
    cap: CPtr,
    /// Its invocations: consecutive labels, as the kernel numbers them in the order of the interface files.
    labels: RangeInclusive<Word>,
    /// Of these, the ones that need neither words nor capabilities.
    simple: &'static [Word],
}

/// An object of each type, all of them new: a hostile invocation may succeed.
fn subjects(bench: &mut Bench) -> sel4::Result<Vec<Subject>> {
    let handler = cap::IrqHandler::from_cptr(bench.empty_slot());
    let source = sel4::irq::MsiSource { bus: 0, device: 31, function: 7, handle: 0 };
    slot::IRQ_CONTROL.cap().irq_control_get_msi(&slot_of(handler), source, bench.vector())?;
    let pool = cap::AsidPool::from_cptr(bench.empty_slot());
    slot::ASID_CONTROL.cap().asid_control_make_pool(bench.memory(12)?, &slot_of(pool))?;
    let irq_control = slot::IRQ_CONTROL.cap().cptr();
    let mut all = Vec::new();
    let mut add = |name, cap, labels, simple| all.push(Subject { name, cap, labels, simple });
    add("untyped", bench.memory(12)?.cptr(), sys::UntypedRetype..=sys::UntypedRetype, &[][..]);
    let tcb = bench.make::<cap_type::Tcb>()?.cptr();
    // Up to the next type's: later releases have more of these.
    let labels = sys::TCBReadRegisters..=sys::CNodeRevoke - 1;
    add("TCB", tcb, labels, &[sys::TCBSuspend, sys::TCBResume]);
    add("TCB", tcb, sys::TCBSetEPTRoot..=sys::TCBSetEPTRoot, &[]);
    add("CNode", bench.cnode()?.cptr(), sys::CNodeRevoke..=sys::CNodeSaveCaller, &[]);
    add("IRQControl", irq_control, sys::IRQIssueIRQHandler..=sys::IRQIssueIRQHandler, &[]);
    add("IRQControl", irq_control, sys::X86IRQIssueIRQHandlerIOAPIC..=sys::X86IRQIssueIRQHandlerMSI, &[]);
    let simple = &[sys::IRQAckIRQ, sys::IRQClearIRQHandler];
    add("IRQHandler", handler.cptr(), sys::IRQAckIRQ..=sys::IRQClearIRQHandler, simple);
    add("DomainSet", slot::DOMAIN.cap().cptr(), sys::DomainSetSet..=sys::DomainSetSet, &[]);
    let make_pool = sys::X86ASIDControlMakePool;
    add("ASIDControl", slot::ASID_CONTROL.cap().cptr(), make_pool..=make_pool, &[]);
    add("ASIDPool", pool.cptr(), sys::X86ASIDPoolAssign..=sys::X86ASIDPoolAssign, &[]);
    add("IOPort", bench.ports(0x80, 0x80)?.cptr(), sys::X86IOPortIn8..=sys::X86IOPortOut32, &[]);
    let vcpu = bench.make::<cap_type::VCpu>()?.cptr();
    add("VCPU", vcpu, sys::X86VCPUSetTCB..=sys::X86VCPUWriteRegisters, &[]);
    let page = bench.make::<cap_type::Granule>()?.cptr();
    add("page", page, sys::X86PageMap..=sys::X86PageMapEPT, &[sys::X86PageUnmap, sys::X86PageGetAddress]);
    tables(bench, add)?;
    Ok(all)
}

/// The same, of the types that translate addresses.
fn tables(
    bench: &mut Bench,
    mut add: impl FnMut(&'static str, CPtr, RangeInclusive<Word>, &'static [Word]),
) -> sel4::Result<()> {
    add("VSpace", bench.make::<cap_type::VSpace>()?.cptr(), sys::X86PDPTMap..=sys::X86PDPTUnmap, &[]);
    let pdpt = bench.make::<cap_type::Pdpt>()?.cptr();
    add("PDPT", pdpt, sys::X86PDPTMap..=sys::X86PDPTUnmap, &[sys::X86PDPTUnmap]);
    let directory = bench.make::<cap_type::PageDirectory>()?.cptr();
    // Up to the next type's: later releases have the last one of these, GetStatusBits, for 32 bits only.
    let labels = sys::X86PageDirectoryMap..=sys::X86PageTableMap - 1;
    add("page directory", directory, labels, &[sys::X86PageDirectoryUnmap]);
    let table = bench.make::<cap_type::PageTable>()?.cptr();
    add("page table", table, sys::X86PageTableMap..=sys::X86PageTableUnmap, &[sys::X86PageTableUnmap]);
    let table = bench.make::<cap_type::IoPageTable>()?.cptr();
    add("I/O page table", table, sys::X86IOPageTableMap..=sys::X86IOPageTableUnmap, &[sys::X86IOPageTableUnmap]);
    add("EPT PML4", bench.make::<cap_type::EptPml4>()?.cptr(), sys::X86EPTPDPTMap..=sys::X86EPTPTUnmap, &[]);
    let pdpt = bench.make::<cap_type::EptPdpt>()?.cptr();
    add("EPT PDPT", pdpt, sys::X86EPTPDPTMap..=sys::X86EPTPDPTUnmap, &[sys::X86EPTPDPTUnmap]);
    let directory = bench.make::<cap_type::EptPageDirectory>()?.cptr();
    add("EPT page directory", directory, sys::X86EPTPDMap..=sys::X86EPTPDUnmap, &[sys::X86EPTPDUnmap]);
    let table = bench.make::<cap_type::EptPageTable>()?.cptr();
    add("EPT page table", table, sys::X86EPTPTMap..=sys::X86EPTPTUnmap, &[sys::X86EPTPTUnmap]);
    Ok(())
}

/// Invokes a capability of any type. Returns the label of the reply: 0, or an error.
fn invoke(cap: CPtr, label: Word, caps: &[CPtr], length: usize) -> Word {
    for (index, cap) in caps.iter().enumerate() {
        ipc_buffer().set_cap(index, *cap);
    }
    cap::Endpoint::from_bits(cap.bits()).call(MessageInfo::new(label, 0, caps.len(), length)).label()
}

/// 0037: the root of an EPT can be invoked without crashing the kernel.
fn ept_root(bench: &mut Bench) -> Outcome {
    let root: cap::EptPml4 = bench.make()?;
    let answer = invoke(root.cptr(), sys::X86EPTPDPTMap, &[], 0);
    expect("answer", Error::check(answer), Err(Error::IllegalOperation))
}

/// 0037: an error for each label, except those that need no arguments.
fn empty_messages(bench: &mut Bench) -> Outcome {
    for subject in subjects(bench)? {
        for label in subject.labels.chain(FOREIGN) {
            let answer = invoke(subject.cap, label, &[], 0);
            if ERRORS.contains(&answer) == subject.simple.contains(&label) {
                let name = subject.name;
                return Err(Seen(format!("{name}: label {label} without arguments is answered by {answer}")));
            }
        }
    }
    Ok(())
}

/// 0037: addresses at the edges, sizes and numbers out of range, and capabilities of types that other arguments need.
fn hostile_values(bench: &mut Bench) -> Outcome {
    const VALUES: [Word; 5] = [Word::MAX, 1 << 63, 0xffff_ffff_ffe0_0000, 0x8000_0000_0000, 0x1234_0000_0000_5000];
    let space: cap::VSpace = bench.make()?;
    let ept: cap::EptPml4 = bench.make()?;
    slot::ASID_POOL.cap().asid_pool_assign(space)?;
    slot::ASID_POOL.cap().asid_pool_assign(ept)?;
    let (tcb, cnode) = (bench.make::<cap_type::Tcb>()?, bench.cnode()?);
    let beside = [space.cptr(), ept.cptr(), tcb.cptr(), cnode.cptr()];
    for subject in subjects(bench)? {
        for label in subject.labels {
            for (value, cap) in VALUES.into_iter().flat_map(|value| beside.map(|cap| (value, cap))) {
                for index in 0..8 {
                    ipc_buffer().set_word(index, value);
                }
                let answer = invoke(subject.cap, label, &[cap; 3], 8);
                if answer != 0 && !ERRORS.contains(&answer) {
                    let name = subject.name;
                    return Err(Seen(format!("{name}: label {label} with {value:#x} is answered by {answer}")));
                }
            }
        }
    }
    Ok(())
}

/// 0037: four levels of tables translate 48 bits.
fn guest_addresses(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &[])?;
    for address in [1 << 48, 0x1234_0000_0000_5000, 1 << 63, !0xfff] {
        refused("a page", guest.map(bench.make()?, address), Error::InvalidArgument)?;
        let attributes = sel4::EptAttributes::DEFAULT;
        let table: cap::EptPageTable = bench.make()?;
        refused("a page table", table.ept_page_table_map(guest.ept, address, attributes), Error::InvalidArgument)?;
        let directory: cap::EptPageDirectory = bench.make()?;
        let mapped = directory.ept_page_directory_map(guest.ept, address, attributes);
        refused("a page directory", mapped, Error::InvalidArgument)?;
        let pdpt: cap::EptPdpt = bench.make()?;
        refused("a PDPT", pdpt.ept_pdpt_map(guest.ept, address, attributes), Error::InvalidArgument)?;
    }
    let pdpt: cap::EptPdpt = bench.make()?;
    let last = pdpt.ept_pdpt_map(guest.ept, 0xff80_0000_0000, sel4::EptAttributes::DEFAULT);
    expect("a PDPT at the end of the 48 bits", last, Ok(()))
}

/// 0037: the last large page of the address space is in a page directory of the kernel, shared by all address spaces.
fn wrapped_addresses(bench: &mut Bench) -> Outcome {
    let space = bench.space(0)?;
    let (rights, attributes) = (sel4::CapRights::read_write(), sel4::VmAttributes::DEFAULT);
    let large: cap::LargePage = bench.make()?;
    let mapped = large.frame_map(space, 0xffff_ffff_ffe0_0000, rights, attributes);
    refused("the last large page", mapped, Error::InvalidArgument)?;
    let page: cap::Granule = bench.make()?;
    let mapped = page.frame_map(space, 0xffff_ffff_ffff_f000, rights, attributes);
    refused("the last page", mapped, Error::InvalidArgument)
}

/// 0037: a kernel that makes it the base of GS must not fault there.
fn ipc_buffer_address(bench: &mut Bench) -> Outcome {
    extern "C" fn run(_: Word) -> ! {
        stage(1);
        rest()
    }
    for address in [0x8000_0000_0000, 0x1234_0000_0000_5000, 0xffff_ffff_ffff_f000] {
        let thread = Thread::new(bench, run, 0, EQUAL)?;
        let frame: cap::Granule = bench.make()?;
        ipc_buffer().set_word(0, address);
        if Error::check(invoke(thread.tcb.cptr(), sys::TCBSetIPCBuffer, &[frame.cptr()], 1)).is_ok() {
            thread.start()?;
            expect("a thread with this buffer runs", reaches(1), true)?;
        }
    }
    Ok(())
}

/// 0037: values that do not fit the kernel's record of the interrupt are refused.
fn msi_handle(bench: &mut Bench) -> Outcome {
    let place = bench.empty_slot();
    for (index, word) in [place.bits(), 64, 0, 31, 7, 1 << 32, 101].into_iter().enumerate() {
        ipc_buffer().set_word(index, word);
    }
    let answer = invoke(slot::IRQ_CONTROL.cap().cptr(), sys::X86IRQIssueIRQHandlerMSI, &[slot::CNODE.cap().cptr()], 7);
    refused("the message", Error::check(answer), Error::RangeError)
}

/// 0037: it has no effect, and returns no error.
fn unmap_twice(bench: &mut Bench) -> Outcome {
    let page: cap::Granule = bench.make()?;
    expect("unmapping", page.frame_unmap(), Ok(()))
}
