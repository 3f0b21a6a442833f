//! Steps over instructions that the emulator does not know: what the processor gets for one, and what the guest finds behind
//! it. The tables are read here as the processor would, by the VMM's own walk.

use vmm_server::{
    answer::Next,
    paging::{Intent, Root, translate},
};
use vtx::{
    cr::Paging,
    event::{Event, Exception},
    exit::{Cr, RawExit},
    gpr::Gprs,
    vmcs::{PrimaryControls, Vmcs, VmcsField},
};

use crate::fake::{Guest, RIP, answer, at_now, guest, raw, reason};

const NOWHERE: u64 = 0xe000_0000;
const READ: u64 = 1 << 0 | 1 << 7 | 1 << 8;
const WRITE: u64 = 1 << 1 | 1 << 7 | 1 << 8;
const EXCEPTION: u32 = 0;
const TF: u64 = 1 << 8;
const BS: u64 = 1 << 14;
const RF: u64 = 1 << 16;
/// Where the guest's own tables are, for those who page.
const CR3: u64 = 0x2000;

/// movups (%esi), %xmm0
const MOVUPS: [u8; 3] = [0x0f, 0x10, 0x06];

fn at(linear: u64, exit: RawExit) -> (Guest, Next) {
    let mut guest = guest();
    let next = begin(&mut guest, &MOVUPS, linear, exit);
    (guest, next)
}

fn begin(guest: &mut Guest, code: &[u8], linear: u64, exit: RawExit) -> Next {
    guest.vm.ram.write(RIP, code).unwrap();
    guest.cpu.vmcs.write(VmcsField::GuestLinearAddress, linear);
    answer(guest, RawExit { guest_physical: linear, cr3: 0xf_0000, ..exit })
}

fn violation(qualification: u64) -> RawExit {
    raw(reason::EPT, qualification, Gprs { rsi: NOWHERE, ..Gprs::default() })
}

fn stepping() -> Guest {
    let (guest, next) = at(NOWHERE, violation(READ));
    assert_eq!((next, guest.cpu.native.is_active()), (Next::Retry, true));
    guest
}

/// An exception exits, with this interruption information.
fn exception(guest: &mut Guest, info: u64, code: u64, qualification: u64, rip: u64) -> Next {
    guest.cpu.vmcs.write(VmcsField::ExitInterruptionInfo, info);
    guest.cpu.vmcs.write(VmcsField::ExitInterruptionErrorCode, code);
    let cr3 = guest.cpu.vmcs.read(VmcsField::GuestCr3);
    // A trap comes behind the instruction, which clears RF.
    let rflags = if rip == RIP { guest.cpu.exit.rflags } else { guest.cpu.exit.rflags & !RF };
    answer(guest, RawExit { rip, rflags, cr3, ..raw(EXCEPTION, qualification, guest.cpu.exit.gprs) })
}

fn stepped(guest: &mut Guest) -> Next {
    exception(guest, 0x8000_0301, 0, BS, RIP + 3)
}

fn page_fault(guest: &mut Guest, linear: u64, code: u64) -> Next {
    exception(guest, 0x8000_0b0e, code, linear, RIP)
}

/// Where the processor finds `linear`, on the tables that it has now.
fn physical(guest: &mut Guest, linear: u64, write: bool, user: bool) -> Option<u64> {
    let cr3 = guest.cpu.vmcs.read(VmcsField::GuestCr3);
    let root = Root { paging: Paging::Bits32 { large: false }, cr3, write_protect: true };
    let ram = guest.vm.ram;
    translate(&root, linear, Intent { write, user }, |at, _| ram.read_u32(at).ok().map(u64::from)).ok()
}

fn is_over(guest: &mut Guest) {
    assert!(!guest.cpu.native.is_active());
    let fields = [VmcsField::GuestCr3, VmcsField::ExceptionBitmap, VmcsField::GuestRflags];
    // An instruction that is not done has it still.
    let rf = if guest.cpu.exit.rip == RIP { RF } else { 0 };
    assert_eq!(fields.map(|field| guest.cpu.vmcs.read(field)), [0xf_0000, 0x2_0002, 0x202 | rf]);
    assert_eq!(guest.cpu.exit.cr3, 0xf_0000);
}

