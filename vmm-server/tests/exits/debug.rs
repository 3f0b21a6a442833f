//! Debug registers: in force, where the kernel switches them with the VCPU, and only kept, where it does not. Bits of DR6 and
//! DR7 are those of the SDM, volume 3, figure "Debug Registers".

use vmm_server::{answer::Next, vcpu::debug::DebugRegisters};
use vtx::{
    event::{Event, Exception},
    exit::RawExit,
    gpr::Gprs,
    vmcs::{Vmcs, VmcsField},
};

use crate::{
    fake::{Guest, RIP, answer, guest, raw, reason},
    message::resumed,
};

const DEBUG: Next = Next::Raise(Event::Exception(Exception::Debug));
const DE: u64 = 1 << 3;
/// L0, and what breakpoint 0 waits for: a write, a port, any access; of one byte or of four.
const WRITE_4: u64 = 0x000d_0001;
const PORT_1: u64 = 0x0002_0001;
const ACCESS_4: u64 = 0x000f_0001;

/// As the registers are where the kernel does not switch them.
fn kept() -> Guest {
    let mut guest = guest();
    guest.cpu.debug = DebugRegisters::new(false);
    guest
}

/// MOV of EAX to (bit 4 clear) or from a debug register.
fn write(guest: &mut Guest, dr: u64, value: u64) -> Next {
    answer(guest, raw(reason::DR, dr, Gprs { rax: value, ..Gprs::default() }))
}

fn read(guest: &mut Guest, dr: u64) -> (Next, u64) {
    let next = answer(guest, raw(reason::DR, dr | 1 << 4, Gprs { rax: 0x99, ..Gprs::default() }));
    (next, guest.cpu.exit.gprs.rax)
}

#[test]
fn debug_registers_hold_what_is_written_and_their_fixed_bits() {
    for mut guest in [guest(), kept()] {
        for (dr, start) in [(0, 0), (3, 0), (6, 0xffff_0ff0), (7, 0x400)] {
            assert_eq!(read(&mut guest, dr), (Next::Skip, start), "DR{dr} after a reset");
        }
        for (dr, written, value) in [
            (0, 0x1234, 0x1234),
            (3, 0xffff_ffff, 0xffff_ffff),
            (6, 0xffff_ffff, 0xffff_eff0 | 0xf),
            (6, 1, 0xffff_0ff1),
            (7, 0xffff_dfff, 0xffff_07ff),
            (7, 3, 0x403),
        ] {
            assert_eq!(write(&mut guest, dr, written), Next::Skip);
            assert_eq!(read(&mut guest, dr), (Next::Skip, value), "DR{dr}");
        }
    }
}

#[test]
fn what_is_written_is_in_force_where_the_kernel_switches_it_and_nowhere_else() {
    for (mut guest, there) in [(guest(), [0x1234, 0x8000, 0xffff_0ff4, 0x401]), (kept(), [0, 0, 0xffff_0ff0, 0x400])] {
        for (dr, value) in [(0, 0x1234), (3, 0x8000), (6, 4), (7, 1)] {
            assert_eq!(write(&mut guest, dr, value), Next::Skip);
        }
        let fields = [VmcsField::GuestDr0, VmcsField::GuestDr3, VmcsField::GuestDr6, VmcsField::GuestDr7];
        assert_eq!(fields.map(|field| guest.cpu.vmcs.read(field)), there);
    }
}

#[test]
fn a_user_process_has_no_debug_registers_though_the_exit_comes_first() {
    let mut guest = guest();
    // Access rights of segments with DPL 3.
    for (field, value) in [
        (VmcsField::GuestSsAccessRights, 0xc0f3),
        (VmcsField::GuestCsAccessRights, 0xc0fb),
        (VmcsField::GuestSsSelector, 0x1b),
        (VmcsField::GuestCsSelector, 0x13),
    ] {
        guest.cpu.vmcs.write(field, value);
    }
    for dr in 0..8 {
        assert_eq!(write(&mut guest, dr, 0x99), Next::PROTECTION);
        assert_eq!(read(&mut guest, dr).0, Next::PROTECTION);
    }
    assert_eq!(guest.cpu.debug, DebugRegisters::new(true));
}

