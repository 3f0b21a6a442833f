//! The 8254 by its data sheet's timing diagrams, and by what Linux does with it.  Time in the tests is in ticks.

mod ports;

use super::*;
use crate::pic::Pic;
use proptest::prelude::*;
use std::vec::Vec;

/// The first nanosecond of `tick`, computed another way than the model does.
fn at(tick: u64) -> Nanos {
    Nanos((u128::from(tick) * 1_000_000_000).div_ceil(1_193_182) as u64)
}

fn out(pit: &mut Pit, port: u16, value: u8, tick: u64) {
    pit.write(port - 0x40, Width::Byte, value.into(), at(tick));
}

fn inb(pit: &mut Pit, port: u16, tick: u64) -> u8 {
    pit.read(port - 0x40, Width::Byte, at(tick)) as u8
}

/// Reads low and high byte.
fn count(pit: &mut Pit, port: u16, tick: u64) -> u16 {
    let low = inb(pit, port, tick);
    u16::from_le_bytes([low, inb(pit, port, tick)])
}

/// Programs a channel, low byte then high byte, at tick 0.
fn programmed(control: u8, value: u16) -> Pit {
    let mut pit = Pit::new();
    pit.write_61(0x01, at(0));
    out(&mut pit, 0x43, control, 0);
    let port = 0x40 + u16::from(control >> 6);
    let [low, high] = value.to_le_bytes();
    out(&mut pit, port, low, 0);
    out(&mut pit, port, high, 0);
    pit
}

/// OUT of a channel by its status byte.
fn level(pit: &mut Pit, channel: u8, tick: u64) -> bool {
    out(pit, 0x43, 0b1110_0000 | 2 << channel, tick);
    inb(pit, 0x40 + u16::from(channel), tick) & 0x80 != 0
}

/// The ticks below `until` at which OUT0 rises, by watching it at each tick.
fn watched(pit: &Pit, until: u64) -> Vec<u64> {
    let mut pit = pit.clone();
    let levels: Vec<bool> = (0..until).map(|tick| level(&mut pit, 0, tick)).collect();
    (1..until).filter(|&tick| levels[tick as usize] && !levels[tick as usize - 1]).collect()
}

/// The same by the deadlines asked for.
fn foretold(pit: &Pit, until: u64) -> Vec<u64> {
    let mut pit = pit.clone();
    let mut edges = std::vec::Vec::new();
    let mut now = Nanos::ZERO;
    while let Some(edge) = pit.next_edge(now).filter(|&edge| edge < at(until)) {
        assert!(edge > now || now == Nanos::ZERO);
        assert_eq!(pit.take_edges(Nanos(edge.0 - 1)), 0, "no edge before the deadline");
        assert_eq!(pit.take_edges(edge), 1, "the edge at the deadline");
        edges.push((edge.0 * 1_193_182).div_euclid(1_000_000_000));
        now = edge;
    }
    edges
}

#[test]
fn ticks_and_nanoseconds_convert_exactly() {
    for tick in [0, 1, 2, 17, 1_193_181, 1_193_182, 1_193_183, 1 << 40] {
        let time = time_of(tick);
        assert_eq!(tick_at(time), tick);
        assert!(tick == 0 || tick_at(Nanos(time.0 - 1)) == tick - 1);
        assert_eq!(time, at(tick));
    }
    assert_eq!(tick_at(Nanos::from_secs(86_400 * 365)), 1_193_182 * 86_400 * 365, "no drift in a year");
}

#[test]
fn mode_0_rises_once_after_the_count() {
    let pit = programmed(0b0011_0000, 4);
    // Loaded at tick 1, then four counts: "OUT goes high N + 1 CLK pulses after the initial count is written".
    assert_eq!(watched(&pit, 200), [5]);
    assert_eq!(foretold(&pit, 70_000), [5]);
}

#[test]
fn mode_0_counts_down_and_wraps() {
    let mut pit = programmed(0b0011_0000, 4);
    let seen: Vec<u16> = (1..8).map(|tick| count(&mut pit, 0x40, tick)).collect();
    assert_eq!(seen, [4, 3, 2, 1, 0, 0xffff, 0xfffe]);
}

