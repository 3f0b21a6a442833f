//! The kernel as the server sees it: pins that are masked at delivery and unmasked when acknowledged, and a list of the
//! signals sent.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use irq_server::{Controller, Origin, Record, Refused, Server};
use layout::{Bdf, Slot, event};
use proto::irq::{Client, Config, Line, MsiMessage, Route, dispatch};
use proto::loopback::Loopback;
use proto::wire::{ClientId, Message, Transport};

/// The client that may set routes.
pub const ROUTER: u64 = 3;
/// timer-server's notification.
pub const ALARM: Slot = Slot(200);
/// No machine has this pin.
const NO_PIN: u8 = 99;

/// An edge triggered route.
pub fn edge(pin: u8) -> Route {
    Route { ioapic: 0, pin, level: false, active_low: false }
}

/// A level triggered route.
pub fn level(pin: u8) -> Route {
    Route { ioapic: 0, pin, level: true, active_low: true }
}

/// The key, among the pins, of the messages that the function of this device number sends.
pub fn messages(from: Bdf) -> u8 {
    0x80 | from.device
}

/// irq-server's own notification for line `n`.
pub fn own(n: u8) -> Slot {
    Slot(100 + u16::from(n))
}

/// A line that cannot be shared; that of messages only if it has no route.
pub fn line(name: &str, owner: u64, route: Option<Route>) -> Line {
    let name = name.try_into().unwrap();
    Line { name, owner, route, messages: route.is_none(), vector: 0, signal: Slot(32), own: None, limit: 0 }
}

/// Line `n`, which may be shared. Its owner is signalled at slot 32 + `n`.
pub fn shared(n: u8, name: &str, owner: u64, route: Option<Route>) -> Line {
    Line { own: Some(own(n)), signal: Slot(32 + u16::from(n)), ..line(name, owner, route) }
}

/// An input with a handler.
#[derive(Clone, Debug)]
pub struct Pin {
    handler: u64,
    notified: Slot,
    made: u32,
    pub masked: bool,
}

#[derive(Default)]
struct State {
    /// How often a handler was refused.
    refused: u32,
    pins: BTreeMap<u8, Pin>,
    signals: Vec<Slot>,
    alarm: bool,
}

#[derive(Clone, Default)]
struct Kernel(Rc<RefCell<State>>);

impl Controller for Kernel {
    fn attach(&mut self, index: u8, _: &Line, origin: Origin, notified: Slot) -> Result<u64, Refused> {
        let key = match origin {
            Origin::Input(route) => route.pin,
            Origin::Messages(from) => messages(from),
        };
        if key == NO_PIN {
            self.0.borrow_mut().refused += 1;
            return Err(Refused);
        }
        let handler = 0x1000 + u64::from(index);
        let pin = Pin { handler, notified, made: 1, masked: false };
        self.0.borrow_mut().pins.entry(key).and_modify(|pin| pin.made += 1).or_insert(pin);
        Ok(handler)
    }
    fn message(&self, line: &Line) -> MsiMessage {
        MsiMessage { address: 0xfee0_1000, data: 0x30 + u16::from(line.vector) }
    }
    fn acknowledge(&mut self, handler: u64) {
        let mut state = self.0.borrow_mut();
        state.pins.values_mut().find(|pin| pin.handler == handler).expect("no such handler").masked = false;
    }
    fn signal(&mut self, slot: Slot) {
        let mut state = self.0.borrow_mut();
        match slot {
            ALARM => state.alarm = true,
            slot => state.signals.push(slot),
        }
    }
}

pub struct Board {
    kernel: Kernel,
    server: Server<Kernel>,
    pub lines: Vec<Line>,
}

impl Board {
    pub fn new(lines: impl IntoIterator<Item = Line>) -> Self {
        Self::with(lines.into_iter().collect(), Some(ALARM))
    }

    pub fn without_alarm(lines: impl IntoIterator<Item = Line>) -> Self {
        Self::with(lines.into_iter().collect(), None)
    }

    fn with(lines: Vec<Line>, alarm: Option<Slot>) -> Self {
        let kernel = Kernel::default();
        let config = Config { lines: lines.iter().cloned().collect(), router: Some(ROUTER), alarm };
        Self { server: Server::new(config, kernel.clone()), kernel, lines }
    }

    pub fn client(&mut self, id: u64) -> Client<impl Transport> {
        Client(Loopback::new(move |m: &mut Message| dispatch(&mut self.server, ClientId(id), m)))
    }

    pub fn exchange(&mut self, from: ClientId, message: &mut Message) {
        self.client(from.0).0.exchange(message);
    }

    /// The device asserts its pin: the kernel masks it and signals, if the pin has a handler and is unmasked.
    pub fn raise(&mut self, pin: u8) {
        let notified = match self.kernel.0.borrow_mut().pins.get_mut(&pin).filter(|pin| !pin.masked) {
            None => return,
            Some(pin) => {
                pin.masked = true;
                pin.notified
            }
        };
        match notified.0.checked_sub(100) {
            Some(line) => self.server.on_signal(event::ring(line.into())),
            None => self.kernel.0.borrow_mut().signals.push(notified),
        }
    }

    /// Bits in the server's notification.
    pub fn signal(&mut self, bits: u64) {
        self.server.on_signal(bits);
    }

    /// Lets that many milliseconds pass; returns in how many of them timer-server was asked for a tick.
    pub fn pass(&mut self, milliseconds: usize) -> usize {
        let mut ticks = 0;
        for _ in 0..milliseconds {
            if self.take_alarm() {
                self.server.on_signal(event::TIMER);
                ticks += 1;
            }
        }
        ticks
    }

    /// Was timer-server asked for a signal?
    pub fn take_alarm(&mut self) -> bool {
        std::mem::take(&mut self.kernel.0.borrow_mut().alarm)
    }

    /// The notifications signalled by the kernel or the server since the last call.
    pub fn signals(&self) -> Vec<Slot> {
        std::mem::take(&mut self.kernel.0.borrow_mut().signals)
    }

    pub fn masked(&self, pin: u8) -> bool {
        self.kernel.0.borrow().pins[&pin].masked
    }

    /// How many times a handler was created for the pin.
    pub fn attached(&self, pin: u8) -> u32 {
        self.kernel.0.borrow().pins[&pin].made
    }

    /// How often the kernel refused a handler.
    pub fn not_attached(&self) -> u32 {
        self.kernel.0.borrow().refused
    }

    /// The notification that the kernel signals for a handler.
    pub fn notified(&self, handler: u64) -> Slot {
        self.kernel.0.borrow().pins.values().find(|pin| pin.handler == handler).unwrap().notified
    }

    /// The pins whose handlers irq-server keeps.
    pub fn kept(&self) -> impl Iterator<Item = Pin> {
        let pins = self.kernel.0.borrow().pins.clone();
        pins.into_values().filter(|pin| pin.notified.0 >= 100)
    }

    pub fn record(&self, client: u64) -> Record {
        self.server.record(ClientId(client))
    }

    pub fn spurious(&self) -> u32 {
        self.server.spurious()
    }
}
