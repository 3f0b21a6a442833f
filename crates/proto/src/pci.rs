//! pci-server: the list of the machine's functions (PCI Local Bus Specification 3.0, chapter 6), and a client's access
//! to its own. A client numbers its own functions from 0, and accesses them by one call per access (mediated), or by
//! port and frame capabilities that pci-server hands over once (direct). Configuration space is always mediated, and
//! virtual.

mod config;
mod mediated;

use heapless::Vec;
use layout::limits::{MAX_FUNCTION_LINES, MAX_PCI_FUNCTIONS, MAX_PCI_PORTS};
use layout::{Bdf, Service, Slot};
use serde::{Deserialize, Serialize};

use crate::wire::{Call, ClientId, IpcError, Message, Transport};

pub use config::{Config, Dma, Intx, PciClient, PciFunction, PciPorts};
pub use mediated::{Read, Target, Width, Write};

/// The server.
pub const SERVICE: Service = Service { word: "pci", server: "pci-server", slot: Slot(8) };

/// Most capabilities listed of one function.
pub const MAX_CAPABILITIES: usize = 16;

/// Returns a function of the machine by its position in the list; none after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetFunction {
    /// 0 is the first, in the order of bus, device and function.
    pub index: u16,
}
impl Call for GetFunction {
    const LABEL: u64 = 0x501;
    type Reply = Result<Option<Function>, Error>;
}

/// One function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Where it is.
    pub address: Bdf,
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
    /// BARs, by index. The entry of the upper half of a 64-bit BAR is `None`.
    pub bars: [Option<Bar>; 6],
    /// Interrupt pin, 1 to 4 for INTA to INTD; 0 is none.
    pub pin: u8,
    /// Interrupt line, as the firmware wrote it.
    pub line: u8,
    /// Capability list, up to its first invalid entry and at most [`MAX_CAPABILITIES`].
    pub capabilities: Vec<Capability, MAX_CAPABILITIES>,
}

/// Header layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Header {
    /// Type 0.
    Device,
    /// Type 1: PCI-to-PCI bridge.
    Bridge {
        /// The bus directly behind it.
        secondary: u8,
        /// The last bus behind it.
        subordinate: u8,
    },
    /// Any other type.
    Other(u8),
}

/// A base address register (BAR).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Ports or memory.
    pub kind: BarKind,
    /// First port or physical address; 0 where the firmware assigned none.
    pub base: u64,
    /// Bytes (ports), a power of two.
    pub size: u64,
}

/// Kinds of BARs.
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

/// Returns one of the caller's functions by its number; none after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetGrant {
    /// 0 is the first.
    pub index: u8,
}
impl Call for GetGrant {
    const LABEL: u64 = 0x502;
    type Reply = Result<Option<Grant>, Error>;
}

/// A client's access to one of its functions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The function, with its real BARs.
    pub function: Function,
    /// How to access each BAR.
    pub bars: [Access; 6],
    /// Pages of each BAR that are not handed over even if the others are, first and last: those of a table of MSI-X.
    pub kept: [Option<(u16, u16)>; 6],
    /// Its interrupt lines.
    pub lines: Vec<GrantedLine, MAX_FUNCTION_LINES>,
}

/// How to access a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Not at all: the BAR does not exist, or the firmware assigned no address.
    No,
    /// By calls.
    Mediated,
    /// By capability: [`TakePorts`] or [`TakeFrame`].
    Direct {
        /// Frames: log2 of their size, 12 or 21. Ports: 0.
        bits: u8,
        /// Frames: how many. Ports: 1.
        count: u16,
    },
}

/// An interrupt line of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedLine {
    /// The line at irq-server.
    pub line: u8,
    /// The ISA interrupt that drivers expect it to be, for devices at ISA addresses (IDE: 14 and 15).
    pub isa: Option<u8>,
    /// Level-triggered; else edge-triggered.
    pub level: bool,
    /// How the function sends messages, if this line is theirs.
    pub messages: Option<Messages>,
}

/// How a function sends messages. The owner's virtual registers say how it wants the interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Messages {
    /// By MSI, at this offset: as the message there if it is enabled, else as on a pin, which is level-triggered.
    Msi(u8),
    /// By MSI-X, at offset `at`: as the message in the entry at `entry`, a physical address, and only while that is enabled.
    Msix {
        /// Of the capability.
        at: u8,
        /// Of the table's only entry.
        entry: u64,
    },
}