#[test]
fn dr4_is_dr6_until_cr4_de_takes_it_away() {
    let mut guest = guest();
    assert_eq!(read(&mut guest, 4), (Next::Skip, 0xffff_0ff0));
    let cr4 = guest.cpu.vmcs.read(VmcsField::GuestCr4);
    guest.cpu.vmcs.write(VmcsField::GuestCr4, cr4 | DE);
    for dr in [4, 5] {
        assert_eq!(read(&mut guest, dr).0, Next::UNDEFINED);
    }
    assert_eq!(read(&mut guest, 6).0, Next::Skip);
}

#[test]
fn general_detect_is_a_fault_of_the_next_use_and_of_no_other() {
    let mut guest = guest();
    write(&mut guest, 7, 1 << 13);
    assert_eq!(read(&mut guest, 0), (DEBUG, 0x99));
    assert_eq!(guest.cpu.exit.rip, RIP, "a fault");
    assert_eq!(read(&mut guest, 6), (Next::Skip, 0xffff_2ff0), "BD");
    assert_eq!(read(&mut guest, 7), (Next::Skip, 0x400));
    // Another #DB takes it away as well: the kernel has done so in the VMCS.
    write(&mut guest, 7, 1 << 13);
    guest.cpu.vmcs.write(VmcsField::ExitInterruptionInfo, 0x8000_0301);
    assert_eq!(answer(&mut guest, raw(0, 1 << 14, Gprs::default())), DEBUG);
    assert_eq!(read(&mut guest, 7), (Next::Skip, 0x400));
}

#[test]
fn a_single_step_is_noted_in_dr6_and_given_to_the_guest() {
    const BS: u64 = 1 << 14;
    for (mut guest, dr6) in [(kept(), 0xffff_4ff0), (guest(), 0xffff_0ff0)] {
        guest.cpu.vmcs.write(VmcsField::ExitInterruptionInfo, 0x8000_0301);
        assert_eq!(answer(&mut guest, raw(0, BS, Gprs::default())), DEBUG);
        assert_eq!(guest.cpu.exit.rip, RIP);
        // By the kernel, where it has the register.
        assert_eq!(read(&mut guest, 6), (Next::Skip, dr6));
    }
}

#[test]
fn int1_is_stepped_past_and_sets_no_bit() {
    let mut guest = kept();
    guest.cpu.vmcs.write(VmcsField::ExitInterruptionInfo, 0x8000_0501);
    let exit = RawExit { instruction_len: 1, ..raw(0, 0, Gprs::default()) };
    assert_eq!(answer(&mut guest, exit), DEBUG);
    assert_eq!(guest.cpu.exit.rip, RIP + 1);
    assert_eq!(read(&mut guest, 6).1, 0xffff_0ff0);
}

/// The pending debug exceptions after an exit that a breakpoint 0 at `address` may have to do with.
fn pending(address: u64, dr7: u64, cr4: u64, exit: RawExit) -> u64 {
    let mut guest = guest();
    guest.vm.ram.write(RIP, &[0x89, 0x06]).unwrap(); // mov %eax, (%esi)
    let old = guest.cpu.vmcs.read(VmcsField::GuestCr4);
    guest.cpu.vmcs.write(VmcsField::GuestCr4, old | cr4);
    write(&mut guest, 0, address);
    write(&mut guest, 7, dr7);
    if dr7 & 0xff != 0 {
        assert_eq!(resumed(&mut guest, &exit), None, "it is taken over");
    }
    let next = answer(&mut guest, exit);
    assert_eq!(next, Next::Skip);
    guest.cpu.follow();
    guest.cpu.vmcs.read(VmcsField::GuestPendingDebug)
}

#[test]
fn an_emulated_port_hits_a_breakpoint_if_cr4_de_says_that_there_are_such() {
    let out = |port: u64, size: u64| raw(reason::IO, port << 16 | size, Gprs::default());
    // B0, and that it is enabled.
    assert_eq!(pending(0x80, PORT_1, DE, out(0x80, 0)), 0x1001);
    assert_eq!(pending(0x82, PORT_1, DE, out(0x80, 3)), 0x1001, "the third of four bytes");
    assert_eq!(pending(0x84, PORT_1, DE, out(0x80, 3)), 0);
    assert_eq!(pending(0x80, PORT_1, 0, out(0x80, 0)), 0);
    assert_eq!(pending(0x80, PORT_1 & !1, DE, out(0x80, 0)), 0, "not enabled");
    assert_eq!(pending(0x80, WRITE_4, DE, out(0x80, 0)), 0, "for memory");
}

