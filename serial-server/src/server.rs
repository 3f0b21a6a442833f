//! Moves bytes: from the clients' rings to the UART as it empties, from the UART to the console in focus. Bytes wait
//! in the rings, never here, so nothing is lost when the line is slow: a full ring holds its producer back.

use heapless::Vec;
use layout::config::Name;
use mmio::{Consumer, Producer};
use proto::serial::{Flush, GetStats, RingKind, Serve, Stats};
use proto::wire::ClientId;

use crate::mixer::{MAX_SOURCES, Mixer, Patience, Source};
use crate::uart::{FIFO, Reception};

/// TSC ticks after which a console in the middle of a line counts as silent: 40 ms at 50 MHz, half a millisecond at
/// 4 GHz, in any case longer than a guest takes from one byte of a line to the next.
const SILENCE: u64 = 2_000_000;
/// Most rounds of one interrupt; a chip that always wants one more is broken.
const MAX_ROUNDS: u32 = 64;
/// Most bytes received in one go.
const MAX_RECEIVED: u32 = 256;

/// The machine, as far as this server uses it.
pub trait Hardware {
    /// A received byte.
    fn receive(&mut self) -> Option<u8>;
    /// How many bytes may be sent now, [`FIFO`] at most.
    fn room(&mut self) -> usize;
    /// Sends bytes, for which there is room.
    fn send(&mut self, bytes: &[u8]);
    /// Bytes sent that have not left the UART.
    fn unsent(&mut self) -> usize;
    /// Receives, or asks the other side to wait.
    fn accept(&mut self, reception: Reception);
    /// Acknowledges the interrupt; returns whether the UART wants another by now.
    fn acknowledge(&mut self) -> bool;
    /// Times that received bytes found no place in the UART.
    fn overruns(&self) -> u64;
    /// The TSC.
    fn now(&self) -> u64;
    /// Has [`Server::on_alarm`] called when the TSC has reached `at`.
    fn alarm(&mut self, at: u64);
    /// Signals the client of a stream: it has bytes, or room.
    fn signal(&mut self, stream: usize);
}

/// A client's stream, with our ends of its rings.
pub struct Stream {
    /// What its lines begin with.
    pub name: Name,
    /// Log or console.
    pub kind: RingKind,
    /// What it prints.
    pub output: Consumer,
    /// What is typed to it: consoles only.
    pub input: Option<Producer>,
}

/// The server.
pub struct Server<H> {
    hardware: H,
    mixer: Mixer,
    /// By stream.
    inputs: Vec<Option<Producer>, MAX_SOURCES>,
    /// The stream that is typed at.
    focus: Option<usize>,
    reception: Reception,
    /// When a console's byte was last sent.
    last_console: u64,
    /// An alarm is set.
    alarm: bool,
    stats: Stats,
}

impl<H: Hardware> Server<H> {
    /// The server of `streams`, by position in the configuration. The first console has the focus.
    pub fn new(hardware: H, streams: impl IntoIterator<Item = Stream>) -> Self {
        let (mut sources, mut inputs) = (Vec::new(), Vec::new());
        for Stream { name, kind, output, input } in streams {
            let pushed = sources.push(Source { name, kind, bytes: output }).is_ok() && inputs.push(input).is_ok();
            debug_assert!(pushed, "the configuration holds no more");
        }
        let focus = inputs.iter().position(Option::is_some);
        let (mixer, stats) = (Mixer::new(sources), Stats::default());
        Self { hardware, mixer, inputs, focus, reception: Reception::On, last_console: 0, alarm: false, stats }
    }

    /// A client rang: it has bytes, or it took some.
    pub fn on_doorbell(&mut self) {
        if self.reception == Reception::Off {
            self.take_input();
        }
        self.print(self.patience());
    }

    /// The alarm: whoever was in the middle of a line may have been silent for long enough.
    pub fn on_alarm(&mut self) {
        self.alarm = false;
        self.print(self.patience());
    }

    /// The UART's interrupt. Its line is edge triggered: it must be seen quiet after the acknowledgement.
    pub fn on_interrupt(&mut self) {
        self.stats.interrupts += 1;
        for _ in 0..MAX_ROUNDS {
            self.take_input();
            self.print(self.patience());
            if !self.hardware.acknowledge() {
                break;
            }
        }
    }

    /// Fills the UART as long as it has room and someone has bytes for it.
    fn print(&mut self, patience: Patience) {
        let mut parked = false;
        while self.hardware.room() > 0 {
            let bytes = self.batch(patience);
            if !bytes.is_empty() {
                self.hardware.send(&bytes);
                self.stats.sent += bytes.len() as u64;
            } else if parked {
                break;
            } else {
                // Asleep only after another look: a byte may have come before the mark was seen.
                for source in self.mixer.sources() {
                    source.bytes.park();
                }
                parked = true;
            }
        }
        // What still waits is held back by a line that somebody has begun. Nothing else may happen before it is printed.
        if patience == Patience::Wait && !self.alarm && self.hardware.room() > 0 && self.mixer.pending() > 0 {
            self.alarm = true;
            self.hardware.alarm(self.last_console + SILENCE + 1);
        }
        self.wake_producers();
    }

    /// The next bytes for the UART.
    fn batch(&mut self, patience: Patience) -> Vec<u8, FIFO> {
        let mut bytes = Vec::new();
        while !bytes.is_full() {
            let Some(byte) = self.mixer.next(patience) else { break };
            let _ = bytes.push(byte);
        }
        if !bytes.is_empty() && self.mixer.console_in_line() {
            self.last_console = self.hardware.now();
        }
        bytes
    }

    /// Signals the consoles that wait for room. A log does not: what finds no room is counted by its writer.
    fn wake_producers(&mut self) {
        for (stream, source) in self.mixer.sources().iter_mut().enumerate() {
            if source.bytes.must_signal() && source.kind == RingKind::Console {
                self.hardware.signal(stream);
            }
        }
    }

    fn patience(&self) -> Patience {
        let silent = self.hardware.now().saturating_sub(self.last_console) > SILENCE;
        if silent { Patience::Over } else { Patience::Wait }
    }

    /// Hands received bytes to the console in focus, as long as it has room; then the other side is asked to wait.
    fn take_input(&mut self) {
        let Some(focus) = self.focus else { return self.drop_input() };
        let Some(Some(input)) = self.inputs.get_mut(focus) else { return };
        let mut reception = Reception::On;
        for _ in 0..MAX_RECEIVED {
            if input.room() == 0 && !input.park() {
                reception = Reception::Off;
                break;
            }
            let Some(byte) = self.hardware.receive() else { break };
            input.push(&[byte]);
            self.stats.received += 1;
        }
        if input.must_signal() {
            self.hardware.signal(focus);
        }
        if reception != self.reception {
            self.reception = reception;
            self.hardware.accept(reception);
        }
    }

    /// Nobody listens.
    fn drop_input(&mut self) {
        for _ in 0..MAX_RECEIVED {
            let Some(_) = self.hardware.receive() else { break };
            self.stats.received += 1;
            self.stats.lost += 1;
        }
    }
}

impl<H: Hardware> Serve for Server<H> {
    /// Whoever asks has printed its last for now, so lines that wait for the end of another's need not wait longer.
    fn flush(&mut self, _: ClientId, _: Flush) -> u32 {
        self.print(Patience::Over);
        self.mixer.pending() + self.hardware.unsent() as u32
    }

    fn stats(&mut self, _: ClientId, _: GetStats) -> Stats {
        Stats { lost: self.stats.lost + self.hardware.overruns(), ..self.stats }
    }
}
