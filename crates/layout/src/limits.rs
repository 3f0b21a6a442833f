//! Limits of everything that a process keeps in a table of fixed size. capdl-spec refuses descriptions beyond them and
//! names the line; the servers and their configurations have room for this much.

use crate::event;

/// Bytes of the longest name of a process, image or device.
pub const MAX_NAME: usize = 48;
/// Clients of one server: servers, and [`MAX_GUESTS`].
pub const MAX_CLIENTS: usize = 48;
/// VMs and components.
pub const MAX_GUESTS: usize = 40;
/// Virtual CPUs of one VM, hence threads of one vmm-server.
pub const MAX_VCPUS: usize = 8;

/// VMs with a second console.
pub const MAX_HVCS: usize = 16;
/// Streams to the console, without serial-server's own log: the logs of all processes, and the VMs' consoles.
pub const MAX_STREAMS: usize = MAX_CLIENTS + MAX_GUESTS + MAX_HVCS;

/// Interrupt lines of a system: irq-server has an [`event::ring`] for each.
pub const MAX_LINES: usize = event::RINGS;
/// Interrupt lines of one process, each with an [`event::line`].
pub const MAX_OWN_LINES: usize = event::LINES;

/// Functions that are passed through.
pub const MAX_PCI_FUNCTIONS: usize = 16;
/// Functions of one VM that its vmm-server models, beside the host bridge: they have the device numbers behind those of
/// [`MAX_PCI_FUNCTIONS`], up to 31.
pub const MAX_MODELLED_FUNCTIONS: usize = 31 - MAX_PCI_FUNCTIONS;

/// Ranges of ports that are passed through and belong to no function.
pub const MAX_PCI_PORTS: usize = 16;
/// Ranges of ports that a description lists for one function.
pub const MAX_FUNCTION_PORTS: usize = 8;
/// Ranges of memory that a description lists for one function: as many as it has base address registers.
pub const MAX_FUNCTION_MEMORY: usize = 6;
/// Interrupt lines of one function: an IDE controller in compatibility mode has two.
pub const MAX_FUNCTION_LINES: usize = 2;

/// Network devices of one VM.
pub const MAX_NICS: usize = 4;
/// Ports of all switches together: net-server has an [`event::ring`] for each.
pub const MAX_SWITCH_PORTS: usize = 16;
const _: () = assert!(MAX_SWITCH_PORTS < event::RINGS);
/// Disks of a system.
pub const MAX_DISKS: usize = 4;
/// Disks of one VM.
pub const MAX_OWN_DISKS: usize = 4;
/// Disks of all VMs; with the disks' drivers, block-server has an [`event::ring`] for each.
pub const MAX_EXPORTS: usize = 16;
// Each disk has a driver, which rings, and ends.
const _: () = assert!(MAX_EXPORTS + 2 * MAX_DISKS <= event::RINGS);

/// Pipes of one VM.
pub const MAX_PIPES: usize = 4;

/// Channels of one process.
pub const MAX_CHANNELS: usize = 8;
/// Dataports of one channel: a PCI function has six base address registers, and the first is for events.
pub const MAX_DATAPORTS: usize = 4;
/// Managers of one VM.
pub const MAX_MANAGERS: usize = 4;
/// VMs that one component manages.
pub const MAX_MANAGED: usize = 8;

/// Images of fileserver: the bits of a client's `may_open`.
pub const MAX_IMAGES: usize = u64::BITS as usize;

/// Bytes of a guest's command line: Linux has room for 2048 with a NUL (COMMAND_LINE_SIZE of x86).
pub const MAX_CMDLINE: usize = 2047;
/// Debug ports that a guest may use directly.
pub const MAX_DIRECT_PORTS: usize = 8;
/// Bytes of a component's `args`.
pub const MAX_ARGS: usize = 512;
