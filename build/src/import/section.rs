//! The device section of a description: names, the guest's PIC inputs, and the text.

use std::fmt::Write;

use layout::mainboard;
use miette::{Result, miette};

use super::capture::{Capture, Function};
use super::class;
use super::device::{self, Device, Input, plain};
use super::files::Files;

/// Inputs of the guest's PIC that no modelled device uses, in the order in which devices get them.
const FREE_DESTS: [u8; 8] = [11, 10, 9, 5, 7, 3, 6, 12];

/// Width of comments above the section.
const COLUMNS: usize = 110;
/// A frame of seL4's: the size that maps memory in.
const PAGE_BITS: u32 = 12;
/// A large frame.
const LARGE_PAGE_BITS: u32 = 21;

/// What the devices may do to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dma {
    /// Only the memory that an IOMMU maps for them.
    Domain,
    /// All of memory: the board has no IOMMU.
    Trusted,
}

/// A line of `irqs`.
struct Irq {
    name: String,
    input: Input,
    dest: u8,
}

/// A device with its name, and that of its interrupt.
struct Named<'a> {
    function: &'a Function,
    device: Device,
    name: String,
    irq: Option<String>,
}

/// The section for these functions.
pub fn write(files: &Files, capture: &Capture, chosen: &[&Function], dma: Dma) -> Result<String> {
    let mut devices = Vec::new();
    for function in chosen {
        let device = device::needs(files, capture, function)?;
        let name = name(function, &devices);
        devices.push(Named { function, device, name, irq: None });
    }
    let irqs = irqs(&mut devices)?;
    let mut text = format!(
        "# Devices of a [[vm]]: put these lines among its keys, above its first sub-table.\n\
         # From {} by `cargo xtask import lspci`. Behind each value stands the line that it came from.\n",
        files.names()
    );
    for named in &devices {
        about(&mut text, files, named);
    }
    text.push('\n');
    iospace(&mut text, files, capture, &devices, dma);
    ioports(&mut text, &devices);
    pci_devices(&mut text, files, &devices, dma);
    irq_lines(&mut text, &irqs);
    Ok(text)
}

/// `SATA`, or `Ethernet5` for one on bus 5, or with the whole address if that name is taken.
fn name(function: &Function, others: &[Named]) -> String {
    let (word, at) = (class::short(&function.class), function.address.bdf);
    let short = if at.bus == 0 { word.to_owned() } else { format!("{word}{}", at.bus) };
    if others.iter().all(|other| other.name != short) {
        return short;
    }
    format!("{word}-{:02x}-{:02x}-{}", at.bus, at.device, at.function)
}

/// Gives each input a name and the guest an input of its PIC for it. Devices at the same input share both.
fn irqs(devices: &mut [Named]) -> Result<Vec<Irq>> {
    let mut irqs: Vec<Irq> = Vec::new();
    for named in devices {
        let Some(input) = named.device.input.take() else { continue };
        if let Some(same) = irqs.iter().find(|irq| irq.input.pin == input.pin) {
            named.irq = Some(same.name.clone());
            continue;
        }
        let dest = FREE_DESTS.into_iter().find(|dest| irqs.iter().all(|irq| irq.dest != *dest)).ok_or_else(|| {
            miette!(
                help = "give the guest fewer devices",
                "the guest's PIC has no input left for the interrupt of {}",
                named.device.address
            )
        })?;
        named.irq = Some(named.name.clone());
        irqs.push(Irq { name: named.name.clone(), input, dest });
    }
    Ok(irqs)
}

fn about(text: &mut String, files: &Files, named: &Named) {
    let function = named.function;
    let title = plain(&function.title);
    let heading = format!("{}: {} {title} ({})", named.name, function.address, files.cite(&function.line));
    text.push_str("#\n");
    comment(text, "# ", &heading);
    for note in &named.device.notes {
        comment(text, "# - ", note);
    }
}

