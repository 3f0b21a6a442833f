//! The local APIC behind exits: its page, its deadline, and who comes first at the processor.

use devices::{Width, lapic};
use proptest::prelude::*;
use vmm_server::{
    machine::Machine,
    run::{Guest, Next},
};
use vtx::{
    exit::RawExit,
    gpr::{Gprs, Place},
    words::Words,
};

use crate::{
    at_once::at_once,
    fake::{self, Fields, NOW, RIP, TSC, answer, guest, raw, reason},
};

const DEADLINE: u32 = 0x6e0;
const BASE: u32 = 0x1b;
/// Guest-physical addresses of registers.
const PAGE: u64 = 0xfee0_0000;
const TPR: u64 = PAGE + 0x80;
const EOI: u64 = PAGE + 0xb0;
const ICR: u64 = PAGE + 0x300;
const LVT_TIMER: u64 = PAGE + 0x320;
const CURRENT: u64 = PAGE + 0x390;

fn msr(reason: u32, number: u32, value: u64) -> RawExit {
    let gprs = Gprs { rax: value & 0xffff_ffff, rdx: value >> 32, rcx: number.into(), ..Gprs::default() };
    raw(reason, 0, gprs)
}

fn write(machine: &mut Machine, gpa: u64, value: u32) {
    fake::present(|now| machine.write_memory(gpa, Width::Dword, value, now));
}

fn read(machine: &mut Machine, gpa: u64) -> u32 {
    fake::present(|now| machine.read_memory(gpa, Width::Dword, now))
}

/// A guest whose timer waits for deadlines, with vector 0xec.
fn ticking() -> Guest<Fields> {
    let mut guest = guest();
    write(&mut guest.machine, LVT_TIMER, 2 << 17 | 0xec);
    guest.machine.take_disturbed();
    guest.machine.timers_changed();
    guest
}

/// MOV %eax, (%esi) to an address, in a guest without paging.
fn mov(guest: &mut Guest<Fields>, gpa: u64, load: bool) -> RawExit {
    guest.ram.write(RIP, &[if load { 0x8b } else { 0x89 }, 0x06]).unwrap();
    let qualification = if load { 0x181 } else { 0x182 };
    let gprs = Gprs { rax: 0, rsi: gpa, ..Gprs::default() };
    RawExit { guest_physical: gpa, ..raw(reason::EPT, qualification, gprs) }
}

fn deadline_at_once(guest: &mut Guest<Fields>, exit: &RawExit) -> Option<u64> {
    fake::present(|now| guest.deadline_at_once(exit, now))
}

#[test]
fn a_deadline_ahead_is_taken_at_once_and_one_in_the_past_interrupts() {
    let mut guest = ticking();
    let exit = msr(reason::WRMSR, DEADLINE, TSC + 1000);
    assert_eq!(deadline_at_once(&mut guest, &exit), Some(RIP + 2));
    assert!(!guest.machine.pending() && !guest.machine.take_disturbed());
    assert_eq!(guest.machine.lapic.next_event(), Some(TSC + 1000));
    for past in [1, TSC - 1, TSC] {
        let exit = msr(reason::WRMSR, DEADLINE, past);
        assert_eq!(deadline_at_once(&mut guest, &exit), None);
        assert_eq!(answer(&mut guest, exit), Next::Skip);
        assert!(guest.machine.take_disturbed() && guest.machine.pending());
        assert_eq!(guest.machine.acknowledge(), 0xec);
        write(&mut guest.machine, EOI, 0);
    }
    assert_eq!(answer(&mut guest, msr(reason::RDMSR, DEADLINE, 0)), Next::Skip);
    assert_eq!((guest.cpu.exit.gprs.rax, guest.cpu.exit.gprs.rdx), (0, 0));
}

#[test]
fn other_writes_to_registers_are_for_the_full_way() {
    let mut guest = ticking();
    let exit = msr(reason::WRMSR, DEADLINE, TSC + 1000);
    for other in [
        RawExit { rflags: 0x302, ..exit },
        RawExit { interruptibility: 1, ..exit },
        msr(reason::WRMSR, 0x10, TSC + 1000),
        msr(reason::WRMSR, DEADLINE, 0),
    ] {
        assert_eq!(deadline_at_once(&mut guest, &other), None);
    }
    assert_eq!(deadline_at_once(&mut self::guest(), &exit), None, "the timer does not wait for deadlines");
    assert_eq!(answer(&mut guest, msr(reason::WRMSR, BASE, lapic::BASE_MSR)), Next::Skip);
    for value in [0, lapic::BASE_MSR | 1 << 10, lapic::BASE_MSR & !(1 << 11), lapic::BASE_MSR + 0x1000] {
        assert_eq!(answer(&mut guest, msr(reason::WRMSR, BASE, value)), Next::PROTECTION, "{value:#x}");
    }
    assert_eq!(answer(&mut guest, msr(reason::RDMSR, BASE, 0)), Next::Skip);
    assert_eq!(guest.cpu.exit.gprs.rax, lapic::BASE_MSR);
}