/// Returns a range of the caller's ports that belongs to no function, by its number; none after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetPorts {
    /// 0 is the first.
    pub index: u8,
}
impl Call for GetPorts {
    const LABEL: u64 = 0x503;
    type Reply = Result<Option<(u16, u16)>, Error>;
}

/// Hands over the port capability of a range: of an I/O BAR, or of [`GetPorts`]. The reply has the capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakePorts {
    /// The first port of the range.
    pub first: u16,
}
impl Call for TakePorts {
    const LABEL: u64 = 0x504;
    type Reply = Result<(), Error>;
}

/// Hands over a frame of a memory BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeFrame {
    /// The function, among the caller's own.
    pub function: u8,
    /// The base address register, 0 to 5.
    pub bar: u8,
    /// Which of its frames.
    pub page: u16,
}
impl Call for TakeFrame {
    const LABEL: u64 = 0x505;
    type Reply = Result<(), Error>;
}

/// The guest was reset: turns bus mastering off, resets the functions and restores their configuration space. If the
/// client's budget of waits is used up, omits the steps that need a wait. The caller keeps its capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset;
impl Call for Reset {
    const LABEL: u64 = 0x506;
    type Reply = Result<(), Error>;
}

/// The guest has stopped: as [`Reset`], and revokes everything that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release;
impl Call for Release {
    const LABEL: u64 = 0x507;
    type Reply = Result<(), Error>;
}

/// Masks or unmasks the messages of a function, whose owner cannot keep up with them: neither the kernel nor irq-server can mask
/// messages. Messages that come meanwhile may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// The function, among the caller's own.
    pub function: u8,
    /// Mask; else unmask.
    pub masked: bool,
}
impl Call for Mask {
    const LABEL: u64 = 0x50a;
    type Reply = Result<(), Error>;
}

/// Why pci-server refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// The message was malformed or unknown.
    Ipc(IpcError),
    /// The description does not allow this client to list the bus.
    NotAllowed,
    /// The caller has no such function, register, frame or range; or the function sends no messages.
    NotYours,
    /// The access crosses the end of its range, or is not aligned.
    Straddles,
    /// The function must not be bus master: it has no I/O address space and is not trusted, or its group has another owner.
    NoDma,
    /// The guest may not write the register: message signalled interrupts, or one that changed a BAR.
    ReadOnly,
    /// root-task or the kernel refused the resource at the start.
    Unavailable,
    /// The request was granted, but the reply has no capability: the receive slot was not free.
    NoCapability,
    /// A reset was hurried, since the caller's budget of waits is used up. Only logged, never returned.
    TooOften,
}

impl From<IpcError> for Error {
    fn from(error: IpcError) -> Self {
        Error::Ipc(error)
    }
}

/// A client of pci-server. To take capabilities, its transport must have a free slot (`rt::Endpoint::receive_into`).
#[derive(Clone, Copy, Debug)]
pub struct Client<T>(pub T);

impl<T: Transport> Client<T> {
    /// See [`GetFunction`].
    pub fn function(&self, index: u16) -> Result<Option<Function>, Error> {
        self.0.call(&GetFunction { index })?
    }

    /// See [`GetGrant`].
    pub fn grant(&self, index: u8) -> Result<Option<Grant>, Error> {
        self.0.call(&GetGrant { index })?
    }

    /// See [`GetPorts`].
    pub fn ports(&self, index: u8) -> Result<Option<(u16, u16)>, Error> {
        self.0.call(&GetPorts { index })?
    }

    /// The caller's functions with their numbers, up to the last or to an error; at most [`MAX_PCI_FUNCTIONS`], even if
    /// a hostile server reports more.
    pub fn grants(&self) -> impl Iterator<Item = Result<(u8, Grant), Error>> {
        let grant = |index| self.grant(index).transpose().map(|grant| grant.map(|grant| (index, grant)));
        up_to_an_error((0..MAX_PCI_FUNCTIONS as u8).map_while(grant))
    }

