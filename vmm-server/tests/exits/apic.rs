//! The local APIC behind exits: its page, its deadline, and who comes first at the processor.

use devices::{Effect, Width, lapic};
use proptest::prelude::*;
use vmm_server::answer::{Answer, Next};
use vtx::{exit::RawExit, gpr::Gprs};

use crate::fake::{Guest, HZ, NOW, Ports, RIP, TSC, answer, answer_for, answer_message, clock, guest, raw, reason};

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

fn write(guest: &mut Guest, gpa: u64, value: u32) {
    let _ = guest.write_memory(gpa, Width::Dword, value);
}

fn read(guest: &mut Guest, gpa: u64) -> u32 {
    guest.read_memory(gpa, Width::Dword)
}

#[test]
fn an_x2apic_is_reached_by_msrs_and_has_the_same_side_effects() {
    const X2APIC: u64 = lapic::BASE_MSR | 1 << 10;
    let mut guest = guest();
    assert_eq!(answer(&mut guest, msr(reason::RDMSR, 0x803, 0)), Next::PROTECTION);
    assert_eq!(answer(&mut guest, msr(reason::WRMSR, BASE, X2APIC)), Next::Skip);
    assert_eq!(answer(&mut guest, msr(reason::RDMSR, 0x803, 0)), Next::Skip);
    assert_eq!((guest.cpu.exit.gprs.rax, guest.cpu.exit.gprs.rdx), (0x0005_0015, 0));
    assert_eq!(answer(&mut guest, msr(reason::WRMSR, 0x832, 0xec)), Next::Skip);
    let (_, effect) = answer_for(&mut guest, msr(reason::WRMSR, 0x838, 1000));
    assert!(effect.contains(Effect::TIMERS));
    let (_, effect) = answer_for(&mut guest, msr(reason::WRMSR, 0x83f, 0xed));
    assert!(effect.contains(Effect::LINES) && guest.pending());
    assert_eq!(guest.acknowledge(), 0xed);
    assert_eq!(answer(&mut guest, msr(reason::WRMSR, 0x80b, 1)), Next::PROTECTION);
    assert_eq!(answer(&mut guest, msr(reason::WRMSR, 0x80b, 0)), Next::Skip);
    assert_eq!(read(&mut guest, PAGE + 0x30), u32::MAX, "there is no page");
}

/// A guest whose timer waits for deadlines, with vector 0xec.
fn ticking() -> Guest {
    let mut guest = guest();
    write(&mut guest, LVT_TIMER, 2 << 17 | 0xec);
    guest
}

/// MOV %eax, (%esi) to an address, in a guest without paging.
fn mov(guest: &mut Guest, gpa: u64, load: bool) -> RawExit {
    guest.vm.ram.write(RIP, &[if load { 0x8b } else { 0x89 }, 0x06]).unwrap();
    let qualification = if load { 0x181 } else { 0x182 };
    let gprs = Gprs { rax: 0, rsi: gpa, ..Gprs::default() };
    RawExit { guest_physical: gpa, ..raw(reason::EPT, qualification, gprs) }
}

#[test]
fn a_deadline_ahead_is_taken_without_the_exit_and_one_in_the_past_interrupts() {
    let mut guest = ticking();
    let exit = msr(reason::WRMSR, DEADLINE, TSC + 1000);
    let resume = Answer::ResumeTimed { rip: RIP + 2 };
    assert_eq!(answer_message(&mut guest, &exit).0, resume);
    assert!(!guest.pending());
    assert_eq!(guest.cpu.lapic.next_event(), Some(TSC + 1000));
    for past in [1, TSC - 1, TSC] {
        let exit = msr(reason::WRMSR, DEADLINE, past);
        let (next, effect) = answer_for(&mut guest, exit);
        assert!(next == Next::Skip && effect.contains(Effect::LINES));
        assert_eq!(guest.acknowledge(), 0xec);
        write(&mut guest, EOI, 0);
    }
    assert_eq!(answer(&mut guest, msr(reason::RDMSR, DEADLINE, 0)), Next::Skip);
    assert_eq!((guest.cpu.exit.gprs.rax, guest.cpu.exit.gprs.rdx), (0, 0));
}

#[test]
fn other_writes_to_registers_set_no_deadline() {
    let mut guest = ticking();
    for other in [msr(reason::WRMSR, 0x10, TSC + 1000), msr(reason::WRMSR, DEADLINE, 0)] {
        assert_eq!(answer_message(&mut guest, &other).0, Answer::Resume { rip: RIP + 2 });
        assert_eq!(guest.cpu.lapic.next_event(), None);
    }
    let mut one_shot = self::guest();
    assert_eq!(answer_for(&mut one_shot, msr(reason::WRMSR, DEADLINE, TSC + 1000)), (Next::Skip, Effect::QUIET));
    assert_eq!(one_shot.cpu.lapic.next_event(), None, "the timer does not wait for deadlines");
    assert_eq!(answer(&mut guest, msr(reason::WRMSR, BASE, lapic::BASE_MSR)), Next::Skip);
    for value in [0, lapic::BASE_MSR & !(1 << 11), lapic::BASE_MSR + 0x1000] {
        assert_eq!(answer(&mut guest, msr(reason::WRMSR, BASE, value)), Next::PROTECTION, "{value:#x}");
    }
    assert_eq!(answer(&mut guest, msr(reason::RDMSR, BASE, 0)), Next::Skip);
    assert_eq!(guest.cpu.exit.gprs.rax, lapic::BASE_MSR);
}

