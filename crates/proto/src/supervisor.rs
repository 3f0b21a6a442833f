//! root-task's ear: what a vmm-server has to say about its guest, and any process about itself. Notices are one-way: no reply is awaited,
//! and root-task knows by the badge who it was. Labels cannot be mistaken for those of fault messages, which are small.

use serde::{Deserialize, Serialize};

use crate::wire::{IpcError, Message, Transport};

/// Label of a notice.
pub const LABEL: u64 = 0x601;

/// What happened to the guest, or to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// It switched itself off and will not run again.
    PoweredOff,
    /// It was reset and starts again.
    Rebooted {
        /// Resets since the vmm-server started.
        count: u32,
    },
    /// The process has done its work and wants to be stopped.
    Finished,
}

impl Notice {
    /// The notice in a received message.
    pub fn decode(message: &Message) -> Result<Self, IpcError> {
        if message.label == LABEL { message.decode() } else { Err(IpcError::UnknownLabel) }
    }
}

/// A client of root-task.
#[derive(Clone, Copy, Debug)]
pub struct Client<T>(pub T);

impl<T: Transport> Client<T> {
    /// Tells root-task.
    pub fn notify(&self, notice: Notice) -> Result<(), IpcError> {
        let mut message = Message::EMPTY;
        message.encode(LABEL, &notice)?;
        self.0.send(&message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loopback::Loopback;

    #[test]
    fn a_notice_arrives_as_it_was_sent() {
        let mut heard = None;
        let root = Loopback::new(|m: &mut Message| {
            heard = Some(Notice::decode(m));
            Ok(())
        });
        Client(root).notify(Notice::Rebooted { count: 3 }).unwrap();
        assert_eq!(heard, Some(Ok(Notice::Rebooted { count: 3 })));
    }

    #[test]
    fn another_label_is_no_notice() {
        assert_eq!(Notice::decode(&Message::EMPTY), Err(IpcError::UnknownLabel));
    }
}
