//! One stream of bytes on its way to the console. The bytes stay in the client's ring until they are printed, so a client
//! that prints more than its share waits, and nobody else does; this knows where the first line in the ring ends.

use core::fmt;

use heapless::{Deque, String};
use layout::config::Name;
use mmio::Consumer;
use proto::serial::RingKind;

/// Maximum length of a line of a console that shares the line with others; longer ones are printed in parts.
pub const CONSOLE_LINE: u32 = 4096;
/// Bytes of the server's own lines that wait: help is the longest.
const OWN_BYTES: usize = 1024;
/// Longest of its lines.
const OWN_LINE: usize = 256;

/// Where a source's bytes come from.
#[expect(clippy::large_enum_variant, reason = "nothing allocates, and all sources are in one table")]
enum Bytes {
    /// A client's ring.
    Ring(Consumer),
    /// This server: what the user types as a command, and the answers.
    Own(Deque<u8, OWN_BYTES>),
}

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
    bytes: Bytes,
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
        Self::of(name, kind, Bytes::Ring(bytes))
    }

    /// The server's own lines.
    pub fn own() -> Self {
        Self::of("serial-server".try_into().unwrap_or_default(), RingKind::Console, Bytes::Own(Deque::new()))
    }

    fn of(name: Name, kind: RingKind, bytes: Bytes) -> Self {
        Self { name, kind, echoes: false, last: 0, unfinished: false, bytes, scanned: 0, line: false, since: None }
    }

    /// Bytes that have not been printed.
    pub fn pending(&self) -> u32 {
        match &self.bytes {
            Bytes::Ring(ring) => ring.available(),
            Bytes::Own(bytes) => bytes.len() as u32,
        }
    }

    /// Takes note of bytes that have come.
    pub fn look(&mut self, now: u64) {
        if self.pending() > 0 {
            self.since.get_or_insert(now);
        }
        let mut bytes = [0; 64];
        while !self.line {
            let count = self.peek(self.scanned, &mut bytes);
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
            self.peek(at, &mut mine[..part]);
            other.peek(at, &mut others[..part]);
            mine == others
        };
        length > 0 && (0..length).step_by(64).all(&mut same)
    }

    /// The next byte, which stays.
    pub fn first(&self) -> Option<u8> {
        let mut byte = [0];
        (self.peek(0, &mut byte) == 1).then_some(byte[0])
    }

    /// Takes the next byte.
    pub fn pop(&mut self) -> Option<u8> {
        let byte = match &mut self.bytes {
            Bytes::Ring(ring) => ring.pop_byte(),
            Bytes::Own(bytes) => bytes.pop_front(),
        }?;
        self.scanned = self.scanned.saturating_sub(1);
        self.line &= self.scanned > 0;
        self.since = None;
        self.unfinished = byte != b'\n';
        Some(byte)
    }

    /// Asks the client for a signal when it writes more than [`Self::look`] has seen; returns whether it has already.
    pub fn park(&mut self) -> bool {
        match &mut self.bytes {
            Bytes::Ring(ring) => ring.park_behind(self.scanned),
            Bytes::Own(_) => false,
        }
    }

    /// Whether the client waits for room, and has to be signalled.
    pub fn must_signal(&mut self) -> bool {
        match &mut self.bytes {
            Bytes::Ring(ring) => ring.must_signal(),
            Bytes::Own(_) => false,
        }
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
        if let Bytes::Own(own) = &mut self.bytes
            && own.capacity() - own.len() >= bytes.len()
        {
            own.extend(bytes.iter().copied());
            self.echoes = true;
        }
    }

    /// Ends the server's own line, if it has begun one.
    pub fn end_line(&mut self) {
        if let Bytes::Own(own) = &self.bytes
            && own.back().map_or(self.unfinished, |last| *last != b'\n')
        {
            self.add(b"\r\n");
        }
    }

    fn peek(&self, skip: u32, into: &mut [u8]) -> usize {
        match &self.bytes {
            Bytes::Ring(ring) => ring.peek(skip, into),
            Bytes::Own(bytes) => {
                let mut count = 0;
                for (to, from) in into.iter_mut().zip(bytes.iter().skip(skip as usize)) {
                    *to = *from;
                    count += 1;
                }
                count
            }
        }
    }
}
