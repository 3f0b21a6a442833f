//! The bytes of an instruction, one after the other.

use super::{MAX_LENGTH, Width};

/// Bytes not read yet. An instruction of more than 15 is none.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    pub used: usize,
}

impl<'a> Cursor<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = *self.bytes.get(self.used..)?.first_chunk()?;
        self.used += N;
        (self.used <= MAX_LENGTH).then_some(bytes)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }

    pub fn word(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub fn dword(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn qword(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// A constant of this width, sign-extended.
    pub fn immediate(&mut self, width: Width) -> Option<u64> {
        match width {
            Width::Byte => self.byte().map(|byte| byte as i8 as u64),
            Width::Word => self.word().map(|word| word as i16 as u64),
            // No instruction with a memory operand has a longer one.
            Width::Dword | Width::Qword => self.dword().map(|dword| dword as i32 as u64),
        }
    }
}
