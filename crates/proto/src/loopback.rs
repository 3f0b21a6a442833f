//! The transport of the tests: the server's dispatcher, called where an endpoint would be.
//! It leaves out nothing that a server can see; errors become error replies as in `rt::serve`.

use core::cell::RefCell;

use crate::wire::{IpcError, Message, Transport};

/// A server in this very process.
pub struct Loopback<F>(RefCell<F>);

impl<F: FnMut(&mut Message) -> Result<(), IpcError>> Loopback<F> {
    /// The server whose calls `dispatch` answers.
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
