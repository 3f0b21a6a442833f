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
}

/// A client and how to signal it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The client's name, for the log.
    pub name: Name,
    /// Badged notification capability of the client.
    pub slot: Slot,
}

/// irq-server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Irq {
    /// All lines of the system. A client names a line by its position here.
    pub lines: Vec<Line, 32>,
}

/// One interrupt line, owned by one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Name in the description: `timer`, `uart`, `SATA` …
    pub name: Name,
    /// Badge (client identity) that may claim it.
    pub owner: u64,
    /// I/O APIC (0 is the first) and its input.
    pub ioapic: u8,
    /// Input pin of the I/O APIC.
    pub pin: u8,
    /// Level triggered; else edge.
    pub level: bool,
    /// Active low; else high.
    pub active_low: bool,
    /// The kernel's interrupt vector, unique in the system, counted from the first that user space may use.
    pub vector: u8,
    /// The owner's notification, badged with the event bit of this line.
    pub signal: Slot,
}

/// pci-server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pci {
    /// Ports 0xcf8 to 0xcff.
    pub config: Ports,
    /// Clients; the endpoint's badge is the position.
    pub clients: Vec<PciClient, MAX_CLIENTS>,
}

/// What one client of pci-server may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciClient {
    /// The client's name, for the log.
    pub name: Name,
    /// May list all functions of the machine (identity and resources, no access).
    pub enumerate: bool,
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
    /// Bytes of guest RAM, mapped at `window::GUEST_RAM` and in the EPT from 0.
    pub ram: u64,
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
}
