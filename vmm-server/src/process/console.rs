//! What stands behind the device models: console bytes go to and from serial-server by rings.

use devices::uart::{FIFO, Uart};
use layout::{config::Vmm, slot};
use mmio::{Consumer, Producer, Ring};

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
        let ring = |window| match Ring::new(rt::shared(window)) {
            Ok(ring) => ring,
            Err(error) => panic!("console: {error:?}"),
        };
        Self { output: ring(config.console_out).producer(), input: ring(config.console_in).consumer(), waiting: true }
    }

    /// serial-server has typed bytes for the guest, or has made room for what the guest prints.
    pub fn on_signal(&mut self) {
        self.waiting = true;
    }

    /// Whether there may be something to move. While there is `more` to come, what the guest prints is gathered: serial-server
    /// would be woken for each byte. Whatever the guest does next, or the next signal, ends that.
    pub fn is_due(&self, uart: &Uart, more: bool) -> bool {
        let least = if more { FIFO } else { 1 };
        uart.tx_pending() >= least || self.waiting && uart.rx_room() > 0
    }

    /// Moves what there is and fits, both ways.
    pub fn exchange(&mut self, uart: &mut Uart) {
        self.send(uart);
        self.receive(uart);
    }

    /// Whether everything the guest printed is with serial-server.
    pub fn is_sent(&self, uart: &Uart) -> bool {
        uart.tx_pending() == 0
    }

    fn send(&mut self, uart: &mut Uart) {
        let mut bytes = [0; CHUNK];
        while uart.tx_pending() > 0 {
            let room = (self.output.room() as usize).min(CHUNK);
            // With no room, the signal comes when there is.
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
