//! How a process spends its time: the loop of a server, and the end of what has finished. In the loop, one system call answers the last client and waits for the next, or for a signal.

use layout::{client_of, slot};
use proto::supervisor::{self, Notice};
use proto::wire::{ClientId, IpcError, Message};
use sel4::cap;

use crate::Endpoint;
use crate::endpoint::{put, take};

/// What a server wakes up for.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client's call. The message becomes the reply, see `Message::answer`.
    Call(ClientId, &'a mut Message),
    /// Bits of the process's notification, see `layout::event`.
    Signal(u64),
}

/// Serves for good. An error of the handler becomes an error reply, and the server lives on; for a signal there is
/// nobody to tell, so that must not fail.
pub fn serve(mut handle: impl FnMut(Event<'_>) -> Result<(), IpcError>) -> ! {
    let endpoint = cap::Endpoint::from_bits(slot::SERVICE.cptr());
    let mut message = Message::EMPTY;
    let mut came = endpoint.recv_with_mrs();
    loop {
        came = match client_of(came.badge) {
            Some(client) => {
                take(&mut message, came.info, came.mrs, None);
                let answer = handle(Event::Call(ClientId(client), &mut message));
                message.finish(answer);
                let (info, head) = put(&message);
                endpoint.reply_recv_with_mrs(info, head)
            }
            None => {
                let handled = handle(Event::Signal(came.badge));
                debug_assert!(handled.is_ok());
                endpoint.recv_with_mrs()
            }
        };
    }
}

/// The end of a process that has done its work: root-task stops its thread, which costs nothing from then on. What it
/// logged is still printed.
pub fn finish() -> ! {
    let root_task = supervisor::Client(Endpoint::at(slot::SUPERVISOR));
    loop {
        // The notice always fits a message.
        let _ = root_task.notify(Notice::Finished);
    }
}
