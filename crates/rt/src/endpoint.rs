//! The transport of the images: an endpoint capability at a slot of `layout`.

use layout::{Slot, scratch_cptr};
use proto::wire::{IN_REGISTERS, IpcError, Message, Transport, word_of_answer};
use sel4::{AbsoluteCPtr, CPtr, CPtrWithDepth, MessageInfo, cap, ipc_buffer};

/// A server's endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    endpoint: cap::Endpoint,
    receive: Option<u16>,
}

impl Endpoint {
    /// The server at `slot`, for example `proto::timer::SERVICE.slot`. If the description does not give the process this
    /// service, the slot is empty, and a call returns `IpcError::Malformed`.
    pub const fn at(slot: Slot) -> Self {
        Self { endpoint: cap::Endpoint::from_bits(slot.cptr()), receive: None }
    }

    /// The same, able to receive a capability with the reply, in slot `index` (from 1 on) of the scratch CNode. The
    /// slot must be empty.
    pub const fn receive_into(self, index: u16) -> Self {
        Self { receive: Some(index), ..self }
    }
}

/// The slot `index` of the scratch CNode: to delete or revoke its capability, or as an argument of other invocations.
/// The capability itself has the CPtr `layout::scratch_cptr(index)`.
pub fn scratch(index: u16) -> AbsoluteCPtr {
    let path = CPtrWithDepth::from_bits_with_depth(index.into(), layout::SCRATCH_BITS);
    cap::CNode::from_bits(scratch_cptr(0)).absolute_cptr(path)
}

/// Writes a message to the IPC buffer, except for the words that the kernel transfers in registers.
#[inline]
pub(crate) fn put(message: &Message) -> (MessageInfo, [u64; IN_REGISTERS]) {
    let buffer = ipc_buffer();
    for (index, &word) in (IN_REGISTERS..).zip(message.tail()) {
        buffer.set_word(index, word);
    }
    if let Some(cap) = message.cap {
        buffer.set_cap(0, CPtr::from_bits(cap));
    }
    (MessageInfo::new(message.label, 0, message.cap.is_some().into(), message.words().len()), message.head())
}

/// Reads a message from the IPC buffer; its first words are `head`. If it has a capability, the kernel put it into
/// `receive`.
#[inline]
pub(crate) fn take(message: &mut Message, info: MessageInfo, head: [u64; IN_REGISTERS], receive: Option<u16>) {
    let tail = message.receive_in_registers(info.label(), info.length(), head);
    for (index, word) in (IN_REGISTERS..).zip(tail) {
        *word = ipc_buffer().word(index);
    }
    // An unwrapped capability is one to the endpoint used: the kernel transferred its badge only.
    let came = info.extra_caps() == 1 && info.caps_unwrapped() == 0;
    message.cap = if came { receive.map(scratch_cptr) } else { None };
}

impl Transport for Endpoint {
    fn exchange(&self, message: &mut Message) {
        if let Some(index) = self.receive {
            ipc_buffer().set_recv_slot(&scratch(index));
        }
        let (info, head) = put(message);
        let (info, head) = self.endpoint.call_with_mrs(info, head);
        take(message, info, head, self.receive);
    }

    #[inline]
    fn exchange_words(&self, label: u64, [a, b, c]: [u64; 3]) -> Result<u64, IpcError> {
        let (info, answer) = self.endpoint.call_with_mrs(MessageInfo::new(label, 0, 0, 3), [a, b, c, 0]);
        word_of_answer(info.label(), answer.get(..info.length()).unwrap_or(&answer))
    }

    fn send(&self, message: &Message) {
        let (info, head) = put(message);
        self.endpoint.send_with_mrs(info, head);
    }
}
