//! The transport of the tests: calls the server's dispatcher in place of an endpoint. As in `rt::serve`, errors become
//! error replies.

use core::cell::RefCell;

use crate::wire::{IpcError, Message, Transport};

/// A server in the same process.
pub struct Loopback<F>(RefCell<F>);

impl<F: FnMut(&mut Message) -> Result<(), IpcError>> Loopback<F> {
    /// The server with the dispatcher `dispatch`.
    pub fn new(dispatch: F) -> Self {
        Self(RefCell::new(dispatch))
    }
}

impl<F: FnMut(&mut Message) -> Result<(), IpcError>> Transport for Loopback<F> {
    fn exchange(&self, message: &mut Message) {
        let dispatched = (self.0.borrow_mut())(message);
        message.finish(dispatched);
    }

    fn send(&self, message: &Message) {
        self.exchange(&mut message.clone());
    }
}
