//! The configuration that each process finds at `window::CONFIG`. Written by capdl-spec, read by `rt::config()`.
//! Everything that a server must know of the system is here; nothing is discovered from its own CSpace.

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::Slot;

/// Most clients that a server serves.
pub const MAX_CLIENTS: usize = 16;
/// Longest name of a process, image or device, in bytes.
pub const MAX_NAME: usize = 48;

/// A name out of the system description.
pub type Name = String<MAX_NAME>;

/// A window of shared memory in this process's VSpace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Virtual address of the first byte, page aligned.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
}

/// A range of I/O ports whose capability the process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Where the capability is.
    pub slot: Slot,
    /// First port.
    pub first: u16,
    /// Last port, inclusive.
    pub last: u16,
}

/// serial-server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serial {
    /// The UART's eight ports.
    pub uart: Ports,
    /// Line speed in bits per second.
    pub baud: u32,
    /// The UART's line at irq-server.
    pub line: u8,
    /// Who prints, and who is typed at. The position is the client's doorbell bit, `event::ring(n)`.
    pub rings: Vec<SerialRing, 24>,
}

/// One stream of bytes to the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerialRing {
    /// What lines of this stream begin with, when there is more than one console.
    pub name: Name,
    /// Log lines or a guest's console.
    pub kind: RingKind,
    /// Ring from the client.
    pub output: Window,
    /// Ring to the client, and the notification that says it has bytes: consoles only.
    pub input: Option<(Window, Slot)>,
}

/// What a stream to the console carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RingKind {
    /// Whole lines of a server's log, printed as `name: line`.
    Log,
    /// A guest's console, passed through byte for byte.
    Console,
}

/// timer-server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// The 8254's ports 0x40 to 0x43.
    pub pit: Ports,
    /// Port 0x61, the gate of channel 2.
    pub gate: Ports,
    /// The RTC's ports 0x70 and 0x71.
    pub rtc: Ports,
    /// The PIT's line at irq-server.
    pub line: u8,
    /// Clients; the endpoint's badge is the position. Each one's signal carries `event::TIMER`.
    pub clients: Vec<Signal, MAX_CLIENTS>,
    /// Who is signalled a millisecond after `event::ALARM`: irq-server, which timer-server calls and which therefore cannot
    /// call it.
    pub alarm: Option<Slot>,
}

/// A client and how to signal it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The client's name, for the log.
    pub name: Name,
    /// Badged notification capability of the client.
    pub slot: Slot,
}

/// Most interrupt lines of a system: irq-server's notification has an `event::ring` for each.
pub const MAX_LINES: usize = 24;

/// irq-server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Irq {
    /// All lines of the system. A client names a line by its position here.
    pub lines: Vec<Line, MAX_LINES>,
    /// Badge of the client that says where lines without a route arrive: pci-server.
    pub router: Option<u64>,
    /// Asks timer-server for a signal (`event::TIMER`) in a millisecond.
    pub alarm: Option<Slot>,
}

/// One interrupt line as one client knows it. Lines with the same route are one line of the machine, shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Name in the description: `timer`, `uart`, `SATA` …
    pub name: Name,
    /// Badge (client identity) that may claim it.
    pub owner: u64,
    /// Where it arrives; `None` until the router says so.
    pub route: Option<Route>,
    /// The kernel's interrupt vector, unique in the system, counted from the first that user space may use.
    pub vector: u8,
    /// The owner's notification, badged with the event bit of this line.
    pub signal: Slot,
    /// irq-server's own notification, badged `event::ring(n)` for line n: for lines that are shared.
    pub own: Option<Slot>,
    /// Interrupts per millisecond above which the line counts as storming; 0 is no limit.
    pub limit: u16,
}

/// Where an interrupt arrives, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// I/O APIC; 0 is the first.
    pub ioapic: u8,
    /// Its input.
    pub pin: u8,
    /// Level triggered; else edge.
    pub level: bool,
    /// Active low; else high.
    pub active_low: bool,
}

/// Most functions that are passed through.
pub const MAX_PCI_FUNCTIONS: usize = 16;
/// Most ranges of ports that are passed through and belong to no function.
pub const MAX_PCI_PORTS: usize = 16;

/// pci-server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pci {
    /// Ports 0xcf8 to 0xcff.
    pub config: Ports,
    /// Clients; the endpoint's badge is the position, and `event::client` of it says that the client was stopped.
    pub clients: Vec<PciClient, MAX_CLIENTS>,
    /// Functions with an owner.
    pub functions: Vec<PciFunction, MAX_PCI_FUNCTIONS>,
    /// Ports with an owner that belong to no function.
    pub ports: Vec<PciPorts, MAX_PCI_PORTS>,
    /// Where INTA to INTD arrive.
    pub intx: Intx,
}

