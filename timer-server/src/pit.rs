//! The Intel 8254 (data sheet 231164): channel 0 raises one-shot interrupts, channel 2 calibrates the TSC at the
//! start. Mode 0, "interrupt on terminal count", binary, low byte first.
//! It leaves out reading counts back: the TSC is the clock.

use mmio::Ports;

use crate::rate::Dead;

/// Input clock in Hz: a third of the NTSC colour burst's fourth, 14.31818 MHz / 12.
pub const HZ: u64 = 1_193_182;
/// Longest shot: 50 ms, well within the 16 bits of the counter.
pub const MAX_COUNT: u16 = 59_659;

const CHANNEL_0: u16 = 0x40;
const CHANNEL_2: u16 = 0x42;
const CONTROL: u16 = 0x43;
const GATE: u16 = 0x61;

/// Control words: channel, both bytes, mode 0. In this mode the first byte of a new count stops the channel, and the
/// second restarts it with its output low, so the control word is needed only once.
const ONE_SHOT_0: u8 = 0b0011_0000;
const ONE_SHOT_2: u8 = 0b1011_0000;

/// Port 0x61: the gate of channel 2.
const GATE_2: u8 = 1 << 0;
/// Port 0x61: connects channel 2 to the speaker.
const SPEAKER: u8 = 1 << 1;
/// Port 0x61: the output of channel 2.
const OUT_2: u8 = 1 << 5;

/// Polls of port 0x61 before the chip counts as dead. They take longer than 50 ms on any machine, and some two seconds
/// where a read takes a microsecond.
const MAX_POLLS: u32 = 2_000_000;

/// The chip, and port 0x61 with the gate of channel 2.
pub struct Pit<P, G> {
    ports: P,
    gate: G,
    /// The control word of channel 0 was written.
    programmed: bool,
}

impl<P: Ports, G: Ports> Pit<P, G> {
    /// The chip behind `ports` (0x40 to 0x43) and `gate` (0x61).
    pub fn new(ports: P, gate: G) -> Self {
        Self { ports, gate, programmed: false }
    }

    /// Raises the interrupt once, `count` + 1 clocks from now. Replaces a pending shot.
    pub fn one_shot(&mut self, count: u16) {
        if !core::mem::replace(&mut self.programmed, true) {
            self.ports.out8(CONTROL, ONE_SHOT_0);
        }
        self.load(CHANNEL_0, count);
    }

    /// Measures the TSC's rate in Hz over one longest shot of channel 2. `tsc` reads the TSC.
    pub fn measure(&mut self, mut tsc: impl FnMut() -> u64) -> Result<u64, Dead> {
        let quiet = self.gate.in8(GATE) & !(GATE_2 | SPEAKER);
        self.gate.out8(GATE, quiet);
        // With the gate low the channel holds its count, so that counting starts at the write to port 0x61 below.
        self.ports.out8(CONTROL, ONE_SHOT_2);
        self.load(CHANNEL_2, MAX_COUNT);
        // The mode makes the output low. Where nothing is at the port, all of its bits are set.
        if self.gate.in8(GATE) & OUT_2 != 0 {
            return Err(Dead);
        }
        let before = tsc();
        self.gate.out8(GATE, quiet | GATE_2);
        let start = before.midpoint(tsc());
        let mut last = start;
        for _ in 0..MAX_POLLS {
            let done = self.gate.in8(GATE) & OUT_2 != 0;
            let now = tsc();
            if done {
                self.gate.out8(GATE, quiet);
                // The output rose between the last poll and this one; the middle halves the error.
                return Ok(rate(last.midpoint(now).saturating_sub(start), MAX_COUNT));
            }
            last = now;
        }
        Err(Dead)
    }

    fn load(&mut self, channel: u16, count: u16) {
        let [low, high] = count.to_le_bytes();
        self.ports.out8(channel, low);
        self.ports.out8(channel, high);
    }
}

