//! Powers the machine off, by a port of the board, if it has one. On emulators the bytes written also report success or
//! failure. A panic of the root task powers off too.

use core::cell::Cell;

use sel4::{cap, init_thread};

use crate::serial;

/// How to power the board off.
#[derive(Clone, Copy, Debug)]
pub struct Switch {
    /// A capability to the port.
    pub ports: cap::IoPort,
    /// The port's number.
    pub port: u16,
    /// Bytes to write to it, one by one.
    pub off: &'static [u8],
    /// Bytes to write instead after a failure.
    pub failed: &'static [u8],
}

/// Reads of the port after the first byte: a millisecond or more on QEMU.
const PAUSE: usize = 1000;

/// The result that powering off reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// No VM and no process has failed.
    Off,
    /// A VM or a process has failed.
    Failed,
}

struct Installed(Cell<Option<Switch>>);
// SAFETY: the root task has one thread.
unsafe impl Sync for Installed {}

static SWITCH: Installed = Installed(Cell::new(None));

/// Sets the switch for [`end`], and for panics.
pub fn set_switch(switch: Switch) {
    SWITCH.0.set(Some(switch));
}

/// Powers the board off. Without a switch, suspends the root task.
pub fn end(how: End) -> ! {
    // Powering off would cut off output that is still in the UART.
    if serial::is_open() {
        serial::drain();
    }
    if let Some(switch) = SWITCH.0.get() {
        let bytes = match how {
            End::Off => switch.off,
            End::Failed => switch.failed,
        };
        for (index, &byte) in bytes.iter().enumerate() {
            // If the kernel refuses, the board stays on, and the root task is suspended below.
            let _ = switch.ports.ioport_out8(switch.port, byte);
            // QEMU takes some time to end, and then takes what it finds.
            let pause = if index == 0 { PAUSE } else { 0 };
            for _ in 0..pause {
                let _ = switch.ports.ioport_in8(switch.port);
            }
        }
    }
    loop {
        // The kernel suspends the calling thread without an error.
        let _ = init_thread::slot::TCB.cap().tcb_suspend();
    }
}
