//! Neither a guest nor its VCPU's holder can change the host's state (Intel SDM volume 3, chapters
//! "VM Entries" and "VM Exits").

use core::arch::asm;

use alloc::format;

use sel4::{Error, Word};
use vtx::vmcs::{PinControls, PrimaryControls, VmcsField as F};

use crate::bases::Bases;
use crate::bench::Bench;
use crate::check::{Check, Outcome, Seen, expect};
use crate::guest::{Guest, HALT, reason};
use crate::thread::{EQUAL, Thread, reaches, run_guest};

/// The checks of this file that every kernel can be asked.
pub const CHECKS: &[Check] = &[
    Check { defect: "gdt", name: "the host is as before after an exit", run: after_an_exit },
    Check { defect: "gdt", name: "the host is as before after entries that failed", run: after_a_failed_entry },
    Check { defect: "activity", name: "a guest is active or halted", run: activity },
    Check { defect: "cache-disable", name: "a guest cannot switch the caches off", run: caches },
    Check { defect: "controls", name: "controls that name memory cannot be chosen", run: controls },
    Check { defect: "suspended-vmenter", name: "a thread that is suspended in its guest has returned", run: suspended },
    Check { defect: "controls", name: "the host is as before after hostile fields", run: hostile_fields },
];

/// The one that reads how often the kernel has flushed a guest's translations.
pub const COUNTED: &[Check] =
    &[Check { defect: "translations", name: "translations end with their control registers", run: translations }];

/// The processor's state as far as ring 3 can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Host {
    gdtr: [u8; 10],
    idtr: [u8; 10],
    ldtr: u16,
    tr: u16,
    cr0: u64,
    /// Of DS, ES, FS and GS. Those of CS and SS say whether the kernel returned by SYSRET or by IRETQ.
    selectors: [u16; 4],
    bases: Bases,
}

impl Host {
    #[allow(unsafe_code, reason = "there is no other way to these registers")]
    fn now() -> Self {
        let (mut gdtr, mut idtr) = ([0; 10], [0; 10]);
        let (ldtr, tr);
        let cr0: u64;
        let (ds, es, fs, gs);
        // SAFETY: each instruction writes what is given to it, and nothing else.
        unsafe {
            asm!("sgdt [{}]", in(reg) gdtr.as_mut_ptr(), options(nostack, preserves_flags));
            asm!("sidt [{}]", in(reg) idtr.as_mut_ptr(), options(nostack, preserves_flags));
            asm!("sldt {0:x}", "str {1:x}", "smsw {2:r}", out(reg) ldtr, out(reg) tr, out(reg) cr0);
            asm!("mov {0:x}, ds", "mov {1:x}, es", out(reg) ds, out(reg) es);
            asm!("mov {0:x}, fs", "mov {1:x}, gs", out(reg) fs, out(reg) gs);
        }
        // The kernel changes CR0.TS to switch the FPU.
        let cr0 = cr0 & !(1 << 3);
        Self { gdtr, idtr, ldtr, tr, cr0, selectors: [ds, es, fs, gs], bases: Bases::ours() }
    }

    /// As it is after an exit: what an exit changes (0033) is not what the check asks for.
    fn after_an_exit(bench: &mut Bench) -> Result<Self, Seen> {
        expect("reason of an exit", Guest::new(bench, &HALT)?.enter(0).reason, reason::HLT)?;
        Ok(Self::without_selectors())
    }

    /// The same, but for the data segments, which an exit may change and a return by IRETQ changes back.
    fn without_selectors() -> Self {
        Self { selectors: [0; 4], ..Self::now() }
    }

    /// Checks that it is unchanged.
    fn expect_unchanged(&self) -> Outcome {
        expect("what the host was before", Self::now(), *self)
    }
}

/// 0033: by an instruction, by an interrupt, by an exception.
fn after_an_exit(bench: &mut Bench) -> Outcome {
    let before = Host::now();
    let guest = Guest::new(bench, &HALT)?;
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)?;
    before.expect_unchanged()?;
    let vcpu = bench.make()?;
    let thread = Thread::new(bench, run_guest, vcpu.bits(), EQUAL)?;
    let _spinning = Guest::with(bench, vcpu, thread.tcb, &crate::guest::SPIN)?;
    thread.start()?;
    expect("the thread enters its guest", reaches(1), true)?;
    expect("the guest exits by itself", reaches(2), false)?;
    before.expect_unchanged()
}

