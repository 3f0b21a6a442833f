//! irq-server: IRQControl, and a signal to the owner of each interrupt line.

use layout::{event, slot};
use proto::{
    irq::{Config, Line, SERVICE},
    pci, timer,
};

use super::{Look, Server};
use crate::{
    compile::{
        error::CompileError,
        lines::Of,
        wire::{Wiring, encode, name},
    },
    laws::authority::{Badge, Holding, LINES, RINGS, What, Who, Whose, at, holding, signals},
    spec::{Kind, Rights},
};

pub(super) static SERVER: Server = Server {
    grants: true,
    signals_clients: true,
    // Only with devices: it signals itself for shared lines, and timer-server signals the alarm that it asks for.
    is_signalled: |devices| devices,
    scratch_bits: |_| Some(layout::ROOT_BITS),
    holdings: &HOLDINGS,
    event: |badge| (badge & RINGS != 0).then(|| format!("shared line {}", badge.trailing_zeros())),
    ..Server::new(SERVICE, 240, configure, LOOK)
};

const LOOK: Look = Look { signals: "interrupts", aside: true, ..Look::new("#be123c", "#fdebef") };

/// And the line of each server that has one.
static HOLDINGS: [Holding; 4] = [
    holding(Who::Server(SERVICE), at(slot::IRQ_CONTROL), What::IrqControl, Whose::Machines, Rights::ALL, Badge::None),
    signals(SERVICE, Whose::Users, LINES),
    signals(SERVICE, Whose::Own, RINGS),
    signals(SERVICE, Whose::Server(timer::SERVICE), event::ALARM),
];

fn configure(wiring: &mut Wiring) -> Result<Vec<u8>, CompileError> {
    let server = wiring.server(SERVICE)?;
    let control = wiring.build.object("irq-control", Kind::IrqControl);
    wiring.build.cap(server, slot::IRQ_CONTROL, control, Rights::ALL, 0);
    let mut lines = heapless::Vec::new();
    for (number, line) in wiring.lines().into_iter().enumerate() {
        let owner = wiring.process(line.owner)?;
        let client = wiring.client(SERVICE, owner)?;
        let signal = wiring.signal(server, owner, line.event)?;
        let own = match line.of {
            Of::Server => None,
            Of::Irq(_) | Of::Function(_) => Some(wiring.signal(server, server, event::ring(number))?),
        };
        let line = Line {
            name: name(&line.name)?,
            owner: client as u64,
            route: line.route,
            messages: line.messages,
            vector: number as u8,
            signal,
            own,
            limit: line.limit,
        };
        lines.push(line).map_err(|_| CompileError::TooMany("interrupt lines"))?;
    }
    let (mut router, mut alarm) = (None, None);
    if wiring.part(server)?.devices {
        router = Some(wiring.client(SERVICE, wiring.server(pci::SERVICE)?)? as u64);
        alarm = Some(wiring.signal(server, wiring.server(timer::SERVICE)?, event::ALARM)?);
    }
    encode(&Config { lines, router, alarm })
}
