//! Exceptions that exit, interrupts, and events whose delivery an exit has cut short.

use proptest::prelude::*;
use vmm_server::answer::{Cause, Next};
use vtx::{
    event::{Event, Exception},
    exit::RawExit,
    gpr::Gprs,
    vmcs::{PrimaryControls, Vmcs, VmcsField},
};

use crate::{
    anything::exit,
    entry,
    fake::{Guest, RIP, answer, guest, guest_with, raw},
};

const DEBUG: Next = Next::Raise(Event::Exception(Exception::Debug));
const ALIGNMENT: Next = Next::Raise(Event::Exception(Exception::AlignmentCheck));
/// RFLAGS: fixed, IF, TF.
const STEPPING: u64 = 0x302;

/// The answer to an exception (its exit interruption information), while `first` was being delivered.
fn exception(guest: &mut Guest, info: u64, first: u64, raw: RawExit) -> Next {
    guest.cpu.vmcs.write(VmcsField::ExitInterruptionInfo, info);
    guest.cpu.vmcs.write(VmcsField::IdtVectoringInfo, first);
    answer(guest, raw)
}

#[test]
fn debug_and_alignment_exceptions_and_wbinvd_exit_from_the_start() {
    let mut guest = guest();
    assert_eq!(guest.cpu.vmcs.read(VmcsField::ExceptionBitmap), 1 << 1 | 1 << 17);
    assert_eq!(guest.cpu.vmcs.read(VmcsField::SecondaryControls), 1 << 6);
}

#[test]
fn a_step_over_sti_leaves_no_shadow() {
    let mut guest = guest();
    let raw = RawExit { rflags: STEPPING, interruptibility: 1, ..raw(0, 1 << 14, Gprs::default()) };
    assert_eq!(exception(&mut guest, 0x8000_0301, 0, raw), DEBUG);
    guest.cpu.follow();
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestInterruptibility), 0);
}

#[test]
fn a_fault_in_a_shadow_ends_it_and_the_step() {
    for interruptibility in [1, 2] {
        let mut guest = guest();
        // VMCLEAR
        let raw = RawExit { rflags: STEPPING, interruptibility, ..raw(19, 0, Gprs::default()) };
        assert_eq!(answer(&mut guest, raw), Next::UNDEFINED);
        guest.cpu.follow();
        assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestInterruptibility), 0);
        assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestPendingDebug), 0);
    }
}

#[test]
fn a_breakpoint_that_mov_ss_has_blocked_comes_with_the_step() {
    let mut guest = guest();
    let raw = RawExit { rflags: STEPPING, interruptibility: 2, ..raw(10, 0, Gprs::default()) };
    assert_eq!(answer(&mut guest, raw), Next::Skip);
    // B0, and that it is enabled.
    guest.cpu.vmcs.write(VmcsField::GuestPendingDebug, 0x1001);
    guest.cpu.follow();
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestPendingDebug), 0x5001);
}

#[test]
fn an_alignment_check_is_given_to_the_guest_with_its_code_of_zero() {
    let mut guest = guest();
    assert_eq!(exception(&mut guest, 0x8000_0b11, 0, raw(0, 0, Gprs::default())), ALIGNMENT);
    guest.cpu.follow();
    assert_eq!((guest.cpu.inject, guest.cpu.exit.rip), (0x8000_0b11, RIP));
}

#[test]
fn an_alignment_check_in_its_own_delivery_ends_in_a_reset() {
    let next = exception(&mut guest(), 0x8000_0b11, 0x8000_0b11, raw(0, 0, Gprs::default()));
    assert!(matches!(next, Next::Reset(Cause::Unsupported(_))), "{next:?}");
}

