//! A buffer shared by a client and a server, and the `Span` by which a message refers to a part of it.
//! Each side treats the other as hostile: a span that does not fit is refused, and data is copied before it is checked.

use serde::{Deserialize, Serialize};

use crate::{OutOfRange, Window};

/// A part of a shared buffer, as sent in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Offset of the first byte from the start of the buffer.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// A window used through spans.
#[derive(Clone, Copy, Debug)]
pub struct SharedBuffer(Window);

impl SharedBuffer {
    /// The buffer that fills `window`.
    pub const fn new(window: Window) -> Self {
        Self(window)
    }

    /// The whole buffer, or its first 4 GiB - 1, the longest span.
    pub fn whole(&self) -> Span {
        Span { start: 0, len: u32::try_from(self.0.len()).unwrap_or(u32::MAX) }
    }

    /// The window of `span`.
    pub fn window(&self, span: Span) -> Result<Window, OutOfRange> {
        self.0.part(span.start.into(), span.len.into())
    }

    /// Copies the bytes of `span` to `local` and returns the part of `local` that they fill.
    pub fn copy_in<'a>(&self, span: Span, local: &'a mut [u8]) -> Result<&'a [u8], OutOfRange> {
        let into = local.get_mut(..span.len as usize).ok_or(OutOfRange)?;
        self.0.read(span.start.into(), into)?;
        Ok(into)
    }

    /// Copies `local` to the start of `span`; all of it must fit.
    pub fn copy_out(&self, span: Span, local: &[u8]) -> Result<(), OutOfRange> {
        self.window(span)?.write(0, local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn buffer() -> SharedBuffer {
        SharedBuffer::new(Window::leak(vec![0; 16].leak()))
    }

    #[test]
    fn bytes_go_out_and_come_in() {
        let b = buffer();
        b.copy_out(Span { start: 4, len: 8 }, b"abc").unwrap();
        let mut local = [0; 8];
        assert_eq!(b.copy_in(Span { start: 3, len: 5 }, &mut local), Ok(&b"\0abc\0"[..]));
    }

    #[test]
    fn a_span_outside_the_buffer_is_refused() {
        let b = buffer();
        assert_eq!(b.copy_in(Span { start: 15, len: 2 }, &mut [0; 8]), Err(OutOfRange));
        assert_eq!(b.copy_in(Span { start: u32::MAX, len: u32::MAX }, &mut [0; 8]), Err(OutOfRange));
        assert_eq!(b.copy_out(Span { start: 17, len: 0 }, &[]), Err(OutOfRange));
    }

    #[test]
    fn more_than_the_span_or_the_local_holds_is_refused() {
        let b = buffer();
        assert_eq!(b.copy_out(Span { start: 0, len: 2 }, b"abc"), Err(OutOfRange));
        assert_eq!(b.copy_in(Span { start: 0, len: 9 }, &mut [0; 8]), Err(OutOfRange));
    }
}
