//! A polled console on a 16550 (National Semiconductor PC16550D, section 8), through an I/O-port capability, for the
//! log: a release kernel has no console of its own.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use sel4::{BootInfoPtr, cap};

use crate::set_sink;

/// The piece of boot information in which our kernel says where its messages go (kernel patch 0058): the first port and
/// the divisor, two bytes each.
const KERNELS_CONSOLE: sel4::Word = 0x434f_4e53;

/// A UART.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uart {
    /// The first of its eight ports.
    pub port: u16,
    /// Its clock by 16 and by the bits per second; 1 is 115200 on a COM port.
    pub divisor: u16,
}

impl Uart {
    /// The first one of every PC, at 115200 baud.
    pub const COM1: Self = Self { port: 0x3f8, divisor: 1 };

    /// Where the kernel's messages go, as the boot loader's command line has it. `None` if the kernel does not say.
    pub fn of_kernel(bootinfo: BootInfoPtr) -> Option<Self> {
        let said = bootinfo.extra().find(|piece| piece.id == KERNELS_CONSOLE)?;
        let &[port, port_high, divisor, divisor_high, ..] = said.content else { return None };
        Some(Self { port: u16::from_le_bytes([port, port_high]), divisor: u16::from_le_bytes([divisor, divisor_high]) })
    }

    /// Its last port.
    pub fn last(self) -> u16 {
        self.port.saturating_add(7)
    }
}

/// Register writes that set the UART to a rate, 8 bits, no parity: a release kernel does not set it up.
fn set_up(divisor: u16) -> [(u16, u8); 6] {
    let [low, high] = divisor.to_le_bytes();
    [
        (1, 0x00), // no interrupts
        (3, 0x80), // divisor latch
        (0, low),
        (1, high),
        (3, 0x03), // 8 bits, DLAB cleared
        (2, 0x07), // FIFOs enabled and reset
    ]
}
/// Line control register, and its bit for the divisor latch.
const LINE_CONTROL: u16 = 3;
const DLAB: u8 = 1 << 7;
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
/// Polls of the next wait: one after a timeout, until the UART answers again.
static POLLS: AtomicU32 = AtomicU32::new(MAX_POLLS);

/// Sets up a UART, whose ports the capability has, and sends the log and panic messages there. On a board without this
/// UART, output is lost, and the root task runs without a console.
pub fn open(ports: cap::IoPort, uart: Uart) {
    UART.store(ports.bits(), Relaxed);
    PORT.store(uart.port.into(), Relaxed);
    for (register, value) in set_up(uart.divisor) {
        // An error could not be printed.
        let _ = ports.ioport_out8(uart.port + register, value);
    }
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

/// Sends a byte. A process that has the UART may be about to set its rate: with the divisor latch open, the byte would go
/// there.
fn put(byte: u8) {
    wait_for(TRANSMITTER_EMPTY);
    let (uart, port) = (cap::IoPort::from_bits(UART.load(Relaxed)), PORT.load(Relaxed) as u16);
    let open = uart.ioport_in8(port + LINE_CONTROL).ok().filter(|control| control & DLAB != 0);
    // An error could not be printed.
    let write = |register, value| {
        let _ = uart.ioport_out8(port + register, value);
    };
    if let Some(control) = open {
        write(LINE_CONTROL, control & !DLAB);
    }
    write(0, byte);
    if let Some(control) = open {
        write(LINE_CONTROL, control);
    }
}

/// Waits until the line status has this bit, with a timeout, so that a missing UART does not stop the root task. One that only
/// stalls, as a management controller's may, is waited for again as soon as it answers.
fn wait_for(bit: u8) {
    let (uart, port) = (cap::IoPort::from_bits(UART.load(Relaxed)), PORT.load(Relaxed) as u16);
    let ready = |_| matches!(uart.ioport_in8(port + LINE_STATUS), Ok(status) if status & bit != 0);
    let answered = (0..POLLS.load(Relaxed)).any(ready);
    POLLS.store(if answered { MAX_POLLS } else { 1 }, Relaxed);
}
