//! timer-server. Time is the TSC: a client reads it by itself, asks once for its rate, and has one deadline at a time,
//! whose passing is signalled with `layout::event::TIMER`.

use serde::{Deserialize, Serialize};

use crate::wire::{Call, ClientId, IpcError, Message, Transport};

/// The rate of the TSC, in Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frequency;
impl Call for Frequency {
    const LABEL: u64 = 0x201;
    type Reply = u64;
}

/// Signal the caller when the TSC has reached `at`, at once if it has already. Replaces the caller's last deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// TSC value.
    pub at: u64,
}
impl Call for Arm {
    const LABEL: u64 = 0x202;
    type Reply = Result<(), Error>;
}

/// Forget the caller's deadline. A signal may be on its way already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel;
impl Call for Cancel {
    const LABEL: u64 = 0x203;
    type Reply = ();
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
        Ok(self.0.call(&Frequency)?)
    }

    /// See [`Arm`].
    pub fn arm(&self, at: u64) -> Result<(), Error> {
        self.0.call(&Arm { at })?
    }

    /// See [`Cancel`].
    pub fn cancel(&self) -> Result<(), Error> {
        Ok(self.0.call(&Cancel)?)
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
        Frequency::LABEL => message.answer(|call| server.frequency(from, call)),
        Arm::LABEL => message.answer(|call| server.arm(from, call)),
        Cancel::LABEL => message.answer(|call| server.cancel(from, call)),
        ReadWallClock::LABEL => message.answer(|call| server.wall_clock(from, call)),
        _ => Err(IpcError::UnknownLabel),
    }
}
