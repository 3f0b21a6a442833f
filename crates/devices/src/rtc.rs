//! The real-time clock and its CMOS memory, at ports 0x70 (index, NMI mask) and 0x71 (data).
//!
//! Motorola MC146818 data sheet; the CMOS layout is the IBM AT's (PC AT Technical Reference, "CMOS RAM Address Map")
//! with the century at 0x32 and the memory above 16 MiB at 0x34 that later firmware added.
//! Left out: the 4 and 1 MHz time bases, the square-wave pin, daylight saving; the weekday follows from the date.

mod calendar;
#[cfg(test)]
mod tests;

use crate::{Device, Nanos, SECOND, Width, read_bytes, write_bytes};
use calendar::{Calendar, Code, DAY, alarm_in_day};

const SECONDS: u8 = 0x00;
const SECONDS_ALARM: u8 = 0x01;
const MINUTES: u8 = 0x02;
const MINUTES_ALARM: u8 = 0x03;
const HOURS: u8 = 0x04;
const HOURS_ALARM: u8 = 0x05;
const WEEKDAY: u8 = 0x06;
const DAY_OF_MONTH: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const REG_A: u8 = 0x0a;
const REG_B: u8 = 0x0b;
const REG_C: u8 = 0x0c;
const REG_D: u8 = 0x0d;
const SHUTDOWN: u8 = 0x0f;
const CENTURY: u8 = 0x32;

const A_UPDATING: u8 = 1 << 7;
/// A time base of 32,768 Hz and a periodic rate of 1,024 Hz, as firmware sets them.
const A_DEFAULT: u8 = 0x26;
const B_24_HOURS: u8 = 1 << 1;
const B_BINARY: u8 = 1 << 2;
const B_SQUARE_WAVE: u8 = 1 << 3;
/// Also the position of the flag in register C, and so for the next two.
const UPDATE: u8 = 1 << 4;
const ALARM: u8 = 1 << 5;
const PERIODIC: u8 = 1 << 6;
const B_SET: u8 = 1 << 7;
const C_REQUEST: u8 = 1 << 7;
const D_VALID: u8 = 1 << 7;
/// An alarm byte from here on matches everything.
const ANY: u8 = 0xc0;

/// The updating bit shows 244 µs before an update begins, and for the 1,984 µs of it.
const UPDATE_NANOS: u64 = (244 + 1984) * 1000;
/// The first update after the divider is released.
const FIRST_UPDATE: u64 = SECOND / 2;
/// The divider's frequency: 2 to the power of this.
const DIVIDER_SHIFT: u32 = 15;

/// The real-time clock.
///
/// Call [`Self::poll`] at [`Self::next_event`] before asking for the level of the line, interrupt 8.
#[derive(Clone, Debug)]
pub struct Rtc {
    index: u8,
    nmi_masked: bool,
    /// The memory.  Its time bytes are in use while register B's SET bit halts the updates.
    bytes: [u8; 128],
    /// Register C's flags.
    flags: u8,
    /// Seconds since 1970 at `anchor`.
    unix: i64,
    anchor: Nanos,
    /// What the divider had counted of a second at `anchor`.
    phase: u64,
    /// The time up to which flags are raised.
    seen: Nanos,
}

impl Rtc {
    /// A clock at 1970, in a machine with `ram` bytes of memory, of which the CMOS tells.
    pub fn new(ram: u64) -> Self {
        let mut bytes = [0; 128];
        bytes[usize::from(REG_A)] = A_DEFAULT;
        bytes[usize::from(REG_B)] = B_24_HOURS;
        let mut word = |at: usize, value: u64| {
            bytes[at..at + 2].copy_from_slice(&(value.min(0xffff) as u16).to_le_bytes());
        };
        let extended = ram.saturating_sub(1 << 20) >> 10;
        word(0x14, 0x0002); // Equipment: an FPU; no floppy disk, no display. 0x15 follows.
        word(0x15, (ram >> 10).min(640));
        word(0x17, extended);
        word(0x30, extended);
        word(0x34, ram.min(0xffff_ffff).saturating_sub(16 << 20) >> 16);
        let sum: u16 = bytes[0x10..0x2e].iter().map(|&byte| u16::from(byte)).sum();
        bytes[0x2e..0x30].copy_from_slice(&sum.to_be_bytes());
        Self { index: 0, nmi_masked: false, bytes, flags: 0, unix: 0, anchor: Nanos::ZERO, phase: 0, seen: Nanos::ZERO }
    }

    /// Sets the clock so that the guest's start, time zero, was at `unix_seconds` since 1970.
    pub fn set_time(&mut self, unix_seconds: u64) {
        // The registers cannot tell of years after 9999.
        self.unix = unix_seconds.min(253_402_300_799) as i64;
        self.anchor = Nanos::ZERO;
        self.phase = 0;
    }

    /// The RESET pin: interrupts are off and their flags clear; the time and the memory stay.
    pub fn reset(&mut self) {
        self.set_byte(REG_B, self.byte(REG_B) & !(UPDATE | ALARM | PERIODIC | B_SQUARE_WAVE));
        self.flags = 0;
        self.nmi_masked = false;
    }

