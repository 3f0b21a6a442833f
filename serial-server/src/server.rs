//! Moves bytes: from the clients' rings to the UART as it empties, from the UART to the consoles that are typed at. The
//! server buffers nothing itself, so no byte is lost when the line is slow: a full ring blocks its producer. If several
//! consoles share the line, the user moves the typing by commands (`commands`).

mod lifecycle;
mod orders;

use heapless::Vec;
use layout::config::Name;
use mmio::{Consumer, Producer, Ring};
use proto::serial::{Flush, GetStats, RingKind, Serve, Stats};
use proto::wire::ClientId;

use crate::commands::{Key, Keys};
use crate::mixer::{Hurry, MAX_SOURCES, Mixer, Times};
use crate::set::Set;
use crate::source::Source;
use crate::uart::{FIFO, Reception};

/// Seconds for which a console may leave its ring full before what is typed at it is dropped: it must not keep the user
/// from typing at others.
const DEAF: u64 = 5;
/// Rounds of service per interrupt, so that a broken chip that always asks for another cannot hang the server.
const MAX_ROUNDS: u32 = 64;
/// Bytes received per round, for the same reason.
const MAX_RECEIVED: u32 = 256;
/// How often the server tries to park before it waits for the next event.
const MAX_PARKINGS: u32 = 3;

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
    /// Signals the vmm-server of the VM at this position among those that are managed.
    fn signal_vm(&mut self, managed: usize);
    /// Has the kernel print its threads, past this server; returns whether it can.
    fn dump_scheduler(&mut self) -> bool;
}

/// What does not change: see `Config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Rate of the TSC.
    pub hertz: u64,
    /// Whether consoles that share the line are coloured.
    pub colours: bool,
}

/// What `@d` switches between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Debug {
    Off,
    /// Control characters of consoles are visible.
    Visible,
    /// Each byte that is typed is reported, too.
    Typed,
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

/// A VM that whoever types commands manages, with the server's end of the page.
pub struct Managed {
    /// Its name.
    pub name: Name,
    /// The page.
    pub page: mmio::Window,
}

/// The server.
pub struct Server<H> {
    hardware: H,
    mixer: Mixer,
    /// By stream.
    inputs: Vec<Option<Producer>, MAX_SOURCES>,
    hertz: u64,
    keys: Keys,
    debug: Debug,
    /// The kernel is to print its threads when this server's line ends.
    dump: bool,
    reception: Reception,
    /// Since when a console's full ring keeps the server from receiving.
    blocked: Option<u64>,
    /// Consoles that let that last too long: what is typed at them is dropped while their rings are full.
    deaf: Set,
    /// When the alarm is set.
    alarm: Option<u64>,
    stats: Stats,
    vms: lifecycle::Vms,
}

impl<H: Hardware> Server<H> {
    /// The server of `streams`, by position in the configuration. The first console is typed at. Answers to commands wait
    /// in `own`.
    pub fn new(
        hardware: H,
        streams: impl IntoIterator<Item = Stream>,
        managed: impl IntoIterator<Item = Managed>,
        own: Ring,
        settings: Settings,
    ) -> Self {
        let (mut sources, mut inputs) = (Vec::new(), Vec::new());
        for Stream { name, kind, output, input } in streams {
            let pushed = sources.push(Source::new(name, kind, output)).is_ok() && inputs.push(input).is_ok();
            debug_assert!(pushed, "the configuration holds no more");
        }
        Self {
            hardware,
            mixer: Mixer::new(sources, own, Times::new(settings.hertz), settings.colours),
            inputs,
            hertz: settings.hertz,
            keys: Keys::default(),
            debug: Debug::Off,
            dump: false,
            reception: Reception::On,
            blocked: None,
            deaf: Set::NONE,
            alarm: None,
            stats: Stats::default(),
            vms: managed.into_iter().collect(),
        }
    }

    /// Handles a client's doorbell: the client has written bytes, or has read some, or a VM has answered its manager.
    pub fn on_doorbell(&mut self) {
        self.hear_vms();
        // Reception is off because the console's ring was full. The client may have made room.
        if self.reception == Reception::Off {
            self.take_input();
        }
        self.print(Hurry::No);
    }

    /// Handles the alarm: a line may have waited for its end for long enough, or a console's ring may have been full.
    pub fn on_alarm(&mut self) {
        self.alarm = None;
        self.hear_vms();
        if self.reception == Reception::Off {
            self.take_input();
        }
        self.print(Hurry::No);
    }

    /// Handles the UART's interrupt. Its line is edge-triggered, and an edge is lost while the line is masked: so the
    /// server repeats until the UART has no interrupt pending after the acknowledgement.
    pub fn on_interrupt(&mut self) {
        self.stats.interrupts += 1;
        self.hear_vms();
        for _ in 0..MAX_ROUNDS {
            self.take_input();
            self.print(Hurry::No);
            if !self.hardware.acknowledge() {
                break;
            }
        }
    }

