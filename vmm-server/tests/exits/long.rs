//! A guest in long mode: what differs from the others, exit by exit.

use vmm_server::{
    answer::{Answer, Next},
    paging::{Intent, Paging, Root, translate},
};
use vtx::{
    event::{Event, Exception},
    exit::RawExit,
    gpr::Gprs,
    vmcs::{PrimaryControls, Vmcs, VmcsField},
};

use crate::fake::{Guest, PML4, RIP, answer, answer_message, guest, long_guest, raw, reason};

const NOWHERE: u64 = 0xe000_0000;
const UPPER: u64 = 0xffff_8880_0000_0000;
const READ: u64 = 1 << 0 | 1 << 7 | 1 << 8;
const WRITE: u64 = 1 << 1 | 1 << 7 | 1 << 8;
const PATTERN: u64 = 0x1122_3344_5566_7788;
/// Access rights of 32-bit and of 64-bit code.
const NARROW: u64 = 0xc09b;
const WIDE: u64 = 0xa09b;

/// The exit of an instruction that accesses `gpa` by `linear`.
fn violation(guest: &mut Guest, code: &[u8], linear: u64, write: bool, gprs: Gprs) -> RawExit {
    guest.vm.ram.write(RIP, code).unwrap();
    guest.cpu.vmcs.write(VmcsField::GuestLinearAddress, linear);
    let exit = raw(reason::EPT, if write { WRITE } else { READ }, gprs);
    RawExit { guest_physical: linear & 0xffff_ffff, rip: UPPER + RIP, cr3: PML4, ..exit }
}

/// What a load at an address without RAM leaves in the registers.
fn load(code: &[u8], gprs: Gprs, linear: u64) -> Gprs {
    let mut guest = long_guest();
    let exit = violation(&mut guest, code, linear, false, gprs);
    assert_eq!(answer(&mut guest, exit), Next::Skip, "{code:02x?}");
    guest.cpu.skip();
    assert_eq!(guest.cpu.exit.rip, UPPER + RIP + code.len() as u64);
    guest.cpu.exit.gprs
}

#[test]
fn loads_go_where_rex_says() {
    let gprs = Gprs { rbx: UPPER + NOWHERE, rsi: PATTERN, r13: NOWHERE + 0x10, r9: PATTERN, ..Gprs::default() };
    assert_eq!(load(&[0x4c, 0x8b, 0x0b], gprs, UPPER + NOWHERE).r9, u64::MAX, "mov r9, [rbx]");
    assert_eq!(load(&[0x44, 0x8b, 0x0b], gprs, UPPER + NOWHERE).r9, 0xffff_ffff, "mov r9d, [rbx]");
    assert_eq!(load(&[0x45, 0x8b, 0x4d, 0xf0], gprs, NOWHERE).r9, 0xffff_ffff, "mov r9d, [r13 - 0x10]");
    assert_eq!(load(&[0x40, 0x8a, 0x33], gprs, UPPER + NOWHERE).rsi, PATTERN | 0xff, "mov sil, [rbx]");
    assert_eq!(load(&[0x48, 0x0f, 0xb6, 0x33], gprs, UPPER + NOWHERE).rsi, 0xff, "movzx rsi, byte [rbx]");
}

#[test]
fn an_operand_may_count_from_the_next_instruction() {
    let mut guest = long_guest();
    // 0x4000_0000 from the next instruction on.
    let code = [0x8b, 0x35, 0x00, 0x00, 0x00, 0x40];
    let linear = UPPER + RIP + 6 + 0x4000_0000;
    let exit = violation(&mut guest, &code, linear, false, Gprs::default());
    assert_eq!(answer(&mut guest, exit), Next::Skip);
    assert_eq!(guest.cpu.exit.gprs.rsi, 0xffff_ffff);
}

