//! The timer that raises interrupts: the 8254 where it counts, and otherwise the HPET. The 8254 goes first since every emulator
//! and every older board has it, and nothing is to be set up.

use mmio::Ports;

use crate::hpet::{Hpet, Registers};
use crate::pit::{self, Pit};
use crate::rate::{Dead, agreed};

/// A timer, and the rate of the TSC, in which its shots are counted.
pub struct Shots<P, G, R> {
    timer: Timer<P, G, R>,
    tsc_hz: u64,
}

enum Timer<P, G, R> {
    Pit(Pit<P, G>),
    Hpet(Hpet<R>),
}

impl<P: Ports, G: Ports, R: Registers> Shots<P, G, R> {
    /// Takes the first of the two that counts, and measures the TSC's rate by it. `tsc` reads the TSC.
    pub fn find(mut pit: Pit<P, G>, hpet: Option<Hpet<R>>, mut tsc: impl FnMut() -> u64) -> Result<Self, Dead> {
        // The firmware left channel 0 in a periodic mode, which would interrupt 18 times a second; a one-shot ends it.
        pit.one_shot(pit::MAX_COUNT);
        if let Ok(tsc_hz) = agreed(&mut || pit.measure(&mut tsc)) {
            return Ok(Self { timer: Timer::Pit(pit), tsc_hz });
        }
        let mut hpet = hpet.ok_or(Dead)?;
        let tsc_hz = agreed(&mut || hpet.measure(&mut tsc))?;
        hpet.take_over()?;
        Ok(Self { timer: Timer::Hpet(hpet), tsc_hz })
    }

    /// Its name, for the log.
    pub fn name(&self) -> &'static str {
        match self.timer {
            Timer::Pit(_) => "8254",
            Timer::Hpet(_) => "HPET",
        }
    }

    /// The measured rate of the TSC, in Hz.
    pub fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }

    /// Sets the rate that `ticks` of a shot have.
    pub fn set_tsc_hz(&mut self, hz: u64) {
        self.tsc_hz = hz;
    }

    /// Raises the interrupt once, `ticks` of the TSC from now and not earlier, or after the timer's longest shot: 50 ms of the
    /// 8254, a second of the HPET. Replaces a pending shot. Returns after how many ticks of the TSC.
    pub fn one_shot(&mut self, ticks: u64) -> u64 {
        let tsc_hz = self.tsc_hz;
        match &mut self.timer {
            Timer::Pit(pit) => {
                pit.one_shot(pit::count_for(ticks, tsc_hz));
                ticks.min(scaled(u64::from(pit::MAX_COUNT) + 1, tsc_hz, pit::HZ))
            }
            Timer::Hpet(hpet) => {
                let hz = hpet.hz();
                let ticks = ticks.min(tsc_hz);
                hpet.one_shot(u32::try_from(scaled(ticks, hz, tsc_hz)).unwrap_or(u32::MAX).saturating_add(1));
                ticks
            }
        }
    }
}

/// `count` of a counter of rate `from`, in one of rate `to`. Exact for less than a second of counters below 4 GHz.
fn scaled(count: u64, to: u64, from: u64) -> u64 {
    count.saturating_mul(to) / from.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_keeps_its_time_in_another_unit() {
        assert_eq!(scaled(pit::HZ, 50_000_000, pit::HZ), 50_000_000);
        assert_eq!(scaled(u64::MAX, 3, 1), u64::MAX);
        assert_eq!(scaled(1, 1, 0), 1);
    }
}
