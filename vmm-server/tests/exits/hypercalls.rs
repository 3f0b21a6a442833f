//! VMCALL.

use vmm_server::{
    answer::Next,
    hypercalls::{Caller, Hypercall, answer_by},
    vm::{Unknown, Vm},
};
use vtx::{
    gpr::Gprs,
    vmcs::{Vmcs, VmcsField},
};

use crate::fake::{Guest, answer, guest, raw};

const VMCALL: u32 = 18;

fn sum(_: &mut Vm, arguments: [u32; 4]) -> i32 {
    arguments.into_iter().fold(0u32, u32::wrapping_add) as i32
}

/// Writes a byte of the guest's memory.
fn store(vm: &mut Vm, [at, value, ..]: [u32; 4]) -> i32 {
    vm.ram.write(at.into(), &[value as u8]).map_or(-14, |()| 0)
}

const TABLE: &[Hypercall] = &[
    Hypercall { number: 4, by: Caller::Kernel, answer: sum },
    Hypercall { number: 7, by: Caller::Anyone, answer: sum },
    Hypercall { number: u32::MAX, by: Caller::Kernel, answer: store },
];

/// A guest that has made hypercall `number` with these arguments.
fn stopped(number: u64, [rbx, rcx, rdx, rsi]: [u64; 4], user: bool) -> Guest {
    let mut guest = guest();
    if user {
        guest.cpu.vmcs.write(VmcsField::GuestSsAccessRights, 0xc0f3);
    }
    guest.cpu.exited(raw(VMCALL, 0, Gprs { rax: number, rbx, rcx, rdx, rsi, ..Gprs::default() }));
    guest
}

fn result(guest: &mut Guest) -> i32 {
    assert_eq!(answer_by(TABLE, &mut guest.stopped()), Next::Skip);
    let rax = guest.cpu.exit.gprs.rax;
    assert_eq!(rax >> 32, 0);
    rax as i32
}

#[test]
fn arguments_are_those_of_kvm_and_the_result_is_in_eax() {
    // Only the low halves count, and only the result changes.
    let mut guest = stopped(0xff_0000_0004, [1, 2 << 32 | 2, 4, 8], false);
    assert_eq!(result(&mut guest), 15);
    let Gprs { rbx, rcx, rdx, rsi, .. } = guest.cpu.exit.gprs;
    assert_eq!([rbx, rcx, rdx, rsi], [1, 2 << 32 | 2, 4, 8]);
    assert!(guest.cpu.take_registers_changed());
}

#[test]
fn a_hypercall_reaches_the_guests_memory_and_no_other() {
    let mut guest = stopped(u32::MAX.into(), [0x500, 9, 0, 0], false);
    assert_eq!(result(&mut guest), 0);
    assert_eq!(guest.vm.ram.read_u8(0x500), Ok(9));
    assert_eq!(result(&mut stopped(u32::MAX.into(), [u32::MAX.into(), 9, 0, 0], false)), -14);
}

#[test]
fn user_programs_make_only_those_that_anyone_may() {
    assert_eq!(result(&mut stopped(4, [1; 4], true)), -1);
    assert_eq!(result(&mut stopped(7, [1; 4], true)), 4);
    assert_eq!(result(&mut stopped(5, [1; 4], true)), -1, "and do not learn which there are");
}

#[test]
fn unknown_ones_are_errors_and_the_guest_goes_on() {
    for number in [0, 1, 5, 0x7fff_ffff, 0xffff_fffe] {
        let mut guest = stopped(number, [0; 4], false);
        assert_eq!(result(&mut guest), -1000, "{number}");
    }
    let mut guest = guest();
    assert_eq!(answer(&mut guest, raw(VMCALL, 0, Gprs { rax: 0xdead_beef, ..Gprs::default() })), Next::Skip);
    assert_eq!(guest.cpu.exit.gprs.rax, 0xffff_fc18);
}

#[test]
fn each_unknown_number_is_logged_once_and_only_eight_of_them() {
    let mut unknown = Unknown::default();
    let logged: Vec<u32> = (0..20).flat_map(|n| [n, n, 0]).filter(|number| unknown.is_new(*number)).collect();
    assert_eq!(logged, [0, 1, 2, 3, 4, 5, 6, 7]);
}
