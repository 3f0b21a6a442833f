//! A process, before anything of it exists: one table, from which all else about it follows. Who makes the parts of a
//! system is `services`.

use layout::Service;

use crate::board::{Device, PortRange};

/// root-task's priority: the one that the kernel gives the initial thread, above everyone.
pub const ROOT_PRIORITY: u8 = 255;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A server for all.
    Server(Service),
    /// The vmm-server of the VM at this position in the description.
    Vmm(usize),
    /// The component at this position in the description.
    Component(usize),
}

/// A process.
#[derive(Clone, Debug)]
pub struct Part {
    /// The process's name, unique.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// The package, or for a component the path, that its program comes from: a name for [`crate::binaries::Binaries`].
    pub program: String,
    /// Its priority, 1 to 253.
    pub priority: u8,
    /// Servers that it calls.
    pub calls: Vec<Service>,
    /// Are devices passed through to it, or, for a server, to anyone?
    pub devices: bool,
    /// Ports that it holds for good. What belongs to functions, or to nobody on the PCI bus, is handed over while the
    /// system runs.
    pub ports: Vec<PortRange>,
    /// The device of the board whose interrupt is its own.
    pub line: Option<Device>,
    /// How many threads it has.
    pub threads: usize,
    /// Does anyone signal it, so that its threads need a notification?
    pub is_signalled: bool,
    /// Does it derive or receive capabilities, so that it needs a scratch CNode? log2 of its slots: those of devices are
    /// many, one a page of memory.
    pub scratch_bits: Option<u8>,
    /// May it ask root-task for device memory and ports, in the windows that the specification lists?
    pub asks_root_task: bool,
}

impl Part {
    /// May it call this server?
    pub fn calls(&self, service: Service) -> bool {
        self.calls.contains(&service)
    }

    /// Is it a server, else a client of the user's?
    pub fn is_server(&self) -> bool {
        matches!(self.role, Role::Server(_))
    }
}
