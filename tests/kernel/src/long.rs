//! Guests in long mode: their registers, their MSRs, their way there from real mode, and entries that fail (Intel SDM
//! volume 3, chapters "VM Entries" and "Architecture Compatibility", and volume 4 for the MSRs).

use alloc::{format, vec::Vec};
use core::array;
use core::sync::atomic::Ordering::SeqCst;

use kernel_tests::long_mode::{self, CODE_64, CR0, CR4, IA_32E_MODE, LMA, LME, LOAD_EFER, PML4, SCE, give_tables, set};
use sel4::cap::cap_type;
use sel4::vcpu::context;
use sel4::{Error, VmEnter, VmEnterResult, Word};
use vtx::cr::{cr0, cr4};
use vtx::vmcs::{PrimaryControls, SecondaryControls, VmcsField as F, access_rights};

use crate::bench::{Bench, SELF};
use crate::check::{Check, Outcome, PINNED, Seen, expect, refused};
use crate::guest::{Guest, HALT, reason};
use crate::thread::{EQUAL, REASON, Thread, reaches, run_guest};

/// The checks of this file, which need `X86_64_VTX_64BIT_GUESTS`.
pub const CHECKS: &[Check] = &[
    Check { defect: "long-mode", name: "a guest in long mode keeps its sixteen registers", run: registers },
    Check { defect: "long-mode", name: "each guest has its MSRs, and the host its own", run: msrs },
    Check { defect: "long-mode", name: "the guest itself reaches its bases", run: bases },
    Check { defect: "long-mode", name: "MSRs take what WRMSR takes", run: refused_msrs },
    Check { defect: "long-mode", name: "SYSCALL and SYSRET stay in the guest", run: system_calls },
    Check { defect: "long-mode", name: "the host's system calls go to the host amid those of a guest", run: preempted },
    Check { defect: "long-mode", name: "a guest goes from real mode to long mode and on", run: modes },
    Check { defect: "failed-entries", name: "an entry with a wrong state comes back", run: wrong_states },
    Check { defect: "failed-entries", name: "VMLAUNCH and VMRESUME that fail come back", run: failing_instructions },
    Check { defect: "controls", name: "entry controls and EFER have no other bits", run: masks },
    Check { defect: "task-priority", name: "CR8 exits", run: cr8 },
];

const LOAD_PAT: Word = 1 << 14;
const NXE: Word = 1 << 11;
/// In the access rights of CS.
const LONG: Word = 1 << 13;

const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const FMASK: u32 = 0xc000_0084;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;

fn get(guest: &Guest, field: F) -> Result<Word, Seen> {
    Ok(guest.vcpu.vcpu_read_vmcs(field as u32)?)
}

/// An exit, copied from the message.
struct Exit {
    rip: Word,
    qualification: Word,
    rflags: Word,
    cr3: Word,
    /// RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8 to R15.
    gprs: [Word; 15],
}

const RAX: usize = 0;
const RCX: usize = 2;
const RDX: usize = 3;
const R11: usize = 10;

/// Runs the guest until it exits, for this reason.
fn enter(guest: &Guest, entry: &VmEnter, why: u32) -> Result<Exit, Seen> {
    let VmEnterResult::Fault(fault) = guest.vcpu.vm_enter(entry) else {
        return Err(Seen("a signal, and nothing is bound to this thread".into()));
    };
    let exit = Exit {
        rip: fault.guest.rip,
        qualification: fault.qualification(),
        rflags: fault.rflags(),
        cr3: fault.cr3(),
        gprs: array::from_fn(|place| fault.register(place)),
    };
    expect("reason of the exit", fault.reason as u32, why)?;
    Ok(exit)
}

/// The same from `rip` on to a HLT.
fn to_halt(guest: &Guest, rip: Word) -> Result<Exit, Seen> {
    enter(guest, &Guest::entry(rip), reason::HLT)
}

/// Registers in the message's order, each with its own value.
fn pattern(seed: Word) -> [Word; 15] {
    array::from_fn(|index| seed << 48 | 0x1234_5678_0000 | index as Word)
}

