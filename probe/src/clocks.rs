//! Clocks that count, and the TSC's rate by each of them: the 8254 (data sheet 231164), the ACPI power management timer (ACPI
//! specification, "Power Management Timer"), the HPET (IA-PC HPET specification 1.0a). Also whether the local APIC's timer
//! counts. Every wait is bounded by a number of reads. The 8254's channel 0 and the HPET's counter go on counting afterwards.

use crate::machine::Machine;

/// A clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// It is not there, or not known to be.
    Missing,
    /// It does not count.
    Dead,
    /// It counts, and the TSC has this rate in Hz by it.
    Counts(u64),
}

/// The clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Channel 0 of the 8254.
    pub pit: Clock,
    /// The power management timer.
    pub pm_timer: Clock,
    /// The HPET.
    pub hpet: Clock,
    /// The local APIC's timer, in xAPIC mode: its own rate.
    pub apic: Clock,
    /// Whether they were looked at.
    pub known: bool,
}

impl Default for Clocks {
    fn default() -> Self {
        let missing = Clock::Missing;
        Self { pit: missing, pm_timer: missing, hpet: missing, apic: missing, known: false }
    }
}

const PIT_HZ: u64 = 1_193_182;
const PIT_CHANNEL_0: u16 = 0x40;
const PIT_MODE: u16 = 0x43;
/// Channel 0, both bytes, mode 2 (rate generator), binary.
const PIT_RATE: u8 = 0x34;
const PIT_LATCH: u8 = 0x00;

const PM_TIMER_HZ: u64 = 3_579_545;
/// Its counter has 24 bits, or 32.
const PM_TIMER_MASK: u32 = 0xff_ffff;

const HPET_PERIOD: u64 = 0x004;
const HPET_CONFIGURATION: u64 = 0x010;
const HPET_COUNTER: u64 = 0x0f0;
const HPET_ENABLE: u32 = 1 << 0;
const FEMTOSECONDS: u64 = 1_000_000_000_000_000;

const APIC_LVT_TIMER: u64 = 0x320;
const APIC_INITIAL: u64 = 0x380;
const APIC_CURRENT: u64 = 0x390;
const APIC_DIVIDE: u64 = 0x3e0;
const APIC_MASKED: u32 = 1 << 16;
const APIC_BY_1: u32 = 0xb;

/// A clock does not count if this many reads show no change: a read takes far longer than 10 ns, and no clock's period is above a
/// microsecond.
const MAX_IDLE: u32 = 100_000;
/// Reads in a measurement.
const MAX_READS: u32 = 5_000_000;
/// Part of a second that a measurement takes.
const PART: u64 = 50;

/// Looks at each clock.
pub fn measure(machine: &impl Machine, pm_timer: Option<u16>, hpet: Option<u64>, apic_base: Option<u64>) -> Clocks {
    machine.out8(PIT_MODE, PIT_RATE);
    machine.out8(PIT_CHANNEL_0, 0);
    machine.out8(PIT_CHANNEL_0, 0);
    let pit = || {
        machine.out8(PIT_MODE, PIT_LATCH);
        let low = machine.in8(PIT_CHANNEL_0);
        // It counts down.
        u32::from(u16::from_le_bytes([low, machine.in8(PIT_CHANNEL_0)])).wrapping_neg()
    };
    let pit = thrice(machine, pit, PIT_HZ, 0xffff);
    let pm_timer =
        pm_timer.map_or(Clock::Missing, |port| thrice(machine, || machine.in32(port), PM_TIMER_HZ, PM_TIMER_MASK));
    let hpet = hpet.map_or(Clock::Missing, |address| {
        let period = u64::from(machine.read32(address + HPET_PERIOD));
        // The specification allows at most 100 ns.
        if !(1..=100_000_000).contains(&period) {
            return Clock::Dead;
        }
        let configuration = machine.read32(address + HPET_CONFIGURATION);
        machine.write32(address + HPET_CONFIGURATION, configuration | HPET_ENABLE);
        thrice(machine, || machine.read32(address + HPET_COUNTER), FEMTOSECONDS / period, u32::MAX)
    });
    let tsc = [pit, pm_timer, hpet].into_iter().find_map(Clock::rate);
    Clocks { pit, pm_timer, hpet, apic: apic_timer(machine, apic_base, tsc), known: true }
}

impl Clock {
    /// The TSC's rate by it, in Hz.
    pub fn rate(self) -> Option<u64> {
        match self {
            Self::Counts(hz) => Some(hz),
            Self::Missing | Self::Dead => None,
        }
    }
}

