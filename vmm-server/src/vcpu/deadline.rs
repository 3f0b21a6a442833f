//! The guest's next timer deadline, and which timer keeps it (decision 0008): the VMX-preemption timer while the guest
//! runs, which costs one exit; timer-server while it halts. A guest that has halted since its last deadline is expected
//! to halt before the next one, so timer-server keeps that too: the HLT would need the call anyway.
//!
//! The preemption timer counts only while the guest runs, so it can expire after its deadline. The run loop therefore
//! also compares the TSC with the deadline when it handles exits, see [`Deadline::passed`].

use devices::Nanos;

use super::countdown::Countdown;
use crate::time::Clock;

/// Fractions of a second. Deadlines are at least 1/10000 s apart (100 µs), a run of the guest takes at most 1/80 s, and
/// a delay of 1/50000 s (20 µs) does not matter to a tick.
const SPACINGS: u64 = 10_000;
const LONGEST: u64 = 80;
const TOLERANCES: u64 = 50_000;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// The one deadline of all of a guest's timers. Moments are TSC values.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// When the next timer interrupt is due.
    due: u64,
    /// The last deadline, and the distance from the one before it: guests tick, so it predicts the next one.
    last: u64,
    interval: u64,
    /// When timer-server signals, if it was asked to.
    alarm: Option<u64>,
    /// The preemption timer, if the processor has one.
    countdown: Option<Countdown>,
    /// The guest has halted since the last deadline.
    halts: bool,
    /// Deadlines are at least this many ticks ahead. A faster timer of the guest catches up in bursts, so it cannot
    /// cost an exit for each of its periods.
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
    /// No deadline yet; `hertz` is the TSC's rate.
    pub const fn new(hertz: u64) -> Self {
        let spacing = hertz / SPACINGS;
        Self { due: NEVER, last: 0, interval: 0, alarm: None, countdown: None, halts: true, spacing }
    }

    /// Uses the preemption timer if the processor has one (`there`). No run of the guest then takes longer than 1/80 s,
    /// since a deadline may pass while the guest does not run, and since with the guest's interrupts off, a host
    /// interrupt may not end its run (decision 0008).
    pub fn use_countdown(&mut self, there: bool, hertz: u64) {
        let known = self.countdown.take();
        self.countdown =
            there.then(|| known.unwrap_or(Countdown::new(hertz / LONGEST, hertz / TOLERANCES)).restarted());
    }

    /// Sets the next timer interrupt to the TSC value `next`. Repeated calls do not postpone a deadline that is due:
    /// spacing never moves an earlier deadline back.
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

    /// Notes that the timers have advanced past the deadline.
    pub fn done(&mut self, halted: bool) {
        self.interval = self.due.saturating_sub(self.last);
        self.last = self.due;
        self.due = NEVER;
        self.halts = halted;
    }

    /// Notes that the preemption timer has ended the guest's run.
    pub fn on_expiry(&mut self, tsc: u64) {
        if let Some(countdown) = &mut self.countdown {
            countdown.expired(tsc);
        }
    }

    /// Notes that timer-server has signalled.
    pub const fn on_alarm(&mut self) {
        self.alarm = None;
    }

    /// What is to be done before the guest runs on.
    pub fn run(&mut self, tsc: u64) -> Orders {
        // Right after a tick the guest has not programmed its next one, or only half of it. Writing the predicted
        // deadline now saves a second VMCS write when the guest's own deadline turns out to be within the tolerance.
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

    /// Notes that the guest halts. Returns the TSC value to arm timer-server with, unless its signal comes by then
    /// anyway.
    pub fn halt(&mut self) -> Option<u64> {
        self.halts = true;
        self.alarm_at(self.due)
    }

    /// Has timer-server signal at `next` or before, for something other than a timer; returns what `alarm_at` does.
    pub fn alarm_by(&mut self, next: Nanos, clock: &Clock, tsc: u64) -> Option<u64> {
        self.alarm_at(clock.tsc(next).max(tsc.saturating_add(self.spacing)))
    }

    /// Returns the TSC value to arm timer-server with, so that it signals at `at` or before; `None` if it is armed for
    /// that already. An armed signal only ever moves to an earlier moment: an early signal costs less than a call for
    /// each postponed deadline.
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
        // The timer ends the first two runs early, from which its rate is known. The guest has not halted since.
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
            // The timer expires a little late, since it does not count while the VMM runs.
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