#[test]
fn a_step_has_the_code_and_a_page_of_ones_and_nothing_else() {
    let mut guest = stepping();
    assert_eq!(physical(&mut guest, RIP, false, false), Some(RIP));
    let ones = physical(&mut guest, NOWHERE + 0xff0, true, false).unwrap();
    assert_eq!(guest.vm.ram.read_u64(ones), Ok(u64::MAX));
    for linear in [0, RIP - 1, NOWHERE - 1, NOWHERE + 0x1000] {
        assert_eq!(physical(&mut guest, linear, false, false), None, "{linear:#x}");
    }
    assert_eq!(physical(&mut guest, NOWHERE, false, true), None, "nor has a user anything, in the kernel's step");
    let fields = [VmcsField::GuestRflags, VmcsField::ExceptionBitmap];
    assert_eq!(fields.map(|field| guest.cpu.vmcs.read(field)), [0x202 | TF | RF, 0xffff_ff7f]);
}

#[test]
fn the_guest_goes_on_behind_it_and_knows_nothing() {
    let mut guest = stepping();
    assert_eq!(stepped(&mut guest), Next::Retry);
    is_over(&mut guest);
    assert_eq!((guest.cpu.exit.rip, guest.cpu.vmcs.read(VmcsField::GuestDr6)), (RIP + 3, 0xffff_0ff0));
}

#[test]
fn what_the_step_wrote_is_ones_again_at_the_next() {
    let mut guest = stepping();
    let ones = physical(&mut guest, NOWHERE, true, false).unwrap();
    guest.vm.ram.write_u64(ones, 0).unwrap();
    stepped(&mut guest);
    begin(&mut guest, &MOVUPS, NOWHERE, violation(READ));
    assert_eq!(guest.vm.ram.read_u64(ones), Ok(u64::MAX));
}

#[test]
fn no_interrupt_comes_in_between() {
    let mut guest = stepping();
    guest.cpu.hold(0x30);
    assert!(!guest.interrupt());
    assert_eq!(guest.cpu.inject, 0);
    assert!(!guest.cpu.primary.contains(PrimaryControls::INTERRUPT_WINDOW), "it would end the step at once");
    stepped(&mut guest);
    assert!(guest.interrupt());
    assert_eq!(guest.cpu.inject, 0x8000_0030);
}

#[test]
fn an_exception_of_the_instruction_is_the_guests() {
    for (info, found) in [
        (0x8000_0313, Exception::SimdFloatingPoint),
        (0x8000_0b0d, Exception::GeneralProtection),
        (0x8000_0300, Exception::DivideError),
        (0x8000_0b11, Exception::AlignmentCheck),
    ] {
        let mut guest = stepping();
        assert_eq!(exception(&mut guest, info, 0, 0, RIP), Next::Raise(Event::Exception(found)));
        is_over(&mut guest);
    }
}

#[test]
fn an_nmi_of_the_hosts_changes_nothing() {
    let mut guest = stepping();
    assert_eq!(exception(&mut guest, 0x8000_0202, 0, 0, RIP), Next::Retry);
    assert!(guest.cpu.native.is_active());
}

#[test]
fn pages_that_are_missing_are_the_guests_own() {
    let mut guest = stepping();
    assert_eq!(page_fault(&mut guest, RIP + 0x1000, 0), Next::Retry);
    assert_eq!(physical(&mut guest, RIP + 0x1000, false, false), Some(RIP + 0x1000));
    // Behind the operand is nothing either, which shows in a violation.
    assert_eq!(page_fault(&mut guest, NOWHERE + 0x1000, 0), Next::Retry);
    assert_eq!(physical(&mut guest, NOWHERE + 0x1000, false, false), Some(NOWHERE + 0x1000));
    guest.cpu.vmcs.write(VmcsField::GuestLinearAddress, NOWHERE + 0x1000);
    let exit = RawExit { guest_physical: NOWHERE + 0x1000, rflags: 0x202 | TF | RF, ..violation(READ) };
    assert_eq!(answer(&mut guest, exit), Next::Retry);
    let second = physical(&mut guest, NOWHERE + 0x1000, true, false).unwrap();
    assert_eq!(guest.vm.ram.read_u64(second), Ok(u64::MAX));
    assert_eq!(stepped(&mut guest), Next::Retry);
    is_over(&mut guest);
}

#[test]
fn an_instruction_without_end_is_undefined() {
    let mut guest = stepping();
    let next = (1..100).find_map(|n| {
        let next = page_fault(&mut guest, RIP + n * 0x1000, 0);
        (next != Next::Retry).then_some((n, next))
    });
    assert!(next.is_some_and(|(n, next)| n < 10 && next == Next::UNDEFINED), "{next:?}");
    is_over(&mut guest);
}

