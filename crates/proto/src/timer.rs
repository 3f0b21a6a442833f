//! timer-server. Time is the TSC: a client reads it by itself, asks once for its rate, and has one deadline at a time,
//! whose passing is signalled with `layout::event::TIMER`. What is asked often, all but the date, is plain words: see
//! `Transport::exchange_words`. Those that mean nothing are 0.

use heapless::Vec;
use layout::{
    Service, Slot,
    config::{Name, Ports},
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

/// The rate of the TSC, in Hz, is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency;

impl Frequency {
    /// Of the message.
    pub const LABEL: u64 = 0x201;
}

/// Signal the caller when the TSC has reached `at`, at once if it has already. Replaces the caller's last deadline. The
/// answer is [`ARMED`] or [`NO_SIGNAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arm {
    /// TSC value: the first word.
    pub at: u64,
}

impl Arm {
    /// Of the message.
    pub const LABEL: u64 = 0x202;
}

/// Answer to [`Arm`]: done.
const ARMED: u64 = 0;
/// Answer to [`Arm`]: [`Error::NoSignal`].
const NO_SIGNAL: u64 = 1;

/// Forget the caller's deadline. A signal may be on its way already. The answer is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel;

impl Cancel {
    /// Of the message.
    pub const LABEL: u64 = 0x203;
}

/// The real-time clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadWallClock;
impl Call for ReadWallClock {
    const LABEL: u64 = 0x204;
    type Reply = Result<WallClock, Error>;
}

/// A date and the moment when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WallClock {
    /// Seconds since 1970-01-01 00:00:00 UTC, in whole ones: up to a second behind.
    pub unix: u64,
    /// The TSC when it was read.
    pub at: u64,
}

/// Why timer-server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// The message did not get through.
    Ipc(IpcError),
    /// The caller has no notification that could be signalled.
    NoSignal,
    /// The real-time clock does not answer, or shows no date.
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

/// Answers one message.
pub fn dispatch(server: &mut impl Serve, from: ClientId, message: &mut Message) -> Result<(), IpcError> {
    match message.label {
        Frequency::LABEL => message.answer_words(|words| match words {
            [0, 0, 0] => Ok(server.frequency(from, Frequency)),
            _ => Err(IpcError::Malformed),
        }),
        Arm::LABEL => message.answer_words(|words| match words {
            // It fails for nothing else.
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
