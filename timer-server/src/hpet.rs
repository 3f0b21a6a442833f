//! The HPET (IA-PC HPET specification 1.0a): timer 0 raises one-shot interrupts in place of the 8254, for boards whose 8254
//! has no clock. In "legacy replacement" its interrupt arrives where that of the 8254 does, at input 2 of the first I/O APIC.
//! It leaves out the other timers, periodic mode, and the upper half of the main counter.

use core::ops::RangeInclusive;

use mmio::Window;

use crate::rate::Dead;

/// Bytes of the register block that this model uses.
pub const BYTES: u64 = 0x400;

/// General capabilities and ID: revision, and the counter's period in femtoseconds in the upper half.
const CAPABILITIES: u64 = 0x000;
const PERIOD: u64 = 0x004;
const CONFIGURATION: u64 = 0x010;
const MAIN_COUNTER: u64 = 0x0f0;
const TIMER_0: u64 = 0x100;
const COMPARATOR_0: u64 = 0x108;

/// LEG_RT_CAP of the capabilities: there is legacy replacement.
const LEGACY_CAPABLE: u32 = 1 << 15;
/// REV_ID of the capabilities, which is not 0.
const REVISION: u32 = 0xff;
/// ENABLE_CNF: the main counter runs, and timers interrupt.
const ENABLE: u32 = 1 << 0;
/// LEG_RT_CNF: timer 0 interrupts in place of the 8254, timer 1 in place of the RTC.
const LEGACY: u32 = 1 << 1;
/// Of a timer: level-triggered, interrupts on, periodic, 32 bits, by message (Tn_INT_TYPE_CNF and following).
const LEVEL: u32 = 1 << 1;
const INTERRUPT: u32 = 1 << 2;
const PERIODIC: u32 = 1 << 3;
const BITS_32: u32 = 1 << 8;
const BY_MESSAGE: u32 = 1 << 14;

/// Periods that count, in femtoseconds. The specification allows at most 100 ns; below 1 ns, which no HPET has, 50 ms would
/// soon exceed 32 bits.
const PERIODS: RangeInclusive<u32> = 1_000_000..=100_000_000;
const FEMTOSECONDS: u64 = 1_000_000_000_000_000;
/// Reads without progress before the counter counts as dead; the counter's period is at most 100 ns.
const MAX_IDLE: u32 = 100_000;
/// Reads in a measurement of 50 ms: each takes far longer than 10 ns.
const MAX_READS: u32 = 5_000_000;
/// Least ticks of a shot, and what has to be left of them when it is set: a comparator that is written shortly before the
/// counter gets there may miss it, and interrupts a turn of the counter later.
const MIN_TICKS: u32 = 128;
const MIN_LEFT: i32 = 64;
/// Times that a shot is set before it counts as late, each time twice as far ahead.
const MAX_TRIES: u32 = 16;

/// Registers of 32 bits.
pub trait Registers {
    /// Reads the register at an offset.
    fn read(&self, at: u64) -> u32;
    /// Writes the register at an offset.
    fn write(&mut self, at: u64, value: u32);
}

impl Registers for Window {
    fn read(&self, at: u64) -> u32 {
        self.read_u32(at).unwrap_or(u32::MAX)
    }
    fn write(&mut self, at: u64, value: u32) {
        // The offsets above are inside of the window.
        let _ = self.write_u32(at, value);
    }
}

/// The HPET.
pub struct Hpet<R> {
    registers: R,
    /// Of the main counter, in femtoseconds.
    period: u32,
}

impl<R: Registers> Hpet<R> {
    /// The HPET behind `registers`; none where no HPET is. Gives interrupts 0 and 8 back to the 8254 and the RTC, from
    /// which firmware may have taken them.
    pub fn find(mut registers: R) -> Option<Self> {
        let (capabilities, period) = (registers.read(CAPABILITIES), registers.read(PERIOD));
        if capabilities == u32::MAX || capabilities & REVISION == 0 || !PERIODS.contains(&period) {
            return None;
        }
        let configuration = registers.read(CONFIGURATION);
        registers.write(CONFIGURATION, configuration & !LEGACY);
        Some(Self { registers, period })
    }