/// Two guests in turn each increment all their registers, and find what they had.
fn registers(bench: &mut Bench) -> Outcome {
    let mut code = Vec::new();
    for number in 0..16_u8 {
        // inc, with the number in REX.B and ModRM.rm; it leaves CF alone
        code.extend([0x48 | number >> 3, 0xff, 0xc0 | number & 7]);
    }
    code.extend(HALT);
    let guests = [long_mode::guest(bench, &code)?, long_mode::guest(bench, &code)?];
    for (seed, guest) in (0x1111..).zip(&guests) {
        guest.vcpu.vcpu_write_registers(&context(&pattern(seed)))?;
        set(guest, &[(F::GuestRsp, seed << 48 | 0x77), (F::GuestRflags, 0x203)])?;
        set(guest, &[(F::GuestFsBase, 0x1111_0000_0000 + seed), (F::GuestGsBase, 0x2222_0000_0000 + seed)])?;
    }
    for round in 1..=3 {
        for (seed, guest) in (0x1111..).zip(&guests) {
            guest.bind(SELF)?;
            let exit = to_halt(guest, 0)?;
            expect("the general registers", exit.gprs, pattern(seed).map(|value| value + round))?;
            expect("RSP", get(guest, F::GuestRsp)?, (seed << 48 | 0x77) + round)?;
            expect("RIP", exit.rip, 48)?;
            expect("CF and IF", exit.rflags & 0x201, 0x201)?;
            expect("CR3", exit.cr3, PML4)?;
            for (field, value) in [
                (F::GuestEfer, SCE | LME | LMA),
                (F::GuestFsBase, 0x1111_0000_0000 + seed),
                (F::GuestGsBase, 0x2222_0000_0000 + seed),
            ] {
                expect("field", (field, get(guest, field)?), (field, value))?;
            }
            expect("CR0", get(guest, F::GuestCr0)? & CR0, CR0)?;
            expect("CR4", get(guest, F::GuestCr4)? & CR4, CR4)?;
        }
    }
    Ok(())
}

/// What user level gives a guest, and a value of each MSR. The kernels of others than us lack the last two.
fn own_msrs(seed: Word) -> impl Iterator<Item = (u32, Word)> {
    let all = [
        (STAR, 0x0023_0008_0000_0000 + seed),
        (LSTAR, 0xffff_ffff_8000_0000 + seed),
        (CSTAR, 0xffff_ffff_9000_0000 + seed),
        (FMASK, 0x4700 + seed),
        (KERNEL_GS_BASE, 0x3333_0000_0000 + seed),
        (TSC_AUX, 0x4444_0000 + seed),
    ];
    all.into_iter().take(if PINNED { 6 } else { 4 })
}

/// They outlast exits and the other guest's entries. The host's are what its system calls go by: each of these is one.
fn msrs(bench: &mut Bench) -> Outcome {
    // rdtscp; hlt
    let code = [0x0f, 0x01, 0xf9, 0xf4];
    let guests = [long_mode::guest(bench, &code)?, long_mode::guest(bench, &code)?];
    let rdtscp = SecondaryControls::RDTSCP.bits().into();
    for (seed, guest) in (1..).zip(&guests) {
        set(guest, &[(F::SecondaryControls, rdtscp)])?;
        for (number, value) in own_msrs(seed) {
            expect("MSR, as written", guest.vcpu.vcpu_write_msr(number, value), Ok(value))?;
        }
    }
    for _ in 0..3 {
        for (seed, guest) in (1..).zip(&guests) {
            guest.bind(SELF)?;
            let exit = to_halt(guest, 0)?;
            if PINNED {
                expect("TSC_AUX in the guest", exit.gprs[RCX], 0x4444_0000 + seed)?;
                expect("TSC_AUX in the host", tsc_aux(), 0)?;
            }
            for (number, value) in own_msrs(seed) {
                expect("MSR", (number, guest.vcpu.vcpu_read_msr(number)?), (number, value))?;
            }
        }
    }
    Ok(())
}

/// TSC_AUX as this thread sees it.
#[allow(unsafe_code)]
fn tsc_aux() -> u32 {
    let mut aux = 0;
    // SAFETY: it writes nothing but `aux`, and every processor that these checks run on has RDTSCP.
    unsafe { core::arch::x86_64::__rdtscp(&raw mut aux) };
    aux
}

