//! Reads a capture line by line: lspci(8) at any verbosity, or the probe's block, with /proc/ioports and /proc/interrupts,
//! in one file or several.
//!
//! The formats are those of pciutils 3.x (`lspci.c`, `ls-caps.c`) and Linux (`kernel/resource.c`,
//! `kernel/irq/proc.c`). Other lines are skipped, since captures come from consoles. Left out: the contents of
//! capabilities, except whether MSI is on; they are in the hex dump.

use miette::{Report, Result};
use probe::block;

use super::address::PciAddress;
use super::files::{Files, Line};
use super::proc::{self, Arrival, PortClaim};

/// Most bytes of a dump.
const CONFIGURATION_SPACE: usize = 4096;

/// All that is known of a machine.
#[derive(Debug, Default)]
pub struct Capture {
    /// PCI functions, in the order of the files.
    pub functions: Vec<Function>,
    /// Ports that belong to functions, from /proc/ioports.
    pub ports: Vec<PortClaim>,
    /// Linux's interrupt numbers and where they arrive, from /proc/interrupts.
    pub arrivals: Vec<Arrival>,
    /// Whether the ACPI table DMAR is among the files.
    pub has_dmar: bool,
}

/// One PCI function, as lspci prints it.
#[derive(Debug)]
pub struct Function {
    /// Where it is.
    pub address: PciAddress,
    /// Its first line.
    pub line: Line,
    /// The class's name or number, as printed.
    pub class: String,
    /// The rest of its first line after the address.
    pub title: String,
    /// `(prog-if 80 …)`; 0 if there is none.
    pub interface: u8,
    /// BARs.
    pub regions: Vec<Region>,
    /// The line about an expansion ROM.
    pub rom: Option<Line>,
    /// The interrupt, as Linux numbers it.
    pub interrupt: Option<Interrupt>,
    /// Whether Linux uses MSI in place of the line. `None` if lspci ran as an ordinary user, who cannot see that.
    pub msi: Option<Line>,
    /// Whether the user that ran lspci could not see the capabilities.
    pub hidden: bool,
    /// Whether it was bus master.
    pub bus_master: bool,
    /// Whether there is a line `Control:` or `Flags:`, so that lspci ran with `-v` at least.
    pub detailed: bool,
    /// The line that names its IOMMU group.
    pub iommu: Option<Line>,
    /// Its configuration space, if dumped.
    pub dump: Dump,
    /// Whether it has access control services; `None` if no extended capability is to be seen.
    pub acs: Option<bool>,
}

/// A BAR.
#[derive(Debug)]
pub struct Region {
    /// Its number; `lspci -v` leaves it out.
    pub index: Option<usize>,
    /// Ports, or else memory.
    pub is_ports: bool,
    /// Its address; `None` if the firmware has not assigned one.
    pub base: Option<u64>,
    /// Bytes or ports.
    pub size: Option<u64>,
    /// Whether the address is the kernel's, and not in the register.
    pub is_virtual: bool,
    /// Whether decoding was off.
    pub disabled: bool,
    /// Where it says so.
    pub line: Line,
    /// What it says.
    pub text: String,
}

/// `Interrupt: pin A routed to IRQ 19`
#[derive(Debug)]
pub struct Interrupt {
    /// Linux's number.
    pub number: u32,
    /// Where it says so.
    pub line: Line,
}

/// Configuration space, as far as it is known: 64 bytes of the header (PCI 3.0, section 6.1), 256 bytes, or 4 KiB.
#[derive(Debug, Default)]
pub struct Dump {
    bytes: Vec<u8>,
}

impl Dump {
    /// A little-endian register.
    pub fn register(&self, offset: usize) -> Option<u32> {
        let bytes = self.bytes.get(offset..offset.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// All that is known, from the start on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the header says that a bus lies behind the function.
    pub fn is_bridge(&self) -> bool {
        self.bytes.get(0x0e).is_some_and(|kind| kind & 0x7f != 0)
    }
}

/// Reads all files.
pub fn parse(files: &Files) -> Result<Capture> {
    let mut capture = Capture::default();
    let mut reader = Reader { files, capture: &mut capture, file: 0, state: State::Between };
    for (line, text) in files.lines() {
        reader.line(line, text)?;
    }
    Ok(capture)
}

/// The subject of the lines that follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    /// The last function; its capabilities have begun, which use "Region" for other things.
    Function {
        capabilities: bool,
    },
    Interrupts,
}

struct Reader<'a> {
    files: &'a Files,
    capture: &'a mut Capture,
    file: usize,
    state: State,
}

