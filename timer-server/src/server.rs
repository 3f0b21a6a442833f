//! Whose deadline is next. One shot of the alarm is set for the nearest deadline, or for part of the way there; when
//! it comes, whoever is due is signalled and the next shot is set.

use layout::config::MAX_CLIENTS;
use proto::timer::{Arm, Cancel, Error, Frequency, ReadWallClock, Serve, WallClock};
use proto::wire::ClientId;

use crate::pit;

/// The machine, as far as this server uses it.
pub trait Hardware {
    /// The TSC.
    fn now(&self) -> u64;
    /// Raises the interrupt once, `count` + 1 PIT clocks from now, in place of any earlier shot.
    fn one_shot(&mut self, count: u16);
    /// The date, in seconds since 1970.
    fn unix_time(&mut self) -> Option<u64>;
    /// Signals the client, or whoever [`ALARM`] is.
    fn signal(&mut self, client: usize);
}

/// The client that asks by signal instead of by call: irq-server, which timer-server itself calls.
pub const ALARM: usize = MAX_CLIENTS;

/// The server.
pub struct Server<H> {
    hardware: H,
    tsc_hz: u64,
    /// How many clients there are.
    clients: usize,
    /// By client, [`ALARM`] being the last.
    deadlines: [Option<u64>; MAX_CLIENTS + 1],
    /// When the shot that is set will come, at the latest.
    shot: Option<u64>,
}

impl<H: Hardware> Server<H> {
    /// A server for `clients` clients, on a machine whose TSC runs at `tsc_hz`.
    pub fn new(hardware: H, tsc_hz: u64, clients: usize) -> Self {
        Self { hardware, tsc_hz, clients: clients.min(MAX_CLIENTS), deadlines: [None; MAX_CLIENTS + 1], shot: None }
    }

    /// The shot came. Call it after the interrupt was acknowledged: an edge during the work would be lost otherwise.
    pub fn on_interrupt(&mut self) {
        self.shot = None;
        self.run();
    }

    /// Signals [`ALARM`] in a millisecond. Asked again before, it keeps the moment that it has: whoever asks all the time
    /// is to be signalled nevertheless.
    pub fn on_alarm(&mut self) {
        let at = self.hardware.now().saturating_add(self.tsc_hz / 1000);
        if let Some(deadline) = self.deadlines.last_mut() {
            deadline.get_or_insert(at);
        }
        self.run();
    }

    /// Signals who is due and sets the next shot.
    fn run(&mut self) {
        let now = self.hardware.now();
        for (client, deadline) in self.deadlines.iter_mut().enumerate() {
            if deadline.is_some_and(|at| at <= now) {
                *deadline = None;
                self.hardware.signal(client);
            }
        }
        let Some(nearest) = self.deadlines.iter().flatten().min().copied() else { return };
        // A shot whose time has passed is on its way or was lost, so it cannot be waited for.
        self.shot = self.shot.filter(|&shot| shot > now);
        // A shot that comes too early costs one interrupt; setting it anew at every call would cost three port writes.
        if self.shot.is_none_or(|shot| shot > nearest) {
            let count = pit::count_for(nearest - now, self.tsc_hz);
            self.hardware.one_shot(count);
            self.shot = Some(now.saturating_add((nearest - now).min(self.longest_shot())));
        }
    }

    /// Ticks of the TSC in the longest shot.
    fn longest_shot(&self) -> u64 {
        let ticks = (u128::from(pit::MAX_COUNT) + 1) * u128::from(self.tsc_hz) / u128::from(pit::HZ);
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    fn deadline(&mut self, from: ClientId) -> Option<&mut Option<u64>> {
        self.deadlines.get_mut(..self.clients)?.get_mut(from.index())
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
        if let Some(deadline) = self.deadline(from) {
            *deadline = None;
        }
    }

    fn wall_clock(&mut self, _: ClientId, _: ReadWallClock) -> Result<WallClock, Error> {
        let unix = self.hardware.unix_time().ok_or(Error::NoClock)?;
        Ok(WallClock { unix, at: self.hardware.now() })
    }
}
