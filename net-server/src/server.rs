//! The server: which ports it looks at, and whom it signals.

use layout::{event, limits::MAX_SWITCH_PORTS};
use proto::{
    net::Config,
    tally::{Report, Tally},
};

use crate::counts::Counts;
use crate::sockets::Sockets;
use crate::switch::{Moved, Rings, Switch};

/// Frames of a port in its turn: enough to be worth the turn, and few enough for the others not to wait long.
const BURST: usize = 16;
/// Rounds over all ports before calls and new signals are looked at.
const ROUNDS: usize = 64;
/// Ports of both kinds.
const PORTS: usize = 2 * MAX_SWITCH_PORTS;

/// What the server needs of the machine.
pub trait Hardware {
    /// The TSC.
    fn now(&self) -> u64;
    /// Signals the client of a port.
    fn signal(&mut self, port: usize);
    /// Has [`Server::on_signal`] called again.
    fn again(&mut self);
    /// Has it called when the TSC has reached `at`, unless another time is set before.
    fn alarm(&mut self, at: u64);
}

/// The server.
pub struct Server<H> {
    hardware: H,
    switch: Switch,
    sockets: Sockets,
    /// Ports that may have frames, or packets of sockets, as bits. Those of sockets are behind the others.
    active: u64,
    /// When the hardware was asked to call.
    alarm: Option<u64>,
    /// How often each port's client has broken a ring.
    broken: [Tally; PORTS],
}

impl<H: Hardware> Server<H> {
    /// The server of a configuration, with the rings of its ports, and then those of its sockets' members; `hertz` is the
    /// rate of the TSC.
    pub fn new(hardware: H, config: &Config, mut rings: impl Iterator<Item = Rings>, hertz: u64) -> Self {
        let switch = Switch::new(config, rings.by_ref().take(config.ports.len()), hertz, hardware.now());
        let sockets = Sockets::new(&config.sockets, rings, hertz);
        // The clients may have sent frames, or wait for room, since before a restart.
        let active = (1 << (switch.len() + sockets.len())) - 1;
        Self { hardware, switch, sockets, active, alarm: None, broken: [Tally::default(); PORTS] }
    }

    /// Moves frames, after a signal with these bits.
    pub fn on_signal(&mut self, bits: u64) {
        let first = self.switch.len();
        let ports = first + self.sockets.len();
        if bits & event::TIMER != 0 {
            self.alarm = None;
        }
        let bits = bits & ((1 << ports) - 1);
        self.active |= bits;
        (0..first).filter(|port| bits & 1 << port != 0).for_each(|port| self.switch.mend(port));
        self.sockets.signalled(bits >> first);
        self.sockets.expire(self.hardware.now());
        for _ in 0..ROUNDS {
            self.active |= self.sockets.take_ready() << first;
            if self.active == 0 {
                break;
            }
            for port in 0..ports {
                if self.active & 1 << port != 0 {
                    self.turn(port);
                }
            }
        }
        self.sockets.settle(self.hardware.now());
        self.active |= self.sockets.take_ready() << first;
        for port in 0..ports {
            let must_signal = match port.checked_sub(first) {
                Some(member) => self.sockets.must_signal(member),
                None => self.switch.must_signal(port),
            };
            if must_signal {
                self.hardware.signal(port);
            }
        }
        let deadline = self.sockets.deadline();
        if let Some(at) = deadline.filter(|_| deadline != self.alarm) {
            self.hardware.alarm(at);
        }
        self.alarm = deadline;
        if self.active != 0 {
            self.hardware.again();
        }
    }

    /// A port's turn.
    fn turn(&mut self, port: usize) {
        for _ in 0..BURST {
            let now = self.hardware.now();
            let moved = match port.checked_sub(self.switch.len()) {
                Some(member) => self.sockets.step(member, now),
                None => self.switch.step(port, now),
            };
            match moved {
                Moved::Frame => {}
                Moved::Nothing => {
                    self.active &= !(1 << port);
                    break;
                }
                Moved::Broke => {
                    self.active &= !(1 << port);
                    // A client may do so any number of times, if it begins anew in between.
                    if self.broken.get_mut(port).is_some_and(|broken| broken.add() == Report::Log) {
                        log::error!(
                            "the client of port {port} breaks the rules of its ring: the port is off until it begins anew"
                        );
                    }
                    break;
                }
            }
        }
    }
    /// What was refused to a port's client. Those of sockets are behind the others.
    pub fn counts(&self, port: usize) -> Option<Counts> {
        match port.checked_sub(self.switch.len()) {
            Some(member) => self.sockets.counts(member),
            None => self.switch.counts(port),
        }
    }
}
