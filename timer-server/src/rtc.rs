//! Reads the real-time clock: Motorola MC146818 registers through ports 0x70 and 0x71, with the century byte at 0x32
//! that PC firmware maintains. Binary or BCD, 12 or 24 hours, according to status register B. It leaves out alarms,
//! setting the clock, and time zones: the clock is taken to run in UTC.

use mmio::Ports;

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;

const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const CENTURY: u8 = 0x32;

/// Status A: the registers are about to change.
const UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// Status B: values are binary, not BCD.
const BINARY: u8 = 1 << 2;
/// Status B: hours go to 23; else bit 7 of the hours says PM.
const HOURS_24: u8 = 1 << 1;

/// An update takes 2 ms at most (data sheet, "update cycle"); this many polls take longer on any machine.
const MAX_POLLS: u32 = 100_000;

/// The raw registers of the date: seconds, minutes, hours, day, month, year, century.
type Raw = [u8; 7];
const REGISTERS: Raw = [0x00, 0x02, 0x04, 0x07, 0x08, 0x09, CENTURY];

/// The chip.
pub struct Rtc<P>(P);

impl<P: Ports> Rtc<P> {
    /// The chip behind `ports` (0x70 and 0x71).
    pub fn new(ports: P) -> Self {
        Self(ports)
    }

    /// Seconds since 1970-01-01 00:00:00; `None` if the chip does not answer or its registers are not a date.
    pub fn unix_time(&mut self) -> Option<u64> {
        let status = self.register(STATUS_B);
        // An update may begin right after status A was read, so the registers count only if two readings agree.
        let mut last = self.settled()?;
        for _ in 0..4 {
            let now = self.settled()?;
            if now == last {
                return unix_time(now, status);
            }
            last = now;
        }
        None
    }

    fn settled(&mut self) -> Option<Raw> {
        (0..MAX_POLLS).find(|_| self.register(STATUS_A) & UPDATE_IN_PROGRESS == 0)?;
        Some(REGISTERS.map(|index| self.register(index)))
    }

    /// Reads a register. Bit 7 of the index port masks NMIs and stays 0.
    fn register(&mut self, index: u8) -> u8 {
        self.0.out8(INDEX, index);
        self.0.in8(DATA)
    }
}

fn unix_time(raw: Raw, status: u8) -> Option<u64> {
    let value = |byte: u8| if status & BINARY != 0 { Some(byte) } else { from_bcd(byte) };
    let [second, minute, hour, day, month, year, century] = raw;
    let afternoon = status & HOURS_24 == 0 && hour & 0x80 != 0;
    let hour = value(if status & HOURS_24 == 0 { hour & 0x7f } else { hour })?;
    // In 12-hour mode, 12 is the hour after midnight or noon.
    let hour = if status & HOURS_24 == 0 { hour % 12 + if afternoon { 12 } else { 0 } } else { hour };
    let (second, minute, day, month, year) = (value(second)?, value(minute)?, value(day)?, value(month)?, value(year)?);
    // Not every chip has the century byte, and other values may be there. Without it, years below 70 are 20xx.
    let century = match value(century) {
        Some(century @ 19..=29) => century,
        _ if year < 70 => 20,
        _ => 19,
    };
    let sound = second < 60 && minute < 60 && hour < 24 && (1..=31).contains(&day) && (1..=12).contains(&month);
    if !sound || year > 99 {
        return None;
    }
    let days = days_since_1970(u64::from(century) * 100 + u64::from(year), month.into(), day.into())?;
    Some(days * 86_400 + u64::from(hour) * 3_600 + u64::from(minute) * 60 + u64::from(second))
}

fn from_bcd(byte: u8) -> Option<u8> {
    let (tens, ones) = (byte >> 4, byte & 0xf);
    (tens < 10 && ones < 10).then_some(tens * 10 + ones)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counting years from March so that the leap day is last.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Registers by index; status A shows an update for the first `busy` reads.
    struct Chip {
        index: u8,
        cells: [u8; 128],
        busy: u32,
    }

    impl Ports for Chip {
        fn in8(&mut self, _: u16) -> u8 {
            if self.index == 0x0a && self.busy > 0 {
                self.busy -= 1;
                return 0x80;
            }
            self.cells[usize::from(self.index)]
        }
        fn out8(&mut self, port: u16, value: u8) {
            assert_eq!((port, value & 0x80), (0x70, 0));
            self.index = value;
        }
        fn in16(&mut self, _: u16) -> u16 {
            unreachable!()
        }
        fn out16(&mut self, _: u16, _: u16) {
            unreachable!()
        }
        fn in32(&mut self, _: u16) -> u32 {
            unreachable!()
        }
        fn out32(&mut self, _: u16, _: u32) {
            unreachable!()
        }
    }

    fn chip(date: [u8; 7], status_b: u8) -> Chip {
        let mut cells = [0; 128];
        for (index, value) in [0, 2, 4, 7, 8, 9, 0x32].into_iter().zip(date) {
            cells[index] = value;
        }
        cells[0x0b] = status_b;
        Chip { index: 0, cells, busy: 3 }
    }

    fn read(date: [u8; 7], status_b: u8) -> Option<u64> {
        Rtc::new(chip(date, status_b)).unix_time()
    }

    #[test]
    fn bcd_binary_and_12_hours_say_the_same_time() {
        // date -u -d "2026-11-22 15:04:05" +%s
        let expected = Some(1_795_359_845);
        assert_eq!(read([0x05, 0x04, 0x15, 0x22, 0x11, 0x26, 0x20], 0x02), expected);
        assert_eq!(read([5, 4, 15, 22, 11, 26, 20], 0x06), expected);
        assert_eq!(read([0x05, 0x04, 0x83, 0x22, 0x11, 0x26, 0x20], 0x00), expected);
    }

    #[test]
    fn noon_and_midnight_in_12_hours() {
        let midnight = read([0, 0, 0x12, 0x01, 0x01, 0x70, 0x19], 0);
        assert_eq!(midnight, Some(0));
        assert_eq!(read([0, 0, 0x92, 0x01, 0x01, 0x70, 0x19], 0), Some(12 * 3600));
    }

    #[test]
    fn a_missing_century_is_guessed() {
        assert_eq!(read([0, 0, 0, 0x01, 0x01, 0x70, 0xff], 2), Some(0));
        assert_eq!(read([0, 0, 0, 0x29, 0x02, 0x24, 0x00], 2), Some(1_709_164_800));
    }

    #[test]
    fn registers_that_are_no_date_are_refused() {
        assert_eq!(read([0xff; 7], 0xff), None, "no chip at all");
        assert_eq!(read([0x61, 0, 0, 1, 1, 0, 0x20], 2), None);
        assert_eq!(read([0, 0, 0, 1, 0x13, 0, 0x20], 2), None);
        assert_eq!(read([0x0a, 0, 0, 1, 1, 0, 0x20], 2), None);
    }

    #[test]
    fn a_chip_that_never_settles_is_given_up() {
        let mut chip = chip([0, 0, 0, 1, 1, 0, 0x20], 2);
        chip.busy = u32::MAX;
        assert_eq!(Rtc::new(chip).unix_time(), None);
    }

    proptest! {
        #[test]
        fn no_register_contents_break_the_reader(date: [u8; 7], status_b: u8) {
            read(date, status_b);
        }
    }
}
