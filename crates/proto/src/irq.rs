//! irq-server. A line with one owner is handed over once: the handler capability comes with the reply, and from then
//! on the kernel signals the owner directly and the owner acknowledges by itself. A line is named by its position in
//! `layout::config::Irq::lines`.

use serde::{Deserialize, Serialize};

use crate::wire::{Call, ClientId, IpcError, Message, Transport};

/// Hands over the handler of a line; asked again, hands it over again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The line.
    pub line: u8,
}
impl Call for Claim {
    const LABEL: u64 = 0x301;
    type Reply = Result<(), Error>;
}

/// The lines that the caller may claim: bit n is line n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines;
impl Call for Lines {
    const LABEL: u64 = 0x302;
    type Reply = u32;
}

/// Why irq-server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// The message did not get through.
    Ipc(IpcError),
    /// The system has no line of this number.
    NoSuchLine,
    /// The line belongs to another client.
    NotOwner,
    /// The kernel refused the line: an I/O APIC or pin that the machine lacks, or a vector in use.
    Kernel,
    /// The answer was yes, but no capability came with it: the receive slot was not free.
    NoCapability,
}

impl From<IpcError> for Error {
    fn from(error: IpcError) -> Self {
        Error::Ipc(error)
    }
}

/// A client of irq-server. Its transport must have a free slot for the capability (`rt::Endpoint::receive_into`).
#[derive(Clone, Copy, Debug)]
pub struct Client<T>(pub T);

impl<T: Transport> Client<T> {
    /// See [`Claim`]. Returns the address of the handler's capability.
    pub fn claim(&self, line: u8) -> Result<u64, Error> {
        let (reply, handler) = self.0.call_for_cap(&Claim { line })?;
        reply?;
        handler.ok_or(Error::NoCapability)
    }

    /// See [`Lines`].
    pub fn lines(&self) -> Result<u32, Error> {
        Ok(self.0.call(&Lines)?)
    }
}

/// What irq-server implements.
pub trait Serve {
    /// See [`Claim`]. Returns the address of the handler's capability.
    fn claim(&mut self, from: ClientId, call: Claim) -> Result<u64, Error>;
    /// See [`Lines`].
    fn lines(&mut self, from: ClientId, call: Lines) -> u32;
}

/// Answers one message.
pub fn dispatch(server: &mut impl Serve, from: ClientId, message: &mut Message) -> Result<(), IpcError> {
    match message.label {
        Claim::LABEL => message.answer_with_cap(|call| match server.claim(from, call) {
            Ok(handler) => (Ok(()), Some(handler)),
            Err(error) => (Err(error), None),
        }),
        Lines::LABEL => message.answer(|call| server.lines(from, call)),
        _ => Err(IpcError::UnknownLabel),
    }
}
