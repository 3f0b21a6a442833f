//! The socket device: packets of stream sockets go to a ring of records and come from another one.
//!
//! VIRTIO 1.2, section 5.10. A record is a packet: `struct virtio_vsock_hdr`, 44 bytes, then as many bytes as its `len` says. Who
//! may send what to whom, the other end of the rings decides. It is told by a record of one byte when the driver begins
//! to answer ([`UP`]) and when it is gone ([`DOWN`]), and says by such a record that it has lost all connections.
//! Nothing is lost here: where a ring or a queue is full, the rest waits where it is. How much is under way on a
//! connection, its two ends agree on; this device does not read their credits.
//! Left out: sequenced packets, and packets of more than 64 KiB from the driver, which Linux does not send.

use super::{Broken, Device, Features, Kind, Requests, Served};
use crate::GuestMemory;
use mmio::{BrokenRing, Mended, NoRoom, RecordConsumer, RecordProducer};

/// Bytes of a packet's header.
const HEADER: u32 = 44;
/// Where its `len` is.
const LEN: core::ops::Range<usize> = 24..28;
/// Bytes of the longest packet behind the header.
const LONGEST: u32 = 64 << 10;
/// To the other end of the rings: a driver answers from now on, and knows of no connection.
pub const UP: [u8; 1] = [1];
/// To it: nobody answers.
pub const DOWN: [u8; 1] = [0];
/// `VIRTIO_VSOCK_EVENT_TRANSPORT_RESET` (5.10.6.7), as the driver gets it.
const TRANSPORT_RESET: [u8; 4] = [0; 4];
/// Records that one turn takes at most.
const TURN: usize = 256;
/// Records that are dropped at most where a reset empties the ring.
const FLUSH: usize = 1 << 14;

/// Numbers of the queues.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Feature bit of the device type (5.10.3).
const STREAM: u64 = 1 << 0;

/// The device.
#[derive(Debug)]
pub struct Vsock {
    cid: u32,
    output: RecordProducer,
    input: RecordConsumer,
    /// Where the rest of the next record begins, of which the guest has a part.
    at: u32,
    /// A driver answers.
    up: bool,
    /// What the other end was told of that last; `None` if it has to be told in any case.
    told: Option<bool>,
    /// The driver is to be told that its connections are lost.
    interrupted: bool,
    /// A ring does not work any more.
    broken: bool,
    /// As the owner knows it.
    noted: bool,
    /// The other end of the rings wants a signal.
    doorbell: bool,
}

impl Vsock {
    /// A device with this address, which sends to `output` and receives from `input`.
    pub const fn new(cid: u32, output: RecordProducer, input: RecordConsumer) -> Self {
        Self {
            cid,
            output,
            input,
            at: HEADER,
            up: false,
            told: None,
            interrupted: false,
            broken: false,
            noted: false,
            doorbell: false,
        }
    }

    /// Whether the other end of the rings is to be signalled now.
    pub const fn take_doorbell(&mut self) -> bool {
        core::mem::replace(&mut self.doorbell, false)
    }

    /// Whether the rings have stopped to work since the last call.
    pub const fn take_broken(&mut self) -> bool {
        let noted = core::mem::replace(&mut self.noted, self.broken);
        self.broken && !noted
    }

    /// Tells the other end of the rings whether a driver answers, if it does not know. `false` if that has to wait for room;
    /// packets wait meanwhile.
    pub fn announce(&mut self) -> bool {
        if self.broken && self.input.mend().max(self.output.mend()) != Mended::Broken {
            (self.broken, self.told, self.at) = (false, None, HEADER);
        }
        while !self.broken && self.told != Some(self.up) {
            match self.output.reserve(UP.len() as u32) {
                Ok(mut record) => {
                    // Cannot fail: that much is reserved.
                    let _ = record.write(if self.up { &UP } else { &DOWN });
                    record.publish();
                    self.told = Some(self.up);
                }
                Err(NoRoom::Full) => {
                    if !self.output.park(UP.len() as u32) {
                        return false;
                    }
                }
                Err(NoRoom::TooLong | NoRoom::Broken) => self.give_up(),
            }
        }
        self.doorbell |= self.output.must_signal();
        true
    }

    /// The rings are of no use any more, so no connection is.
    const fn give_up(&mut self) {
        if !self.broken {
            self.interrupt();
        }
        self.broken = true;
    }

    const fn interrupt(&mut self) {
        self.interrupted = true;
        // Has the device polled, and with it the event queue: it may be the driver that has the device look here.
        self.doorbell = true;
    }