#[test]
fn mode_0_stops_at_the_first_byte_of_a_new_count() {
    let mut pit = programmed(0b0011_0000, 10);
    out(&mut pit, 0x40, 20, 5);
    assert!(!level(&mut pit, 0, 100));
    out(&mut pit, 0x40, 0, 100);
    assert_eq!(pit.next_edge(at(100)), Some(at(121)));
}

#[test]
fn mode_0_of_one_byte_restarts_with_each_count() {
    let mut pit = Pit::new();
    out(&mut pit, 0x43, 0b0001_0000, 0);
    out(&mut pit, 0x40, 10, 0);
    assert!(level(&mut pit, 0, 11));
    assert_eq!(pit.take_edges(at(20)), 1);
    out(&mut pit, 0x40, 10, 20);
    assert!(!level(&mut pit, 0, 30));
    assert!(level(&mut pit, 0, 31));
    assert_eq!(pit.take_edges(at(40)), 1);
}

#[test]
fn mode_2_pulses_once_a_period() {
    let mut pit = programmed(0b0011_0100, 3);
    // Low while the count is 1.
    let levels: Vec<bool> = (0..8).map(|tick| level(&mut pit, 0, tick)).collect();
    assert_eq!(levels, [true, true, true, false, true, true, false, true]);
    let mut pit = programmed(0b0011_0100, 3);
    let seen: Vec<u16> = (1..8).map(|tick| count(&mut pit, 0x40, tick)).collect();
    assert_eq!(seen, [3, 2, 1, 3, 2, 1, 3]);
    let pit = programmed(0b0011_0100, 3);
    assert_eq!(watched(&pit, 12), [4, 7, 10]);
    assert_eq!(foretold(&pit, 12), [4, 7, 10]);
}

#[test]
fn mode_2_takes_a_new_count_at_the_end_of_the_period() {
    let mut pit = programmed(0b0011_0100, 10);
    out(&mut pit, 0x40, 4, 5);
    out(&mut pit, 0x40, 0, 5);
    assert_eq!(foretold(&pit, 24), [11, 15, 19, 23]);
    assert_eq!(count(&mut pit, 0x40, 6), 5);
    assert_eq!(count(&mut pit, 0x40, 11), 4);
    assert_eq!(pit.take_edges(at(23)), 4);
}

#[test]
fn mode_2_written_just_before_the_reload_takes_part_in_it() {
    let mut pit = programmed(0b0011_0100, 10);
    out(&mut pit, 0x40, 4, 10);
    out(&mut pit, 0x40, 0, 10);
    assert_eq!(foretold(&pit, 20), [11, 15, 19]);
}

#[test]
fn mode_3_is_high_for_the_longer_half() {
    for (value, expected) in [(4, [true, true, false, false, true]), (5, [true, true, true, false, false])] {
        let mut pit = programmed(0b0011_0110, value);
        let levels: Vec<bool> = (1..6).map(|tick| level(&mut pit, 0, tick)).collect();
        assert_eq!(levels, expected, "count {value}");
    }
    let even = programmed(0b0011_0110, 4);
    assert_eq!(watched(&even, 14), [5, 9, 13]);
    assert_eq!(foretold(&even, 14), [5, 9, 13]);
    let odd = programmed(0b0011_0110, 5);
    assert_eq!(watched(&odd, 17), [6, 11, 16]);
    assert_eq!(foretold(&odd, 17), [6, 11, 16]);
}

#[test]
fn mode_3_counts_by_twos_in_each_half() {
    for (value, expected) in [(4, [4, 2, 4, 2, 4, 2]), (5, [4, 2, 0, 4, 2, 4])] {
        let mut pit = programmed(0b0011_0110, value);
        let seen: Vec<u16> = (1..7).map(|tick| count(&mut pit, 0x40, tick)).collect();
        assert_eq!(seen, expected, "count {value}");
    }
}

#[test]
fn mode_3_takes_a_new_count_at_the_end_of_the_half_period() {
    // High until tick 9, low until 17.
    for (when, edges) in [(4, [13, 21, 29]), (12, [17, 25, 33])] {
        let mut pit = programmed(0b0011_0110, 16);
        out(&mut pit, 0x40, 8, when);
        out(&mut pit, 0x40, 0, when);
        assert_eq!(foretold(&pit, edges[2] + 1), edges);
    }
}

