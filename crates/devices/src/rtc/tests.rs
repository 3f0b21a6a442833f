//! The clock as the MC146818 data sheet has it, and as Linux's rtc-cmos driver uses it.

use super::*;
use std::vec::Vec;

/// 2024-02-28 23:59:50, a Wednesday, before a leap day.
const BASE: u64 = 1_709_164_790;

fn clock() -> Rtc {
    let mut rtc = Rtc::new(128 << 20);
    rtc.set_time(BASE);
    rtc
}

fn get(rtc: &mut Rtc, index: u8, now: Nanos) -> u8 {
    rtc.write(0, Width::Byte, index.into(), now);
    rtc.read(1, Width::Byte, now) as u8
}

fn put(rtc: &mut Rtc, index: u8, value: u8, now: Nanos) {
    rtc.write(0, Width::Byte, index.into(), now);
    rtc.write(1, Width::Byte, value.into(), now);
}

/// Century, year, month, day, hour, minute, second and weekday, as the registers have them.
fn time(rtc: &mut Rtc, now: Nanos) -> Vec<u8> {
    [0x32, 9, 8, 7, 4, 2, 0, 6].iter().map(|&index| get(rtc, index, now)).collect()
}

#[test]
fn it_tells_the_time_in_bcd_and_24_hours() {
    let mut rtc = clock();
    let at = Nanos::from_secs;
    assert_eq!(time(&mut rtc, at(0)), [0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x50, 4]);
    assert_eq!(time(&mut rtc, Nanos(9_999_999_999)), [0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59, 4]);
    assert_eq!(time(&mut rtc, at(10)), [0x20, 0x24, 0x02, 0x29, 0x00, 0x00, 0x00, 5]);
    assert_eq!(time(&mut rtc, at(10 + 86_400)), [0x20, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00, 6]);
}

#[test]
fn it_tells_the_time_in_binary_and_12_hours() {
    let mut rtc = clock();
    put(&mut rtc, 0x0b, 0b0000_0100, Nanos::ZERO);
    assert_eq!(time(&mut rtc, Nanos::ZERO), [20, 24, 2, 28, 0x80 | 11, 59, 50, 4]);
    assert_eq!(get(&mut rtc, 4, Nanos::from_secs(10)), 12, "midnight is 12 AM");
    assert_eq!(get(&mut rtc, 4, Nanos::from_secs(10 + 12 * 3600)), 0x80 | 12, "noon is 12 PM");
}

