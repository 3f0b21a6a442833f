//! What a user writes: VMs, components of the user's own, and policies. Everything else (servers, endpoints, badges,
//! addresses) follows from it. Parsing refuses the wrong form; `checks` refuses the wrong meaning. The fields for
//! passthrough are in `devices`.

use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    path::{Path, PathBuf},
};

use layout::guest_board::Chipset;
use serde::Deserialize;
use toml::Spanned;

pub use super::bytes::Bytes;

use crate::{
    description::{
        board::{self, Board},
        channel::Channel,
        console::Console,
        debian::{Architecture, Debian, Release},
        devices::{Flag, IoPorts, Irq, PciDevice},
        disks::DiskPart,
        emulator::Emulator,
        guest::Origin,
        lifecycle::Manager,
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
                                   i8042.noaux=y io_delay=udelay noisapnp acpi=off \
                                   cryptomgr.notests=1 quiet";
/// The same for a guest on a board with ACPI, which says what is not there.
pub const DEFAULT_CMDLINE_ACPI: &str = "earlyprintk=ttyS0,115200 console=ttyS0,115200 io_delay=udelay \
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
    /// Where memory begins that devices access without an IOMMU, if not where it usually does; see [`System::make_room`].
    #[serde(skip)]
    pub(crate) trusted_ram: Option<u64>,
    /// The machine.
    #[serde(deserialize_with = "board::by_name")]
    pub board: Spanned<Board>,
    /// The UART of the console; COM1 when left out.
    #[serde(default)]
    pub console: Console,
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
    /// Channels between VMs and components, two each.
    #[serde(rename = "channel", default)]
    pub channels: Vec<Channel>,
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
    /// The board that the guest sees; see [`Vm::chipset`] for when it is left out.
    pub chipset: Option<Chipset>,
    /// Virtual CPUs, one when left out.
    pub cpus: Option<Spanned<u8>>,
    /// bzImage or vmlinux.
    pub kernel: Spanned<Origin>,
    /// Initial RAM disk.
    pub initrd: Option<Spanned<Origin>>,
    /// The release of Debian that kernel, initrd and packages are from; the last one with such a kernel when left out.
    pub release: Option<Spanned<Release>>,
    /// That Debian.
    #[serde(skip)]
    pub debian: Debian,
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
    /// Kernel command line, with `{name}` for the VM's name; [`DEFAULT_CMDLINE`] when left out, or
    /// [`DEFAULT_CMDLINE_ACPI`].
    pub cmdline: Option<Spanned<String>>,
    /// What decompresses a bzImage.
    #[serde(default)]
    pub decompress: Decompress,
    /// Debug ports of an emulated board that the guest reaches without an exit.
    #[serde(default)]
    pub direct_ports: Vec<Spanned<u16>>,
    /// Whether the guest is trusted not to stop the machine by code in large pages, or the processor is known to be without
    /// that erratum; see [`System::in_small_pages`].
    #[serde(default)]
    pub large_pages: bool,
    /// Has the guest an entropy device?
    #[serde(default)]
    pub rng: bool,
    /// Has the guest a second console, hvc0?
    #[serde(default)]
    pub hvc: bool,
    /// Disks of block-server's, or parts of them.
    #[serde(default)]
    pub disks: Vec<Spanned<DiskPart>>,
    /// Who may stop, start, reset, pause and resume it, and press its buttons.
    #[serde(default)]
    pub managers: Vec<Spanned<Manager>>,
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
    /// Who may have bus masters, which raise any interrupt by DMA; everyone when left out.
    pub interrupts_by_dma: Option<Vec<Spanned<String>>>,
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

fn default_priority() -> Spanned<u8> {
    Spanned::new(0..0, 90)
}

impl Vm {
    /// The board that the guest sees. Left out, a 64-bit guest has ACPI, and a 32-bit one does not.
    pub fn chipset(&self) -> Chipset {
        self.chipset.unwrap_or(match self.debian.architecture() {
            Architecture::I386 => Chipset::Pc1995,
            Architecture::Amd64 => Chipset::Pc,
        })
    }

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
    pub fn board(&self) -> &Board {
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
