//! The end of the machine: a switch by which the board goes off, where it has one, and which shows whoever switched it on
//! whether all went well. A panic of the root task ends the machine too.

use core::cell::Cell;

use sel4::{cap, init_thread};

use crate::serial;

/// How the board is switched off.
#[derive(Clone, Copy, Debug)]
pub struct Switch {
    /// A capability to the port.
    pub ports: cap::IoPort,
    /// The port's number.
    pub port: u16,
    /// Bytes to write to it, one by one.
    pub off: &'static [u8],
    /// Bytes to write in their place when something has failed.
    pub failed: &'static [u8],
}

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everybody has done their work.
    Off,
    /// Something has failed.
    Failed,
}

struct Installed(Cell<Option<Switch>>);
// SAFETY: the root task has one thread.
unsafe impl Sync for Installed {}

static SWITCH: Installed = Installed(Cell::new(None));

/// Has [`end`], and a panic, use this switch from now on.
pub fn set_switch(switch: Switch) {
    SWITCH.0.set(Some(switch));
}

/// Switches the board off, after the last word has been printed. Without a switch, the root task stops.
pub fn end(how: End) -> ! {
    if serial::is_open() {
        serial::drain();
    }
    if let Some(switch) = SWITCH.0.get() {
        let bytes = match how {
            End::Off => switch.off,
            End::Failed => switch.failed,
        };
        for &byte in bytes {
            // A refusal means that the board stays on.
            let _ = switch.ports.ioport_out8(switch.port, byte);
        }
    }
    loop {
        // The kernel refuses only what is no thread.
        let _ = init_thread::slot::TCB.cap().tcb_suspend();
    }
}