#[test]
fn an_emulated_access_to_memory_hits_a_breakpoint() {
    let at = 0xe000_0000;
    let gprs = Gprs { rsi: at, ..Gprs::default() };
    let store = RawExit { guest_physical: at, ..raw(reason::EPT, 1 << 1 | 1 << 7 | 1 << 8, gprs) };
    assert_eq!(pending(at, WRITE_4, 0, store), 0x1001);
    assert_eq!(pending(at + 3, ACCESS_4, 0, store), 0x1001, "aligned to its length");
    assert_eq!(pending(at + 4, WRITE_4, 0, store), 0);
    assert_eq!(pending(at, 0x0001_0002, 0, store), 0x1001, "G0, one byte");
}

#[test]
fn a_trap_of_a_breakpoint_comes_with_that_of_a_step_and_before_an_interrupt() {
    let exit = RawExit { rflags: 0x302, ..raw(reason::IO, 0x80 << 16, Gprs::default()) };
    assert_eq!(pending(0x80, PORT_1, DE, exit), 0x5001);
    let mut guest = guest();
    write(&mut guest, 0, 0x80);
    write(&mut guest, 7, PORT_1);
    guest.cpu.vmcs.write(VmcsField::GuestCr4, DE | 1 << 13);
    answer(&mut guest, raw(reason::IO, 0x80 << 16, Gprs::default()));
    guest.cpu.follow();
    assert!(!guest.cpu.takes_interrupt());
}

#[test]
fn rf_ends_with_the_instruction_that_is_done_here_where_it_may_hide_a_breakpoint() {
    let mut guest = guest();
    let exit = RawExit { rflags: 0x1_0202, ..raw(reason::CPUID, 0, Gprs::default()) };
    write(&mut guest, 0, RIP + 2);
    write(&mut guest, 7, 1);
    assert_eq!(resumed(&mut guest, &exit), None);
    answer(&mut guest, exit);
    guest.cpu.follow();
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestRflags), 0x202);
}

#[test]
fn without_breakpoints_rf_costs_nothing() {
    let exit = RawExit { rflags: 0x1_0202, ..raw(reason::CPUID, 0, Gprs::default()) };
    assert!(resumed(&mut guest(), &exit).is_some());
    let mut guest = guest();
    guest.vm.ram.write(RIP, &[0x08, 0x06]).unwrap(); // or %al, (%esi), which is emulated at length
    let at = 0xe000_0000;
    let gprs = Gprs { rsi: at, ..Gprs::default() };
    let exit = RawExit { guest_physical: at, ..raw(reason::EPT, 3 | 1 << 7 | 1 << 8, gprs) };
    assert_eq!(answer(&mut guest, exit), Next::Skip);
    let flags = guest.cpu.vmcs.written(VmcsField::GuestRflags);
    guest.cpu.follow();
    assert_eq!((guest.cpu.exit.rip, guest.cpu.vmcs.written(VmcsField::GuestRflags)), (RIP + 2, flags));
}

#[test]
fn an_interrupt_after_an_emulated_instruction_does_not_save_its_rf() {
    let mut guest = guest();
    let exit = RawExit { rflags: 0x1_0202, ..raw(reason::CPUID, 0, Gprs::default()) };
    guest.cpu.exited(exit);
    guest.cpu.next = Next::Skip;
    guest.cpu.follow();
    guest.cpu.deliver(Event::Interrupt(0x30));
    assert_eq!(guest.cpu.vmcs.read(VmcsField::GuestRflags), 0x202);
    // An instruction that is to be executed once more keeps it.
    guest.cpu.exited(exit);
    guest.cpu.next = Next::Retry;
    let flags = guest.cpu.vmcs.written(VmcsField::GuestRflags);
    guest.cpu.deliver(Event::Interrupt(0x30));
    assert_eq!(guest.cpu.vmcs.written(VmcsField::GuestRflags), flags);
}
