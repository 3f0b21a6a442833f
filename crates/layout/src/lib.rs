//! Capability slots, badges and addresses of every process, and the configuration that each reads at its start.
//! `capdl-spec` builds systems from these definitions and the servers use the same ones, so no slot number is written
//! twice.
//!
//! A process's CSpace has two levels: 256 slots, each of which may hold a second CNode of up to 1024. Only processes that
//! receive or derive capabilities have such a second level, their *scratch* CNode, and hold no capability to the first.
//!
//! It also has what both sides have to know of the boards: the ports of the real mainboard that give power over the
//! machine (`mainboard`), and the ports and interrupts that the guest's board uses (`guest_board`).
#![no_std]
#![forbid(unsafe_code)]

mod bdf;
pub mod config;
pub mod guest_board;
pub mod limits;
pub mod mainboard;

pub use bdf::{Bdf, Roots};

/// Bits of a CPtr that choose a slot of the first level.
pub const ROOT_BITS: u8 = 8;
/// Bits of a CPtr that choose a slot of a second level; ignored where the first level's slot holds no CNode. A second
/// level with fewer slots has a guard of zeros in front.
pub const SCRATCH_BITS: u8 = 10;
/// Guard of the first level's CNode: the rest of the 64 bits, all zero.
pub const GUARD_BITS: u8 = 64 - ROOT_BITS - SCRATCH_BITS;

/// A slot of a process's first-level CNode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Slot(pub u16);

impl Slot {
    /// The address of this slot in the process's CSpace.
    pub const fn cptr(self) -> u64 {
        (self.0 as u64) << SCRATCH_BITS
    }

    /// The slot `n` after this one.
    pub const fn plus(self, n: u16) -> Self {
        Slot(self.0 + n)
    }
}

/// A slot of the scratch CNode. Slot 0 holds a capability to the scratch CNode itself, which CNode operations on it
/// need.
pub const fn scratch_cptr(index: u16) -> u64 {
    slot::SCRATCH.cptr() | index as u64
}

/// A server as its clients know it. The protocols in `proto` have one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// As descriptions name it: `timer`.
    pub word: &'static str,
    /// Name of the server's process, and of its package: `timer-server`.
    pub server: &'static str,
    /// The slot in which a client holds the server's endpoint, badged with the client's identity: one of
    /// [`slot::SERVERS`].
    pub slot: Slot,
}

/// Slots with the same meaning in every process; empty where a process has no use for them.
pub mod slot {
    use super::{
        Slot,
        limits::{MAX_CHANNELS, MAX_GUESTS, MAX_MANAGERS, MAX_NICS, MAX_PIPES, MAX_VCPUS},
    };

    /// Endpoint on which a server receives calls.
    pub const SERVICE: Slot = Slot(1);
    /// The notification bound to the process's thread (receive right).
    pub const EVENTS: Slot = Slot(2);
    /// The scratch CNode, see the crate's head.
    pub const SCRATCH: Slot = Slot(3);
    /// Signals serial-server that the log ring has bytes.
    pub const LOG: Slot = Slot(4);
    /// Endpoint of root-task: `proto::supervisor`.
    pub const SUPERVISOR: Slot = Slot(5);

    /// root-task's endpoint again, for the kernel to send the thread's faults to: badge with [`super::FAULT_BIT`].
    pub const FAULT: Slot = Slot(6);

    /// Endpoints of the servers that a process calls; each server's protocol says which slot it has, see
    /// [`Service`](super::Service).
    pub const SERVERS: core::ops::Range<u16> = 8..16;

    /// irq-server: IRQControl.
    pub const IRQ_CONTROL: Slot = Slot(16);
    /// First of the server's I/O port capabilities, in the order that its `config` documents.
    pub const PORTS: Slot = Slot(17);

    /// First of the badged notification capabilities with which a server signals its clients; the last is before
    /// [`CONSOLE`].
    pub const SIGNALS: Slot = Slot(32);

    /// vmm-server and components, which signal no clients: signals the process at the other end of channel `n`.
    pub const fn channel(n: usize) -> Slot {
        SIGNALS.plus(n as u16)
    }
    /// vmm-server: signals the guest's manager `n`, if that is a component.
    pub const fn manager(n: usize) -> Slot {
        channel(MAX_CHANNELS).plus(n as u16)
    }
    const _: () = assert!(manager(MAX_MANAGERS).0 <= CONSOLE.0, "two uses of a slot");