/// KERNEL_GS_BASE by RDMSR, WRMSR and SWAPGS, without an exit. A guest that is never in long mode does not reach it.
fn bases(bench: &mut Bench) -> Outcome {
    // mov ecx, 0xc0000102; rdmsr; hlt; swapgs; hlt; inc eax; wrmsr; hlt
    let code = [0xb9, 2, 1, 0, 0xc0, 0x0f, 0x32, 0xf4, 0x0f, 0x01, 0xf8, 0xf4, 0xff, 0xc0, 0x0f, 0x30, 0xf4];
    const SWAP: Word = 8;
    const WRITE: Word = 12;
    let guest = long_mode::guest(bench, &code)?;
    let other = long_mode::guest(bench, &code)?;
    for (seed, guest) in [(1, &guest), (2, &other)] {
        guest.bind(SELF)?;
        set(guest, &[(F::GuestGsBase, 0x5555_0000_6600 + seed)])?;
        to_halt(guest, SWAP)?;
    }
    for (seed, guest) in [(1, &guest), (2, &other)] {
        guest.bind(SELF)?;
        let base = 0x5555_0000_6600 + seed;
        let read = to_halt(guest, 0)?.gprs;
        expect("KERNEL_GS_BASE by RDMSR", read[RDX] << 32 | read[RAX], base)?;
        to_halt(guest, WRITE)?;
        to_halt(guest, SWAP)?;
        expect("GS's base behind SWAPGS", get(guest, F::GuestGsBase)?, base + 1)?;
    }
    if PINNED {
        let outside = Guest::new(bench, &code)?;
        enter(&outside, &Guest::entry(0), RDMSR)?;
    }
    Ok(())
}

/// More reasons of exits.
const TRIPLE_FAULT: u32 = 2;
const RDMSR: u32 = 31;

/// What would fault when the kernel loads it, and what is none of these MSRs.
fn refused_msrs(bench: &mut Bench) -> Outcome {
    let guest = long_mode::guest(bench, &HALT)?;
    if PINNED {
        for (number, value) in [
            (LSTAR, 0x8000_0000_0000),
            (CSTAR, 0xffff_7fff_ffff_ffff),
            (KERNEL_GS_BASE, 1 << 63),
            (FMASK, 1 << 32),
            (TSC_AUX, 1 << 32),
        ] {
            refused("MSR", guest.vcpu.vcpu_write_msr(number, value), Error::InvalidArgument)?;
        }
    }
    for number in [0, 0x1b, 0x174, 0x277, 0xc000_0080, 0xc000_0100, 0xc000_0101, 0xc000_0104, u32::MAX] {
        refused("writing another MSR", guest.vcpu.vcpu_write_msr(number, 0), Error::IllegalOperation)?;
        refused("reading another MSR", guest.vcpu.vcpu_read_msr(number), Error::IllegalOperation)?;
    }
    to_halt(&guest, 0).map(|_| ())
}

/// SYSCALL leads to the guest's LSTAR, also from its ring 3, and FMASK clears the guest's flags.
fn system_calls(bench: &mut Bench) -> Outcome {
    const ENTRY: Word = 0x100;
    // syscall; syscall in ring 3
    let guest = long_mode::guest(bench, &[0x0f, 0x05, 0x0f, 0x05])?;
    // hlt; sysretq
    bench.scratch.write(guest.code, ENTRY as usize, &[0xf4, 0x48, 0x0f, 0x07])?;
    // SYSCALL: CS 0x18, SS 0x20; SYSRET: CS 0x33, SS 0x2b.
    for (number, value) in [(STAR, 0x0023_0018_0000_0000), (LSTAR, ENTRY), (FMASK, 0x400)] {
        guest.vcpu.vcpu_write_msr(number, value)?;
    }
    set(&guest, &[(F::GuestRflags, 0x602)])?;
    for (from, rip, flags) in [(2, 0, 0x602), (4, ENTRY + 1, 0x602)] {
        let exit = to_halt(&guest, rip)?;
        expect("where SYSCALL leads", exit.rip, ENTRY)?;
        expect("the address behind it", exit.gprs[RCX], from)?;
        expect("its flags", exit.gprs[R11], flags)?;
        expect("the flags now", exit.rflags, 0x202)?;
        expect("CS", get(&guest, F::GuestCsSelector)?, 0x18)?;
    }
    // Without EFER.SCE there is no SYSCALL.
    set(&guest, &[(F::GuestEfer, LME | LMA), (F::ExceptionBitmap, 1 << 6)])?;
    enter(&guest, &Guest::entry(0), reason::EXCEPTION).map(|_| ())
}