/// What one client of pci-server may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciClient {
    /// The client's name, for the log.
    pub name: Name,
    /// May list all functions of the machine (identity and resources, no access).
    pub enumerate: bool,
}

/// A function and who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciFunction {
    /// The client: its position.
    pub owner: u8,
    /// Its name in the description, or its address.
    pub name: Name,
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
    /// Ports and memory are handed over; else each access is a call.
    pub direct: bool,
    /// May it become bus master?
    pub dma: Dma,
    /// Its lines at irq-server. Those without a route there get one from pci-server.
    pub lines: Vec<u8, 2>,
    /// The ports that the description lists, first and last; `None` if it lists none, and what is found holds.
    pub ports: Option<Vec<(u16, u16), 8>>,
    /// The memory that the description lists, physical address and bytes; `None` as above.
    pub memory: Option<Vec<(u64, u64), 6>>,
}

/// What a function may do to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dma {
    /// Nothing: bus mastering stays off.
    No,
    /// Anything: the description trusts it.
    Trusted,
    /// What its I/O address space holds, which exists before any process runs.
    Domain,
}

/// Ports that one client has without a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciPorts {
    /// The client: its position.
    pub owner: u8,
    /// Its name in the description.
    pub name: Name,
    /// First port.
    pub first: u16,
    /// Last port, inclusive.
    pub last: u16,
    /// The description trusts the owner with ports of the mainboard ([`crate::mainboard::takes_trust`]).
    pub trusted: bool,
}

/// How a board's PCI interrupts arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intx {
    /// At inputs `base` to `base + 3` of the first I/O APIC: `base + (device + pin + add) % 4`, pin 1 is INTA.
    Swizzle {
        /// First of the four inputs.
        base: u8,
        /// See above.
        add: u8,
    },
    /// At the input that the firmware wrote into the interrupt line register.
    FirmwareLine,
}

/// fileserver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// The images.
    pub files: Vec<FileEntry, 64>,
    /// Clients; the endpoint's badge is the position.
    pub clients: Vec<FileClient, MAX_CLIENTS>,
}

/// One image of fileserver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The name that clients open.
    pub name: Name,
    /// Where it is mapped; `len` is the file's exact length.
    pub data: Window,
}

/// A client of fileserver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileClient {
    /// The client's name, for the log.
    pub name: Name,
    /// Buffer shared with the client: reads land here.
    pub buffer: Window,
    /// Images (positions in `files`) that it may open, bit by bit.
    pub may_open: u64,
}

/// vmm-server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vmm {
    /// Name of the VM.
    pub name: Name,
    /// Bytes of guest RAM from `ram_at` on, mapped in the EPT there and at `window::GUEST_RAM + ram_at`.
    pub ram: u64,
    /// Guest-physical address of the RAM: 0, or the RAM's physical address where a device without an IOMMU uses it. Then
    /// there is also a page of 2 MiB at 0, of which the first 640 KiB are the guest's low memory.
    pub ram_at: u64,
    /// Image of the guest kernel: vmlinux (ELF) or bzImage.
    pub kernel: Name,
    /// Image of the initial RAM disk.
    pub initrd: Option<Name>,
    /// Kernel command line.
    pub cmdline: String<2048>,
    /// Buffer shared with fileserver.
    pub files: Window,
    /// Console rings shared with serial-server: to it, and from it.
    pub console_out: Window,
    /// See `console_out`.
    pub console_in: Window,
    /// Ports of the emulated board that the guest may use directly (debugging aids), enabled in the VCPU.
    pub direct_ports: Vec<Ports, 8>,
    /// Lines of passthrough devices; line n raises `event::line(n)`.
    pub lines: Vec<VmLine, 16>,
    /// Page directories for the EPT in the slots from `slot::PAGING` on.
    pub directories: u8,
    /// Page tables for the EPT in the slots behind them. With neither, the VM has no passthrough devices.
    pub tables: u8,
    /// How often the guest may be reset in a row; after a minute, a reset is forgotten.
    pub resets: u16,
    /// The guest has an entropy device.
    pub rng: bool,
}

/// An interrupt line of a passthrough device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmLine {
    /// The line at irq-server.
    pub line: u8,
    /// The input of the guest's PIC, 0 to 15; `None` leaves the choice to the VMM.
    pub dest: Option<u8>,
    /// Interrupts per millisecond above which the line is throttled; 0 is no limit.
    pub limit: u16,
}

/// A component of the user's own (or a test) beside the VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name.
    pub name: Name,
    /// Buffer shared with fileserver, if it uses that.
    pub files: Option<Window>,
    /// Words from the description's `args`, as they stand.
    pub args: String<512>,
    /// Lines of its devices; line n raises `event::line(n)`.
    pub lines: Vec<VmLine, 16>,
    /// Memory for its devices to use, and its address on the bus.
    pub dma: Option<(Window, u64)>,
}
