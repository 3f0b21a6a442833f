//! The specification that root-task interprets: every kernel object, every capability of every process, every mapping.
//! It knows kernel objects only, neither VMs nor devices. Encoded as postcard at the head of the bundle (`Header`).
//!
//! Ids are positions in `Spec::objects`; root-task creates the objects in that order and never any other.

use alloc::{string::String, vec::Vec};
use layout::Bdf;
use serde::{Deserialize, Serialize};

/// First bytes of a bundle.
pub const MAGIC: [u8; 8] = *b"PORTCUL1";
/// Bytes before the spec: magic, then the length of the spec and of the whole bundle as little-endian `u64`.
pub const HEADER_LEN: usize = 24;

/// Position in [`Spec::objects`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id(pub u32);

/// A whole system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The system's name.
    pub name: String,
    /// All kernel objects, in the order of their creation.
    pub objects: Vec<Object>,
    /// Contents of the CNodes.
    pub caps: Vec<CapEntry>,
    /// Frames mapped in VSpaces and EPTs; the paging structures they need come before them in `objects`.
    pub mappings: Vec<Mapping>,
    /// The processes, in the order in which they are started.
    pub processes: Vec<Process>,
    /// The endpoint that root-task listens on: notices of the processes, and their faults. Badges are a process's
    /// position in `processes` plus one, with `layout::FAULT_BIT` for faults.
    pub supervisor: Id,
    /// How the board is switched off, for the policy `Halt` and when the last VM has powered off.
    pub power_off: Option<PowerOff>,
    /// The console that root-task prints to before serial-server has it, and when serial-server is gone.
    pub console: Option<Console>,
    /// What happens when the last VM has powered off.
    pub when_off: WhenOff,
    /// What processes may ask root-task for while they run, see `proto::supervisor::Request`.
    pub windows: Vec<DeviceWindow>,
}

/// Device memory or ports that a process may ask root-task for, since only a running process can enumerate the buses
/// they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceWindow {
    /// The process, by its position in [`Spec::processes`].
    pub process: u32,
    /// What.
    pub range: DeviceRange,
}

/// See [`DeviceWindow`]. Both ends are inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceRange {
    /// Physical memory outside RAM.
    Memory {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
    },
    /// I/O ports.
    Ports {
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
}

/// One kernel object, or one array of frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Unique name, for messages and for the map: `vmm0.tcb`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// Kinds of kernel objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Endpoint.
    Endpoint,
    /// Notification.
    Notification,
    /// CNode of 2^bits slots.
    CNode {
        /// log2 of the slots.
        bits: u8,
    },
    /// Thread.
    Tcb,
    /// Root of a VSpace (PML4), assigned to the initial ASID pool.
    VSpace,
    /// Virtual CPU.
    Vcpu,
    /// Root of an EPT (EPT PML4), assigned to the initial ASID pool.
    Ept,
    /// `count` paging structures in a row below the root `space`, mapped from `at` on.
    Paging {
        /// The VSpace or EPT.
        space: Id,
        /// Level.
        level: Level,
        /// First address that they cover.
        at: u64,
        /// How many.
        count: u32,
    },
    /// `pages` frames in a row.
    Frames {
        /// Size of each.
        size: PageSize,
        /// How many.
        pages: u32,
        /// Where their contents come from.
        fill: Fill,
    },
    /// A paging structure of an EPT that is not mapped yet: its holder maps it, in an EPT of its own.
    SparePaging {
        /// Level: `Directory` or `Table`.
        level: Level,
    },
    /// The I/O address space of a PCI function, behind an IOMMU. root-task adds page tables as the mappings need them.
    IoSpace {
        /// The domain, unique in the system.
        domain: u16,
        /// Where the function is.
        function: Bdf,
    },
    /// I/O ports `first..=last`.
    IoPorts {
        /// First port.
        first: u16,
        /// Last port, inclusive.
        last: u16,
    },
    /// The kernel's IRQControl.
    IrqControl,
}

/// Level of a paging structure, for VSpaces and EPTs alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Page directory pointer table: 512 GiB.
    Pdpt,
    /// Page directory: 1 GiB.
    Directory,
    /// Page table: 2 MiB.
    Table,
}

impl Level {
    /// log2 of the bytes that one structure covers.
    pub const fn bits(self) -> u8 {
        match self {
            Level::Pdpt => 39,
            Level::Directory => 30,
            Level::Table => 21,
        }
    }
}

/// Sizes of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PageSize {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
}

impl PageSize {
    /// log2 of the size in bytes.
    pub const fn bits(self) -> u8 {
        match self {
            PageSize::Small => 12,
            PageSize::Large => 21,
        }
    }
}

/// Where the contents of frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fill {
    /// Fresh memory, zero.
    Zero,
    /// Fresh memory, `len` bytes copied from the bundle to `skip` bytes into the first page, the rest zero.
    Copy {
        /// Offset in the bundle.
        offset: u64,
        /// Bytes.
        len: u64,
        /// Bytes left zero at the start of the first page.
        skip: u16,
    },
    /// The bundle's own pages, without a copy. Mapped read-only only. `offset` is page aligned.
    Bundle {
        /// Offset in the bundle.
        offset: u64,
    },
    /// RAM at this physical address, zero.
    Ram {
        /// Physical address, aligned to the page size.
        paddr: u64,
    },
    /// Physical memory outside RAM, from this address on.
    Device {
        /// Physical address, aligned to the page size.
        paddr: u64,
    },
}

