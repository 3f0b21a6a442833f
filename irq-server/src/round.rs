//! One interrupt of a shared line, from its delivery until the line is unmasked: which owners were signalled, which
//! have not answered yet, and whether the line exceeds its rate limit. The kernel masks a line when it delivers the
//! interrupt (seL4 reference manual, "Interrupts"); acknowledging unmasks it. It leaves out capabilities, names and
//! counts, which are in `server.rs`.

use crate::LineSet;

/// Timeout of an owner's answer, in ticks of the alarm (1 ms each). The first tick may follow the interrupt at once, so
/// an owner counts as late at the tick after these: 10 to 11 ms.
pub const TIMEOUT_TICKS: u8 = 10;

/// A line's trigger mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Stays asserted until the device is served, so it must stay masked until then.
    Level,
    /// Is lost if it comes while masked, so it must not stay masked.
    Edge,
}

/// Whether an owner's answer belongs to an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The owner was signalled and had not answered.
    Expected,
    /// The owner was not signalled, or has answered already.
    Spurious,
}

/// What to do about an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// Signal all listeners.
    Regular,
    /// Signal all listeners, and log that a storm begins.
    Storm,
    /// Ignore it: the line is masked.
    Spurious,
}

/// The state of a shared line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Lines whose owners are signalled.
    claimed: LineSet,
    /// Owners that were signalled; the line stays masked until they answer.
    waiting: LineSet,
    /// Owners that were signalled and have not answered, but do not keep the line masked: those of an edge, and late
    /// ones.
    overdue: LineSet,
    masked: bool,
    /// Ticks since the interrupt.
    ticks: u8,
    /// Interrupts since the last tick.
    count: u32,
    /// Over the limit, or an owner is late: masked until the next tick, even if all owners answer.
    throttled: bool,
    /// Was throttled in this tick or the one before.
    storming: bool,
}

impl Round {
    /// Signals the owner of `line` from now on. If it was restarted, its previous instance's outstanding answer is no
    /// longer expected.
    pub fn claim(&mut self, line: u8) {
        self.claimed.insert(line);
        self.answered(line);
    }

    /// Records an interrupt. Throttles the line above `limit` interrupts per tick (0 is no limit), and after each
    /// interrupt while an owner is late.
    pub fn raised(&mut self, trigger: Trigger, limit: u32) -> Raised {
        if self.masked {
            return Raised::Spurious;
        }
        self.masked = true;
        self.ticks = 0;
        self.count += 1;
        match trigger {
            Trigger::Level => self.waiting = self.claimed.without(self.overdue),
            // An edge that comes while the line is masked is lost, so no owner may keep it masked.
            Trigger::Edge => self.overdue = self.claimed,
        }
        // A late owner's device may be the one that asserts the line. The line then interrupts again as soon as it is
        // unmasked, and a guest that has to check its device each time would do nothing else. One interrupt per tick
        // leaves it time.
        let late = trigger == Trigger::Level && !self.overdue.is_empty();
        let over = limit != 0 && self.count > limit;
        self.throttled = late || over;
        // A storm that spans several ticks is logged once.
        let begins = over && !self.storming;
        self.storming |= self.throttled;
        if begins { Raised::Storm } else { Raised::Regular }
    }

    /// The lines whose owners have to be signalled at an interrupt.
    pub fn listeners(&self) -> LineSet {
        self.claimed
    }

    /// Records that the owner of `line` has served its device.
    pub fn answered(&mut self, line: u8) -> Answer {
        let expected = self.waiting.remove(line) | self.overdue.remove(line);
        if expected { Answer::Expected } else { Answer::Spurious }
    }

    /// Counts a millisecond. Returns the lines whose owners became late; they no longer keep the line masked.
    pub fn tick(&mut self) -> LineSet {
        self.storming = self.throttled;
        self.throttled = false;
        self.count = 0;
        self.ticks = self.ticks.saturating_add(1);
        if self.ticks <= TIMEOUT_TICKS {
            return LineSet::default();
        }
        let late = core::mem::take(&mut self.waiting);
        self.overdue = self.overdue.with(late);
        late
    }