/// 0033: entries that fail in the checks of guest state (VM-entry failure), and of the controls (VMfail).
fn after_a_failed_entry(bench: &mut Bench) -> Outcome {
    let before = Host::now();
    let guest = Guest::new(bench, &HALT)?;
    guest.vcpu.vcpu_write_vmcs(F::GuestCsSelector as u32, 0x08 | 3)?;
    expect("reason with a wrong code segment", guest.enter(0).reason, reason::BAD_GUEST_STATE)?;
    before.expect_unchanged()?;
    guest.vcpu.vcpu_write_vmcs(F::GuestCsSelector as u32, 0x08)?;
    let mut entry = Guest::entry(0);
    // An event of a type that does not exist.
    entry.entry_info = 0x8000_0100;
    let sel4::VmEnterResult::Fault(exit) = guest.vcpu.vm_enter(&entry) else {
        return Err(Seen("a signal, and nothing is bound to this thread".into()));
    };
    expect("reason with a wrong event", exit.reason as u32, reason::NOT_ENTERED)?;
    before.expect_unchanged()
}

/// 0034: in the other activity states, interrupts do not exit.
fn activity(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &HALT)?;
    for state in [2, 3, 4, Word::MAX] {
        let written = guest.vcpu.vcpu_write_vmcs(F::GuestActivity as u32, state).map(|_| ());
        expect("an activity state", (state, written), (state, Err(Error::RangeError)))?;
    }
    for state in [1, 0] {
        guest.vcpu.vcpu_write_vmcs(F::GuestActivity as u32, state)?;
    }
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)
}

/// 0035: the write exits, although the VMM did not request it.
fn caches(bench: &mut Bench) -> Outcome {
    const CD_AND_NW: Word = 0x6000_0000;
    let before = Host::after_an_exit(bench)?;
    // mov eax, cr0; or eax, 1 << 30; mov cr0, eax; hlt
    let guest = Guest::new(bench, &[0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x40, 0x0f, 0x22, 0xc0, 0xf4])?;
    let mask = guest.vcpu.vcpu_write_vmcs(F::Cr0Mask as u32, 0)?;
    expect("the mask, as written", mask & CD_AND_NW, CD_AND_NW)?;
    let exit = guest.enter(0).reason;
    expect("what the host was before", Host::without_selectors(), before)?;
    expect("CD and NW of the host", before.cr0 & CD_AND_NW, 0)?;
    expect("reason of the exit", exit, reason::CONTROL_REGISTER)
}

/// How often a VCPU's translations were flushed.
const DISCARDED: u32 = F::TranslationsDiscarded as u32;

/// 0036: flushes occur at its start and at writes of fields that affect address translation, but not at an entry.
fn translations(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &HALT)?;
    let count = || guest.vcpu.vcpu_read_vmcs(DISCARDED);
    let before = count()?;
    expect("reason of the exit", guest.enter(0).reason, reason::HLT)?;
    expect("discarded before the first entry", count()? > before, true)?;
    let before = count()?;
    expect("reason of the second exit", guest.enter(0).reason, reason::HLT)?;
    guest.vcpu.vcpu_write_vmcs(F::GuestRsp as u32, 0)?;
    expect("discarded by an entry", count()? - before, 0)?;
    for field in [
        F::GuestCr0,
        F::GuestCr3,
        F::GuestCr4,
        F::GuestEfer,
        F::GuestPdpte0,
        F::GuestPdpte1,
        F::GuestPdpte2,
        F::GuestPdpte3,
    ] {
        let before = count()?;
        let value = guest.vcpu.vcpu_read_vmcs(field as u32)?;
        guest.vcpu.vcpu_write_vmcs(field as u32, value)?;
        expect("discarded by a write", (field, count()? - before), (field, 1))?;
    }
    let before = count()?;
    guest.reset()?;
    expect("discarded by a reset", count()? > before, true)
}

