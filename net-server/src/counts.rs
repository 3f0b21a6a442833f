//! What is refused to a port's client, and what the log hears of it.

use layout::config::Name;
use proto::tally::{Report, Tally};

/// Counts of a port since the start, of frames or of packets of sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// From the client, with an impossible length, or a header without meaning.
    pub malformed: Tally,
    /// From the client, with an address that is not its own.
    pub spoofed: Tally,
    /// From the client to groups, beyond what it may send of them.
    pub limited: Tally,
    /// To the client, when its ring had no room.
    pub dropped: Tally,
}

/// Why something goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// See [`Counts::malformed`].
    Malformed,
    /// See [`Counts::spoofed`].
    Spoofed,
    /// See [`Counts::limited`].
    Limited,
    /// See [`Counts::dropped`].
    Dropped,
}

impl Counts {
    /// Counts, and logs some: a client must not fill the log.
    pub fn add(&mut self, port: &Name, refused: Refused) {
        let (tally, what) = match refused {
            Refused::Malformed => (&mut self.malformed, "sends what is malformed"),
            Refused::Spoofed => (&mut self.spoofed, "sends from another's address"),
            Refused::Limited => (&mut self.limited, "sends too much to groups"),
            Refused::Dropped => (&mut self.dropped, "takes too little: its ring is full"),
        };
        if tally.add() == Report::Log {
            log::warn!("{port} {what}; {} dropped so far", tally.count());
        }
    }
}
