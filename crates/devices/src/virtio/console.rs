//! The console device: ports with a stream of bytes in each direction, and messages about them.
//!
//! VIRTIO 1.2, section 5.3. Port 0 is a terminal. The others have names, and each leads to a port of another such device: the
//! other end of its two rings. A ring's word says whether its producer's driver has the port open (`is_open`). That of a
//! terminal's input is the size of its window, as the configuration has it.
//!
//! A driver that reads and writes in sessions finds them kept apart: an end is told that the other one has closed when it
//! has all bytes from before, and bytes for an end that is closed are dropped. Otherwise none is lost: what has no room in a
//! ring stays in its queue.
//! Left out: ports that come or go while the device runs.

mod port;

use super::{Broken, Device, Features, Kind, Requests, Served};
use crate::GuestMemory;
use bitflags::bitflags;
use mmio::{Consumer, Producer};
use port::{Due, Port, event, is_open};

/// Ports of a device at most, the terminal included.
pub const MAX_PORTS: usize = 5;
/// Queues: two for each port, and two for messages.
pub const QUEUES: usize = 2 * (MAX_PORTS + 1);
/// Bytes of a message without what may follow it: port, event, value.
const MESSAGE: usize = 8;

/// Numbers of the queues for messages: from the device, and to it.
const TO_DRIVER: usize = 2;
const FROM_DRIVER: usize = 3;

bitflags! {
    /// The device type's features (5.3.3).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Offer: u64 {
        /// The configuration has the size of the terminal's window.
        const SIZE = 1 << 0;
        /// There are messages, and ports beside port 0.
        const MULTIPORT = 1 << 1;
        /// Writing a byte to the configuration prints it.
        const EMERG_WRITE = 1 << 2;
    }
}

/// Offsets in the configuration (5.3.4): columns and rows, number of ports, emergency write.
const MAX_NR_PORTS: usize = 4;
const EMERG_WR: u16 = 8;
const CONFIG: u16 = 12;

/// The device.
#[derive(Debug)]
pub struct Console {
    /// By number; a device without a terminal has no port 0.
    ports: [Option<Port>; MAX_PORTS],
    /// The driver knows of messages, and of ports beside port 0.
    multiport: bool,
    /// Ports whose other ends want a signal, by bits.
    doorbells: u32,
    /// A queue has become due whose turn is over: messages, or the end of what the driver has sent.
    again: bool,
    /// The size of the terminal's window that the configuration had last.
    size: u32,
}

impl Default for Console {
    fn default() -> Self {
        Self { ports: [const { None }; MAX_PORTS], multiport: false, doorbells: 0, again: false, size: 0 }
    }
}

impl Console {
    /// Adds a terminal, which is port 0.
    pub fn add_terminal(&mut self, output: Producer, input: Consumer) {
        if let Some(first) = self.ports.first_mut() {
            *first = Some(Port::new("", output, input));
        }
    }

    /// Adds a port of this name, which is not empty; returns its number, or `None` if there is no room for it.
    pub fn add(&mut self, name: &str, output: Producer, input: Consumer) -> Option<usize> {
        let (number, place) = self.ports.iter_mut().enumerate().skip(1).find(|(_, place)| place.is_none())?;
        let port = place.insert(Port::new(name, output, input));
        port.publish();
        self.doorbells |= u32::from(port.take_news()) << number;
        Some(number)
    }

    /// The ports whose other ends are to be signalled now, by bits.
    pub const fn take_doorbells(&mut self) -> u32 {
        core::mem::replace(&mut self.doorbells, 0)
    }

    /// Whether the device is to be polled once more.
    pub const fn take_again(&mut self) -> bool {
        core::mem::replace(&mut self.again, false)
    }

    /// Whether the size of the terminal's window, which the configuration has, has changed since the last call.
    pub fn take_resized(&mut self) -> bool {
        let now = self.window();
        core::mem::replace(&mut self.size, now) != now
    }

    fn terminal(&self) -> Option<&Port> {
        self.ports.first()?.as_ref()
    }

    fn window(&self) -> u32 {
        self.terminal().map_or(0, |port| port.input.word())
    }

    /// How many ports a driver has to reckon with.
    fn count(&self) -> usize {
        self.ports.iter().rposition(Option::is_some).map_or(1, |last| last + 1)
    }

    fn config(&self) -> [u8; CONFIG as usize] {
        let mut config = [0; CONFIG as usize];
        config[..MAX_NR_PORTS].copy_from_slice(&self.window().to_le_bytes());
        config[MAX_NR_PORTS] = self.count() as u8;
        config
    }

