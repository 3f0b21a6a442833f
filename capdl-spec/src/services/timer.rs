//! timer-server: the 8254, its gate and the clock, and a deadline for each client.

use layout::event;
use proto::{
    irq,
    timer::{Config, SERVICE, Signal},
};

use super::{Look, Server};
use crate::{
    compile::{
        error::CompileError,
        wire::{Wiring, encode},
    },
    laws::authority::{Holding, Whose, signals},
};

pub(super) static SERVER: Server = Server {
    calls: |_| vec![irq::SERVICE],
    ports: |board| vec![board.pit.ports, board.gate, board.rtc.ports],
    line: Some(|board| board.pit),
    signals_clients: true,
    scratch_bits: |_| Some(layout::ROOT_BITS),
    holdings: &HOLDINGS,
    event: |badge| (badge == event::ALARM).then(|| "alarm".into()),
    ..Server::new(SERVICE, 230, configure, LOOK)
};

const LOOK: Look = Look { signals: "deadlines", width: 260.0, ..Look::new("#b45309", "#fdf3e2") };

static HOLDINGS: [Holding; 2] =
    [signals(SERVICE, Whose::Callers, event::TIMER), signals(SERVICE, Whose::Server(irq::SERVICE), event::TIMER)];

fn configure(wiring: &mut Wiring) -> Result<Vec<u8>, CompileError> {
    let server = wiring.server(SERVICE)?;
    let board = wiring.system.board();
    let [pit, gate, rtc] =
        [board.pit.ports, board.gate, board.rtc.ports].map(|range| wiring.build.ports(server, range));
    let mut clients = heapless::Vec::new();
    for (process, name) in wiring.named_clients(SERVICE)? {
        let slot = wiring.signal(server, process, event::TIMER)?;
        clients.push(Signal { name, slot }).map_err(|_| CompileError::TooMany("clients of timer-server"))?;
    }
    let alarm = match wiring.part(server)?.devices {
        true => Some(wiring.signal(server, wiring.server(irq::SERVICE)?, event::TIMER)?),
        false => None,
    };
    encode(&Config { pit, gate, rtc, line: wiring.line_of(SERVICE)?, clients, alarm })
}