/// The two ways to answer a MOV agree, and the fast one takes it.
#[test]
fn a_drivers_mov_is_not_taken_over() {
    let mut guest = long_guest();
    let gprs = Gprs { rdi: UPPER + (1 << 32) - 0x1000, rsi: PATTERN, ..Gprs::default() };
    // mov esi, [rdi - 0x11fefd0]
    let code = [0x8b, 0xb7, 0x30, 0x10, 0xe0, 0xfe];
    let exit = violation(&mut guest, &code, UPPER + 0xfee0_0030, false, gprs);
    let (answered, written) = answer_message(&mut guest, &exit);
    assert_eq!(answered, Answer::Resume { rip: UPPER + RIP + 6 });
    assert_eq!(written, Gprs { rsi: written.rsi, ..gprs });
    assert_eq!(written.rsi & 0xffff_ffff_0000_00ff, 0x15, "the APIC's version");
    let store = violation(&mut guest, &[0x89, 0xb7, 0x80, 0x10, 0xe0, 0xfe], UPPER + 0xfee0_0080, true, gprs);
    assert_eq!(answer_message(&mut guest, &store).0, Answer::Resume { rip: UPPER + RIP + 6 });
    assert_eq!(guest.read_memory(0xfee0_0080, devices::Width::Dword), 0x88);
}

#[test]
fn an_in_leaves_the_upper_half_or_clears_it() {
    for (width, rax) in [(0, PATTERN | 0xff), (1, PATTERN | 0xffff), (3, 0xffff_ffff)] {
        let exit = raw(reason::IO, 0x500 << 16 | 1 << 3 | width, Gprs { rax: PATTERN, ..Gprs::default() });
        assert_eq!(answer_message(&mut long_guest(), &exit).1.rax, rax);
    }
}

#[test]
fn code_at_the_end_of_32_bits_wraps_around_only_if_it_is_32_bit_code() {
    for (rights, next) in [(WIDE, 0x1_0000_0000), (NARROW, 0)] {
        let mut guest = long_guest();
        guest.cpu.vmcs.write(VmcsField::GuestCsAccessRights, rights);
        let exit = RawExit { rip: 0xffff_fffe, ..raw(reason::CPUID, 0, Gprs::default()) };
        assert_eq!(answer(&mut guest, exit), Next::Skip);
        guest.cpu.skip();
        assert_eq!(guest.cpu.exit.rip, next);
    }
}

/// The processor would fault when it fetches the next instruction; an entry there would be refused.
#[test]
fn an_instruction_at_the_end_of_the_lower_half_faults() {
    let mut guest = long_guest();
    let exit = RawExit { rip: 0x7fff_ffff_fffe, ..raw(reason::CPUID, 0, Gprs::default()) };
    assert_eq!(answer(&mut guest, exit), Next::Skip);
    guest.cpu.follow();
    let protection = Event::Exception(Exception::GeneralProtection).info();
    assert_eq!((guest.cpu.inject, guest.cpu.exit.rip), (protection, 0x7fff_ffff_fffe));
}

fn rdmsr(guest: &mut Guest, number: u64) -> Option<u64> {
    let exit = raw(reason::RDMSR, 0, Gprs { rcx: number, rax: u64::MAX, rdx: u64::MAX, ..Gprs::default() });
    let next = answer(guest, exit);
    let Gprs { rax, rdx, .. } = guest.cpu.exit.gprs;
    (next == Next::Skip).then_some(rdx << 32 | rax)
}

fn wrmsr(guest: &mut Guest, number: u64, value: u64) -> Next {
    let gprs = Gprs { rcx: number, rax: value & 0xffff_ffff, rdx: value >> 32, ..Gprs::default() };
    answer(guest, RawExit { cr3: PML4, ..raw(reason::WRMSR, 0, gprs) })
}

