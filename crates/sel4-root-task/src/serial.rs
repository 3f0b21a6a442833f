//! A console on a 16550 (National Semiconductor PC16550D, section 8), byte by byte without interrupts, through an I/O-port
//! capability: a release kernel has no console of its own. For the log, see [`open`].

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sel4::cap;

use crate::set_sink;

/// Registers, with what puts the UART at 115200 baud, 8 bits, no parity: a release kernel leaves it as the firmware had it.
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

/// Sets the UART up whose eight ports, from `port` on, `uart` is a capability to, and sends the log there, and a panic's
/// last words. A board without this UART has no console; the root task runs all the same.
pub fn open(uart: cap::IoPort, port: u16) {
    for (register, value) in SET_UP {
        // Nobody is there to be told of a refusal.
        let _ = uart.ioport_out8(port + register, value);
    }
    UART.store(uart.bits(), Relaxed);
    PORT.store(port.into(), Relaxed);
    set_sink(print);
}

/// Whether the console has been opened.
pub fn is_open() -> bool {
    UART.load(Relaxed) != 0
}

/// Prints; a line feed gets its carriage return.
pub fn print(text: &str) {
    for byte in text.bytes() {
        if byte == b'\n' {
            put(b'\r');
        }
        put(byte);
    }
}

/// Waits until everything printed has left the machine.
pub fn drain() {
    wait_for(LINE_IDLE);
}

fn put(byte: u8) {
    wait_for(TRANSMITTER_EMPTY);
    // A refusal means that there is nobody to tell.
    let _ = cap::IoPort::from_bits(UART.load(Relaxed)).ioport_out8(PORT.load(Relaxed) as u16, byte);
}

/// Waits until the line status has this bit. A UART that never gets there has lost its line, and is not waited for.
fn wait_for(bit: u8) {
    let (uart, port) = (cap::IoPort::from_bits(UART.load(Relaxed)), PORT.load(Relaxed) as u16);
    let ready = |_: &u32| matches!(uart.ioport_in8(port + LINE_STATUS), Ok(status) if status & bit != 0);
    let _ = (0..PATIENCE).find(ready);
}
