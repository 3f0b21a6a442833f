//! serial-server: the UART, the rings of all logs and of the guests' consoles, and their doorbells.

use layout::{config::Window, event, slot, window};
use proto::{
    irq,
    serial::{Config, RingKind, SERVICE, SerialRing},
    timer,
};

use super::{Look, Server};
use crate::{
    compile::{
        error::CompileError,
        part::Role,
        wire::{Wiring, encode, name},
    },
    laws::authority::{
        Badge, Contents, FrameUse, Holding, RINGS, SHARED, Space, What, Who, Whose, at, frames, holding, shared,
        signals,
    },
    spec::Rights,
};

/// Bytes of the ring from a guest's console.
const CONSOLE_OUT_BYTES: u64 = 16 * 1024;
/// Bytes of the ring to a guest's console.
const CONSOLE_IN_BYTES: u64 = 4096;
/// Speed of the console.
const BAUD: u32 = 115_200;

pub(super) static SERVER: Server = Server {
    calls: |_| vec![irq::SERVICE, timer::SERVICE],
    ports: |board| vec![board.uart.ports],
    line: Some(|board| board.uart),
    scratch_bits: |_| Some(layout::ROOT_BITS),
    holdings: &HOLDINGS,
    frames: &FRAMES,
    event: |badge| (badge & RINGS != 0).then(|| format!("stream {}", badge.trailing_zeros())),
    ..Server::new(SERVICE, 220, configure, Look::new("#1d4ed8", "#e8effd"))
};

static HOLDINGS: [Holding; 3] =
    [rings(Who::Anyone, slot::LOG), rings(Who::Vmm, slot::CONSOLE), signals(SERVICE, Whose::Vmms, event::CONSOLE)];

/// The doorbell of a ring.
const fn rings(who: Who, slot: layout::Slot) -> Holding {
    holding(who, at(slot), What::Notification, Whose::Server(SERVICE), Rights::WRITE, Badge::Bit(RINGS))
}

static FRAMES: [FrameUse; 4] = [
    // The server's own log is not shared.
    frames(
        "log",
        Space::AllBut(SERVICE),
        (window::LOG, window::LOG + window::LOG_BYTES),
        Rights::READ_WRITE,
        Contents::Zeros,
    ),
    frames("log", Space::Server(SERVICE), SHARED, Rights::READ_WRITE, Contents::Zeros),
    shared("console-out"),
    shared("console-in"),
];

fn configure(wiring: &mut Wiring) -> Result<Vec<u8>, CompileError> {
    let server = wiring.server(SERVICE)?;
    let uart = wiring.build.ports(server, wiring.system.board().uart.ports);
    let mut rings = Vec::new();
    for process in (0..wiring.parts.len()).filter(|&process| process != server) {
        wiring.doorbell(process, slot::LOG, server, event::stream(rings.len()))?;
        rings.push(log(wiring, process, server)?);
    }
    for (vm, described) in wiring.system.vms.iter().enumerate() {
        let process = wiring.process(Role::Vmm(vm))?;
        wiring.doorbell(process, slot::CONSOLE, server, event::stream(rings.len()))?;
        rings.push(console(wiring, process, server, described.name.get_ref())?);
    }
    let rings = crate::compile::wire::bounded(rings, "streams to the console")?;
    encode(&Config { uart, baud: BAUD, colours: wiring.system.console_colours, line: wiring.line_of(SERVICE)?, rings })
}

/// A process's log, which is at the same address in every process.
fn log(wiring: &mut Wiring, process: usize, server: usize) -> Result<SerialRing, CompileError> {
    let output = wiring.build.window(server, window::LOG_BYTES);
    let here = Window { at: window::LOG, len: window::LOG_BYTES };
    wiring.build.share("log", (process, here), (server, output));
    Ok(SerialRing { name: name(&wiring.part(process)?.name)?, kind: RingKind::Log, output, input: None })
}

fn console(wiring: &mut Wiring, process: usize, server: usize, vm: &str) -> Result<SerialRing, CompileError> {
    let output = wiring.share("console-out", process, server, CONSOLE_OUT_BYTES);
    let input = wiring.share("console-in", process, server, CONSOLE_IN_BYTES);
    let signal = wiring.signal(server, process, event::CONSOLE)?;
    Ok(SerialRing { name: name(vm)?, kind: RingKind::Console, output, input: Some((input, signal)) })
}
