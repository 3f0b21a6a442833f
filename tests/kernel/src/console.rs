//! COM1, and the emulated board's power-off port.

use core::fmt::{self, Write};

use sel4::cap;
use sel4_root_task::serial::{self, Uart};

use crate::bench::Bench;

/// Bochs ends when it reads this word on this port.
const SWITCH: (u16, &str) = (0x8900, "Shutdown");

/// The console, once it is open.
pub struct Console {
    switch: cap::IoPort,
}

/// Sends output, including panic messages, to COM1.
pub fn open(bench: &mut Bench) -> Console {
    let uart = Uart::COM1;
    serial::open(bench.ports_for_good(uart.port, uart.last()).expect("the root task has all ports"), uart);
    Console { switch: bench.ports_for_good(SWITCH.0, SWITCH.0).expect("the root task has all ports") }
}

impl Console {
    /// Ends the emulator.
    pub fn power_off(self) -> ! {
        serial::drain();
        for byte in SWITCH.1.bytes() {
            self.switch.ioport_out8(SWITCH.0, byte).expect("the port is ours");
        }
        panic!("this board has no switch");
    }
}

/// See `say!`.
pub fn line(arguments: fmt::Arguments) {
    struct Out;
    impl Write for Out {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            serial::print(text);
            Ok(())
        }
    }
    // The console never fails.
    let _ = writeln!(Out, "{arguments}");
}

/// Prints a line.
#[macro_export]
macro_rules! say {
    ($($arguments:tt)*) => { $crate::console::line(format_args!($($arguments)*)) };
}
