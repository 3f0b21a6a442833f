//! serial-server: the UART, the rings of all logs and of the guests' consoles, and their doorbells.

use layout::{Slot, config::Window, event, limits::MAX_HVCS, slot, window};
use proto::{
    irq,
    serial::{Config, RingKind, SERVICE, SerialRing},
    timer,
};

use super::{Look, Server, lifecycle};
use crate::{
    checks::found::{Check, Found},
    compile::{
        error::CompileError,
        part::Role,
        wire::{Wiring, bounded, encode, name},
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

pub(super) static SERVER: Server = Server {
    calls: |_| vec![irq::SERVICE, timer::SERVICE],
    ports: |board| vec![board.uart.ports],
    line: Some(|board| board.uart),
    scratch_bits: |_| Some(layout::ROOT_BITS),
    checks: &CHECKS,
    holdings: &HOLDINGS,
    frames: &FRAMES,
    event: |badge| (badge & RINGS != 0).then(|| format!("stream {}", badge.trailing_zeros())),
    ..Server::new(SERVICE, 220, configure, Look::new("#1d4ed8", "#e8effd"))
};

static HOLDINGS: [Holding; 3] =
    [rings(Who::Anyone, slot::LOG), rings(Who::Vmm, slot::CONSOLE), signals(SERVICE, Whose::Vmms, event::CONSOLE)];

/// The doorbell of a ring.
const fn rings(who: Who, slot: Slot) -> Holding {
    holding(who, at(slot), What::Notification, Whose::Server(SERVICE), Rights::WRITE, Badge::Bit(RINGS))
}

static FRAMES: [FrameUse; 6] = [
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
    shared("hvc-out"),
    shared("hvc-in"),
];

static CHECKS: [Check; 1] = [second_consoles_are_not_too_many];

fn second_consoles_are_not_too_many(found: &mut Found) {
    let second = found.system.vms.iter().filter(|vm| vm.hvc);
    if let Some(vm) = second.clone().nth(MAX_HVCS) {
        let message = format!("{} VMs have a second console, too many", second.count());
        found.add(vm.name.span(), message, format!("serial-server has {MAX_HVCS} of them: leave `hvc` out"));
    }
}

fn configure(wiring: &mut Wiring) -> Result<Vec<u8>, CompileError> {
    let server = wiring.server(SERVICE)?;
    let (ports, baud) = (wiring.system.board().uart.ports, wiring.system.board().baud);
    let uart = wiring.build.ports(server, ports);
    let (mut rings, mut second) = (Vec::new(), Vec::new());
    for process in (0..wiring.parts.len()).filter(|&process| process != server) {
        wiring.doorbell(process, slot::LOG, server, event::stream(rings.len()))?;
        rings.push(log(wiring, process, server)?);
    }
    for (vm, described) in wiring.system.vms.iter().enumerate() {
        let process = wiring.process(Role::Vmm(vm))?;
        wiring.doorbell(process, slot::CONSOLE, server, event::stream(rings.len()))?;
        let signal = wiring.signal(server, process, event::CONSOLE)?;
        let name = described.name.get_ref().as_str();
        rings.push(console(wiring, (process, server), ["console-out", "console-in"], signal, name)?);
        if described.hvc {
            second.push((process, signal, format!("{name}.hvc0")));
        }
    }
    // The doorbell and the signal of the first console are the second one's as well: both sides look at all their rings.
    for (process, signal, name) in second {
        rings.push(console(wiring, (process, server), ["hvc-out", "hvc-in"], signal, &name)?);
    }
    let rings = bounded(rings, "streams to the console")?;
    let managed = bounded(lifecycle::of_console(wiring, server)?, "VMs that the console manages")?;
    let (colours, line) = (wiring.system.console_colours, wiring.line_of(SERVICE)?);
    encode(&Config { uart, baud, colours, line, rings, managed })
}

/// A process's log, which is at the same address in every process.
fn log(wiring: &mut Wiring, process: usize, server: usize) -> Result<SerialRing, CompileError> {
    let output = wiring.build.window(server, window::LOG_BYTES);
    let here = Window { at: window::LOG, len: window::LOG_BYTES };
    wiring.build.share("log", (process, here), (server, output));
    Ok(SerialRing { name: name(&wiring.part(process)?.name)?, kind: RingKind::Log, output, input: None })
}

fn console(
    wiring: &mut Wiring,
    (process, server): (usize, usize),
    [output, input]: [&'static str; 2],
    signal: Slot,
    label: &str,
) -> Result<SerialRing, CompileError> {
    let output = wiring.share(output, process, server, CONSOLE_OUT_BYTES);
    let input = wiring.share(input, process, server, CONSOLE_IN_BYTES);
    Ok(SerialRing { name: name(label)?, kind: RingKind::Console, output, input: Some((input, signal)) })
}