#[test]
fn the_end_of_an_interrupt_is_quiet_unless_another_waits() {
    let mut guest = guest();
    for (vectors, effect) in [(&[0x40][..], Effect::QUIET), (&[0x40, 0x51], Effect::LINES)] {
        for &vector in vectors {
            write(&mut guest, ICR, 1 << 18 | vector);
        }
        guest.acknowledge();
        let exit = mov(&mut guest, EOI, false);
        assert_eq!(answer_for(&mut guest, exit), (Next::Skip, effect));
        assert_eq!(guest.pending(), effect == Effect::LINES);
    }
}

#[test]
fn its_page_is_read_and_written_and_the_pages_beside_it_are_unmapped() {
    let mut guest = guest();
    let exit = mov(&mut guest, PAGE + 0x30, true);
    assert_eq!(answer_for(&mut guest, exit), (Next::Skip, Effect::QUIET));
    assert_eq!(guest.cpu.exit.gprs.rax, 0x0005_0015);
    let exit = mov(&mut guest, TPR, false);
    let exit = RawExit { gprs: Gprs { rax: 0x70, ..exit.gprs }, ..exit };
    assert_eq!(answer(&mut guest, exit), Next::Skip);
    assert_eq!(read(&mut guest, TPR), 0x70);
    assert_eq!(read(&mut guest, PAGE + 0x1030), u32::MAX, "the page behind it is unmapped");
    assert_eq!(read(&mut guest, PAGE - 0x1000 + 0x30), u32::MAX);
}

#[test]
fn the_8259_comes_first_and_the_task_priority_does_not_hold_it_back() {
    let mut guest = guest();
    write(&mut guest, ICR, 1 << 18 | 0xf0);
    for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0)] {
        guest.vm.board.output(port, Width::Byte, value, NOW);
    }
    guest.vm.board.controllers.pic.set_line(4, true);
    assert_eq!(guest.acknowledge(), 0x24);
    assert_eq!(guest.acknowledge(), 0xf0);
    write(&mut guest, TPR, 0xff);
    guest.vm.board.controllers.pic.set_line(3, true);
    assert!(guest.pending());
    // Through LINT0, which is masked then.
    guest.vm.board.output(0x22, Width::Byte, 0x70, NOW);
    guest.vm.board.output(0x23, Width::Byte, 1, NOW);
    assert_eq!((guest.pending(), guest.vm.board.input(0x22, Width::Word, NOW)), (true, 0xffff));
    write(&mut guest, PAGE + 0x350, 0x1_0700);
    assert!(!guest.pending());
    guest.vm.board.output(0x23, Width::Byte, 0, NOW);
    assert_eq!(guest.acknowledge(), 0x23);
}

#[test]
fn a_reset_takes_its_deadline_and_its_interrupts_away() {
    let mut guest = ticking();
    answer(&mut guest, msr(reason::WRMSR, DEADLINE, TSC + 1000));
    write(&mut guest, ICR, 1 << 18 | 0xf0);
    let (control, debug) = (guest.cpu.control, guest.cpu.debug);
    guest.cpu.reset(control, debug, HZ);
    assert!(!guest.pending() && guest.cpu.lapic.next_event().is_none());
}

#[test]
fn a_count_runs_with_the_tsc_of_the_exit() {
    let mut guest = guest();
    write(&mut guest, LVT_TIMER, 0xec);
    write(&mut guest, PAGE + 0x380, 1000);
    assert_eq!(guest.cpu.lapic.next_event(), Some(TSC + 4000), "the crystal divided by two");
    assert_eq!(read(&mut guest, CURRENT), 1000);
    let _ = guest.stopped().advance(&clock(), TSC + 4000);
    assert_eq!(guest.cpu.lapic.next_event(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn a_deadline_does_what_the_sdm_says(
        before in prop::option::of(0..2000u64), value in prop_oneof![0..2000u64, Just(u64::MAX - TSC)], mode in 0..4u32, masked: bool,
    ) {
        let mut guest = guest();
        let deadline = (TSC - 1000).saturating_add(value);
        write(&mut guest, LVT_TIMER, mode << 17 | u32::from(masked) << 16 | 0xec);
        if let Some(before) = before {
            guest.cpu.lapic.set_deadline(TSC - 1000 + before, TSC - 1001);
        }
        let due = guest.cpu.lapic.next_event();
        let (next, effect) = answer_for(&mut guest, msr(reason::WRMSR, DEADLINE, deadline));
        prop_assert_eq!(next, Next::Skip);
        // Mode 2 waits for deadlines: what was due before the write interrupts as well, and what has passed does at once.
        let waits = mode == 2;
        let fires = waits && (deadline <= TSC || before.is_some_and(|before| TSC - 1000 + before <= TSC));
        prop_assert_eq!(guest.pending(), fires && !masked);
        let expected = (waits && !masked && deadline > TSC).then_some(deadline);
        prop_assert_eq!(guest.cpu.lapic.next_event(), expected);
        prop_assert_eq!(effect.contains(Effect::LINES), guest.pending());
        prop_assert!(expected.is_none() || due == expected || effect.contains(Effect::TIMERS), "{:?}", effect);
    }
}