/// The rate in Hz, rounded, of a counter that advanced by `ticks` in the `count` + 1 clocks of a mode 0 shot.
fn rate(ticks: u64, count: u16) -> u64 {
    let clocks = u64::from(count) + 1;
    ticks.saturating_mul(HZ).saturating_add(clocks / 2) / clocks
}

/// The count of a shot that expires `ticks` of a counter of `hz` from now, and not earlier; at most [`MAX_COUNT`], so a
/// long wait takes several shots.
pub fn count_for(ticks: u64, hz: u64) -> u16 {
    // A product that does not fit is more than the longest shot at any rate.
    let clocks = ticks.saturating_mul(HZ).div_ceil(hz.max(1));
    // In mode 0 the output rises `count` + 1 clocks after the count is written.
    u16::try_from(clocks.saturating_sub(1)).unwrap_or(u16::MAX).clamp(1, MAX_COUNT)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::{cell::RefCell, rc::Rc, vec::Vec};

    /// Channel 2 and its gate; the TSC advances by 700 at every access.
    #[derive(Default)]
    struct Board {
        tsc: u64,
        hz: u64,
        writes: Vec<(u16, u8)>,
        gate: u8,
        opened_at: u64,
        absent: bool,
    }

    #[derive(Clone, Default)]
    struct Wires(Rc<RefCell<Board>>);

    impl Ports for Wires {
        fn in8(&mut self, port: u16) -> u8 {
            let mut b = self.0.borrow_mut();
            b.tsc += 700;
            assert_eq!(port, 0x61);
            if b.absent {
                return 0xff;
            }
            let clocks = (b.tsc - b.opened_at) * 1_193_182 / b.hz.max(1);
            let out = b.gate & 1 != 0 && clocks >= 59_660;
            b.gate | if out { 0x20 } else { 0 }
        }
        fn out8(&mut self, port: u16, value: u8) {
            let mut b = self.0.borrow_mut();
            b.tsc += 700;
            b.writes.push((port, value));
            if port == 0x61 {
                b.gate = value;
                b.opened_at = b.tsc;
            }
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

    #[test]
    fn the_tsc_is_measured_within_a_tenth_of_a_percent() {
        for hz in [50_000_000u64, 1_000_000_000, 3_400_000_000] {
            let wires = Wires::default();
            wires.0.borrow_mut().hz = hz;
            let clock = wires.clone();
            let measured = Pit::new(wires.clone(), wires.clone()).measure(move || clock.0.borrow().tsc).unwrap();
            assert!(measured.abs_diff(hz) < hz / 1000, "{hz}: {measured}");
            assert_eq!(wires.0.borrow().gate & 3, 0, "gate closed, speaker off");
        }
    }

    #[test]
    fn where_there_is_no_chip_nothing_is_measured() {
        let wires = Wires::default();
        wires.0.borrow_mut().absent = true;
        assert_eq!(Pit::new(wires.clone(), wires).measure(|| 0), Err(Dead));
    }

    #[test]
    fn a_chip_that_does_not_count_is_reported() {
        let wires = Wires::default();
        wires.0.borrow_mut().hz = u64::MAX;
        assert_eq!(Pit::new(wires.clone(), wires).measure(|| 0), Err(Dead));
    }

    #[test]
    fn a_shot_is_mode_0_low_byte_first_and_the_mode_is_set_once() {
        let wires = Wires::default();
        let mut pit = Pit::new(wires.clone(), wires.clone());
        pit.one_shot(0x1234);
        pit.one_shot(0x5678);
        assert_eq!(wires.0.borrow().writes, [(0x43, 0x30), (0x40, 0x34), (0x40, 0x12), (0x40, 0x78), (0x40, 0x56)]);
    }

    proptest! {
        #[test]
        fn a_shot_is_never_early_unless_it_is_the_longest(ticks: u64, hz in 1_000_000u64..10_000_000_000) {
            let count = count_for(ticks, hz);
            prop_assert!((1..=MAX_COUNT).contains(&count));
            let lasts = (u128::from(count) + 1) * u128::from(hz) / u128::from(HZ);
            prop_assert!(count == MAX_COUNT || lasts + 1 >= u128::from(ticks));
        }
    }
}
