//! A guest's debug registers, and the exceptions that always exit (Intel SDM volume 3, chapter "Debug, Branch Profile,
//! TSC, and Intel Resource Director Technology Features", section "Debug Registers").

use sel4::{VmEnterResult, Word};
use vtx::vmcs::VmcsField as F;

use crate::bench::{Bench, SELF, VCPU_BITS, remake};
use crate::check::{Check, Outcome, Seen, expect};
use crate::guest::{Guest, HALT, reason};

/// The check of this file that every kernel can be asked.
pub const CHECKS: &[Check] =
    &[Check { defect: "repeated-exceptions", name: "#AC in the delivery of #AC exits", run: alignment_check }];

/// Those that need `X86_VTX_GUEST_DEBUG_REGISTERS`.
pub const WITH_REGISTERS: &[Check] = &[
    Check { defect: "debug-registers", name: "guests keep their debug registers", run: kept_apart },
    Check {
        defect: "debug-registers",
        name: "a new VCPU's debug registers are as after a reset",
        run: as_after_a_reset,
    },
    Check { defect: "debug-registers", name: "user level reads and writes debug registers", run: set_by_user_level },
    Check { defect: "debug-registers", name: "DR7 outlasts an exit", run: dr7_outlasts_an_exit },
    Check { defect: "debug-registers", name: "a guest's breakpoint is hit, and noted in DR6", run: breakpoint },
    Check { defect: "debug-registers", name: "a single step is noted in DR6", run: single_step },
    Check { defect: "debug-registers", name: "general detect is noted in DR6 and ends", run: general_detect },
    Check { defect: "debug-registers", name: "a guest's breakpoint is not the host's", run: not_the_hosts },
    Check { defect: "repeated-exceptions", name: "#DB in the delivery of #DB exits", run: debug_exception },
];

const DR: [u32; 4] = [F::GuestDr0 as u32, F::GuestDr1 as u32, F::GuestDr2 as u32, F::GuestDr3 as u32];
const DR6: u32 = F::GuestDr6 as u32;
/// Bits that are always set.
const DR6_RESET: Word = 0xffff_0ff0;
const DR7_RESET: Word = 0x400;

/// `mov eax, value`.
fn load(value: u32) -> [u8; 5] {
    let [a, b, c, d] = value.to_le_bytes();
    [0xb8, a, b, c, d]
}

/// `mov drN, eax`.
fn set(register: u8) -> [u8; 3] {
    [0x0f, 0x23, 0xc0 | register << 3]
}

/// `mov eax, drN`.
fn get(register: u8) -> [u8; 3] {
    [0x0f, 0x21, 0xc0 | register << 3]
}

const ALL: [u8; 5] = [0, 1, 2, 3, 6];

/// Sets DR0 to DR3 and DR6, and halts; then gets each of them and halts after each.
fn set_and_get(value: u32) -> alloc::vec::Vec<u8> {
    let mut code = alloc::vec::Vec::new();
    for register in ALL {
        code.extend(load(value | u32::from(register)));
        code.extend(set(register));
    }
    code.extend(HALT);
    for register in ALL {
        code.extend(get(register));
        code.extend(HALT);
    }
    code
}

/// 0029: each of two guests finds what it has written, after the other has run.
fn kept_apart(bench: &mut Bench) -> Outcome {
    let one = Guest::new(bench, &set_and_get(0x1111_2000))?;
    let set = one.enter(0);
    expect("reason of the exit", set.reason, reason::HLT)?;
    let other = Guest::new(bench, &set_and_get(0x0222_e008))?;
    expect("reason of the other guest's exit", other.enter(0).reason, reason::HLT)?;
    one.bind(SELF)?;
    let mut next = set.next;
    for register in ALL {
        let exit = one.enter(next);
        let written = 0x1111_2000 | Word::from(register);
        let expected = if register == 6 { DR6_RESET | written & 0xe00f } else { written };
        expect("register", (register, exit.eax), (register, expected))?;
        next = exit.next;
    }
    Ok(())
}

/// 0029: even if its memory had other contents before.
fn as_after_a_reset(bench: &mut Bench) -> Outcome {
    let memory = bench.memory(VCPU_BITS)?;
    let vcpu = bench.make_of(memory)?;
    let former = Guest::with(bench, vcpu, SELF, &set_and_get(0x3333_2000))?;
    expect("reason of the exit", former.enter(0).reason, reason::HLT)?;
    drop(former);
    remake(vcpu, memory)?;
    let guest = Guest::with(bench, vcpu, SELF, &HALT)?;
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)?;
    for register in DR {
        expect("register", guest.vcpu.vcpu_read_vmcs(register)?, 0)?;
    }
    expect("DR6", guest.vcpu.vcpu_read_vmcs(DR6)?, DR6_RESET)?;
    expect("DR7", guest.vcpu.vcpu_read_vmcs(F::GuestDr7 as u32)?, DR7_RESET)
}