#[test]
fn the_end_of_an_interrupt_is_taken_at_once_unless_another_waits() {
    let mut guest = guest();
    for vectors in [&[0x40][..], &[0x40, 0x51]] {
        for &vector in vectors {
            write(&mut guest.machine, ICR, 1 << 18 | vector);
        }
        guest.machine.acknowledge();
        guest.machine.take_disturbed();
        let exit = mov(&mut guest, EOI, false);
        let quick = at_once(&mut guest, &exit);
        assert_eq!(quick.map(|(rip, _)| rip), (vectors.len() == 1).then_some(RIP + 2));
        assert!(!guest.machine.take_disturbed());
        if quick.is_none() {
            assert_eq!(answer(&mut guest, exit), Next::Skip);
            assert!(guest.machine.take_disturbed() && guest.machine.pending());
        }
    }
}

#[test]
fn other_accesses_to_its_page_are_for_the_full_way() {
    let mut guest = guest();
    let exit = mov(&mut guest, PAGE + 0x30, true);
    assert_eq!(at_once(&mut guest, &exit), None);
    assert_eq!(answer(&mut guest, exit), Next::Skip);
    assert_eq!(guest.cpu.exit.gprs.rax, 0x0005_0015);
    let exit = mov(&mut guest, TPR, false);
    let exit = RawExit { gprs: Gprs { rax: 0x70, ..exit.gprs }, ..exit };
    assert_eq!(at_once(&mut guest, &exit), None);
    assert_eq!(answer(&mut guest, exit), Next::Skip);
    assert_eq!(read(&mut guest.machine, TPR), 0x70);
    assert_eq!(read(&mut guest.machine, PAGE + 0x1030), u32::MAX, "the page behind it is nobody's");
    assert_eq!(read(&mut guest.machine, PAGE - 0x1000 + 0x30), u32::MAX);
}

#[test]
fn the_8259_comes_first_and_the_task_priority_does_not_hold_it_back() {
    let mut machine = guest().machine;
    write(&mut machine, ICR, 1 << 18 | 0xf0);
    for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0)] {
        machine.write(port, Width::Byte, value, NOW);
    }
    machine.pic.set_line(4, true);
    assert_eq!(machine.acknowledge(), 0x24);
    assert_eq!(machine.acknowledge(), 0xf0);
    write(&mut machine, TPR, 0xff);
    machine.pic.set_line(3, true);
    assert!(machine.pending());
    // Through LINT0, which is masked then.
    machine.write(0x22, Width::Byte, 0x70, NOW);
    machine.write(0x23, Width::Byte, 1, NOW);
    assert_eq!((machine.pending(), machine.read(0x22, Width::Word, NOW)), (true, 0xffff));
    write(&mut machine, PAGE + 0x350, 0x1_0700);
    assert!(!machine.pending());
    machine.write(0x23, Width::Byte, 0, NOW);
    assert_eq!(machine.acknowledge(), 0x23);
}

#[test]
fn a_reset_takes_its_deadline_and_its_interrupts_away() {
    let mut guest = ticking();
    deadline_at_once(&mut guest, &msr(reason::WRMSR, DEADLINE, TSC + 1000));
    write(&mut guest.machine, ICR, 1 << 18 | 0xf0);
    guest.machine.reset();
    assert!(!guest.machine.pending() && guest.machine.lapic.next_event().is_none());
}

#[test]
fn a_count_runs_with_the_tsc_of_the_exit() {
    let mut machine = guest().machine;
    write(&mut machine, LVT_TIMER, 0xec);
    write(&mut machine, PAGE + 0x380, 1000);
    assert_eq!(machine.lapic.next_event(), Some(TSC + 4000), "the crystal divided by two");
    assert_eq!(read(&mut machine, CURRENT), 1000);
    machine.advance(NOW, TSC + 4000);
    assert_eq!(machine.lapic.next_event(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn a_deadline_taken_at_once_ends_as_on_the_full_way(
        before in prop::option::of(0..2000u64), value in prop_oneof![0..2000u64, Just(u64::MAX - TSC)], mode in 0..4u32, masked: bool,
    ) {
        let (mut quick, mut full) = (guest(), guest());
        let exit = msr(reason::WRMSR, DEADLINE, (TSC - 1000).saturating_add(value));
        for guest in [&mut quick, &mut full] {
            write(&mut guest.machine, LVT_TIMER, mode << 17 | u32::from(masked) << 16 | 0xec);
            if let Some(before) = before {
                guest.machine.lapic.set_deadline(TSC - 1000 + before, TSC - 1001);
            }
            guest.machine.take_disturbed();
        }
        if let Some(rip) = deadline_at_once(&mut quick, &exit) {
            prop_assert_eq!(answer(&mut full, exit), Next::Skip);
            full.cpu.skip();
            prop_assert_eq!(rip, full.cpu.exit.rip);
            prop_assert_eq!(full.cpu.exit.gprs.rax, exit.register(Place::Rax));
            prop_assert_eq!(quick.machine.lapic.next_event(), full.machine.lapic.next_event());
            prop_assert!(!full.machine.pending() && !quick.machine.pending());
        }
    }
}