#[test]
fn an_alignment_check_in_another_faults_delivery_comes_first_since_it_is_benign() {
    // #DE, #DF, #GP, #PF; and INT 0x80, INT3, INT1, which are executed again.
    for first in [0x8000_0300, 0x8000_0b08, 0x8000_0b0d, 0x8000_0b0e, 0x8000_0480, 0x8000_0603, 0x8000_0501] {
        let mut guest = guest();
        assert_eq!(exception(&mut guest, 0x8000_0b11, first, raw(0, 0, Gprs::default())), ALIGNMENT, "{first:x}");
        assert!(!guest.cpu.holds());
    }
}

#[test]
fn an_interrupt_whose_delivery_faulted_comes_when_the_guest_takes_one_again() {
    let mut guest = guest();
    let fault = exception(&mut guest, 0x8000_0b11, 0x8000_0030, raw(0, 0, Gprs::default()));
    assert_eq!(fault, ALIGNMENT);
    guest.cpu.follow();
    assert!(guest.interrupt(), "there is one");
    assert_eq!(guest.cpu.inject, 0x8000_0b11, "the fault first");
    assert!(guest.cpu.primary.contains(PrimaryControls::INTERRUPT_WINDOW));
    // In the handler, with interrupts off; then the window.
    let handler = RawExit { rflags: 2, ..raw(48, 0, Gprs::default()) };
    guest.cpu.exited(handler);
    assert!(guest.interrupt());
    assert_eq!(guest.cpu.inject, 0);
    assert_eq!(answer(&mut guest, raw(7, 0, Gprs::default())), Next::Retry);
    assert!(guest.interrupt());
    assert_eq!(guest.cpu.inject, 0x8000_0030);
    assert!(!guest.cpu.primary.contains(PrimaryControls::INTERRUPT_WINDOW));
    guest.cpu.exited(raw(7, 0, Gprs::default()));
    assert!(!guest.interrupt(), "it was delivered once");
}

/// RFLAGS, interruptibility and reason of exits that can be, in all their combinations.
fn state() -> impl Strategy<Value = (u64, u32, u32)> {
    let flags = prop::collection::vec(prop::sample::select(vec![0u64, 1, 6, 8, 9, 9, 10, 16, 18, 21]), 0..6);
    let shadow = prop::sample::select(vec![0u32, 0, 1, 1, 2, 2, 8, 9, 10]);
    let reason = prop_oneof![3 => Just(0u32), 1 => Just(7u32), 8 => 0..72u32];
    (flags, shadow, reason).prop_map(|(bits, shadow, reason)| {
        let rflags = bits.into_iter().fold(2, |flags, bit| flags | 1 << bit);
        let shadow = if rflags & 1 << 9 == 0 { shadow & !1 } else { shadow };
        (rflags, shadow, reason)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    /// Whatever exits in whatever state, the guest can be entered afterwards: `answer` checks it.
    #[test]
    fn no_answer_leaves_a_state_that_no_processor_enters(
        exit in exit(),
        (rflags, interruptibility, reason) in state(),
        info in prop::sample::select(vec![0x8000_0301u64, 0x8000_0501, 0x8000_0b11, 0x8000_0202, 0]),
        first in prop::sample::select(vec![0u64, 0, 0x8000_0030, 0x8000_0b0e, 0x8000_0301]),
        code in prop::collection::vec(any::<u8>(), 16),
        interrupts in 0..4u8,
    ) {
        let mut guest = guest_with(64 << 10);
        guest.vm.ram.write(0x8000, &code).unwrap();
        // With a window only where it opens.
        let rflags = if reason == 7 { rflags | 1 << 9 } else { rflags };
        let interruptibility = if reason == 7 { 0 } else { interruptibility };
        for line in 0..interrupts {
            guest.vm.board.controllers.pic.set_line(line, true);
        }
        let raw = RawExit { reason, rflags, interruptibility, rip: 0x8000, instruction_len: exit.instruction_len % 16, ..exit };
        let next = exception(&mut guest, info, first, raw);
        guest.cpu.follow();
        if !matches!(next, Next::Reset(_) | Next::PowerOff) {
            guest.interrupt();
            prop_assert_eq!(entry::check(&guest.cpu), Ok(()));
        }
    }
}