impl Reader<'_> {
    fn line(&mut self, line: Line, text: &str) -> Result<()> {
        if line.file != self.file {
            self.file = line.file;
            self.state = State::Between;
        }
        if text.contains(block::BEGIN) || text.contains(block::END) {
            // Of several boots the last one counts.
            if text.contains(block::BEGIN) {
                self.capture.has_dmar = false;
                self.capture.functions.retain(|function| function.line.file != line.file);
            }
            self.state = State::Between;
            return Ok(());
        }
        let start = text.trim_start();
        self.capture.has_dmar |= start.starts_with("table.DMAR.") || start.starts_with("DMAR @ 0x");
        if let Some((address, title)) = PciAddress::heading(text) {
            self.state = State::Function { capabilities: false };
            return self.begin(address, title, line);
        }
        if proc::is_interrupts_heading(text) {
            self.state = State::Interrupts;
            return Ok(());
        }
        if let Some(claim) = proc::port_claim(self.files, &line, text)? {
            self.capture.ports.extend(claim.function.map(|_| claim));
            return Ok(());
        }
        match self.state {
            State::Between => Ok(()),
            State::Interrupts => {
                self.capture.arrivals.extend(proc::arrival(&line, text));
                Ok(())
            }
            State::Function { capabilities } => self.detail(capabilities, line, text),
        }
    }

    fn begin(&mut self, address: PciAddress, title: &str, line: Line) -> Result<()> {
        if let Some(first) = self.capture.functions.iter().find(|function| function.address == address) {
            let message =
                format!("{address} is here for the second time; {} has it already", self.files.cite(&first.line));
            return Err(self.files.mistake(&line, message, "leave one of the two outputs of lspci out"));
        }
        self.capture.functions.push(Function::new(address, title, line));
        Ok(())
    }

    fn detail(&mut self, capabilities: bool, line: Line, text: &str) -> Result<()> {
        let Some(function) = self.capture.functions.last_mut() else { return Ok(()) };
        if text.is_empty() {
            self.state = State::Between;
        } else if text.starts_with(char::is_whitespace) {
            let text = text.trim_start();
            if text.starts_with("Capabilities:") {
                self.state = State::Function { capabilities: true };
            }
            if capabilities || text.starts_with("Capabilities:") {
                function.capability(line, text);
            } else if let Some(region) = region(self.files, &line, text)? {
                function.regions.push(region);
            } else {
                function.detail(self.files, line, text)?;
            }
        } else if let Some((offset, bytes)) = dump_line(self.files, &line, text)? {
            // Bytes after a gap (a dump that lost a line) would end up at wrong offsets.
            if offset == function.dump.bytes.len() && offset < CONFIGURATION_SPACE {
                function.dump.bytes.extend(bytes);
            }
        }
        Ok(())
    }
}

impl Function {
    fn new(address: PciAddress, title: &str, line: Line) -> Self {
        let (class, _) = title.split_once(": ").unwrap_or((title, ""));
        let interface = after(title, "(prog-if ").and_then(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok());
        Self {
            address,
            line,
            class: class.to_owned(),
            title: title.to_owned(),
            interface: interface.unwrap_or(0),
            regions: Vec::new(),
            rom: None,
            interrupt: None,
            msi: None,
            hidden: false,
            bus_master: false,
            detailed: false,
            iommu: None,
            dump: Dump::default(),
            acs: None,
        }
    }

    fn detail(&mut self, files: &Files, line: Line, text: &str) -> Result<()> {
        if text.starts_with("Control:") || text.starts_with("Flags:") {
            self.detailed = true;
            self.bus_master = text.contains("BusMaster+") || text.contains("bus master");
        }
        let number = match text.strip_prefix("Interrupt:") {
            Some(rest) => after(rest, "routed to IRQ "),
            None => text.strip_prefix("Flags:").and_then(|flags| after(flags, ", IRQ ")),
        };
        if let Some(digits) = number {
            let number = digits.parse().map_err(|_| {
                let message = format!("`{digits}` is no interrupt number");
                files.mistake(&line, message, "expected: Interrupt: pin A routed to IRQ 19")
            })?;
            self.interrupt = Some(Interrupt { number, line });
        } else if text.starts_with("Expansion ROM at") || text.starts_with("[virtual] Expansion ROM at") {
            self.rom = Some(line);
        } else if text.starts_with("IOMMU group:") {
            self.iommu = Some(line);
        }
        Ok(())
    }