#[test]
fn mode_4_strobes_once_after_the_count() {
    let mut pit = programmed(0b0011_1000, 3);
    let levels: Vec<bool> = (0..7).map(|tick| level(&mut pit, 0, tick)).collect();
    // "OUT goes low N + 1 CLK pulses after the initial count is written", for one pulse.
    assert_eq!(levels, [true, true, true, true, false, true, true]);
    assert_eq!(foretold(&programmed(0b0011_1000, 3), 70_000), [5]);
}

#[test]
fn mode_4_is_rearmed_by_a_count_alone() {
    // Linux's one-shot clock event: the control word once, then counts.
    let mut pit = programmed(0b0011_1000, 1000);
    assert_eq!(pit.next_edge(at(0)), Some(at(1002)));
    out(&mut pit, 0x40, 0x10, 500);
    out(&mut pit, 0x40, 0x00, 500);
    assert_eq!(pit.next_edge(at(500)), Some(at(518)));
    assert_eq!(pit.poll(at(600)), 1);
    assert_eq!(pit.next_edge(at(600)), None);
    out(&mut pit, 0x40, 0x20, 600);
    out(&mut pit, 0x40, 0x00, 600);
    assert_eq!(pit.owed(), 1, "a new count leaves the edge that was owed");
    assert_eq!(pit.poll(at(634)), 1, "but two are no more than one, as in the interrupt controller");
}

#[test]
fn modes_1_and_5_wait_for_a_trigger_that_channel_0_never_gets() {
    for control in [0b0011_0010, 0b0011_1010] {
        let mut pit = programmed(control, 5);
        assert_eq!(pit.next_edge(at(10)), None);
        assert_eq!(pit.take_edges(at(100_000)), 0);
        assert!(level(&mut pit, 0, 100_000));
    }
}

#[test]
fn mode_1_is_low_for_the_count_after_the_gate_rises() {
    let mut pit = programmed(0b1011_0010, 5);
    pit.write_61(0, at(10));
    pit.write_61(1, at(20));
    let levels: Vec<bool> = (20..28).map(|tick| pit.read_61(at(tick)) & 0x20 != 0).collect();
    assert_eq!(levels, [true, false, false, false, false, false, true, true]);
    // Triggered again while low, it stays low for a full count more.
    pit.write_61(0, at(30));
    pit.write_61(1, at(30));
    pit.write_61(0, at(33));
    pit.write_61(1, at(33));
    assert!((31..39).all(|tick| pit.read_61(at(tick)) & 0x20 == 0));
    assert!(pit.read_61(at(39)) & 0x20 != 0);
}

#[test]
fn mode_5_strobes_after_the_gate_rises() {
    let mut pit = programmed(0b1011_1010, 3);
    pit.write_61(0, at(10));
    pit.write_61(1, at(20));
    let low: Vec<u64> = (20..40).filter(|&tick| pit.read_61(at(tick)) & 0x20 == 0).collect();
    assert_eq!(low, [24]);
}

#[test]
fn the_gate_holds_mode_0_and_restarts_mode_3() {
    let mut pit = programmed(0b1011_0000, 100);
    pit.write_61(0, at(11));
    assert_eq!(count(&mut pit, 0x42, 50), 90);
    pit.write_61(1, at(60));
    assert!(pit.read_61(at(149)) & 0x20 == 0);
    assert!(pit.read_61(at(150)) & 0x20 != 0);

    let mut pit = programmed(0b1011_0110, 100);
    assert!(pit.read_61(at(60)) & 0x20 == 0);
    pit.write_61(0, at(61));
    assert!(pit.read_61(at(61)) & 0x20 != 0, "OUT goes high at once");
    pit.write_61(1, at(70));
    assert_eq!(count(&mut pit, 0x42, 71), 100);
}

#[test]
fn a_count_of_zero_is_the_largest() {
    assert_eq!(foretold(&programmed(0b0011_0100, 0), 70_000), [65_537]);
    assert_eq!(foretold(&programmed(0b0011_0101, 0), 11_000), [10_001], "in BCD");
    assert_eq!(count(&mut programmed(0b0011_0100, 0), 0x40, 1), 0);
}

