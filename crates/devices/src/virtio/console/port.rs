//! A port: what its driver and the other end of its rings know of each other, and the bytes between them.

use super::super::{Broken, Requests, Served};
use crate::GuestMemory;
use bitflags::bitflags;
use heapless::{String, Vec};
use mmio::{Consumer, Producer};

/// Bytes of a port's name at most.
const MAX_NAME: usize = 16;
/// Bytes that are copied at a time.
const CHUNK: usize = 1024;
/// Bytes of one direction of a port that one turn moves at most, which bounds the time of an exit.
const TURN: u32 = 32 << 10;

bitflags! {
    /// Messages that a port's driver is to get.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(super) struct Due: u8 {
        const ADD = 1 << 0;
        const CONSOLE = 1 << 1;
        const NAME = 1 << 2;
        const OPEN = 1 << 3;
    }
}

/// Events of messages (5.3.6.2).
pub(super) mod event {
    pub const DEVICE_READY: u16 = 0;
    pub const PORT_ADD: u16 = 1;
    pub const PORT_READY: u16 = 3;
    pub const CONSOLE_PORT: u16 = 4;
    pub const RESIZE: u16 = 5;
    pub const PORT_OPEN: u16 = 6;
    pub const PORT_NAME: u16 = 7;
}

/// Whether an end whose word this is has its port open. It adds one to the word whenever it opens or closes it.
pub(super) const fn is_open(word: u32) -> bool {
    word & 1 != 0
}

/// A port's state and its ends of the rings.
#[derive(Debug)]
pub(super) struct Port {
    /// Empty for the terminal.
    name: String<MAX_NAME>,
    pub output: Producer,
    pub input: Consumer,
    pub due: Due,
    /// The driver takes messages about it.
    pub ready: bool,
    /// Bytes of the next request that are in the ring already.
    pub sent: u32,
    /// Whether the driver has the port open, as a word.
    own: u32,
    /// The word as the other end has it.
    pub told: u32,
    /// What the driver knows of the other end's word.
    pub known: u32,
    /// The other end has to be signalled: it waits for bytes, or for room, or has to look at the word.
    news: bool,
}

impl Port {
    pub fn new(name: &str, output: Producer, input: Consumer) -> Self {
        // An earlier process at this end may have left the port open. Whatever fits of a name that is too long identifies it.
        let told = output.word();
        let own = told.wrapping_add(u32::from(is_open(told)));
        let mut short = String::new();
        for letter in name.chars() {
            let _ = short.push(letter);
        }
        Self { name: short, output, input, due: Due::empty(), ready: false, sent: 0, own, told, known: 0, news: false }
    }

    pub fn is_terminal(&self) -> bool {
        self.name.is_empty()
    }

    /// Whether the driver takes what the other end sends: not before that one knows that the port is open.
    fn hears(&self) -> bool {
        self.is_terminal() || is_open(self.own) && self.told == self.own
    }

    /// Whether the other end takes what the driver sends: an end that has closed since the driver was told of it does not,
    /// even if it has opened again.
    fn is_heard(&self) -> bool {
        let now = self.input.word();
        self.is_terminal() || is_open(now) && (now == self.known || !is_open(self.known))
    }

    /// Takes the driver's opening or closing.
    pub fn set_open(&mut self, open: bool) {
        if self.is_terminal() || open == is_open(self.own) {
            return;
        }
        self.own = self.own.wrapping_add(1);
    }

    fn drop_input(&mut self) {
        if self.input.available() > 0 {
            self.input.clear();
            self.news |= self.input.must_signal();
        }
    }

    /// Lets the other end see whether the driver has the port open.
    pub fn publish(&mut self) {
        if self.told != self.own {
            // What came before is for nobody.
            self.drop_input();
            self.told = self.own;
            self.output.set_word(self.told);
            self.news = true;
        }
    }

    /// Whether the other end has to be signalled now.
    pub const fn take_news(&mut self) -> bool {
        core::mem::replace(&mut self.news, false)
    }

    /// The next message about it: event, value, and what follows.
    pub fn message(&mut self) -> Option<(u16, u16, Vec<u8, MAX_NAME>)> {
        let mut due = |what| {
            let is_due = self.due.contains(what);
            self.due.remove(what);
            is_due
        };
        if due(Due::ADD) {
            return Some((event::PORT_ADD, 1, Vec::new()));
        }
        if !self.ready {
            return None;
        }
        if due(Due::CONSOLE) {
            return Some((event::CONSOLE_PORT, 1, Vec::new()));
        }
        if due(Due::NAME) {
            return Some((event::PORT_NAME, 1, Vec::from_slice(self.name.as_bytes()).unwrap_or_default()));
        }
        if due(Due::OPEN) {
            return Some((event::PORT_OPEN, 1, Vec::new()));
        }
        let now = self.input.word();
        if now == self.known {
            return None;
        }
        if self.is_terminal() {
            self.known = now;
            return Some((event::RESIZE, 0, Vec::from_slice(&now.to_le_bytes()).unwrap_or_default()));
        }
        if is_open(self.known) {
            // The end of what the other end has sent comes behind it.
            if self.hears() && self.input.available() > 0 {
                return None;
            }
            self.known = self.known.wrapping_add(1);
            return Some((event::PORT_OPEN, 0, Vec::new()));
        }
        self.known = now;
        is_open(now).then(|| (event::PORT_OPEN, 1, Vec::new()))
    }

    /// Moves bytes from the ring to the driver.
    pub fn receive(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        let mut left = TURN;
        while left > 0 {
            if !self.hears() {
                self.drop_input();
            }
            if self.input.available() == 0 {
                return Ok(if self.input.park() { Served::Waiting } else { Served::Held });
            }
            let Some(mut request) = requests.peek()? else { return Ok(Served::All) };
            if request.readable() > 0 || request.writable() == 0 {
                return Err(Broken::Request);
            }
            let mut bytes = [0; CHUNK];
            while left > 0 && request.writable() > 0 {
                let most = (request.writable().min(left.into()) as usize).min(CHUNK);
                let bytes = bytes.get_mut(..most).unwrap_or_default();
                let count = self.input.pop(bytes);
                if count == 0 {
                    break;
                }
                self.news |= self.input.must_signal();
                request.write(bytes.get(..count).unwrap_or_default())?;
                left -= count as u32;
            }
            request.finish()?;
        }
        Ok(Served::Waiting)
    }

    /// Moves bytes from the driver to the ring.
    pub fn transmit(&mut self, requests: &mut Requests<'_, impl GuestMemory>) -> Result<Served, Broken> {
        let mut left = TURN;
        while let Some(mut request) = requests.peek()? {
            if request.writable() > 0 {
                return Err(Broken::Request);
            }
            request.skip(self.sent);
            let mut bytes = [0; CHUNK];
            while request.readable() > 0 && self.is_heard() {
                let most = (self.output.room().min(left) as usize).min(CHUNK);
                if most == 0 {
                    return Ok(if left == 0 || self.output.park() { Served::Waiting } else { Served::Held });
                }
                let count = request.read(bytes.get_mut(..most).unwrap_or_default())?;
                self.output.push(bytes.get(..count).unwrap_or_default());
                self.news |= self.output.must_signal();
                self.sent += count as u32;
                left -= count as u32;
            }
            self.sent = 0;
            request.finish()?;
        }
        if requests.left == 0 {
            return Ok(Served::Waiting);
        }
        // The other end has all that the driver has sent, so it may learn of a closing.
        self.publish();
        Ok(Served::All)
    }
}
