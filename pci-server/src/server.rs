//! Who may know what. So far there is one right: to list all functions of the machine.

use heapless::Vec;
use layout::config::{MAX_CLIENTS, Pci};
use proto::pci::{Error, Function, GetFunction, GetGrant, GetPorts, Grant, Read, Serve, TakeFrame, TakePorts, Write};
use proto::wire::ClientId;

use crate::bus::Listing;

/// The server.
pub struct Server {
    listing: Listing,
    /// By client.
    may_enumerate: Vec<bool, MAX_CLIENTS>,
}

impl Server {
    /// The server of the functions in `listing`, with the rights in `config`.
    pub fn new(listing: Listing, config: &Pci) -> Self {
        Self { listing, may_enumerate: config.clients.iter().map(|client| client.enumerate).collect() }
    }
}

impl Serve for Server {
    fn function(&mut self, from: ClientId, call: GetFunction) -> Result<Option<Function>, Error> {
        match self.may_enumerate.get(from.index()) {
            Some(true) => Ok(self.listing.functions.get(usize::from(call.index)).cloned()),
            _ => Err(Error::NotAllowed),
        }
    }

    fn grant(&mut self, _: ClientId, _: GetGrant) -> Result<Option<Grant>, Error> {
        Ok(None)
    }

    fn ports(&mut self, _: ClientId, _: GetPorts) -> Result<Option<(u16, u16)>, Error> {
        Ok(None)
    }

    fn take_ports(&mut self, _: ClientId, _: TakePorts) -> Result<u64, Error> {
        Err(Error::NotYours)
    }

    fn take_frame(&mut self, _: ClientId, _: TakeFrame) -> Result<u64, Error> {
        Err(Error::NotYours)
    }

    fn reset(&mut self, _: ClientId) -> Result<(), Error> {
        Ok(())
    }

    fn release(&mut self, _: ClientId) -> Result<(), Error> {
        Ok(())
    }

    fn read(&mut self, _: ClientId, _: Read) -> Result<u32, Error> {
        Err(Error::NotYours)
    }

    fn write(&mut self, _: ClientId, _: Write) -> Result<(), Error> {
        Err(Error::NotYours)
    }
}