    /// Whether bit 7 of port 0x70 keeps NMIs from the processor.
    pub const fn nmi_masked(&self) -> bool {
        self.nmi_masked
    }

    /// The shutdown byte, 0x0f: what firmware is to do after a reset.
    pub const fn shutdown(&self) -> u8 {
        self.bytes[SHUTDOWN as usize]
    }

    /// What the data port reads, unless that takes the interrupt away.
    #[inline]
    pub fn data(&mut self, now: impl Into<Nanos>) -> Option<u8> {
        match self.index {
            REG_C => None,
            SECONDS | MINUTES | HOURS | WEEKDAY..=YEAR | CENTURY | REG_A | REG_D => Some(self.read_data(now.into())),
            // Memory.
            index => Some(self.byte(index)),
        }
    }

    /// Brings the interrupt flags up to `now`.
    pub fn poll(&mut self, now: Nanos) {
        if now <= self.seen {
            return;
        }
        let (before, after) = (self.counted(self.seen), self.counted(now));
        let from = self.unix_at(self.seen);
        self.seen = now;
        if let Some(shift) = self.periodic_shift()
            && divider(before) >> shift != divider(after) >> shift
        {
            self.flags |= PERIODIC;
        }
        if !self.set() && before / SECOND != after / SECOND {
            self.flags |= UPDATE;
            if self.next_alarm(from).is_some_and(|alarm| alarm <= self.unix_at(now)) {
                self.flags |= ALARM;
            }
        }
    }

    /// When the interrupt line will rise: the deadline to arm.  `None` while it is high, or if it never will.
    pub fn next_event(&self, now: Nanos) -> Option<Nanos> {
        if self.irq() || self.held() {
            return None;
        }
        let counted = self.counted(self.seen);
        let second = counted / SECOND;
        let enabled = |interrupt| self.byte(REG_B) & interrupt != 0;
        let periodic = self.periodic_shift().filter(|_| enabled(PERIODIC)).map(|shift| {
            let tick = ((divider(counted) >> shift) + 1) << shift;
            let fraction = ((tick & 0x7fff) * SECOND).div_ceil(1 << DIVIDER_SHIFT);
            (tick >> DIVIDER_SHIFT).saturating_mul(SECOND).saturating_add(fraction)
        });
        let update = (enabled(UPDATE) && !self.set()).then(|| (second + 1).saturating_mul(SECOND));
        let alarm = (enabled(ALARM) && !self.set()).then(|| self.unix_at(self.seen)).and_then(|unix| {
            let wait = self.next_alarm(unix)?.abs_diff(unix);
            Some(second.saturating_add(wait).saturating_mul(SECOND))
        });
        let first = [periodic, update, alarm].into_iter().flatten().min()?;
        Some((self.anchor + first.saturating_sub(self.phase)).max(now))
    }

    fn byte(&self, index: u8) -> u8 {
        self.bytes[usize::from(index & 0x7f)]
    }

    fn set_byte(&mut self, index: u8, value: u8) {
        self.bytes[usize::from(index & 0x7f)] = value;
    }

    /// Register B holds the updates, so that the time can be written.
    fn set(&self) -> bool {
        self.byte(REG_B) & B_SET != 0
    }

    /// Register A holds the divider in reset: the bits 11x.
    fn held(&self) -> bool {
        self.byte(REG_A) & 0x60 == 0x60
    }

    fn code(&self) -> Code {
        let b = self.byte(REG_B);
        Code { binary: b & B_BINARY != 0, hours_24: b & B_24_HOURS != 0 }
    }

    /// Nanoseconds that the divider has counted at `now`, from the beginning of the second of `anchor`.
    fn counted(&self, now: Nanos) -> u64 {
        if self.held() { self.phase } else { now.saturating_sub(self.anchor).saturating_add(self.phase) }
    }

    fn unix_at(&self, now: Nanos) -> i64 {
        let passed = if self.set() { 0 } else { self.counted(now) / SECOND };
        self.unix.saturating_add_unsigned(passed)
    }

    /// Makes `now`, at which it is `unix`, the point from which time is counted.
    fn anchor(&mut self, unix: i64, now: Nanos) {
        self.phase = self.counted(now) % SECOND;
        self.unix = unix;
        self.anchor = now;
    }

    /// The divider bit whose carry is the periodic interrupt, by register A's rate.
    fn periodic_shift(&self) -> Option<u32> {
        match self.byte(REG_A) & 0xf {
            0 => None,
            rate @ (1 | 2) => Some(u32::from(rate) + 6),
            rate => Some(u32::from(rate) - 1),
        }
    }