    /// The caller's ranges of ports that belong to no function, likewise; at most [`MAX_PCI_PORTS`].
    pub fn all_ports(&self) -> impl Iterator<Item = Result<(u16, u16), Error>> {
        up_to_an_error((0..MAX_PCI_PORTS as u8).map_while(|index| self.ports(index).transpose()))
    }

    /// See [`TakePorts`]. Returns the CPtr of the capability.
    pub fn take_ports(&self, first: u16) -> Result<u64, Error> {
        let (reply, ports) = self.0.call_for_cap(&TakePorts { first })?;
        reply?;
        ports.ok_or(Error::NoCapability)
    }

    /// See [`TakeFrame`]. Returns the CPtr of the capability.
    pub fn take_frame(&self, call: TakeFrame) -> Result<u64, Error> {
        let (reply, frame) = self.0.call_for_cap(&call)?;
        reply?;
        frame.ok_or(Error::NoCapability)
    }

    /// See [`Reset`].
    pub fn reset(&self) -> Result<(), Error> {
        self.0.call(&Reset)?
    }

    /// See [`Release`].
    pub fn release(&self) -> Result<(), Error> {
        self.0.call(&Release)?
    }

    /// See [`Mask`].
    pub fn mask(&self, function: u8, masked: bool) -> Result<(), Error> {
        self.0.call(&Mask { function, masked })?
    }

    /// See [`Read`].
    #[inline]
    pub fn read(&self, target: Target, width: Width) -> Result<u32, Error> {
        Error::of_answer(self.0.exchange_words(Read::LABEL, Read { target, width }.words())?)
    }

    /// See [`Write`].
    #[inline]
    pub fn write(&self, target: Target, width: Width, value: u32) -> Result<(), Error> {
        let [how, at, _] = Read { target, width }.words();
        Error::of_answer(self.0.exchange_words(Write::LABEL, [how, at, value.into()])?).map(|_| ())
    }
}

/// Ends the list after the first error.
fn up_to_an_error<T>(answers: impl Iterator<Item = Result<T, Error>>) -> impl Iterator<Item = Result<T, Error>> {
    answers.scan(true, |goes_on, answer| core::mem::replace(goes_on, answer.is_ok()).then_some(answer))
}

/// What pci-server implements. Methods that hand over a capability return its CPtr.
pub trait Serve {
    /// See [`GetFunction`].
    fn function(&mut self, from: ClientId, call: GetFunction) -> Result<Option<Function>, Error>;
    /// See [`GetGrant`].
    fn grant(&mut self, from: ClientId, call: GetGrant) -> Result<Option<Grant>, Error>;
    /// See [`GetPorts`].
    fn ports(&mut self, from: ClientId, call: GetPorts) -> Result<Option<(u16, u16)>, Error>;
    /// See [`TakePorts`].
    fn take_ports(&mut self, from: ClientId, call: TakePorts) -> Result<u64, Error>;
    /// See [`TakeFrame`].
    fn take_frame(&mut self, from: ClientId, call: TakeFrame) -> Result<u64, Error>;
    /// See [`Reset`].
    fn reset(&mut self, from: ClientId) -> Result<(), Error>;
    /// See [`Release`].
    fn release(&mut self, from: ClientId) -> Result<(), Error>;
    /// See [`Mask`].
    fn mask(&mut self, from: ClientId, call: Mask) -> Result<(), Error>;
    /// See [`Read`].
    fn read(&mut self, from: ClientId, call: Read) -> Result<u32, Error>;
    /// See [`Write`].
    fn write(&mut self, from: ClientId, call: Write) -> Result<(), Error>;
}

/// Handles one message.
#[inline]
pub fn dispatch(server: &mut impl Serve, from: ClientId, message: &mut Message) -> Result<(), IpcError> {
    match message.label {
        Read::LABEL | Write::LABEL => access(server, from, message),
        _ => infrequent(server, from, message),
    }
}

