//! The map's lines on passthrough: who has which function, ports and interrupts, what a function may do to memory, and
//! what pci-server may ask root-task for.

use core::fmt::{self, Write};

use proto::pci::{Dma, Intx};

use super::Map;
use crate::{
    compile::{
        lines::{Line, Of, lines},
        part::Role,
        passthrough::{self, Function, functions},
    },
    description::{board::PortRange, system::Bytes},
    spec::{DeviceRange, Kind, Process},
};

/// Functions, and ports without one, of a process.
pub(super) fn passed_through(map: &Map<'_>, out: &mut String, role: Role) -> fmt::Result {
    let Some(owner) = passthrough::owners(map.system).find(|owner| owner.role == role) else {
        return Ok(());
    };
    writeln!(out, "  devices")?;
    let all = lines(map.system, &map.parts);
    for function in functions(map.system).filter(|function| function.owner.role == role) {
        self::function(map, out, &function, &all)?;
    }
    for ports in owner.devices.ports_of(None) {
        let (first, last) = ports.range();
        let trusted = if ports.trusted() { "; PORTS OF THE MAINBOARD, trusted by the description" } else { "" };
        writeln!(out, "    ports {}: {}{trusted}", PortRange { first, last }, ports.name.get_ref())?;
    }
    Ok(())
}

fn function(map: &Map<'_>, out: &mut String, function: &Function<'_>, all: &[Line]) -> fmt::Result {
    let device = function.device;
    let name = device.name.as_ref().map_or(String::new(), |name| format!(" {}", name.get_ref()));
    let how = if function.direct() { "direct" } else { "each access a call of pci-server" };
    writeln!(out, "    {}{name}: {how}; {}", device.address, dma(map, function))?;
    let ports = match function.ports() {
        Some(ports) => {
            let ranges = ports.iter().map(|&(first, last)| PortRange { first, last }.to_string());
            ranges.collect::<Vec<_>>().join(", ")
        }
        None => "as found".into(),
    };
    let memory = match device.memory.as_deref() {
        Some([]) => "none".into(),
        Some(memory) => {
            let ranges = memory.iter().map(|one| format!("{:#x} {}", one.get_ref().paddr, Bytes(one.get_ref().size)));
            ranges.collect::<Vec<_>>().join(", ")
        }
        None => "as found".into(),
    };
    let lines: Vec<String> = function.lines(all).iter().map(u8::to_string).collect();
    let lines = if lines.is_empty() { "none".into() } else { lines.join(", ") };
    writeln!(out, "      ports {ports}; memory {memory}; interrupt lines {lines}")
}

fn dma(map: &Map<'_>, function: &Function<'_>) -> String {
    match function.dma() {
        Dma::No => "never bus master".into(),
        Dma::Trusted => "BUS MASTER OF ALL MEMORY, trusted by the description".into(),
        Dma::Domain => {
            let domain = function.domain(map.system).unwrap_or_default();
            let group = if function.device.group.is_some() { ", trusted with its group" } else { "" };
            format!("bus master in I/O address space domain {domain}{group}")
        }
    }
}

/// The interrupt lines of a process.
pub(super) fn interrupts(map: &Map<'_>, out: &mut String, role: Role) -> fmt::Result {
    let all = lines(map.system, &map.parts);
    let own: Vec<(usize, &Line)> = all.iter().enumerate().filter(|(_, line)| line.owner == role).collect();
    if !own.is_empty() {
        writeln!(out, "  interrupts")?;
    }
    for (number, line) in own {
        let arrives = match line.route {
            Some(route) => format!(
                "{}I/O APIC {} pin {}, {}, active {}",
                if line.messages { "messages if it has MSI, else " } else { "" },
                route.ioapic,
                route.pin,
                if route.level { "level" } else { "edge" },
                if route.active_low { "low" } else { "high" }
            ),
            None => match (line.messages, map.system.board().intx) {
                (true, Intx::Unknown) => "messages if it has MSI".into(),
                (true, _) => "messages if it has MSI, else its pin, as the board is wired".into(),
                (false, _) => "its pin, as the board is wired".into(),
            },
        };
        let sharers = all.iter().filter(|other| other.route.is_some() && other.route == line.route).count();
        let shared = if sharers > 1 { ", shared" } else { "" };
        let dest = line.dest.map_or(String::new(), |dest| format!("; the guest's {dest}"));
        let limit = match (line.of, line.limit) {
            (Of::Server, _) => String::new(),
            (_, 0) => "; no limit".into(),
            (_, limit) => format!("; at most {limit} a millisecond"),
        };
        writeln!(out, "    line {number} {}: {arrives}{shared}{dest}{limit}", line.name)?;
    }
    Ok(())
}

/// The I/O address spaces of a process's functions.
pub(super) fn io_spaces(map: &Map<'_>, out: &mut String, process: &Process) -> fmt::Result {
    for (object, id) in map.spec.objects.iter().zip(0..).map(|(object, id)| (object, crate::spec::Id(id))) {
        let Kind::IoSpace { domain, function } = object.kind else { continue };
        if map.spec.owner_of(id) != process.name {
            continue;
        }
        writeln!(out, "  memory that {function} may use, domain {domain}")?;
        for window in map.windows(id, &process.name) {
            writeln!(out, "    {:#012x} {}", window.at, window.line)?;
        }
    }
    Ok(())
}

/// What a process may ask root-task for, and whom root-task signals when it stops.
pub(super) fn at_root_task(map: &Map<'_>, out: &mut String, number: usize, process: &Process) -> fmt::Result {
    let windows: Vec<_> = map.spec.windows.iter().filter(|window| window.process as usize == number).collect();
    if !windows.is_empty() {
        writeln!(out, "  may ask root-task for")?;
    }
    for window in windows {
        match window.range {
            DeviceRange::Ports { first, last } => writeln!(out, "    ports {}", PortRange { first, last })?,
            DeviceRange::Memory { first, last } => writeln!(out, "    device memory {first:#x}-{last:#x}")?,
        }
    }
    for (signal, when) in [(process.on_stop, "it is stopped"), (process.on_end, "it will not run again")] {
        if let Some((events, badge)) = signal {
            writeln!(out, "  when {when}, {} is signalled, badge {badge:#x}", map.spec.name(events))?;
        }
    }
    Ok(())
}