/// A guest does nothing but system calls, and is preempted amid them; this thread's go to the kernel all the same.
fn preempted(bench: &mut Bench) -> Outcome {
    const ENTRY: Word = 0x100;
    let vcpu = bench.make::<cap_type::VCpu>()?;
    let thread = Thread::new(bench, run_guest, vcpu.bits(), EQUAL)?;
    // syscall; there: inc rbx; jmp to the SYSCALL
    let guest = Guest::with(bench, vcpu, thread.tcb, &[0x0f, 0x05])?;
    bench.scratch.write(guest.code, ENTRY as usize, &[0x48, 0xff, 0xc3, 0xe9, 0xf8, 0xfe, 0xff, 0xff])?;
    give_tables(bench, &guest)?;
    long_mode::begin(&guest)?;
    for (number, value) in [(STAR, 0x0023_0018_0000_0000), (LSTAR, ENTRY), (FMASK, 0)] {
        guest.vcpu.vcpu_write_msr(number, value)?;
    }
    thread.start()?;
    expect("the thread enters its guest", reaches(1), true)?;
    expect("the guest exits by itself", reaches(2), false)?;
    expect("LSTAR meanwhile", guest.vcpu.vcpu_read_msr(LSTAR)?, ENTRY)?;
    bench.scratch.write(guest.code, ENTRY as usize + 3, &HALT)?;
    expect("the guest reaches its HLT", reaches(2), true)?;
    expect("reason of the exit", REASON.load(SeqCst) as u32, reason::HLT)
}

/// Whether the processor lets a guest run without paging: WriteVMCS returns the controls that it has.
fn is_unrestricted(guest: &Guest) -> Result<bool, Seen> {
    let wanted = SecondaryControls::UNRESTRICTED_GUEST.bits().into();
    Ok(guest.vcpu.vcpu_write_vmcs(F::SecondaryControls as u32, wanted)? & wanted != 0)
}

