//! Derives from lspci's output what a guest needs for a function: ports, memory, the interrupt.
//!
//! PCI Local Bus Specification 3.0, section 6.2.5 (BARs); for IDE controllers in compatibility mode, whose BARs mean
//! nothing, PCI IDE Controller Specification 1.0. Expansion ROMs are left out: guests need none, and pci-server shows none.

use layout::mainboard;
use miette::Result;

use super::address::PciAddress;
use super::capture::{Capture, Function, Region};
use super::class;
use super::files::{Files, Line};
use super::proc::Delivery;

/// Inputs of the first I/O APIC. Linux numbers its interrupts like these inputs, and those of other I/O APICs after
/// them.
const IO_APIC_INPUTS: u32 = 24;
/// Inputs of the 8259 pair.
const PIC_INPUTS: u32 = 16;
/// Inputs of the I/O APIC that are in use: by the 8259 pair, and by the servers' timer, UART and clock.
const BOARD_INPUTS: [u8; 4] = [0, 2, 4, 8];
/// Below this are RAM and ROM.
const LOWEST_MEMORY: u64 = 1 << 20;
/// No processor has more physical address bits.
const HIGHEST_MEMORY: u64 = 1 << 52;
/// Memory is passed through in pages.
const PAGE: u64 = 1 << 12;
/// The ports of the two IDE channels of a PC/AT, each with the interrupt.
const IDE_CHANNELS: [([(u16, u16); 2], u8); 2] =
    [([(0x1f0, 0x1f7), (0x3f6, 0x3f6)], 14), ([(0x170, 0x177), (0x376, 0x376)], 15)];

/// What a device needs.
#[derive(Debug)]
pub struct Device {
    /// Where it is.
    pub address: PciAddress,
    /// Its ports.
    pub ports: Vec<Ports>,
    /// Its memory.
    pub memory: Vec<Memory>,
    /// Whether a description can list that memory.
    pub memory_is_known: bool,
    /// Where its interrupts arrive, if the capture shows that.
    pub input: Option<Input>,
    /// Notes for the reader.
    pub notes: Vec<String>,
}

/// A range of ports.
#[derive(Debug)]
pub struct Ports {
    /// First port.
    pub first: u16,
    /// Last port, inclusive.
    pub last: u16,
    /// Whether a BAR has them, or they replace one.
    pub is_bar: bool,
    /// Where that came from.
    pub origin: String,
}

/// A range of memory.
#[derive(Debug)]
pub struct Memory {
    /// Physical address.
    pub paddr: u64,
    /// Bytes.
    pub size: u64,
    /// Where that came from.
    pub origin: String,
}

/// An input of the first I/O APIC.
#[derive(Debug)]
pub struct Input {
    /// Which.
    pub pin: u8,
    /// Level-triggered and active low, as for PCI; otherwise edge-triggered and active high, as for ISA.
    pub level: bool,
    /// Where that came from.
    pub origin: String,
}

/// Why a guest cannot have the function.
pub fn refusal(function: &Function) -> Option<&'static str> {
    if function.address.segment != 0 {
        return Some("it is in another PCI segment than 0, which the ports 0xcf8 and 0xcfc do not reach");
    }
    if class::is_bridge(&function.class) || function.dump.is_bridge() {
        return Some("it is a bridge: it decides what other devices see, and stays with pci-server");
    }
    (!function.detailed).then_some("the capture has nothing but its name: use `lspci -vv`")
}

