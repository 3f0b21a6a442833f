//! The network device: frames go to a ring of records and come from another one, with what the sender has left to be
//! computed of each.
//!
//! VIRTIO 1.2, section 5.1. A record is a frame behind `struct virtio_net_hdr` as the modern interface has it, 12 bytes,
//! of which the last two are zero. Checksums and segmentation pass through: whoever receives a frame can do what its
//! sender has left out, or does not get it.
//! Left out: several pairs of queues, VLAN filtering, announcements, changes of offloads while the device runs, and
//! completing a checksum or splitting a segment for a driver that does not take such frames: they are dropped.

use super::{Broken, Device, Features, Kind, Place, Requests, Served};
use crate::GuestMemory;
use mmio::{BrokenRing, Mended, NoRoom, RecordConsumer, RecordProducer};

/// Bytes of a frame's header in a record.
const HEADER: u32 = 12;
/// Bytes of it with a legacy driver, unless that merges buffers.
const LEGACY_HEADER: usize = 10;
/// Bytes of the shortest frame: addresses and type.
const SHORTEST: u32 = 14;
/// Bytes of the longest: a segment of 64 KiB that the receiver splits (5.1.6.3.1).
const LONGEST: u32 = 65_550;
/// Records that one turn takes at most.
const TURN: usize = 256;
/// Records that are dropped at most where a reset empties the ring.
const FLUSH: usize = 1 << 14;

/// Numbers of the queues.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Feature bits of the device type (5.1.3).
const CSUM: u64 = 1 << 0;
const GUEST_CSUM: u64 = 1 << 1;
const MAC: u64 = 1 << 5;
const GUEST_TSO4: u64 = 1 << 7;
const GUEST_TSO6: u64 = 1 << 8;
const GUEST_ECN: u64 = 1 << 9;
const GUEST_UFO: u64 = 1 << 10;
const HOST_TSO4: u64 = 1 << 11;
const HOST_TSO6: u64 = 1 << 12;
const HOST_ECN: u64 = 1 << 13;
const HOST_UFO: u64 = 1 << 14;
const MRG_RXBUF: u64 = 1 << 15;
const STATUS: u64 = 1 << 16;
const CTRL_VQ: u64 = 1 << 17;
const CTRL_RX: u64 = 1 << 18;
const CTRL_MAC_ADDR: u64 = 1 << 23;

/// Of a header's flags (5.1.6): the checksum is to be completed.
const NEEDS_CSUM: u8 = 1;
/// Kinds of segments, and a bit beside them.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP: u8 = 3;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;

/// In the configuration: the first byte of the status, whose bit 0 is that the link is up (5.1.4).
const LINK: u16 = 6;

/// Classes of commands, and the commands of each (5.1.6.5).
const RX: u8 = 0;
const PROMISC: u8 = 0;
const ALLMULTI: u8 = 1;
const CONTROL_MAC: u8 = 1;
const TABLE_SET: u8 = 0;
const ADDR_SET: u8 = 1;
/// Answers to them.
const OK: u8 = 0;
const ERR: u8 = 1;

/// Frames that the device has dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Dropped {
    /// Of the guest's: too short, too long, or sent while the link was down.
    pub sent: u64,
    /// For the guest: its driver does not take such frames, or gave too small a buffer.
    pub received: u64,
}

/// A frame of which the guest has a part.
#[derive(Debug)]
struct Delivery {
    /// The rest begins here, in its record.
    at: u32,
    /// Buffers that it fills so far.
    buffers: u16,
    /// Where their number belongs.
    place: Option<Place>,
}

/// The device.
#[derive(Debug)]
pub struct Network {
    mac: [u8; 6],
    output: RecordProducer,
    input: RecordConsumer,
    accepted: u64,
    delivery: Option<Delivery>,
    /// The rings work.
    up: bool,
    /// As the driver knows it.
    told: bool,
    /// The other end of the rings wants a signal.
    doorbell: bool,
    dropped: Dropped,
}

