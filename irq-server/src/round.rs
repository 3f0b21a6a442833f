//! One interrupt of a shared line, from the moment it comes until the line is open again: who was told, who still has
//! to answer, and whether the line comes too often. The kernel masks a line when it delivers it (seL4 reference manual,
//! "Interrupts"); acknowledging opens it. It leaves out capabilities, names and counts, which are the server's.

use crate::LineSet;

/// Ticks of the alarm (1 ms each) that an owner may take. The first tick may come at once, so one more passes before an
/// owner counts as late: 10 to 11 ms.
pub const PATIENCE: u8 = 10;

/// How a line arrives, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Stays asserted until the device is served, so it must stay masked until then.
    Level,
    /// Is lost if it comes while masked, so it must not stay masked.
    Edge,
}

/// What an owner's answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To an interrupt.
    Expected,
    /// To nothing.
    Spurious,
}

/// What an interrupt was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// One to tell all listeners of.
    Regular,
    /// The same, with which the line begins to storm.
    Storm,
    /// None: the line is masked.
    Spurious,
}

/// The state of a shared line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Round {
    /// Whose owners listen.
    claimed: LineSet,
    /// Told, and waited for.
    waiting: LineSet,
    /// Told, and not waited for.
    owing: LineSet,
    masked: bool,
    /// Since the interrupt that is waited for.
    ticks: u8,
    /// Interrupts since the last tick.
    count: u32,
    /// Came too often, or somebody is late: masked until the next tick, whatever the owners say.
    throttled: bool,
    /// Was throttled in this tick or the one before.
    storming: bool,
}

impl Round {
    /// The owner of `line` listens from now on. What its former life was told is void.
    pub fn claim(&mut self, line: u8) {
        self.claimed.insert(line);
        self.answered(line);
    }

    /// The interrupt came. Above `limit` in one tick (0 is no limit) the line is throttled, and above one while an owner is
    /// late.
    pub fn raised(&mut self, trigger: Trigger, limit: u32) -> Raised {
        if self.masked {
            return Raised::Spurious;
        }
        self.masked = true;
        self.ticks = 0;
        self.count += 1;
        match trigger {
            Trigger::Level => self.waiting = self.claimed.without(self.owing),
            Trigger::Edge => self.owing = self.claimed,
        }
        // The device that nobody serves may be the one that holds the line: then it comes again as soon as it is open, and
        // a guest that has to look each time would do nothing else. One in a tick leaves it time.
        let late = trigger == Trigger::Level && !self.owing.is_empty();
        let over = limit != 0 && self.count > limit;
        self.throttled = late || over;
        let begins = over && !self.storming;
        self.storming |= self.throttled;
        if begins { Raised::Storm } else { Raised::Regular }
    }

    /// The lines whose owners are to be told of an interrupt.
    pub fn listeners(&self) -> LineSet {
        self.claimed
    }

    /// The owner of `line` has served its device.
    pub fn answered(&mut self, line: u8) -> Answer {
        let expected = self.waiting.remove(line) | self.owing.remove(line);
        if expected { Answer::Expected } else { Answer::Spurious }
    }

    /// A millisecond has passed. Returns the lines whose owners are late with this; they are waited for no longer.
    pub fn tick(&mut self) -> LineSet {
        self.storming = self.throttled;
        self.throttled = false;
        self.count = 0;
        self.ticks = self.ticks.saturating_add(1);
        if self.ticks <= PATIENCE {
            return LineSet::default();
        }
        let late = core::mem::take(&mut self.waiting);
        self.owing = self.owing.with(late);
        late
    }

    /// Whether the line is to be acknowledged now, which the caller then does.
    #[must_use]
    pub fn opens(&mut self) -> bool {
        let opens = self.masked && self.waiting.is_empty() && !self.throttled;
        self.masked &= !opens;
        opens
    }

    /// Whether a tick has something to do here.
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
    fn a_level_line_opens_when_the_last_owner_has_answered() {
        let mut round = claimed();
        assert_eq!(round.raised(Trigger::Level, 0), Raised::Regular);
        assert!(!round.opens());
        assert_eq!(round.answered(1), Answer::Expected);
        assert!(!round.opens());
        assert_eq!(round.answered(0), Answer::Expected);
        assert!(round.opens());
        assert!(!round.opens(), "once");
    }

    #[test]
    fn an_edge_line_opens_at_once_and_an_answer_is_no_surprise() {
        let mut round = claimed();
        assert_eq!(round.raised(Trigger::Edge, 0), Raised::Regular);
        assert!(round.opens());
        assert_eq!(round.answered(0), Answer::Expected);
        assert_eq!(round.answered(0), Answer::Spurious);
    }

    #[test]
    fn an_owner_is_late_after_ten_full_ticks_and_not_waited_for_until_it_answers() {
        let mut round = claimed();
        round.raised(Trigger::Level, 0);
        round.answered(0);
        for _ in 0..10 {
            assert!(round.tick().is_empty());
            assert!(!round.opens());
        }
        assert_eq!(round.tick(), LineSet::of([1]));
        assert!(round.opens());
        assert_eq!(round.raised(Trigger::Level, 0), Raised::Regular);
        assert_eq!(round.listeners(), LineSet::of([0, 1]), "it is still told");
        round.answered(0);
        round.tick();
        assert!(round.opens());
        assert_eq!(round.answered(1), Answer::Expected);
        round.raised(Trigger::Level, 0);
        round.answered(0);
        assert!(!round.opens(), "and waited for again");
    }

    #[test]
    fn more_than_the_limit_stays_masked_until_the_tick_and_is_one_storm() {
        let mut round = claimed();
        let mut storms = 0;
        for _ in 0..5 {
            for n in 1..=4 {
                storms += usize::from(matches!(round.raised(Trigger::Edge, 3), Raised::Storm));
                assert_eq!(round.opens(), n < 4);
            }
            assert_eq!(round.raised(Trigger::Edge, 3), Raised::Spurious);
            round.tick();
            assert!(round.opens());
        }
        assert_eq!(storms, 1);
        assert!(round.needs_tick());
        round.tick();
        assert!(!round.needs_tick(), "it is over");
    }

    #[test]
    fn a_level_line_with_a_late_owner_opens_once_a_tick_and_is_no_storm() {
        let mut round = claimed();
        round.raised(Trigger::Level, 0);
        for _ in 0..=PATIENCE {
            round.tick();
        }
        assert!(round.opens());
        for _ in 0..3 {
            assert_eq!(round.raised(Trigger::Level, 0), Raised::Regular);
            round.answered(0);
            assert!(!round.opens());
            assert!(round.tick().is_empty());
            assert!(round.opens());
        }
        round.raised(Trigger::Level, 0);
        round.answered(0);
        round.answered(1);
        round.tick();
        assert!(round.opens());
        round.raised(Trigger::Level, 0);
        round.answered(0);
        round.answered(1);
        assert!(round.opens(), "nobody is late any more");
    }
}
