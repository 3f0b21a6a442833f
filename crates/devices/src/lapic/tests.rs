//! The local APIC by the SDM, volume 3. The tests write register offsets and bits again from the SDM, so that they
//! cannot copy a mistake of the model. Time is the TSC.

use super::*;
use proptest::prelude::*;

const ID: u16 = 0x20;
const TPR: u16 = 0x80;
const PPR: u16 = 0xa0;
const EOI: u16 = 0xb0;
const LDR: u16 = 0xd0;
const DFR: u16 = 0xe0;
const SVR: u16 = 0xf0;
const ISR: u16 = 0x100;
const TMR: u16 = 0x180;
const IRR: u16 = 0x200;
const ESR: u16 = 0x280;
const ICR: u16 = 0x300;
const ICR_HIGH: u16 = 0x310;
const LVT_TIMER: u16 = 0x320;
const LVT_LINT0: u16 = 0x350;
const LVT_ERROR: u16 = 0x370;
const INITIAL: u16 = 0x380;
const CURRENT: u16 = 0x390;
const DIVIDE: u16 = 0x3e0;

const MASK: u32 = 1 << 16;
const PERIODIC: u32 = 1 << 17;
const DEADLINE: u32 = 2 << 17;
/// Shorthand of an interrupt command.
const SELF: u32 = 1 << 18;

fn read(lapic: &mut Lapic, offset: u16) -> u32 {
    lapic.read(offset, Width::Dword, 0)
}

fn write(lapic: &mut Lapic, offset: u16, value: u32) {
    lapic.write(offset, Width::Dword, value, 0);
}

/// An APIC to which these vectors were sent.
fn requested(vectors: &[u8]) -> Lapic {
    let mut lapic = Lapic::new();
    for &vector in vectors {
        write(&mut lapic, ICR, SELF | u32::from(vector));
    }
    lapic
}

/// One whose timer has this LVT entry.
fn timer(lvt: u32) -> Lapic {
    let mut lapic = Lapic::new();
    write(&mut lapic, LVT_TIMER, lvt);
    lapic
}

#[test]
fn firmware_leaves_it_so_that_the_8259_works() {
    let mut lapic = Lapic::new();
    let registers = [ID, 0x30, TPR, PPR, LDR, DFR, SVR, ESR, ICR, INITIAL, CURRENT, DIVIDE];
    let values = registers.map(|offset| read(&mut lapic, offset));
    assert_eq!(values, [0, 0x0005_0015, 0, 0, 0, 0xffff_ffff, 0x1ff, 0, 0, 0, 0, 0]);
    let lvt = [0x320, 0x330, 0x340, 0x350, 0x360, 0x370].map(|offset| read(&mut lapic, offset));
    assert_eq!(lvt, [MASK, MASK, MASK, 0x700, 0x400, MASK]);
    assert!(lapic.passes_external() && !lapic.pending() && lapic.next_event().is_none());
}

#[test]
fn lint0_passes_on_what_is_external_and_nothing_else() {
    let mut lapic = Lapic::new();
    assert!(lapic.passes_external(), "as firmware leaves it");
    for (lvt, passes) in [(0x700, true), (0x731, true), (0x031, false), (0x400, false), (MASK | 0x700, false)] {
        write(&mut lapic, LVT_LINT0, lvt);
        assert_eq!(lapic.passes_external(), passes, "{lvt:#x}");
    }
}

#[test]
fn the_highest_vector_comes_first_and_lower_ones_after_its_end() {
    let mut lapic = requested(&[0x31, 0xfe, 0x80, 0x10]);
    assert_eq!(lapic.acknowledge(), Some(0xfe));
    assert!(!lapic.pending());
    assert_eq!((read(&mut lapic, ISR + 0x70), read(&mut lapic, IRR + 0x40)), (1 << 30, 1));
    assert_eq!((read(&mut lapic, PPR), read(&mut lapic, TMR)), (0xf0, 0));
    write(&mut lapic, ICR, SELF | 0xff);
    assert_eq!(lapic.acknowledge(), None, "of the same class");
    for vector in [0xff, 0x80, 0x31, 0x10] {
        write(&mut lapic, EOI, 0);
        assert_eq!(lapic.acknowledge(), Some(vector));
    }
    write(&mut lapic, EOI, 0);
    assert_eq!((lapic.acknowledge(), read(&mut lapic, PPR)), (None, 0));
    write(&mut lapic, EOI, 0);
}

