//! The life of a VCPU, and its registers (Intel SDM volume 3, chapters on the VMCS and on VM entries).

use core::sync::atomic::Ordering::SeqCst;

use sel4::cap::{self, cap_type};
use sel4::{Error, GRANULE_SIZE, Word};
use vtx::cr::cr0;
use vtx::vmcs::{SecondaryControls, VmcsField as F};

use crate::bench::{Bench, SELF, VCPU_BITS, delete, remake};
use crate::check::{Check, Outcome, expect};
use crate::guest::{Guest, HALT, SPIN, parted, reason};
use crate::thread::{EQUAL, REASON, Thread, reaches, run_guest};

/// The checks of this file.
pub const CHECKS: &[Check] = &[
    Check { defect: "vcpu-memory", name: "memory with a VCPU in it is taken", run: memory_is_taken },
    Check { defect: "time-slice", name: "a guest that computes leaves its equals their time", run: a_busy_guest },
    Check {
        defect: "vcpu-deletion",
        name: "a thread comes back from a VCPU that is deleted",
        run: deleted_while_it_runs,
    },
    Check {
        defect: "vcpu-deletion",
        name: "a VCPU outlives a thread that is deleted",
        run: thread_deleted_while_it_runs,
    },
    Check { defect: "vcpu-deletion", name: "VCPUs follow each other in one place", run: one_after_the_other },
    Check { defect: "event-fields", name: "the fields of an injected event can be set", run: injection },
    Check { defect: "event-fields", name: "the fields of an interrupted event can be read", run: interrupted_event },
    Check { defect: "refused-entry", name: "a guest enters once its state is corrected", run: corrected_state },
    Check { defect: "caches-off", name: "a guest's caches are on", run: caches },
];

/// 0003: one VCPU takes up all of this memory, until it is deleted.
fn memory_is_taken(bench: &mut Bench) -> Outcome {
    let memory = bench.memory(VCPU_BITS)?;
    let vcpu: cap::VCpu = bench.make_of(memory)?;
    let second = bench.make_of::<cap_type::VCpu>(memory).map(|_| ());
    expect("a second VCPU in the same memory", second, Err(Error::NotEnoughMemory))?;
    delete(vcpu)?;
    expect("a VCPU in the memory of a former one", remake(vcpu, memory), Ok(()))
}

/// A thread of the same priority, about to run a guest that never exits.
fn spinning(bench: &mut Bench) -> sel4::Result<(Guest, Thread)> {
    let vcpu = bench.make()?;
    let thread = Thread::new(bench, run_guest, vcpu.bits(), EQUAL)?;
    let guest = Guest::with(bench, vcpu, thread.tcb, &SPIN)?;
    thread.start()?;
    Ok((guest, thread))
}

/// 0007: this thread would never run again, at the second yield if not at the first.
fn a_busy_guest(bench: &mut Bench) -> Outcome {
    let (_guest, _thread) = spinning(bench)?;
    expect("the thread enters its guest", reaches(1), true)?;
    expect("the guest exits by itself", reaches(2), false)
}

/// 0009: its VMEnter returns as after a failed entry.
fn deleted_while_it_runs(bench: &mut Bench) -> Outcome {
    let (guest, _thread) = spinning(bench)?;
    expect("the thread enters its guest", reaches(1), true)?;
    expect("the guest exits by itself", reaches(2), false)?;
    delete(guest.vcpu)?;
    expect("the thread comes back", reaches(2), true)?;
    expect("reason", REASON.load(SeqCst) as u32, reason::NOT_ENTERED)
}

/// 0009: the VCPU then runs for another thread, and forgets the memory of the first.
fn thread_deleted_while_it_runs(bench: &mut Bench) -> Outcome {
    let (guest, thread) = spinning(bench)?;
    expect("the thread enters its guest", reaches(1), true)?;
    expect("the guest exits by itself", reaches(2), false)?;
    let memory = thread.memory;
    drop(thread);
    let frame: cap::Granule = bench.make_of(memory)?;
    bench.scratch.write(frame, 0, &[0x55; GRANULE_SIZE])?;
    guest.bind(SELF)?;
    let mut page = [0; GRANULE_SIZE];
    bench.scratch.read(frame, 0, &mut page)?;
    expect("bytes written to a frame that was a thread", page.iter().filter(|byte| **byte != 0x55).count(), 0)?;
    bench.scratch.write(guest.code, 0, &HALT)?;
    expect("reason of the exit in another thread", guest.enter(0).reason, reason::HLT)
}

/// 0009: more VCPUs than there are VPIDs, so that each VPID is reused.
fn one_after_the_other(bench: &mut Bench) -> Outcome {
    let memory = bench.memory(VCPU_BITS)?;
    let vcpu = bench.make_of(memory)?;
    let guest = Guest::with(bench, vcpu, SELF, &HALT)?;
    for _ in 0..1500 {
        expect("reason of the exit", guest.enter(0).reason, reason::HLT)?;
        delete(guest.vcpu)?;
        parted();
        remake(guest.vcpu, memory)?;
        guest.bind(SELF)?;
        guest.reset()?;
    }
    Ok(())
}

/// 0016: error code and instruction length of an event to inject, and the controls, which were writable before.
fn injection(bench: &mut Bench) -> Outcome {
    const ERROR_CODE: u32 = 0x4018;
    const INSTRUCTION_LENGTH: u32 = 0x401a;
    let guest = Guest::new(bench, &HALT)?;
    for (field, value) in [(ERROR_CODE, 7), (INSTRUCTION_LENGTH, 2)] {
        guest.vcpu.vcpu_write_vmcs(field, value)?;
        expect("field", guest.vcpu.vcpu_read_vmcs(field), Ok(value))?;
    }
    let controls = guest.vcpu.vcpu_read_vmcs(F::SecondaryControls as u32)?;
    let ept = Word::from(SecondaryControls::EPT.bits());
    expect("EPT in the secondary controls", controls & ept, ept)
}

/// 0016: the IDT-vectoring information, by which a VMM re-injects an event whose delivery an exit interrupted.
fn interrupted_event(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &HALT)?;
    for field in [
        F::ExitInterruptionInfo,
        F::ExitInterruptionErrorCode,
        F::IdtVectoringInfo,
        F::IdtVectoringErrorCode,
        F::ExitInstructionLength,
        F::ExitInstructionInfo,
    ] {
        guest.vcpu.vcpu_read_vmcs(field as u32)?;
    }
    Ok(())
}

/// 0017: a code segment of privilege level 3 is an invalid guest state; the failed entry must not count as a launch.
fn corrected_state(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &HALT)?;
    guest.vcpu.vcpu_write_vmcs(F::GuestCsSelector as u32, 0x08 | 3)?;
    expect("reason with a wrong code segment", guest.enter(0).reason, reason::BAD_GUEST_STATE)?;
    guest.vcpu.vcpu_write_vmcs(F::GuestCsSelector as u32, 0x08)?;
    expect("reason with a right one", guest.enter(0).reason, reason::HLT)
}

/// 0019: an entry does not change these bits of CR0.
fn caches(bench: &mut Bench) -> Outcome {
    // mov eax, cr0; hlt
    let guest = Guest::new(bench, &[0x0f, 0x20, 0xc0, 0xf4])?;
    let exit = guest.enter(0);
    expect("reason of the exit", exit.reason, reason::HLT)?;
    expect("CD and NW in CR0", exit.eax & (cr0::CD | cr0::NW), 0)
}