    /// Fills the UART as long as it has room and a stream has bytes for it.
    fn print(&mut self, hurry: Hurry) {
        let mut parked = 0;
        while self.hardware.room() > 0 {
            let bytes = self.batch(hurry);
            if !bytes.is_empty() {
                self.hardware.send(&bytes);
                self.stats.sent += bytes.len() as u64;
            } else if self.dump {
                self.dump_now();
            } else {
                // A client may have written a byte before it could see the mark, and has then not rung the doorbell. Bytes
                // that are held back look the same; for them there is the alarm.
                let mut news = false;
                for source in self.mixer.sources() {
                    news |= source.park();
                }
                parked += 1;
                if !news || parked == MAX_PARKINGS {
                    break;
                }
            }
        }
        // If bytes are left although the UART has room, they wait for the end of a line. No other event may follow, so only
        // the alarm ensures that they are printed.
        if self.hardware.room() > 0
            && let Some(at) = self.mixer.deadline(self.hardware.now())
        {
            self.wake_at(at);
        }
        self.wake_producers();
    }

    /// Sets the alarm, unless it is set for an earlier time.
    fn wake_at(&mut self, at: u64) {
        if self.alarm.is_none_or(|alarm| at < alarm) {
            self.alarm = Some(at);
            self.hardware.alarm(at);
        }
    }

    /// The next bytes for the UART.
    fn batch(&mut self, hurry: Hurry) -> Vec<u8, FIFO> {
        let mut bytes = Vec::new();
        let now = self.hardware.now();
        while !(bytes.is_full() || self.dump && self.mixer.at_line_start()) {
            let Some(byte) = self.mixer.next(now, hurry) else { break };
            let _ = bytes.push(byte);
        }
        bytes
    }

    /// Signals the consoles that wait for room. Logs do not wait: their writers drop and count what does not fit.
    fn wake_producers(&mut self) {
        for (stream, source) in self.mixer.sources().iter_mut().enumerate() {
            if source.must_signal() && source.kind == RingKind::Console {
                self.hardware.signal(stream);
            }
        }
    }

    /// Moves received bytes to the consoles that are typed at. When the ring of one is full, turns reception off, so that
    /// the sender waits.
    fn take_input(&mut self) {
        let mut reception = Reception::On;
        for _ in 0..MAX_RECEIVED {
            // The byte stays in the chip's FIFO until the ring has room: a byte that was read would have to be dropped.
            if !self.has_room() {
                reception = Reception::Off;
                break;
            }
            let Some(byte) = self.hardware.receive() else { break };
            self.stats.received += 1;
            self.type_byte(byte);
        }
        for (stream, input) in self.inputs.iter_mut().enumerate() {
            if input.as_mut().is_some_and(Producer::must_signal) {
                self.hardware.signal(stream);
            }
        }
        if reception != self.reception {
            self.reception = reception;
            self.hardware.accept(reception);
        }
    }

    /// Whether each console that is typed at can take a byte, or does not count any more.
    fn has_room(&mut self) -> bool {
        let mut full = Set::NONE;
        for n in self.mixer.input().iter() {
            if let Some(Some(input)) = self.inputs.get_mut(n) {
                if input.room() > 0 {
                    self.deaf = self.deaf.without(Set::of(n));
                } else if !self.deaf.contains(Set::of(n)) && !input.park() {
                    full = full.and(Set::of(n));
                }
            }
        }
        if full == Set::NONE {
            self.blocked = None;
            return true;
        }
        // Without commands, none waits behind the bytes.
        if !self.has_commands() {
            return false;
        }
        let now = self.hardware.now();
        let until = *self.blocked.get_or_insert(now) + DEAF * self.hertz;
        if now >= until {
            self.blocked = None;
            self.give_up(full);
            return true;
        }
        self.wake_at(until);
        false
    }

    /// Whether an `@` begins a command. The sole console gets all that is typed, unless its VM is managed by commands.
    fn has_commands(&self) -> bool {
        self.mixer.is_shared() || self.vms.any()
    }

    /// Handles a received byte.
    fn type_byte(&mut self, byte: u8) {
        if !self.has_commands() {
            return self.pass_on(byte);
        }
        self.tell_typed(byte);
        match self.keys.take(byte) {
            Key::Through(byte) => self.pass_on(byte),
            Key::Shown(bytes) => self.show(&bytes),
            Key::Run(typed) => self.obey(&typed),
        }
    }

    /// Gives a byte to the consoles that are typed at. Without any, it is lost; unread bytes would keep the UART's interrupt
    /// asserted.
    fn pass_on(&mut self, byte: u8) {
        let mut taken = false;
        for n in self.mixer.input().iter() {
            if let Some(Some(input)) = self.inputs.get_mut(n) {
                taken |= input.push(&[byte]) == 1;
                self.mixer.typed_at(n, self.hardware.now());
            }
        }
        self.stats.lost += u64::from(!taken);
    }
}

impl<H: Hardware> Serve for Server<H> {
    /// Prints what waits for the end of a console's line as well: the caller waits until all is printed, and the
    /// console may be its own, with no more to come.
    fn flush(&mut self, _: ClientId, _: Flush) -> u32 {
        self.print(Hurry::Yes);
        self.mixer.pending() + self.hardware.unsent() as u32
    }

    fn stats(&mut self, _: ClientId, _: GetStats) -> Stats {
        Stats { lost: self.stats.lost + self.hardware.overruns(), ..self.stats }
    }
}