/// 0029: also while the processor has those of another VCPU; and reserved bits are not set.
fn set_by_user_level(bench: &mut Bench) -> Outcome {
    let one = Guest::new(bench, &[get(3).as_slice(), &HALT, &get(6), &HALT].concat())?;
    let other = Guest::new(bench, &HALT)?;
    expect("reason of the other guest's exit", other.enter(0).reason, reason::HLT)?;
    for (value, register) in (0x4444..).zip(DR) {
        one.vcpu.vcpu_write_vmcs(register, value)?;
        other.vcpu.vcpu_write_vmcs(register, 0x5555)?;
    }
    let written = one.vcpu.vcpu_write_vmcs(DR6, Word::MAX)?;
    expect("DR6, as written", written, DR6_RESET | 0xe00f)?;
    for (value, register) in (0x4444..).zip(DR) {
        expect("register", one.vcpu.vcpu_read_vmcs(register)?, value)?;
    }
    one.bind(SELF)?;
    let third = one.enter(0);
    expect("DR3 in the guest", third.eax, 0x4447)?;
    expect("DR6 in the guest", one.enter(third.next).eax, DR6_RESET | 0xe00f)
}

/// 0029: an entry loads it.
fn dr7_outlasts_an_exit(bench: &mut Bench) -> Outcome {
    let code = [load(0x0000_0703).as_slice(), &set(7), &HALT, &get(7), &HALT].concat();
    let guest = Guest::new(bench, &code)?;
    let set = guest.enter(0);
    expect("reason of the exit", set.reason, reason::HLT)?;
    expect("DR7 in the VMCS", guest.vcpu.vcpu_read_vmcs(F::GuestDr7 as u32)?, 0x703)?;
    expect("DR7 in the guest", guest.enter(set.next).eax, 0x703)
}

/// The exit of a guest for an exception: its vector.
fn exception(guest: &Guest, rip: Word) -> Result<(Word, Word), Seen> {
    let VmEnterResult::Fault(exit) = guest.vcpu.vm_enter(&Guest::entry(rip)) else {
        return Err(Seen("a signal, and nothing is bound to this thread".into()));
    };
    expect("reason of the exit", exit.reason as u32, reason::EXCEPTION)?;
    let info = guest.vcpu.vcpu_read_vmcs(F::ExitInterruptionInfo as u32)?;
    Ok((info & 0xff, exit.guest.rip))
}

/// 0029: a data breakpoint in DR1, for a write of four bytes.
fn breakpoint(bench: &mut Bench) -> Outcome {
    // mov [0x800], eax; hlt
    let guest = Guest::new(bench, &[0xa3, 0x00, 0x08, 0x00, 0x00, 0xf4])?;
    guest.vcpu.vcpu_write_vmcs(DR[1], 0x800)?;
    // With the bits of another breakpoint and of a single step set before.
    guest.vcpu.vcpu_write_vmcs(DR6, 0x4008)?;
    guest.vcpu.vcpu_write_vmcs(F::GuestDr7 as u32, DR7_RESET | 0x00d0_0004)?;
    expect("vector, and the instruction behind", exception(&guest, 0)?, (1, 5))?;
    expect("DR6", guest.vcpu.vcpu_read_vmcs(DR6)?, DR6_RESET | 0x4002)?;
    expect("reason of the next exit", guest.enter(5).reason, reason::HLT)
}

/// 0029: BS.
fn single_step(bench: &mut Bench) -> Outcome {
    // nop; hlt
    let guest = Guest::new(bench, &[0x90, 0xf4])?;
    guest.vcpu.vcpu_write_vmcs(F::GuestRflags as u32, 0x302)?;
    expect("vector, and the instruction behind", exception(&guest, 0)?, (1, 1))?;
    expect("DR6", guest.vcpu.vcpu_read_vmcs(DR6)?, DR6_RESET | 0x4000)
}

/// 0029: BD; GD is cleared, so that the exception's handler can access the registers.
fn general_detect(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &[get(0).as_slice(), &HALT].concat())?;
    guest.vcpu.vcpu_write_vmcs(F::GuestDr7 as u32, DR7_RESET | 0x2000)?;
    expect("vector, and the same instruction", exception(&guest, 0)?, (1, 0))?;
    expect("DR6", guest.vcpu.vcpu_read_vmcs(DR6)?, DR6_RESET | 0x2000)?;
    expect("DR7", guest.vcpu.vcpu_read_vmcs(F::GuestDr7 as u32)?, DR7_RESET)?;
    expect("reason of the next exit", guest.enter(0).reason, reason::HLT)
}

