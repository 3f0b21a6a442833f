//! What a user writes: VMs, components of the user's own, and policies. Everything else (servers, endpoints, badges,
//! addresses) follows from it. Parsing refuses the wrong form; `checks` refuses the wrong meaning. The fields for
//! passthrough are in `devices`.

use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use toml::Spanned;

use crate::{
    description::{
        board::{self, Board},
        devices::{Flag, IoPorts, Irq, PciDevice},
        disks::DiskPart,
        emulator::Emulator,
        guest::Origin,
        network::Network,
        never::Never,
        pipe::Pipe,
        text::Source,
        vsock::Vsock,
    },
    spec::{OnFault, WhenOff},
};

/// The command line of a guest whose description has none. It is near the CAmkES VM's; `acpi=off` saves the guest a
/// search for absent tables, and `cryptomgr.notests=1` and `quiet` save minutes on an emulated machine.
pub const DEFAULT_CMDLINE: &str = "earlyprintk=ttyS0,115200 console=ttyS0,115200 i8042.nokbd=y i8042.nomux=y \
                                   i8042.noaux=y io_delay=udelay noisapnp pci=nomsi acpi=off \
                                   cryptomgr.notests=1 quiet";

/// A system description.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// The file's name without its suffix.
    #[serde(skip)]
    pub name: String,
    /// The file, for messages.
    #[serde(skip)]
    pub source: Source,
    /// The machine.
    #[serde(deserialize_with = "board::by_name")]
    pub board: Spanned<&'static Board>,
    /// Virtual machines.
    #[serde(rename = "vm", default)]
    pub vms: Vec<Vm>,
    /// The user's own processes beside the VMs.
    #[serde(rename = "component", default)]
    pub components: Vec<Component>,
    /// Networks between the VMs.
    #[serde(rename = "network", default)]
    pub networks: Vec<Network>,
    /// Networks of sockets between VMs and components.
    #[serde(rename = "vsock", default)]
    pub vsocks: Vec<Vsock>,
    /// Pipes between two VMs each.
    #[serde(rename = "pipe", default)]
    pub pipes: Vec<Pipe>,
    /// What happens when processes fail, and when the last VM ends.
    #[serde(default)]
    pub policy: Policy,
    /// Whether serial-server colours the lines of VMs that share the console, for a plain terminal.
    #[serde(default)]
    pub console_colours: bool,
    /// What is plugged into an emulated board.
    #[serde(default)]
    pub emulator: Emulator,
    /// Defects of the kernel on which the system is built in spite of what they endanger; see `defects`.
    #[serde(default)]
    pub accept_kernel_defects: Vec<Spanned<String>>,
}

/// A virtual machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// Unique among VMs and components; its process is `vmm-NAME`.
    pub name: Spanned<String>,
    /// How many VMs it stands for, see `count`; each has its number behind the name. One without a number when left out.
    pub count: Option<Spanned<u16>>,
    /// Guest RAM: a multiple of 2 MiB.
    pub memory: Spanned<Bytes>,
    /// Virtual CPUs, one when left out.
    pub cpus: Option<Spanned<u8>>,
    /// bzImage or vmlinux.
    pub kernel: Spanned<Origin>,
    /// Initial RAM disk.
    pub initrd: Option<Spanned<Origin>>,
    /// Packages of the guest's distribution whose files the initrd gets, with those that they depend on.
    #[serde(default)]
    pub packages: Vec<Spanned<String>>,
    /// Folders with a Makefile, which the build has install into the initrd.
    #[serde(default)]
    pub programs: Vec<Spanned<PathBuf>>,
    /// Packages that are needed to build those, beside C's library.
    #[serde(default)]
    pub build_packages: Vec<Spanned<String>>,
    /// A folder whose files the initrd gets, after all others.
    pub overlay: Option<Spanned<PathBuf>>,
    /// Kernel command line, with `{name}` for the VM's name; [`DEFAULT_CMDLINE`] when left out.
    pub cmdline: Option<Spanned<String>>,
    /// What decompresses a bzImage.
    #[serde(default)]
    pub decompress: Decompress,
    /// Debug ports of an emulated board that the guest reaches without an exit.
    #[serde(default)]
    pub direct_ports: Vec<Spanned<u16>>,
    /// Has the guest an entropy device?
    #[serde(default)]
    pub rng: bool,
    /// Has the guest a second console, hvc0?
    #[serde(default)]
    pub hvc: bool,
    /// Disks of block-server's, or parts of them.
    #[serde(default)]
    pub disks: Vec<Spanned<DiskPart>>,
    /// Whether the VM's process may list the machine's PCI functions.
    #[serde(default)]
    pub pci_enumerate: bool,
    /// Ports passed through to it.
    #[serde(default)]
    pub ioports: Vec<Spanned<IoPorts>>,
    /// PCI functions passed through to it.
    #[serde(default)]
    pub pci_devices: Vec<Spanned<PciDevice>>,
    /// Where their interrupts arrive, and which input of the guest's PIC each drives.
    #[serde(default)]
    pub irqs: Vec<Irq>,
    /// Whether each of its functions gets an I/O address space, to which an IOMMU confines it.
    pub pci_devices_iospace: Option<Spanned<Flag>>,
}