/// 0039: controls that make the processor write to an address which user level cannot set.
fn controls(bench: &mut Bench) -> Outcome {
    let guest = Guest::new(bench, &HALT)?;
    // Posted interrupts. TPR shadow, tertiary controls. APIC accesses, x2APIC mode, APIC registers, interrupt delivery,
    // VM functions, VMCS shadowing, page-modification log, #VE, sub-page permissions, processor trace.
    for (field, refused) in [
        (F::PinControls, 1 << 7),
        (F::PrimaryControls, 1 << 17 | 1 << 21),
        (
            F::SecondaryControls,
            1 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 18 | 1 << 23 | 1 << 24,
        ),
    ] {
        let written = guest.vcpu.vcpu_write_vmcs(field as u32, 0xffff_ffff)?;
        expect("what was to be refused", (field, written & refused), (field, 0))?;
    }
    Ok(())
}

/// 0042: its VMEnter is not repeated, which would set the guest back to its last entry.
fn suspended(bench: &mut Bench) -> Outcome {
    // inc dword [0x800]; jmp to itself
    const COUNT_AND_SPIN: [u8; 8] = [0xff, 0x05, 0x00, 0x08, 0x00, 0x00, 0xeb, 0xfe];
    let vcpu = bench.make()?;
    let thread = Thread::new(bench, run_guest, vcpu.bits(), EQUAL)?;
    let guest = Guest::with(bench, vcpu, thread.tcb, &COUNT_AND_SPIN)?;
    thread.start()?;
    expect("the thread enters its guest", reaches(1), true)?;
    expect("the guest exits by itself", reaches(2), false)?;
    thread.tcb.tcb_suspend()?;
    thread.tcb.tcb_resume()?;
    expect("VMEnter returns", reaches(2), true)?;
    let mut count = [0; 4];
    bench.scratch.read(guest.code, 0x800, &mut count)?;
    expect("entries of the guest", u32::from_le_bytes(count), 1)
}

/// All fields of `VCPU_WriteVMCS`, in ranges of every second number, and the registers that are not in the VMCS.
const WRITABLE: [(u32, u32); 8] = [
    (0x0800, 0x080e),
    (0x2802, 0x2810),
    (0x4000, 0x4004),
    (0x400c, 0x401e),
    (0x4800, 0x482e),
    (0x6000, 0x6006),
    (0x6800, 0x6826),
    (0x1_0000, 0x1_0006),
];
const HOSTILE: [Word; 8] = [Word::MAX, 0, 1, 2, 0xffff_ffff, 1 << 63, 0x8000_0000_0000, 0x1234_0000_0000_5000];

/// 0039: each field with each value, and an entry.
fn hostile_fields(bench: &mut Bench) -> Outcome {
    let before = Host::after_an_exit(bench)?;
    let guest = Guest::new(bench, &HALT)?;
    let fields = WRITABLE.into_iter().flat_map(|(first, last)| (first..=last).step_by(2));
    for field in fields {
        // A gap in a range.
        let Ok(kept) = guest.vcpu.vcpu_read_vmcs(field) else { continue };
        for value in HOSTILE {
            if guest.vcpu.vcpu_write_vmcs(field, value).is_err() {
                continue;
            }
            enter_for_a_moment(&guest, field, value)?;
            if Host::without_selectors() != before {
                return Err(Seen(format!("field {field:#x} with {value:#x}: {:x?}, not {before:x?}", Host::now())));
            }
            guest.reset()?;
            guest.vcpu.vcpu_write_vmcs(field, kept)?;
        }
    }
    let mut entry = Guest::entry(0);
    for value in HOSTILE {
        (entry.primary_controls, entry.entry_info) = (value | Word::from(PrimaryControls::HLT.bits()), value);
        guest.vcpu.vm_enter(&entry);
        expect("what the host was before", Host::without_selectors(), before)?;
        guest.reset()?;
    }
    expect("reason of the last exit", guest.enter(0).reason, reason::HLT)
}

/// Enters a guest in any state, and ends the run after some thousand instructions.
fn enter_for_a_moment(guest: &Guest, field: u32, value: Word) -> Outcome {
    let timer = Word::from(PinControls::PREEMPTION_TIMER.bits());
    let write = |name: F, value: Word| {
        if name as u32 != field {
            guest.vcpu.vcpu_write_vmcs(name as u32, value)?;
        }
        sel4::Result::Ok(())
    };
    write(F::PinControls, timer)?;
    if field != F::PreemptionTimer as u32 || value > 0x1_0000 {
        guest.vcpu.vcpu_write_vmcs(F::PreemptionTimer as u32, 500)?;
    }
    guest.enter(0);
    Ok(())
}
