//! PCI functions, by their configuration space: 256 bytes, or 4 KiB where it is in memory (PCI Local Bus Specification 3.0,
//! chapter 6; PCI Express Base Specification 3.0, chapter 7; for advanced features the PCI-SIG's ECN of 2006).

use core::fmt::{self, Write};

use layout::Bdf;

use crate::machine::{Machine, number};
use crate::wiring::Wiring;

/// Bytes that configuration mechanism 1 reaches.
pub const BYTES: usize = 256;
/// Most BARs of a function.
pub const BARS: usize = 6;
/// More capabilities than fit.
const MOST_CAPABILITIES: usize = 48;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR_0: usize = 0x10;
/// Decoding of ports and of memory.
const DECODING: u32 = 0b11;
/// The status register in the upper half, whose ones would clear errors.
const COMMAND_ONLY: u32 = 0xffff;

/// MSI.
pub const MSI: u8 = 0x05;
/// MSI-X.
pub const MSI_X: u8 = 0x11;
/// Power management.
pub const POWER: u8 = 0x01;
/// PCI Express.
pub const EXPRESS: u8 = 0x10;
/// Advanced features, such as a reset of conventional functions.
pub const ADVANCED: u8 = 0x13;
/// Access control services, an extended capability.
pub const ACS: u16 = 0x0d;

/// What a BAR is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ports.
    Ports,
    /// Memory.
    Memory {
        /// Whether the address has 64 bits.
        wide: bool,
        /// Whether reads have no side effects.
        prefetchable: bool,
    },
}

/// A BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Its number.
    pub index: usize,
    /// What it is for.
    pub kind: Kind,
    /// Its address.
    pub base: u64,
}

/// A function's configuration space.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a>(pub &'a [u8]);

impl<'a> Config<'a> {
    fn word(&self, at: usize) -> u16 {
        number::<2>(self.0, at).unwrap_or(0xffff) as u16
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0xff)
    }

    /// Vendor and device.
    pub fn id(&self) -> (u16, u16) {
        (self.word(0), self.word(2))
    }

    /// Base class and sub-class.
    pub fn class(&self) -> u16 {
        self.word(0x0a)
    }

    /// Layout of the header: 0 a function, 1 a bridge to another bus.
    pub fn header(&self) -> u8 {
        self.byte(0x0e) & 0x7f
    }

    /// The bus behind a bridge.
    pub fn secondary(&self) -> Option<u8> {
        (self.header() == 1).then(|| self.byte(0x19))
    }

    /// The last bus behind a bridge.
    pub fn subordinate(&self) -> Option<u8> {
        (self.header() == 1).then(|| self.byte(0x1a))
    }

    /// Interrupt pin: 0 none, 1 INTA.
    pub fn pin(&self) -> u8 {
        self.byte(0x3d)
    }

    /// Whether it is bus master.
    pub fn is_bus_master(&self) -> bool {
        self.word(COMMAND) >> 2 & 1 != 0
    }

    /// BARs that have been used, or could be.
    pub fn bars(self) -> impl Iterator<Item = Bar> + 'a {
        let count = if self.header() == 0 { BARS } else { 2 };
        let mut next = 0;
        core::iter::from_fn(move || {
            let index = next;
            let low = number::<4>(self.0, BAR_0 + 4 * index).filter(|_| index < count)?;
            let wide = low & 0b111 == 0b100;
            next += if wide { 2 } else { 1 };
            let kind = match low & 1 {
                1 => Kind::Ports,
                _ => Kind::Memory { wide, prefetchable: low & 8 != 0 },
            };
            let high = if wide { number::<4>(self.0, BAR_0 + 4 * index + 4).unwrap_or(0) } else { 0 };
            let base = match kind {
                Kind::Ports => low & !0b11,
                Kind::Memory { .. } => low & !0xf | high << 32,
            };
            Some(Bar { index, kind, base })
        })
    }

    /// Where a capability is.
    pub fn capability(&self, wanted: u8) -> Option<usize> {
        if self.word(STATUS) >> 4 & 1 == 0 {
            return None;
        }
        let mut at = usize::from(self.byte(0x34) & !3);
        for _ in 0..MOST_CAPABILITIES {
            if at < 0x40 {
                return None;
            }
            if self.byte(at) == wanted {
                return Some(at);
            }
            at = usize::from(self.byte(at + 1) & !3);
        }
        None
    }

    /// Whether it can be reset alone: by FLR of PCI Express, or of advanced features.
    pub fn has_reset(&self) -> bool {
        let express = self.capability(EXPRESS).is_some_and(|at| self.word(at + 6) >> 12 & 1 != 0);
        express || self.capability(ADVANCED).is_some_and(|at| self.byte(at + 3) & 0b11 == 0b11)
    }
}

