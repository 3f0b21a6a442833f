//! Both rings of a switch's port.

use mmio::{RecordConsumer, RecordProducer};
use proto::net::{HEADER, LONGEST as LONGEST_RECORD, Mac};

use crate::input::{Input, Next};
use crate::wire::LONGEST;

/// The header of a frame of which nothing is left to be computed.
const COMPLETE: [u8; HEADER] = [0; HEADER];
/// Frames in a row that [`Port::receive`] drops before it gives up: the switch could send them for ever.
const DROPPED: usize = 64;

/// A component's port of a network.
#[derive(Debug)]
pub struct Port {
    mac: Mac,
    input: Input,
    output: RecordProducer,
}

/// The ring to the switch has no room for the frame, which is lost, as on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Port {
    /// The port with this address, at its end of the rings to the switch and from it.
    pub const fn new(mac: Mac, output: RecordProducer, input: RecordConsumer) -> Self {
        Self { mac, input: Input::new(input), output }
    }

    /// The address from which frames must be sent, unless the port is a bridge.
    pub const fn mac(&self) -> Mac {
        self.mac
    }

    /// Takes the next frame; returns how many bytes it has, or 0 where only frames that are none were found so far. If there
    /// is nothing, the switch signals when there is.
    pub fn receive(&mut self, into: &mut [u8; LONGEST]) -> Option<usize> {
        for _ in 0..DROPPED {
            match self.input.next(into) {
                Next::Piece(len) => return Some(len),
                Next::Dropped(_) => {}
                Next::Nothing => return None,
            }
        }
        // Not the end: the ring is not parked, and the caller has to come again.
        Some(0)
    }

    /// Sends a frame: from its destination address on, without padding and FCS, and with nothing left to be computed.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), Full> {
        let len = u32::try_from(frame.len()).ok().filter(|len| *len <= LONGEST_RECORD).ok_or(Full)?;
        let Ok(mut record) = self.output.reserve(HEADER as u32 + len) else {
            // It may be broken by a predecessor, and the switch has seen that there is a new client.
            self.output.mend();
            return Err(Full);
        };
        // Neither can fail: that much is reserved.
        if record.write(&COMPLETE).and_then(|()| record.write(frame)).is_ok() {
            record.publish();
        }
        Ok(())
    }

    /// Whether the switch wants a signal; the caller must send it then, before it waits.
    pub fn must_signal(&mut self) -> bool {
        self.input.must_signal() | self.output.must_signal()
    }
}