/// The middle one of three measurements, since a system management interrupt may fall into one.
fn thrice(machine: &impl Machine, mut read: impl FnMut() -> u32, hz: u64, mask: u32) -> Clock {
    let mut found = [0; 3];
    for place in &mut found {
        match once(machine, &mut read, hz, mask) {
            Some(rate) => *place = rate,
            None => return Clock::Dead,
        }
    }
    found.sort_unstable();
    Clock::Counts(found[1])
}

/// The TSC's rate while the clock counts for a fiftieth of a second.
fn once(machine: &impl Machine, read: &mut impl FnMut() -> u32, hz: u64, mask: u32) -> Option<u64> {
    let (mut last, start) = (read(), machine.tsc());
    let (mut passed, mut idle) = (0, 0);
    for _ in 0..MAX_READS {
        let now = read();
        let step = now.wrapping_sub(last) & mask;
        idle = if step == 0 { idle + 1 } else { 0 };
        if idle == MAX_IDLE {
            return None;
        }
        passed += u64::from(step);
        last = now;
        if passed >= hz / PART {
            let ticks = machine.tsc().wrapping_sub(start);
            return Some((u128::from(ticks) * u128::from(hz) / u128::from(passed)) as u64);
        }
    }
    None
}

/// The rate of the local APIC's timer, which the registers of xAPIC mode show.
fn apic_timer(machine: &impl Machine, base: Option<u64>, tsc: Option<u64>) -> Clock {
    use crate::vmx::{APIC_ON, X2APIC_ON};
    let Some(base) = base.filter(|base| base & (APIC_ON | X2APIC_ON) == APIC_ON) else { return Clock::Missing };
    let registers = base & 0x000f_ffff_ffff_f000;
    machine.write32(registers + APIC_LVT_TIMER, APIC_MASKED);
    machine.write32(registers + APIC_DIVIDE, APIC_BY_1);
    machine.write32(registers + APIC_INITIAL, u32::MAX);
    let start = machine.tsc();
    let mut reads = 0..MAX_IDLE;
    let passed = loop {
        let passed = u32::MAX - machine.read32(registers + APIC_CURRENT);
        if passed > 100_000 || reads.next().is_none() {
            break u64::from(passed);
        }
    };
    let ticks = machine.tsc().wrapping_sub(start).max(1);
    machine.write32(registers + APIC_INITIAL, 0);
    match (passed, tsc) {
        (0 | 0xffff_ffff, _) => Clock::Dead,
        (_, Some(hz)) => Clock::Counts((u128::from(passed) * u128::from(hz) / u128::from(ticks)) as u64),
        (_, None) => Clock::Missing,
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    /// A board whose TSC counts three per access, and a power management timer that counts one for `slow` of these.
    struct Board {
        tsc: Cell<u64>,
        slow: u64,
    }

    impl Machine for Board {
        fn cpuid(&self, _: u32, _: u32) -> [u32; 4] {
            [0; 4]
        }
        fn msr(&self, _: u32) -> Option<u64> {
            None
        }
        fn tsc(&self) -> u64 {
            self.tsc.get()
        }
        fn in8(&self, _: u16) -> u8 {
            self.tsc.set(self.tsc.get() + 3);
            0xff
        }
        fn out8(&self, _: u16, _: u8) {}
        fn in32(&self, _: u16) -> u32 {
            self.tsc.set(self.tsc.get() + 3);
            (self.tsc.get() / self.slow) as u32 & PM_TIMER_MASK
        }
        fn out32(&self, _: u16, _: u32) {}
        fn read32(&self, _: u64) -> u32 {
            u32::MAX
        }
        fn draw8(&self, _: u64, _: u8) {}
        fn draw32(&self, _: u64, _: u32) {}
        fn write32(&self, _: u64, _: u32) {}
    }

    #[test]
    fn the_tsc_is_measured_by_the_clock_that_counts_and_a_dead_one_is_found_dead() {
        let board = Board { tsc: Cell::new(0xff_fff0 * 100), slow: 100 };
        let clocks = measure(&board, Some(0x408), Some(0xfed0_0000), Some(0xfee0_0900));
        assert_eq!((clocks.pit, clocks.hpet, clocks.apic), (Clock::Dead, Clock::Dead, Clock::Dead));
        let Clock::Counts(hz) = clocks.pm_timer else { panic!("{clocks:?}") };
        assert!(hz.abs_diff(357_954_500) < 100_000, "{hz}");
    }
}