#[test]
fn a_guest_has_msrs_of_its_own() {
    let mut guest = long_guest();
    for (number, value) in [
        (0xc000_0081, PATTERN),
        (0xc000_0082, UPPER),
        (0xc000_0083, UPPER + 1),
        (0xc000_0084, 0x4_7700),
        (0x277, 0x0407_0506_0007_0106),
        (0x2ff, 0),
        (0xc000_0080, 0xd01),
        (0xc000_0100, UPPER + 2),
        (0xc000_0101, UPPER + 3),
        (0xc000_0102, UPPER + 4),
        (0xc000_0103, 0xffff_ffff),
    ] {
        assert_eq!(wrmsr(&mut guest, number, value), Next::Skip, "{number:#x}");
        assert_eq!(rdmsr(&mut guest, number), Some(value), "{number:#x}");
    }
    for (number, value) in [
        (0xc000_0082, 1 << 47),
        (0x277, 2),
        (0x2ff, 2),
        (0xc000_0080, 1),
        (0x48, 1),
        (0xc000_0103, 1 << 32),
        (0xc000_0100, 1 << 47),
    ] {
        assert_eq!(wrmsr(&mut guest, number, value), Next::PROTECTION, "{number:#x}");
    }
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestEfer), 0xd01);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestFsBase), UPPER + 2);
    let mut narrow = self::guest();
    assert_eq!([0xc000_0080, 0xc000_0082, 0x277].map(|number| rdmsr(&mut narrow, number)), [Some(0), None, None]);
    assert_eq!(wrmsr(&mut narrow, 0xc000_0080, 0x800), Next::PROTECTION);
}

#[test]
fn syscall_is_shown_to_64_bit_code_only() {
    let mut guest = long_guest();
    let mut edx = || {
        assert_eq!(answer(&mut guest, raw(reason::CPUID, 0, Gprs { rax: 0x8000_0001, ..Gprs::default() })), Next::Skip);
        let edx = guest.cpu.exit.gprs.rdx;
        guest.cpu.vmcs.write(VmcsField::GuestCsAccessRights, NARROW);
        edx
    };
    let [wide, narrow] = [edx(), edx()];
    assert_eq!(wide & !(1 << 11), narrow);
}

#[test]
fn xsave_is_turned_on_by_cr4_and_xcr0_stays_the_kernels() {
    const XSETBV: u32 = 55;
    const OSXSAVE: u64 = 1 << 18;
    let shown = |guest: &mut Guest| {
        assert_eq!(answer(guest, raw(reason::CPUID, 0, Gprs { rax: 1, ..Gprs::default() })), Next::Skip);
        guest.cpu.exit.gprs.rcx >> 27 & 1
    };
    let mut guest = long_guest();
    assert_eq!(shown(&mut guest), 0);
    assert_eq!(mov_to(&mut guest, 4, 0x20 | OSXSAVE), Next::Skip);
    assert_eq!((shown(&mut guest), guest.cpu.vmcs.read(VmcsField::GuestCr4) & OSXSAVE), (1, OSXSAVE));
    for (rcx, rax, next) in [
        (0, 7, Next::Skip),
        (0, 3, Next::Skip),
        (0, 5, Next::PROTECTION),
        (0, 15, Next::PROTECTION),
        (1, 7, Next::PROTECTION),
    ] {
        assert_eq!(answer(&mut guest, raw(XSETBV, 0, Gprs { rcx, rax, ..Gprs::default() })), next, "XCR{rcx} {rax:#x}");
    }
    guest.cpu.vmcs.write(VmcsField::GuestSsAccessRights, 0xc0f3);
    assert_eq!(
        answer(&mut guest, raw(XSETBV, 0, Gprs { rax: 7, ..Gprs::default() })),
        Next::PROTECTION,
        "a user program"
    );
    guest.cpu.vmcs.write(VmcsField::GuestSsAccessRights, 0xc093);
    assert_eq!(mov_to(&mut guest, 4, 0x20), Next::Skip);
    assert_eq!(shown(&mut guest), 0);
    let narrow = answer(&mut self::guest(), raw(XSETBV, 0, Gprs { rax: 7, ..Gprs::default() }));
    assert_eq!(narrow, Next::UNDEFINED);
}

/// MOV to CR `cr` from RAX.
fn mov_to(guest: &mut Guest, cr: u64, value: u64) -> Next {
    let real = guest.cpu.vmcs.read(VmcsField::GuestCr3);
    answer(guest, RawExit { cr3: real, ..raw(reason::CR, cr, Gprs { rax: value, ..Gprs::default() }) })
}

