//! pci-server. So far the listing of the machine's functions: what each is and which resources it has, read from its
//! configuration space (PCI Local Bus Specification 3.0, chapter 6). Nothing in a reply gives access to anything.

use core::fmt;

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::wire::{Call, ClientId, IpcError, Message, Transport};

/// Most capabilities listed of one function.
pub const MAX_CAPABILITIES: usize = 16;

/// Asks for a function of the machine by its position in the listing; none behind the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetFunction {
    /// 0 is the first, in the order of bus, device and function.
    pub index: u16,
}
impl Call for GetFunction {
    const LABEL: u64 = 0x501;
    type Reply = Result<Option<Function>, Error>;
}

/// Where a function is on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

/// One function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Where it is.
    pub address: Address,
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Subsystem vendor ID and subsystem ID; 0 for bridges.
    pub subsystem: (u16, u16),
    /// Base class, subclass and programming interface.
    pub class: [u8; 3],
    /// Revision ID.
    pub revision: u8,
    /// Layout of the header, and what is behind a bridge.
    pub header: Header,
    /// Resources by base address register. The second half of a 64-bit one is `None`.
    pub bars: [Option<Bar>; 6],
    /// Interrupt pin, 1 to 4 for INTA to INTD; 0 is none.
    pub pin: u8,
    /// Interrupt line, as the firmware wrote it.
    pub line: u8,
    /// Capability list, as far as it is sound and [`MAX_CAPABILITIES`] go.
    pub capabilities: Vec<Capability, MAX_CAPABILITIES>,
}

/// Header layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Header {
    /// Type 0.
    Device,
    /// Type 1: PCI-to-PCI bridge.
    Bridge {
        /// The bus right behind it.
        secondary: u8,
        /// The last bus behind it.
        subordinate: u8,
    },
    /// Any other type.
    Other(u8),
}

/// What a base address register asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Ports or memory.
    pub kind: BarKind,
    /// First port or physical address; 0 where the firmware assigned none.
    pub base: u64,
    /// Bytes (ports), a power of two.
    pub size: u64,
}

/// Kinds of base address registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
    /// Memory anywhere; takes two registers.
    Memory64 {
        /// Reads have no side effects.
        prefetchable: bool,
    },
}

/// An entry of the capability list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Capability ID.
    pub id: u8,
    /// Offset in configuration space.
    pub at: u8,
}

/// Why pci-server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// The message did not get through.
    Ipc(IpcError),
    /// The system description does not let this client list the bus.
    NotAllowed,
}

impl From<IpcError> for Error {
    fn from(error: IpcError) -> Self {
        Error::Ipc(error)
    }
}

/// A client of pci-server.
#[derive(Clone, Copy, Debug)]
pub struct Client<T>(pub T);

impl<T: Transport> Client<T> {
    /// See [`GetFunction`].
    pub fn function(&self, index: u16) -> Result<Option<Function>, Error> {
        self.0.call(&GetFunction { index })?
    }
}

/// What pci-server implements.
pub trait Serve {
    /// See [`GetFunction`].
    fn function(&mut self, from: ClientId, call: GetFunction) -> Result<Option<Function>, Error>;
}

/// Answers one message.
pub fn dispatch(server: &mut impl Serve, from: ClientId, message: &mut Message) -> Result<(), IpcError> {
    match message.label {
        GetFunction::LABEL => message.answer(|call| server.function(from, call)),
        _ => Err(IpcError::UnknownLabel),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_function_fits_a_message() {
        let bar = Bar { kind: BarKind::Memory64 { prefetchable: true }, base: u64::MAX, size: u64::MAX };
        let mut capabilities = Vec::new();
        while capabilities.push(Capability { id: 0xff, at: 0xff }).is_ok() {}
        let largest = Function {
            address: Address { bus: 0xff, device: 31, function: 7 },
            vendor: 0xffff,
            device: 0xffff,
            subsystem: (0xffff, 0xffff),
            class: [0xff; 3],
            revision: 0xff,
            header: Header::Bridge { secondary: 0xff, subordinate: 0xff },
            bars: [Some(bar); 6],
            pin: 0xff,
            line: 0xff,
            capabilities,
        };
        let mut message = Message::EMPTY;
        message.encode(0, &Ok::<_, Error>(Some(&largest))).unwrap();
        assert_eq!(message.decode(), Ok(Ok::<_, Error>(Some(largest))));
    }
}