    /// Marks the line unmasked if nothing keeps it masked. If it returns `true`, the caller must acknowledge the line.
    #[must_use]
    pub fn unmask(&mut self) -> bool {
        let unmask = self.masked && self.waiting.is_empty() && !self.throttled;
        self.masked &= !unmask;
        unmask
    }

    /// Whether this line needs another tick.
    pub fn needs_tick(&self) -> bool {
        self.masked || self.count > 0 || self.storming
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed() -> Round {
        let mut round = Round::default();
        round.claim(0);
        round.claim(1);
        round
    }

    #[test]
    fn a_level_line_is_unmasked_when_the_last_owner_has_answered() {
        let mut round = claimed();
        assert_eq!(round.raised(Trigger::Level, 0), Raised::Regular);
        assert!(!round.unmask());
        assert_eq!(round.answered(1), Answer::Expected);
        assert!(!round.unmask());
        assert_eq!(round.answered(0), Answer::Expected);
        assert!(round.unmask());
        assert!(!round.unmask(), "once");
    }

    #[test]
    fn an_edge_line_is_unmasked_at_once_and_each_owner_may_answer_once() {
        let mut round = claimed();
        assert_eq!(round.raised(Trigger::Edge, 0), Raised::Regular);
        assert!(round.unmask());
        assert_eq!(round.answered(0), Answer::Expected);
        assert_eq!(round.answered(0), Answer::Spurious);
    }

    #[test]
    fn an_owner_is_late_after_ten_full_ticks_and_does_not_keep_the_line_masked_until_it_answers() {
        let mut round = claimed();
        round.raised(Trigger::Level, 0);
        round.answered(0);
        for _ in 0..10 {
            assert!(round.tick().is_empty());
            assert!(!round.unmask());
        }
        assert_eq!(round.tick(), LineSet::of([1]));
        assert!(round.unmask());
        assert_eq!(round.raised(Trigger::Level, 0), Raised::Regular);
        assert_eq!(round.listeners(), LineSet::of([0, 1]), "it is still signalled");
        round.answered(0);
        round.tick();
        assert!(round.unmask());
        assert_eq!(round.answered(1), Answer::Expected);
        round.raised(Trigger::Level, 0);
        round.answered(0);
        assert!(!round.unmask(), "and waited for again");
    }

    #[test]
    fn a_line_over_its_limit_stays_masked_until_the_tick_and_is_one_storm() {
        let mut round = claimed();
        let mut storms = 0;
        for _ in 0..5 {
            for n in 1..=4 {
                storms += usize::from(matches!(round.raised(Trigger::Edge, 3), Raised::Storm));
                assert_eq!(round.unmask(), n < 4);
            }
            assert_eq!(round.raised(Trigger::Edge, 3), Raised::Spurious);
            round.tick();
            assert!(round.unmask());
        }
        assert_eq!(storms, 1);
        assert!(round.needs_tick());
        round.tick();
        assert!(!round.needs_tick(), "it is over");
    }

    #[test]
    fn a_level_line_with_a_late_owner_is_unmasked_once_a_tick_and_is_no_storm() {
        let mut round = claimed();
        round.raised(Trigger::Level, 0);
        for _ in 0..=TIMEOUT_TICKS {
            round.tick();
        }
        assert!(round.unmask());
        for _ in 0..3 {
            assert_eq!(round.raised(Trigger::Level, 0), Raised::Regular);
            round.answered(0);
            assert!(!round.unmask());
            assert!(round.tick().is_empty());
            assert!(round.unmask());
        }
        round.raised(Trigger::Level, 0);
        round.answered(0);
        round.answered(1);
        round.tick();
        assert!(round.unmask());
        round.raised(Trigger::Level, 0);
        round.answered(0);
        round.answered(1);
        assert!(round.unmask(), "no owner is late any more");
    }
}
