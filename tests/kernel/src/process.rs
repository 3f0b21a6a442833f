//! Processor state that processes change and the kernel must handle: flags, SYSENTER, descriptors (Intel SDM volume 3,
//! chapters "Protection" and "Interrupt and Exception Handling").

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use sel4::cap;
use sel4::{Fault, UserContext, Word, yield_now};

use crate::bench::{Bench, SELF, VCPU_BITS, remake};
use crate::check::{Check, Outcome, Seen, expect};
use crate::guest::{Guest, HALT, reason};
use crate::thread::{EQUAL, Thread, reaches, stage};

/// The checks of this file.
pub const CHECKS: &[Check] = &[
    Check { defect: "flags", name: "a system call with NT set", run: nested_task },
    Check { defect: "flags", name: "a system call with AC set", run: alignment_check },
    Check { defect: "flags", name: "a system call with IOPL asked for", run: io_privilege },
    Check { defect: "flags", name: "a system call with DF set", run: direction },
    Check { defect: "flags", name: "an interrupt with AC set", run: interrupted },
    Check { defect: "sysenter", name: "SYSENTER is a fault", run: sysenter },
    Check {
        defect: "sysenter",
        name: "SYSENTER with a return address that is not canonical is a fault",
        run: sysenter_far,
    },
    Check { defect: "sysenter", name: "SYSENTER with TF set is a fault", run: sysenter_traced },
    Check { defect: "gdt", name: "no descriptor lies behind the GDT", run: behind_the_gdt },
];

/// RFLAGS.
mod flag {
    pub const TF: u64 = 1 << 8;
    pub const DF: u64 = 1 << 10;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const AC: u64 = 1 << 18;
}

/// Sets flags.
#[allow(unsafe_code, reason = "there is no other way to a flag")]
fn set_flags(flags: u64) {
    // SAFETY: pushes and pops one word. Of the flags used here, NT and IOPL mean nothing in user mode, and AC nothing
    // while CR0.AM is clear.
    unsafe { asm!("pushfq", "or [rsp], {}", "popfq", in(reg) flags) };
}

/// Clears flags.
#[allow(unsafe_code, reason = "there is no other way to a flag")]
fn clear_flags(flags: u64) {
    // SAFETY: as `set_flags`.
    unsafe { asm!("pushfq", "and [rsp], {}", "popfq", in(reg) !flags) };
}

static COUNT: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: Word) -> ! {
    stage(1);
    loop {
        COUNT.fetch_add(1, SeqCst);
    }
}

/// Yields with a flag set, to a thread that was preempted by the timer: the kernel returns to it by IRETQ.
fn yield_with(bench: &mut Bench, flags: u64) -> Outcome {
    let thread = Thread::new(bench, count, 0, EQUAL)?;
    thread.start()?;
    expect("the thread runs", reaches(1), true)?;
    let before = COUNT.load(SeqCst);
    set_flags(flags);
    yield_now();
    clear_flags(flags);
    expect("it ran on", COUNT.load(SeqCst) > before, true)
}

/// 0031: IRETQ faults if the kernel has this flag of the caller's.
fn nested_task(bench: &mut Bench) -> Outcome {
    yield_with(bench, flag::NT)
}

/// 0031: with SMAP, it would open user memory to the kernel.
fn alignment_check(bench: &mut Bench) -> Outcome {
    yield_with(bench, flag::AC)
}

/// 0031: user mode may not change it; a system call leaves it so.
fn io_privilege(bench: &mut Bench) -> Outcome {
    yield_with(bench, flag::IOPL)
}

/// 0031: the kernel copies the FPU's first state into a new VCPU upwards, not into what lies below it.
#[allow(unsafe_code, reason = "there is no other way to a flag")]
fn direction(bench: &mut Bench) -> Outcome {
    // stmxcsr [0x800]; hlt
    const STORE_MXCSR: [u8; 8] = [0x0f, 0xae, 0x1d, 0x00, 0x08, 0x00, 0x00, 0xf4];
    let memory = bench.memory(VCPU_BITS)?;
    let vcpu = cap::VCpu::from_cptr(bench.empty_slot());
    // SAFETY: until the flag is cleared again, there is one system call with words in registers and in the IPC buffer.
    unsafe { asm!("std") };
    let made = remake(vcpu, memory);
    let after = flags();
    // SAFETY: as compiled code expects it.
    unsafe { asm!("cld") };
    made?;
    expect("DF after it", after & flag::DF, flag::DF)?;
    let guest = Guest::with(bench, vcpu, SELF, &STORE_MXCSR)?;
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)?;
    let mut mxcsr = [0; 4];
    bench.scratch.read(guest.code, 0x800, &mut mxcsr)?;
    expect("MXCSR of the guest", u32::from_le_bytes(mxcsr), 0x1f80)
}

