//! Mistakes in `console`. That nobody else has its ports and its interrupt, `ports` and `irqs` check.

use layout::mainboard::{self, CARDS};

use super::Found;
use super::irqs::INPUTS;
use crate::description::{
    board::PortRange,
    console::{BAUDS, REGISTERS, com},
};

/// Ports that a base address register may hold.
const PCI_PORTS: u16 = 0x1000;

pub(super) fn the_console_is_where_a_uart_may_be(found: &mut Found) {
    let board = found.system.board();
    let Some(port) = &found.system.console.port else { return };
    let first = port.get_ref().0;
    let ports = board.uart.ports;
    let other = board.owned().into_iter().find(|(range, device, _)| *device != "UART" && range.overlaps(&ports));
    let debug = |port| PortRange { first: port, last: port }.overlaps(&ports);
    if !first.is_multiple_of(REGISTERS) || ports.last - first != REGISTERS - 1 {
        let message = format!("no UART begins at port {first:#x}");
        found.add(port.span(), message, "its eight ports begin at a multiple of 8");
    } else if let Some((_, device, _)) = other {
        let message = format!("port {ports} is that of the board's {device}");
        found.add(port.span(), message, "write \"COM1\" to \"COM4\", or the port of a card");
    } else if board.debug_ports.iter().any(|(port, _)| debug(*port)) {
        found.add(port.span(), format!("port {ports} is the emulator's"), "write \"COM1\" to \"COM4\"");
    } else if mainboard::takes_trust(first, ports.last) && first < PCI_PORTS {
        let message = format!("no UART has port {ports}: it is the mainboard's");
        let remedy = format!(
            "COM ports and cards without PCI have theirs in {:#x}-{:#x}, PCI functions from {PCI_PORTS:#x} on",
            CARDS.0, CARDS.1
        );
        found.add(port.span(), message, remedy);
    } else if board.emulated && com(first).is_none() {
        let message = format!("the board `{}` has no UART at port {first:#x}", board.name);
        found.add(port.span(), message, "write \"COM1\" to \"COM4\"");
    }
}

pub(super) fn the_consoles_interrupt_is_its_own(found: &mut Found) {
    let (board, console) = (found.system.board(), &found.system.console);
    let taken = [board.pit, board.rtc].map(|device| (device.line.pin, device.name));
    match (&console.port, &console.irq) {
        (Some(port), None) if console.irq().is_none() => {
            let message = format!("the UART at port {:#x} has no usual interrupt", port.get_ref().0);
            let remedy = "add irq, the number that /proc/interrupts of a Linux on the machine has for it";
            found.add(port.span(), message, remedy);
        }
        (_, Some(irq)) => {
            let number = *irq.get_ref();
            if number == 0 || number >= INPUTS {
                let message = format!("no UART has the interrupt {number}");
                found.add(irq.span(), message, format!("write 1 to {}, or leave irq out for COM1 to COM4", INPUTS - 1));
            } else if let Some((_, device)) = taken.iter().find(|(pin, _)| *pin == number) {
                let message = format!("interrupt {number} is that of the board's {device}");
                found.add(irq.span(), message, "leave irq out for COM1 to COM4");
            }
        }
        _ => {}
    }
}

pub(super) fn the_consoles_rate_is_one_that_terminals_have(found: &mut Found) {
    let Some(baud) = &found.system.console.baud else { return };
    if !BAUDS.contains(baud.get_ref()) {
        let [others @ .., last] = BAUDS.map(|baud| baud.to_string());
        let message = format!("a console has no {} baud", baud.get_ref());
        found.add(baud.span(), message, format!("write {} or {last}", others.join(", ")));
    }
}
