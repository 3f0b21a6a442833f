//! The server: which ports it looks at, whom it signals, and what it answers.

use heapless::Vec;
use layout::limits::MAX_SWITCH_PORTS;
use proto::net::{Config, Counts, Error, GetCounts, Serve};
use proto::wire::ClientId;

use crate::switch::{Moved, Rings, Switch};

/// Frames of a port in its turn: enough to be worth the turn, and few enough for the others not to wait long.
const BURST: usize = 16;
/// Rounds over all ports before calls and new signals are looked at.
const ROUNDS: usize = 64;
/// Broken rings that are logged; each port breaks once.
const NOTED: u32 = MAX_SWITCH_PORTS as u32;

/// What the server needs of the machine.
pub trait Hardware {
    /// The TSC.
    fn now(&self) -> u64;
    /// Signals the client of a port.
    fn signal(&mut self, port: usize);
    /// Has [`Server::on_signal`] called again.
    fn again(&mut self);
}

/// The server.
pub struct Server<H> {
    hardware: H,
    switch: Switch,
    /// The client of each port.
    clients: Vec<u8, MAX_SWITCH_PORTS>,
    /// Ports that may have frames, as bits.
    active: u64,
    noted: u32,
}

impl<H: Hardware> Server<H> {
    /// The server of a configuration, with the rings of its ports; `hertz` is the rate of the TSC.
    pub fn new(hardware: H, config: &Config, rings: impl Iterator<Item = Rings>, hertz: u64) -> Self {
        let switch = Switch::new(config, rings, hertz, hardware.now());
        let clients = config.ports.iter().map(|port| port.client).collect();
        // The clients may have sent frames, or wait for room, since before a restart.
        let active = (1 << switch.len()) - 1;
        Self { hardware, switch, clients, active, noted: 0 }
    }

    /// Moves frames, after a signal with these bits.
    pub fn on_signal(&mut self, bits: u64) {
        let ports = self.switch.len();
        self.active |= bits & ((1 << ports) - 1);
        for _ in 0..ROUNDS {
            if self.active == 0 {
                break;
            }
            for port in 0..ports {
                if self.active & 1 << port != 0 {
                    self.turn(port);
                }
            }
        }
        for port in 0..ports {
            if self.switch.must_signal(port) {
                self.hardware.signal(port);
            }
        }
        if self.active != 0 {
            self.hardware.again();
        }
    }

    /// A port's turn.
    fn turn(&mut self, port: usize) {
        for _ in 0..BURST {
            match self.switch.step(port, self.hardware.now()) {
                Moved::Frame => {}
                Moved::Nothing => {
                    self.active &= !(1 << port);
                    break;
                }
                Moved::Broke => {
                    self.active &= !(1 << port);
                    self.noted += 1;
                    if self.noted <= NOTED {
                        log::error!("the client of port {port} breaks the rules of its ring: the port is off");
                    }
                    break;
                }
            }
        }
    }
}

impl<H> Serve for Server<H> {
    fn counts(&mut self, from: ClientId, call: GetCounts) -> Result<Counts, Error> {
        let mut own = (0..).zip(&self.clients).filter(|(_, client)| u64::from(**client) == from.0);
        let (port, _) = own.nth(call.port.into()).ok_or(Error::Unknown)?;
        self.switch.counts(port).ok_or(Error::Unknown)
    }
}
