//! root-task's own output, before serial-server runs and when a process has faulted: it writes to the UART directly, as
//! the kernel does. Also the board's power-off port, where it has one. Both are set up first, so that every later
//! failure is printed and ends the machine.

use alloc::vec::Vec;
use core::fmt;

use capdl_spec::spec::Spec;
use root_task::ledger;
use sel4::cap::{self, cap_type};
use sel4_root_task::{
    power::{self, Switch},
    serial::{self, Uart},
};

use crate::{
    Failure,
    objects::{Objects, own},
};

/// Makes the ports of the console and the power-off port, and directs the log and the machine's end to them. Where the
/// boot loader's command line gives the kernel another console than the description's, root-task's messages go there, too.
pub fn open(objects: &mut Objects, spec: &Spec, kernels: Option<Uart>) -> Result<(), Failure> {
    let ports = spec.console.iter().map(|console| console.ports);
    let ports: Vec<_> = ports.chain(spec.power_off.iter().map(|switch| switch.ports)).collect();
    objects.create_first(spec, &ports)?;
    if let Some(console) = &spec.console {
        let described = Uart { port: console.port, divisor: console.divisor };
        let other = kernels.filter(|uart| uart.port != described.port && nobody_has(spec, *uart));
        match other.and_then(|uart| Some((uart, issue(objects, uart)?))) {
            Some((uart, ports)) => {
                serial::open(ports, uart);
                log::warn!(
                    "seL4 and root-task print at port {:#x}, by the boot loader's command line; all others at {:#x}: \
                     console = {{ port = {:#x} }} in the description moves them",
                    uart.port,
                    described.port,
                    uart.port
                );
            }
            None => serial::open(objects.cap::<cap_type::IoPort>(console.ports), described),
        }
    }
    if let Some(switch) = &spec.power_off {
        power::set_switch(Switch {
            ports: objects.cap::<cap_type::IoPort>(switch.ports),
            port: switch.port,
            off: switch.bytes.clone().leak(),
            failed: switch.failed.clone().leak(),
        });
    }
    Ok(())
}

/// Whether no process has, or may ask for, a port of the UART.
fn nobody_has(spec: &Spec, uart: Uart) -> bool {
    (uart.port..=uart.last()).all(|port| ledger::is_free(spec, port))
}

/// The UART's ports, for good. `None` if they cannot be had.
fn issue(objects: &mut Objects, uart: Uart) -> Option<cap::IoPort> {
    let slot = objects.take_slots(1).ok()?.start;
    sel4::ioport::ioport_issue(uart.port, uart.last(), &own(slot)).ok()?;
    Some(cap::IoPort::from_bits(slot as u64))
}

/// How far the system is built. The number goes to the port of power-on self-test codes, where POST cards and many boards'
/// displays show it: docs/hardware.md.
#[derive(Clone, Copy)]
pub enum Progress {
    /// The console is open.
    Console = 0x20,
    /// All objects exist.
    Objects = 0x21,
    /// Address spaces are filled and mapped.
    Spaces = 0x22,
    /// Processes have their capabilities and threads.
    Processes = 0x23,
    /// The kernel has confirmed all capabilities.
    Checked = 0x24,
    /// All processes run.
    Started = 0x25,
}

/// The port of power-on self-test codes.
pub struct Post(Option<cap::IoPort>);

impl Post {
    /// PC/AT Technical Reference: port 0x80, "manufacturing checkpoint".
    const PORT: u16 = 0x80;

    /// Takes the port for good. Where the specification gives it to a process, or lets one ask for it, nothing is shown.
    pub fn open(objects: &mut Objects, spec: &Spec) -> Self {
        if !ledger::is_free(spec, Self::PORT) {
            return Self(None);
        }
        let Ok(slot) = objects.take_slots(1) else { return Self(None) };
        let issued = sel4::ioport::ioport_issue(Self::PORT, Self::PORT, &own(slot.start));
        Self(issued.is_ok().then(|| cap::IoPort::from_bits(slot.start as u64)))
    }

    /// Shows a step.
    pub fn show(&self, step: Progress) {
        if let Some(port) = self.0 {
            // Nobody depends on it.
            let _ = port.ioport_out8(Self::PORT, step as u8);
        }
    }
}

/// Directs the log to the kernel's console, where no specification names the board's.
pub fn open_without_specification(objects: &mut Objects, kernels: Option<Uart>) {
    let uart = kernels.unwrap_or(Uart::COM1);
    if let Some(ports) = issue(objects, uart) {
        serial::open(ports, uart);
    }
}

/// Prints a failure on its own line, in the form that `cargo xtask run` recognizes: `failed: WHO: WHY`.
pub fn failed(what: fmt::Arguments) {
    log::error!("failed: {what}");
}

/// Ends the line that serial-server may have begun.
pub fn fresh_line() {
    if serial::is_open() {
        serial::print("\n");
    }
}
