//! The main loop of a server, and the end of a process. In the loop, one system call replies to the last client and
//! waits for the next call or signal.

use layout::{client_of, slot};
use proto::supervisor::{self, Notice};
use proto::wire::{ClientId, IpcError, Message};
use sel4::cap;

use crate::Endpoint;
use crate::endpoint::{put, take};

/// An event of the server's main loop.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client's call. The message becomes the reply, see `Message::answer`.
    Call(ClientId, &'a mut Message),
    /// Bits of the process's notification, see `layout::event`.
    Signal(u64),
}

/// Runs the main loop. An error of the handler becomes an error reply, and the server continues. Handling a signal must
/// not fail, as a signal has no reply.
pub fn serve(mut handle: impl FnMut(Event<'_>) -> Result<(), IpcError>) -> ! {
    let endpoint = cap::Endpoint::from_bits(slot::SERVICE.cptr());
    let mut message = Message::EMPTY;
    let mut came = endpoint.recv_with_mrs();
    loop {
        came = match client_of(came.badge) {
            Some(client) => {
                // Servers accept no capabilities from clients.
                take(&mut message, came.info, came.mrs, None);
                let answer = handle(Event::Call(ClientId(client), &mut message));
                message.finish(answer);
                let (info, head) = put(&message);
                // One system call for both, and the kernel has a fastpath for it.
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

/// Ends a process that has done its work: root-task suspends its thread. Lines that it logged before are still printed.
pub fn finish() -> ! {
    let root_task = supervisor::Client(Endpoint::at(slot::SUPERVISOR));
    loop {
        // The notice always fits a message. root-task suspends the thread before the call returns, or soon after.
        let _ = root_task.notify(Notice::Finished);
    }
}
