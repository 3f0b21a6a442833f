//! Reads /proc/ioports and /proc/interrupts, which have what lspci does not print.

use miette::Result;

use super::address::PciAddress;
use super::files::{Files, Line};

/// `  d060-d07f : 0000:00:1f.2`
#[derive(Debug)]
pub struct PortClaim {
    /// First port.
    pub first: u16,
    /// Last port, inclusive.
    pub last: u16,
    /// Whose they are, if a function's.
    pub function: Option<PciAddress>,
    /// Where it says so.
    pub line: Line,
}

/// One of Linux's interrupts.
#[derive(Debug)]
pub struct Arrival {
    /// Linux's number.
    pub number: u32,
    /// How it arrives.
    pub kind: Delivery,
    /// Where it says so.
    pub line: Line,
}

/// How an interrupt arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// At this input of an I/O APIC.
    Pin {
        /// The input.
        pin: u32,
        /// Level-triggered; otherwise edge-triggered.
        level: bool,
    },
    /// At the 8259 pair; its input of the I/O APIC is unknown.
    Pic,
    /// As a message.
    Message,
}

/// A line of /proc/ioports; its numbers have four digits, those of /proc/iomem have more.
pub fn port_claim(files: &Files, line: &Line, text: &str) -> Result<Option<PortClaim>> {
    let Some((range, name)) = text.trim_start().split_once(" : ") else { return Ok(None) };
    let Some((first, last)) = range.split_once('-') else { return Ok(None) };
    let port = |digits: &str| {
        let plain = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        u16::from_str_radix(digits, 16).ok().filter(|_| plain)
    };
    let (Some(first), Some(last)) = (port(first), port(last)) else { return Ok(None) };
    if last == 0 {
        let message = "/proc/ioports shows nothing but zeros to ordinary users";
        return Err(files.mistake(line, message, "read it as root: sudo cat /proc/ioports"));
    }
    if last < first {
        let message = format!("the range {first:04x}-{last:04x} ends before it begins");
        return Err(files.mistake(line, message, "capture /proc/ioports again, or leave it out"));
    }
    Ok(Some(PortClaim { first, last, function: name.parse().ok(), line: line.clone() }))
}

/// The first line of /proc/interrupts.
pub fn is_interrupts_heading(text: &str) -> bool {
    text.trim_start().starts_with("CPU") && text.split_whitespace().all(|word| word.starts_with("CPU"))
}

/// ` 16:   12   IO-APIC  16-fasteoi   ahci[0000:00:1f.2]`, ` 16:  12  IO-APIC-fasteoi  ahci`, ` 9:  20  XT-PIC  eth0`
pub fn arrival(line: &Line, text: &str) -> Option<Arrival> {
    let (number, rest) = text.split_once(':')?;
    let number: u32 = number.trim().parse().ok()?;
    let mut words = rest.split_whitespace().skip_while(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    let chip = words.next()?;
    let kind = if chip.contains("MSI") {
        Delivery::Message
    } else if chip.contains("XT-PIC") {
        Delivery::Pic
    } else if let Some((_, trigger)) = chip.split_once("IO-APIC") {
        // Before Linux 4.2 the trigger followed the chip's name, and the pin was the number.
        let (pin, trigger) = match trigger.strip_prefix('-') {
            Some(trigger) => (number, trigger),
            None => words.next()?.split_once('-').and_then(|(pin, trigger)| Some((pin.parse().ok()?, trigger)))?,
        };
        Delivery::Pin { pin, level: trigger != "edge" }
    } else {
        return None;
    };
    Some(Arrival { number, kind, line: line.clone() })
}