/// Handles the infrequent calls. Not inlined: the accesses would have to reserve its large stack frame.
#[inline(never)]
fn infrequent(server: &mut impl Serve, from: ClientId, message: &mut Message) -> Result<(), IpcError> {
    match message.label {
        GetFunction::LABEL => message.answer(|call| server.function(from, call)),
        GetGrant::LABEL => message.answer(|call| server.grant(from, call)),
        GetPorts::LABEL => message.answer(|call| server.ports(from, call)),
        TakePorts::LABEL => message.answer_with_cap(|call| handed_over(server.take_ports(from, call))),
        TakeFrame::LABEL => message.answer_with_cap(|call| handed_over(server.take_frame(from, call))),
        Reset::LABEL => message.answer(|Reset| server.reset(from)),
        Release::LABEL => message.answer(|Release| server.release(from)),
        Mask::LABEL => message.answer(|call| server.mask(from, call)),
        _ => Err(IpcError::UnknownLabel),
    }
}

#[inline]
fn access(server: &mut impl Serve, from: ClientId, message: &mut Message) -> Result<(), IpcError> {
    let reads = message.label == Read::LABEL;
    message.answer_words(|[how, at, value]| {
        let Read { target, width } = Read::of_words(how, at)?;
        // As strict as for encoded messages: an unused word must be 0.
        match u32::try_from(value) {
            Ok(0) if reads => Ok(Error::answer(server.read(from, Read { target, width }))),
            Ok(value) if !reads => Ok(Error::answer(server.write(from, Write { target, width, value }).map(|()| 0))),
            _ => Err(IpcError::Malformed),
        }
    })
}

fn handed_over(taken: Result<u64, Error>) -> (Result<(), Error>, Option<u64>) {
    match taken {
        Ok(cap) => (Ok(()), Some(cap)),
        Err(error) => (Err(error), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::Loopback;

    fn function() -> Function {
        let address = Bdf { bus: 0, device: 3, function: 0 };
        Function {
            address,
            vendor: 0x8086,
            device: 0x100e,
            subsystem: (0, 0),
            class: [2, 0, 0],
            revision: 0,
            header: Header::Device,
            bars: [None; 6],
            pin: 1,
            line: 11,
            capabilities: Vec::new(),
        }
    }

    /// A server whose lists never end.
    fn endless(message: &mut Message) -> Result<(), IpcError> {
        match message.label {
            GetGrant::LABEL => message.answer(|GetGrant { .. }| {
                Ok(Some(Grant { function: function(), bars: [Access::No; 6], kept: [None; 6], lines: Vec::new() }))
            }),
            GetPorts::LABEL => message.answer(|GetPorts { .. }| Ok(Some((0x300, 0x31f)))),
            _ => Err(IpcError::UnknownLabel),
        }
    }

    #[test]
    fn the_list_of_a_server_that_never_ends_it_is_bounded() {
        let client = Client(Loopback::new(endless));
        assert_eq!(client.grants().count(), MAX_PCI_FUNCTIONS);
        assert!(client.grants().map(|grant| grant.map(|(index, _)| index)).eq((0..MAX_PCI_FUNCTIONS as u8).map(Ok)));
        assert_eq!(client.all_ports().count(), MAX_PCI_PORTS);
        // A list also ends after an error.
        let broken = Client(Loopback::new(|_: &mut Message| Err(IpcError::Malformed)));
        assert_eq!(broken.grants().collect::<std::vec::Vec<_>>(), [Err(IpcError::Malformed.into())]);
        assert_eq!(broken.all_ports().count(), 1);
    }

    #[test]
    fn the_largest_grant_fits_a_message() {
        let bar = Bar { kind: BarKind::Memory64 { prefetchable: true }, base: u64::MAX, size: u64::MAX };
        let mut capabilities = Vec::new();
        while capabilities.push(Capability { id: 0xff, at: 0xff }).is_ok() {}
        let largest = Function {
            address: Bdf { bus: 0xff, device: 31, function: 7 },
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
        let line = GrantedLine {
            line: 0xff,
            isa: Some(0xff),
            level: true,
            messages: Some(Messages::Msix { at: 0xff, entry: u64::MAX }),
        };
        let largest = Grant {
            function: largest,
            bars: [Access::Direct { bits: 0xff, count: u16::MAX }; 6],
            kept: [Some((u16::MAX, u16::MAX)); 6],
            lines: [line, line].into_iter().collect(),
        };
        let mut message = Message::EMPTY;
        message.encode(0, &Ok::<_, Error>(Some(&largest))).unwrap();
        assert_eq!(message.decode(), Ok(Ok::<_, Error>(Some(largest))));
    }
}
