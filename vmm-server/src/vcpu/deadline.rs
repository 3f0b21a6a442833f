//! When the guest's timers want the VMM next, and who sees to it: the VMX-preemption timer while the guest runs, which costs
//! an exit and no more; timer-server while it halts. A guest that has halted since its last deadline is expected to do so
//! before the next, so timer-server has that too: it would have to be asked at the HLT anyway.
//!
//! The preemption timer stands still while the guest does not run. So a moment that it is set for may come before it does, and
//! whoever handles an exit looks at the clock, see [`Deadline::passed`].

use devices::Nanos;

use super::countdown::Countdown;
use crate::time::Clock;

/// A second has so many times the shortest distance of two deadlines, a hundred microseconds; of the longest runs of a guest;
/// and of the delays that a tick does not notice, twenty microseconds.
const SPACINGS: u64 = 10_000;
const LONGEST: u64 = 80;
const TOLERANCES: u64 = 50_000;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// The one deadline of all of a guest's timers. Moments are TSC values.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// When the timers want to interrupt.
    due: u64,
    /// The deadline before, and from the one before that to it: guests tick.
    last: u64,
    interval: u64,
    /// Timer-server's signal comes at this moment.
    alarm: Option<u64>,
    /// The preemption timer, if the processor has one.
    countdown: Option<Countdown>,
    /// The guest has halted since the last deadline.
    halts: bool,
    /// Deadlines are at least this many ticks ahead: a guest's timer faster than that is caught up with in bursts.
    spacing: u64,
}

/// What is to be done before the guest runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Have timer-server signal at this moment.
    pub alarm: Option<u64>,
    /// Write this count to the preemption timer.
    pub count: Option<u32>,
}

impl Deadline {
    /// None yet; `hertz` is the TSC's rate.
    pub const fn new(hertz: u64) -> Self {
        let spacing = hertz / SPACINGS;
        Self { due: NEVER, last: 0, interval: 0, alarm: None, countdown: None, halts: true, spacing }
    }

    /// The processor has a preemption timer, or not. Where it has, no run of the guest takes longer than an eightieth of a
    /// second: the deadline may pass while the guest stands still, and its interrupts may be off (decision 0008).
    pub fn use_countdown(&mut self, there: bool, hertz: u64) {
        let known = self.countdown.take();
        self.countdown =
            there.then(|| known.unwrap_or(Countdown::new(hertz / LONGEST, hertz / TOLERANCES)).restarted());
    }

    /// The timers want to interrupt when the TSC is `next`. Asked again and again, this does not put off what is due.
    #[inline]
    pub fn set(&mut self, next: Option<u64>, tsc: u64) {
        let Some(next) = next else {
            self.due = NEVER;
            return;
        };
        let spaced = next.max(tsc.saturating_add(self.spacing));
        self.due = if next <= self.due { spaced.min(self.due) } else { spaced };
    }

    /// Whether the deadline has passed.
    #[inline]
    pub const fn passed(&self, tsc: u64) -> bool {
        tsc >= self.due
    }

    /// The passing of the deadline is taken into account.
    pub fn done(&mut self, halted: bool) {
        self.interval = self.due.saturating_sub(self.last);
        self.last = self.due;
        self.due = NEVER;
        self.halts = halted;
    }

    /// The preemption timer has ended the guest's run.
    pub fn on_expiry(&mut self, tsc: u64) {
        if let Some(countdown) = &mut self.countdown {
            countdown.expired(tsc);
        }
    }

    /// Timer-server has signalled.
    pub const fn on_alarm(&mut self) {
        self.alarm = None;
    }

    /// What is to be done before the guest runs on.
    pub fn run(&mut self, tsc: u64) -> Orders {
        // Between two ticks the timer is not set yet, or only half. It is spared a second write by guessing.
        let guess = self.last.saturating_add(self.interval);
        let guess = if guess > tsc { guess.min(self.due) } else { self.due };
        match &mut self.countdown {
            Some(countdown) if !self.halts => Orders { alarm: None, count: countdown.set(guess, tsc) },
            Some(countdown) => {
                let count = countdown.bound(tsc);
                Orders { alarm: self.alarm_at(self.due), count }
            }
            None => Orders { alarm: self.alarm_at(self.due), count: None },
        }
    }

    /// The guest halts. Returns when timer-server is to signal, if it does not do so before.
    pub fn halt(&mut self) -> Option<u64> {
        self.halts = true;
        self.alarm_at(self.due)
    }