/// A function as it was found.
pub struct Function {
    /// Where it is.
    pub at: Bdf,
    config: [u8; BYTES],
    /// Sizes of its BARs, 0 where unknown.
    pub sizes: [u64; BARS],
    /// Whether it has access control services; `None` if its extended configuration space is out of reach.
    pub acs: Option<bool>,
    /// The input of the I/O APIC at which its pin arrives, where the chipset says so.
    pub input: Option<u8>,
}

/// Reaches configuration space.
pub struct Bus<'a, M> {
    /// The machine.
    pub machine: &'a M,
    /// Extended configuration space: the address of bus 0 of segment 0, and its first and last bus.
    pub extended: Option<(u64, u8, u8)>,
}

impl<M: Machine> Bus<'_, M> {
    fn select(&self, at: Bdf, offset: usize) {
        let device = u32::from(at.device) << 11 | u32::from(at.function) << 8;
        self.machine.out32(ADDRESS, ENABLE | u32::from(at.bus) << 16 | device | offset as u32 & 0xfc);
    }

    /// Four bytes of a function's configuration space; all ones if it does not exist.
    pub fn read(&self, at: Bdf, offset: usize) -> u32 {
        self.select(at, offset);
        self.machine.in32(DATA)
    }

    fn write(&self, at: Bdf, offset: usize, value: u32) {
        self.select(at, offset);
        self.machine.out32(DATA, value);
    }

    /// Whether a function answers. Vendor ID 0 is no vendor's: broken bridges answer so for devices that do not exist.
    fn is_there(&self, at: Bdf) -> bool {
        !matches!(self.read(at, 0) & 0xffff, 0 | 0xffff)
    }

    /// Calls `each` for every function of segment 0.
    pub fn for_each(&self, mut each: impl FnMut(&Function)) {
        let wiring = Wiring::read(self);
        for number in 0..=u16::MAX >> 3 {
            let first = Bdf { bus: (number >> 5) as u8, device: number as u8 & 31, function: 0 };
            if !self.is_there(first) {
                continue;
            }
            // A device with a single function may answer at the numbers of others.
            let several = self.read(first, 0x0c) >> 16 & 0x80 != 0;
            for function in 0..if several { 8 } else { 1 } {
                let at = Bdf { function, ..first };
                if self.is_there(at) {
                    each(&self.function(at, &wiring));
                }
            }
        }
    }

    fn function(&self, at: Bdf, wiring: &Wiring) -> Function {
        let mut config = [0; BYTES];
        for (index, place) in config.chunks_mut(4).enumerate() {
            place.copy_from_slice(&self.read(at, 4 * index).to_le_bytes());
        }
        let sizes = self.sizes(at, Config(&config));
        let input = wiring.input(at, Config(&config).pin());
        Function { at, config, sizes, acs: self.acs(at), input }
    }

    /// Sizes of BARs: which bits of each can be written. Decoding is off for as long as that takes. Bridges and the processor's
    /// own functions are left alone, since what is behind them would be out of reach.
    fn sizes(&self, at: Bdf, config: Config) -> [u64; BARS] {
        let mut sizes = [0; BARS];
        if config.header() != 0 || config.class() >> 8 == 0x06 {
            return sizes;
        }
        let command = self.read(at, COMMAND) & COMMAND_ONLY;
        self.write(at, COMMAND, command & !DECODING);
        for bar in config.bars() {
            let mask = |index: usize| {
                let register = BAR_0 + 4 * index;
                let value = self.read(at, register);
                self.write(at, register, u32::MAX);
                let mask = self.read(at, register);
                self.write(at, register, value);
                u64::from(mask)
            };
            let mask = match bar.kind {
                Kind::Ports => mask(bar.index) & 0xfffc | 0xffff_ffff_ffff_0000,
                Kind::Memory { wide: true, .. } => mask(bar.index) & !0xf | mask(bar.index + 1) << 32,
                Kind::Memory { wide: false, .. } => mask(bar.index) & !0xf | 0xffff_ffff_0000_0000,
            };
            let writable = mask != 0 && mask != 0xffff_ffff_0000_0000 && mask != 0xffff_ffff_ffff_0000;
            if let Some(size) = sizes.get_mut(bar.index).filter(|_| writable) {
                *size = mask.wrapping_neg();
            }
        }
        self.write(at, COMMAND, command);
        sizes
    }

    /// Whether there are access control services among the extended capabilities; `None` if all ones answer, as for a function
    /// without such a list, and for what is out of reach.
    fn acs(&self, at: Bdf) -> Option<bool> {
        let (base, _, _) = self.extended.filter(|(_, first, last)| (*first..=*last).contains(&at.bus))?;
        let Bdf { bus, device, function } = at;
        let space = base.wrapping_add(u64::from(bus) << 20 | u64::from(device) << 15 | u64::from(function) << 12);
        let mut offset = 0x100;
        for _ in 0..MOST_CAPABILITIES {
            let header = self.machine.read32(space + offset);
            if header == u32::MAX {
                return None;
            }
            if header == 0 || offset < 0x100 {
                return Some(false);
            }
            if header & 0xffff == u32::from(ACS) {
                return Some(true);
            }
            offset = u64::from(header >> 20 & 0xffc);
        }
        Some(false)
    }
}

