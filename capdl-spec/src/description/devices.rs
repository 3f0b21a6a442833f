//! Passthrough in descriptions: the fields `ioports`, `pci_devices`, `irqs` and `pci_devices_iospace` that a `[[vm]]` and
//! a `[[component]]` have alike, by the names of the CAmkES VM. A description may leave out what pci-server can read
//! from the machine: `pci_devices = ["00:1f.2"]` is enough; what is listed must be what pci-server finds.

use core::fmt;

use layout::Bdf;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use toml::Spanned;

/// Interrupts per millisecond above which irq-server rate-limits a line whose entry of `irqs` has no `limit`.
pub const DEFAULT_LIMIT: u16 = 100;

/// An entry of `ioports`: a range of ports that its owner may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoPorts {
    /// First port.
    pub start: Spanned<u32>,
    /// The port after the last: `end` is exclusive, `{ start = 0x4088, end = 0x4090 }` are eight ports.
    pub end: Spanned<u32>,
    /// Device number of the function in `pci_devices` that has these ports; `name` chooses among several with that
    /// number. Left out for a device that is not on the PCI bus.
    pub pci_device: Option<Spanned<u8>>,
    /// For messages.
    pub name: Spanned<String>,
    /// Whether the description accepts that these ports give their owner power over the machine: the mainboard's ports
    /// of DMA, system management, power and reset (`layout::mainboard`).
    pub trusted: Option<Spanned<Flag>>,
}

/// An entry of `pci_devices`: a PCI function.
#[derive(Clone, Debug)]
pub struct PciDevice {
    /// Where it is.
    pub address: Bdf,
    /// For messages; the address when left out.
    pub name: Option<Spanned<String>>,
    /// Name of its pin's entry in `irqs`. If left out, the board's chipset says where the pin arrives, if that is known.
    pub irq: Option<Spanned<String>>,
    /// How it interrupts. If left out: by messages where it has MSI and may write to memory, else by its pin.
    pub interrupts: Option<Spanned<Interrupts>>,
    /// Its memory. If left out, pci-server finds it; an empty list says that it has none.
    pub memory: Option<Vec<Spanned<Memory>>>,
    /// How its owner accesses its ports and memory.
    pub access: Access,
    /// Whether it may use memory without an IOMMU that confines it.
    pub dma: Option<Spanned<Trust>>,
    /// Whether it may be bus master although its group has functions of other owners, whose registers it reaches past the
    /// IOMMU.
    pub group: Option<Spanned<Trust>>,
}

/// An entry of a function's `memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Physical address, aligned to its pages.
    pub paddr: u64,
    /// Bytes.
    pub size: u64,
    /// log2 of the size of its pages: 12, 20 or 21. It promises an alignment; frames are as large as that allows.
    #[serde(default = "small_pages")]
    pub page_bits: u8,
}

/// An entry of `irqs`: an interrupt.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Irq {
    /// What `pci_devices` call it.
    pub name: Spanned<String>,
    /// Which I/O APIC; 0 is the first.
    #[serde(default)]
    pub ioapic: u8,
    /// Its input, 0 to 23.
    pub source: Spanned<u8>,
    /// Level-triggered, as PCI interrupts are; otherwise edge-triggered.
    #[serde(default)]
    pub level_trig: Flag,
    /// Active low, as PCI interrupts are; otherwise active high.
    #[serde(default)]
    pub active_low: Flag,
    /// Input of the guest's PIC, 0 to 15. If left out, vmm-server chooses.
    pub dest: Option<Spanned<u8>>,
    /// Interrupts per millisecond above which irq-server rate-limits it; 0 is no limit.
    #[serde(default = "default_limit")]
    pub limit: u16,
}

/// Yes or no, written `1` and `0` or `true` and `false`. Yes if left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(pub bool);

/// How an owner accesses a function's ports and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// The owner has the capabilities, so an access takes neither an exit nor a call.
    #[default]
    Direct,
    /// Each access is a call to pci-server.
    Mediated,
}

/// Words of `interrupts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interrupts {
    /// By its pin, whatever it has: for a device whose MSI is broken.
    Pin,
    /// It does not interrupt.
    None,
}

/// Words of `dma` and `group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// The function may read and write all of the machine's memory, so its driver can too.
    Trusted,
}

const fn small_pages() -> u8 {
    12
}

const fn default_limit() -> u16 {
    DEFAULT_LIMIT
}

impl Default for Flag {
    fn default() -> Self {
        Flag(true)
    }
}

impl IoPorts {
    /// Whether the description trusts the owner with all that these ports do.
    pub fn trusted(&self) -> bool {
        self.trusted.as_ref().is_some_and(|flag| flag.get_ref().0)
    }
}

impl PciDevice {
    /// Its word for how it interrupts.
    pub fn interrupts(&self) -> Option<Interrupts> {
        self.interrupts.as_ref().map(|word| *word.get_ref())
    }

    /// Its name, or its address.
    pub fn label(&self) -> String {
        self.name.as_ref().map_or_else(|| self.address.to_string(), |name| name.get_ref().clone())
    }
}

impl IoPorts {
    /// First and last port. `checks` refuses ranges without both.
    pub fn range(&self) -> (u16, u16) {
        (*self.start.get_ref() as u16, self.end.get_ref().saturating_sub(1) as u16)
    }
}

impl Memory {
    /// First and last byte of the pages it lies in.
    pub fn pages(&self) -> (u64, u64) {
        (self.paddr & !0xfff, (self.paddr.saturating_add(self.size.max(1)) - 1) | 0xfff)
    }
}