/// 0029: a breakpoint on a word of the root task, which it writes after an exit. It would fault, without a fault
/// handler.
fn not_the_hosts(bench: &mut Bench) -> Outcome {
    use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
    static WORD: AtomicU64 = AtomicU64::new(0);
    let guest = Guest::new(bench, &HALT)?;
    guest.vcpu.vcpu_write_vmcs(DR[0], &raw const WORD as Word)?;
    guest.vcpu.vcpu_write_vmcs(F::GuestDr7 as u32, DR7_RESET | 0x000d_0003)?;
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)?;
    WORD.store(1, SeqCst);
    expect("the word", WORD.load(SeqCst), 1)
}

/// A ring-3 guest with an exception whose gate stays in ring 3, at an unaligned stack, with alignment checks on.
fn in_ring_3(bench: &mut Bench, code: &[u8], vector: u8, rflags: Word) -> Result<Guest, Seen> {
    const GDT: usize = 0xa00;
    const IDT: usize = 0x900;
    const DIRECTORY: Word = 0x2000;
    let guest = Guest::new(bench, code)?;
    // Entry 3 is flat code of ring 3, entry 4 data.
    bench.scratch.write(guest.code, GDT + 0x18, &[0xff, 0xff, 0, 0, 0, 0xfb, 0xcf, 0])?;
    bench.scratch.write(guest.code, GDT + 0x20, &[0xff, 0xff, 0, 0, 0, 0xf3, 0xcf, 0])?;
    bench.scratch.write(guest.code, IDT + usize::from(vector) * 8, &[0, 0, 0x1b, 0, 0, 0xee, 0, 0])?;
    // The first 4 MiB, for ring 3.
    let directory = bench.make()?;
    bench.scratch.write(directory, 0, &[0x87, 0, 0, 0])?;
    guest.map(directory, DIRECTORY)?;
    for (field, value) in [
        (F::GuestGdtrBase, GDT as Word),
        (F::GuestIdtrBase, IDT as Word),
        (F::GuestIdtrLimit, 0xff),
        (F::GuestCsSelector, 0x1b),
        (F::GuestCsAccessRights, 0xc0fb),
        (F::GuestSsSelector, 0x23),
        (F::GuestSsAccessRights, 0xc0f3),
        (F::GuestDsSelector, 0x23),
        (F::GuestDsAccessRights, 0xc0f3),
        (F::GuestEsSelector, 0x23),
        (F::GuestEsAccessRights, 0xc0f3),
        (F::GuestFsSelector, 0x23),
        (F::GuestFsAccessRights, 0xc0f3),
        (F::GuestGsSelector, 0x23),
        (F::GuestGsAccessRights, 0xc0f3),
        (F::GuestRsp, 0x7fd),
        (F::GuestRflags, rflags),
        (F::GuestCr0, 0x8004_0031),
        (F::GuestCr3, DIRECTORY),
    ] {
        guest.vcpu.vcpu_write_vmcs(field as u32, value)?;
    }
    // Requests no exits for exceptions.
    guest.vcpu.vcpu_write_vmcs(F::ExceptionBitmap as u32, 0)?;
    Ok(guest)
}

/// 0030: without the exit, guest and machine would hang.
fn alignment_check(bench: &mut Bench) -> Outcome {
    // mov eax, [0x801]
    let guest = in_ring_3(bench, &[0xa1, 0x01, 0x08, 0, 0, 0xf4], 17, 0x4_0202)?;
    expect("vector", exception(&guest, 0)?.0, 17)?;
    let bitmap = guest.vcpu.vcpu_read_vmcs(F::ExceptionBitmap as u32)?;
    expect("the bits of #DB and #AC in the bitmap", bitmap & 0x2_0002, 0x2_0002)
}

/// 0030: #DB; here a breakpoint on the stack to which its delivery pushes.
fn debug_exception(bench: &mut Bench) -> Outcome {
    let guest = in_ring_3(bench, &[0x90, 0xf4], 1, 0x302)?;
    guest.vcpu.vcpu_write_vmcs(DR[0], 0x7f0)?;
    guest.vcpu.vcpu_write_vmcs(F::GuestDr7 as u32, DR7_RESET | 0x000d_0003)?;
    expect("vector", exception(&guest, 0)?.0, 1)
}
