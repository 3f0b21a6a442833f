//! The block of text in which a board's facts are complete: lines `key = value` between two marker lines, and PCI functions as
//! lspci prints them. No line is longer than 80 characters, since terminals break longer ones. The last marker has the number
//! of lines and a sum over all characters that are not blanks, by which a reader finds out that a serial line has lost some.

use core::fmt::{self, Write};

use crate::clocks::Clock;
use crate::facts::Facts;
use crate::multiboot::Firmware;

/// How the first line begins; the version of the format follows.
pub const BEGIN: &str = "==== Portcullis probe: begin, format ";
/// How the last line begins: `N lines, sum S ====` follows.
pub const END: &str = "==== Portcullis probe: end, ";
/// The version.
pub const FORMAT: u32 = 1;

/// Bytes of a table in a line.
const PER_LINE: usize = 24;

/// Sums characters up (FNV-1a, 32 bits), but no blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// The sum.
    pub value: u32,
    /// Lines.
    pub lines: u32,
}

impl Default for Sum {
    fn default() -> Self {
        Self { value: 0x811c_9dc5, lines: 0 }
    }
}

impl Sum {
    /// Adds a text; its ends of lines count.
    pub fn add(&mut self, text: &str) {
        for byte in text.bytes() {
            self.lines += u32::from(byte == b'\n');
            if byte.is_ascii_graphic() {
                self.value = (self.value ^ u32::from(byte)).wrapping_mul(0x0100_0193);
            }
        }
    }
}

/// A block that is being written.
pub struct Block<W> {
    to: W,
    sum: Sum,
}

impl<W: Write> Write for Block<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.sum.add(text);
        self.to.write_str(text)
    }
}

impl<W: Write> Block<W> {
    /// Begins one.
    pub fn begin(mut to: W) -> Result<Self, fmt::Error> {
        writeln!(to, "{BEGIN}{FORMAT} ====")?;
        Ok(Self { to, sum: Sum::default() })
    }

    /// Ends it.
    pub fn end(mut self) -> fmt::Result {
        let Sum { value, lines } = self.sum;
        writeln!(self.to, "{END}{lines} lines, sum {value:08x} ====")
    }

    /// Writes all facts.
    pub fn facts(&mut self, facts: &Facts) -> fmt::Result {
        for leaf in &facts.leaves {
            let [eax, ebx, ecx, edx] = leaf.registers;
            writeln!(self, "cpuid.{:08x} = {eax:08x} {ebx:08x} {ecx:08x} {edx:08x}", leaf.leaf)?;
        }
        for (register, value) in &facts.msrs {
            writeln!(self, "msr.{register:08x} = {value:016x}")?;
        }
        if let Some(firmware) = facts.firmware {
            let name = if firmware == Firmware::Uefi { "uefi" } else { "bios" };
            writeln!(self, "firmware = {name}")?;
        }
        if let Some(rsdp) = facts.rsdp {
            writeln!(self, "rsdp = {:x} {:x} {:x}", rsdp.revision, rsdp.rsdt, rsdp.xsdt)?;
        }
        for table in &facts.tables {
            for (index, bytes) in table.bytes.chunks(PER_LINE).enumerate() {
                let signature = core::str::from_utf8(&table.signature).unwrap_or("????");
                write!(self, "table.{signature}.{:04x} = ", index * PER_LINE)?;
                bytes.iter().try_for_each(|byte| write!(self, "{byte:02x}"))?;
                self.write_char('\n')?;
            }
        }
        for unit in &facts.units {
            write!(self, "unit.{:x} = {:x} {:x} ", unit.address, unit.version, unit.capabilities)?;
            writeln!(self, "{:x} {:x} {:x}", unit.extended, unit.status, unit.protected)?;
        }
        let clocks = &facts.clocks;
        let all = [("8254", clocks.pit), ("pm", clocks.pm_timer), ("hpet", clocks.hpet), ("apic", clocks.apic)];
        for (name, clock) in all.into_iter().filter(|_| clocks.known) {
            match clock {
                Clock::Counts(hz) => writeln!(self, "clock.{name} = {hz}")?,
                Clock::Dead => writeln!(self, "clock.{name} = dead")?,
                Clock::Missing => writeln!(self, "clock.{name} = missing")?,
            }
        }
        for range in &facts.memory {
            writeln!(self, "memory.{:x} = {:x} {}", range.start, range.length, range.kind)?;
        }
        if let Some(uarts) = facts.uarts {
            writeln!(self, "uarts = {uarts:x}")?;
        }
        Ok(())
    }
}
