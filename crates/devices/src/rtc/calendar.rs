//! Calendar arithmetic and the register codes of the clock: binary or BCD, 12 or 24 hours.
//!
//! MC146818 data sheet, "Time, Calendar, and Alarm Locations".  The Gregorian calendar is taken to hold always.

/// Seconds in a day.
pub(super) const DAY: i64 = 86_400;

/// Bit 7 of an hour in the 12-hour code.
const PM: u8 = 0x80;

/// A point in time as the registers tell it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Calendar {
    pub(super) second: u8,
    pub(super) minute: u8,
    pub(super) hour: u8,
    /// 1 is Sunday.
    pub(super) weekday: u8,
    pub(super) day: u8,
    pub(super) month: u8,
    pub(super) year: i64,
}

impl Calendar {
    /// The calendar at `unix` seconds since 1970.
    pub(super) const fn at(unix: i64) -> Self {
        let (days, second) = (unix.div_euclid(DAY), unix.rem_euclid(DAY));
        // Years begin in March here, so that the leap day is the last; 400 of them have 146,097 days.
        let shifted = days + 719_468;
        let (era, in_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
        let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march = (5 * in_year + 2) / 153;
        let month = if march < 10 { march + 3 } else { march - 9 };
        Self {
            second: (second % 60) as u8,
            minute: (second / 60 % 60) as u8,
            hour: (second / 3600) as u8,
            weekday: ((days + 4).rem_euclid(7) + 1) as u8,
            day: (in_year - (153 * march + 2) / 5 + 1) as u8,
            month: month as u8,
            year: year_of_era + era * 400 + (month <= 2) as i64,
        }
    }

    /// Seconds since 1970.  Fields out of range spill over; the weekday is not looked at.
    pub(super) const fn unix(&self) -> i64 {
        let month = if self.month == 0 { 1 } else { (self.month as i64 - 1) % 12 + 1 };
        let year = self.year - (month <= 2) as i64;
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let in_year = (153 * ((month + 9) % 12) + 2) / 5 + self.day as i64 - 1;
        let in_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + in_year;
        let days = era * 146_097 + in_era - 719_468;
        days * DAY + self.hour as i64 * 3600 + self.minute as i64 * 60 + self.second as i64
    }
}

/// How numbers stand in the registers: bits 2 and 1 of register B.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code {
    pub(super) binary: bool,
    pub(super) hours_24: bool,
}

impl Code {
    /// Encodes 0 to 99.
    pub(super) const fn encode(self, value: u8) -> u8 {
        if self.binary { value } else { ((value / 10 % 10) << 4) | (value % 10) }
    }

    pub(super) const fn decode(self, byte: u8) -> u8 {
        if self.binary { byte } else { (byte >> 4) * 10 + (byte & 0xf) }
    }

    /// Encodes an hour, 0 to 23.
    pub(super) const fn encode_hour(self, hour: u8) -> u8 {
        if self.hours_24 {
            return self.encode(hour);
        }
        let half = if hour >= 12 { PM } else { 0 };
        half | self.encode(if hour.is_multiple_of(12) { 12 } else { hour % 12 })
    }

    pub(super) const fn decode_hour(self, byte: u8) -> u8 {
        if self.hours_24 {
            return self.decode(byte);
        }
        let half = if byte & PM != 0 { 12 } else { 0 };
        self.decode(byte & !PM) % 12 + half
    }
}

/// The first time of day from `from` on, in seconds, that has the `wanted` hour, minute and second (`None`: any).
///
/// At most a step for each hour, minute and second.
pub(super) fn alarm_in_day([hour, minute, second]: [Option<u8>; 3], from: i64) -> Option<i64> {
    let differs = |wanted: Option<u8>, value: i64| wanted.is_some_and(|wanted| i64::from(wanted) != value);
    let mut time = from;
    while time < DAY {
        if differs(hour, time / 3600) {
            time += 3600 - time % 3600;
        } else if differs(minute, time / 60 % 60) {
            time += 60 - time % 60;
        } else if differs(second, time % 60) {
            time += 1;
        } else {
            return Some(time);
        }
    }
    None
}
