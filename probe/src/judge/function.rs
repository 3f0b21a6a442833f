//! A line for each PCI function: how it interrupts, how it can be reset, and what is behind a bridge.

use core::fmt;

use layout::Bdf;

use super::Sink;
use super::Verdict::{Pass, Warn};
use crate::pci::{self, Config};

/// Where a pin arrives.
struct Source(Option<u8>);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |input| write!(f, " (source = {input})"))
    }
}

/// Judges one PCI function, of which it may be known whether it has access control services, and where its pin arrives.
pub fn function(at: Bdf, config: Config, acs: Option<bool>, input: Option<u8>, out: &mut impl Sink) {
    let ((vendor, device), class) = (config.id(), config.class());
    let topic = format_args!("pci {at}");
    if let Some(bus) = config.secondary() {
        // Only PCI Express has them.
        let acs = match acs.or(config.capability(pci::EXPRESS).is_none().then_some(false)) {
            Some(true) => ", ACS",
            Some(false) => ", no ACS",
            None => ", ACS unknown: its extended configuration space is out of reach, or not in the files",
        };
        return out.line(Pass, topic, format_args!("{vendor:04x}:{device:04x} bridge to bus {bus:#x}{acs}"));
    }
    if class >> 8 == 0x06 {
        return out.line(Pass, topic, format_args!("{vendor:04x}:{device:04x} class {class:04x}, of the board"));
    }
    let has = |id| config.capability(id).is_some();
    let (msi, msi_x, reset) = (has(pci::MSI), has(pci::MSI_X), config.has_reset());
    let pin = match config.pin() {
        0 => "no pin",
        1 => "INTA",
        2 => "INTB",
        3 => "INTC",
        4 => "INTD",
        _ => "a wrong pin",
    };
    let verdict = if msi || msi_x || input.is_some() || config.pin() == 0 { Pass } else { Warn };
    let word = |there: bool, yes: &'static str, no: &'static str| if there { yes } else { no };
    out.line(
        verdict,
        topic,
        format_args!(
            "{vendor:04x}:{device:04x} class {class:04x}, {}{}{pin}{}, {}{}{}",
            word(msi, "MSI, ", ""),
            word(msi_x, "MSI-X, ", ""),
            Source(input),
            word(
                reset,
                "reset by FLR",
                word(has(pci::POWER), "reset by power states or its bus", "reset by its bus alone")
            ),
            word(config.is_bus_master(), ", bus master", ""),
            word(verdict == Warn, ": its interrupt needs `source`", ""),
        ),
    );
}
