//! The images, the clients, and for each client the images that it may open and the buffer for its reads.
//! The server has no table of open files: a file's ID is the image's number, and each read checks the grant again.

use heapless::Vec;
use layout::{
    config::{self, Name},
    limits::{MAX_CLIENTS, MAX_IMAGES},
};
use mmio::{SharedBuffer, Window};
use proto::file::{Config, Error, File, FileClient, FileEntry, Open, Read, Serve};
use proto::wire::ClientId;

/// The server.
pub struct Server {
    images: Vec<Image, MAX_IMAGES>,
    clients: Vec<Client, MAX_CLIENTS>,
}

struct Image {
    name: Name,
    bytes: Window,
}

struct Client {
    buffer: SharedBuffer,
    may_open: u64,
}

impl Client {
    fn may_open(&self, image: usize) -> bool {
        image < MAX_IMAGES && self.may_open & (1 << image) != 0
    }
}

impl Server {
    /// The server that `config` describes; `map` returns the memory of one of its windows.
    pub fn new(config: &Config, map: impl Fn(config::Window) -> Window) -> Self {
        let image = |entry: &FileEntry| Image { name: entry.name.clone(), bytes: map(entry.data) };
        let client =
            |client: &FileClient| Client { buffer: SharedBuffer::new(map(client.buffer)), may_open: client.may_open };
        Self { images: config.files.iter().map(image).collect(), clients: config.clients.iter().map(client).collect() }
    }

    /// The number of images, and their total size in bytes.
    pub fn totals(&self) -> (usize, u64) {
        (self.images.len(), self.images.iter().map(|image| image.bytes.len()).sum())
    }

    /// The client with this badge. A badge that the configuration does not list gets the same error as an unknown name.
    fn client(&self, from: ClientId) -> Result<&Client, Error> {
        self.clients.get(from.index()).ok_or(Error::NotFound)
    }
}

impl Serve for Server {
    fn open(&mut self, from: ClientId, call: Open) -> Result<File, Error> {
        let client = self.client(from)?;
        let id = self.images.iter().position(|image| image.name == call.name).ok_or(Error::NotFound)?;
        // The same error as for an unknown name, so that a client cannot find out which other images there are.
        let granted = if client.may_open(id) { self.images.get(id) } else { None };
        let image = granted.ok_or(Error::NotFound)?;
        Ok(File { id: u8::try_from(id).map_err(|_| Error::NotFound)?, size: image.bytes.len() })
    }

    fn read(&mut self, from: ClientId, call: Read) -> Result<u32, Error> {
        let client = self.client(from)?;
        // The client may send any ID, so the grant is checked here as well.
        let id = usize::from(call.id);
        let granted = if client.may_open(id) { self.images.get(id) } else { None };
        let image = granted.ok_or(Error::NotFound)?.bytes;
        let into = client.buffer.window(call.into)?;
        let count = image.len().saturating_sub(call.offset).min(into.len());
        // An `offset` beyond the end reads 0 bytes, as usual for files; `copy_to` would refuse it.
        if count > 0 {
            image.copy_to(call.offset, &into, 0, count)?;
        }
        u32::try_from(count).map_err(|_| Error::OutOfRange)
    }
}