/// What the function needs.
pub fn needs(files: &Files, capture: &Capture, function: &Function) -> Result<Device> {
    let mut needs = DeviceBuilder {
        files,
        capture,
        function,
        device: Device {
            address: function.address,
            ports: Vec::new(),
            memory: Vec::new(),
            memory_is_known: true,
            input: None,
            notes: Vec::new(),
        },
    };
    let is_ide = class::number(&function.class) == Some(class::IDE);
    let legacy = [0, 1].map(|channel| is_ide && function.interface >> (2 * channel) & 1 == 0);
    for (_, channel) in legacy.iter().zip(IDE_CHANNELS).filter(|(legacy, _)| **legacy) {
        needs.legacy_channel(channel);
    }
    for (number, region) in function.regions.iter().enumerate() {
        if !is_of_legacy_channel(region, legacy) {
            needs.region(number, region)?;
        }
    }
    needs.ports_beside_bars()?;
    if legacy != [true, true] {
        needs.interrupt();
    }
    needs.remarks();
    Ok(needs.device)
}

/// Whether the region is a BAR of a channel that does not use its BARs. For these, lspci and the kernel print various
/// things: ports, memory at the ports' numbers, nothing.
fn is_of_legacy_channel(region: &Region, legacy: [bool; 2]) -> bool {
    let channel = match (region.index, region.base) {
        (Some(index), _) => index / 2,
        (None, Some(0x1f0..=0x1f7 | 0x3f0..=0x3f7)) => 0,
        (None, Some(0x170..=0x177 | 0x370..=0x377)) => 1,
        _ => return false,
    };
    legacy.get(channel).copied().unwrap_or(false)
}

struct DeviceBuilder<'a> {
    files: &'a Files,
    capture: &'a Capture,
    function: &'a Function,
    device: Device,
}

