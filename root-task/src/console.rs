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
/// The last bit of the last byte has left.
const LINE_IDLE: u8 = 1 << 6;
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

/// Waits until the line status has this bit. A UART that never gets there has lost its line, and is not waited for.
fn wait_for(uart: cap::IoPort, port: u16, bit: u8) {
    let ready = |_: &u32| matches!(uart.ioport_in8(port + LINE_STATUS), Ok(status) if status & bit != 0);
    let _ = (0..PATIENCE).find(ready);
}

fn print(text: &str) {
    let uart = cap::IoPort::from_bits(UART.load(Relaxed));
    let port = PORT.load(Relaxed) as u16;
    let put = |byte| {
        wait_for(uart, port, TRANSMITTER_EMPTY);
        // A refusal means that there is nobody to tell.
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

/// Switches the board off, after the last word has been said. Returns where that has no effect.
pub fn power_off(objects: &Objects, switch: &PowerOff) {
    wait_for(cap::IoPort::from_bits(UART.load(Relaxed)), PORT.load(Relaxed) as u16, LINE_IDLE);
    let ports = objects.cap::<cap_type::IoPort>(switch.ports);
    for &byte in &switch.bytes {
        // A refusal means that the board stays on, which the caller sees.
        let _ = ports.ioport_out8(switch.port, byte);
    }
}