#[test]
fn the_calendar_agrees_with_counting_days() {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut month, mut day) = (1970, 1, 1);
    for days in 0..366 * 450i64 {
        let time = Calendar::at(days * 86_400 + 86_399);
        assert_eq!((time.year, time.month, time.day), (year, month, day));
        assert_eq!((time.hour, time.minute, time.second), (23, 59, 59));
        assert_eq!(i64::from(time.weekday), (days + 4) % 7 + 1, "1970 began on a Thursday");
        assert_eq!(time.unix(), days * 86_400 + 86_399);
        let length = match month {
            2 => 28 + u8::from(leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        day += 1;
        if day > length {
            (day, month) = (1, month + 1);
        }
        if month > 12 {
            (month, year) = (1, year + 1);
        }
    }
}

#[test]
fn hours_survive_both_codes() {
    for (binary, hours_24) in [(false, false), (false, true), (true, false), (true, true)] {
        let code = Code { binary, hours_24 };
        for hour in 0..24 {
            assert_eq!(code.decode_hour(code.encode_hour(hour)), hour);
        }
    }
    let code = Code { binary: false, hours_24: false };
    assert_eq!([0, 1, 11, 12, 13, 23].map(|hour| code.encode_hour(hour)), [0x12, 0x01, 0x11, 0x92, 0x81, 0x91]);
}

#[test]
fn linux_sets_the_time() {
    // mc146818_set_time: SET, divider reset, the registers, then both back; the next second comes after a half.
    let mut rtc = clock();
    let now = Nanos::from_millis(12_345);
    let control = get(&mut rtc, 0x0b, now);
    put(&mut rtc, 0x0b, control | 0x80, now);
    let select = get(&mut rtc, 0x0a, now);
    put(&mut rtc, 0x0a, select | 0x70, now);
    for (index, value) in [(9, 0x31), (8, 0x12), (7, 0x31), (4, 0x23), (2, 0x59), (0, 0x58), (0x32, 0x19)] {
        put(&mut rtc, index, value, now);
    }
    put(&mut rtc, 0x0b, control, now);
    put(&mut rtc, 0x0a, select, now);
    assert_eq!(get(&mut rtc, 0, now + 499_999_999), 0x58);
    assert_eq!(get(&mut rtc, 0, now + 500_000_000), 0x59);
    assert_eq!(time(&mut rtc, now + 1_500_000_000), [0x19, 0x32, 0x01, 0x01, 0x00, 0x00, 0x00, 6]);
}

#[test]
fn set_holds_the_time_bytes_and_the_divider_runs_on() {
    let mut rtc = clock();
    put(&mut rtc, 0x0b, 0b1001_0010, Nanos::from_millis(300));
    assert_eq!(get(&mut rtc, 0x0b, Nanos::from_millis(300)), 0b1000_0010, "SET clears the update interrupt");
    assert_eq!(get(&mut rtc, 0, Nanos::from_secs(8)), 0x50);
    put(&mut rtc, 0, 0x10, Nanos::from_secs(8));
    put(&mut rtc, 0x0b, 0b0000_0010, Nanos::from_millis(8_700));
    assert_eq!(get(&mut rtc, 0, Nanos::from_millis(8_999)), 0x10);
    assert_eq!(get(&mut rtc, 0, Nanos::from_millis(9_000)), 0x11);
}

#[test]
fn a_time_byte_written_while_running_keeps_the_others() {
    let mut rtc = clock();
    put(&mut rtc, 4, 0x07, Nanos::from_secs(3));
    assert_eq!(time(&mut rtc, Nanos::from_secs(4)), [0x20, 0x24, 0x02, 0x28, 0x07, 0x59, 0x54, 4]);
}

#[test]
fn the_updating_bit_comes_244_us_before_the_update_and_goes_with_it() {
    let mut rtc = clock();
    let uip = |rtc: &mut Rtc, nanos| get(rtc, 0x0a, Nanos(nanos)) & 0x80 != 0;
    let begin = 1_000_000_000 - (244 + 1984) * 1000;
    assert!(!uip(&mut rtc, begin - 1));
    assert!(uip(&mut rtc, begin));
    assert!(uip(&mut rtc, 999_999_999));
    assert!(!uip(&mut rtc, 1_000_000_000));
    put(&mut rtc, 0x0b, 0x82, Nanos(1_000_000_000));
    assert!(!uip(&mut rtc, 1_999_999_999), "not while SET");
}

#[test]
fn the_update_ended_interrupt_comes_each_second_until_c_is_read() {
    let mut rtc = clock();
    put(&mut rtc, 0x0b, 0b0001_0010, Nanos::from_millis(100));
    assert_eq!(rtc.next_event(Nanos::from_millis(100)), Some(Nanos::from_secs(1)));
    rtc.poll(Nanos(999_999_999));
    assert!(!rtc.irq());
    rtc.poll(Nanos::from_secs(1));
    assert!(rtc.irq());
    assert_eq!(rtc.next_event(Nanos::from_secs(1)), None, "nothing new until the guest answers");
    assert_eq!(get(&mut rtc, 0x0c, Nanos::from_secs(1)) & !0x40, 0b1001_0000);
    assert!(!rtc.irq());
    assert_eq!(get(&mut rtc, 0x0c, Nanos::from_secs(1)), 0);
    assert_eq!(rtc.next_event(Nanos::from_secs(1)), Some(Nanos::from_secs(2)));
}

#[test]
fn flags_rise_without_their_interrupts_and_then_ask_for_nothing() {
    let mut rtc = clock();
    rtc.poll(Nanos::from_secs(5));
    assert!(!rtc.irq());
    assert_eq!(rtc.next_event(Nanos::from_secs(5)), None);
    assert_eq!(get(&mut rtc, 0x0c, Nanos::from_secs(5)) & 0b1101_0000, 0b0101_0000);
}

#[test]
fn periodic_rates_are_those_of_the_data_sheet() {
    let hertz = [0, 256, 128, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2];
    for (rate, hertz) in (0u8..).zip(hertz) {
        let mut rtc = clock();
        put(&mut rtc, 0x0a, 0x20 | rate, Nanos::ZERO);
        put(&mut rtc, 0x0b, 0b0100_0010, Nanos::ZERO);
        let mut interrupts = 0;
        let mut now = Nanos::ZERO;
        while let Some(next) = rtc.next_event(now).filter(|&next| next <= Nanos::from_secs(2)) {
            assert!(next > now);
            now = next;
            rtc.poll(now);
            assert!(rtc.irq());
            assert_eq!(get(&mut rtc, 0x0c, now) & 0xc0, 0xc0);
            interrupts += 1;
        }
        assert_eq!(interrupts, 2 * hertz, "rate {rate}");
    }
}

/// When the alarm rings first, in seconds after the base, with these alarm bytes.
fn rings(hour: u8, minute: u8, second: u8) -> Option<u64> {
    let mut rtc = clock();
    for (index, value) in [(5, hour), (3, minute), (1, second), (0x0b, 0b0010_0010)] {
        put(&mut rtc, index, value, Nanos::ZERO);
    }
    let next = rtc.next_event(Nanos::ZERO)?;
    rtc.poll(Nanos(next.0 - 1));
    assert!(!rtc.irq());
    rtc.poll(next);
    assert!(rtc.irq());
    assert_eq!(get(&mut rtc, 0x0c, next) & 0b1010_0000, 0b1010_0000);
    assert_eq!(next.0 % SECOND, 0);
    Some(next.0 / SECOND)
}

#[test]
fn the_alarm_rings_when_all_three_bytes_match() {
    assert_eq!(rings(0x23, 0x59, 0x55), Some(5));
    assert_eq!(rings(0x00, 0x00, 0x00), Some(10));
    assert_eq!(rings(0x23, 0x59, 0x50), Some(86_400), "this very second has passed");
    assert_eq!(rings(0x13, 0x01, 0x02), Some(10 + 13 * 3600 + 62));
}

#[test]
fn alarm_bytes_from_c0_match_anything() {
    assert_eq!(rings(0xff, 0xff, 0xff), Some(1));
    assert_eq!(rings(0xc0, 0xff, 0x07), Some(17));
    assert_eq!(rings(0xff, 0x30, 0xff), Some(10 + 30 * 60));
    assert_eq!(rings(0x01, 0xff, 0xff), Some(10 + 3600));
}

#[test]
fn an_alarm_that_no_time_matches_never_rings() {
    for (hour, minute, second) in [(0x24, 0, 0), (0, 0x60, 0), (0, 0, 0x99)] {
        assert_eq!(rings(hour, minute, second), None);
    }
}

#[test]
fn an_alarm_passed_between_two_polls_is_seen() {
    let mut rtc = clock();
    for (index, value) in [(5, 0x00), (3, 0x00), (1, 0x05), (0x0b, 0b0010_0010)] {
        put(&mut rtc, index, value, Nanos::ZERO);
    }
    rtc.poll(Nanos::from_secs(40_000));
    assert!(rtc.irq());
}

#[test]
fn a_divider_in_reset_raises_nothing() {
    let mut rtc = clock();
    put(&mut rtc, 0x0b, 0b0111_0010, Nanos::ZERO);
    get(&mut rtc, 0x0c, Nanos::ZERO);
    put(&mut rtc, 0x0a, 0x76, Nanos::ZERO);
    assert_eq!(rtc.next_event(Nanos::ZERO), None);
    rtc.poll(Nanos::from_secs(100));
    assert!(!rtc.irq());
    assert_eq!(get(&mut rtc, 0, Nanos::from_secs(100)), 0x50);
}

#[test]
fn registers_c_and_d_cannot_be_written() {
    let mut rtc = clock();
    put(&mut rtc, 0x0c, 0xff, Nanos::ZERO);
    put(&mut rtc, 0x0d, 0x00, Nanos::ZERO);
    assert_eq!(get(&mut rtc, 0x0c, Nanos::ZERO), 0);
    assert_eq!(get(&mut rtc, 0x0d, Nanos::ZERO), 0x80, "the battery is good");
}

#[test]
fn bit_7_of_the_index_masks_the_nmi() {
    let mut rtc = clock();
    assert_eq!(get(&mut rtc, 0x80 | 0x0d, Nanos::ZERO), 0x80);
    assert!(rtc.nmi_masked());
    assert_eq!(get(&mut rtc, 0x0d, Nanos::ZERO), 0x80);
    assert!(!rtc.nmi_masked());
    assert_eq!(rtc.read(0, Width::Byte, Nanos::ZERO), 0xff, "the index cannot be read");
}

#[test]
fn a_word_written_at_the_index_selects_and_writes() {
    let mut rtc = clock();
    rtc.write(0, Width::Word, 0x5a_0f, Nanos::ZERO);
    assert_eq!(rtc.shutdown(), 0x5a);
    assert_eq!(rtc.read(0, Width::Word, Nanos::ZERO), 0x5aff);
}

#[test]
fn the_cmos_tells_of_the_memory() {
    for (megabytes, extended, high) in
        [(1, 0, 0), (16, 15 * 1024, 0), (64, 63 * 1024, 48 * 16), (384, 0xffff, 368 * 16), (8192, 0xffff, 0xfeff)]
    {
        let mut rtc = Rtc::new(megabytes << 20);
        let mut word = |at| u16::from_le_bytes([get(&mut rtc, at, Nanos::ZERO), get(&mut rtc, at + 1, Nanos::ZERO)]);
        assert_eq!(word(0x15), 640);
        assert_eq!([word(0x17), word(0x30)], [extended; 2]);
        assert_eq!(word(0x34), high, "{megabytes} MiB");
    }
}

#[test]
fn the_cmos_checksum_holds() {
    let mut rtc = clock();
    let sum: u16 = (0x10..=0x2d).map(|at| u16::from(get(&mut rtc, at, Nanos::ZERO))).sum();
    assert_eq!(u16::from_be_bytes([0x2e, 0x2f].map(|at| get(&mut rtc, at, Nanos::ZERO))), sum);
    assert_eq!(get(&mut rtc, 0x14, Nanos::ZERO), 0x02);
}

#[test]
fn the_rest_is_memory() {
    let mut rtc = clock();
    for at in (0x0e..0x80).filter(|&at| at != 0x32) {
        put(&mut rtc, at, at ^ 0xa5, Nanos::ZERO);
    }
    for at in (0x0e..0x80).filter(|&at| at != 0x32) {
        assert_eq!(get(&mut rtc, at, Nanos::from_secs(9)), at ^ 0xa5);
    }
}

#[test]
fn a_reset_takes_the_interrupts_and_leaves_the_time() {
    let mut rtc = clock();
    put(&mut rtc, 0x0b, 0b0111_0010, Nanos::ZERO);
    rtc.poll(Nanos::from_secs(1));
    assert!(rtc.irq());
    rtc.reset();
    assert!(!rtc.irq());
    assert_eq!(get(&mut rtc, 0x0b, Nanos::from_secs(1)), 0b0000_0010);
    assert_eq!(get(&mut rtc, 0x0c, Nanos::from_secs(1)), 0);
    assert_eq!(get(&mut rtc, 0, Nanos::from_secs(1)), 0x51);
}
