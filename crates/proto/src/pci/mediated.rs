//! Mediated accesses: reads and writes by calls to pci-server, as plain words of the message. pci-server checks the
//! access; the reply has the value or the number of an error.

use core::fmt;

use super::Error;
use crate::wire::IpcError;

/// Width of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 1.
    Byte,
    /// 2.
    Word,
    /// 4.
    Dword,
}

impl Width {
    /// In bytes.
    pub const fn bytes(self) -> u8 {
        match self {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Dword => 4,
        }
    }

    /// The bits of a value this wide.
    pub const fn mask(self) -> u32 {
        match self {
            Width::Byte => 0xff,
            Width::Word => 0xffff,
            Width::Dword => u32::MAX,
        }
    }
}

/// The target of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Virtual configuration space. BARs accept any address, and the real BAR stays: a VMM moves the mapping in its
    /// guest's address space. The interrupt line register (0x3c) has no effect. Initially, and after
    /// [`Reset`](super::Reset), it has the ISA interrupt of the function's first line, or 0xff without one. A VMM, in
    /// place of the firmware, writes the input of the guest's PIC there.
    Config {
        /// The function, among the caller's own.
        function: u8,
        /// Byte offset, a multiple of the width.
        offset: u8,
    },
    /// A port of an I/O BAR or of a range, by its number on the machine.
    Port(u16),
    /// A physical address in a memory BAR that is [`Access::Mediated`](super::Access::Mediated).
    Memory(u64),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Config { function, offset } => write!(f, "configuration {offset:#x} of function {function}"),
            Target::Port(port) => write!(f, "port {port:#x}"),
            Target::Memory(at) => write!(f, "memory {at:#x}"),
        }
    }
}

/// Reads. This call and [`Write`] are frequent, so their words are not encoded by postcard. First word: kind of target
/// in bits 15:8, bytes in bits 7:0. Second word: port, address, or function in bits 15:8 and offset in bits 7:0. Third
/// word: the value to write. The reply is the value, or bit 32 with the error's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The target.
    pub target: Target,
    /// The width.
    pub width: Width,
}

/// Writes; see [`Read`] for the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The target.
    pub target: Target,
    /// The width.
    pub width: Width,
    /// The value; bits beyond the width are ignored.
    pub value: u32,
}

impl Read {
    /// Of the message.
    pub const LABEL: u64 = 0x508;

    #[inline]
    pub(super) fn words(self) -> [u64; 3] {
        let (kind, at) = match self.target {
            Target::Config { function, offset } => (0, u64::from(function) << 8 | u64::from(offset)),
            Target::Port(port) => (1, port.into()),
            Target::Memory(at) => (2, at),
        };
        [kind << 8 | u64::from(self.width.bytes()), at, 0]
    }

    #[inline]
    pub(super) fn of_words(how: u64, at: u64) -> Result<Self, IpcError> {
        let width = match how & 0xff {
            1 => Width::Byte,
            2 => Width::Word,
            4 => Width::Dword,
            _ => return Err(IpcError::Malformed),
        };
        let target = match (how >> 8, u16::try_from(at)) {
            (0, Ok(at)) => Target::Config { function: (at >> 8) as u8, offset: at as u8 },
            (1, Ok(port)) => Target::Port(port),
            (2, _) => Target::Memory(at),
            _ => return Err(IpcError::Malformed),
        };
        Ok(Self { target, width })
    }
}

impl Write {
    /// The interface's last.
    pub const LABEL: u64 = 0x509;
}

/// In the reply to a [`Read`] or [`Write`]: refused; the lower half is the error's number.
const REFUSED: u64 = 1 << 32;

impl Error {
    /// The errors of an access, by their numbers in the reply.
    const OF_ACCESS: [Error; 5] =
        [Error::NotYours, Error::Straddles, Error::NoDma, Error::ReadOnly, Error::Unavailable];

    #[inline]
    pub(super) fn answer(access: Result<u32, Error>) -> u64 {
        match access {
            Ok(value) => value.into(),
            Err(error) => error.number(),
        }
    }

    #[cold]
    fn number(self) -> u64 {
        // An access returns no other errors.
        REFUSED | Self::OF_ACCESS.iter().position(|&e| e == self).unwrap_or(0) as u64
    }

    #[inline]
    pub(super) fn of_answer(word: u64) -> Result<u32, Error> {
        match u32::try_from(word) {
            Ok(value) => Ok(value),
            Err(_) => {
                Err(Self::OF_ACCESS.get((word ^ REFUSED) as usize).copied().unwrap_or(IpcError::Malformed.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_is_read_as_it_was_written() {
        let targets = [
            Target::Config { function: 0xff, offset: 0xfe },
            Target::Config { function: 0, offset: 0 },
            Target::Port(0xfffe),
            Target::Memory(u64::MAX),
        ];
        for target in targets {
            for width in [Width::Byte, Width::Word, Width::Dword] {
                let [how, at, _] = Read { target, width }.words();
                assert_eq!(Read::of_words(how, at), Ok(Read { target, width }));
            }
        }
        for (how, at) in [(3, 0), (0x301, 0), (0x001, 0x1_0000), (0x101, 0x1_0000), (0x1_0001, 0)] {
            assert_eq!(Read::of_words(how, at), Err(IpcError::Malformed));
        }
    }

    #[test]
    fn an_answer_is_the_value_or_the_error() {
        let errors = Error::OF_ACCESS.map(Err);
        for answer in [Ok(0), Ok(u32::MAX)].into_iter().chain(errors) {
            assert_eq!(Error::of_answer(Error::answer(answer)), answer);
        }
        for word in [REFUSED | 5, 1 << 33, u64::MAX] {
            assert_eq!(Error::of_answer(word), Err(Error::Ipc(IpcError::Malformed)));
        }
    }
}