/// 0031: the timer interrupts us, and a kernel with assertions looks at the flags that it runs with.
fn interrupted(bench: &mut Bench) -> Outcome {
    let thread = Thread::new(bench, count, 0, EQUAL)?;
    thread.start()?;
    expect("the thread runs", reaches(1), true)?;
    let before = COUNT.load(SeqCst);
    set_flags(flag::AC);
    // Some hundred time slices.
    let switched = (0..20_000_000).any(|_| COUNT.load(SeqCst) != before);
    clear_flags(flag::AC);
    expect("the thread runs while we do not yield", switched, true)
}

#[allow(unsafe_code, reason = "there is no other way to the flags")]
fn flags() -> u64 {
    let flags;
    // SAFETY: pushes and pops one word.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags) };
    flags
}

/// Begins with the stack pointer in RCX, where to go on in RDX, and the flags in R11 of a SYSENTER.
#[allow(unsafe_code, reason = "an instruction that compiled code does not have")]
#[unsafe(naked)]
extern "C" fn enter_kernel() -> ! {
    core::arch::naked_asm!("mov rcx, rsp", "push r11", "popfq", "sysenter", "ud2")
}

/// The fault of a thread that executes SYSENTER after an exit, which loads the SYSENTER MSRs.
fn sysenter_with(bench: &mut Bench, back: Word, flags: u64) -> Outcome {
    let guest = Guest::new(bench, &HALT)?;
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)?;
    let handler: cap::Endpoint = bench.make()?;
    let mut registers = UserContext::default();
    *registers.pc_mut() = enter_kernel as *const () as usize as Word;
    registers.inner_mut().rax = sel4::sys::seL4_SysYield;
    registers.inner_mut().rdx = back;
    registers.inner_mut().r11 = flags | 0x202;
    let thread = Thread::with_fault_handler(bench, registers, handler)?;
    thread.start()?;
    let (message, _) = handler.recv();
    match Fault::from_ipc_buffer(message) {
        // #GP, for the code segment is null.
        Fault::User { number, .. } => expect("vector", number, 13),
        other => Err(Seen(alloc::format!("{other:?}"))),
    }
}

/// 0032: with an address that a return could take.
fn sysenter(bench: &mut Bench) -> Outcome {
    sysenter_with(bench, enter_kernel as *const () as usize as Word, 0)
}

/// 0032: SYSEXIT faults there in the kernel.
fn sysenter_far(bench: &mut Bench) -> Outcome {
    sysenter_with(bench, 0x8000_0000_0000, 0)
}

/// 0032: SYSENTER does not clear TF, so the trap is taken in the kernel.
fn sysenter_traced(bench: &mut Bench) -> Outcome {
    sysenter_with(bench, enter_kernel as *const () as usize as Word, flag::TF)
}

/// The access rights of the segment that a selector names, if there is one that this privilege level may know of.
#[allow(unsafe_code, reason = "there is no other way to a descriptor")]
fn access_rights(selector: u32) -> Option<u32> {
    let (rights, found): (u32, u8);
    // SAFETY: writes two registers.
    unsafe { asm!("lar {0:e}, {1:e}", "setz {2}", out(reg) rights, in(reg) selector, out(reg_byte) found) };
    (found != 0).then_some(rights)
}

/// 0033: after an exit, and after an entry that failed.
fn behind_the_gdt(bench: &mut Bench) -> Outcome {
    const ENTRIES: u32 = 9;
    let guest = Guest::new(bench, &HALT)?;
    for (code, expected) in [(0x08, reason::HLT), (0x08 | 3, reason::BAD_GUEST_STATE)] {
        guest.vcpu.vcpu_write_vmcs(vtx::vmcs::VmcsField::GuestCsSelector as u32, code)?;
        expect("reason of the exit", guest.enter(0).reason, expected)?;
        let found = (ENTRIES..8192).filter(|entry| access_rights(entry << 3 | 3).is_some()).count();
        expect("descriptors behind the GDT's last", found, 0)?;
    }
    Ok(())
}