    /// A moment `next` that timer-server is to signal at, whatever else it does; as for `alarm_at`.
    pub fn alarm_by(&mut self, next: Nanos, clock: &Clock, tsc: u64) -> Option<u64> {
        self.alarm_at(clock.tsc(next).max(tsc.saturating_add(self.spacing)))
    }

    /// Returns when timer-server is to signal so that there is a signal at `at` or before. It is moved to an earlier moment
    /// only: a signal too many costs less than a call for every deadline that is put off.
    fn alarm_at(&mut self, at: u64) -> Option<u64> {
        if at == NEVER || self.alarm.is_some_and(|alarm| alarm <= at) {
            return None;
        }
        self.alarm = Some(at);
        self.alarm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERTZ: u64 = 50_000_000;
    const TICK: u64 = 200_000;

    /// A deadline for a processor with a preemption timer that counts like the TSC, or with none.
    fn guest(countdown: bool) -> Deadline {
        let mut deadline = Deadline::new(HERTZ);
        deadline.use_countdown(countdown, HERTZ);
        // It ends the first runs early, and thus the rate is known; the guest has not halted since.
        for tsc in [16, 32] {
            deadline.run(tsc - 16);
            deadline.on_expiry(tsc);
        }
        deadline.halts = false;
        deadline
    }

    /// Up to the rounding.
    fn near(value: Option<u64>, expected: u64) -> bool {
        value.is_some_and(|value| value.abs_diff(expected) < 10)
    }

    #[test]
    fn a_running_guest_has_its_deadline_from_the_preemption_timer() {
        let mut deadline = guest(true);
        deadline.set(Some(TICK), 100);
        let Orders { alarm, count } = deadline.run(100);
        assert_eq!(alarm, None);
        assert!(near(count.map(u64::from), TICK - 100), "{count:?}");
        assert_eq!(deadline.run(200), Orders::default(), "that is all");
    }

    #[test]
    fn a_halting_guest_has_it_from_timer_server_once() {
        let mut deadline = guest(true);
        deadline.set(Some(TICK), 100);
        deadline.run(100);
        assert!(near(deadline.halt(), TICK));
        assert_eq!(deadline.halt(), None);
    }

    #[test]
    fn a_guest_that_halts_between_its_ticks_keeps_timer_server() {
        let mut deadline = guest(true);
        for n in 1..10 {
            deadline.set(Some(n * TICK), n * TICK - 190_000);
            let orders = deadline.run(n * TICK - 190_000);
            deadline.halt();
            assert!(n == 1 || near(orders.alarm, n * TICK) && orders.count.is_none(), "{n}: {orders:?}");
            deadline.on_alarm();
            deadline.done(true);
        }
    }

    #[test]
    fn a_guest_that_ticks_costs_one_write_a_tick() {
        let mut deadline = guest(true);
        let mut writes = 0;
        for n in 1..=20 {
            let start = (n - 1) * TICK + 6_000;
            deadline.set(Some(n * TICK), start);
            writes += u32::from(deadline.run(start).count.is_some());
            // The run ends a little late, since the guest stood still.
            let end = n * TICK + 3_000;
            deadline.on_expiry(end);
            assert!(deadline.passed(end));
            deadline.done(false);
            deadline.set(None, end);
            let Orders { alarm, count } = deadline.run(end);
            assert_eq!(alarm, None);
            writes += u32::from(count.is_some());
        }
        assert!((20..=23).contains(&writes), "{writes}");
    }

    #[test]
    fn without_a_preemption_timer_it_is_timer_servers() {
        let mut deadline = guest(false);
        deadline.set(Some(TICK), 100);
        let Orders { alarm, count } = deadline.run(100);
        assert!(near(alarm, TICK) && count.is_none());
    }

    #[test]
    fn a_deadline_is_not_put_off_by_setting_it_again_and_again() {
        let mut deadline = guest(true);
        for tsc in (0..=6_000).step_by(100) {
            deadline.set(Some(100), tsc);
        }
        assert!(deadline.passed(6_000), "{deadline:?}");
        assert!(!deadline.passed(4_000), "deadlines are a hundred microseconds apart");
    }

    #[test]
    fn a_signal_that_came_for_something_else_is_ordered_anew() {
        let mut deadline = guest(false);
        deadline.set(Some(TICK), 100);
        deadline.run(100);
        deadline.on_alarm();
        assert!(!deadline.passed(5_000));
        assert!(near(deadline.run(5_000).alarm, TICK));
    }
}
