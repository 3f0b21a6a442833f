//! irq-server. A line with one owner is handed over once: the reply has the handler capability, and from then on the
//! kernel signals the owner directly and the owner acknowledges by itself. irq-server keeps the handler of a line with
//! several owners, signals them all and waits for their [`Done`]. Lines are numbered by their position in
//! [`Config::lines`].

use heapless::Vec;
use layout::{Bdf, Service, Slot, config::Name, limits::MAX_LINES};
use serde::{Deserialize, Serialize};

use crate::wire::{Call, ClientId, IpcError, Message, Transport};

/// The server.
pub const SERVICE: Service = Service { word: "irq", server: "irq-server", slot: Slot(9) };

/// What irq-server finds at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// All lines of the system. A client names a line by its position here.
    pub lines: Vec<Line, MAX_LINES>,
    /// Badge of the client that says where lines without a route arrive, or whose messages they are: pci-server.
    pub router: Option<u64>,
    /// Asks timer-server for a signal (`event::TIMER`) in a millisecond.
    pub alarm: Option<Slot>,
}

/// One interrupt line as one client knows it. Lines with the same route are one line of the machine, shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Name in the description: `timer`, `uart`, `SATA` …
    pub name: Name,
    /// Badge (client identity) that may claim it.
    pub owner: u64,
    /// Where it arrives; `None` until the router says so.
    pub route: Option<Route>,
    /// The router may make it a function's messages, even if it has a route.
    pub messages: bool,
    /// The kernel's interrupt vector, unique in the system, counted from the first that user space may use.
    pub vector: u8,
    /// The owner's notification, badged with the event bit of this line.
    pub signal: Slot,
    /// irq-server's own notification, badged `event::ring(n)` for line n: for lines that are shared.
    pub own: Option<Slot>,
    /// Interrupts per millisecond above which the line counts as storming; 0 is no limit.
    pub limit: u16,
}

/// Where an interrupt arrives, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// I/O APIC; 0 is the first.
    pub ioapic: u8,
    /// Its input.
    pub pin: u8,
    /// Level triggered; else edge.
    pub level: bool,
    /// Active low; else high.
    pub active_low: bool,
}

/// Hands over the handler of a line; a repeated claim hands it over again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The line.
    pub line: u8,
}
impl Call for Claim {
    const LABEL: u64 = 0x301;
    type Reply = Result<Sharing, Error>;
}

/// Whether a line has other owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// No: the reply has the handler.
    Alone,
    /// Yes: after each signal irq-server waits for [`Done`].
    Shared,
}

/// Returns the lines that the caller may claim: bit n is line n. Lines without a route are omitted: a description
/// reserves two for each function, and most functions have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines;
impl Call for Lines {
    const LABEL: u64 = 0x302;
    type Reply = u32;
}

/// The caller has served its device on a shared line. irq-server unmasks the line when all owners have sent this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The line.
    pub line: u8,
}
impl Call for Done {
    const LABEL: u64 = 0x303;
    type Reply = Result<(), Error>;
}

/// Sets the route of a line that has none. Only pci-server may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRoute {
    /// The line.
    pub line: u8,
    /// The input, its trigger mode and polarity.
    pub route: Route,
}
impl Call for SetRoute {
    const LABEL: u64 = 0x304;
    type Reply = Result<(), Error>;
}

/// Makes a line that of the messages (MSI, MSI-X) of the function at `from`, if the description lets it be ([`Line::messages`]) and
/// nobody has claimed it. The reply is the message that the function has to send. Only pci-server may; it alone writes the message
/// into the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetMessage {
    /// The line.
    pub line: u8,
    /// The function.
    pub from: Bdf,
}
impl Call for SetMessage {
    const LABEL: u64 = 0x305;
    type Reply = Result<MsiMessage, Error>;
}

