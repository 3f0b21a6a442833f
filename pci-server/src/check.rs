//! Checks each function that the description passes through: that it exists, that its BARs are those of the
//! description, and that they overlap nothing else. If a check fails, pci-server logs an error and does not pass the
//! function through.

use core::fmt;
use layout::Bdf;

use layout::mainboard;
use proto::pci::{Bar, BarKind, Config, Function, Header, PciFunction, PciPorts};

/// Why a function is not passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// No function has this address.
    Absent,
    /// It is a bridge, which controls the functions behind it.
    Bridge,
    /// The description has it twice.
    Twice,
    /// The firmware assigned no address to a BAR.
    Unassigned(u8),
    /// A BAR overlaps fixed memory or ports of the board.
    Reserved(u8),
    /// A BAR overlaps another function's.
    Overlaps(u8, Bdf),
    /// The ports differ from the description's.
    Ports,
    /// The memory differs from the description's.
    Memory,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Absent => write!(f, "no such function on this machine"),
            Flaw::Bridge => write!(f, "a bridge, which cannot be passed through"),
            Flaw::Twice => write!(f, "passed through twice"),
            Flaw::Unassigned(bar) => write!(f, "the firmware assigned no address to BAR {bar}"),
            Flaw::Reserved(bar) => write!(f, "BAR {bar} overlaps memory or ports of the board"),
            Flaw::Overlaps(bar, other) => write!(f, "BAR {bar} overlaps one of {other}"),
            Flaw::Ports => write!(f, "other ports than the description lists"),
            Flaw::Memory => write!(f, "other memory than the description lists"),
        }
    }
}

/// Fixed memory of the board: below 1 MiB; I/O APIC, HPET, TPM, VT-d units and local APIC.
const FIXED_MEMORY: [(u64, u64); 2] = [(0, 0xf_ffff), (0xfec0_0000, 0xfeef_ffff)];
/// Configuration mechanism 1, which only this process may use.
const CONFIG_PORTS: (u64, u64) = (0xcf8, 0xcff);

/// The function that `config` lists as the `index`th, if all checks succeed.
pub fn find<'a>(functions: &'a [Function], config: &Config, index: usize) -> Result<&'a Function, Flaw> {
    let wanted = config.functions.get(index).ok_or(Flaw::Absent)?;
    let address = wanted.at;
    if config.functions.iter().take(index).any(|other| other.at == address) {
        return Err(Flaw::Twice);
    }
    let function = functions.iter().find(|function| function.address == address).ok_or(Flaw::Absent)?;
    if function.header != Header::Device || function.class[0] == 0x06 {
        return Err(Flaw::Bridge);
    }
    for (index, bar) in bars(function) {
        placed(function, index, bar, functions)?;
    }
    if !listed(wanted.ports.as_deref(), ports(function)) {
        return Err(Flaw::Ports);
    }
    if !listed(wanted.memory.as_deref(), memory(function)) {
        return Err(Flaw::Memory);
    }
    Ok(function)
}

/// Logs a failed check: what the description has, what the machine has, and what to do.
pub fn explain(flaw: Flaw, wanted: &PciFunction, functions: &[Function]) {
    let address = wanted.at;
    log::error!("`{}` ({address}) is not passed through: {flaw}", wanted.name);
    let Some(found) = functions.iter().find(|function| function.address == address) else { return };
    let name = &wanted.name;
    match (flaw, &wanted.ports, &wanted.memory) {
        (Flaw::Ports, Some(listed), _) => {
            log::error!(
                "`{name}`: listed {}",
                Ranges(|| listed.iter().map(|&(first, last)| (first.into(), last.into())))
            );
            log::error!("`{name}`: found {}", Ranges(|| ports(found).map(|(first, last)| (first.into(), last.into()))));
        }
        (Flaw::Memory, _, Some(listed)) => {
            log::error!("`{name}`: listed {}", Ranges(|| listed.iter().map(|&(at, size)| (at, last_of(at, size)))));
            log::error!("`{name}`: found {}", Ranges(|| memory(found).map(|(at, size)| (at, last_of(at, size)))));
        }
        _ => return,
    }
    log::error!("`{name}`: take the numbers of this machine with `cargo xtask import lspci`, or leave the list out");
}

