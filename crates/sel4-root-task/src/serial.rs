//! A polled console on a 16550 (National Semiconductor PC16550D, section 8), through an I/O-port capability, for the
//! log: a release kernel has no console of its own.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sel4::cap;

use crate::set_sink;

/// Register writes that set the UART to 115200 baud, 8 bits, no parity: a release kernel does not set it up.
const SET_UP: [(u16, u8); 6] = [
    (1, 0x00), // no interrupts
    (3, 0x80), // divisor latch
    (0, 0x01),
    (1, 0x00),
    (3, 0x03), // 8 bits, DLAB cleared
    (2, 0x07), // FIFOs enabled and reset
];
/// Line status register, and its bit for an empty transmitter.
const LINE_STATUS: u16 = 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// The shift register is empty as well.
const LINE_IDLE: u8 = 1 << 6;
/// Polls before a timeout: a character at 1200 baud takes fewer.
const MAX_POLLS: u32 = 1 << 16;

/// The UART's capability and first port; the log's sink is a plain function, so it finds them here.
static UART: AtomicU64 = AtomicU64::new(0);
static PORT: AtomicU64 = AtomicU64::new(0);

/// Sets up the UART at the eight ports from `port` on, with the capability `uart`, and sends the log and panic messages
/// there. On a board without this UART, output is lost, and the root task runs without a console.
pub fn open(uart: cap::IoPort, port: u16) {
    for (register, value) in SET_UP {
        // An error could not be printed.
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

/// Prints text, with a carriage return before each line feed.
pub fn print(text: &str) {
    for byte in text.bytes() {
        if byte == b'\n' {
            put(b'\r');
        }
        put(byte);
    }
}

/// Waits until the UART has sent everything.
pub fn drain() {
    wait_for(LINE_IDLE);
}

fn put(byte: u8) {
    wait_for(TRANSMITTER_EMPTY);
    // An error could not be printed.
    let _ = cap::IoPort::from_bits(UART.load(Relaxed)).ioport_out8(PORT.load(Relaxed) as u16, byte);
}

/// Waits until the line status has this bit, with a timeout, so that a missing UART does not stop the root task.
fn wait_for(bit: u8) {
    let (uart, port) = (cap::IoPort::from_bits(UART.load(Relaxed)), PORT.load(Relaxed) as u16);
    let ready = |_: &u32| matches!(uart.ioport_in8(port + LINE_STATUS), Ok(status) if status & bit != 0);
    let _ = (0..MAX_POLLS).find(ready);
}
