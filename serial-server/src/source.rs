//! One stream of bytes on its way to the console. The bytes stay in the client's ring until they are printed, so a client
//! that prints more than its share waits, and nobody else does; this knows where the first line in the ring ends.

use core::fmt;

use heapless::String;
use layout::config::Name;
use mmio::{Consumer, Producer, Ring};
use proto::serial::RingKind;

/// Maximum length of a line of a console that shares the line with others; longer ones are printed in parts.
pub const CONSOLE_LINE: u32 = 4096;
/// Longest of the server's own lines.
const OWN_LINE: usize = 256;

/// A stream.
pub struct Source {
    /// Label of its lines.
    pub name: Name,
    /// Log or console.
    pub kind: RingKind,
    /// Whether the user has typed at it since its last line began, so that its next bytes are an echo.
    pub echoes: bool,
    /// When it printed last, or was typed at.
    pub last: u64,
    /// Whether the last byte that was printed left a line unfinished.
    pub unfinished: bool,
    bytes: Consumer,
    /// The other end, if the stream is this server's: what the user types as a command, and the answers.
    own: Option<Producer>,
    /// Bytes at the head that were looked at: no end of line is among them, unless it is the last of them.
    scanned: u32,
    /// Whether they are a line, or the first part of one that is too long.
    line: bool,
    /// Since when the first byte waits.
    since: Option<u64>,
}

impl Source {
    /// A client's stream.
    pub fn new(name: Name, kind: RingKind, bytes: Consumer) -> Self {
        Self {
            name,
            kind,
            echoes: false,
            last: 0,
            unfinished: false,
            bytes,
            own: None,
            scanned: 0,
            line: false,
            since: None,
        }
    }

    /// The server's own lines, which wait in this ring.
    pub fn own(ring: Ring) -> Self {
        let name = "serial-server".try_into().unwrap_or_default();
        Self { own: Some(ring.producer()), ..Self::new(name, RingKind::Console, ring.consumer()) }
    }

    /// Bytes that have not been printed.
    pub fn pending(&self) -> u32 {
        self.bytes.available()
    }

    /// Takes note of bytes that have come.
    pub fn look(&mut self, now: u64) {
        if self.pending() > 0 {
            self.since.get_or_insert(now);
        }
        let mut bytes = [0; 64];
        while !self.line {
            let count = self.bytes.peek(self.scanned, &mut bytes);
            let end = bytes.iter().take(count).position(|byte| *byte == b'\n');
            self.scanned += end.map_or(count, |end| end + 1) as u32;
            self.line = end.is_some() || self.scanned >= CONSOLE_LINE;
            if count == 0 {
                break;
            }
        }
    }

    /// Whether its first line was there, in whole, at the last [`Self::look`].
    pub fn has_line(&self) -> bool {
        self.line
    }

    /// Since when its first byte waits.
    pub fn since(&self) -> Option<u64> {
        self.since
    }

    /// Whether both go on with the same line, as far as both have it.
    pub fn goes_on_like(&self, other: &Source) -> bool {
        // What has ended may yet differ from what has not.
        let length = self.scanned.min(other.scanned);
        if self.unfinished != other.unfinished || self.line != other.line || self.line && self.scanned != other.scanned
        {
            return false;
        }
        let (mut mine, mut others) = ([0; 64], [0; 64]);
        let mut same = |at: u32| {
            let part = mine.len().min((length - at) as usize);
            self.bytes.peek(at, &mut mine[..part]);
            other.bytes.peek(at, &mut others[..part]);
            mine == others
        };
        length > 0 && (0..length).step_by(64).all(&mut same)
    }

    /// The next byte, which stays.
    pub fn first(&self) -> Option<u8> {
        let mut byte = [0];
        (self.bytes.peek(0, &mut byte) == 1).then_some(byte[0])
    }

    /// Takes the next byte.
    pub fn pop(&mut self) -> Option<u8> {
        let byte = self.bytes.pop_byte()?;
        self.scanned = self.scanned.saturating_sub(1);
        self.line &= self.scanned > 0;
        self.since = None;
        self.unfinished = byte != b'\n';
        Some(byte)
    }

    /// Asks the client for a signal when it writes more than [`Self::look`] has seen; returns whether it has already.
    pub fn park(&mut self) -> bool {
        self.bytes.park_behind(self.scanned)
    }

    /// Whether the client waits for room, and has to be signalled.
    pub fn must_signal(&mut self) -> bool {
        self.bytes.must_signal()
    }

    /// Adds a line to the server's own. One that does not fit is lost, as a log's is.
    pub fn say(&mut self, line: fmt::Arguments) {
        let mut text = String::<OWN_LINE>::new();
        let _ = fmt::write(&mut text, line);
        self.end_line();
        if text.push_str("\r\n").is_ok() {
            self.add(text.as_bytes());
        }
    }

    /// Adds bytes to the server's own, in whole or not at all.
    pub fn add(&mut self, bytes: &[u8]) {
        if let Some(own) = self.own.as_mut().filter(|own| own.room() as usize >= bytes.len()) {
            own.push(bytes);
            self.echoes = true;
        }
    }

    /// Ends the server's own line, if it has begun one.
    pub fn end_line(&mut self) {
        let mut last = [0];
        let begun = match self.pending().checked_sub(1) {
            Some(others) => self.bytes.peek(others, &mut last) == 1 && last != *b"\n",
            None => self.unfinished,
        };
        if begun {
            self.add(b"\r\n");
        }
    }
}