/// A comment of as many lines as it needs.
fn comment(text: &mut String, mark: &str, words: &str) {
    let mut line = mark.to_owned();
    for word in words.split_whitespace() {
        if line.len() + word.len() > COLUMNS && line.trim_end() != mark.trim_end() {
            let _ = writeln!(text, "{}", line.trim_end());
            line = format!("#{:indent$}", "", indent = mark.len() - 1);
        }
        line.push_str(word);
        line.push(' ');
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

fn iospace(text: &mut String, files: &Files, capture: &Capture, devices: &[Named], dma: Dma) {
    let masters: Vec<&str> =
        devices.iter().filter(|named| named.function.bus_master).map(|named| named.name.as_str()).collect();
    if masters.is_empty() || dma == Dma::Trusted {
        return;
    }
    let group = devices.iter().find_map(|named| named.function.iommu.as_ref());
    let evidence = match group {
        Some(line) => format!("{} shows that the board has an IOMMU", files.cite(line)),
        None if capture.has_dmar => "the ACPI table DMAR shows that the board has an IOMMU".into(),
        None => "the capture shows no IOMMU; if the board has none, import again with --trusted".into(),
    };
    let _ = writeln!(text, "pci_devices_iospace = 1  # bus master: {}; {evidence}", masters.join(", "));
}

fn ioports(text: &mut String, devices: &[Named]) {
    if devices.iter().all(|named| named.device.ports.is_empty()) {
        return;
    }
    text.push_str("ioports = [\n");
    for named in devices {
        for ports in &named.device.ports {
            let (start, end) = (ports.first, u32::from(ports.last) + 1);
            let (device, name) = (named.device.address.bdf.device, &named.name);
            // pci-server compares those of a device with its BARs.
            let device = if ports.is_bar { format!("pci_device = 0x{device:x}, ") } else { String::new() };
            let entry = format!("{{ start = 0x{start:x}, end = 0x{end:x}, {device}name = \"{name}\" }}");
            let origin = &ports.origin;
            let _ = match !ports.is_bar && mainboard::takes_trust(ports.first, ports.last) {
                // No capture shows whether the user wants that.
                true => writeln!(text, "    # {entry},  # {origin}; left out: who has them may have the machine"),
                false => writeln!(text, "    {entry},  # {origin}"),
            };
        }
    }
    text.push_str("]\n");
}

fn pci_devices(text: &mut String, files: &Files, devices: &[Named], dma: Dma) {
    text.push_str("pci_devices = [\n");
    for named in devices {
        let at = named.device.address.bdf;
        let _ = write!(
            text,
            "    {{ name = \"{}\", bus = {}, dev = 0x{:x}, fun = {}",
            named.name, at.bus, at.device, at.function
        );
        if let Some(irq) = &named.irq {
            let _ = write!(text, ", irq = \"{irq}\"");
        }
        if dma == Dma::Trusted && named.function.bus_master {
            text.push_str(", dma = \"trusted\"");
        }
        let origin = files.cite(&named.function.line);
        if !named.device.memory_is_known {
            let _ = writeln!(text, " }},  # {origin}");
            continue;
        }
        if named.device.memory.is_empty() {
            let _ = writeln!(text, ", memory = [] }},  # {origin}");
            continue;
        }
        let _ = writeln!(text, ", memory = [  # {origin}");
        for memory in &named.device.memory {
            let (paddr, size) = (memory.paddr, memory.size);
            let large = 1 << LARGE_PAGE_BITS;
            let bits = if size % large == 0 && paddr % large == 0 { LARGE_PAGE_BITS } else { PAGE_BITS };
            let entry = format!("{{ paddr = 0x{paddr:x}, size = 0x{size:x}, page_bits = {bits} }}");
            let _ = writeln!(text, "        {entry},  # {}", memory.origin);
        }
        text.push_str("    ] },\n");
    }
    text.push_str("]\n");
}

fn irq_lines(text: &mut String, irqs: &[Irq]) {
    if irqs.is_empty() {
        return;
    }
    text.push_str("irqs = [\n");
    for irq in irqs {
        let (name, pin, dest) = (&irq.name, irq.input.pin, irq.dest);
        let level = u8::from(irq.input.level);
        let entry = format!(
            "{{ name = \"{name}\", source = {pin}, level_trig = {level}, active_low = {level}, dest = {dest} }}"
        );
        let _ = writeln!(text, "    {entry},  # {}", irq.input.origin);
    }
    text.push_str("]\n");
}