/// A capability in a CNode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapEntry {
    /// The CNode.
    pub cnode: Id,
    /// The slot in it.
    pub slot: u32,
    /// The object; the table in `laws/holdings.rs` says which process may hold what, and where.
    pub object: Id,
    /// Rights; ignored by the kernel for kinds without.
    pub rights: Rights,
    /// Badge of endpoint and notification capabilities; 0 means unbadged.
    pub badge: u64,
}

/// Rights of a capability or mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Receive; readable.
    pub read: bool,
    /// Send; writable.
    pub write: bool,
    /// May pass capabilities (and be replied to).
    pub grant: bool,
}

impl Rights {
    /// All of them.
    pub const ALL: Self = Self { read: true, write: true, grant: true };
    /// Read only.
    pub const READ: Self = Self { read: true, write: false, grant: false };
    /// Write only: to signal or send.
    pub const WRITE: Self = Self { read: false, write: true, grant: false };
    /// Read and write.
    pub const READ_WRITE: Self = Self { read: true, write: true, grant: false };
    /// To call: send, and grant the reply.
    pub const CALL: Self = Self { read: false, write: true, grant: true };
}

/// A row of frames mapped in a VSpace, EPT or I/O address space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// VSpace, EPT or I/O address space (small frames only).
    pub space: Id,
    /// The frames, all of them, in order.
    pub frames: Id,
    /// Address of the first.
    pub at: u64,
    /// Rights.
    pub rights: Rights,
    /// Cacheable; device registers are not.
    pub cached: bool,
    /// Size of the pages: that of the frames, or, in an EPT, smaller. Then a large frame fills a page table (kernel patch
    /// 0060).
    pub pages: PageSize,
}

/// A process: threads in a CSpace and a VSpace of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its name.
    pub name: String,
    /// Its threads: a vmm-server has one for each virtual CPU of its guest, all others have one. All start at `entry`.
    pub threads: Vec<Thread>,
    /// First-level CNode.
    pub cspace: Id,
    /// Guard bits of the CSpace root.
    pub guard_bits: u8,
    /// VSpace.
    pub vspace: Id,
    /// For a vmm-server: the EPT of its guest.
    pub ept: Option<Id>,
    /// First instruction.
    pub entry: u64,
    /// Priority, also its maximum controlled priority.
    pub priority: u8,
    /// Endpoints of the servers that it calls by the description; `laws` compares its capabilities with them.
    pub calls: Vec<Id>,
    /// I/O ports that it has by the board and the description; `laws` compares its capabilities with them.
    pub ports: Vec<Id>,
    /// What root-task does when it faults.
    pub on_fault: OnFault,
    /// Notification and badge to signal when it stops, by a fault or because it has finished: for a server that holds
    /// devices on its behalf.
    pub on_stop: Option<(Id, u64)>,
    /// Notification and badge to signal when it will not run again: for a server whose clients wait for it.
    pub on_end: Option<(Id, u64)>,
}

/// A thread of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// The thread.
    pub tcb: Id,
    /// The frame of the IPC buffer, one page, mapped at `ipc_buffer_at`.
    pub ipc_buffer: Id,
    /// See `ipc_buffer`.
    pub ipc_buffer_at: u64,
    /// Initial stack pointer.
    pub stack: u64,
    /// Notification bound to the thread.
    pub events: Option<Id>,
    /// The virtual CPU that it runs.
    pub vcpu: Option<Id>,
}

impl Process {
    /// The notification of its first thread, which other processes signal.
    pub fn events(&self) -> Option<Id> {
        self.threads.first()?.events
    }
}

/// What happens when a process faults. Words of the description in lower case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFault {
    /// It stays stopped; the other processes go on.
    #[default]
    Stop,
    /// root-task restores its memory and restarts it.
    Restart,
    /// root-task stops all processes and powers the machine off.
    Halt,
}

/// What happens when the last VM has powered off. Words of the description: `power-off`, `stay`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenOff {
    /// root-task powers the machine off, if the board can do that.
    #[default]
    PowerOff,
    /// The servers and components go on.
    Stay,
}

/// How root-task powers the board off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerOff {
    /// The port, an object of kind `IoPorts`.
    pub ports: Id,
    /// Its number.
    pub port: u16,
    /// Bytes written to it, one by one.
    pub bytes: Vec<u8>,
    /// Bytes written instead when something has failed, so that the build tool, which started the emulator, can tell
    /// the difference.
    pub failed: Vec<u8>,
}

/// A 16550 that root-task may print to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    /// Its ports, an object of kind `IoPorts`.
    pub ports: Id,
    /// The first of the eight.
    pub port: u16,
    /// Its clock by 16 and by the bits per second; 1 is 115200 on a COM port.
    pub divisor: u16,
}