/// Why ports without a function are not passed through, if there is a reason.
pub fn why_not(ports: &PciPorts, functions: &[Function]) -> Option<&'static str> {
    let (first, last) = (ports.first, ports.last);
    let range = (first.into(), last.into());
    let decoded = functions.iter().flat_map(bars).filter(|(_, bar)| bar.kind == BarKind::Io);
    if first > last || overlap(range, CONFIG_PORTS) || mainboard::is_kernels(first, last) {
        return Some("the kernel's or pci-server's");
    }
    if mainboard::takes_trust(first, last) && !ports.trusted {
        return Some("the mainboard's: they need `trusted = true` in the description");
    }
    // Through another function's ports, their holder would control a device that the description does not give to it.
    let is_functions = decoded.map(|(_, bar)| extent(bar)).any(|bar| overlap(bar, range));
    is_functions.then_some("a function's: list that in pci_devices")
}

/// Checks a register's address.
fn placed(function: &Function, index: u8, bar: &Bar, functions: &[Function]) -> Result<(), Flaw> {
    let is_io = bar.kind == BarKind::Io;
    let range = extent(bar);
    if bar.base == 0 {
        return Err(Flaw::Unassigned(index));
    }
    let reserved = match (is_io, u16::try_from(range.0), u16::try_from(range.1)) {
        (true, Ok(first), Ok(last)) => mainboard::among(first, last).is_some(),
        // IN and OUT reach 65,536 ports only.
        (true, ..) => true,
        // `extent` saturates, so a BAR that wraps around ends at the last address.
        (false, ..) => range.1 == u64::MAX || FIXED_MEMORY.iter().any(|&fixed| overlap(fixed, range)),
    };
    if reserved || range.1 < range.0 {
        return Err(Flaw::Reserved(index));
    }
    // Also against functions that are not passed through: two devices would decode the same access.
    for other in functions {
        let same = other.address == function.address;
        let mut others = bars(other).filter(|(n, bar)| !(same && *n == index) && is_io == (bar.kind == BarKind::Io));
        if others.any(|(_, bar)| bar.base != 0 && overlap(extent(bar), range)) {
            return Err(Flaw::Overlaps(index, other.address));
        }
    }
    Ok(())
}

/// A function's BARs, with their indices.
pub fn bars(function: &Function) -> impl Iterator<Item = (u8, &Bar)> + Clone {
    (0..).zip(&function.bars).filter_map(|(index, bar)| bar.as_ref().map(|bar| (index, bar)))
}

fn extent(bar: &Bar) -> (u64, u64) {
    (bar.base, last_of(bar.base, bar.size))
}

fn last_of(at: u64, size: u64) -> u64 {
    at.saturating_add(size.saturating_sub(1))
}

fn overlap(a: (u64, u64), b: (u64, u64)) -> bool {
    a.0 <= b.1 && b.0 <= a.1
}

fn ports(function: &Function) -> impl Iterator<Item = (u16, u16)> + Clone {
    let ports = bars(function).filter(|(_, bar)| bar.kind == BarKind::Io).map(|(_, bar)| extent(bar));
    ports.map(|(first, last)| (first as u16, last as u16))
}

fn memory(function: &Function) -> impl Iterator<Item = (u64, u64)> + Clone {
    bars(function).filter(|(_, bar)| bar.kind != BarKind::Io).map(|(_, bar)| (bar.base, bar.size))
}

/// Whether the list, if there is one, equals what was found, in any order.
fn listed<T: PartialEq + Copy>(list: Option<&[T]>, found: impl Iterator<Item = T> + Clone) -> bool {
    let Some(list) = list else { return true };
    found.clone().count() == list.len() && list.iter().all(|entry| found.clone().any(|found| found == *entry))
}

/// Ranges, formatted for the log.
struct Ranges<F>(F);

impl<I: Iterator<Item = (u64, u64)>, F: Fn() -> I> fmt::Display for Ranges<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut none = true;
        for (first, last) in (self.0)() {
            write!(f, "{}{first:#x}-{last:#x}", if none { "" } else { ", " })?;
            none = false;
        }
        if none { f.write_str("none") } else { Ok(()) }
    }
}