/// Reads where a function is: written `"00:1f.2"`, bus and device in hexadecimal, as `lspci` prints it, or `"0000:00:1f.2"`, as
/// `lspci -D` does. pci-server cannot reach domains other than 0: configuration mechanism 1 (PCI Local Bus
/// Specification 3.0, section 3.2.2.3.2) has no field for one.
fn address(text: &str) -> Option<Bdf> {
    let text = text.strip_prefix("0000:").unwrap_or(text);
    let (bus, rest) = text.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let number = |text: &str, digits: usize, most: u8| {
        let fine = (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        u8::from_str_radix(text, 16).ok().filter(|number| fine && *number <= most)
    };
    Some(Bdf { bus: number(bus, 2, 255)?, device: number(device, 2, 31)?, function: number(function, 1, 7)? })
}

/// An address as a table has it.
struct Written(Bdf);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        address(&text).map(Written).ok_or_else(|| malformed(&text))
    }
}

fn malformed<E: Error>(text: &str) -> E {
    if let Some((domain, rest)) = text.split_once(':')
        && address(rest).is_some()
    {
        return E::custom(format!(
            "the function `{rest}` is in domain `{domain}`, and pci-server reaches domain 0 alone\n\
             pass through a function of domain 0: `lspci -D` shows the domains"
        ));
    }
    let is_id = |id: &str| id.len() == 4 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if text.split_once(':').is_some_and(|(vendor, device)| is_id(vendor) && is_id(device)) {
        return E::custom(format!(
            "`{text}` is what a function is, not where\nwrite bus:device.function, as it begins the line of `lspci -d {text}`"
        ));
    }
    E::custom(format!(
        "`{text}` is not the address of a PCI function\nwrite bus:device.function as lspci prints it, like \"00:1f.2\""
    ))
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ZeroOrOne;
        impl Visitor<'_> for ZeroOrOne {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0 or 1, or true or false")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Flag, E> {
                Ok(Flag(value))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Flag, E> {
                match value {
                    0 | 1 => Ok(Flag(value == 1)),
                    _ => Err(E::custom(format!("{value} is neither yes nor no\nwrite 1 or true, or 0 or false"))),
                }
            }
        }
        from.deserialize_any(ZeroOrOne)
    }
}

/// A function as a table, by its address or by its numbers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionTable {
    address: Option<Written>,
    bus: Option<u8>,
    dev: Option<DeviceNumber>,
    fun: Option<FunctionNumber>,
    name: Option<Spanned<String>>,
    irq: Option<Spanned<String>>,
    interrupts: Option<Spanned<Interrupts>>,
    memory: Option<Vec<Spanned<Memory>>>,
    #[serde(default)]
    access: Access,
    dma: Option<Spanned<Trust>>,
    group: Option<Spanned<Trust>>,
}

#[derive(Deserialize)]
#[serde(try_from = "u8")]
struct DeviceNumber(u8);
#[derive(Deserialize)]
#[serde(try_from = "u8")]
struct FunctionNumber(u8);

impl TryFrom<u8> for DeviceNumber {
    type Error = String;
    fn try_from(number: u8) -> Result<Self, String> {
        if number < 32 {
            Ok(DeviceNumber(number))
        } else {
            Err(format!("{number} is no device of a bus\nwrite 0 to 31"))
        }
    }
}

impl TryFrom<u8> for FunctionNumber {
    type Error = String;
    fn try_from(number: u8) -> Result<Self, String> {
        if number < 8 {
            Ok(FunctionNumber(number))
        } else {
            Err(format!("{number} is no function of a device\nwrite 0 to 7"))
        }
    }
}

impl FunctionTable {
    fn place(&self) -> Option<Bdf> {
        match (&self.address, self.bus, &self.dev, &self.fun) {
            (Some(Written(address)), None, None, None) => Some(*address),
            (None, Some(bus), Some(device), Some(function)) => {
                Some(Bdf { bus, device: device.0, function: function.0 })
            }
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for PciDevice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct TextOrTable;
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = PciDevice;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address like \"00:1f.2\", or a table")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<PciDevice, E> {
                let address = address(text).ok_or_else(|| malformed(text))?;
                Ok(PciDevice {
                    address,
                    name: None,
                    irq: None,
                    interrupts: None,
                    memory: None,
                    access: Access::Direct,
                    dma: None,
                    group: None,
                })
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<PciDevice, M::Error> {
                let table = FunctionTable::deserialize(MapAccessDeserializer::new(map))?;
                let wrong =
                    "a PCI function needs an address, once\nwrite address = \"00:1f.2\", or all of bus, dev and fun";
                let address = table.place().ok_or_else(|| M::Error::custom(wrong))?;
                let FunctionTable { name, irq, interrupts, memory, access, dma, group, .. } = table;
                Ok(PciDevice { address, name, irq, interrupts, memory, access, dma, group })
            }
        }
        from.deserialize_any(TextOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_lspci_prints_them() {
        let bdf = Bdf { bus: 5, device: 0x1f, function: 2 };
        assert_eq!(address("05:1f.2"), Some(bdf));
        assert_eq!(address(&bdf.to_string()), Some(bdf));
        assert_eq!(address("0000:05:1f.2"), Some(bdf), "with its domain");
        for wrong in [
            "",
            "1f.2",
            "00:1f",
            "00:20.0",
            "00:1f.8",
            "100:00.0",
            "0001:00:1f.2",
            "0000:0000:00:1f.2",
            "00:1f.2 ",
            "+0:1f.2",
        ] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}
