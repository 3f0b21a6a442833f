//! Which guests are on. The machine is switched off when the last one went off, so only those who run a guest have a
//! say in that.

use alloc::vec::Vec;

/// All processes.
pub struct Guests(Vec<Option<Power>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    Off,
}

/// What a guest's going off means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    /// None is on any more.
    Last,
    /// Others are on.
    OthersAreOn,
    /// The process runs no guest.
    NoGuest,
}

impl Guests {
    /// By process: does it run a guest? All guests are on.
    pub fn new(runs_a_guest: impl Iterator<Item = bool>) -> Self {
        Self(runs_a_guest.map(|runs| runs.then_some(Power::On)).collect())
    }

    /// The guest of process number `process` went off.
    pub fn off(&mut self, process: usize) -> Off {
        match self.0.get_mut(process) {
            Some(Some(power)) => *power = Power::Off,
            Some(None) | None => return Off::NoGuest,
        }
        if self.0.contains(&Some(Power::On)) { Off::OthersAreOn } else { Off::Last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_guest_that_goes_off_is_the_last() {
        let mut guests = Guests::new([false, true, true].into_iter());
        assert_eq!(guests.off(2), Off::OthersAreOn);
        assert_eq!(guests.off(2), Off::OthersAreOn);
        assert_eq!(guests.off(1), Off::Last);
    }

    #[test]
    fn a_process_without_a_guest_switches_nothing_off() {
        let mut guests = Guests::new([false, true].into_iter());
        assert_eq!(guests.off(0), Off::NoGuest);
        assert_eq!(guests.off(7), Off::NoGuest);
        assert_eq!(Guests::new([false].into_iter()).off(0), Off::NoGuest);
    }
}