/// One of the user's own processes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Unique among VMs and components; also the process's name.
    pub name: Spanned<String>,
    /// A package of this workspace, or the path of an ELF (written with at least one slash).
    pub image: Spanned<String>,
    /// Below that of every server it uses.
    #[serde(default = "default_priority")]
    pub priority: Spanned<u8>,
    /// Servers that it may call, by their words in descriptions.
    #[serde(default)]
    pub services: Vec<Spanned<String>>,
    /// Passed to it unchanged.
    #[serde(default)]
    pub args: Option<Spanned<String>>,
    /// Images that it may read through fileserver.
    #[serde(default)]
    pub files: Vec<Spanned<Origin>>,
    /// Whether it may list the machine's PCI functions.
    #[serde(default)]
    pub pci_enumerate: bool,
    /// Ports passed through to it.
    #[serde(default)]
    pub ioports: Vec<Spanned<IoPorts>>,
    /// PCI functions passed through to it.
    #[serde(default)]
    pub pci_devices: Vec<Spanned<PciDevice>>,
    /// Where their interrupts arrive, and by which name.
    #[serde(default)]
    pub irqs: Vec<Irq>,
    /// Whether each of its functions gets an I/O address space, to which an IOMMU confines it.
    pub pci_devices_iospace: Option<Spanned<Flag>>,
    /// The name of the network whose uplink it is, if it is a driver of a card.
    pub uplink: Option<Spanned<String>>,
    /// The name of the disk that it drives for block-server, if it is a driver.
    pub drives: Option<Spanned<String>>,
    /// Disks of block-server's, or parts of them, if it is a client.
    #[serde(default)]
    pub disks: Vec<Spanned<DiskPart>>,
    /// Memory that its functions may use: 4 KiB to 1 MiB.
    pub dma_memory: Option<Spanned<Bytes>>,
}

/// What happens when processes fail, and when the last VM ends.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// By process; `stop` for those left out.
    #[serde(default)]
    pub on_fault: BTreeMap<Spanned<String>, OnFault>,
    /// When the last VM has powered off.
    #[serde(default)]
    pub when_off: WhenOff,
    /// What must not flow; a description in which it does is refused.
    #[serde(default)]
    pub never: Vec<Never>,
    /// How many resets in a row a guest may take before it counts as failed; each minute, one is forgotten.
    pub resets: Option<NonZeroU16>,
}

impl Policy {
    /// The default number of resets in a row: enough for a user at the guest's keyboard.
    pub const RESETS: u16 = 16;
}

/// What decompresses a bzImage's payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decompress {
    /// The build.
    #[default]
    Host,
    /// The guest, as on a PC: two billion instructions.
    Guest,
}

/// A size, written as `"128 MiB"`: a whole number and `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u32); 3] = [("KiB", 10), ("MiB", 20), ("GiB", 30)];

impl Bytes {
    fn parse(text: &str) -> Option<Bytes> {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (_, shift) = UNITS.into_iter().find(|(unit, _)| *unit == text[digits..].trim_start())?;
        let number: u64 = text[..digits].parse().ok()?;
        number.checked_mul(1 << shift).map(Bytes)
    }
}

impl core::fmt::Display for Bytes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match UNITS.into_iter().rev().find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift) {
            Some((unit, shift)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = Bytes;
            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("a size like \"128 MiB\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
                let remedy = match text.trim().parse() {
                    Ok(number) => format!("write \"{}\"", meant(number)),
                    Err(_) => "write a whole number and KiB, MiB or GiB, like \"128 MiB\"".into(),
                };
                Bytes::parse(text).ok_or_else(|| E::custom(format!("`{text}` is not a size\n{remedy}")))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Bytes, E> {
                let meant = meant(number.unsigned_abs().max(1));
                Err(E::custom(format!("{number} is not a size, which has a unit\nwrite \"{meant}\"")))
            }
        }
        from.deserialize_any(Size)
    }
}

/// The likely meaning of a number without a unit: bytes if it is large, otherwise MiB.
fn meant(number: u64) -> Bytes {
    const MIB: u64 = 1 << 20;
    if number >= MIB { Bytes(number.div_ceil(MIB).saturating_mul(MIB)) } else { Bytes(number * MIB) }
}

fn default_priority() -> Spanned<u8> {
    Spanned::new(0..0, 90)
}

impl Vm {
    /// How many virtual CPUs it has.
    pub fn cpus(&self) -> usize {
        self.cpus.as_ref().map_or(1, |cpus| usize::from(*cpus.get_ref()))
    }
}

impl Component {
    /// Whether the image is a file's path rather than a package's name.
    pub fn image_is_path(&self) -> bool {
        self.image.get_ref().contains('/')
    }
}

impl System {
    /// The board.
    pub fn board(&self) -> &'static Board {
        self.board.get_ref()
    }

    /// The consoles that share the serial line, as serial-server names and numbers them: the VMs', then the second ones.
    pub fn consoles(&self) -> Vec<String> {
        let first = self.vms.iter().map(|vm| vm.name.get_ref().clone());
        let second = self.vms.iter().filter(|vm| vm.hvc).map(|vm| format!("{}.hvc0", vm.name.get_ref()));
        first.chain(second).collect()
    }

    /// The folder that paths in the description start from.
    pub fn folder(&self) -> &Path {
        self.source.path.parent().unwrap_or(Path::new(""))
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn sizes_are_a_number_and_a_binary_unit() {
        assert_eq!(Bytes::parse("128 MiB"), Some(Bytes(128 << 20)));
        assert_eq!(Bytes::parse("1GiB"), Some(Bytes(1 << 30)));
        for wrong in ["", "128", "MiB", "-1 MiB", "1.5 GiB", "128 MB", "99999999999999 GiB"] {
            assert_eq!(Bytes::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_print_in_the_largest_unit_that_divides_them() {
        assert_eq!(Bytes(128 << 20).to_string(), "128 MiB");
        assert_eq!(Bytes(4096).to_string(), "4 KiB");
        assert_eq!(Bytes(0).to_string(), "0 B");
    }
}
