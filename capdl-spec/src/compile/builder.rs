//! Collects objects, capabilities and mappings. Paging structures come last, computed from the mappings.

use std::collections::BTreeSet;

use layout::{
    Slot,
    config::{Ports, Window},
    slot, window,
};

use crate::{
    compile::{
        bundle::{Blobs, PAGE},
        part::{Part, Role},
    },
    description::board::PortRange,
    spec::{CapEntry, Fill, Id, Kind, Level, Mapping, Object, PageSize, Process, Rights, Spec, Thread},
};

/// The name of an object of thread `thread` of a process: `vmm-linux.tcb`, and for its second thread `vmm-linux.tcb1`.
pub(crate) fn of_thread(process: &str, what: &str, thread: usize) -> String {
    if thread == 0 { format!("{process}.{what}") } else { format!("{process}.{what}{thread}") }
}

/// The objects that every process has, and its next free slots and addresses.
pub(crate) struct Domain {
    pub name: String,
    pub threads: Vec<Thread>,
    pub cspace: Id,
    pub vspace: Id,
    windows: u64,
    signals: u16,
    ports: u16,
}

/// Processes are named by their number, the position in [`crate::description::system::System::parts`].
#[derive(Default)]
pub(crate) struct Builder {
    pub spec: Spec,
    pub blobs: Blobs,
    pub domains: Vec<Domain>,
}

impl Builder {
    pub fn object(&mut self, name: impl Into<String>, kind: Kind) -> Id {
        let id = Id(self.spec.objects.len() as u32);
        self.spec.objects.push(Object { name: name.into(), kind });
        id
    }

    pub fn cap(&mut self, process: usize, slot: Slot, object: Id, rights: Rights, badge: u64) {
        let cnode = self.domains[process].cspace;
        self.spec.caps.push(CapEntry { cnode, slot: slot.0.into(), object, rights, badge });
    }

    pub fn map(&mut self, space: Id, frames: Id, at: u64, rights: Rights) {
        let size = match self.spec.kind(frames) {
            Some(&Kind::Frames { size, .. }) => size,
            _ => PageSize::Small,
        };
        self.map_in(space, frames, at, rights, size);
    }

    /// The same, in pages of that size at most.
    pub fn map_in(&mut self, space: Id, frames: Id, at: u64, rights: Rights, pages: PageSize) {
        self.spec.mappings.push(Mapping { space, frames, at, rights, cached: true, pages });
    }

    /// Small frames for `bytes` bytes.
    pub fn frames(&mut self, name: impl Into<String>, bytes: u64, fill: Fill) -> Id {
        self.object(name, Kind::Frames { size: PageSize::Small, pages: bytes.div_ceil(PAGE) as u32, fill })
    }

    /// Adds a process without a program: CSpace, VSpace, threads, and what its part asks for.
    pub fn process(&mut self, part: &Part) {
        let name = part.name.clone();
        let number = self.domains.len();
        let cspace = self.object(format!("{name}.cspace"), Kind::CNode { bits: layout::ROOT_BITS });
        let vspace = self.object(format!("{name}.vspace"), Kind::VSpace);
        let threads: Vec<Thread> = (0..part.threads).map(|thread| self.thread(part, vspace, thread)).collect();
        let scratch = part.scratch_bits.map(|bits| self.object(format!("{name}.scratch"), Kind::CNode { bits }));
        let events: Vec<Option<Id>> = threads.iter().map(|thread| thread.events).collect();
        self.domains.push(Domain { name, threads, cspace, vspace, windows: 0, signals: 0, ports: 0 });
        for (thread, events) in events.into_iter().enumerate() {
            let Some(events) = events else { continue };
            self.cap(number, slot::events(thread), events, Rights::READ, 0);
        }
        if let Some(cnode) = scratch {
            self.cap(number, slot::SCRATCH, cnode, Rights::ALL, 0);
            self.spec.caps.push(CapEntry { cnode, slot: 0, object: cnode, rights: Rights::ALL, badge: 0 });
        }
    }

    /// A thread with its stack and IPC buffer, and its notification if anyone signals the process.
    fn thread(&mut self, part: &Part, vspace: Id, thread: usize) -> Thread {
        let name = |what| of_thread(&part.name, what, thread);
        let tcb = self.object(name("tcb"), Kind::Tcb);
        let (ipc_buffer_at, stack) = (window::ipc_buffer(thread), window::stack_top(thread));
        let ipc_buffer = self.frames(name("ipc-buffer"), PAGE, Fill::Zero);
        self.map(vspace, ipc_buffer, ipc_buffer_at, Rights::READ_WRITE);
        let bytes = window::stack_bytes(matches!(part.role, Role::Vmm(_)));
        let stack_frames = self.frames(name("stack"), bytes, Fill::Zero);
        self.map(vspace, stack_frames, stack - bytes, Rights::READ_WRITE);
        let events = part.is_signalled.then(|| self.object(name("events"), Kind::Notification));
        Thread { tcb, ipc_buffer, ipc_buffer_at, stack, events, vcpu: None }
    }

    /// Memory that two processes share, named after both.
    pub fn share(&mut self, what: &str, a: (usize, Window), b: (usize, Window)) {
        let name = format!("{}+{}.{what}", self.domains[a.0].name, self.domains[b.0].name);
        let frames = self.frames(name, a.1.len, Fill::Zero);
        for (process, window) in [a, b] {
            self.map(self.domains[process].vspace, frames, window.at, Rights::READ_WRITE);
        }
    }

