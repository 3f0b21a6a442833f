//! root-task's own output, before serial-server runs and when a process has faulted: straight to the UART, as the kernel's
//! own messages go. And the switch of the board, where it has one.

use capdl_spec::spec::{PowerOff, Spec};
use sel4::cap::cap_type;
use sel4_root_task::serial;

use crate::objects::Objects;

/// Sends the log to the console of the specification.
pub fn open(objects: &Objects, spec: &Spec) {
    if let Some(console) = &spec.console {
        serial::open(objects.cap::<cap_type::IoPort>(console.ports), console.port);
    }
}

/// Ends whatever line serial-server has begun.
pub fn fresh_line() {
    if serial::is_open() {
        serial::print("\n");
    }
}

/// Switches the board off, after the last word has been said. Returns where that has no effect.
pub fn power_off(objects: &Objects, switch: &PowerOff) {
    serial::drain();
    let ports = objects.cap::<cap_type::IoPort>(switch.ports);
    for &byte in &switch.bytes {
        // A refusal means that the board stays on, which the caller sees.
        let _ = ports.ioport_out8(switch.port, byte);
    }
}
