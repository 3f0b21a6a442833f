//! Moves bytes: from the clients' rings to the UART as it empties, from the UART to the console in focus. The server
//! buffers nothing itself, so no byte is lost when the line is slow: a full ring blocks its producer.

use heapless::Vec;
use layout::config::Name;
use mmio::{Consumer, Producer};
use proto::serial::{Flush, GetStats, RingKind, Serve, Stats};
use proto::wire::ClientId;

use crate::mixer::{MAX_SOURCES, Mixer, SilenceTimeout, Source};
use crate::uart::{FIFO, Reception};

/// TSC ticks after which a console in the middle of a line counts as silent: 40 ms at 50 MHz, half a millisecond at
/// 4 GHz, in any case longer than a guest takes from one byte of a line to the next.
const SILENCE: u64 = 2_000_000;
/// Rounds of service per interrupt, so that a broken chip that always asks for another cannot hang the server.
const MAX_ROUNDS: u32 = 64;
/// Bytes received per round, for the same reason.
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
    /// Enables reception, or disables it and drops RTS, so that the sender waits.
    fn accept(&mut self, reception: Reception);
    /// Acknowledges the interrupt; returns whether the UART has another one pending.
    fn acknowledge(&mut self) -> bool;
    /// Receive FIFO overruns.
    fn overruns(&self) -> u64;
    /// The TSC.
    fn now(&self) -> u64;
    /// Arranges a call of [`Server::on_alarm`] when the TSC has reached `at`.
    fn alarm(&mut self, at: u64);
    /// Signals the client of a stream that it has bytes, or room.
    fn signal(&mut self, stream: usize);
}

/// A client's stream, with the server's ends of its rings.
pub struct Stream {
    /// Prefix of its lines.
    pub name: Name,
    /// Log or console.
    pub kind: RingKind,
    /// The client's output.
    pub output: Consumer,
    /// Keyboard input for the client: consoles only.
    pub input: Option<Producer>,
}

/// The server.
pub struct Server<H> {
    hardware: H,
    mixer: Mixer,
    /// By stream.
    inputs: Vec<Option<Producer>, MAX_SOURCES>,
    /// The stream that gets keyboard input.
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

    /// Handles a client's doorbell: the client has written bytes, or has read some.
    pub fn on_doorbell(&mut self) {
        // Reception is off because the console's ring was full. The client may have made room.
        if self.reception == Reception::Off {
            self.take_input();
        }
        self.print(self.silence_timeout());
    }

    /// Handles the alarm: the console in the middle of a line may have been silent for long enough.
    pub fn on_alarm(&mut self) {
        self.alarm = false;
        self.print(self.silence_timeout());
    }

    /// Handles the UART's interrupt. Its line is edge-triggered, and an edge is lost while the line is masked: so the
    /// server repeats until the UART has no interrupt pending after the acknowledgement.
    pub fn on_interrupt(&mut self) {
        self.stats.interrupts += 1;
        for _ in 0..MAX_ROUNDS {
            self.take_input();
            self.print(self.silence_timeout());
            if !self.hardware.acknowledge() {
                break;
            }
        }
    }

    /// Fills the UART as long as it has room and a stream has bytes for it.
    fn print(&mut self, timeout: SilenceTimeout) {
        let mut parked = false;
        while self.hardware.room() > 0 {
            let bytes = self.batch(timeout);
            if !bytes.is_empty() {
                self.hardware.send(&bytes);
                self.stats.sent += bytes.len() as u64;
            } else if parked {
                break;
            } else {
                // Poll once more after parking: a client may have written a byte before it could see the mark, and has
                // then not rung the doorbell.
                for source in self.mixer.sources() {
                    source.bytes.park();
                }
                parked = true;
            }
        }
        // If bytes are left although the UART has room, a console's unfinished line holds them back. No other event may
        // follow, so only the alarm ensures that they are printed.
        let held_back = timeout == SilenceTimeout::Running && self.hardware.room() > 0 && self.mixer.pending() > 0;
        if held_back && !self.alarm {
            self.alarm = true;
            self.hardware.alarm(self.last_console + SILENCE + 1);
        }
        self.wake_producers();
    }

    /// The next bytes for the UART.
    fn batch(&mut self, timeout: SilenceTimeout) -> Vec<u8, FIFO> {
        let mut bytes = Vec::new();
        while !bytes.is_full() {
            let Some(byte) = self.mixer.next(timeout) else { break };
            let _ = bytes.push(byte);
        }
        if !bytes.is_empty() && self.mixer.console_in_line() {
            self.last_console = self.hardware.now();
        }
        bytes
    }

    /// Signals the consoles that wait for room. Logs do not wait: their writers drop and count what does not fit.
    fn wake_producers(&mut self) {
        for (stream, source) in self.mixer.sources().iter_mut().enumerate() {
            if source.bytes.must_signal() && source.kind == RingKind::Console {
                self.hardware.signal(stream);
            }
        }
    }

    fn silence_timeout(&self) -> SilenceTimeout {
        let silent = self.hardware.now().saturating_sub(self.last_console) > SILENCE;
        if silent { SilenceTimeout::Expired } else { SilenceTimeout::Running }
    }

    /// Moves received bytes to the console in focus. When its ring is full, turns reception off, so that the sender
    /// waits.
    fn take_input(&mut self) {
        let Some(focus) = self.focus else { return self.drop_input() };
        let Some(Some(input)) = self.inputs.get_mut(focus) else { return };
        let mut reception = Reception::On;
        for _ in 0..MAX_RECEIVED {
            // The byte stays in the chip's FIFO until the ring has room: a byte that was read would have to be dropped.
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

    /// Drops input, as no console exists. Unread bytes would keep the UART's interrupt asserted.
    fn drop_input(&mut self) {
        for _ in 0..MAX_RECEIVED {
            let Some(_) = self.hardware.receive() else { break };
            self.stats.received += 1;
            self.stats.lost += 1;
        }
    }
}

impl<H: Hardware> Serve for Server<H> {
    /// Prints what waits for the end of a console's line as well: the caller waits until all is printed, and the
    /// console may be its own, with no more to come.
    fn flush(&mut self, _: ClientId, _: Flush) -> u32 {
        self.print(SilenceTimeout::Expired);
        self.mixer.pending() + self.hardware.unsent() as u32
    }

    fn stats(&mut self, _: ClientId, _: GetStats) -> Stats {
        Stats { lost: self.stats.lost + self.hardware.overruns(), ..self.stats }
    }
}
