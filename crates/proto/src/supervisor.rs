//! root-task's interface: notices of a vmm-server about its guest, and of any process about itself. Notices have no
//! reply; the badge identifies the sender. Their labels differ from those of fault messages, which are small numbers
//! and arrive at the same endpoint. There is one call: a process with device windows in the specification (pci-server)
//! asks for frames and ports in them.

use core::fmt::{self, Display, Write};

use heapless::String;
use serde::{Deserialize, Serialize};

use crate::wire::{Call, IpcError, Message, Transport};

/// Label of a notice.
pub const LABEL: u64 = 0x601;

/// Longest [`Reason`], in bytes; it fits a message.
pub const MAX_REASON: usize = 160;

/// Why a guest does not run, for humans. The sender may be hostile: print the text with [`printable`].
pub type Reason = String<MAX_REASON>;

/// What happened to the guest, or to the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// It powered off and will not run again.
    PoweredOff,
    /// It could not be started, or cannot continue, and will not run again. If a guest has failed, the run of the
    /// machine counts as failed.
    Failed {
        /// Why.
        reason: Reason,
    },
    /// It was reset and starts again.
    Rebooted {
        /// Resets since the vmm-server started.
        count: u32,
    },
    /// It powered off, and its manager has started it again.
    Started,
    /// The process has done its work; root-task suspends it.
    Finished,
}

/// Asks for device memory or ports inside the windows that the specification lists for the caller. root-task moves the
/// capabilities to the caller's scratch CNode; they are the originals, so the caller can revoke the copies that it
/// derives. A repeated request for the same range and slots succeeds without effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Frames of 2^`bits` bytes (12 or 21).
    Memory {
        /// Physical address of the first.
        paddr: u64,
        /// How many, at most 512.
        pages: u16,
        /// log2 of the size of each.
        bits: u8,
        /// Slot of the scratch CNode for the first, the others follow.
        slot: u16,
        /// Address in the caller's address space to map them at, uncached; `None` for no mapping.
        map: Option<u64>,
    },
    /// A range of I/O ports.
    Ports {
        /// First port.
        first: u16,
        /// Last port, inclusive.
        last: u16,
        /// Slot of the scratch CNode.
        slot: u16,
    },
}
impl Call for Request {
    const LABEL: u64 = 0x602;
    type Reply = Result<(), Refused>;
}

/// Why root-task refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    /// The message was malformed or unknown.
    Ipc(IpcError),
    /// Outside the windows of the caller.
    Outside,
    /// The range is not free device memory: it is RAM, a device of the kernel, or was granted before in another way.
    NotThere,
    /// Out of memory or slots, or a slot that is not free.
    NoRoom,
}

impl From<IpcError> for Refused {
    fn from(error: IpcError) -> Self {
        Refused::Ipc(error)
    }
}

impl Notice {
    /// The guest has failed. Truncates a `reason` that is too long.
    pub fn failed(reason: impl Display) -> Self {
        let mut cut = Cut(Reason::new());
        // An error means that the text is full: the rest is dropped.
        let _ = write!(cut, "{reason}");
        Notice::Failed { reason: cut.0 }
    }

    /// The notice in a received message.
    pub fn decode(message: &Message) -> Result<Self, IpcError> {
        if message.label == LABEL { message.decode() } else { Err(IpcError::UnknownLabel) }
    }
}

/// A writer that truncates.
struct Cut(Reason);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.0.push(c).map_err(|_| fmt::Error))
    }
}

/// Text of another process, with its control characters replaced: on one line, and without escape sequences.
pub fn printable(text: &str) -> impl Display {
    fmt::from_fn(move |f| text.chars().try_for_each(|c| f.write_char(if c.is_control() { '.' } else { c })))
}

/// A client of root-task.
#[derive(Clone, Copy, Debug)]
pub struct Client<T>(pub T);

impl<T: Transport> Client<T> {
    /// Sends a notice.
    pub fn notify(&self, notice: Notice) -> Result<(), IpcError> {
        let mut message = Message::EMPTY;
        message.encode(LABEL, &notice)?;
        self.0.send(&message);
        Ok(())
    }

    /// See [`Request`].
    pub fn request(&self, request: Request) -> Result<(), Refused> {
        self.0.call(&request)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::Loopback;

    #[test]
    fn a_notice_arrives_as_it_was_sent() {
        let mut received = None;
        let root = Loopback::new(|m: &mut Message| {
            received = Some(Notice::decode(m));
            Ok(())
        });
        Client(root).notify(Notice::Rebooted { count: 3 }).unwrap();
        assert_eq!(received, Some(Ok(Notice::Rebooted { count: 3 })));
    }

    #[test]
    fn a_reason_is_cut_where_it_no_longer_fits_and_still_arrives() {
        let long = "\u{fc}".repeat(MAX_REASON);
        let notice = Notice::failed(&long);
        assert_eq!(notice, Notice::Failed { reason: long[..MAX_REASON].try_into().unwrap() });
        let mut message = Message::EMPTY;
        message.encode(LABEL, &notice).unwrap();
        assert_eq!(Notice::decode(&message), Ok(notice));
    }

    #[test]
    fn a_reason_is_printed_on_one_line() {
        extern crate std;
        let text = std::format!("{}", printable("no\r\nroot-task: \u{1b}[2Jfailed"));
        assert_eq!(text, "no..root-task: .[2Jfailed");
    }

    #[test]
    fn another_label_is_no_notice() {
        assert_eq!(Notice::decode(&Message::EMPTY), Err(IpcError::UnknownLabel));
    }
}
