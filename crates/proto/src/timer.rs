//! timer-server. The TSC is the clock: a client reads it by itself, asks once for its rate, and has one deadline at a
//! time. When the deadline passes, timer-server signals `layout::event::TIMER`. All requests but the date's are
//! frequent, and therefore plain words in registers: see `Transport::exchange_words`. Unused words are 0.

use heapless::Vec;
use layout::{
    Service, Slot,
    config::{Name, Ports, Window},
    limits::MAX_CLIENTS,
};
use serde::{Deserialize, Serialize};

use crate::wire::{Call, ClientId, IpcError, Message, Transport};

/// The server.
pub const SERVICE: Service = Service { word: "timer", server: "timer-server", slot: Slot(11) };

/// What timer-server finds at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The 8254's ports 0x40 to 0x43.
    pub pit: Ports,
    /// Port 0x61, the gate of channel 2.
    pub gate: Ports,
    /// The HPET's registers, where the board may have one.
    pub hpet: Option<Window>,
    /// The RTC's ports 0x70 and 0x71.
    pub rtc: Ports,
    /// The PIT's line at irq-server.
    pub line: u8,
    /// Clients; the endpoint's badge is the position. Each one's signal carries `event::TIMER`.
    pub clients: Vec<Signal, MAX_CLIENTS>,
    /// Who is signalled a millisecond after `event::ALARM`: irq-server, which timer-server calls and which therefore cannot
    /// call it.
    pub alarm: Option<Slot>,
}

/// A client and how to signal it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The client's name, for the log.
    pub name: Name,
    /// Badged notification capability of the client.
    pub slot: Slot,
}

/// Returns the rate of the TSC in Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency;

impl Frequency {
    /// Of the message.
    pub const LABEL: u64 = 0x201;
}

/// Sets the caller's deadline: timer-server signals it when the TSC has reached `at`, at once if it has already.
/// Replaces the last deadline. Returns [`ARMED`] or [`NO_SIGNAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arm {
    /// TSC value: the first word.
    pub at: u64,
}

impl Arm {
    /// Of the message.
    pub const LABEL: u64 = 0x202;
}

/// Reply to [`Arm`]: done.
const ARMED: u64 = 0;
/// Reply to [`Arm`]: [`Error::NoSignal`].
const NO_SIGNAL: u64 = 1;

/// Cancels the caller's deadline. A signal may be pending already. Returns 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel;

impl Cancel {
    /// Of the message.
    pub const LABEL: u64 = 0x203;
}

/// Reads the real-time clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadWallClock;
impl Call for ReadWallClock {
    const LABEL: u64 = 0x204;
    type Reply = Result<WallClock, Error>;
}

/// A date and the time at which it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallClock {
    /// Seconds since 1970-01-01 00:00:00 UTC, rounded down: up to a second behind.
    pub unix: u64,
    /// The TSC when it was read.
    pub at: u64,
}

/// Why timer-server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// The message was malformed or unknown.
    Ipc(IpcError),
    /// The caller has no notification that could be signalled.
    NoSignal,
    /// The real-time clock does not respond, or has no valid date.
    NoClock,
}

impl From<IpcError> for Error {
    fn from(error: IpcError) -> Self {
        Error::Ipc(error)
    }
}

/// A client of timer-server.
#[derive(Clone, Copy, Debug)]
pub struct Client<T>(pub T);

impl<T: Transport> Client<T> {
    /// See [`Frequency`].
    pub fn frequency(&self) -> Result<u64, Error> {
        Ok(self.0.exchange_words(Frequency::LABEL, [0; 3])?)
    }

    /// See [`Arm`].
    pub fn arm(&self, at: u64) -> Result<(), Error> {
        match self.0.exchange_words(Arm::LABEL, [at, 0, 0])? {
            ARMED => Ok(()),
            NO_SIGNAL => Err(Error::NoSignal),
            _ => Err(IpcError::Malformed.into()),
        }
    }

    /// See [`Cancel`].
    pub fn cancel(&self) -> Result<(), Error> {
        match self.0.exchange_words(Cancel::LABEL, [0; 3])? {
            0 => Ok(()),
            _ => Err(IpcError::Malformed.into()),
        }
    }

    /// See [`ReadWallClock`].
    pub fn wall_clock(&self) -> Result<WallClock, Error> {
        self.0.call(&ReadWallClock)?
    }
}

/// What timer-server implements.
pub trait Serve {
    /// See [`Frequency`].
    fn frequency(&mut self, from: ClientId, call: Frequency) -> u64;
    /// See [`Arm`].
    fn arm(&mut self, from: ClientId, call: Arm) -> Result<(), Error>;
    /// See [`Cancel`].
    fn cancel(&mut self, from: ClientId, call: Cancel);
    /// See [`ReadWallClock`].
    fn wall_clock(&mut self, from: ClientId, call: ReadWallClock) -> Result<WallClock, Error>;
}

/// Handles one message.
pub fn dispatch(server: &mut impl Serve, from: ClientId, message: &mut Message) -> Result<(), IpcError> {
    match message.label {
        Frequency::LABEL => message.answer_words(|words| match words {
            [0, 0, 0] => Ok(server.frequency(from, Frequency)),
            _ => Err(IpcError::Malformed),
        }),
        Arm::LABEL => message.answer_words(|words| match words {
            // `NoSignal` is the only error of `arm`.
            [at, 0, 0] => Ok(server.arm(from, Arm { at }).map_or(NO_SIGNAL, |()| ARMED)),
            _ => Err(IpcError::Malformed),
        }),
        Cancel::LABEL => message.answer_words(|words| match words {
            [0, 0, 0] => {
                server.cancel(from, Cancel);
                Ok(0)
            }
            _ => Err(IpcError::Malformed),
        }),
        ReadWallClock::LABEL => message.answer(|call| server.wall_clock(from, call)),
        _ => Err(IpcError::UnknownLabel),
    }
}
