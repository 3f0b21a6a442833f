//! root-task's own output, before serial-server runs and when a process has faulted: straight to the UART, byte by byte, as
//! the kernel's own messages go. And the switch of the board, where it has one.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use capdl_spec::spec::{PowerOff, Spec};
use sel4::cap::{self, cap_type};
use sel4_root_task::set_sink;

use crate::objects::Objects;

/// Registers of a 16550 (National Semiconductor PC16550D, section 8), with what puts it at 115200 baud, 8 bits, no parity: a
/// release kernel leaves it as the firmware had it.
const SET_UP: [(u16, u8); 6] = [
    (1, 0x00), // no interrupts
    (3, 0x80), // divisor latch
    (0, 0x01),
    (1, 0x00),
    (3, 0x03), // 8 bits, and the latch away
    (2, 0x07), // FIFOs on, and empty
];
/// Line status register, and its bit for an empty transmitter.
const LINE_STATUS: u16 = 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// Times to ask for that: a character at 1200 baud takes fewer.
const PATIENCE: u32 = 1 << 16;

/// The UART's capability and first port; the log's sink is a plain function, so it finds them here.
static UART: AtomicU64 = AtomicU64::new(0);
static PORT: AtomicU64 = AtomicU64::new(0);

/// Sends the log to the console of the specification.
pub fn open(objects: &Objects, spec: &Spec) {
    if let Some(console) = &spec.console {
        let uart = objects.cap::<cap_type::IoPort>(console.ports);
        for (register, value) in SET_UP {
            // A board without this UART has no console; the system runs all the same.
            let _ = uart.ioport_out8(console.port + register, value);
        }
        UART.store(uart.bits(), Relaxed);
        PORT.store(console.port.into(), Relaxed);
        set_sink(print);
    }
}

fn print(text: &str) {
    let uart = cap::IoPort::from_bits(UART.load(Relaxed));
    let port = PORT.load(Relaxed) as u16;
    let put = |byte| {
        let ready = |_: &u32| matches!(uart.ioport_in8(port + LINE_STATUS), Ok(status) if status & TRANSMITTER_EMPTY != 0);
        // A UART that never gets ready has lost its line; the byte goes nowhere either way.
        let _ = (0..PATIENCE).find(ready);
        let _ = uart.ioport_out8(port, byte);
    };
    for byte in text.bytes() {
        if byte == b'\n' {
            put(b'\r');
        }
        put(byte);
    }
}

/// Ends whatever line serial-server has begun.
pub fn fresh_line() {
    if UART.load(Relaxed) != 0 {
        print("\n");
    }
}

/// Switches the board off, if the specification says how. Returns where it cannot be.
pub fn power_off(objects: &Objects, switch: &PowerOff) {
    let ports = objects.cap::<cap_type::IoPort>(switch.ports);
    for &byte in &switch.bytes {
        // A refusal means that the board stays on, which the caller sees.
        let _ = ports.ioport_out8(switch.port, byte);
    }
}
