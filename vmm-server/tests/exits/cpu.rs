//! What an exit leaves in the virtual CPU, and what that costs.

use devices::Width;
use vmm_server::vcpu::Vcpu;
use vtx::{
    event::Event,
    exit::RawExit,
    gpr::{Gpr, Gprs},
    vmcs::{Interruptibility, PrimaryControls, Vmcs, VmcsField},
};

use crate::fake::{Fields, vcpu};

fn cpu(exit: RawExit) -> Vcpu<Fields> {
    let mut cpu = vcpu();
    cpu.exited(exit);
    cpu
}

#[test]
fn a_narrow_in_leaves_the_rest_of_eax() {
    for (width, result) in [(Width::Byte, 0x1122_33dd), (Width::Word, 0x1122_ccdd), (Width::Dword, 0xaabb_ccdd)] {
        let mut cpu = cpu(RawExit { gprs: Gprs { rax: 0x1122_3344, ..Gprs::default() }, ..RawExit::default() });
        cpu.set_accumulator(width, 0xaabb_ccdd);
        assert_eq!(cpu.exit.gprs.rax, result);
        assert!(cpu.take_registers_changed());
        assert!(!cpu.take_registers_changed(), "once is enough");
    }
}

#[test]
fn stepping_past_an_instruction_wraps_at_four_gigabytes() {
    let mut cpu = cpu(RawExit { rip: 0xffff_fffe, instruction_len: 3, ..RawExit::default() });
    cpu.skip();
    assert_eq!(cpu.exit.rip, 1);
    assert_eq!(cpu.vmcs.writes, 0, "RIP travels with the entry");
}

#[test]
fn stepping_past_an_instruction_ends_the_shadow_of_sti_but_not_of_an_nmi() {
    let mut cpu = cpu(RawExit { rflags: 0x202, interruptibility: 0b1001, ..RawExit::default() });
    assert!(!cpu.takes_interrupt());
    cpu.skip();
    assert!(cpu.takes_interrupt());
    assert_eq!(cpu.vmcs.read(VmcsField::GuestInterruptibility), u64::from(Interruptibility::NMI.bits()));
}

#[test]
fn an_interrupt_needs_if_and_an_entry_that_injects_nothing_else() {
    assert!(!cpu(RawExit { rflags: 0x002, ..RawExit::default() }).takes_interrupt());
    let mut cpu = cpu(RawExit { rflags: 0x202, ..RawExit::default() });
    assert!(cpu.takes_interrupt());
    cpu.deliver(Event::Interrupt(0x20));
    assert!(!cpu.takes_interrupt());
    assert_eq!(cpu.inject, 0x8000_0020);
}

#[test]
fn after_a_signal_it_is_unknown_whether_an_interrupt_can_be_taken() {
    let mut cpu = cpu(RawExit { rflags: 0x202, ..RawExit::default() });
    cpu.interrupted(0x1234, 0x8000_0020);
    assert!(!cpu.takes_interrupt());
    assert_eq!((cpu.exit.rip, cpu.inject), (0x1234, 0x8000_0020), "what was not delivered is still to be");
    cpu.interrupted(0x1234, 0x20);
    assert_eq!(cpu.inject, 0, "this one was");
    cpu.exited(RawExit { rflags: 0x202, ..RawExit::default() });
    assert!(cpu.takes_interrupt());
}

#[test]
fn the_window_is_asked_for_and_taken_back() {
    let mut cpu = cpu(RawExit::default());
    cpu.want_window(true);
    assert!(cpu.primary.contains(PrimaryControls::INTERRUPT_WINDOW | PrimaryControls::HLT));
    cpu.want_window(false);
    assert!(!cpu.primary.contains(PrimaryControls::INTERRUPT_WINDOW));
}

#[test]
fn rsp_is_in_the_vmcs_and_the_others_are_in_the_message() {
    let mut cpu = cpu(RawExit::default());
    cpu.set_gpr(Gpr::Rsp, 0x7000);
    assert_eq!((cpu.gpr(Gpr::Rsp), cpu.vmcs.read(VmcsField::GuestRsp)), (0x7000, 0x7000));
    assert!(!cpu.take_registers_changed());
    cpu.set_gpr(Gpr::R8, 1);
    assert_eq!((cpu.gpr(Gpr::R8), cpu.exit.gprs.r8, cpu.take_registers_changed()), (1, 1, true));
}

#[test]
fn flags_are_written_only_if_they_change() {
    let mut cpu = cpu(RawExit { rflags: 0x202, ..RawExit::default() });
    cpu.set_rflags(0x202);
    assert_eq!(cpu.vmcs.writes, 0);
    cpu.set_rflags(0x246);
    assert_eq!(cpu.vmcs.read(VmcsField::GuestRflags), 0x246);
}

#[test]
fn a_guest_that_is_single_stepped_gets_its_trap_before_any_interrupt() {
    let mut cpu = cpu(RawExit { rflags: 0x302, ..RawExit::default() });
    assert!(cpu.takes_interrupt());
    cpu.skip();
    // Bit 14: BS.
    assert_eq!(cpu.vmcs.read(VmcsField::GuestPendingDebug), 1 << 14);
    assert!(!cpu.takes_interrupt());
    cpu.exited(RawExit { rflags: 0x202, ..RawExit::default() });
    assert!(cpu.takes_interrupt());
}