    /// vmm-server: signals serial-server that the console ring has bytes.
    pub const CONSOLE: Slot = Slot(96);
    /// vmm-server with passthrough devices: the guest's EPT, to map device memory in.
    pub const EPT: Slot = Slot(97);
    /// vmm-server: the guest's virtual CPU `n`, which is thread `n`'s.
    pub const fn vcpu(n: usize) -> Slot {
        Slot(98 + n as u16)
    }
    /// The notification bound to thread `n` (receive right): of the first, that of the process.
    pub const fn events(n: usize) -> Slot {
        if n == 0 { EVENTS } else { Slot(vcpu(MAX_VCPUS).0 + n as u16) }
    }
    /// vmm-server: signals the process at the other end of its guest's pipe `n` that the rings have bytes, or room, or that the
    /// guest has opened or closed its end.
    pub const fn pipe(n: usize) -> Slot {
        Slot(114 + n as u16)
    }
    /// vmm-server, and an uplink: signals net-server that the rings of its network device `n` have frames, or room.
    pub const fn nic(n: usize) -> Slot {
        Slot(120 + n as u16)
    }
    /// A client of block-server, and a disk's driver: signals block-server that its rings have changed.
    pub const BLOCK: Slot = Slot(124);
    /// A member of a network of sockets: signals net-server that its rings have packets, or room.
    pub const VSOCK: Slot = Slot(125);
    const _: () = assert!(
        events(MAX_VCPUS).0 <= pipe(0).0
            && pipe(MAX_PIPES).0 <= nic(0).0
            && nic(MAX_NICS).0 <= BLOCK.0
            && VSOCK.0 < PAGING.0,
        "two uses of a slot"
    );

    /// vmm-server with passthrough devices: first of the EPT's paging structures that are not yet mapped, page directories
    /// before page tables.
    pub const PAGING: Slot = Slot(128);

    /// A manager, which has no guest: signals the vmm-server of its VM `n` that it has asked for something.
    pub const fn managed(n: usize) -> Slot {
        Slot(128 + n as u16)
    }
    const _: () = assert!(managed(MAX_GUESTS).0 <= 1 << super::ROOT_BITS, "the CSpace ends there");
}

// Badges have 28 bits: that is what the oldest kernel that Portcullis runs on gives them (libsel4, types.bf).

/// Badge of the endpoint capability of a server's client `n`. Its highest bit tells a call from a signal, whose badge
/// is made of `event` bits.
pub const fn client_badge(n: u64) -> u64 {
    CALL_BIT | n
}

/// The client that a badge names; `None` for a signal's badge.
pub const fn client_of(badge: u64) -> Option<u64> {
    if badge & CALL_BIT != 0 { Some(badge & !CALL_BIT) } else { None }
}

/// Set in every client's badge, in no event.
const CALL_BIT: u64 = 1 << 27;

/// Set, beside the client's badge, in the badge of the fault endpoint that a process's thread has.
pub const FAULT_BIT: u64 = 1 << 26;

/// Virtual addresses in a server's VSpace. The pages between the windows are not mapped.
pub mod window {
    use super::limits::MAX_VCPUS;