#[test]
fn the_task_priority_holds_its_class_and_those_below_back() {
    let mut lapic = requested(&[0x45]);
    for (tpr, pending) in [(0x40, false), (0x4f, false), (0x50, false), (0x3f, true), (0xff, false), (0, true)] {
        write(&mut lapic, TPR, tpr);
        assert_eq!((lapic.pending(), read(&mut lapic, PPR)), (pending, tpr), "{tpr:#x}");
    }
    lapic.acknowledge();
    for (tpr, ppr) in [(0x31, 0x40), (0x43, 0x43), (0x51, 0x51)] {
        write(&mut lapic, TPR, tpr);
        assert_eq!(read(&mut lapic, PPR), ppr);
    }
}

#[test]
fn an_end_that_lets_something_through_is_not_quiet() {
    let mut lapic = requested(&[0x40, 0x50]);
    lapic.acknowledge();
    assert!(!lapic.end_quietly(EOI) && !lapic.end_quietly(TPR));
    assert_eq!(read(&mut lapic, ISR + 0x20), 1 << 16, "nothing has happened");
    write(&mut lapic, EOI, 0);
    lapic.acknowledge();
    assert!(lapic.end_quietly(EOI));
    assert_eq!(read(&mut lapic, ISR + 0x20), 0);
}

#[test]
fn an_interrupt_command_reaches_this_processor_or_none() {
    // Command, destination, whether it arrives: the logical ID is 0b0010_0001.
    let cases = [
        (0x40, 0, true),
        (0x40, 0xff, true),
        (0x40, 1, false),
        (0x140, 0, true),
        (0x840, 0x20, true),
        (0x840, 0x12, false),
        (1 << 18 | 0x40, 7, true),
        (2 << 18 | 0x40, 7, true),
        (3 << 18 | 0x40, 0, false),
        (0x240, 0, false),
        (0x440, 0, false),
        (0x540, 0, false),
        (0x640, 0, false),
    ];
    for (command, destination, arrives) in cases {
        let mut lapic = Lapic::new();
        write(&mut lapic, LDR, 0x2100_0000);
        write(&mut lapic, ICR_HIGH, destination << 24);
        write(&mut lapic, ICR, command);
        assert_eq!(lapic.pending(), arrives, "{command:#x} to {destination:#x}");
        assert_eq!((read(&mut lapic, ICR), read(&mut lapic, ICR_HIGH)), (command, destination << 24));
    }
    let mut lapic = Lapic::new();
    write(&mut lapic, LDR, 0x2100_0000);
    write(&mut lapic, DFR, 0x0fff_ffff);
    for (destination, arrives) in [(0x12, false), (0x22, false), (0x21, true), (0xff, true)] {
        write(&mut lapic, ICR_HIGH, destination << 24);
        write(&mut lapic, ICR, 0x840);
        assert_eq!(lapic.acknowledge().is_some(), arrives, "cluster {destination:#x}");
        write(&mut lapic, EOI, 0);
    }
}

