//! The FPU and SSE registers, which the kernel switches lazily.

use core::arch::asm;

use sel4::{Word, yield_now};

use crate::bench::{Bench, SELF, VCPU_BITS, delete};
use crate::check::{Check, Outcome, expect};
use crate::guest::{Guest, HALT, reason};
use crate::thread::{EQUAL, Thread, reaches, rest, stage};

/// The checks of this file.
pub const CHECKS: &[Check] = &[
    Check { defect: "fpu-start", name: "a guest starts with exceptions masked", run: a_clean_start },
    Check { defect: "former-vcpus", name: "the FPU leaves a former VCPU's memory alone", run: former_vcpu },
    Check { defect: "fpu", name: "threads keep their registers after an exit", run: registers_are_kept },
    Check { defect: "fpu-disabled", name: "a thread that loses its VCPU keeps the FPU", run: without_its_vcpu },
];

/// `stmxcsr [0x800]; fldpi; hlt`.
const USE_FPU: [u8; 10] = [0x0f, 0xae, 0x1d, 0x00, 0x08, 0x00, 0x00, 0xd9, 0xeb, 0xf4];

/// 0018: MXCSR as after a reset.
fn a_clean_start(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &USE_FPU)?;
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)?;
    let mut mxcsr = [0; 4];
    bench.scratch.read(guest.code, 0x800, &mut mxcsr)?;
    expect("MXCSR", u32::from_le_bytes(mxcsr), 0x1f80)
}

/// 0009: the guest's registers are not saved into the retyped memory of its VCPU. (They would be when this thread uses
/// its own, so this code must not use any before the frames exist; the system calls use integer registers only.)
fn former_vcpu(bench: &mut Bench) -> Outcome {
    let memory = bench.memory(VCPU_BITS)?;
    let vcpu = bench.make_of(memory)?;
    let guest = Guest::with(bench, vcpu, SELF, &USE_FPU)?;
    let exit = guest.enter(0).reason;
    drop(guest);
    let frames = bench.frames_of(memory)?;
    set_xmm15(1);
    expect("reason of the exit", exit, reason::HLT)?;
    expect("bytes written to frames that were a VCPU", bench.used_bytes(&frames)?, 0)
}

/// 0025: an exit used to enable the FPU if it was enabled when the VCPU was created, even if another thread owns the
/// registers. Then threads overwrite each other's registers without a trap.
fn registers_are_kept(bench: &mut Bench) -> Outcome {
    const OURS: Word = 0x1234;
    let thread = Thread::new(bench, overwrite, 0x7777, EQUAL)?;
    set_xmm15(0);
    let guest = Guest::new(bench, &HALT)?;
    set_xmm15(OURS);
    // After 64 switches to a thread that does not use the FPU, the kernel saves its registers
    // (FPU_MAX_RESTORES_SINCE_SWITCH).
    for _ in 0..200 {
        yield_now();
    }
    let exit = guest.enter(0).reason;
    thread.start()?;
    let overwritten = reaches(1);
    let ours = xmm15();
    expect("reason of the exit", exit, reason::HLT)?;
    expect("the other thread has used the register", overwritten, true)?;
    expect("our register", ours, OURS)
}

/// Without the FPU, the root task would fault here.
fn without_its_vcpu(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &HALT)?;
    set_xmm15(1);
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)?;
    delete(guest.vcpu)?;
    set_xmm15(2);
    expect("our register", xmm15(), 2)
}

extern "C" fn overwrite(value: Word) -> ! {
    set_xmm15(value);
    stage(1);
    rest()
}

/// The last SSE register, which compiled code uses only when it has run out of others.
#[allow(unsafe_code, reason = "there is no other way to a register")]
fn set_xmm15(value: Word) {
    // SAFETY: the register is declared as overwritten, and nothing else happens.
    unsafe { asm!("movq xmm15, {}", in(reg) value, out("xmm15") _, options(nomem, nostack, preserves_flags)) };
}

#[allow(unsafe_code, reason = "there is no other way to a register")]
fn xmm15() -> Word {
    let value;
    // SAFETY: the register is only read.
    unsafe { asm!("movq {}, xmm15", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}