/// What a function writes to memory to interrupt (Intel SDM volume 3, "Message Signalled Interrupts").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MsiMessage {
    /// Where: 0xfee and the local APIC's ID.
    pub address: u32,
    /// What: the vector.
    pub data: u16,
}

/// Why irq-server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// The message was malformed or unknown.
    Ipc(IpcError),
    /// The system has no line of this number.
    NoSuchLine,
    /// The line belongs to another client.
    NotOwner,
    /// The line has no route yet.
    NoRoute,
    /// The line has another route already, or may not be that of messages; or the input cannot be shared, since it is a server's
    /// or was handed over.
    RouteTaken,
    /// The kernel refused the line: an I/O APIC or pin that the machine lacks, or a vector in use.
    Kernel,
    /// Another line at this input has another trigger mode or polarity.
    Conflict,
    /// The claim was granted, but the reply has no capability: the receive slot was not free.
    NoCapability,
}

impl From<IpcError> for Error {
    fn from(error: IpcError) -> Self {
        Error::Ipc(error)
    }
}

/// A client of irq-server. To claim, its transport must have a free slot for the capability
/// (`rt::Endpoint::receive_into`).
#[derive(Clone, Copy, Debug)]
pub struct Client<T>(pub T);

impl<T: Transport> Client<T> {
    /// See [`Claim`]. Returns the CPtr of the handler, or `None` for a shared line.
    pub fn claim(&self, line: u8) -> Result<Option<u64>, Error> {
        match self.0.call_for_cap(&Claim { line })? {
            (Ok(Sharing::Shared), _) => Ok(None),
            (Ok(Sharing::Alone), handler) => handler.ok_or(Error::NoCapability).map(Some),
            (Err(error), _) => Err(error),
        }
    }

    /// See [`Done`].
    pub fn done(&self, line: u8) -> Result<(), Error> {
        self.0.call(&Done { line })?
    }

    /// See [`SetRoute`].
    pub fn set_route(&self, line: u8, route: Route) -> Result<(), Error> {
        self.0.call(&SetRoute { line, route })?
    }

    /// See [`SetMessage`].
    pub fn set_message(&self, line: u8, from: Bdf) -> Result<MsiMessage, Error> {
        self.0.call(&SetMessage { line, from })?
    }

    /// See [`Lines`].
    pub fn lines(&self) -> Result<u32, Error> {
        Ok(self.0.call(&Lines)?)
    }
}

/// What irq-server implements.
pub trait Serve {
    /// See [`Claim`]. Returns the CPtr of the handler, or `None` for a shared line.
    fn claim(&mut self, from: ClientId, call: Claim) -> Result<Option<u64>, Error>;
    /// See [`Done`].
    fn done(&mut self, from: ClientId, call: Done) -> Result<(), Error>;
    /// See [`SetRoute`].
    fn set_route(&mut self, from: ClientId, call: SetRoute) -> Result<(), Error>;
    /// See [`SetMessage`].
    fn set_message(&mut self, from: ClientId, call: SetMessage) -> Result<MsiMessage, Error>;
    /// See [`Lines`].
    fn lines(&mut self, from: ClientId, call: Lines) -> u32;
}

/// Handles one message.
pub fn dispatch(server: &mut impl Serve, from: ClientId, message: &mut Message) -> Result<(), IpcError> {
    match message.label {
        Claim::LABEL => message.answer_with_cap(|call| match server.claim(from, call) {
            Ok(Some(handler)) => (Ok(Sharing::Alone), Some(handler)),
            Ok(None) => (Ok(Sharing::Shared), None),
            Err(error) => (Err(error), None),
        }),
        Done::LABEL => message.answer(|call| server.done(from, call)),
        SetRoute::LABEL => message.answer(|call| server.set_route(from, call)),
        SetMessage::LABEL => message.answer(|call| server.set_message(from, call)),
        Lines::LABEL => message.answer(|call| server.lines(from, call)),
        _ => Err(IpcError::UnknownLabel),
    }
}