/// From real mode through protected mode and long mode to compatibility mode, with a HLT in each. The guest sets PE, PAE
/// and PG itself; EFER exits, so user level sets that.
fn modes(bench: &mut Bench) -> Outcome {
    const PROTECTED: usize = 0x20;
    const COMPATIBILITY: usize = 0x70;
    const LONG_MODE: usize = 0x80;
    // hlt; mov eax, cr0; or al, 1; mov cr0, eax; jmp 8:PROTECTED
    let guest =
        Guest::new(bench, &[0xf4, 0x0f, 0x20, 0xc0, 0x0c, 1, 0x0f, 0x22, 0xc0, 0xea, PROTECTED as u8, 0, 8, 0])?;
    give_tables(bench, &guest)?;
    // hlt; mov eax, cr4; or eax, PAE; mov cr4, eax; mov eax, cr0; or eax, PG; mov cr0, eax; jmp 0x18:LONG_MODE
    let protected = [
        0xf4,
        0x0f,
        0x20,
        0xe0,
        0x83,
        0xc8,
        0x20,
        0x0f,
        0x22,
        0xe0,
        0x0f,
        0x20,
        0xc0,
        0x0d,
        0,
        0,
        0,
        0x80,
        0x0f,
        0x22,
        0xc0,
        0xea,
        LONG_MODE as u8,
        0,
        0,
        0,
        0x18,
        0,
    ];
    bench.scratch.write(guest.code, PROTECTED, &protected)?;
    // hlt; push 8; push COMPATIBILITY; retfq
    bench.scratch.write(guest.code, LONG_MODE, &[0xf4, 0x6a, 8, 0x6a, COMPATIBILITY as u8, 0x48, 0xcb])?;
    // hlt; nop; hlt
    bench.scratch.write(guest.code, COMPATIBILITY, &[0xf4, 0x90, 0xf4])?;
    if !is_unrestricted(&guest)? {
        // Then the kernel sets what such a processor wants.
        let written = guest.vcpu.vcpu_write_vmcs(F::GuestCr0 as u32, cr0::NE)?;
        return expect("PE and PG, written as 0", written & (cr0::PE | cr0::PG), cr0::PE | cr0::PG);
    }
    for (selector, base, limit, rights) in [
        (F::GuestCsSelector, F::GuestCsBase, F::GuestCsLimit, F::GuestCsAccessRights),
        (F::GuestSsSelector, F::GuestSsBase, F::GuestSsLimit, F::GuestSsAccessRights),
        (F::GuestDsSelector, F::GuestDsBase, F::GuestDsLimit, F::GuestDsAccessRights),
        (F::GuestEsSelector, F::GuestEsBase, F::GuestEsLimit, F::GuestEsAccessRights),
        (F::GuestFsSelector, F::GuestFsBase, F::GuestFsLimit, F::GuestFsAccessRights),
        (F::GuestGsSelector, F::GuestGsBase, F::GuestGsLimit, F::GuestGsAccessRights),
    ] {
        let kind = if selector == F::GuestCsSelector { 0x9b } else { 0x93 };
        set(&guest, &[(selector, 0), (base, 0), (limit, 0xffff), (rights, kind)])?;
    }
    set(
        &guest,
        &[
            (F::EntryControls, LOAD_EFER),
            (F::GuestEfer, 0),
            (F::GuestCr0, cr0::NE | cr0::ET),
            (F::GuestCr3, PML4),
            (F::GuestCr4, 0),
        ],
    )?;
    let mut exit = to_halt(&guest, 0)?;
    expect("PE in real mode", get(&guest, F::GuestCr0)? & cr0::PE, 0)?;
    exit = to_halt(&guest, exit.rip + 1)?;
    expect("where protected mode begins", exit.rip, PROTECTED as Word)?;
    expect("PE and PG in protected mode", get(&guest, F::GuestCr0)? & (cr0::PE | cr0::PG), cr0::PE)?;
    set(&guest, &[(F::GuestEfer, LME | SCE), (F::GuestSsSelector, 0x10), (F::GuestSsAccessRights, FLAT_DATA)])?;
    exit = to_halt(&guest, exit.rip + 1)?;
    expect("where long mode begins", exit.rip, LONG_MODE as Word)?;
    expect("EFER in long mode", get(&guest, F::GuestEfer)?, LMA | LME | SCE)?;
    expect("the entry control in long mode", get(&guest, F::EntryControls)? & IA_32E_MODE, IA_32E_MODE)?;
    exit = to_halt(&guest, exit.rip + 1)?;
    expect("where compatibility mode begins", exit.rip, COMPATIBILITY as Word)?;
    expect("CS.L in compatibility mode", get(&guest, F::GuestCsAccessRights)? & LONG, 0)?;
    expect("EFER in compatibility mode", get(&guest, F::GuestEfer)?, LMA | LME | SCE)?;
    exit = to_halt(&guest, exit.rip + 1)?;
    expect("the next HLT", exit.rip, COMPATIBILITY as Word + 2)
}

const FLAT_DATA: Word = access_rights::FLAT_DATA as Word;

/// Each is a state that an entry refuses. The guest's registers are what they were, and it runs once it is corrected.
fn wrong_states(bench: &mut Bench) -> Outcome {
    let guest = long_mode::guest(bench, &HALT)?;
    let other = long_mode::guest(bench, &HALT)?;
    guest.bind(SELF)?;
    guest.vcpu.vcpu_write_registers(&context(&pattern(0x2222)))?;
    for (number, value) in own_msrs(9) {
        guest.vcpu.vcpu_write_msr(number, value)?;
    }
    for (what, field, value) in [
        ("IA-32e mode without LMA", F::GuestEfer, SCE | LME),
        ("LMA without LME", F::GuestEfer, SCE | LMA),
        ("LMA without IA-32e mode", F::EntryControls, LOAD_EFER),
        ("paging without protection", F::GuestCr0, CR0 & !cr0::PE),
        ("IA-32e mode without PAE", F::GuestCr4, cr4::OSFXSR),
        ("64-bit code with 32-bit operands", F::GuestCsAccessRights, CODE_64 | 1 << 14),
        ("a base that is not canonical", F::GuestGsBase, 0x8000_0000_0000),
        ("flags with bit 1 clear", F::GuestRflags, 0x200),
    ] {
        let good = get(&guest, field)?;
        let written = guest.vcpu.vcpu_write_vmcs(field as u32, value)?;
        if field == F::GuestCr0 && written & cr0::PE != 0 {
            // Without "unrestricted guest", the kernel sets it.
            set(&guest, &[(field, good)])?;
            continue;
        }
        let exit = enter(&guest, &Guest::entry(0), reason::BAD_GUEST_STATE)
            .map_err(|Seen(seen)| Seen(format!("{what}: {seen}")))?;
        expect(what, exit.gprs, pattern(0x2222))?;
        expect("LSTAR", guest.vcpu.vcpu_read_msr(LSTAR)?, 0xffff_ffff_8000_0009)?;
        set(&guest, &[(field, good)])?;
        other.bind(SELF)?;
        to_halt(&other, 0)?;
        guest.bind(SELF)?;
        to_halt(&guest, 0)?;
    }
    // An entry refuses a RIP whose bits 63 to 48 differ; Bochs does not look, and the guest's first fetch faults, as it does
    // if only bit 47 differs.
    for rip in [1 << 62, 1 << 47] {
        let VmEnterResult::Fault(exit) = guest.vcpu.vm_enter(&Guest::entry(rip)) else {
            return Err(Seen("a signal, and nothing is bound to this thread".into()));
        };
        let known = matches!(exit.reason as u32, reason::BAD_GUEST_STATE | TRIPLE_FAULT);
        expect("refused or a triple fault", (known, exit.reason), (true, exit.reason))?;
        to_halt(&guest, 0)?;
    }
    Ok(())
}