#[test]
fn reserved_vectors_and_registers_are_errors_that_the_error_status_reports() {
    let mut lapic = Lapic::new();
    write(&mut lapic, LVT_ERROR, 0x51);
    for (offset, value, error) in [(ICR, SELF | 15, 1 << 5), (0x40, 7, 1 << 7), (0x2f0, 0, 1 << 7), (0x3f0, 0, 1 << 7)]
    {
        write(&mut lapic, offset, value);
        assert_eq!(read(&mut lapic, ESR), 0, "not before a write");
        write(&mut lapic, ESR, 0);
        assert_eq!((read(&mut lapic, ESR), lapic.acknowledge()), (error, Some(0x51)), "{offset:#x}");
        write(&mut lapic, EOI, 0);
        write(&mut lapic, ESR, 0);
        assert_eq!(read(&mut lapic, ESR), 0);
    }
    assert_eq!(read(&mut lapic, 0x10), 0);
    write(&mut lapic, LVT_TIMER, DEADLINE | 5);
    lapic.set_deadline(1, 2);
    write(&mut lapic, ESR, 0);
    assert_eq!((read(&mut lapic, ESR), lapic.pending()), (1 << 6 | 1 << 7, true));
}

#[test]
fn an_error_interrupt_with_a_reserved_vector_is_not_one_more_error() {
    let mut lapic = Lapic::new();
    write(&mut lapic, LVT_ERROR, 3);
    write(&mut lapic, ICR, SELF | 3);
    write(&mut lapic, ESR, 0);
    assert_eq!((read(&mut lapic, ESR), lapic.pending()), (1 << 5, false));
}

#[test]
fn switched_off_by_software_it_masks_everything_but_keeps_what_is_requested() {
    let mut lapic = requested(&[0x40]);
    write(&mut lapic, LVT_TIMER, 0x41);
    write(&mut lapic, SVR, 0xff);
    for offset in (0x320..=0x370).step_by(16) {
        write(&mut lapic, offset, 0);
        assert_eq!(read(&mut lapic, offset) & MASK, MASK, "{offset:#x}");
    }
    write(&mut lapic, ICR, SELF | 0x90);
    assert_eq!(lapic.acknowledge(), Some(0x40));
    write(&mut lapic, SVR, 0x1ff);
    assert_eq!(read(&mut lapic, LVT_TIMER), MASK, "it stays masked");
}

#[test]
fn only_an_aligned_double_word_writes_and_narrow_reads_give_their_bytes() {
    let mut lapic = Lapic::new();
    lapic.write(TPR, Width::Byte, 0x20, 0);
    lapic.write(TPR, Width::Word, 0x20, 0);
    for offset in [TPR + 1, TPR + 4, TPR + 8, TPR + 12] {
        lapic.write(offset, Width::Dword, 0x20, 0);
    }
    assert_eq!(read(&mut lapic, TPR), 0);
    let bytes = [0x30, 0x31, 0x32, 0x33, 0x34, 0x3f].map(|offset| lapic.read(offset, Width::Byte, 0));
    assert_eq!(bytes, [0x15, 0, 5, 0, 0, 0]);
    assert_eq!((lapic.read(0x32, Width::Word, 0), lapic.read(0x31, Width::Dword, 0)), (5, 0));
    write(&mut lapic, ESR, 0);
    assert_eq!(read(&mut lapic, ESR), 0, "no error");
}

#[test]
fn a_count_goes_down_with_the_crystal_divided_and_interrupts_once() {
    // Divide configuration and ticks of the TSC for each count: the crystal's two, times 2, 4, 8 … 128, and 1.
    let divisors = [(0, 4), (1, 8), (2, 16), (3, 32), (8, 64), (9, 128), (10, 256), (11, 2)];
    for (divide, ticks) in divisors {
        let mut lapic = timer(0x40);
        lapic.write(DIVIDE, Width::Dword, divide, 0);
        lapic.write(INITIAL, Width::Dword, 100, 1000);
        assert_eq!(lapic.next_event(), Some(1000 + 100 * ticks));
        assert_eq!(lapic.read(CURRENT, Width::Dword, 1000 + 30 * ticks), 70);
        lapic.advance(1000 + 100 * ticks - 1);
        assert!(!lapic.pending());
        assert_eq!(lapic.read(CURRENT, Width::Dword, 1000 + 100 * ticks), 0);
        assert_eq!((lapic.acknowledge(), lapic.next_event()), (Some(0x40), None));
    }
}