#[test]
fn bcd_counts_in_decimal() {
    let mut pit = programmed(0b0011_0001, 0x0102);
    let seen: Vec<u16> = [1, 2, 3, 4, 103, 104].map(|tick| count(&mut pit, 0x40, tick)).into();
    assert_eq!(seen, [0x0102, 0x0101, 0x0100, 0x0099, 0x0000, 0x9999]);
}

#[test]
fn the_illegal_count_1_makes_no_storm() {
    for control in [0b0011_0100, 0b0011_0110] {
        let mut pit = programmed(control, 1);
        assert_eq!(pit.next_edge(at(0)), None);
        assert_eq!(pit.take_edges(at(1000)), 0);
    }
}

#[test]
fn a_control_word_that_raises_out_is_an_edge() {
    let mut pit = programmed(0b0011_0000, 1000);
    out(&mut pit, 0x43, 0b0011_0100, 10);
    assert_eq!(pit.take_edges(at(10)), 1);
}

#[test]
fn edges_owed_are_bounded_and_paid_singly() {
    let mut pit = programmed(0b0011_0100, 10);
    assert_eq!(pit.poll(at(51)), 5);
    assert!(pit.pay());
    assert_eq!(pit.owed(), 4);
    assert_eq!(pit.poll(at(1_000_000)), MAX_OWED);
    assert_eq!(pit.take_edges(at(1_000_000)), MAX_OWED);
    assert!(!pit.pay());
    assert_eq!(pit.poll(at(1_000_000)), 0);
}

#[test]
fn an_edge_that_passed_uncounted_is_due_now() {
    let pit = programmed(0b0011_0100, 1000);
    assert_eq!(pit.next_edge(at(5000)), Some(at(5000)));
}

#[test]
fn time_that_runs_backwards_stands_still() {
    let mut pit = programmed(0b0011_0100, 1000);
    assert_eq!(count(&mut pit, 0x40, 101), 900);
    assert_eq!(count(&mut pit, 0x40, 50), 900);
}

#[test]
fn a_guest_that_was_not_run_gets_every_tick() {
    let mut pit = programmed(0b0011_0100, 4773); // 250 Hz.
    let mut pic = Pic::new();
    pic.primary().write(1, Width::Byte, 0, Nanos::ZERO);
    let mut ticks = 0;
    for millis in [1, 5, 9, 40, 41, 100, 299] {
        let now = Nanos::from_millis(millis);
        loop {
            if pit.poll(now) > 0 && !pic.requested(0) && pit.pay() {
                pic.set_line(0, false);
                pic.set_line(0, true);
            }
            if !pic.pending() {
                break;
            }
            pic.acknowledge();
            pic.primary().write(0, Width::Byte, 0x20, now);
            ticks += 1;
        }
    }
    assert_eq!(ticks, 299 / 4);
}

#[test]
fn a_guest_that_sets_each_tick_anew_is_owed_one_at_most() {
    let mut pit = programmed(0b0011_1000, 100);
    for shot in 1..5 {
        assert_eq!(pit.poll(at(1000 * shot)), 1);
        out(&mut pit, 0x40, 100, 1000 * shot);
        out(&mut pit, 0x40, 0, 1000 * shot);
    }
}

proptest! {
    #[test]
    fn a_low_byte_taken_alone_is_one_written(
        accesses in prop::collection::vec((0..4u16, any::<u8>(), 0..3u8, 1..40_000u64), 1..100)
    ) {
        let (mut pit, mut written) = (Pit::new(), Pit::new());
        let mut tick = 0;
        for (offset, value, what, later) in accesses {
            tick += later;
            if what == 0 {
                prop_assert_eq!(pit.read(offset, Width::Byte, at(tick)), written.read(offset, Width::Byte, at(tick)));
            } else {
                if !pit.write_low_byte(offset, value, at(tick)) {
                    pit.write(offset, Width::Byte, value.into(), at(tick));
                }
                written.write(offset, Width::Byte, value.into(), at(tick));
            }
            prop_assert_eq!(pit.owed(), written.owed());
            prop_assert_eq!(pit.next_edge(at(tick)), written.next_edge(at(tick)));
            if value & 1 == 0 {
                prop_assert_eq!(pit.pay(), written.pay());
            }
        }
    }
}
