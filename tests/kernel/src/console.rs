//! COM1, through an I/O-port capability: a release kernel has no console of its own. And the emulated board's switch.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sel4::cap;
use sel4_root_task::set_sink;

use crate::bench::Bench;

/// First port of COM1.
const COM1: u16 = 0x3f8;
/// Registers of a 16550 (National Semiconductor PC16550D, section 8), with what puts it at 115200 baud, 8 bits, no parity.
const SET_UP: [(u16, u8); 6] = [
    (1, 0x00), // no interrupts
    (3, 0x80), // divisor latch
    (0, 0x01),
    (1, 0x00),
    (3, 0x03), // 8 bits, and the latch away
    (2, 0x07), // FIFOs on, and empty
];
/// Line status register; its bits for an empty transmitter, and for the last bit of the last byte having left.
const LINE_STATUS: u16 = COM1 + 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
const LINE_IDLE: u8 = 1 << 6;

/// Bochs ends when it reads this word on this port.
const SWITCH: (u16, &str) = (0x8900, "Shutdown");

/// The capability to COM1's ports; a sink of the log is a plain function, so it finds it here.
static UART: AtomicU64 = AtomicU64::new(0);

fn uart() -> cap::IoPort {
    cap::IoPort::from_bits(UART.load(Relaxed))
}

/// The console, once it is open.
pub struct Console {
    switch: cap::IoPort,
}

/// Sends what is said, and a panic's last words, to COM1.
pub fn open(bench: &mut Bench) -> Console {
    let uart = bench.ports(COM1, COM1 + 7).expect("the root task has all ports");
    for (register, value) in SET_UP {
        uart.ioport_out8(COM1 + register, value).expect("COM1 is ours");
    }
    UART.store(uart.bits(), Relaxed);
    set_sink(print);
    Console { switch: bench.ports(SWITCH.0, SWITCH.0).expect("the root task has all ports") }
}

impl Console {
    /// Ends the emulator.
    pub fn power_off(self) -> ! {
        wait_for(LINE_IDLE);
        for byte in SWITCH.1.bytes() {
            self.switch.ioport_out8(SWITCH.0, byte).expect("the port is ours");
        }
        panic!("this board has no switch");
    }
}

fn wait_for(bit: u8) {
    while !matches!(uart().ioport_in8(LINE_STATUS), Ok(status) if status & bit != 0) {}
}

fn print(text: &str) {
    for byte in text.bytes() {
        wait_for(TRANSMITTER_EMPTY);
        // A refusal means that there is nobody to tell.
        let _ = uart().ioport_out8(COM1, byte);
    }
}

/// See `say!`.
pub fn line(arguments: fmt::Arguments) {
    struct Out;
    impl Write for Out {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            print(text);
            Ok(())
        }
    }
    // `print` takes everything.
    let _ = writeln!(Out, "{arguments}\r");
}

/// Prints a line.
#[macro_export]
macro_rules! say {
    ($($arguments:tt)*) => { $crate::console::line(format_args!($($arguments)*)) };
}
