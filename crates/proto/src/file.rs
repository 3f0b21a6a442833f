//! fileserver: read-only images by name. A read fills the buffer that client and server share; messages carry no data.

use heapless::Vec;
use layout::{
    Service, Slot,
    config::{self, Name},
    limits::{MAX_CLIENTS, MAX_IMAGES},
};
use mmio::{OutOfRange, SharedBuffer, Span, Window};
use serde::{Deserialize, Serialize};

use crate::wire::{Call, ClientId, IpcError, Message, Transport};

/// The server.
pub const SERVICE: Service = Service { word: "file", server: "fileserver", slot: Slot(12) };

/// Bytes of the buffer that a client shares with fileserver.
pub const BUFFER_BYTES: u64 = 64 * 1024;

/// What fileserver finds at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The images.
    pub files: Vec<FileEntry, MAX_IMAGES>,
    /// Clients; the endpoint's badge is the position.
    pub clients: Vec<FileClient, MAX_CLIENTS>,
}

/// One image of fileserver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The name that clients open.
    pub name: Name,
    /// Where it is mapped; `len` is the file's exact length.
    pub data: config::Window,
}

/// A client of fileserver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileClient {
    /// The client's name, for the log.
    pub name: Name,
    /// Buffer shared with the client: reads land here.
    pub buffer: config::Window,
    /// Images (positions in `files`) that it may open, bit by bit.
    pub may_open: u64,
}

/// Finds an image by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// As in the system description.
    pub name: Name,
}
impl Call for Open {
    const LABEL: u64 = 0x401;
    type Reply = Result<File, Error>;
}

/// An open image. It needs no close: the server has no state for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// The server's number for it, valid in any later call.
    pub id: u8,
    /// Length in bytes.
    pub size: u64,
}

/// Copies bytes of an image to the shared buffer. Returns their number: fewer than requested at the end of the image,
/// none beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// [`File::id`].
    pub id: u8,
    /// First byte in the image.
    pub offset: u64,
    /// Where in the buffer, and how many.
    pub into: Span,
}
impl Call for Read {
    const LABEL: u64 = 0x402;
    type Reply = Result<u32, Error>;
}

/// Why fileserver refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Error {
    /// The message was malformed or unknown.
    Ipc(IpcError),
    /// No such image, or this client may not open it: the reply does not tell which.
    NotFound,
    /// The span is not inside the client's buffer.
    OutOfRange,
    /// The image is shorter than the requested range.
    Short,
}

impl From<IpcError> for Error {
    fn from(error: IpcError) -> Self {
        Error::Ipc(error)
    }
}

impl From<OutOfRange> for Error {
    fn from(_: OutOfRange) -> Self {
        Error::OutOfRange
    }
}

/// A client of fileserver.
#[derive(Clone, Copy, Debug)]
pub struct Client<T>(pub T);

impl<T: Transport> Client<T> {
    /// See [`Open`].
    pub fn open(&self, name: &str) -> Result<File, Error> {
        // No image has a name that is longer than the field.
        let name = Name::try_from(name).map_err(|_| Error::NotFound)?;
        self.0.call(&Open { name })?
    }

    /// See [`Read`].
    pub fn read(&self, file: File, offset: u64, into: Span) -> Result<u32, Error> {
        self.0.call(&Read { id: file.id, offset, into })?
    }

    /// Copies `len` bytes of the image from `offset` on to offset `to` of `target`, through the shared buffer.
    pub fn copy(
        &self,
        file: File,
        offset: u64,
        len: u64,
        buffer: &SharedBuffer,
        target: &Window,
        to: u64,
    ) -> Result<(), Error> {
        let target = target.part(to, len)?;
        let mut done = 0;
        while done < len {
            let left = u32::try_from(len - done).unwrap_or(u32::MAX);
            let span = Span { len: buffer.whole().len.min(left), ..buffer.whole() };
            let at = offset.checked_add(done).ok_or(Error::Short)?;
            let count = match self.read(file, at, span)? {
                0 => return Err(Error::Short),
                count => u64::from(count),
            };
            // A count larger than the span, from a hostile server, is refused by the bounds of the span's window.
            buffer.window(span)?.copy_to(0, &target, done, count)?;
            done += count;
        }
        Ok(())
    }
}

/// What fileserver implements.
pub trait Serve {
    /// See [`Open`].
    fn open(&mut self, from: ClientId, call: Open) -> Result<File, Error>;
    /// See [`Read`].
    fn read(&mut self, from: ClientId, call: Read) -> Result<u32, Error>;
}

/// Handles one message.
pub fn dispatch(server: &mut impl Serve, from: ClientId, message: &mut Message) -> Result<(), IpcError> {
    match message.label {
        Open::LABEL => message.answer(|call| server.open(from, call)),
        Read::LABEL => message.answer(|call| server.read(from, call)),
        _ => Err(IpcError::UnknownLabel),
    }
}
