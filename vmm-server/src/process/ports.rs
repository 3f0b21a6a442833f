//! The guest's console device: a terminal at serial-server, and a port for each pipe to another VM.

use devices::virtio::console::Console;
use layout::{
    config::{ByteRings, Pipe, Vmm},
    slot,
};
use mmio::{Consumer, Producer};
use vmm_server::board::Board;

/// Puts the device on the guest's bus, if the guest has any port.
pub fn plug(config: &Vmm, board: &mut Board) {
    let Vmm { name, hvc, pipes, .. } = config;
    if hvc.is_none() && pipes.is_empty() {
        return;
    }
    let Some(line) = board.lines.free_input() else {
        log::error!("{name}: no console device, since devices have all inputs of the PIC");
        return;
    };
    let mut device = Console::default();
    if let Some(rings) = hvc {
        let (output, input) = ends(rings);
        device.add_terminal(output, input);
    }
    for Pipe { name: pipe, rings } in pipes {
        let (output, input) = ends(rings);
        if device.add(pipe, output, input).is_none() {
            log::error!("{name}: no pipe `{pipe}`, since the console device has no more ports");
        }
    }
    if let Err(absent) = board.functions.add_console(device, signal, line, &mut board.controllers.pic) {
        log::error!("{name}: no console device: {absent:?}");
    }
}

fn signal(port: usize) {
    rt::signal(port.checked_sub(1).map_or(slot::CONSOLE, slot::pipe));
}

fn ends(rings: &ByteRings) -> (Producer, Consumer) {
    (rt::bytes(rings.output).producer(), rt::bytes(rings.input).consumer())
}