#[test]
fn a_periodic_timer_keeps_its_pace_and_a_late_look_is_one_interrupt() {
    let mut lapic = timer(PERIODIC | 0x40);
    lapic.write(INITIAL, Width::Dword, 100, 0);
    lapic.advance(400);
    assert_eq!((lapic.acknowledge(), lapic.next_event()), (Some(0x40), Some(800)));
    lapic.advance(400 * 1_000_000 + 399);
    write(&mut lapic, EOI, 0);
    assert_eq!((lapic.acknowledge(), lapic.next_event()), (Some(0x40), Some(400 * 1_000_001)));
    write(&mut lapic, EOI, 0);
    assert!(!lapic.pending(), "one for all");
    lapic.write(INITIAL, Width::Dword, 0, 400 * 1_000_000 + 500);
    assert_eq!(lapic.next_event(), None, "zero stops it");
}

#[test]
fn dividing_anew_keeps_the_count() {
    let mut lapic = timer(0x40);
    lapic.write(INITIAL, Width::Dword, 100, 0);
    lapic.write(DIVIDE, Width::Dword, 0xb, 200);
    assert_eq!((lapic.read(CURRENT, Width::Dword, 200), lapic.next_event()), (50, Some(300)));
}

#[test]
fn a_deadline_interrupts_when_the_tsc_reaches_it_and_is_zero_then() {
    let mut lapic = timer(DEADLINE | 0x40);
    lapic.set_deadline(5000, 100);
    assert_eq!((lapic.deadline(4999), lapic.next_event()), (5000, Some(5000)));
    assert_eq!(lapic.deadline(5000), 0);
    lapic.advance(4999);
    assert!(!lapic.pending());
    lapic.advance(5000);
    assert_eq!((lapic.acknowledge(), lapic.next_event()), (Some(0x40), None));
    write(&mut lapic, EOI, 0);
    lapic.set_deadline(6000, 7000);
    assert_eq!((lapic.acknowledge(), lapic.deadline(7000)), (Some(0x40), 0), "one in the past, at once");
    lapic.set_deadline(u64::MAX, 7000);
    assert_eq!(lapic.next_event(), Some(u64::MAX));
    lapic.set_deadline(0, 7000);
    assert_eq!(lapic.next_event(), None);
}

#[test]
fn counts_and_deadlines_do_not_mix() {
    let mut lapic = timer(0x40);
    lapic.set_deadline(5000, 0);
    assert_eq!((lapic.deadline(0), lapic.next_event()), (0, None));
    lapic.write(INITIAL, Width::Dword, 100, 0);
    write(&mut lapic, LVT_TIMER, PERIODIC | 0x40);
    assert_eq!(lapic.next_event(), Some(400), "both count");
    write(&mut lapic, LVT_TIMER, DEADLINE | 0x40);
    assert_eq!((lapic.next_event(), lapic.read(CURRENT, Width::Dword, 100)), (None, 0));
    lapic.write(INITIAL, Width::Dword, 100, 0);
    assert_eq!(lapic.next_event(), None);
    lapic.set_deadline(5000, 0);
    write(&mut lapic, LVT_TIMER, 0x40);
    assert_eq!(lapic.next_event(), None);
    write(&mut lapic, LVT_TIMER, 3 << 17 | 0x40);
    lapic.set_deadline(5000, 0);
    lapic.write(INITIAL, Width::Dword, 100, 0);
    assert_eq!(lapic.next_event(), None, "a reserved mode");
}

#[test]
fn what_expires_masked_is_lost() {
    let mut lapic = timer(MASK | DEADLINE | 0x40);
    lapic.set_deadline(5000, 0);
    assert_eq!(lapic.next_event(), None, "no deadline is set");
    lapic.write(LVT_TIMER, Width::Dword, DEADLINE | 0x40, 6000);
    assert_eq!((lapic.pending(), lapic.next_event()), (false, None));
}

