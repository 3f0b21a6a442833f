//! print-server: a component with a channel of one dataport. At each event it prints the string in it, and then emits an event.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt::{self, Write as _};

use channel::Dataport;

/// Bytes of the longest string.
const ROOM: usize = 4096;

/// A string of the other end's, as a copy.
#[derive(Debug)]
pub struct Text {
    bytes: [u8; ROOM],
    len: usize,
}

impl Text {
    /// The string in `dataport`, which ends with a NUL or with the dataport.
    pub fn read(dataport: &Dataport) -> Self {
        let mut bytes = [0; ROOM];
        let room = usize::try_from(dataport.len()).unwrap_or(ROOM).min(ROOM);
        // Cannot fail: it is not longer than the dataport.
        let _ = dataport.read(0, bytes.get_mut(..room).unwrap_or_default());
        let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(ROOM);
        Self { bytes, len }
    }

    /// Its lines.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let text = self.bytes.get(..self.len).unwrap_or_default();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        text.split(|byte| *byte == b'\n').map(Line)
    }
}

/// A line, which prints nothing that a terminal takes for a command.
#[derive(Debug)]
pub struct Line<'a>(&'a [u8]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                if letter.is_control() { write!(f, "{}", letter.escape_default())? } else { f.write_char(letter)? }
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}
