//! A process as one table, from which its kernel objects follow. `services` makes the parts of a system.

use layout::Service;

use crate::description::board::{Device, PortRange};

/// root-task's priority: the one that the kernel gives the initial thread, above everyone.
pub const ROOT_PRIORITY: u8 = 255;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A server.
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
    /// The package of its program, or a component's path: a name for [`crate::compile::binaries::Binaries`].
    pub program: String,
    /// Its priority, 1 to 253.
    pub priority: u8,
    /// Servers that it calls.
    pub calls: Vec<Service>,
    /// Whether devices are passed through to it; for a server, to any process.
    pub devices: bool,
    /// Ports that it holds from the start. pci-server hands over the ports of functions, and of devices that are not on
    /// the PCI bus, while the system runs.
    pub ports: Vec<PortRange>,
    /// The device of the board whose interrupt is its own.
    pub line: Option<Device>,
    /// How many threads it has.
    pub threads: usize,
    /// Whether other processes signal it, so that its threads need a notification.
    pub is_signalled: bool,
    /// log2 of the slots of its scratch CNode, if it derives or receives capabilities and so needs one. Devices take
    /// many slots, one per page of memory.
    pub scratch_bits: Option<u8>,
    /// Whether it may ask root-task for device memory and ports, in the windows that the specification lists.
    pub asks_root_task: bool,
}

impl Part {
    /// Whether it may call this server.
    pub fn calls(&self, service: Service) -> bool {
        self.calls.contains(&service)
    }

    /// Whether it is a server; otherwise it is a VM's process or a component.
    pub fn is_server(&self) -> bool {
        matches!(self.role, Role::Server(_))
    }
}
