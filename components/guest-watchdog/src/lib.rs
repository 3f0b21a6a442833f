//! guest-watchdog: a component that manages a VM and resets it when it has not been petted for some time. The guest pets by any
//! byte on a connection of AF_VSOCK; the first one arms the watchdog. A connection that ends with a `V`, or a line of it, disarms it,
//! as a `V` written to Linux's /dev/watchdog does; one that just ends, because its program has died, does not.
#![no_std]
#![forbid(unsafe_code)]

use proto::lifecycle::State;

/// The last bytes of a connection that disarm: the second and last, or the last alone.
const LINE: [u8; 2] = *b"V\n";
const BYTE: u8 = b'V';

/// The watchdog, in ticks of a clock.
#[derive(Clone, Debug)]
pub struct Watchdog {
    patience: u64,
    /// When it bites, if it is armed.
    deadline: Option<u64>,
    /// The last two bytes.
    last: [u8; 2],
    state: State,
    starts: u64,
}

impl Watchdog {
    /// One that waits for so long.
    pub fn new(patience: u64) -> Self {
        Self { patience, deadline: None, last: [0; 2], state: State::Absent, starts: 0 }
    }

    /// The guest has sent these bytes.
    pub fn pet(&mut self, bytes: &[u8], now: u64) {
        for byte in bytes {
            self.last = [self.last[1], *byte];
        }
        if !bytes.is_empty() {
            self.deadline = Some(now.saturating_add(self.patience));
        }
    }

    /// A connection has ended, with all its bytes. Returns whether this disarms.
    pub fn end(&mut self) -> bool {
        let last = core::mem::take(&mut self.last);
        let disarms = last == LINE || last[1] == BYTE;
        if disarms {
            self.deadline = None;
        }
        disarms
    }

    /// Follows the VM. A new life is not watched until it pets; a pause does not count.
    pub fn follow(&mut self, state: State, starts: u64, now: u64) {
        if starts != self.starts || !matches!(state, State::Running | State::Paused) {
            self.deadline = None;
        } else if self.state == State::Paused && state == State::Running && self.deadline.is_some() {
            self.deadline = Some(now.saturating_add(self.patience));
        }
        (self.state, self.starts) = (state, starts);
    }

    /// When to look again, if it is armed and the guest could pet.
    pub fn deadline(&self) -> Option<u64> {
        self.deadline.filter(|_| self.state == State::Running)
    }

    /// Whether the guest is to be reset now. Disarms.
    pub fn bites(&mut self, now: u64) -> bool {
        let bites = self.deadline().is_some_and(|deadline| now >= deadline);
        if bites {
            self.deadline = None;
        }
        bites
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed() -> Watchdog {
        let mut dog = Watchdog::new(10);
        dog.follow(State::Running, 1, 0);
        dog.pet(b"x", 100);
        dog
    }

    #[test]
    fn it_bites_once_and_not_before_its_time() {
        let mut dog = armed();
        assert!(!dog.bites(109));
        assert!(dog.bites(110));
        assert!(!dog.bites(200));
    }

    #[test]
    fn a_pet_postpones_and_arms() {
        let mut dog = armed();
        dog.pet(b"y", 109);
        assert!(!dog.bites(118));
        assert_eq!(dog.deadline(), Some(119));
        let mut dog = Watchdog::new(10);
        dog.follow(State::Running, 1, 0);
        assert!(!dog.bites(1000));
    }

    #[test]
    fn only_a_v_at_the_end_disarms() {
        for (bytes, disarms) in
            [(&b"V"[..], true), (b"aV", true), (b"V\n", true), (b"V\n\n", false), (b"Va", false), (b"", false)]
        {
            let mut dog = armed();
            dog.pet(bytes, 101);
            assert_eq!(dog.end(), disarms, "{bytes:?}");
            assert_eq!(dog.bites(1000), !disarms);
        }
    }

    #[test]
    fn a_new_life_is_not_watched_until_it_pets() {
        let mut dog = armed();
        dog.follow(State::Running, 2, 105);
        assert!(!dog.bites(1000));
        dog.pet(b"x", 1000);
        assert!(dog.bites(1010));
        let mut dog = armed();
        dog.follow(State::Off, 1, 105);
        dog.follow(State::Running, 2, 106);
        assert!(!dog.bites(1000));
    }

    #[test]
    fn a_pause_does_not_count() {
        let mut dog = armed();
        dog.follow(State::Paused, 1, 105);
        assert!(!dog.bites(1000));
        assert_eq!(dog.deadline(), None);
        dog.follow(State::Running, 1, 2000);
        assert!(!dog.bites(2009));
        assert!(dog.bites(2010));
    }
}