    fn capability(&mut self, line: Line, text: &str) {
        self.hidden |= text.starts_with("Capabilities: <access denied>");
        // Extended capabilities have offsets from 0x100 on: `[100 v1]`.
        let offset = text.strip_prefix("Capabilities: [").and_then(|rest| rest.split([' ', ']']).next());
        if offset.is_some_and(|offset| offset.len() == 3) {
            let named = text.contains("] Access Control Services") || text.contains("] ACS");
            self.acs = Some(named || self.acs == Some(true));
        }
        if is_msi(text) {
            self.msi = Some(line);
        }
    }
}

/// With MSI, lspci prints the message's number in place of the line's. MSI-X does not change it (Linux, `irq_show` in
/// drivers/pci/pci-sysfs.c).
fn is_msi(text: &str) -> bool {
    let names = ["] MSI:", "Message Signalled Interrupts:"];
    text.starts_with("Capabilities:") && text.contains("Enable+") && names.iter().any(|name| text.contains(name))
}

/// The text after `key`, up to a comma.
fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(key)?;
    Some(rest.split(',').next().unwrap_or(rest).trim())
}

/// `Region 0: Memory at c0500000 (32-bit, non-prefetchable) [size=128K]`, or the same without `Region 0:`.
fn region(files: &Files, line: &Line, text: &str) -> Result<Option<Region>> {
    let (index, rest) = match text.strip_prefix("Region ").and_then(|rest| rest.split_once(": ")) {
        Some((digits, rest)) => (digits.parse::<usize>().ok(), rest),
        None => (None, text),
    };
    let rest = rest.trim_start_matches("[virtual] ").trim_start_matches("[enhanced] ");
    let (is_ports, rest) = match (rest.strip_prefix("I/O ports at "), rest.strip_prefix("Memory at ")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return Ok(None),
    };
    let base = match rest.split_whitespace().next() {
        Some(word) if word.starts_with('<') => None,
        word => Some(hex(files, line, word.unwrap_or_default())?),
    };
    let size = match rest.split_once("[size=").map(|(_, size)| size.split(']').next().unwrap_or(size)) {
        Some(size) => Some(length(size).ok_or_else(|| bad_size(files, line, size))?),
        None => None,
    };
    Ok(Some(Region {
        index,
        is_ports,
        base,
        size,
        is_virtual: text.contains("[virtual]"),
        disabled: text.contains("[disabled]"),
        line: line.clone(),
        text: text.to_owned(),
    }))
}

fn hex(files: &Files, line: &Line, word: &str) -> Result<u64> {
    u64::from_str_radix(word, 16).map_err(|_| {
        let message = format!("`{word}` is no address");
        files.mistake(line, message, "expected hexadecimal digits, as in: Memory at c0500000; capture again")
    })
}

fn bad_size(files: &Files, line: &Line, size: &str) -> Report {
    files.mistake(line, format!("`{size}` is no size"), "expected, for example: [size=32], [size=128K]; capture again")
}

/// `32`, `128K`, `16M`, `2G`: what lspci's `show_size` prints. None is 0.
fn length(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let shift = match text.get(digits.len()..)? {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|size| *size > 0)
}

/// `10: 00 00 00 c0 …`: the offset and sixteen bytes.
fn dump_line(files: &Files, line: &Line, text: &str) -> Result<Option<(usize, Vec<u8>)>> {
    let Some((offset, rest)) = text.split_once(": ") else { return Ok(None) };
    let is_byte = |word: &str| word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let looks = (2..=3).contains(&offset.len()) && rest.split(' ').next().is_some_and(is_byte);
    let (true, Ok(offset)) = (looks, usize::from_str_radix(offset, 16)) else { return Ok(None) };
    let words: Vec<&str> = rest.split_whitespace().collect();
    if words.len() != 16 || !words.iter().all(|word| is_byte(word)) {
        let message = "a line of the hex dump is not sixteen bytes";
        return Err(files.mistake(line, message, "capture again, or leave the dump out: `lspci -vv`"));
    }
    Ok(Some((offset, words.iter().filter_map(|word| u8::from_str_radix(word, 16).ok()).collect())))
}
