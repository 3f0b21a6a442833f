//! Requests and replies as seL4 messages: the label identifies the call, the message registers have the postcard
//! encoding (postcard wire format 1.0), padded with zeros to a whole word. In a reply the label is 0, or an
//! [`IpcError`]. Decoding is strict: a word too many, or padding that is not zero, is an error.
//! It leaves out versions: client and server come from one build.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zerocopy::IntoBytes;

/// Message registers of seL4 (`seL4_MsgMaxLength`).
pub const MAX_WORDS: usize = 120;
/// Message words that the kernel transfers in machine registers (`n_msgRegisters` on x86_64).
pub const IN_REGISTERS: usize = 4;
/// Label of a reply that is not an error.
const ANSWERED: u64 = 0;

/// The caller, identified by the badge of its endpoint capability, never by a field of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(pub u64);

impl ClientId {
    /// The client's position in the lists of a server's configuration.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// A request. It determines the type of its reply, so a client never gets a reply of the wrong type.
pub trait Call: Serialize + DeserializeOwned {
    /// Unique among all interfaces: a server refuses requests of another interface as unknown.
    const LABEL: u64;
    /// The server's reply.
    type Reply: Serialize + DeserializeOwned;
}

/// An error of the message itself, as opposed to an error of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u64)]
pub enum IpcError {
    /// The server has no such call.
    UnknownLabel = 1,
    /// Too short, too long, or not an encoding of the type.
    Malformed = 2,
    /// The value does not fit the message registers.
    TooLong = 3,
}

impl IpcError {
    /// The error for a reply's label; unknown labels are `Malformed`.
    fn of_label(label: u64) -> Self {
        match label {
            1 => IpcError::UnknownLabel,
            3 => IpcError::TooLong,
            _ => IpcError::Malformed,
        }
    }
}

/// A message to send, or received.
#[derive(Clone, Debug)]
pub struct Message {
    /// The call, or the result of a reply.
    pub label: u64,
    /// The CPtr of a capability: to be sent with the message, or received with it.
    pub cap: Option<u64>,
    words: [u64; MAX_WORDS],
    len: usize,
}

impl Message {
    /// No label, no words.
    pub const EMPTY: Message = Message { label: 0, cap: None, words: [0; MAX_WORDS], len: 0 };

    /// The message registers in use.
    pub fn words(&self) -> &[u64] {
        self.words.get(..self.len).unwrap_or(&self.words)
    }

    /// The words that the kernel transfers in registers. Words beyond the message's length are undefined and not sent.
    pub fn head(&self) -> [u64; IN_REGISTERS] {
        let [a, b, c, d, ..] = self.words;
        [a, b, c, d]
    }

    /// The other words.
    pub fn tail(&self) -> &[u64] {
        self.words.get(IN_REGISTERS..self.len).unwrap_or_default()
    }

    /// As [`Self::receive`], of a message that begins with `head`; returns the space for the other words.
    #[inline]
    pub fn receive_in_registers(&mut self, label: u64, len: usize, head: [u64; IN_REGISTERS]) -> &mut [u64] {
        self.receive(label, len);
        let (first, rest) = self.words.split_at_mut(IN_REGISTERS);
        first.copy_from_slice(&head);
        rest.get_mut(..self.len.saturating_sub(IN_REGISTERS)).unwrap_or_default()
    }

    /// The space for `len` incoming words (at most [`MAX_WORDS`]), which a transport fills.
    pub fn receive(&mut self, label: u64, len: usize) -> &mut [u64] {
        self.label = label;
        self.cap = None;
        self.len = len.min(MAX_WORDS);
        &mut self.words[..self.len]
    }

    /// Encodes `value`, with label `label`.
    pub fn encode<T: Serialize>(&mut self, label: u64, value: &T) -> Result<(), IpcError> {
        let used = postcard::to_slice(value, self.words.as_mut_bytes()).map_err(|_| IpcError::TooLong)?.len();
        self.len = used.div_ceil(8);
        // The buffer may have bytes of an earlier message, possibly another client's.
        self.words.as_mut_bytes()[used..self.len * 8].fill(0);
        self.label = label;
        self.cap = None;
        Ok(())
    }

    /// Decodes a value, which must take up all words of the message.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, IpcError> {
        let (value, padding) = postcard::take_from_bytes(self.words().as_bytes()).map_err(|_| IpcError::Malformed)?;
        let exact = padding.len() < 8 && padding.iter().all(|&byte| byte == 0);
        exact.then_some(value).ok_or(IpcError::Malformed)
    }

    /// Server: decodes the request and replaces it by the reply.
    pub fn answer<C: Call>(&mut self, serve: impl FnOnce(C) -> C::Reply) -> Result<(), IpcError> {
        let reply = serve(self.decode()?);
        self.encode(ANSWERED, &reply)
    }

    /// As [`Self::answer`], with a capability of the server to send along.
    pub fn answer_with_cap<C: Call>(
        &mut self,
        serve: impl FnOnce(C) -> (C::Reply, Option<u64>),
    ) -> Result<(), IpcError> {
        let (reply, cap) = serve(self.decode()?);
        self.encode(ANSWERED, &reply)?;
        self.cap = cap;
        Ok(())
    }

    /// Server: replies to a call of [`Transport::exchange_words`].
    #[inline]
    pub fn answer_words(&mut self, serve: impl FnOnce([u64; 3]) -> Result<u64, IpcError>) -> Result<(), IpcError> {
        let &[a, b, c] = self.words() else { return Err(IpcError::Malformed) };
        let word = serve([a, b, c])?;
        self.receive(ANSWERED, 1).fill(word);
        Ok(())
    }

