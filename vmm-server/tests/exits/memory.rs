//! EPT violations: accesses to addresses without RAM.

use vmm_server::answer::{Cause, Next};
use vtx::{
    exit::RawExit,
    gpr::Gprs,
    vmcs::{Vmcs, VmcsField},
};

use crate::fake::{Guest, RIP, answer, guest, raw, reason};

/// Exit qualifications: what was tried, and that the address is an operand's.
const READ: u64 = 1 << 0 | OPERAND;
const WRITE: u64 = 1 << 1 | OPERAND;
const FETCH: u64 = 1 << 2 | OPERAND;
const OPERAND: u64 = 1 << 7 | 1 << 8;
const PAGE_WALK: u64 = 1 << 0 | 1 << 7;

/// Runs `code`, with EAX 0x12345678, ECX 100, ESI 0xe0000000 and EDI 0x8000.
fn execute(code: &[u8], qualification: u64) -> (Guest, Next) {
    let mut guest = guest();
    guest.vm.ram.write(RIP, code).unwrap();
    let gprs = Gprs { rax: 0x1234_5678, rcx: 100, rsi: 0xe000_0000, rdi: 0x8000, ..Gprs::default() };
    let exit = RawExit { guest_physical: 0xe000_0000, ..raw(reason::EPT, qualification, gprs) };
    let next = answer(&mut guest, exit);
    (guest, next)
}

#[test]
fn a_load_reads_ones_in_its_width() {
    for (code, eax) in [
        // mov (%esi), %al; %ax; %eax; movzwl (%esi), %eax
        ([0x8a, 0x06, 0x90], 0x1234_56ff),
        ([0x66, 0x8b, 0x06], 0x1234_ffff),
        ([0x8b, 0x06, 0x90], 0xffff_ffff),
        ([0x0f, 0xb7, 0x06], 0x0000_ffff),
    ] {
        let (guest, next) = execute(&code, READ);
        assert_eq!((next, guest.cpu.exit.gprs.rax), (Next::Skip, eax), "{code:x?}");
    }
}

#[test]
fn a_store_vanishes_and_changes_nothing() {
    let (mut guest, next) = execute(&[0x89, 0x06], WRITE);
    assert_eq!(next, Next::Skip);
    assert!(!guest.cpu.take_registers_changed());
    assert_eq!(guest.cpu.vmcs.writes, 0);
}

#[test]
fn the_length_is_that_of_the_bytes_not_of_the_exit() {
    // mov 0xe0000000, %eax, while the exit claims two bytes
    let (mut guest, _) = execute(&[0xa1, 0x00, 0x00, 0x00, 0xe0], READ);
    guest.cpu.skip();
    assert_eq!(guest.cpu.exit.rip, RIP + 5);
}

#[test]
fn arithmetic_sets_the_flags() {
    // cmpl $-1, (%esi)
    let (mut guest, next) = execute(&[0x83, 0x3e, 0xff], READ);
    assert_eq!(next, Next::Skip);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestRflags) & 1 << 6, 1 << 6);
}

#[test]
fn a_repeated_copy_is_done_in_batches() {
    // rep movsb
    let (guest, next) = execute(&[0xf3, 0xa4], READ);
    let Gprs { rcx, rsi, rdi, .. } = guest.cpu.exit.gprs;
    assert_eq!((next, rcx, rsi, rdi), (Next::Retry, 36, 0xe000_0040, 0x8040));
    let mut copied = [0; 65];
    guest.vm.ram.read(0x8000, &mut copied).unwrap();
    assert_eq!(copied, [[0xff; 64].as_slice(), &[0]].concat()[..]);
}

#[test]
fn a_push_from_nowhere_moves_the_stack_pointer() {
    let mut guest = guest();
    guest.vm.ram.write(RIP, &[0xff, 0x36]).unwrap();
    guest.cpu.vmcs.write(VmcsField::GuestRsp, 0x7000);
    let exit =
        RawExit { guest_physical: 0xe000_0000, ..raw(reason::EPT, READ, Gprs { rsi: 0xe000_0000, ..Gprs::default() }) };
    assert_eq!(answer(&mut guest, exit), Next::Skip);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestRsp), 0x6ffc);
    assert_eq!(guest.vm.ram.read_u32(0x6ffc), Ok(u32::MAX));
}

#[test]
fn an_instruction_that_no_driver_uses_is_undefined() {
    // lgdt (%esi); mov (%esi), %ss; nothing but prefixes
    for code in [[0x0f, 0x01, 0x16].as_slice(), &[0x8e, 0x16], &[0x66; 15]] {
        assert_eq!(execute(code, READ).1, Next::UNDEFINED, "{code:x?}");
    }
}

#[test]
fn code_in_nowhere_is_undefined() {
    assert_eq!(execute(&[], FETCH).1, Next::UNDEFINED);
    let mut guest = guest();
    let exit = RawExit { rip: 0xe000_0000, ..raw(reason::EPT, READ, Gprs::default()) };
    assert_eq!(answer(&mut guest, exit), Next::UNDEFINED, "nor can it be fetched");
}

#[test]
fn page_tables_in_nowhere_reset_the_guest() {
    assert!(matches!(execute(&[], PAGE_WALK).1, Next::Reset(Cause::Unsupported(_))));
}

#[test]
fn a_stack_or_idt_in_nowhere_resets_the_guest() {
    let mut guest = guest();
    // A #GP was being delivered.
    guest.cpu.vmcs.write(VmcsField::IdtVectoringInfo, 0x8000_0b0d);
    let next = answer(&mut guest, raw(reason::EPT, WRITE, Gprs::default()));
    assert!(matches!(next, Next::Reset(Cause::Unsupported(_))));
}

#[test]
fn an_access_half_in_ram_takes_each_byte_from_where_it_is() {
    let mut guest = guest();
    // mov 0xffffe, %eax: the last two bytes of RAM, and two beyond.
    guest.vm.ram.write(RIP, &[0xa1, 0xfe, 0xff, 0x0f, 0x00]).unwrap();
    guest.vm.ram.write(0xf_fffe, &[0x34, 0x12]).unwrap();
    assert_eq!(answer(&mut guest, raw(reason::EPT, READ, Gprs::default())), Next::Skip);
    assert_eq!(guest.cpu.exit.gprs.rax, 0xffff_1234);
}
