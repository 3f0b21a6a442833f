//! Message tags and the IPC buffer (seL4 manual, section 4.1).

use core::fmt;

use crate::{AbsoluteCPtr, CPtr, Word, sys};

/// The badge of a capability, which the receiver of a message gets. At most 28 bits on the pinned kernel, 64 on later
/// ones.
pub type Badge = Word;

/// Label, length and capability count of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MessageInfo(sys::seL4_MessageInfo_t);

impl MessageInfo {
    /// The longest message, in words.
    pub const MAX_LENGTH: usize = sys::seL4_MsgMaxLength as usize;

    /// A tag. `label` has 20 bits on the pinned kernel; `extra_caps` is at most 3, `length` (in words) at most 120.
    #[inline]
    pub const fn new(label: Word, caps_unwrapped: usize, extra_caps: usize, length: usize) -> Self {
        Self(sys::seL4_MessageInfo_new(label, caps_unwrapped as Word, extra_caps as Word, length as Word))
    }

    /// A tag from the kernel's encoding.
    #[inline]
    pub const fn from_word(word: Word) -> Self {
        Self(sys::seL4_MessageInfo_t { words: [word] })
    }

    /// The kernel's encoding.
    #[inline]
    pub const fn into_word(self) -> Word {
        self.0.words[0]
    }

    /// The label: the request, or the result of a reply.
    #[inline]
    pub const fn label(self) -> Word {
        sys::seL4_MessageInfo_get_label(self.0)
    }

    /// Length of the message in words.
    #[inline]
    pub const fn length(self) -> usize {
        sys::seL4_MessageInfo_get_length(self.0) as usize
    }

    /// Number of capabilities sent, or received.
    #[inline]
    pub const fn extra_caps(self) -> usize {
        sys::seL4_MessageInfo_get_extraCaps(self.0) as usize
    }

    /// One bit per received capability that was unwrapped, i.e. replaced by its badge, as it is to the endpoint used.
    #[inline]
    pub const fn caps_unwrapped(self) -> usize {
        sys::seL4_MessageInfo_get_capsUnwrapped(self.0) as usize
    }
}

impl fmt::Debug for MessageInfo {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.debug_struct("MessageInfo")
            .field("label", &self.label())
            .field("length", &self.length())
            .field("extra_caps", &self.extra_caps())
            .field("caps_unwrapped", &self.caps_unwrapped())
            .finish()
    }
}

/// The calling thread's IPC buffer.
pub const fn ipc_buffer() -> IpcBuffer {
    IpcBuffer(())
}

/// The IPC buffer: the words of a message and its capabilities. Any invocation and any message overwrites it. It is
/// read and written by value, so that no reference exists across a system call.
#[derive(Clone, Copy, Debug)]
pub struct IpcBuffer(());

impl IpcBuffer {
    /// Word `index` of the message; zero beyond the longest message.
    #[inline]
    pub fn word(self, index: usize) -> Word {
        sys::get_mr(index)
    }

    /// Sets word `index` of the message.
    #[inline]
    pub fn set_word(self, index: usize, value: Word) {
        sys::set_mr(index, value);
    }

    /// Copies `bytes` into the message from word `first` on. Returns how many fit.
    #[inline]
    pub fn write_bytes(self, first: usize, bytes: &[u8]) -> usize {
        sys::write_message(first, bytes)
    }

    /// Copies the message from word `first` on into `bytes`. Returns how many bytes.
    #[inline]
    pub fn read_bytes(self, first: usize, bytes: &mut [u8]) -> usize {
        sys::read_message(first, bytes)
    }

    /// Sets a capability to send. `index` is 0 to 2.
    #[inline]
    pub fn set_cap(self, index: usize, cap: CPtr) {
        sys::set_cap(index, cap.bits());
    }

    /// Sets the slot for a received capability. It must be empty when the message arrives.
    #[inline]
    pub fn set_recv_slot(self, slot: &AbsoluteCPtr) {
        sys::set_receive_path(slot.root().bits(), slot.path().bits(), Word::from(slot.path().depth()));
    }
}