/// A guest with 32-bit paging: code at its own address, and this entry for the page behind [`NOWHERE`]'s.
fn paged(behind: u32) -> Guest {
    let mut guest = guest();
    for (at, entry) in [
        (CR3, 0x3027),
        (CR3 + (NOWHERE >> 22 << 2), 0x4027),
        (0x3000 + (RIP >> 12 << 2), RIP as u32 | 0x21),
        (0x4000, NOWHERE as u32 | 0x27),
        (0x4004, behind),
    ] {
        guest.vm.ram.write_u32(at, entry).unwrap();
    }
    for (field, value) in [(VmcsField::GuestCr0, 0x8001_0031), (VmcsField::GuestCr3, CR3)] {
        guest.cpu.vmcs.write(field, value);
    }
    guest.cpu.control.mov_to(Cr::Cr3, CR3).unwrap();
    guest.cpu.control.mov_to(Cr::Cr0, 0x8001_0031).unwrap();
    guest.vm.ram.write(RIP, &MOVUPS).unwrap();
    guest.cpu.vmcs.write(VmcsField::GuestLinearAddress, NOWHERE + 0xff8);
    let exit = RawExit { guest_physical: NOWHERE + 0xff8, cr3: CR3, ..violation(READ) };
    assert_eq!(answer(&mut guest, exit), Next::Retry);
    guest
}

#[test]
fn the_guests_own_tables_say_what_it_may() {
    let mut guest = paged(0x9021);
    assert_eq!(physical(&mut guest, RIP, true, false), None, "the code is not to be written");
    assert_eq!(page_fault(&mut guest, NOWHERE + 0x1000, 0), Next::Retry);
    assert_eq!(physical(&mut guest, NOWHERE + 0x1000, false, false), Some(0x9000));
    assert_eq!(physical(&mut guest, NOWHERE + 0x1000, true, false), None);
    assert_eq!(page_fault(&mut guest, NOWHERE + 0x1000, 3), Next::PROTECTION, "a write there");
    assert_eq!((guest.cpu.native.is_active(), guest.cpu.vmcs.read(VmcsField::GuestCr3)), (false, CR3));
    assert_eq!(page_fault_of(0, 0), Next::PROTECTION, "a page that is not there");
    assert_eq!(page_fault_of(0x9021, 2), Next::PROTECTION, "one to be read, at a write");
}

fn page_fault_of(behind: u32, code: u64) -> Next {
    page_fault(&mut paged(behind), NOWHERE + 0x1000, code)
}

#[test]
fn a_guest_that_steps_itself_gets_its_trap() {
    let (mut guest, next) = at(NOWHERE, RawExit { rflags: 0x202 | TF, ..violation(WRITE) });
    assert_eq!(next, Next::Retry);
    assert_eq!(stepped(&mut guest), Next::Raise(Event::Exception(Exception::Debug)));
    let fields = [VmcsField::GuestRflags, VmcsField::GuestDr6];
    assert_eq!(fields.map(|field| guest.cpu.vmcs.read(field)), [0x202 | TF, 0xffff_4ff0]);
}

#[test]
fn the_shadow_of_mov_ss_ends_with_the_instruction_and_its_breakpoint_comes_then() {
    const MOV_SS: u32 = 2;
    let mut guest = guest();
    for (dr, value) in [(0, 0x1234), (7, 0x401)] {
        let exit = raw(reason::DR, dr, Gprs { rax: value, ..Gprs::default() });
        assert_eq!(answer(&mut guest, exit), Next::Skip);
    }
    // B0 is pending: what the fake processor has there after this exit is a step.
    let exit = RawExit { rflags: 0x202 | TF, interruptibility: MOV_SS, ..violation(READ) };
    assert_eq!(begin(&mut guest, &MOVUPS, NOWHERE, exit), Next::Retry);
    let fields = [VmcsField::GuestInterruptibility, VmcsField::GuestPendingDebug];
    assert_eq!(fields.map(|field| guest.cpu.vmcs.read(field)), [0, 0]);
    assert_eq!(exception(&mut guest, 0x8000_0301, 0, BS | 1, RIP + 3), Next::Raise(Event::Exception(Exception::Debug)));
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestDr6), 0xffff_4ff1);
}

#[test]
fn a_breakpoint_that_is_not_enabled_stops_nothing() {
    let mut guest = stepping();
    assert_eq!(exception(&mut guest, 0x8000_0301, 0, BS | 1, RIP + 3), Next::Retry);
    is_over(&mut guest);
}

#[test]
fn device_registers_take_no_such_instruction() {
    let (guest, next) = at(0xfee0_0020, violation(READ));
    assert_eq!((next, guest.cpu.native.is_active()), (Next::UNDEFINED, false));
    let mut guest = stepping();
    let exit = RawExit { guest_physical: 0xfee0_0000, rflags: 0x202 | TF | RF, ..violation(READ) };
    assert_eq!(answer(&mut guest, exit), Next::UNDEFINED, "nor half of one");
    is_over(&mut guest);
}

