//! What stands behind the device models: console bytes go to and from serial-server by rings, deadlines to timer-server.

use devices::{
    Nanos,
    uart::{FIFO, Uart},
};
use layout::{config::Vmm, slot};
use mmio::{Consumer, Producer, Ring};
use proto::timer;
use rt::Endpoint;
use vmm_server::time::Clock;

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

/// The guest's timers have one deadline between them. It is moved only to an earlier one: one that comes too early costs
/// a wake-up, but a guest that puts its timer off again and again costs nothing.
pub struct Deadline {
    server: timer::Client<Endpoint>,
    /// TSC value that timer-server will signal at.
    armed: Option<u64>,
    /// Deadlines are at least this many ticks apart: a guest's timer faster than that is caught up with in bursts.
    spacing: u64,
}

impl Deadline {
    /// None armed; `hertz` is the TSC's rate.
    pub fn new(server: timer::Client<Endpoint>, hertz: u64) -> Self {
        /// A hundred microseconds.
        const PER_SECOND: u64 = 10_000;
        Self { server, armed: None, spacing: hertz / PER_SECOND }
    }

    /// The signal has come.
    pub fn on_signal(&mut self) {
        self.armed = None;
    }

    /// Sees to it that a signal comes at `next` or before.
    pub fn arm(&mut self, next: Nanos, clock: &Clock, tsc: u64) {
        let at = clock.tsc(next).max(tsc.saturating_add(self.spacing));
        if self.armed.is_some_and(|armed| armed <= at) {
            return;
        }
        self.armed = Some(at);
        if let Err(error) = self.server.arm(at) {
            log::error!("timer-server: {error:?}");
        }
    }
}
