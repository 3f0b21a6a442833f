//! Messages and signals (seL4 manual, chapters 4 and 5).
//!
//! The functions whose names end in `_with_mrs` pass the first four message words in registers and do not change those
//! in the IPC buffer; the others use the IPC buffer for the whole message.

use crate::{Badge, MessageInfo, Word, cap, ipc_buffer, sys};
use sys::syscall::{Received, call};

/// The message words in registers.
pub type Mrs = [Word; 4];

/// A received message.
#[derive(Clone, Copy, Debug)]
pub struct RecvWithMrs {
    /// Its tag.
    pub info: MessageInfo,
    /// The badge of the sender's capability, or the bits of a bound notification.
    pub badge: Badge,
    /// Its first four words.
    pub mrs: Mrs,
}

impl From<Received> for RecvWithMrs {
    #[inline]
    fn from(received: Received) -> Self {
        Self { info: MessageInfo::from_word(received.info), badge: received.badge, mrs: received.mrs }
    }
}

impl RecvWithMrs {
    #[inline]
    fn into_buffer(self) -> (MessageInfo, Badge) {
        for (index, word) in self.mrs.into_iter().enumerate() {
            ipc_buffer().set_word(index, word);
        }
        (self.info, self.badge)
    }
}

#[inline]
fn buffered() -> Mrs {
    core::array::from_fn(|index| ipc_buffer().word(index))
}

impl cap::Endpoint {
    /// Sends a message; blocks until a thread receives it.
    #[inline]
    pub fn send(self, info: MessageInfo) {
        self.send_with_mrs(info, buffered());
    }

    /// As [`send`](Self::send), with the first words as an argument.
    #[inline]
    pub fn send_with_mrs(self, info: MessageInfo, mrs: Mrs) {
        call(sys::seL4_SysSend, self.bits(), info.into_word(), mrs);
    }

    /// Waits for a message, or for a signal of the bound notification.
    #[inline]
    pub fn recv(self) -> (MessageInfo, Badge) {
        self.recv_with_mrs().into_buffer()
    }

    /// As [`recv`](Self::recv), with the first words returned.
    #[inline]
    pub fn recv_with_mrs(self) -> RecvWithMrs {
        call(sys::seL4_SysRecv, self.bits(), 0, [0; 4]).into()
    }

    /// Sends a message and waits for the reply.
    #[inline]
    pub fn call(self, info: MessageInfo) -> MessageInfo {
        RecvWithMrs::from(call(sys::seL4_SysCall, self.bits(), info.into_word(), buffered())).into_buffer().0
    }

    /// As [`call`](Self::call), with the first words as argument and result.
    #[inline]
    pub fn call_with_mrs(self, info: MessageInfo, mrs: Mrs) -> (MessageInfo, Mrs) {
        let answer = RecvWithMrs::from(call(sys::seL4_SysCall, self.bits(), info.into_word(), mrs));
        (answer.info, answer.mrs)
    }

    /// As [`reply_recv`](Self::reply_recv), with the first words as argument and result.
    #[inline]
    pub fn reply_recv_with_mrs(self, info: MessageInfo, mrs: Mrs) -> RecvWithMrs {
        call(sys::seL4_SysReplyRecv, self.bits(), info.into_word(), mrs).into()
    }
}

/// Replies to the last caller.
#[inline]
pub fn reply(info: MessageInfo) {
    call(sys::seL4_SysReply, 0, info.into_word(), buffered());
}

impl cap::Notification {
    /// Sets the bits of this capability's badge.
    #[inline]
    pub fn signal(self) {
        call(sys::seL4_SysSend, self.bits(), MessageInfo::new(0, 0, 0, 0).into_word(), [0; 4]);
    }

    /// Waits until a bit is set; returns and clears all bits.
    #[inline]
    pub fn wait(self) -> Badge {
        call(sys::seL4_SysRecv, self.bits(), 0, [0; 4]).badge
    }

    /// Returns and clears the bits that are set, if any.
    #[inline]
    pub fn poll(self) -> Badge {
        call(sys::seL4_SysNBRecv, self.bits(), 0, [0; 4]).badge
    }
}

/// Yields to other threads of the same priority.
#[inline]
pub fn yield_now() {
    call(sys::seL4_SysYield, 0, 0, [0; 4]);
}