/// Something that a guest or time does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Read(u16, Width),
    Write(u16, Width, u32),
    Deadline(u64),
    Acknowledge,
}

fn step() -> impl Strategy<Value = Step> {
    let width = prop_oneof![1 => Just(Width::Byte), 1 => Just(Width::Word), 8 => Just(Width::Dword)];
    let offset = prop_oneof![8 => (0..0x40u16).prop_map(|n| n * 16), 1 => 0..0x1000u16];
    let value = prop_oneof![2 => any::<u32>(), 2 => 0..0x800u32, 1 => (0..4u32, any::<u8>()).prop_map(|(mode, vector)| mode << 17 | u32::from(vector))];
    let deadline = prop_oneof![3 => 0..1u64 << 20, 1 => any::<u64>()];
    prop_oneof![
        2 => (offset.clone(), width.clone()).prop_map(|(offset, width)| Step::Read(offset, width)),
        6 => (offset, width, value).prop_map(|(offset, width, value)| Step::Write(offset, width, value)),
        2 => deadline.prop_map(Step::Deadline),
        2 => Just(Step::Acknowledge),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// Whatever a guest does, nothing panics or takes long, no vector below 16 comes out, a reported deadline is ahead
    /// once the timer was looked at, and each interrupt is above all that are in service.
    #[test]
    fn any_accesses(steps in prop::collection::vec((step(), 0..1u64 << 18), 1..200), start in prop_oneof![Just(0), Just(u64::MAX - (1 << 22))]) {
        let mut lapic = Lapic::new();
        let mut tsc = start;
        for (step, wait) in steps {
            tsc = tsc.saturating_add(wait);
            lapic.advance(tsc);
            prop_assert!(lapic.next_event().is_none_or(|due| due > tsc || due == u64::MAX));
            match step {
                Step::Read(offset, width) => prop_assert_eq!(lapic.read(offset, width, tsc) & !width.mask32(), 0),
                Step::Write(offset, width, value) => lapic.write(offset, width, value, tsc),
                Step::Deadline(ahead) => lapic.set_deadline(tsc.saturating_add(ahead), tsc),
                Step::Acknowledge => {
                    let priority = read(&mut lapic.clone(), PPR);
                    let pending = lapic.pending();
                    let vector = lapic.acknowledge();
                    prop_assert_eq!(vector.is_some(), pending);
                    prop_assert!(vector.is_none_or(|vector| vector >= 16 && u32::from(vector >> 4) > priority >> 4));
                }
            }
        }
    }

    /// The short ways end as the long ones.
    #[test]
    fn a_short_way_leads_where_the_long_one_does(
        steps in prop::collection::vec((step(), 0..1u64 << 18), 1..60), ahead in prop_oneof![Just(0), 1..1u64 << 20],
    ) {
        let mut lapic = Lapic::new();
        let mut tsc = 0;
        for (step, wait) in steps {
            tsc += wait;
            match step {
                Step::Read(offset, width) => _ = lapic.read(offset, width, tsc),
                Step::Write(offset, width, value) => lapic.write(offset, width, value, tsc),
                Step::Deadline(ahead) => lapic.set_deadline(tsc.saturating_add(ahead), tsc),
                Step::Acknowledge => _ = lapic.acknowledge(),
            }
            let (mut short, mut long) = (lapic.clone(), lapic.clone());
            if short.end_quietly(EOI) {
                // A timer that has expired meanwhile is still to be seen to, here as there.
                long.end();
                prop_assert_eq!(std::format!("{short:?}"), std::format!("{long:?}"));
                prop_assert!(!short.pending());
            }
            let (mut short, mut long) = (lapic.clone(), lapic.clone());
            if short.move_deadline(tsc + ahead, tsc) {
                long.set_deadline(tsc + ahead, tsc);
                prop_assert_eq!(std::format!("{short:?}"), std::format!("{long:?}"));
                prop_assert_eq!(short.pending(), lapic.pending());
            }
        }
    }
}