/// An event to inject whose type is reserved is a wrong control: the instruction fails, with the guest's registers in the
/// processor. All of them are addresses of this function, and of a page that is the kernel's.
fn failing_instructions(bench: &mut Bench) -> Outcome {
    const WRONG: Word = 1 << 31 | 1 << 8;
    const WRONG_CONTROL: Word = 7;
    let guest = long_mode::guest(bench, &HALT)?;
    for address in [failing_instructions as fn(&mut Bench) -> Outcome as usize as Word, 0xffff_ffff_8010_0000, 0] {
        guest.vcpu.vcpu_write_registers(&context(&[address; 15]))?;
        set(&guest, &[(F::GuestRsp, address)])?;
        for rip in [address, 0] {
            // By VMLAUNCH in the first round, since no guest has entered yet, and by VMRESUME from then on.
            let entry = VmEnter { entry_info: WRONG, ..Guest::entry(rip) };
            let exit = enter(&guest, &entry, reason::NOT_ENTERED)?;
            expect("VM-instruction error", get(&guest, F::InstructionError)?, WRONG_CONTROL)?;
            expect("the guest's registers", exit.gprs, [address; 15])?;
        }
        to_halt(&guest, 0)?;
    }
    Ok(())
}

/// What user level may not set is not set; what it writes comes back. Bits 0 to 8 and 12 may be fixed to 1 (SDM volume 3,
/// "VM-Entry Controls").
fn masks(bench: &mut Bench) -> Outcome {
    let guest = long_mode::guest(bench, &HALT)?;
    if !PINNED {
        return Ok(());
    }
    let written = guest.vcpu.vcpu_write_vmcs(F::EntryControls as u32, 0xffff_ffff)?;
    expect("entry controls", written & !0x11ff, IA_32E_MODE | LOAD_PAT | LOAD_EFER)?;
    expect("entry controls, read", get(&guest, F::EntryControls)?, written)?;
    let efer = guest.vcpu.vcpu_write_vmcs(F::GuestEfer as u32, Word::MAX)?;
    expect("EFER", efer, SCE | LME | LMA | NXE)?;
    expect("EFER, read", get(&guest, F::GuestEfer)?, efer)
}

/// CR8 would be the host's: the priority below which its local APIC delivers no interrupt.
fn cr8(bench: &mut Bench) -> Outcome {
    // mov cr8, rax; mov rax, cr8
    let guest = long_mode::guest(bench, &[0x44, 0x0f, 0x22, 0xc0, 0x44, 0x0f, 0x20, 0xc0])?;
    for rip in [0, 4] {
        let exit = enter(&guest, &VmEnter { rip, ..Guest::entry(0) }, reason::CONTROL_REGISTER)?;
        expect("the register", exit.qualification & 15, 8)?;
    }
    let both = Word::from((PrimaryControls::CR8_LOAD | PrimaryControls::CR8_STORE).bits());
    expect("CR8 in the controls", get(&guest, F::PrimaryControls)? & both, both)
}