    /// Gives the driver the messages that are due.
    fn tell(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        while let Some(mut request) = requests.peek()? {
            let ports = self.ports.iter_mut().zip(0u32..);
            let mut messages = ports.filter_map(|(port, number)| Some((number, port.as_mut()?.message()?)));
            // The buffers are for messages to come, for which the device is polled.
            let Some((number, (event, value, rest))) = messages.next() else { return Ok(Served::Held) };
            let mut head = [0; MESSAGE];
            head[..4].copy_from_slice(&number.to_le_bytes());
            head[4..6].copy_from_slice(&event.to_le_bytes());
            head[6..].copy_from_slice(&value.to_le_bytes());
            let written = request.write(&head)? + request.write(&rest)?;
            if request.readable() > 0 || written < MESSAGE + rest.len() {
                return Err(Broken::Request);
            }
            request.finish()?;
        }
        Ok(Served::All)
    }

    /// Takes the driver's messages. One that is none changes nothing.
    fn obey(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        while let Some(mut request) = requests.peek()? {
            if request.writable() > 0 {
                return Err(Broken::Request);
            }
            let mut message = [0; MESSAGE];
            if request.read(&mut message)? == MESSAGE {
                self.take(message);
            }
            request.finish()?;
        }
        Ok(Served::All)
    }

    fn take(&mut self, message: [u8; MESSAGE]) {
        let [a, b, c, d, event @ .., e, f] = message;
        let (number, event) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes(event));
        let yes = [e, f] != [0, 0];
        self.again = true;
        if event == event::DEVICE_READY {
            for port in self.ports.iter_mut().flatten() {
                (port.ready, port.due) = (false, if yes { Due::ADD } else { Due::empty() });
            }
            return;
        }
        let port = usize::try_from(number).ok().and_then(|number| self.ports.get_mut(number));
        let Some(port) = port.and_then(Option::as_mut) else { return };
        match event {
            event::PORT_READY => {
                let first = if port.is_terminal() { Due::CONSOLE | Due::OPEN } else { Due::NAME };
                (port.ready, port.due, port.known) = (yes, first, 0);
            }
            event::PORT_OPEN => {
                port.set_open(yes);
                // A closing waits for what the driver sent before, and an opening for the closing before it.
                if yes && !is_open(port.told) {
                    port.publish();
                }
                self.doorbells |= u32::from(port.take_news()) << number;
            }
            _ => {}
        }
    }
}

impl Device for Console {
    const KIND: Kind = Kind { id: 3, transitional: Some(0x1003), class: 0x0780 };
    const QUEUES: &'static [u16] = &[32; QUEUES];
    const CONFIG: u16 = CONFIG;

    fn features(&self) -> Features {
        let offer = match self.terminal() {
            Some(_) => Offer::all(),
            None => Offer::MULTIPORT,
        };
        Features::from_bits_retain(offer.bits())
    }

    fn accept(&mut self, features: Features) {
        self.multiport = features.bits() & Offer::MULTIPORT.bits() != 0;
    }

    fn read_config(&self, at: u16) -> u8 {
        self.config().get(usize::from(at)).copied().unwrap_or_default()
    }

    fn write_config(&mut self, at: u16, value: u8) {
        if let Some(Some(terminal)) = self.ports.first_mut().filter(|_| at == EMERG_WR) {
            // Without room it is lost: there is nobody who could wait.
            terminal.output.push(&[value]);
            self.doorbells |= u32::from(terminal.output.must_signal());
        }
    }

    fn serve(&mut self, queue: usize, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        let number = match queue {
            0 | 1 => 0,
            // Without messages, there is port 0 only.
            _ if !self.multiport => return Ok(Served::Held),
            TO_DRIVER => return self.tell(requests),
            FROM_DRIVER => return self.obey(requests),
            _ => queue / 2 - 1,
        };
        let Some(Some(port)) = self.ports.get_mut(number) else { return Ok(Served::Held) };
        let served = if queue.is_multiple_of(2) {
            let before = port.input.available();
            let served = port.receive(requests);
            // A message may have waited for the last byte.
            self.again |= before > 0 && port.input.available() == 0 && port.input.word() != port.known;
            served
        } else {
            port.transmit(requests)
        };
        self.doorbells |= u32::from(port.take_news()) << number;
        served
    }

    fn has_output(&self) -> bool {
        self.doorbells != 0 || self.again
    }

    /// All ports are closed, and the other ends know.
    fn reset(&mut self) {
        (self.multiport, self.again) = (false, false);
        for (port, number) in self.ports.iter_mut().zip(0..) {
            let Some(port) = port else { continue };
            port.set_open(false);
            (port.due, port.ready, port.sent, port.known) = (Due::empty(), false, 0, 0);
            port.publish();
            self.doorbells |= u32::from(port.take_news()) << number;
        }
    }
}