    /// Rate of the main counter in Hz.
    pub fn hz(&self) -> u64 {
        FEMTOSECONDS / u64::from(self.period)
    }

    /// Takes the 8254's interrupt over.
    pub fn take_over(&mut self) -> Result<(), Dead> {
        if self.registers.read(CAPABILITIES) & LEGACY_CAPABLE == 0 {
            return Err(Dead);
        }
        self.registers.write(CONFIGURATION, 0);
        let timer = self.registers.read(TIMER_0) & !(LEVEL | PERIODIC | BY_MESSAGE);
        self.registers.write(TIMER_0, timer | INTERRUPT | BITS_32);
        // The farthest value: it interrupts once in the counter's turn, and nobody minds.
        self.registers.write(COMPARATOR_0, self.registers.read(MAIN_COUNTER).wrapping_sub(1));
        self.registers.write(CONFIGURATION, ENABLE | LEGACY);
        Ok(())
    }

    /// Raises the interrupt once, `ticks` of the main counter from now (at least 128) and not earlier. Replaces a pending shot.
    pub fn one_shot(&mut self, ticks: u32) {
        let mut ticks = ticks.clamp(MIN_TICKS, i32::MAX as u32);
        for _ in 0..MAX_TRIES {
            let at = self.registers.read(MAIN_COUNTER).wrapping_add(ticks);
            self.registers.write(COMPARATOR_0, at);
            // The timer interrupts when the counter is equal: a counter that has already passed would do so a whole turn later.
            if (at.wrapping_sub(self.registers.read(MAIN_COUNTER)) as i32) >= MIN_LEFT {
                return;
            }
            ticks = (ticks << 1).min(i32::MAX as u32);
        }
    }

