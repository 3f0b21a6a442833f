//! From the rings of a switch's port to the controller, and back.

use mmio::{BrokenRing, Record, RecordConsumer, RecordProducer};
use proto::net::{HEADER, Offload};

use crate::card::{Arrival, Card, Registers};
use crate::wire::{Frame, LONGEST, Refused, Wire};

/// Frames of each direction in a turn.
const TURN: usize = 64;
/// The header of a frame of which nothing is left to be computed.
const COMPLETE: [u8; HEADER] = [0; HEADER];

/// Frames since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Frames that went to the wire, each piece for itself.
    pub sent: u64,
    /// Frames from the wire that went to the switch.
    pub received: u64,
    /// Frames for the wire that it does not take.
    pub too_long: u64,
    /// Frames for the wire that are not what their headers say.
    pub malformed: u64,
    /// Frames from the wire that the controller has found damaged, or that it says are impossible.
    pub damaged: u64,
    /// Frames from the wire for which the ring to the switch had no room.
    pub dropped: u64,
}

/// The driver, without its process.
#[derive(Debug)]
pub struct Uplink<R> {
    card: Card<R>,
    /// To the switch, and from it.
    output: RecordProducer,
    input: RecordConsumer,
    /// The first frame of the ring from the switch, if it was begun.
    begun: Option<Wire>,
    /// For fragments.
    id: u32,
    counts: Counts,
    broken: bool,
}

impl<R: Registers> Uplink<R> {
    /// The driver of a controller, at these ends of a port's rings.
    pub fn new(card: Card<R>, output: RecordProducer, input: RecordConsumer) -> Self {
        Self { card, output, input, begun: None, id: 0, counts: Counts::default(), broken: false }
    }

    /// The controller.
    pub const fn card(&mut self) -> &mut Card<R> {
        &mut self.card
    }

    /// Frames since the start.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Moves frames, in turns of both directions. Returns whether there may be more.
    pub fn turn(&mut self) -> bool {
        let more = self.receive();
        let more = self.send() || more;
        self.card.tell();
        more
    }

    /// Whether the switch wants a signal; the caller must send it then.
    pub fn must_signal(&mut self) -> bool {
        self.output.must_signal() | self.input.must_signal()
    }

    fn receive(&mut self) -> bool {
        let Self { card, output, counts, .. } = self;
        for _ in 0..TURN {
            let taken = card.take(|memory, at, len| {
                let Ok(mut record) = output.reserve(HEADER as u32 + len) else {
                    counts.dropped += 1;
                    return;
                };
                // Cannot fail: that much is reserved, and the frame is in the memory.
                if record.write(&COMPLETE).and_then(|()| record.copy_from(memory, at, len)).is_ok() {
                    record.publish();
                    counts.received += 1;
                }
            });
            match taken {
                Some(Arrival::Frame) => {}
                Some(Arrival::Bad) => counts.damaged += 1,
                None => return false,
            }
        }
        true
    }

    fn send(&mut self) -> bool {
        for _ in 0..TURN {
            match self.piece() {
                Step::Done => {}
                Step::Idle => return false,
            }
        }
        true
    }

    /// Sends the next piece of the first frame from the switch.
    fn piece(&mut self) -> Step {
        if self.broken || !self.card.has_room() {
            return Step::Idle;
        }
        let record = match self.input.peek() {
            Ok(Some(record)) => record,
            // A broken ring is not waited for, and the next look finds out.
            Ok(None) => return if self.input.park() { Step::Done } else { Step::Idle },
            Err(BrokenRing) => {
                self.broken = true;
                return Step::Idle;
            }
        };
        let mut wire = match self.begun.take() {
            Some(wire) => wire,
            None => {
                self.id = self.id.wrapping_add(1);
                match begin(&record, self.id) {
                    Ok(wire) => wire,
                    Err(refused) => {
                        record.release();
                        self.refuse(refused);
                        return Step::Done;
                    }
                }
            }
        };
        let mut piece = [0; LONGEST];
        let len = wire.next(&Recorded(&record), &mut piece);
        match len.and_then(|len| piece.get(..len)) {
            Some(piece) if wire.is_done() => {
                self.card.send(piece);
                record.release();
            }
            Some(piece) => {
                self.card.send(piece);
                self.begun = Some(wire);
            }
            None => {
                record.release();
                self.refuse(Refused::Malformed);
                return Step::Done;
            }
        }
        self.counts.sent += 1;
        Step::Done
    }

    // Rare: formatting stays out of the loop that moves frames.
    #[cold]
    #[inline(never)]
    fn refuse(&mut self, refused: Refused) {
        let (count, why) = match refused {
            Refused::TooLong => (&mut self.counts.too_long, "too long for the wire"),
            Refused::Malformed => (&mut self.counts.malformed, "not what their headers say"),
        };
        *count += 1;
        if count.is_power_of_two() {
            log::warn!("{count} frames dropped that are {why}");
        }
    }
}

enum Step {
    Done,
    /// Nothing can be sent before a signal or an interrupt.
    Idle,
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
    let mut header = COMPLETE;
    record.read(0, &mut header).map_err(|_| Refused::Malformed)?;
    let frame = Recorded(record);
    let offload = Offload::parse(header, frame.size()).ok_or(Refused::Malformed)?;
    Wire::new(offload, &frame, id)
}