    /// First page of the image, as `image-link` links it.
    pub const IMAGE: u64 = 0x40_0000;
    /// End (exclusive) of the first thread's stack; the page below the stack stays unmapped, so an overflow faults.
    pub const STACK_TOP: u64 = 0x2000_0000;
    /// Bytes of the stack of a vmm-server, which has the guest's devices on it, or else of another process.
    pub const fn stack_bytes(of_vmm: bool) -> u64 {
        if of_vmm { MOST_STACK_BYTES } else { 256 * 1024 }
    }
    const MOST_STACK_BYTES: u64 = 512 * 1024;
    /// End (exclusive) of thread `n`'s stack: below the page below its predecessor's, however large that is.
    pub const fn stack_top(n: usize) -> u64 {
        STACK_TOP - n as u64 * (MOST_STACK_BYTES + PAGE)
    }
    /// The lowest address of a stack.
    pub const STACKS: u64 = stack_top(MAX_VCPUS - 1) - MOST_STACK_BYTES;
    /// The first thread's IPC buffer, one page.
    pub const IPC_BUFFER: u64 = 0x2100_0000;
    /// Thread `n`'s IPC buffer; the pages between them stay unmapped.
    pub const fn ipc_buffer(n: usize) -> u64 {
        IPC_BUFFER + n as u64 * 2 * PAGE
    }
    /// Bytes of a page.
    const PAGE: u64 = 4096;
    /// The start-up configuration, read-only: a `u32` length, then that many bytes of postcard.
    pub const CONFIG: u64 = 0x2200_0000;
    /// The ring to serial-server's log, see `mmio::Ring`.
    pub const LOG: u64 = 0x2300_0000;
    /// Bytes of that ring, its header included.
    pub const LOG_BYTES: u64 = 4096;
    /// First of the windows shared with other processes, [`SHARED_STEP`] apart.
    pub const SHARED: u64 = 0x2400_0000;
    /// Distance between two shared windows.
    pub const SHARED_STEP: u64 = 0x10_0000;
    /// First of the device register windows.
    pub const DEVICES: u64 = 0x3000_0000;
    /// fileserver: the images, one after the other, read-only.
    pub const FILES: u64 = 0x1_0000_0000;
    /// block-server: memory for what clients write to files, one after the other.
    pub const LAYERS: u64 = FILES;
    /// vmm-server: guest RAM; guest-physical address 0 is here.
    pub const GUEST_RAM: u64 = 0x10_0000_0000;
}

/// Bits of a process's notification word: 0 to 25.
pub mod event {
    /// A deadline armed at timer-server has passed.
    pub const TIMER: u64 = 1 << 24;
    /// The console ring has bytes for the guest.
    pub const CONSOLE: u64 = 1 << 1;
    /// The rings of a network device or of sockets have something for this process, or room for what it sends.
    pub const NETWORK: u64 = 1 << 5;
    /// A client of block-server, and a disk's driver: their rings have changed.
    pub const BLOCK: u64 = 1 << 6;
    /// The other end of a channel has emitted events. Which channel, their counters say.
    pub const CHANNEL: u64 = 1 << 7;
    /// The other end of the guest's pipe `n` has done something.
    pub const fn pipe(n: usize) -> u64 {
        [1 << 0, 1 << 2, 1 << 3, 1 << 4][n]
    }
    /// All of them.
    pub const PIPES: u64 = pipe(0) | pipe(1) | pipe(2) | pipe(3);
    /// serial-server: the UART's interrupt. timer-server: the PIT's.
    pub const INTERRUPT: u64 = 1 << 25;
    /// vmm-server: a manager has asked for something. A manager that is a component: a VM of its has another state, or has
    /// answered. Servers have [`INTERRUPT`] there.
    pub const MANAGED: u64 = 1 << 25;

    /// How many [`ring`]s there are: the bits below [`TIMER`].
    pub const RINGS: usize = TIMER.trailing_zeros() as usize;
    /// irq-server: shared line `n` was raised. net-server: port `n` has frames, or room. block-server: the rings of client
    /// `n` have changed.
    pub const fn ring(n: usize) -> u64 {
        1 << n
    }
    /// serial-server: stream `n`, or one that shares its bit, has bytes to print. The server looks at all of them.
    pub const fn stream(n: usize) -> u64 {
        ring(n % RINGS)
    }
    /// pci-server: client `n`, one of the first [`RINGS`], was stopped.
    pub const fn client(n: usize) -> u64 {
        1 << n
    }
    /// block-server: driver `n` will not run again. Behind the rings of all clients.
    pub const fn ended(n: usize) -> u64 {
        ring(RINGS - 1 - n)
    }
    /// timer-server: irq-server asks for a signal in a millisecond.
    pub const ALARM: u64 = 1 << 0;
    /// How many [`line`]s there are: the bits from 8 on, below [`TIMER`].
    pub const LINES: usize = RINGS - 8;
    /// A process with passed-through interrupts: its line `n` was raised.
    pub const fn line(n: usize) -> u64 {
        1 << (8 + n)
    }
}
