//! Virtio as a driver meets it. Layouts and bits are written again from the specification.

mod block;
mod console;
mod driver;
mod entropy;
mod hostile;
mod messages;
mod network;
mod queue;
mod registers;
mod vsock;
mod window;

use super::*;
use crate::{
    Effect, Width,
    memory::fake::Fake,
    pci::{ConfigSpace, Function},
};
use driver::{Driver, RING, Ring};
use std::vec::Vec;

/// A device that answers a request with the bytes of it, backwards, as far as there is room.
#[derive(Clone, Debug, Default)]
struct Echo {
    /// Has no answer now.
    stuck: bool,
    config: [u8; 6],
    resets: u32,
}

impl Device for Echo {
    const KIND: Kind = Kind { id: 3, transitional: Some(0x1003), class: 0x0780 };
    const QUEUES: &'static [u16] = &[8, 16];
    const CONFIG: u16 = 6;

    fn features(&self) -> Features {
        Features::from_bits_retain(1 << 5 | 1 << 40)
    }

    fn read_config(&self, at: u16) -> u8 {
        self.config[usize::from(at)]
    }

    fn write_config(&mut self, at: u16, value: u8) {
        self.config[usize::from(at)] = value;
    }

    fn serve(&mut self, _queue: usize, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        while let Some(mut request) = requests.peek()? {
            if self.stuck {
                return Ok(Served::Waiting);
            }
            let mut bytes = [0; 256];
            assert!(request.readable() <= 1 << 32 && request.writable() <= 1 << 32);
            let len = request.read(&mut bytes)?;
            bytes[..len].reverse();
            request.write(&bytes[..len])?;
            request.finish()?;
        }
        Ok(Served::All)
    }

    fn reset(&mut self) {
        self.resets += 1;
    }
}
