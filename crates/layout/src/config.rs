//! The configurations of vmm-servers and components, which lie at `window::CONFIG`, and the types that all
//! configurations share; a server's own configuration is in its protocol (`proto`). capdl-spec writes them,
//! `rt::config()` reads them. A configuration holds everything that a process must know of the system; no process
//! examines its own CSpace.

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::{
    Slot,
    guest_board::Chipset,
    limits::{
        MAX_ARGS, MAX_CHANNELS, MAX_CMDLINE, MAX_DATAPORTS, MAX_DIRECT_PORTS, MAX_MANAGED, MAX_MANAGERS, MAX_NAME,
        MAX_NICS, MAX_OWN_DISKS, MAX_OWN_LINES, MAX_PIPES,
    },
};

/// A name from the system description.
pub type Name = String<MAX_NAME>;

/// A window of shared memory in this process's VSpace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Virtual address of the first byte, page aligned.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
}

/// The rings between a client of block-server, or a disk's driver, and block-server: `proto::block`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRings {
    /// Requests.
    pub requests: Window,
    /// Completions.
    pub completions: Window,
}

/// A range of I/O ports whose capability the process holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The capability's slot.
    pub slot: Slot,
    /// First port.
    pub first: u16,
    /// Last port, inclusive.
    pub last: u16,
}

/// vmm-server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vmm {
    /// Name of the VM.
    pub name: Name,
    /// The board that its guest sees.
    pub chipset: Chipset,
    /// Number of virtual CPUs: the process's first thread runs the first, and so on, see `slot::vcpu`.
    pub vcpus: u8,
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
    pub cmdline: String<MAX_CMDLINE>,
    /// Buffer shared with fileserver.
    pub files: Window,
    /// Console rings shared with serial-server: to it, and from it.
    pub console_out: Window,
    /// See `console_out`.
    pub console_in: Window,
    /// Ports of the emulated board that the guest may use directly (debugging aids), enabled in the VCPU.
    pub direct_ports: Vec<Ports, MAX_DIRECT_PORTS>,
    /// Lines of passthrough devices; line n raises `event::line(n)`.
    pub lines: Vec<VmLine, MAX_OWN_LINES>,
    /// Page directories for the EPT in the slots from `slot::PAGING` on.
    pub directories: u8,
    /// Page tables for the EPT in the slots after them. With neither, the VM has no passthrough devices.
    pub tables: u8,
    /// How many resets in a row the guest may take; each minute, one is forgotten.
    pub resets: u16,
    /// The guest has an entropy device.
    pub rng: bool,
    /// The guest's network devices; device `n` has the doorbell `slot::nic(n)`.
    pub nics: Vec<Nic, MAX_NICS>,
    /// Its disks, by the rings to block-server.
    pub disks: Vec<BlockRings, MAX_OWN_DISKS>,
    /// Its socket device.
    pub vsock: Option<Vsock>,
    /// The rings of its second console, at serial-server, which shares the doorbell and the signal of the first.
    pub hvc: Option<ByteRings>,
    /// Its pipes to other VMs; pipe `n` has the doorbell `slot::pipe(n)` and the signal `event::pipe(n)`.
    pub pipes: Vec<Pipe, MAX_PIPES>,
    /// Its channels; channel `n` has the doorbell `slot::channel(n)`, and all have the signal `event::CHANNEL`.
    pub channels: Vec<Channel, MAX_CHANNELS>,
    /// Who may stop it, start it and so on.
    pub managers: Vec<Manager, MAX_MANAGERS>,
}

/// A manager, as the vmm-server of its VM knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// Its name, for the log.
    pub name: Name,
    /// The page shared with it: `proto::lifecycle`.
    pub page: Window,
    /// Signals it.
    pub signal: Slot,
    /// What it may ask for: bits of `proto::lifecycle::Verb`.
    pub may: u8,
}

/// A VM, as its manager knows it; the VM at position `n` has the doorbell `slot::managed(n)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Managed {
    /// The VM's name.
    pub name: Name,
    /// The page shared with its vmm-server: `proto::lifecycle`.
    pub page: Window,
}

/// An end of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// The channel's name.
    pub name: Name,
    /// One page with the counters of events of both ends.
    pub events: Window,
    /// This end is the first of the description's `members`.
    pub first: bool,
    /// Its dataports.
    pub dataports: Vec<Dataport, MAX_DATAPORTS>,
}

/// Memory that both ends of a channel map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataport {
    /// Where this process has it.
    pub window: Window,
    /// Where its guest has it, if it has a guest: the guest-physical address of its first byte.
    pub gpa: Option<u64>,
    /// Whether this end may write.
    pub writable: bool,
}

/// Two rings of bytes: `mmio::Ring`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteRings {
    /// From this process.
    pub output: Window,
    /// To it.
    pub input: Window,
}

/// A guest's end of a pipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipe {
    /// The pipe's name, by which the guest finds its port.
    pub name: Name,
    /// The rings to and from the other end's process.
    pub rings: ByteRings,
}

/// A network device of a guest, or what an uplink has in place of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its address at the switch.
    pub mac: [u8; 6],
    /// Ring of records to net-server.
    pub output: Window,
    /// Ring of records from it.
    pub input: Window,
}

/// A member of a network of sockets: a guest's device, or a component. Its doorbell is `slot::VSOCK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vsock {
    /// Its address.
    pub cid: u32,
    /// Ring of records to net-server.
    pub output: Window,
    /// Ring of records from it.
    pub input: Window,
}

/// An interrupt line of a passthrough device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmLine {
    /// The line at irq-server.
    pub line: u8,
    /// The input of the guest's PIC, 0 to 15; `None` leaves the choice to the VMM.
    pub dest: Option<u8>,
    /// Level-triggered, unless pci-server knows better; else edge-triggered. A line of which nothing is known counts as level.
    pub level: bool,
    /// Interrupts per millisecond above which irq-server rate-limits the line; 0 is no limit.
    pub limit: u16,
}

/// The user's own component (or a test's) beside the VMs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// Its name.
    pub name: Name,
    /// Buffer shared with fileserver, if it uses fileserver.
    pub files: Option<Window>,
    /// The description's `args`, unchanged.
    pub args: String<MAX_ARGS>,
    /// Lines of its devices; line n raises `event::line(n)`.
    pub lines: Vec<VmLine, MAX_OWN_LINES>,
    /// Memory for its devices to use, and its address on the bus.
    pub dma: Option<(Window, u64)>,
    /// Its ports of networks' switches, in the order of the networks; the doorbell of port n is `slot::nic(n)`.
    pub nics: Vec<Nic, MAX_NICS>,
    /// The rings from block-server, if it drives a disk.
    pub disk: Option<BlockRings>,
    /// Its disks, by the rings to block-server.
    pub disks: Vec<BlockRings, MAX_OWN_DISKS>,
    /// Its sockets, if it is a member of a network of them.
    pub vsock: Option<Vsock>,
    /// Its channels; channel `n` has the doorbell `slot::channel(n)`, and all have the signal `event::CHANNEL`.
    pub channels: Vec<Channel, MAX_CHANNELS>,
    /// The VMs that it manages.
    pub managed: Vec<Managed, MAX_MANAGED>,
}
