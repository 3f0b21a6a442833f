//! Events of a channel, as counters that wrap around.
//!
//! The page of both ends:
//!
//! | offset | written by | counter |
//! |---|---|---|
//! | 0 | first end | events that it has emitted |
//! | 4 | first end | events of the other end that it has taken |
//! | 64 | second end | events that it has emitted |
//! | 68 | second end | events of the other end that it has taken |
//!
//! An end reads one counter of the other's, and any value of it is a number of events. What an end has taken stands there for
//! itself alone: for its successor, if its process begins anew.

use mmio::Window;

const ENDS: [u64; 2] = [0, 64];
const EMITTED: u64 = 0;
const TAKEN: u64 = 4;

/// One end's events.
#[derive(Debug)]
pub struct Events {
    page: Window,
    own: u64,
    other: u64,
    emitted: u32,
    taken: u32,
}

impl Events {
    /// The end's, in the page of both. It continues where its predecessor has ended.
    pub fn new(page: Window, first: bool) -> Self {
        let [own, other] = if first { ENDS } else { [ENDS[1], ENDS[0]] };
        let mut events = Self { page, own, other, emitted: 0, taken: 0 };
        (events.emitted, events.taken) = (events.read(own + EMITTED), events.read(own + TAKEN));
        events
    }

    /// Counts one more. The other end has to be signalled afterwards.
    pub fn emit(&mut self) {
        self.emitted = self.emitted.wrapping_add(1);
        self.write(self.own + EMITTED, self.emitted);
    }

    /// How many this end has emitted, of all its lives.
    pub const fn emitted(&self) -> u32 {
        self.emitted
    }

    /// How many the other end has emitted, of all its lives.
    pub fn received(&self) -> u32 {
        self.read(self.other + EMITTED)
    }

    /// How many of those this end has taken.
    pub const fn taken(&self) -> u32 {
        self.taken
    }

    /// Sets how many it has taken: events are pending while this differs from [`received`](Self::received).
    pub fn set_taken(&mut self, taken: u32) {
        self.taken = taken;
        self.write(self.own + TAKEN, taken);
    }

    /// Takes all that are pending; returns how many.
    pub fn take(&mut self) -> u32 {
        let received = self.received();
        let pending = received.wrapping_sub(self.taken);
        if pending != 0 {
            self.set_taken(received);
        }
        pending
    }

    /// Reads of a page cannot fail: all offsets are inside.
    fn read(&self, at: u64) -> u32 {
        self.page.read_u32(at).unwrap_or_default()
    }

    fn write(&self, at: u64, value: u32) {
        let written = self.page.write_u32(at, value);
        debug_assert!(written.is_ok());
    }
}