impl Network {
    /// A device with this address, which sends to `output` and receives from `input`.
    pub const fn new(mac: [u8; 6], output: RecordProducer, input: RecordConsumer) -> Self {
        let dropped = Dropped { sent: 0, received: 0 };
        Self { mac, output, input, accepted: 0, delivery: None, up: true, told: true, doorbell: false, dropped }
    }

    /// Whether the other end of the rings is to be signalled now.
    pub const fn take_doorbell(&mut self) -> bool {
        core::mem::replace(&mut self.doorbell, false)
    }

    /// If the rings have stopped to work since the last call, or work again, whether they do. The driver is to be told then, by a
    /// change of the configuration.
    pub fn take_link_change(&mut self) -> Option<bool> {
        let told = core::mem::replace(&mut self.told, self.up);
        (told != self.up).then_some(self.up)
    }

    /// Frames that were dropped.
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    fn receive(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        for _ in 0..TURN {
            match self.deliver(requests)? {
                Step::Done => {}
                Step::NoBuffer => return Ok(Served::All),
                Step::NoFrame => return Ok(Served::Held),
            }
        }
        Ok(Served::Waiting)
    }

    /// Moves a frame, or the next part of it, to the guest's next buffer.
    fn deliver(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Step, Broken> {
        let record = match self.input.peek() {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(if self.input.park() { Step::Done } else { Step::NoFrame }),
            Err(BrokenRing) => {
                self.up = false;
                return Ok(Step::NoFrame);
            }
        };
        let mut header = [0; HEADER as usize];
        let merges = self.accepted & MRG_RXBUF != 0;
        let first = self.delivery.is_none();
        if first && (record.read(0, &mut header).is_err() || !takes(self.accepted, header)) {
            self.dropped.received += 1;
            record.release();
            return Ok(Step::Done);
        }
        let size = requests.size();
        let Some(mut request) = requests.peek()? else { return Ok(Step::NoBuffer) };
        let Delivery { at, buffers, place } = match self.delivery.take() {
            Some(delivery) => delivery,
            None => {
                let header = header.get(..LEGACY_HEADER).unwrap_or_default();
                let frame = u64::from(record.len() - HEADER);
                let room = request.writable().saturating_sub(header_len(self.accepted) as u64);
                if !merges && room < frame {
                    // The buffer stays where it is: it may be large enough for the next frame.
                    self.dropped.received += 1;
                    record.release();
                    return Ok(Step::Done);
                }
                request.write(header)?;
                let place = match header_len(self.accepted) {
                    LEGACY_HEADER => None,
                    _ => Some(request.leave_out().ok_or(Broken::Request)?),
                };
                Delivery { at: HEADER, buffers: 0, place }
            }
        };
        let at = at + request.receive(&record, at)?;
        let buffers = buffers + 1;
        // A frame that all buffers of the queue together have no room for would wait for ever: the driver gets what fits.
        if at < record.len() && buffers < size {
            request.fill()?;
            self.delivery = Some(Delivery { at, buffers, place });
            return Ok(Step::Done);
        }
        if let Some(place) = place {
            request.fill_in(place, buffers)?;
        }
        request.finish()?;
        record.release();
        Ok(Step::Done)
    }

    fn transmit(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        let header_len = header_len(self.accepted);
        while let Some(mut request) = requests.peek()? {
            let mut header = [0; HEADER as usize];
            let given = request.read(header.get_mut(..header_len).unwrap_or_default())?;
            if given < header_len || request.writable() > 0 {
                return Err(Broken::Request);
            }
            let frame = u32::try_from(request.readable()).unwrap_or(u32::MAX);
            let reserved = match frame {
                SHORTEST..=LONGEST => self.output.reserve(HEADER + frame),
                _ => Err(NoRoom::TooLong),
            };
            match reserved {
                Ok(mut record) => {
                    // The driver does not use the number of buffers.
                    header[LEGACY_HEADER..].fill(0);
                    // Cannot fail: that much is reserved.
                    let _ = record.write(&header);
                    request.send(&mut record)?;
                    record.publish();
                }
                Err(NoRoom::Full) => match self.output.park(HEADER + LONGEST) {
                    true => continue,
                    false => return Ok(Served::Held),
                },
                Err(NoRoom::TooLong) => self.dropped.sent += 1,
                Err(NoRoom::Broken) => {
                    self.up = false;
                    self.dropped.sent += 1;
                }
            }
            request.finish()?;
        }
        Ok(Served::All)
    }

    fn control(&self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        while let Some(mut request) = requests.peek()? {
            let (mut command, mut address) = ([0; 2], [0; 6]);
            request.read(&mut command)?;
            let given = request.read(&mut address)?;
            let answer = match command {
                // Whether it gets what is not for it, the switch decides. Filters are best effort (5.1.6.5.1).
                [RX, PROMISC | ALLMULTI] if given == 1 => OK,
                [CONTROL_MAC, TABLE_SET] if given >= 4 => OK,
                // The switch takes frames from this address only.
                [CONTROL_MAC, ADDR_SET] if given == 6 && address == self.mac => OK,
                _ => ERR,
            };
            if request.write(&[answer])? == 0 {
                return Err(Broken::Request);
            }
            request.finish()?;
        }
        Ok(Served::All)
    }
}

/// What a step of receiving comes to.
enum Step {
    Done,
    NoBuffer,
    /// The device is polled when there is one.
    NoFrame,
}

/// Bytes of a frame's header in the driver's buffers.
const fn header_len(accepted: u64) -> usize {
    let modern = accepted & (MRG_RXBUF | Features::VERSION_1.bits()) != 0;
    if modern { HEADER as usize } else { LEGACY_HEADER }
}

/// Whether a driver that has accepted these features takes frames with this header.
const fn takes(accepted: u64, header: [u8; HEADER as usize]) -> bool {
    let [flags, kind, ..] = header;
    let mut needed = match kind & !GSO_ECN {
        GSO_NONE => 0,
        GSO_TCPV4 => GUEST_TSO4,
        GSO_TCPV6 => GUEST_TSO6,
        GSO_UDP => GUEST_UFO,
        _ => return false,
    };
    if flags & NEEDS_CSUM != 0 {
        needed |= GUEST_CSUM;
    }
    if kind & GSO_ECN != 0 {
        needed |= GUEST_ECN;
    }
    accepted & needed == needed
}

impl Device for Network {
    const KIND: Kind = Kind { id: 1, transitional: Some(0x1000), class: 0x0200 };
    const QUEUES: &'static [u16] = &[256, 256, 16];
    const CONFIG: u16 = 8;