    /// Measures the TSC's rate in Hz over 50 ms. `tsc` reads the TSC.
    pub fn measure(&mut self, mut tsc: impl FnMut() -> u64) -> Result<u64, Dead> {
        let configuration = self.registers.read(CONFIGURATION);
        self.registers.write(CONFIGURATION, configuration | ENABLE);
        let mut sample = |registers: &R| {
            let before = tsc();
            let counter = registers.read(MAIN_COUNTER);
            (before.midpoint(tsc()), counter)
        };
        let wanted = u32::try_from(self.hz() / 20).unwrap_or(u32::MAX);
        let (start, first) = sample(&self.registers);
        let (mut last, mut idle) = (first, 0);
        for _ in 0..MAX_READS {
            let (now, counter) = sample(&self.registers);
            let passed = counter.wrapping_sub(first);
            if passed >= wanted {
                // Ticks of 50 ms times a rate of at least 10 MHz: far from 64 bits.
                return Ok(now.saturating_sub(start).saturating_mul(self.hz()) / u64::from(passed));
            }
            idle = if counter == last { idle + 1 } else { 0 };
            if idle == MAX_IDLE {
                break;
            }
            last = counter;
        }
        Err(Dead)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{cell::Cell, rc::Rc, vec::Vec};

    /// An HPET of 14.31818 MHz, whose counter advances by `step` with each read of it.
    #[derive(Clone)]
    struct Chip {
        counter: Rc<Cell<u32>>,
        step: u32,
        period: u32,
        capabilities: u32,
        configuration: u32,
        written: Vec<(u64, u32)>,
    }

    fn chip(step: u32) -> Chip {
        Chip {
            counter: Rc::new(Cell::new(u32::MAX - 50)),
            step,
            period: 69_841_279,
            capabilities: 0x8086_8201,
            configuration: 2,
            written: Vec::new(),
        }
    }

    impl Registers for Chip {
        fn read(&self, at: u64) -> u32 {
            match at {
                0 => self.capabilities,
                4 => self.period,
                0x10 => self.configuration,
                0xf0 => {
                    self.counter.set(self.counter.get().wrapping_add(self.step));
                    self.counter.get()
                }
                _ => 0x30,
            }
        }
        fn write(&mut self, at: u64, value: u32) {
            if at == 0x10 {
                self.configuration = value;
            }
            self.written.push((at, value));
        }
    }

    #[test]
    fn an_absent_one_is_not_found() {
        assert!(Hpet::find(Chip { capabilities: u32::MAX, ..chip(1) }).is_none());
        assert!(Hpet::find(Chip { capabilities: 0, ..chip(1) }).is_none());
    }

    #[test]
    fn a_period_that_no_chip_has_is_no_hpet() {
        for period in [0, 999_999, 100_000_001, u32::MAX] {
            assert!(Hpet::find(Chip { period, ..chip(1) }).is_none(), "{period}");
        }
        for period in [1_000_000, 100_000_000] {
            assert!(Hpet::find(Chip { period, ..chip(1) }).is_some(), "{period}");
        }
    }

    #[test]
    fn finding_it_ends_legacy_replacement_and_taking_over_begins_it() {
        let mut hpet = Hpet::find(chip(1)).unwrap();
        assert_eq!(hpet.registers.configuration, 0);
        hpet.take_over().unwrap();
        assert_eq!(hpet.registers.configuration, 3);
        assert!(hpet.registers.written.contains(&(0x100, 0x134)), "edge, once, 32 bits, interrupts on");
        let mut hpet = Hpet::find(Chip { capabilities: 0x8086_0201, ..chip(1) }).unwrap();
        assert_eq!(hpet.take_over(), Err(Dead));
    }

    #[test]
    fn the_tsc_is_measured_across_the_end_of_the_counter() {
        let mut hpet = Hpet::find(chip(10)).unwrap();
        let counter = hpet.registers.counter.clone();
        let hz = hpet.measure(move || u64::from(counter.get().wrapping_add(51)) * 100).unwrap();
        assert!(hz.abs_diff(1_431_818_000) < 200_000, "{hz}");
    }

    #[test]
    fn a_counter_that_stands_still_is_reported() {
        assert_eq!(Hpet::find(chip(0)).unwrap().measure(|| 0), Err(Dead));
    }

    /// An HPET whose counter goes to and fro.
    struct Swinging(Cell<u32>);

    impl Registers for Swinging {
        fn read(&self, at: u64) -> u32 {
            if at == 0xf0 {
                self.0.set(self.0.get() ^ 1);
                return self.0.get();
            }
            chip(0).read(at)
        }
        fn write(&mut self, _: u64, _: u32) {}
    }

    #[test]
    fn a_counter_that_gets_nowhere_is_reported() {
        assert_eq!(Hpet::find(Swinging(Cell::new(1))).unwrap().measure(|| 0), Err(Dead));
    }

    /// The comparator's values after a shot, from the counter's start on, and the counter then.
    fn shot(step: u32, ticks: u32) -> (Vec<u32>, u32) {
        let mut hpet = Hpet::find(chip(step)).unwrap();
        hpet.registers.written.clear();
        hpet.one_shot(ticks);
        let since_start = |value: u32| value.wrapping_add(51);
        let set = hpet.registers.written.iter().map(|&(_, value)| since_start(value)).collect();
        (set, since_start(hpet.registers.counter.get()))
    }

    #[test]
    fn a_short_shot_is_128_ticks_ahead() {
        assert_eq!(shot(20, 10), (std::vec![20 + 128], 40));
        assert_eq!(shot(20, 129), (std::vec![20 + 129], 40));
    }

    #[test]
    fn a_shot_that_the_counter_has_almost_reached_is_set_again_farther_ahead() {
        // It has to be 64 ticks away when it is set.
        assert_eq!(shot(64, 0), (std::vec![64 + 128], 128));
        assert_eq!(shot(65, 0), (std::vec![65 + 128, 195 + 256], 260));
        assert_eq!(shot(200, 10), (std::vec![200 + 128, 600 + 256, 1000 + 512], 1200));
    }

    #[test]
    fn a_shot_is_not_tried_for_ever() {
        assert_eq!(shot(i32::MAX as u32, u32::MAX).0.len(), 16);
    }
}
