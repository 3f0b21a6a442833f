//! From the rings of a switch's port to the controller, and back.

use ethernet::{Input, LONGEST, Next, Refused};
use mmio::{RecordConsumer, RecordProducer};
use proto::net::HEADER;

use crate::card::{Arrival, Card, Registers};

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
    input: Input,
    counts: Counts,
}

impl<R: Registers> Uplink<R> {
    /// The driver of a controller, at these ends of a port's rings.
    pub fn new(card: Card<R>, output: RecordProducer, input: RecordConsumer) -> Self {
        Self { card, output, input: Input::new(input), counts: Counts::default() }
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
                    // It may be broken by a predecessor, and the switch has seen that there is a new driver.
                    output.mend();
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
        let mut piece = [0; LONGEST];
        for _ in 0..TURN {
            if !self.card.has_room() {
                return false;
            }
            match self.input.next(&mut piece) {
                Next::Piece(len) => {
                    self.card.send(piece.get(..len).unwrap_or_default());
                    self.counts.sent += 1;
                }
                Next::Dropped(refused) => self.refuse(refused),
                Next::Nothing => return false,
            }
        }
        true
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