    fn features(&self) -> Features {
        Features::from_bits_retain(
            CSUM | GUEST_CSUM
                | MAC
                | GUEST_TSO4
                | GUEST_TSO6
                | GUEST_ECN
                | GUEST_UFO
                | HOST_TSO4
                | HOST_TSO6
                | HOST_ECN
                | HOST_UFO
                | MRG_RXBUF
                | STATUS
                | CTRL_VQ
                | CTRL_RX
                | CTRL_MAC_ADDR,
        )
    }

    fn read_config(&self, at: u16) -> u8 {
        match (self.mac.get(usize::from(at)), at) {
            (Some(&byte), _) => byte,
            (None, LINK) => self.up.into(),
            _ => 0,
        }
    }

    fn serve(&mut self, queue: usize, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        if !self.up && self.input.mend().max(self.output.mend()) != Mended::Broken {
            (self.up, self.delivery) = (true, None);
        }
        let served = match queue {
            RECEIVE => self.receive(requests),
            TRANSMIT => self.transmit(requests),
            _ => return self.control(requests),
        };
        self.doorbell |= self.output.must_signal() | self.input.must_signal();
        served
    }

    fn accept(&mut self, features: Features) {
        self.accepted = features.bits();
    }

    fn has_output(&self) -> bool {
        self.doorbell
    }

    /// Frames that have come for the last driver are none of the next one's.
    fn reset(&mut self) {
        self.accepted = 0;
        self.delivery = None;
        for _ in 0..FLUSH {
            match self.input.peek() {
                Ok(Some(record)) => record.release(),
                _ => break,
            }
        }
        self.doorbell |= self.input.must_signal();
    }
}
