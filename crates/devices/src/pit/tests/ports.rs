//! The ports before the counters: latches, read-back, byte order, and port 0x61.

use super::*;

#[test]
fn a_latched_count_stays_until_both_bytes_are_read() {
    let mut pit = programmed(0b0011_0100, 0x4000);
    out(&mut pit, 0x43, 0b0000_0000, 0x101);
    out(&mut pit, 0x43, 0b0000_0000, 0x201); // A second latch is ignored.
    assert_eq!(inb(&mut pit, 0x40, 0x301), 0x00);
    assert_eq!(inb(&mut pit, 0x40, 0x501), 0x3f);
    assert_eq!(count(&mut pit, 0x40, 0x501), 0x3b00);
}

#[test]
fn one_byte_access_reads_and_writes_that_byte() {
    let mut pit = Pit::new();
    out(&mut pit, 0x43, 0b0010_0100, 0); // Channel 0, high byte, mode 2.
    out(&mut pit, 0x40, 0x12, 0);
    assert_eq!(inb(&mut pit, 0x40, 1), 0x12);
    assert_eq!(inb(&mut pit, 0x40, 2), 0x11);
    out(&mut pit, 0x43, 0b0001_0100, 10); // Low byte.
    out(&mut pit, 0x40, 0x12, 10);
    assert_eq!(inb(&mut pit, 0x40, 12), 0x11);
    assert_eq!(inb(&mut pit, 0x40, 13), 0x10);
}

#[test]
fn a_latched_count_of_one_byte_is_read_once() {
    // High byte of 0x1200, low byte of 0x0012; both in mode 2.
    for (control, later, counts) in [(0b0010_0100, 0x301, [0x11, 0x0f]), (0b0001_0100, 6, [0x11, 0x0d])] {
        let mut pit = Pit::new();
        out(&mut pit, 0x43, control, 0);
        out(&mut pit, 0x40, 0x12, 0);
        out(&mut pit, 0x43, 0b0000_0000, 2);
        assert_eq!([(); 2].map(|()| inb(&mut pit, 0x40, later)), counts);
    }
}

#[test]
fn a_count_that_does_not_run_is_read_in_pairs() {
    let mut pit = Pit::new();
    out(&mut pit, 0x43, 0b0011_0010, 0); // Channel 0, mode 1: the trigger never comes.
    assert_eq!(count(&mut pit, 0x40, 1), 0, "no count yet");
    out(&mut pit, 0x40, 0x34, 1);
    out(&mut pit, 0x40, 0x12, 1);
    assert_eq!(count(&mut pit, 0x40, 2), 0x1234);
    assert_eq!(count(&mut pit, 0x40, 3), 0x1234);
}

#[test]
fn read_back_gives_status_before_count() {
    let mut pit = programmed(0b0011_0100, 0x1000);
    out(&mut pit, 0x43, 0b1100_0010, 0x11); // Count and status of channel 0.
    assert_eq!(inb(&mut pit, 0x40, 0x20), 0b1011_0100, "OUT high, loaded, two bytes, mode 2, binary");
    assert_eq!(count(&mut pit, 0x40, 0x20), 0x0ff0);
}

#[test]
fn status_tells_of_a_count_that_is_not_loaded() {
    let mut pit = Pit::new();
    out(&mut pit, 0x43, 0b0111_0001, 0); // Channel 1, mode 0, BCD.
    out(&mut pit, 0x43, 0b1110_0100, 0);
    assert_eq!(inb(&mut pit, 0x41, 0), 0b0111_0001, "OUT low, null count");
    out(&mut pit, 0x41, 5, 0);
    out(&mut pit, 0x41, 0, 0);
    out(&mut pit, 0x43, 0b1110_0100, 1);
    assert_eq!(inb(&mut pit, 0x41, 1), 0b0011_0001);
}

#[test]
fn read_back_serves_several_channels_at_once() {
    let mut pit = programmed(0b0011_0100, 0x1000);
    out(&mut pit, 0x43, 0b0111_0100, 0);
    out(&mut pit, 0x41, 0x00, 0);
    out(&mut pit, 0x41, 0x20, 0);
    out(&mut pit, 0x43, 0b1101_0110, 0x101); // Counts of channels 0 and 1.
    assert_eq!(count(&mut pit, 0x40, 0x300), 0x0f00);
    assert_eq!(count(&mut pit, 0x41, 0x300), 0x1f00);
}

#[test]
fn reprogramming_discards_latches_and_half_written_counts() {
    let mut pit = programmed(0b0011_0100, 0x4000);
    out(&mut pit, 0x43, 0b0000_0000, 5);
    inb(&mut pit, 0x40, 5);
    out(&mut pit, 0x40, 0x77, 5);
    out(&mut pit, 0x43, 0b0011_0100, 5);
    out(&mut pit, 0x40, 0x00, 5);
    out(&mut pit, 0x40, 0x10, 5);
    assert_eq!(count(&mut pit, 0x40, 6), 0x1000);
}

#[test]
fn modes_6_and_7_are_2_and_3() {
    for (control, mode) in [(0b0011_1100, 2), (0b0011_1110, 3)] {
        let mut pit = programmed(control, 100);
        out(&mut pit, 0x43, 0b1110_0010, 2);
        assert_eq!(inb(&mut pit, 0x40, 2) >> 1 & 7, mode);
    }
}

#[test]
fn linux_calibrates_the_tsc_by_channel_2() {
    // pit_calibrate_tsc: gate on, speaker off, mode 0, wait for OUT2 on port 0x61.
    let mut pit = Pit::new();
    let value = pit.read_61(at(0)) & !0x02 | 0x01;
    pit.write_61(value, at(0));
    out(&mut pit, 0x43, 0xb0, 0);
    let latch = 1_193_182 / 100u64; // 10 ms
    out(&mut pit, 0x42, latch as u8, 0);
    out(&mut pit, 0x42, (latch >> 8) as u8, 0);
    assert_eq!(pit.read_61(at(latch)) & 0x20, 0);
    assert_eq!(pit.read_61(at(latch + 1)) & 0x20, 0x20);
}

#[test]
fn linux_quick_calibration_sees_the_high_byte_fall() {
    // quick_pit_calibrate: mode 0 from 0xffff, reads low and high byte and watches the high one.
    let mut pit = programmed(0b1011_0000, 0xffff);
    for expected in (0xf0..=0xffu16).rev() {
        let tick = 1 + (0xff - u64::from(expected)) * 256;
        assert_eq!(count(&mut pit, 0x42, tick) >> 8, expected);
    }
}

#[test]
fn port_61_keeps_four_bits_and_shows_the_refresh() {
    let mut pit = Pit::new();
    pit.write_61(0xff, at(0));
    assert_eq!(pit.read_61(at(0)) & 0xcf, 0x0f);
    let toggles: Vec<u8> = (0..4).map(|i| pit.read_61(at(18 * i)) & 0x10).collect();
    assert_eq!(toggles, [0, 0x10, 0, 0x10]);
}

#[test]
fn the_control_port_cannot_be_read() {
    let mut pit = Pit::new();
    assert_eq!(inb(&mut pit, 0x43, 0), 0xff);
    assert_eq!(pit.read(3, Width::Dword, at(0)), 0xffff_ffff);
}