#[test]
fn long_mode_ends_in_compatibility_mode_only_and_begins_in_32_bit_code() {
    let mut guest = long_guest();
    assert_eq!(mov_to(&mut guest, 0, 0x11), Next::PROTECTION, "in 64-bit code");
    assert!(guest.cpu.control.is_long());
    guest.cpu.vmcs.write(VmcsField::GuestCsAccessRights, NARROW);
    assert_eq!(mov_to(&mut guest, 0, 0x11), Next::Skip);
    let fields = [VmcsField::EntryControls, VmcsField::GuestEfer].map(|field| guest.cpu.vmcs.read(field) & !0xc000);
    assert_eq!((fields, rdmsr(&mut guest, 0xc000_0080)), ([0, 0], Some(0x100)));
    guest.cpu.vmcs.write(VmcsField::GuestCsAccessRights, NARROW | 1 << 13);
    assert_eq!(mov_to(&mut guest, 0, 0x8000_0011), Next::PROTECTION, "the segment is one of 64-bit code");
    guest.cpu.vmcs.write(VmcsField::GuestCsAccessRights, NARROW);
    guest.cpu.vmcs.write(VmcsField::GuestTrAccessRights, 0x83);
    assert_eq!(mov_to(&mut guest, 0, 0x8000_0011), Next::PROTECTION, "a task of 16 bits");
    guest.cpu.vmcs.write(VmcsField::GuestTrAccessRights, 0x8b);
    assert_eq!(mov_to(&mut guest, 0, 0x8000_0011), Next::Skip);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::EntryControls) & 0x200, 0x200);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr3), PML4);
}

#[test]
fn cr8_is_the_local_apics_and_not_the_hosts() {
    let mut guest = long_guest();
    assert!(guest.cpu.primary.contains(PrimaryControls::CR8_LOAD | PrimaryControls::CR8_STORE));
    assert_eq!(mov_to(&mut guest, 8, 5), Next::Skip);
    assert_eq!(guest.read_memory(0xfee0_0080, devices::Width::Dword), 0x50);
    assert_eq!(mov_to(&mut guest, 8, 0x10), Next::PROTECTION);
    let exit = raw(reason::CR, 8 | 1 << 4 | 9 << 8, Gprs::default());
    assert_eq!((answer(&mut guest, exit), guest.cpu.exit.gprs.r9), (Next::Skip, 5));
}

/// Where the processor finds `linear`, on the tables that it has now.
fn physical(guest: &mut Guest, linear: u64) -> Option<u64> {
    let cr3 = guest.cpu.vmcs.read(VmcsField::GuestCr3);
    let root = Root { paging: Paging::Long { no_execute: false }, cr3, write_protect: true };
    let ram = guest.vm.ram;
    translate(&root, linear, Intent { write: false, user: false }, |at, _| ram.read_u64(at).ok()).ok()
}

#[test]
fn the_processor_executes_vectors_on_tables_of_four_levels() {
    let mut guest = long_guest();
    let before = guest.cpu.vmcs.read(VmcsField::GuestCr4);
    // movups xmm9, [rsi]
    let exit = violation(&mut guest, &[0x44, 0x0f, 0x10, 0x0e], UPPER + NOWHERE, false, Gprs::default());
    assert_eq!(answer(&mut guest, exit), Next::Retry);
    assert!(guest.cpu.native.is_active());
    assert_eq!(physical(&mut guest, UPPER + RIP), Some(RIP));
    let ones = physical(&mut guest, UPPER + NOWHERE).unwrap();
    assert_eq!(guest.vm.ram.read_u64(ones), Ok(u64::MAX));
    assert_eq!([RIP, UPPER, UPPER + NOWHERE + 0x1000].map(|linear| physical(&mut guest, linear)), [None; 3]);
    guest.cpu.vmcs.write(VmcsField::ExitInterruptionInfo, 0x8000_0301);
    let cr3 = guest.cpu.vmcs.read(VmcsField::GuestCr3);
    let end = RawExit { rip: UPPER + RIP + 4, rflags: 0x302, cr3, ..raw(0, 1 << 14, Gprs::default()) };
    assert_eq!(answer(&mut guest, end), Next::Retry);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr3), PML4);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr4), before);
}