impl Function {
    /// Its configuration space.
    pub fn config(&self) -> Config<'_> {
        Config(&self.config)
    }
}

/// As `lspci -nvxxx` of pciutils 3 prints it, so that one reader serves both.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.config();
        let ((vendor, device), class) = (config.id(), config.class());
        let (revision, interface) = (self.config[8], self.config[9]);
        writeln!(
            f,
            "{} {class:04x}: {vendor:04x}:{device:04x} (rev {revision:02x}) (prog-if {interface:02x})",
            self.at
        )?;
        let command = config.word(COMMAND);
        let sign = |bit: u16| if command >> bit & 1 != 0 { '+' } else { '-' };
        writeln!(f, "\tControl: I/O{} Mem{} BusMaster{}", sign(0), sign(1), sign(2))?;
        if let Some(input) = self.input {
            let pin = char::from(b'A' + (config.pin() - 1) % 4);
            writeln!(f, "\tInterrupt: pin {pin} routed to IRQ {input}")?;
        }
        for bar in config.bars() {
            let size = self.sizes.get(bar.index).copied().unwrap_or(0);
            if size == 0 && bar.base == 0 {
                continue;
            }
            write!(f, "\tRegion {}: ", bar.index)?;
            let (on, address) = match bar.kind {
                Kind::Ports => (command & 1 != 0, write_port(f, bar.base)),
                Kind::Memory { .. } => (command & 2 != 0, write_memory(f, bar.base)),
            };
            address?;
            if let Kind::Memory { wide, prefetchable } = bar.kind {
                let (bits, non) = (if wide { 64 } else { 32 }, if prefetchable { "" } else { "non-" });
                write!(f, " ({bits}-bit, {non}prefetchable)")?;
            }
            if !on {
                f.write_str(" [disabled]")?;
            }
            write_size(f, size)?;
        }
        if let Some(acs) = self.acs {
            let no = if acs { "" } else { "No " };
            writeln!(f, "\tCapabilities: [100] {no}Access Control Services")?;
        }
        for (index, bytes) in self.config.chunks(16).enumerate() {
            write!(f, "{:02x}:", 16 * index)?;
            bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
            f.write_char('\n')?;
        }
        Ok(())
    }
}

fn write_port(f: &mut fmt::Formatter<'_>, base: u64) -> fmt::Result {
    if base == 0 { f.write_str("I/O ports at <unassigned>") } else { write!(f, "I/O ports at {base:04x}") }
}

fn write_memory(f: &mut fmt::Formatter<'_>, base: u64) -> fmt::Result {
    if base == 0 { f.write_str("Memory at <unassigned>") } else { write!(f, "Memory at {base:08x}") }
}

fn write_size(f: &mut fmt::Formatter<'_>, size: u64) -> fmt::Result {
    match size {
        0 => f.write_char('\n'),
        1..0x400 => writeln!(f, " [size={size}]"),
        0x400..0x10_0000 => writeln!(f, " [size={}K]", size >> 10),
        0x10_0000..0x4000_0000 => writeln!(f, " [size={}M]", size >> 20),
        _ => writeln!(f, " [size={}G]", size >> 30),
    }
}

#[cfg(test)]
mod tests;
