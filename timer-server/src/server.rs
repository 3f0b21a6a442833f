//! The deadlines of the clients. The server sets one shot of the timer for the nearest deadline, or several in a row for
//! a distant one; at each interrupt it signals the clients whose deadlines have passed and sets the next shot.

use heapless::Vec;
use layout::limits::MAX_CLIENTS;
use proto::timer::{Arm, Cancel, Error, Frequency, ReadWallClock, Serve, WallClock};
use proto::wire::ClientId;

/// The machine, as far as this server uses it.
pub trait Hardware {
    /// The TSC.
    fn now(&self) -> u64;
    /// Raises the interrupt once, `ticks` of the TSC from now, or earlier if the timer cannot wait that long. Replaces a
    /// pending shot. Returns after how many ticks at most.
    fn one_shot(&mut self, ticks: u64) -> u64;
    /// The date, in seconds since 1970.
    fn unix_time(&mut self) -> Option<u64>;
    /// Signals the client, or irq-server for [`ALARM`].
    fn signal(&mut self, client: usize);
}

/// The client that sends signals instead of calls: irq-server. It must not call timer-server, which calls irq-server.
pub const ALARM: usize = MAX_CLIENTS;

/// The server.
pub struct Server<H> {
    hardware: H,
    tsc_hz: u64,
    /// By client.
    deadlines: Vec<Option<u64>, MAX_CLIENTS>,
    /// The deadline of [`ALARM`].
    alarm: Option<u64>,
    /// TSC at which the pending shot expires, at the latest.
    shot: Option<u64>,
}

impl<H: Hardware> Server<H> {
    /// A server for `clients` clients, on a machine whose TSC runs at `tsc_hz`.
    pub fn new(hardware: H, tsc_hz: u64, clients: usize) -> Self {
        Self {
            hardware,
            tsc_hz,
            deadlines: (0..clients.min(MAX_CLIENTS)).map(|_| None).collect(),
            alarm: None,
            shot: None,
        }
    }

    /// Handles the interrupt of a shot. The caller has to acknowledge the interrupt first: an edge that comes while the
    /// line is masked is lost.
    pub fn on_interrupt(&mut self) {
        self.shot = None;
        self.run();
    }

    /// Signals [`ALARM`] in a millisecond. Further requests before that do not postpone the signal.
    pub fn on_alarm(&mut self) {
        let at = self.hardware.now().saturating_add(self.tsc_hz / 1000);
        self.alarm.get_or_insert(at);
        self.run();
    }

    /// Signals all clients whose deadlines have passed, and sets the next shot.
    fn run(&mut self) {
        let now = self.hardware.now();
        let mut nearest = None;
        let numbers = (0..self.deadlines.len()).chain([ALARM]);
        for (client, deadline) in numbers.zip(self.deadlines.iter_mut().chain([&mut self.alarm])) {
            match *deadline {
                Some(at) if at <= now => {
                    *deadline = None;
                    self.hardware.signal(client);
                }
                Some(at) => nearest = Some(nearest.map_or(at, |nearest: u64| nearest.min(at))),
                None => {}
            }
        }
        let Some(nearest) = nearest else { return };
        // The interrupt of a shot that should have expired is pending or was lost. In case it was lost, a new one is
        // set.
        self.shot = self.shot.filter(|&shot| shot > now);
        // A pending shot that is early enough is kept: an early interrupt costs less than port writes at every call.
        if self.shot.is_none_or(|shot| shot > nearest) {
            let ticks = self.hardware.one_shot(nearest - now);
            self.shot = Some(now.saturating_add(ticks));
        }
    }

    /// The deadline of a client; none for a badge that the configuration does not list, which has no notification.
    fn deadline(&mut self, from: ClientId) -> Option<&mut Option<u64>> {
        self.deadlines.get_mut(from.index())
    }
}

impl<H: Hardware> Serve for Server<H> {
    fn frequency(&mut self, _: ClientId, _: Frequency) -> u64 {
        self.tsc_hz
    }

    fn arm(&mut self, from: ClientId, call: Arm) -> Result<(), Error> {
        *self.deadline(from).ok_or(Error::NoSignal)? = Some(call.at);
        self.run();
        Ok(())
    }

    fn cancel(&mut self, from: ClientId, _: Cancel) {
        // The shot stays set: its interrupt finds nothing due, which costs less than reprogramming the timer.
        if let Some(deadline) = self.deadline(from) {
            *deadline = None;
        }
    }

    fn wall_clock(&mut self, _: ClientId, _: ReadWallClock) -> Result<WallClock, Error> {
        let unix = self.hardware.unix_time().ok_or(Error::NoClock)?;
        Ok(WallClock { unix, at: self.hardware.now() })
    }
}
