//! The entropy device: each request is a buffer, filled with random bytes.
//!
//! VIRTIO 1.2, section 5.4. A request gets at most [`MOST`] bytes, which bounds its time: the used ring gives the
//! driver the number of bytes, and it asks again.

use super::{Broken, Device, Kind, Requests, Served};
use crate::GuestMemory;

/// Bytes of an answer at most: one that Linux's core asks for (`rng_buffer_size`).
pub const MOST: usize = 64;

/// Where random bytes come from.
pub trait EntropySource {
    /// Fills in random bytes from the beginning on; returns how many. Fewer than asked for, or none, if there are no more now.
    fn fill(&mut self, into: &mut [u8]) -> usize;
}

impl<F: FnMut(&mut [u8]) -> usize> EntropySource for F {
    fn fill(&mut self, into: &mut [u8]) -> usize {
        self(into)
    }
}

/// The device.
#[derive(Clone, Debug)]
pub struct Entropy<S> {
    source: S,
}

impl<S: EntropySource> Entropy<S> {
    /// A device with the random bytes of `source`.
    pub const fn new(source: S) -> Self {
        Self { source }
    }
}

impl<S: EntropySource> Device for Entropy<S> {
    const KIND: Kind = Kind { id: 4, transitional: Some(0x1005), class: 0x00ff };
    const QUEUES: &'static [u16] = &[8];

    fn serve(&mut self, _queue: usize, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        while let Some(mut request) = requests.peek()? {
            // "The driver MUST NOT place device-readable buffers into the queue" (5.4.6.1).
            if request.readable() > 0 {
                return Err(Broken::Request);
            }
            let mut bytes = [0; MOST];
            let room = usize::try_from(request.writable()).unwrap_or(MOST).min(MOST);
            let filled = self.source.fill(bytes.get_mut(..room).unwrap_or_default());
            if filled == 0 && room > 0 {
                return Ok(Served::Waiting);
            }
            request.write(bytes.get(..filled.min(room)).unwrap_or_default())?;
            request.finish()?;
        }
        Ok(Served::All)
    }
}