    /// The process's next window for shared memory.
    pub fn window(&mut self, process: usize, len: u64) -> Window {
        let domain = &mut self.domains[process];
        let at = window::SHARED + domain.windows * window::SHARED_STEP;
        domain.windows += 1;
        Window { at, len }
    }

    /// The process's next slot for signalling others.
    pub fn next_signal(&mut self, process: usize) -> Slot {
        let slot = slot::SIGNALS.plus(self.domains[process].signals);
        self.domains[process].signals += 1;
        slot
    }

    /// The object of a range of ports; asking again gives the same object.
    pub fn port_object(&mut self, range: PortRange) -> Id {
        let kind = Kind::IoPorts { first: range.first, last: range.last };
        self.spec.ports(range).unwrap_or_else(|| self.object(format!("ports.{range}"), kind))
    }

    /// Gives a process a range of ports, in its next slot for ports.
    pub fn ports(&mut self, process: usize, range: PortRange) -> Ports {
        let ports = self.port_object(range);
        let slot = slot::PORTS.plus(self.domains[process].ports);
        self.domains[process].ports += 1;
        self.cap(process, slot, ports, Rights::ALL, 0);
        Ports { slot, first: range.first, last: range.last }
    }

    /// Adds the paging structures that the mappings need, from the root downwards.
    pub fn paging(&mut self) {
        let mut needed = BTreeSet::new();
        for mapping in &self.spec.mappings {
            let Some(Kind::Frames { size, pages, .. }) = self.spec.kind(mapping.frames) else { continue };
            if self.spec.is_io_space(mapping.space) {
                continue; // root-task adds those, since the number of levels depends on the IOMMU
            }
            let end = mapping.at + (u64::from(*pages) << size.bits());
            for &level in mapping.pages.levels() {
                let first = mapping.at >> level.bits() << level.bits();
                needed.extend((first..end).step_by(1 << level.bits()).map(|at| (mapping.space, level, at)));
            }
        }
        let mut rows: Vec<(Id, Level, u64, u32)> = Vec::new();
        for (space, level, at) in needed {
            match rows.last_mut() {
                Some(row) if (row.0, row.1, row.2 + (u64::from(row.3) << level.bits())) == (space, level, at) => {
                    row.3 += 1
                }
                _ => rows.push((space, level, at, 1)),
            }
        }
        for (space, level, at, count) in rows {
            let owner = self.spec.name(space).to_string();
            let word = match level {
                Level::Pdpt => "pdpt",
                Level::Directory => "directory",
                Level::Table => "table",
            };
            self.object(format!("{owner}.{word}.{at:#x}"), Kind::Paging { space, level, at, count });
        }
    }
}

impl PageSize {
    /// Paging structures between the root and a frame of this size.
    pub fn levels(self) -> &'static [Level] {
        match self {
            PageSize::Small => &[Level::Pdpt, Level::Directory, Level::Table],
            PageSize::Large => &[Level::Pdpt, Level::Directory],
        }
    }
}

impl Spec {
    /// The kind of an object.
    pub fn kind(&self, id: Id) -> Option<&Kind> {
        self.objects.get(id.0 as usize).map(|object| &object.kind)
    }

    /// The name of an object; empty for one that does not exist.
    pub fn name(&self, id: Id) -> &str {
        self.objects.get(id.0 as usize).map_or("", |object| &object.name)
    }

    /// The process that owns this VSpace, guest's EPT or device's I/O address space; the names of the last say whose
    /// they are.
    pub fn owner_of(&self, space: Id) -> &str {
        let named = |process: &Process| {
            let name = self.name(space).strip_prefix(process.name.as_str());
            self.is_io_space(space) && name.is_some_and(|rest| rest.starts_with('.'))
        };
        let owner = self.processes.iter().find(|process| process.owns_space(space) || named(process));
        owner.map_or("nobody", |process| process.name.as_str())
    }

    /// The endpoint of a server.
    pub fn endpoint_of(&self, server: &str) -> Option<Id> {
        let name = format!("{server}.service");
        self.objects.iter().position(|object| object.name == name).map(|at| Id(at as u32))
    }

    /// The object of a range of ports.
    pub fn ports(&self, range: PortRange) -> Option<Id> {
        let kind = Kind::IoPorts { first: range.first, last: range.last };
        self.objects.iter().position(|object| object.kind == kind).map(|at| Id(at as u32))
    }

    /// Whether it is a device's I/O address space.
    pub fn is_io_space(&self, space: Id) -> bool {
        matches!(self.kind(space), Some(Kind::IoSpace { .. }))
    }

    /// The processes that have these frames in their VSpace, their guest's EPT or their devices' I/O address spaces.
    pub fn owners(&self, frames: Id) -> Vec<&str> {
        let mut owners = Vec::new();
        for mapping in self.mappings.iter().filter(|mapping| mapping.frames == frames) {
            let name = self.owner_of(mapping.space);
            if !owners.contains(&name) {
                owners.push(name);
            }
        }
        owners
    }
}

impl Process {
    /// Whether this is its VSpace, or the EPT of its guest.
    pub fn owns_space(&self, space: Id) -> bool {
        self.vspace == space || self.ept == Some(space)
    }
}
