//! The real client against the real server, on a simulated machine.

mod access;
mod board;
mod configuration;
mod hostile;
mod logged;
mod msi;
mod msix;
mod resets;
mod start;

use layout::Bdf;
use std::cell::RefCell;
use std::rc::Rc;

use layout::config::{Name, Ports};
use pci_server::{Server, scan_for};
use proto::loopback::Loopback;
use proto::pci::{Client, Config, Dma, Intx, PciClient, PciFunction, PciPorts, Target, dispatch};
use proto::wire::{ClientId, Message, Transport};

use board::{Board, Hold};

/// A client that may list the bus; two guests; a guest without devices.
const LISTER: u64 = 0;
const ALICE: u64 = 1;
const BOB: u64 = 2;
const CAROL: u64 = 3;

/// A server, its machine, and ways to reach it.
struct Gate {
    server: Rc<RefCell<Server<'static, Hold>>>,
    board: Rc<RefCell<Board>>,
}

impl Gate {
    fn open(board: Board, config: Config) -> Self {
        let mut hold = Hold(Rc::new(RefCell::new(board)));
        let listing = Box::leak(Box::new(scan_for(&mut hold, &config)));
        hold.0.borrow_mut().take_writes();
        let board = Rc::clone(&hold.0);
        Self { server: Rc::new(RefCell::new(Server::new(hold, listing, config))), board }
    }

    /// The board with `functions` granted, and with ports of BOB's without a function. Discards the writes of the
    /// start.
    fn of(functions: impl IntoIterator<Item = PciFunction>) -> Self {
        let mut config = config(functions);
        config.ports.push(entrusted(BOB, 0x60, 0x64)).unwrap();
        let gate = Self::open(board::board(), config);
        gate.board.borrow_mut().take_writes();
        gate
    }

    fn client(&self, id: u64) -> Client<impl Transport> {
        let server = Rc::clone(&self.server);
        Client(Loopback::new(move |m: &mut Message| dispatch(&mut *server.borrow_mut(), ClientId(id), m)))
    }

    fn refused(&self, id: u64) -> u32 {
        self.server.borrow().refused(ClientId(id))
    }

    fn stop(&self, id: u64) {
        self.server.borrow_mut().on_signal(layout::event::client(id as usize));
    }

    /// The real register.
    fn real(&self, at: Bdf, offset: u8) -> u32 {
        self.board.borrow().config(at, offset)
    }
}

fn name(name: &str) -> Name {
    Name::try_from(name).unwrap()
}

/// A function in direct mode that may not become bus master.
fn give(owner: u64, at: Bdf) -> PciFunction {
    PciFunction {
        owner: owner as u8,
        name: name(&at.to_string()),
        at,
        direct: true,
        dma: Dma::No,
        group_trusted: false,
        lines: Default::default(),
        has_route: false,
        ports: None,
        memory: None,
    }
}

fn on_lines(function: PciFunction, lines: &[u8]) -> PciFunction {
    PciFunction { lines: lines.iter().copied().collect(), ..function }
}

fn mediated(function: PciFunction) -> PciFunction {
    PciFunction { direct: false, ..function }
}

fn trusted(function: PciFunction) -> PciFunction {
    PciFunction { dma: Dma::Trusted, ..function }
}

fn config(functions: impl IntoIterator<Item = PciFunction>) -> Config {
    let client = |(n, name_of): (usize, &str)| PciClient { name: name(name_of), enumerate: n == 0 };
    Config {
        config: Ports { slot: layout::slot::PORTS, first: 0xcf8, last: 0xcff },
        clients: ["lister", "alice", "bob", "carol"].into_iter().enumerate().map(client).collect(),
        functions: functions.into_iter().collect(),
        ports: Default::default(),
        intx: Intx::Swizzle { base: 16, add: 2 },
    }
}

fn loose(owner: u64, first: u16, last: u16) -> PciPorts {
    PciPorts { owner: owner as u8, name: name("loose"), first, last, trusted: false }
}

/// Ports that the description trusts their owner with.
fn entrusted(owner: u64, first: u16, last: u16) -> PciPorts {
    PciPorts { trusted: true, ..loose(owner, first, last) }
}

/// A register of the caller's function `function`.
fn register(function: u8, offset: u8) -> Target {
    Target::Config { function, offset }
}
