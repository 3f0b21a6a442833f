//! Tracks which guests run. root-task powers the machine off when the last one has ended, so notices of processes
//! without a guest do not count.

use alloc::vec::Vec;

/// All processes; `None` for one that runs no guest.
pub struct Guests(Vec<Option<State>>);

/// A guest's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    On,
    /// It has powered off.
    Off,
    /// It could not start, or cannot go on.
    Failed,
}

/// What a guest's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// No guest runs any more.
    Last,
    /// Other guests still run.
    OthersAreOn,
    /// It had ended before; nothing changes.
    Before,
    /// The process runs no guest.
    NoGuest,
}

impl Guests {
    /// `runs_a_guest` says for each process whether it runs a guest. All guests start in state `On`.
    pub fn new(runs_a_guest: impl Iterator<Item = bool>) -> Self {
        Self(runs_a_guest.map(|runs| runs.then_some(State::On)).collect())
    }

    /// The guest of process number `process` has ended, in state `how`.
    pub fn end(&mut self, process: usize, how: State) -> Ended {
        match self.0.get_mut(process) {
            Some(Some(state @ State::On)) => *state = how,
            Some(Some(_)) => return Ended::Before,
            Some(None) | None => return Ended::NoGuest,
        }
        if self.0.contains(&Some(State::On)) { Ended::OthersAreOn } else { Ended::Last }
    }

    /// Whether the guest of process number `process` runs.
    pub fn is_on(&self, process: usize) -> bool {
        self.0.get(process) == Some(&Some(State::On))
    }

    /// A manager has started the guest of process number `process`, which had powered off. One that has failed stays so: a
    /// process could report its failure again and again.
    pub fn start(&mut self, process: usize) {
        if let Some(Some(state @ State::Off)) = self.0.get_mut(process) {
            *state = State::On;
        }
    }

    /// Process number `process` was restarted, and its guest with it.
    pub fn restart(&mut self, process: usize) {
        if let Some(Some(state)) = self.0.get_mut(process) {
            *state = State::On;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_guest_that_ends_is_the_last() {
        let mut guests = Guests::new([false, true, true].into_iter());
        assert_eq!(guests.end(2, State::Off), Ended::OthersAreOn);
        assert_eq!(guests.end(2, State::Failed), Ended::Before);
        assert!(guests.is_on(1) && !guests.is_on(2));
        assert_eq!(guests.end(1, State::Failed), Ended::Last);
        assert_eq!(guests.end(1, State::Failed), Ended::Before);
    }

    #[test]
    fn a_guest_that_was_started_anew_is_on() {
        let mut guests = Guests::new([true, true].into_iter());
        guests.end(0, State::Failed);
        guests.restart(0);
        assert_eq!(guests.end(1, State::Off), Ended::OthersAreOn);
        assert_eq!(guests.end(0, State::Off), Ended::Last);
    }

    #[test]
    fn a_guest_that_has_failed_is_not_started() {
        let mut guests = Guests::new([true, true, true].into_iter());
        guests.end(0, State::Failed);
        guests.end(1, State::Off);
        guests.start(0);
        guests.start(1);
        assert!(!guests.is_on(0) && guests.is_on(1));
    }

    #[test]
    fn a_process_without_a_guest_switches_nothing_off() {
        let mut guests = Guests::new([false, true].into_iter());
        guests.restart(0);
        assert!(!guests.is_on(0) && !guests.is_on(7));
        assert_eq!(guests.end(0, State::Off), Ended::NoGuest);
        assert_eq!(guests.end(7, State::Off), Ended::NoGuest);
        assert_eq!(Guests::new([false].into_iter()).end(0, State::Off), Ended::NoGuest);
    }
}