    fn receive(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        for _ in 0..TURN {
            match self.deliver(requests)? {
                Step::Done => {}
                Step::NoBuffer => return Ok(Served::All),
                Step::NoPacket => return Ok(Served::Held),
            }
        }
        Ok(Served::Waiting)
    }

    /// Moves a packet, or as much of it as there is room for, to the guest's next buffer. What is left then is a packet of
    /// its own, with the same header.
    fn deliver(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Step, Broken> {
        let record = match self.input.peek() {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(if self.input.park() { Step::Done } else { Step::NoPacket }),
            Err(BrokenRing) => {
                self.give_up();
                return Ok(Step::NoPacket);
            }
        };
        let mut header = [0; HEADER as usize];
        if record.read(0, &mut header).is_err() {
            // Not a packet: the other end has begun again, and knows of no connection and of nobody who answers.
            record.release();
            self.told = None;
            self.interrupt();
            return Ok(Step::Done);
        }
        let Some(mut request) = requests.peek()? else { return Ok(Step::NoBuffer) };
        let room = request.writable().checked_sub(HEADER.into()).filter(|_| request.readable() == 0);
        let left = record.len().saturating_sub(self.at);
        let part = room.map_or(0, |room| u32::try_from(room).unwrap_or(left).min(left));
        // "The driver SHOULD populate the rx virtqueue with buffers" (5.10.6.2), which have room for a header and data.
        if room.is_none() || (part == 0 && left > 0) {
            return Err(Broken::Request);
        }
        if let Some(len) = header.get_mut(LEN) {
            len.copy_from_slice(&part.to_le_bytes());
        }
        request.write(&header)?;
        request.receive(&record, self.at)?;
        request.finish()?;
        if part < left {
            self.at += part;
        } else {
            self.at = HEADER;
            record.release();
        }
        Ok(Step::Done)
    }

    fn transmit(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        while let Some(mut request) = requests.peek()? {
            let mut header = [0; HEADER as usize];
            let given = request.read(&mut header)?;
            let len = header.get(LEN).and_then(|len| len.try_into().ok()).map_or(0, u32::from_le_bytes);
            let is_whole = given == header.len() && u64::from(len) <= request.readable();
            if !is_whole || len > LONGEST || request.writable() > 0 {
                return Err(Broken::Request);
            }
            match self.output.reserve(HEADER + len) {
                Ok(mut record) => {
                    // Cannot fail: that much is reserved.
                    let _ = record.write(&header);
                    request.send(&mut record)?;
                    record.publish();
                }
                Err(NoRoom::Full) => match self.output.park(HEADER + len) {
                    true => continue,
                    false => return Ok(Served::Held),
                },
                Err(NoRoom::TooLong | NoRoom::Broken) => self.give_up(),
            }
            request.finish()?;
        }
        Ok(Served::All)
    }

    fn events(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        if self.interrupted {
            let Some(mut request) = requests.peek()? else { return Ok(Served::All) };
            if request.write(&TRANSPORT_RESET)? < TRANSPORT_RESET.len() {
                return Err(Broken::Request);
            }
            request.finish()?;
            self.interrupted = false;
        }
        // The other buffers are for events to come, for which the device is polled.
        Ok(Served::Held)
    }
}

/// What a step of receiving comes to.
enum Step {
    Done,
    NoBuffer,
    /// The device is polled when there is one.
    NoPacket,
}

impl Device for Vsock {
    const KIND: Kind = Kind { id: 19, transitional: None, class: 0x0780 };
    const QUEUES: &'static [u16] = &[128, 128, 8];
    const CONFIG: u16 = 8;

    fn features(&self) -> Features {
        Features::from_bits_retain(STREAM)
    }

    fn read_config(&self, at: u16) -> u8 {
        u64::from(self.cid).to_le_bytes().get(usize::from(at)).copied().unwrap_or_default()
    }

    fn serve(&mut self, queue: usize, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        // Queues are served from when the driver is ready.
        self.up = true;
        let served = match queue {
            RECEIVE | TRANSMIT if !self.announce() => Ok(Served::Held),
            RECEIVE => self.receive(requests),
            TRANSMIT => self.transmit(requests),
            _ => self.events(requests),
        };
        self.doorbell |= self.output.must_signal() | self.input.must_signal();
        served
    }

    fn has_output(&self) -> bool {
        self.doorbell
    }

    /// Packets that have come for the last driver's connections are none of the next one's.
    fn reset(&mut self) {
        (self.at, self.up, self.interrupted) = (HEADER, false, false);
        if self.told == Some(true) {
            self.told = None;
        }
        for _ in 0..FLUSH {
            match self.input.peek() {
                Ok(Some(record)) => record.release(),
                _ => break,
            }
        }
        self.announce();
        self.doorbell |= self.input.must_signal();
    }
}