    /// Server: makes the message an error reply if dispatching failed.
    #[inline]
    pub fn finish(&mut self, dispatched: Result<(), IpcError>) {
        if let Err(error) = dispatched {
            self.receive(error as u64, 0);
        }
    }
}

/// The connection to a server: an endpoint, or a function call in tests.
pub trait Transport {
    /// Sends the message, waits for the reply, and replaces the message by it.
    fn exchange(&self, message: &mut Message);

    /// Sends the message without waiting for a reply.
    fn send(&self, message: &Message);

    /// A call of three plain words with one word as reply, for frequent calls: all are transferred in machine
    /// registers, without encoding.
    fn exchange_words(&self, label: u64, words: [u64; 3]) -> Result<u64, IpcError> {
        let mut message = Message::EMPTY;
        message.receive(label, words.len()).copy_from_slice(&words);
        self.exchange(&mut message);
        word_of_answer(message.label, message.words())
    }

    /// Makes a call.
    fn call<C: Call>(&self, call: &C) -> Result<C::Reply, IpcError> {
        self.call_for_cap(call).map(|(reply, _)| reply)
    }

    /// Makes a call whose reply may have a capability; returns its CPtr.
    fn call_for_cap<C: Call>(&self, call: &C) -> Result<(C::Reply, Option<u64>), IpcError> {
        let mut message = Message::EMPTY;
        message.encode(C::LABEL, call)?;
        self.exchange(&mut message);
        match message.label {
            ANSWERED => Ok((message.decode()?, message.cap)),
            label => Err(IpcError::of_label(label)),
        }
    }
}

/// The word of a reply to [`Transport::exchange_words`].
#[inline]
pub fn word_of_answer(label: u64, words: &[u64]) -> Result<u64, IpcError> {
    match (label, words) {
        (ANSWERED, &[word]) => Ok(word),
        (ANSWERED, _) => Err(IpcError::Malformed),
        (error, _) => Err(IpcError::of_label(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::Loopback;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Add(u32, u32);
    impl Call for Add {
        const LABEL: u64 = 7;
        type Reply = Option<u64>;
    }

    fn adder(message: &mut Message) -> Result<(), IpcError> {
        match message.label {
            Add::LABEL => message.answer(|Add(a, b)| Some(u64::from(a) + u64::from(b))),
            _ => Err(IpcError::UnknownLabel),
        }
    }

    #[test]
    fn a_call_is_answered() {
        assert_eq!(Loopback::new(adder).call(&Add(u32::MAX, 1)), Ok(Some(1 << 32)));
    }

    #[test]
    fn an_unknown_label_is_refused() {
        #[derive(Serialize, Deserialize)]
        struct Other;
        impl Call for Other {
            const LABEL: u64 = 8;
            type Reply = ();
        }
        assert_eq!(Loopback::new(adder).call(&Other), Err(IpcError::UnknownLabel));
    }

    fn answer_to(words: &[u64]) -> Message {
        let mut message = Message::EMPTY;
        message.receive(Add::LABEL, words.len()).copy_from_slice(words);
        Loopback::new(adder).exchange(&mut message);
        message
    }

    #[test]
    fn a_request_is_decoded_exactly() {
        assert_eq!(answer_to(&[0x0201]).decode(), Ok(Some(3u64)));
        for (malformed, words) in [
            ("short", &[][..]),
            ("a word too many", &[0x0201, 0]),
            ("padding that is not zero", &[0x0003_0201]),
            ("no end", &[!0]),
        ] {
            let reply = answer_to(words);
            assert_eq!((reply.label, reply.words()), (IpcError::Malformed as u64, &[][..]), "{malformed}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        #[derive(Serialize)]
        struct Long<'a>(&'a [u8]);
        let mut message = Message::EMPTY;
        assert_eq!(message.encode(1, &Long(&[0; 958])), Ok(()));
        assert_eq!(message.words().len(), MAX_WORDS);
        assert_eq!(message.encode(1, &Long(&[0; 959])), Err(IpcError::TooLong));
    }

    #[test]
    fn old_bytes_do_not_leak_into_the_padding() {
        let mut message = Message::EMPTY;
        message.receive(1, 4).fill(!0);
        message.encode(1, &1u8).unwrap();
        assert_eq!(message.words(), &[1]);
    }

    proptest! {
        #[test]
        fn a_message_goes_through_registers_and_buffer_unchanged(
            words in prop::collection::vec(any::<u64>(), 0..=MAX_WORDS),
            before in 0..=MAX_WORDS,
        ) {
            let (mut sent, mut came) = (Message::EMPTY, Message::EMPTY);
            sent.receive(1, words.len()).copy_from_slice(&words);
            came.receive(2, before).fill(!0);
            came.receive_in_registers(sent.label, sent.words().len(), sent.head()).copy_from_slice(sent.tail());
            prop_assert_eq!((came.label, came.words()), (1, &words[..]));
        }

        #[test]
        fn any_message_gets_a_reply(label in 0u64..16, words in prop::collection::vec(any::<u64>(), 0..=MAX_WORDS)) {
            let mut message = Message::EMPTY;
            message.receive(label, words.len()).copy_from_slice(&words);
            Loopback::new(adder).exchange(&mut message);
            prop_assert!(message.label <= IpcError::TooLong as u64);
        }

        #[test]
        fn any_reply_is_read_or_refused(label in any::<u64>(), words in prop::collection::vec(any::<u64>(), 0..8)) {
            let liar = Loopback::new(|m: &mut Message| {
                m.receive(label, words.len()).copy_from_slice(&words);
                Ok(())
            });
            let _ = liar.call(&Add(1, 2));
        }
    }
}
