//! serial-server. Bytes are transferred by rings (`mmio::Ring`), without calls; the calls are for everything else.
//! A client rings the doorbell when it has written bytes to print, and when it has read keyboard input.

use heapless::Vec;
use layout::{
    Service, Slot,
    config::{Managed, Name, Ports, Window},
    limits::{MAX_GUESTS, MAX_STREAMS},
};
use serde::{Deserialize, Serialize};

use crate::wire::{Call, ClientId, IpcError, Message, Transport};

/// The server.
pub const SERVICE: Service = Service { word: "serial", server: "serial-server", slot: Slot(10) };

/// What serial-server finds at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The UART's eight ports.
    pub uart: Ports,
    /// Line speed in bits per second.
    pub baud: u32,
    /// Whether the lines of consoles that share the UART are coloured.
    pub colours: bool,
    /// The UART's line at irq-server.
    pub line: u8,
    /// Who prints, and who is typed at. The position is the client's doorbell bit, `event::stream(n)`.
    pub rings: Vec<SerialRing, MAX_STREAMS>,
    /// The VMs that whoever types commands may manage.
    pub managed: Vec<Managed, MAX_GUESTS>,
}

/// One stream of bytes to the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerialRing {
    /// What lines of this stream begin with, when there is more than one console.
    pub name: Name,
    /// Log lines or a guest's console.
    pub kind: RingKind,
    /// Ring from the client.
    pub output: Window,
    /// Ring to the client, and the notification that says it has bytes, or another word: consoles only. The word is the
    /// columns of the terminal's window, and in the upper half its rows; 0 if they are not known.
    pub input: Option<(Window, Slot)>,
}

/// What a stream to the console carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RingKind {
    /// Whole lines of a server's log, printed as `name: line`.
    Log,
    /// A guest's console, passed through byte for byte.
    Console,
}

/// Returns how many bytes are not sent yet: those in all rings and in the UART. The server never waits for a slow line,
/// so a client that has to wait repeats the call until it returns 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flush;
impl Call for Flush {
    const LABEL: u64 = 0x101;
    type Reply = u32;
}

/// Returns the counts since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetStats;
impl Call for GetStats {
    const LABEL: u64 = 0x102;
    type Reply = Stats;
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Bytes given to the UART.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Overruns of the UART's FIFO, and received bytes that were dropped because there is no console.
    pub lost: u64,
    /// Interrupts.
    pub interrupts: u64,
}

/// A client of serial-server.
#[derive(Clone, Copy, Debug)]
pub struct Client<T>(pub T);

impl<T: Transport> Client<T> {
    /// See [`Flush`].
    pub fn flush(&self) -> Result<u32, IpcError> {
        self.0.call(&Flush)
    }

    /// See [`GetStats`].
    pub fn stats(&self) -> Result<Stats, IpcError> {
        self.0.call(&GetStats)
    }
}

/// What serial-server implements.
pub trait Serve {
    /// See [`Flush`].
    fn flush(&mut self, from: ClientId, call: Flush) -> u32;
    /// See [`GetStats`].
    fn stats(&mut self, from: ClientId, call: GetStats) -> Stats;
}

/// Handles one message.
pub fn dispatch(server: &mut impl Serve, from: ClientId, message: &mut Message) -> Result<(), IpcError> {
    match message.label {
        Flush::LABEL => message.answer(|call| server.flush(from, call)),
        GetStats::LABEL => message.answer(|call| server.stats(from, call)),
        _ => Err(IpcError::UnknownLabel),
    }
}
