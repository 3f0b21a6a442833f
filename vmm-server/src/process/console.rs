//! The back end of the guest's serial port: two rings of bytes shared with serial-server.

use devices::uart::{FIFO, Uart};
use layout::{config::Vmm, slot};
use mmio::{Consumer, Producer};

/// Bytes moved at a time.
const CHUNK: usize = 64;

/// The guest's serial line.
pub struct Console {
    output: Producer,
    input: Consumer,
    /// The input ring may have bytes: it has not been found empty since it was signalled.
    waiting: bool,
}

impl Console {
    /// The rings of the configuration.
    pub fn new(config: &Vmm) -> Self {
        let (output, input) = (rt::bytes(config.console_out).producer(), rt::bytes(config.console_in).consumer());
        Self { output, input, waiting: true }
    }

    /// serial-server has typed bytes for the guest, or has made room for what the guest prints.
    pub fn on_signal(&mut self) {
        self.waiting = true;
    }

    /// Whether there may be bytes to move. With `more`, the guest has just written a byte: output waits until it fills
    /// a FIFO, since serial-server would wake for each byte. The next settled exit that writes none, or the next
    /// signal, sends the rest.
    pub fn is_due(&self, uart: &Uart, more: bool) -> bool {
        let least = if more { FIFO } else { 1 };
        uart.tx_pending() >= least || self.waiting && uart.rx_room() > 0
    }

    /// Moves bytes in both directions until the rings or the UART are empty or full.
    pub fn exchange(&mut self, uart: &mut Uart) {
        self.send(uart);
        self.receive(uart);
    }

    /// Whether serial-server has everything that the guest printed.
    pub fn is_sent(&self, uart: &Uart) -> bool {
        uart.tx_pending() == 0
    }

    fn send(&mut self, uart: &mut Uart) {
        let mut bytes = [0; CHUNK];
        while uart.tx_pending() > 0 {
            let room = (self.output.room() as usize).min(CHUNK);
            // Parking asks serial-server for a signal when there is room. It fails if there is room by now.
            if room == 0 && !self.output.park() {
                break;
            }
            let taken = uart.take_tx(&mut bytes[..room]);
            self.output.push(&bytes[..taken]);
            if self.output.must_signal() {
                rt::signal(slot::CONSOLE);
            }
        }
    }

    fn receive(&mut self, uart: &mut Uart) {
        while self.waiting && uart.rx_room() > 0 {
            match self.input.pop_byte() {
                Some(byte) => {
                    uart.push_rx(byte);
                }
                None => self.waiting = self.input.park(),
            }
        }
        if self.input.must_signal() {
            rt::signal(slot::CONSOLE);
        }
    }
}
