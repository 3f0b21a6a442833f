//! The ring from a switch's port.

use mmio::{BrokenRing, Mended, Record, RecordConsumer};
use proto::net::{HEADER, Offload};

use crate::wire::{Frame, LONGEST, Refused, Wire};

/// The ring from a switch's port, and how far its first frame has come.
#[derive(Debug)]
pub struct Input {
    ring: RecordConsumer,
    /// The ring's first frame, if it was begun.
    begun: Option<Wire>,
    /// For fragments.
    id: u32,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame for the wire, of that many bytes.
    Piece(usize),
    /// A frame from the switch was dropped.
    Dropped(Refused),
    /// Nothing; the switch signals when there is something.
    Nothing,
}

impl Input {
    /// This ring's.
    pub const fn new(ring: RecordConsumer) -> Self {
        Self { ring, begun: None, id: 0 }
    }

    /// Takes the next frame, or the next piece of one that is longer than the wire takes. From a ring that a predecessor has
    /// broken nothing comes before the switch has signalled.
    pub fn next(&mut self, into: &mut [u8; LONGEST]) -> Next {
        // The second look is for what has come just before the switch was asked for a signal.
        for _ in 0..2 {
            let record = match self.ring.peek() {
                Ok(Some(record)) => record,
                Ok(None) => {
                    if self.ring.park() {
                        continue;
                    }
                    return Next::Nothing;
                }
                Err(BrokenRing) => {
                    self.begun = None;
                    if self.ring.mend() != Mended::Broken {
                        continue;
                    }
                    return Next::Nothing;
                }
            };
            let begun = match self.begun.take() {
                Some(wire) => Ok(wire),
                None => {
                    self.id = self.id.wrapping_add(1);
                    begin(&record, self.id)
                }
            };
            let piece = begun.and_then(|mut wire| {
                let len = wire.next(&Recorded(&record), into).ok_or(Refused::Malformed)?;
                Ok((len, Some(wire).filter(|wire| !wire.is_done())))
            });
            return match piece {
                Ok((len, rest)) => {
                    self.begun = rest;
                    if self.begun.is_none() {
                        record.release();
                    }
                    Next::Piece(len)
                }
                Err(refused) => {
                    record.release();
                    Next::Dropped(refused)
                }
            };
        }
        Next::Nothing
    }

    /// Whether the switch wants a signal; the caller must send it then.
    pub fn must_signal(&mut self) -> bool {
        self.ring.must_signal()
    }
}

/// The frame of a record.
struct Recorded<'a, 'r>(&'a Record<'r>);

impl Frame for Recorded<'_, '_> {
    fn size(&self) -> u32 {
        self.0.len().saturating_sub(HEADER as u32)
    }

    fn read(&self, at: u32, into: &mut [u8]) -> Option<()> {
        self.0.read(at.checked_add(HEADER as u32)?, into).ok()
    }
}

fn begin(record: &Record<'_>, id: u32) -> Result<Wire, Refused> {
    let mut header = [0; HEADER];
    record.read(0, &mut header).map_err(|_| Refused::Malformed)?;
    let frame = Recorded(record);
    let offload = Offload::parse(header, frame.size()).ok_or(Refused::Malformed)?;
    Wire::new(offload, &frame, id)
}
