//! Who may read what: images, clients, and for each client the images it may open and the buffer that reads fill.
//! It keeps no open files: an open one is a number, and every use of it is checked anew.

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
    /// The server that `config` describes; `map` gives the memory behind one of its windows.
    pub fn new(config: &Config, map: impl Fn(config::Window) -> Window) -> Self {
        let image = |entry: &FileEntry| Image { name: entry.name.clone(), bytes: map(entry.data) };
        let client =
            |client: &FileClient| Client { buffer: SharedBuffer::new(map(client.buffer)), may_open: client.may_open };
        Self { images: config.files.iter().map(image).collect(), clients: config.clients.iter().map(client).collect() }
    }

    /// Images, and their bytes in all.
    pub fn totals(&self) -> (usize, u64) {
        (self.images.len(), self.images.iter().map(|image| image.bytes.len()).sum())
    }

    /// A caller that the configuration does not list may open nothing.
    fn client(&self, from: ClientId) -> Result<&Client, Error> {
        self.clients.get(from.index()).ok_or(Error::NotFound)
    }
}

impl Serve for Server {
    fn open(&mut self, from: ClientId, call: Open) -> Result<File, Error> {
        let client = self.client(from)?;
        let id = self.images.iter().position(|image| image.name == call.name).ok_or(Error::NotFound)?;
        let granted = if client.may_open(id) { self.images.get(id) } else { None };
        let image = granted.ok_or(Error::NotFound)?;
        Ok(File { id: u8::try_from(id).map_err(|_| Error::NotFound)?, size: image.bytes.len() })
    }

    fn read(&mut self, from: ClientId, call: Read) -> Result<u32, Error> {
        let client = self.client(from)?;
        let id = usize::from(call.id);
        let granted = if client.may_open(id) { self.images.get(id) } else { None };
        let image = granted.ok_or(Error::NotFound)?.bytes;
        let into = client.buffer.window(call.into)?;
        let count = image.len().saturating_sub(call.offset).min(into.len());
        // Behind the end there is nothing to copy, and `offset` would be refused.
        if count > 0 {
            image.copy_to(call.offset, &into, 0, count)?;
        }
        u32::try_from(count).map_err(|_| Error::OutOfRange)
    }
}