impl DeviceBuilder<'_> {
    fn region(&mut self, number: usize, region: &Region) -> Result<()> {
        let origin = format!("{}: {}", self.files.cite(&region.line), plain(&region.text));
        let Some(base) = region.base.filter(|base| *base != 0) else {
            let note = "it has no address; pci-server passes on only functions whose registers all have one";
            self.device.notes.push(format!("{origin}: left out: {note}"));
            return Ok(());
        };
        if region.disabled {
            let what = if region.is_ports { "ports" } else { "memory" };
            self.device.notes.push(format!("{origin}: decoding of {what} was off in the capture"));
        }
        self.compare_with_dump(region.index.unwrap_or(number), base, region)?;
        let size = self.size(base, region)?;
        let last = base.checked_add(size - 1);
        if !size.is_power_of_two() || base % size != 0 || last.is_none() {
            let message = format!("a BAR of 0x{size:x} bytes cannot be at 0x{base:x}");
            let remedy = "sizes are powers of two, and bases multiples of the size; the line is damaged: capture again";
            return Err(self.files.mistake(&region.line, message, remedy));
        }
        if !region.is_ports {
            return self.memory(base, size, region, origin);
        }
        let (Ok(first), Some(Ok(last))) = (u16::try_from(base), last.map(u16::try_from)) else {
            let message = format!("ports end at 0xffff, but this BAR is at 0x{base:x}");
            return Err(self.files.mistake(&region.line, message, "the line is damaged: capture again"));
        };
        if let Some(fixed) = mainboard::among(first, last) {
            let message = format!("no BAR is at 0x{base:x}: that is the mainboard's, {}", fixed.what);
            return Err(self.files.mistake(&region.line, message, "the line is damaged: capture again"));
        }
        self.device.ports.push(Ports { first, last, is_bar: true, origin });
        Ok(())
    }

    fn memory(&mut self, paddr: u64, size: u64, region: &Region, origin: String) -> Result<()> {
        if !(LOWEST_MEMORY..HIGHEST_MEMORY).contains(&paddr) {
            let message = format!("0x{paddr:x} is no physical address for a device's memory");
            return Err(self.files.mistake(&region.line, message, "the line is damaged: capture again"));
        }
        if !paddr.is_multiple_of(PAGE) {
            let note = "it is within a page, which a list cannot say; the memory is left to pci-server";
            self.device.notes.push(format!("{origin}: {note}"));
            self.device.memory_is_known = false;
        }
        self.device.memory.push(Memory { paddr, size, origin });
        Ok(())
    }

    /// Checks that the register and the kernel agree, if there is a dump and the region has a number.
    fn compare_with_dump(&mut self, index: usize, base: u64, region: &Region) -> Result<()> {
        let (Some(_), 0..6, false) = (region.index, index, region.is_virtual) else {
            if region.is_virtual {
                let note =
                    "the address is the kernel's, the register holds another; pci-server compares with the register";
                self.device.notes.push(format!("{}: {note}", self.files.cite(&region.line)));
            }
            return Ok(());
        };
        let Some(low) = self.function.dump.register(0x10 + 4 * index) else { return Ok(()) };
        let held = match (low & 1 == 1, low >> 1 & 3) {
            (true, _) => u64::from(low & !3),
            (false, 2) => {
                let high = self.function.dump.register(0x14 + 4 * index).unwrap_or(0);
                u64::from(high) << 32 | u64::from(low & !0xf)
            }
            (false, _) => u64::from(low & !0xf),
        };
        if (held, low & 1 == 1) != (base, region.is_ports) {
            let register = 0x10 + 4 * index;
            let message = format!("this line says 0x{base:x}, the hex dump has 0x{low:08x} at 0x{register:x}");
            let remedy = "one of the two is damaged, or of another machine: capture again with `lspci -vvxxx`";
            return Err(self.files.mistake(&region.line, message, remedy));
        }
        Ok(())
    }

    fn size(&self, base: u64, region: &Region) -> Result<u64> {
        let claims = self.capture.ports.iter().filter(|claim| claim.function == Some(self.function.address));
        let mut claims = claims.filter(|claim| region.is_ports && u64::from(claim.first) == base);
        let claimed = claims.next().map(|claim| u64::from(claim.last - claim.first) + 1);
        region.size.or(claimed).ok_or_else(|| {
            let remedy =
                "`lspci -b` prints none: use `lspci -vv`; for ports, /proc/ioports as a further FILE also helps";
            self.files.mistake(&region.line, "the region has no size", remedy)
        })
    }

    /// A channel of an IDE controller in compatibility mode.
    fn legacy_channel(&mut self, (ports, irq): ([(u16, u16); 2], u8)) {
        let interface = self.function.interface;
        let origin = format!(
            "{}: prog-if {interface:02x}: the channel of IRQ {irq} in compatibility mode",
            self.files.cite(&self.function.line)
        );
        for (first, last) in ports {
            self.device.ports.push(Ports { first, last, is_bar: true, origin: origin.clone() });
        }
        let cite = self.files.cite(&self.function.line);
        self.device
            .notes
            .push(format!("no entry in irqs for IRQ {irq} ({cite}): pci-server knows that an IDE channel has it"));
    }

    /// The function's ports in /proc/ioports beyond its BARs; an error if the two differ.
    fn ports_beside_bars(&mut self) -> Result<()> {
        let claims = self.capture.ports.iter().filter(|claim| claim.function == Some(self.function.address));
        for claim in claims {
            let mut overlapping =
                self.device.ports.iter().filter(|ports| ports.first <= claim.last && claim.first <= ports.last);
            if let Some(ports) = overlapping.next() {
                if (claim.first, claim.last) != (ports.first, ports.last) {
                    let message = format!(
                        "/proc/ioports has {:04x}-{:04x}, but the BAR has {:04x}-{:04x} ({})",
                        claim.first, claim.last, ports.first, ports.last, ports.origin
                    );
                    return Err(self.files.mistake(&claim.line, message, "capture both again, in the same boot"));
                }
                continue;
            }
            let origin =
                format!("{}: not a BAR, but the kernel reserves it for this function", self.files.cite(&claim.line));
            self.device.ports.push(Ports { first: claim.first, last: claim.last, is_bar: false, origin });
        }
        Ok(())
    }

    fn interrupt(&mut self) {
        let Some(interrupt) = &self.function.interrupt else {
            self.device.notes.push("it has no interrupt in the capture".into());
            return;
        };
        let number = interrupt.number;
        let cite = self.files.cite(&interrupt.line);
        if let Some(msi) = &self.function.msi {
            let msi = self.files.cite(msi);
            self.device.notes.push(format!(
                "no entry in irqs ({cite}): IRQ {number} is a message's number, since MSI was on ({msi}); pci-server has the \
                 function send messages, too"
            ));
            return;
        }
        let arrival = self.capture.arrivals.iter().find(|arrival| arrival.number == number);
        let pin = u8::try_from(number).ok().filter(|_| number < IO_APIC_INPUTS);
        let without_table = "the capture does not say where on the I/O APIC; add /proc/interrupts as a further FILE";
        let unknown = match (arrival.map(|arrival| (arrival.kind, &arrival.line)), pin) {
            (Some((Delivery::Message, line)), _) => format!(
                "IRQ {number} is a message's number ({}): boot with `pci=nomsi` and capture again, with /proc/interrupts",
                self.files.cite(line)
            ),
            (Some((Delivery::Pin { .. }, line)), Some(pin)) if BOARD_INPUTS.contains(&pin) => {
                format!("IRQ {number} is also one of the board's own ({}), which a server has", self.files.cite(line))
            }
            (Some((Delivery::Pin { pin: at, level }, line)), Some(pin)) if at == number => {
                return self.input(
                    pin,
                    level,
                    format!("{cite}: IRQ {number}; {}: at the I/O APIC", self.files.cite(line)),
                );
            }
            (Some((Delivery::Pic, line)), _) => format!(
                "IRQ {number} is an input of the 8259 pair ({}), not of the I/O APIC: boot without `noapic` and `nolapic` and \
                 capture again, with /proc/interrupts",
                self.files.cite(line)
            ),
            (None, Some(pin)) if (PIC_INPUTS..IO_APIC_INPUTS).contains(&number) => {
                let origin = format!("{cite}: IRQ {number}; from 16 on, that is the input of the I/O APIC");
                return self.input(pin, true, origin);
            }
            (None, Some(1..)) => {
                format!(
                    "IRQ {number} is below 16, which can be an input of the 8259 pair or of the I/O APIC: {without_table}"
                )
            }
            (_, Some(0)) => "IRQ 0 means that the firmware gave it none".into(),
            _ => format!(
                "IRQ {number} is no input of the first I/O APIC, but of a second one, or a message: {without_table}"
            ),
        };
        self.device
            .notes
            .push(format!("no entry in irqs ({cite}): {unknown}. Until then it interrupts by MSI, if at all"));
    }

    fn input(&mut self, pin: u8, level: bool, origin: String) {
        self.device.input = Some(Input { pin, level, origin });
        let shares = |other: &&Function| {
            let number = other.interrupt.as_ref().map(|interrupt| interrupt.number);
            other.address != self.function.address && other.msi.is_none() && number == Some(u32::from(pin))
        };
        for other in self.capture.functions.iter().filter(shares) {
            let note = format!("its interrupt line is also that of {} {}", other.address, plain(&other.class));
            self.device.notes.push(note);
        }
    }

    fn remarks(&mut self) {
        let note = |line: &Line, text: &str| format!("{}: {text}", self.files.cite(line));
        let function = self.function;
        let mut notes = Vec::new();
        if let Some(rom) = &function.rom {
            notes.push(note(rom, "the expansion ROM is left out: guests see none"));
        }
        if function.hidden {
            notes
                .push(note(&function.line, "its capabilities are missing, so MSI may have been on: run lspci as root"));
        }
        if function.address.bdf.bus != 0 {
            let text = format!(
                "it is on bus {}, so behind a bridge; the guest sees it on its bus 0",
                function.address.bdf.bus
            );
            notes.push(note(&function.line, &text));
        }
        self.device.notes.extend(notes);
    }
}

/// Text that may stand in a comment.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