#[test]
fn pae_is_put_back_with_its_four_entries() {
    const CR4: u64 = 0x2020;
    let mut guest = guest();
    for (at, entry) in
        [(CR3, 0x3001u64), (CR3 + 24, 0x4001), (0x3000, 0xe7), (0x4000 + (NOWHERE >> 21 & 0x1ff) * 8, 0xe000_00e7)]
    {
        guest.vm.ram.write_u64(at, entry).unwrap();
    }
    guest.cpu.control.mov_to(Cr::Cr3, CR3).unwrap();
    guest.cpu.control.mov_to(Cr::Cr4, 0x20).unwrap();
    guest.cpu.control.mov_to(Cr::Cr0, 0x8001_0031).unwrap();
    let fields = [
        (VmcsField::GuestCr0, 0x8001_0031),
        (VmcsField::GuestCr4, CR4),
        (VmcsField::GuestPdpte0, 0x3001),
        (VmcsField::GuestPdpte3, 0x4001),
    ];
    fields.into_iter().for_each(|(field, value)| guest.cpu.vmcs.write(field, value));
    guest.vm.ram.write(RIP, &MOVUPS).unwrap();
    guest.cpu.vmcs.write(VmcsField::GuestLinearAddress, NOWHERE);
    let exit = RawExit { guest_physical: NOWHERE, cr3: CR3, ..violation(READ) };
    assert_eq!(answer(&mut guest, exit), Next::Retry);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr4), CR4 & !0x20);
    // The processor leaves nothing of use there.
    guest.cpu.vmcs.write(VmcsField::GuestPdpte0, 0);
    guest.cpu.vmcs.write(VmcsField::GuestPdpte3, 0);
    assert_eq!(stepped(&mut guest), Next::Retry);
    assert_eq!(fields.map(|(field, _)| (field, guest.cpu.vmcs.read(field))), fields);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestCr3), CR3);
}

#[test]
fn what_a_step_would_show_or_go_beyond_is_undefined() {
    // pushf, popf, mov (%esi), %ss, lgdt (%esi), lss (%esi), lock fldl (%esi)
    for code in [&[0x9c][..], &[0x9d], &[0x8e, 0x16], &[0x0f, 0x01, 0x16], &[0x0f, 0xb2, 0x06], &[0xf0, 0xdd, 0x06]] {
        assert_eq!(begin(&mut guest(), code, NOWHERE, violation(READ)), Next::UNDEFINED, "{code:02x?}");
    }
}

#[test]
fn others_are_done() {
    for code in [
        &[0xdd, 0x06][..],                  // fldl (%esi)
        &[0x0f, 0x6f, 0x06],                // movq (%esi), %mm0
        &[0x66, 0x0f, 0x38, 0x00, 0x06],    // pshufb (%esi), %xmm0
        &[0x66, 0x0f, 0x3a, 0x0f, 0x06, 1], // palignr
        &[0x0f, 0xae, 0x06],                // fxsave (%esi)
        &[0xf7, 0x36],                      // divl (%esi)
        &[0xf3, 0x0f, 0xbc, 0x06],          // tzcnt (%esi), %eax
        &[0xc4, 0xe2, 0x78, 0xf2, 0x06],    // andn (%esi), %eax, %eax
        &[0x50],                            // push %eax
        &[0xff, 0x16],                      // call *(%esi)
    ] {
        assert_eq!(begin(&mut guest(), code, NOWHERE, violation(READ)), Next::Retry, "{code:02x?}");
    }
}

#[test]
fn a_trap_that_is_left_pending_does_not_come_before_the_instruction() {
    let mut guest = stepping();
    for (field, value) in [
        (VmcsField::ExitInterruptionInfo, 0x8000_0b0e),
        (VmcsField::ExitInterruptionErrorCode, 0),
        (VmcsField::GuestPendingDebug, BS),
    ] {
        guest.cpu.vmcs.write(field, value);
    }
    let exit = RawExit { rflags: 0x202 | TF | RF, cr3: 0xf_1000, ..raw(EXCEPTION, RIP + 0x1000, Gprs::default()) };
    guest.cpu.exited(exit);
    assert_eq!(at_now(&mut guest, &exit).0, Next::Retry);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestPendingDebug), 0);
    assert_eq!(exception(&mut guest, 0x8000_0301, 0, BS, RIP), Next::UNDEFINED, "nor for ever");
    is_over(&mut guest);
}
