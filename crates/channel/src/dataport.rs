//! Memory that two ends share, through copies.

use mmio::Window;

/// Why an access to a dataport is refused; nothing was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It does not end inside.
    OutOfRange,
    /// Only the other end may write.
    ReadOnly,
}

/// A dataport. The other end may change its bytes at any time, during an access too.
#[derive(Clone, Copy, Debug)]
pub struct Dataport {
    window: Window,
    writable: bool,
}

impl Dataport {
    /// The memory of `window`, which this end may change if it is `writable`.
    pub const fn new(window: Window, writable: bool) -> Self {
        Self { window, writable }
    }

    /// Its bytes: a power of two from 4 KiB on.
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub const fn len(&self) -> u64 {
        self.window.len()
    }

    /// Whether this end may write.
    pub const fn is_writable(&self) -> bool {
        self.writable
    }

    /// Copies the bytes from offset `at` on to `into`, as many as it has room for.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Refused> {
        self.window.read(at, into).map_err(|_| Refused::OutOfRange)
    }

    /// Copies `bytes` to offset `at`.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Refused> {
        if !self.writable {
            return Err(Refused::ReadOnly);
        }
        self.window.write(at, bytes).map_err(|_| Refused::OutOfRange)
    }
}
