//! A component's end of a channel: dataports, which are memory that both ends map, and events in both directions.
//!
//! ```ignore
//! let mut channel = Channel::new(0, &config.channels[0], rt::shared, rt::signal);
//! let mut text = [0; 64];
//! channel.dataport(0)?.read(0, &mut text)?;
//! channel.emit();
//! if channel.take() == 0 { rt::wait(); }
//! ```
//!
//! Events have no content: they are counted. Between two looks there may be any number of them, and [`Channel::take`] says
//! how many; a process that begins anew finds those that came while there was none. What is in a dataport, the other end may
//! change at any time, so there are only copies from and to it, and a copy must be checked, not the dataport.
//! Left out: what the bytes mean, and whose turn it is. For streams there are rings (`mmio::Ring`), for guests' sockets `vsock`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod dataport;
mod events;
#[cfg(test)]
mod tests;

pub use dataport::{Dataport, Refused};
pub use events::Events;
use heapless::Vec;
use layout::{Slot, config, limits::MAX_DATAPORTS, slot};
use mmio::Window;

/// An end of a channel.
#[derive(Debug)]
pub struct Channel {
    number: usize,
    signal: fn(Slot),
    events: Events,
    dataports: Vec<Dataport, MAX_DATAPORTS>,
}

impl Channel {
    /// The end that a process has as its channel `number`: with `rt::shared` and `rt::signal`.
    pub fn new(number: usize, config: &config::Channel, map: fn(config::Window) -> Window, signal: fn(Slot)) -> Self {
        let dataports = config.dataports.iter().map(|one| Dataport::new(map(one.window), one.writable));
        Self { number, signal, events: Events::new(map(config.events), config.first), dataports: dataports.collect() }
    }

    /// Dataport `n`, in the description's order; `None` if it has fewer.
    pub fn dataport(&self, n: usize) -> Option<Dataport> {
        self.dataports.get(n).copied()
    }

    /// Emits an event: whatever was written to dataports before is there when the other end sees it.
    pub fn emit(&mut self) {
        self.events.emit();
        (self.signal)(slot::channel(self.number));
    }

    /// How many events have come since the last call. If none, wait for `event::CHANNEL`.
    pub fn take(&mut self) -> u32 {
        self.events.take()
    }
}
