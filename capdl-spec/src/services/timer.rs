//! timer-server: the 8254, its gate, the HPET and the clock, and a deadline for each client.

use layout::{config::Window, event};
use proto::{
    irq,
    timer::{Config, SERVICE, Signal},
};

use super::{Look, Server};
use crate::{
    compile::{
        bundle::PAGE,
        error::CompileError,
        wire::{Wiring, encode},
    },
    description::board,
    laws::authority::{Contents, FrameUse, Holding, SHARED, Space, Whose, frames, signals},
    spec::{Fill, Mapping, PageSize, Rights},
};

pub(super) static SERVER: Server = Server {
    calls: |_| vec![irq::SERVICE],
    ports: |board| vec![board.pit.ports, board.gate, board.rtc.ports],
    line: Some(|board| board.pit),
    signals_clients: true,
    scratch_bits: |_| Some(layout::ROOT_BITS),
    holdings: &HOLDINGS,
    frames: &FRAMES,
    event: |badge| (badge == event::ALARM).then(|| "alarm".into()),
    ..Server::new(SERVICE, 230, configure, LOOK)
};

const LOOK: Look = Look { signals: "deadlines", width: 260.0, ..Look::new("#b45309", "#fdf3e2") };

static HOLDINGS: [Holding; 2] =
    [signals(SERVICE, Whose::Callers, event::TIMER), signals(SERVICE, Whose::Server(irq::SERVICE), event::TIMER)];

/// What the HPET's registers are called, after the server's name.
const HPET: &str = "hpet";

static FRAMES: [FrameUse; 1] =
    [frames(HPET, Space::Server(SERVICE), SHARED, Rights::READ_WRITE, Contents::Registers(board::HPET))];

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
    let hpet = board.hpet.map(|paddr| hpet(wiring, server, paddr));
    encode(&Config { pit, gate, hpet, rtc, line: wiring.line_of(SERVICE)?, clients, alarm })
}

/// The page of the HPET's registers.
fn hpet(wiring: &mut Wiring, server: usize, paddr: u64) -> Window {
    let build = &mut wiring.build;
    let window = build.window(server, PAGE);
    let frames = build.frames(format!("{}.{HPET}", SERVICE.server), PAGE, Fill::Device { paddr });
    let space = build.domains[server].vspace;
    let (rights, pages) = (Rights::READ_WRITE, PageSize::Small);
    build.spec.mappings.push(Mapping { space, frames, at: window.at, rights, cached: false, pages });
    window
}
