//! The vocabulary of two tables: who may hold which capability (`laws/holdings.rs` judges by it), and where which frames may
//! be mapped (`laws/mappings.rs`). Their rows stand with the processes that they are about, in `services`.

use layout::{Service, Slot, event, slot, window};

use crate::spec::{Kind, Rights};

/// A capability that a process may hold: the holder, its slots, the kind of object, the object's owner, the rights and
/// the badge.
pub(crate) struct Holding {
    pub who: Who,
    /// First slot, and the one after the last.
    pub slots: (u16, u16),
    pub what: What,
    pub whose: Whose,
    pub rights: Rights,
    pub badge: Badge,
}

/// Who holds it.
#[derive(Clone, Copy)]
pub(crate) enum Who {
    Anyone,
    Server(Service),
    /// A process with a guest.
    Vmm,
}

/// A kind of object, without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Endpoint,
    Notification,
    CNode,
    Vcpu,
    Ept,
    SparePaging,
    Ports,
    IrqControl,
}

/// Whose object it is.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    /// It belongs to the holder, as its name says.
    Own,
    /// It belongs to the holder's guest.
    Guests,
    /// It belongs to this server, which the holder calls.
    Called(Service),
    /// It belongs to this server, and the holder is another process.
    Server(Service),
    /// It belongs to a process that calls the holder.
    Callers,
    /// It belongs to a process that calls the holder and is not a server.
    Users,
    /// It belongs to a process with a guest.
    Vmms,
    /// It belongs to a process with a guest that has a pipe to the holder's.
    Peers,
    /// It belongs to the process at the other end of a channel.
    OtherEnds,
    /// It belongs to a process whose guest the holder manages.
    Managed,
    /// It belongs to a process that manages the holder's guest.
    Managers,
    /// It is root-task's endpoint.
    Supervisor,
    /// It belongs to the machine; the description says which process gets it.
    Given,
    /// It belongs to the machine.
    Machines,
}

/// The badge.
#[derive(Clone, Copy)]
pub(crate) enum Badge {
    None,
    /// Of a client.
    Client,
    /// One of these bits.
    Bit(u64),
    /// The holder's number, with these bits.
    Number(u64),
}

/// The slots of a server's signals to its clients.
pub(crate) const SIGNALS: (u16, u16) = (slot::SIGNALS.0, slot::CONSOLE.0);
/// All of a notification's `event::ring`s.
pub(crate) const RINGS: u64 = event::ring(event::RINGS) - 1;
/// All of a notification's `event::line`s.
pub(crate) const LINES: u64 = event::line(event::LINES) - event::line(0);

/// A row.
pub(crate) const fn holding(
    who: Who,
    slots: (u16, u16),
    what: What,
    whose: Whose,
    rights: Rights,
    badge: Badge,
) -> Holding {
    Holding { who, slots, what, whose, rights, badge }
}

/// A row for signals from `who`, in its slots for them, to `whose` notification.
pub(crate) const fn signals(who: Service, whose: Whose, bits: u64) -> Holding {
    holding(Who::Server(who), SIGNALS, What::Notification, whose, Rights::WRITE, Badge::Bit(bits))
}

/// One slot, as a range of slots.
pub(crate) const fn at(slot: Slot) -> (u16, u16) {
    (slot.0, slot.0 + 1)
}

impl What {
    /// The class of this kind, as far as a process may hold it: processes hold no threads, address spaces or frames.
    pub fn of(kind: &Kind) -> Option<Self> {
        match kind {
            Kind::Endpoint => Some(What::Endpoint),
            Kind::Notification => Some(What::Notification),
            Kind::CNode { bits } if *bits <= layout::SCRATCH_BITS => Some(What::CNode),
            Kind::Vcpu => Some(What::Vcpu),
            Kind::Ept => Some(What::Ept),
            Kind::SparePaging { .. } => Some(What::SparePaging),
            Kind::IoPorts { .. } => Some(What::Ports),
            Kind::IrqControl => Some(What::IrqControl),
            Kind::CNode { .. }
            | Kind::Tcb
            | Kind::VSpace
            | Kind::Paging { .. }
            | Kind::Frames { .. }
            | Kind::IoSpace { .. } => None,
        }
    }
}

/// A use of frames: where they may be mapped, with which rights, and where their contents come from.
pub(crate) struct FrameUse {
    /// The part of the frames' name after the names of the processes that share them, or the beginning of that part.
    pub name: &'static str,
    pub space: Space,
    /// First address, and the one after the last.
    pub at: (u64, u64),
    pub rights: Rights,
    pub contents: Contents,
}

/// Whose address space it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// A process's.
    Process,
    /// This server's.
    Server(Service),
    /// A process's, except this server's.
    AllBut(Service),
    /// A process's that has a guest.
    Vmm,
    /// A guest's.
    Guest,
    /// A device's.
    Device,
}

/// What is in the frames.
#[derive(Clone, Copy)]
pub(crate) enum Contents {
    Zeros,
    /// Zeros, in RAM anywhere or at a chosen address.
    Memory,
    /// A copy from the bundle, or zeros where a program's file has no bytes.
    Copied,
    /// The bundle's own pages.
    Bundle,
    /// The page of a device's registers at this physical address, not cached.
    Registers(u64),
}

/// Where processes map the windows that they share.
pub(crate) const SHARED: (u64, u64) = (window::SHARED, window::DEVICES);

/// A row.
pub(crate) const fn frames(
    name: &'static str,
    space: Space,
    at: (u64, u64),
    rights: Rights,
    contents: Contents,
) -> FrameUse {
    FrameUse { name, space, at, rights, contents }
}

/// A row for memory that a process shares with a server, in the shared windows of both.
pub(crate) const fn shared(name: &'static str) -> FrameUse {
    frames(name, Space::Process, SHARED, Rights::READ_WRITE, Contents::Zeros)
}