    /// The first second after `unix` at which the alarm bytes match.
    fn next_alarm(&self, unix: i64) -> Option<i64> {
        let code = self.code();
        let field = |index, decoded: u8| {
            if self.byte(index) >= ANY { None } else { Some(decoded) }
        };
        let hour = field(HOURS_ALARM, code.decode_hour(self.byte(HOURS_ALARM)));
        let minute = field(MINUTES_ALARM, code.decode(self.byte(MINUTES_ALARM)));
        let second = field(SECONDS_ALARM, code.decode(self.byte(SECONDS_ALARM)));
        let from = unix + 1;
        let midnight = from - from.rem_euclid(DAY);
        let wanted = [hour, minute, second];
        let today = alarm_in_day(wanted, from - midnight).map(|time| midnight + time);
        today.or_else(|| alarm_in_day(wanted, 0).map(|time| midnight + DAY + time))
    }

    /// Writes the time of `now` into the time bytes.
    fn show_time(&mut self, now: Nanos) {
        let code = self.code();
        let time = Calendar::at(self.unix_at(now));
        self.set_byte(SECONDS, code.encode(time.second));
        self.set_byte(MINUTES, code.encode(time.minute));
        self.set_byte(HOURS, code.encode_hour(time.hour));
        self.set_byte(WEEKDAY, code.encode(time.weekday));
        self.set_byte(DAY_OF_MONTH, code.encode(time.day));
        self.set_byte(MONTH, code.encode(time.month));
        self.set_byte(YEAR, code.encode(time.year.rem_euclid(100) as u8));
        self.set_byte(CENTURY, code.encode((time.year.div_euclid(100).rem_euclid(100)) as u8));
    }

    /// Goes on from the time bytes.
    fn take_time(&mut self, now: Nanos) {
        let code = self.code();
        let decode = |index| code.decode(self.byte(index));
        let time = Calendar {
            second: decode(SECONDS),
            minute: decode(MINUTES),
            hour: code.decode_hour(self.byte(HOURS)),
            weekday: 1,
            day: decode(DAY_OF_MONTH),
            month: decode(MONTH),
            year: i64::from(decode(CENTURY)) * 100 + i64::from(decode(YEAR)),
        };
        self.anchor(time.unix(), now);
    }

    fn updating(&self, now: Nanos) -> bool {
        !self.set() && !self.held() && self.counted(now) % SECOND >= SECOND - UPDATE_NANOS
    }

    fn read_data(&mut self, now: Nanos) -> u8 {
        match self.index {
            SECONDS | MINUTES | HOURS | WEEKDAY..=YEAR | CENTURY if !self.set() => self.show_time(now),
            REG_A if self.updating(now) => return self.byte(REG_A) | A_UPDATING,
            REG_C => {
                self.poll(now);
                let request = if self.irq() { C_REQUEST } else { 0 };
                return core::mem::take(&mut self.flags) | request;
            }
            REG_D => return D_VALID,
            _ => {}
        }
        self.byte(self.index)
    }

    fn write_data(&mut self, value: u8, now: Nanos) {
        self.poll(now);
        match self.index {
            SECONDS | MINUTES | HOURS | WEEKDAY..=YEAR | CENTURY if !self.set() => {
                self.show_time(now);
                self.set_byte(self.index, value);
                self.take_time(now);
            }
            REG_A => self.write_a(value & !A_UPDATING, now),
            REG_B => self.write_b(value, now),
            REG_C | REG_D => {}
            index => self.set_byte(index, value),
        }
    }

    fn write_a(&mut self, value: u8, now: Nanos) {
        let was_held = self.held();
        self.anchor(self.unix_at(now), now);
        self.set_byte(REG_A, value);
        match (was_held, self.held()) {
            (false, true) => self.phase = 0,
            (true, false) => self.phase = FIRST_UPDATE,
            _ => {}
        }
    }

    fn write_b(&mut self, value: u8, now: Nanos) {
        let was_set = self.set();
        if !was_set && value & B_SET != 0 {
            self.anchor(self.unix_at(now), now);
            // Halting the updates also disables their interrupt.
            self.set_byte(REG_B, value & !UPDATE);
            self.show_time(now);
        } else {
            self.set_byte(REG_B, value);
            if was_set && !self.set() {
                self.take_time(now);
            }
        }
    }
}

impl Device for Rtc {
    fn read(&mut self, offset: u16, width: Width, now: Nanos) -> u32 {
        // The index cannot be read.
        read_bytes(offset, width, |offset| if offset == 1 { self.read_data(now) } else { 0xff })
    }

    fn write(&mut self, offset: u16, width: Width, value: u32, now: Nanos) {
        write_bytes(offset, width, value, |offset, value| match offset {
            0 => {
                self.index = value & 0x7f;
                self.nmi_masked = value & 0x80 != 0;
            }
            1 => self.write_data(value, now),
            _ => {}
        });
    }

    fn irq(&self) -> bool {
        self.flags & self.byte(REG_B) & (UPDATE | ALARM | PERIODIC) != 0
    }
}

/// Ticks of the divider after `counted` nanoseconds.
const fn divider(counted: u64) -> u64 {
    ((counted / SECOND) << DIVIDER_SHIFT) + ((counted % SECOND) << DIVIDER_SHIFT) / SECOND
}
