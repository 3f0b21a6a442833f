//! The block diagram: which processes a system has, their priorities, and which servers each may call. Compiling,
//! the map and the drawing all start from this list.

use layout::{Slot, slot};
use serde::Deserialize;

use crate::{
    board::PortRange,
    system::{Component, System},
};

/// A server that others call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// irq-server.
    Irq,
    /// timer-server.
    Timer,
    /// serial-server.
    Serial,
    /// pci-server.
    Pci,
    /// fileserver.
    File,
}

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

/// A process, before anything of it exists.
#[derive(Clone, Debug)]
pub struct Part {
    /// The process's name, unique.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its priority, 1 to 253.
    pub priority: u8,
    /// Servers that it calls.
    pub calls: Vec<Service>,
    /// Are devices passed through to it, or, for a server, to anyone?
    pub devices: bool,
}

/// root-task's priority: the one that the kernel gives the initial thread, above everyone.
pub const ROOT_PRIORITY: u8 = 255;
/// Priority of every vmm-server.
pub const VMM_PRIORITY: u8 = 100;

impl Service {
    /// All, in the order in which they are started: a server starts before its clients.
    pub const ALL: [Service; 5] = [Service::Irq, Service::Timer, Service::Serial, Service::Pci, Service::File];

    /// Name of the server's process, and of its package.
    pub const fn server(self) -> &'static str {
        match self {
            Service::Irq => "irq-server",
            Service::Timer => "timer-server",
            Service::Serial => "serial-server",
            Service::Pci => "pci-server",
            Service::File => "fileserver",
        }
    }

    /// As descriptions name it.
    pub const fn word(self) -> &'static str {
        match self {
            Service::Irq => "irq",
            Service::Timer => "timer",
            Service::Serial => "serial",
            Service::Pci => "pci",
            Service::File => "file",
        }
    }

    /// The server's priority.
    pub const fn priority(self) -> u8 {
        match self {
            Service::Irq => 240,
            Service::Timer => 230,
            Service::Serial => 220,
            Service::File => 200,
            // Its clients' own: the kernel's short way back from a call leads to equals only.
            Service::Pci => VMM_PRIORITY,
        }
    }

    /// Where a client holds the server's endpoint.
    pub const fn slot(self) -> Slot {
        match self {
            Service::Irq => slot::IRQ,
            Service::Timer => slot::TIMER,
            Service::Serial => slot::SERIAL,
            Service::Pci => slot::PCI,
            Service::File => slot::FILE,
        }
    }
}

impl Part {
    fn server(service: Service, devices: bool) -> Part {
        let calls = match service {
            Service::Timer => [Service::Irq].to_vec(),
            Service::Serial => [Service::Irq, Service::Timer].to_vec(),
            Service::Pci if devices => [Service::Irq, Service::Timer].to_vec(),
            Service::Irq | Service::Pci | Service::File => Vec::new(),
        };
        let (role, priority) = (Role::Server(service), service.priority());
        Part { name: service.server().to_string(), role, priority, calls, devices }
    }

    /// May it call this server?
    pub fn calls(&self, service: Service) -> bool {
        self.calls.contains(&service)
    }

    /// Does anyone signal it, so that its thread needs a notification? irq-server and pci-server hear of devices: of shared
    /// interrupts, and of clients that were stopped.
    pub fn is_signalled(&self) -> bool {
        let hears = self.devices && self.role == Role::Server(Service::Irq);
        hears || self.role == Role::Server(Service::Serial) || self.calls(Service::Timer) || self.calls(Service::Irq)
    }

    /// Does it derive or receive capabilities, so that it needs a scratch CNode? log2 of its slots: those of devices are
    /// many, one a page of memory.
    pub fn scratch_bits(&self) -> Option<u8> {
        let few = matches!(self.role, Role::Server(Service::Irq) | Role::Vmm(_)) || self.calls(Service::Irq);
        let many = self.devices && !matches!(self.role, Role::Server(Service::Irq | Service::Timer | Service::Serial));
        match (few, many) {
            (true, true) => Some(layout::SCRATCH_BITS),
            (true, false) => Some(layout::ROOT_BITS),
            (false, _) => None,
        }
    }
}

impl Component {
    /// Servers that it calls: those of its description, and those that it has its devices from.
    pub fn calls(&self) -> Vec<Service> {
        let mut calls: Vec<Service> = self.services.iter().map(|service| *service.get_ref()).collect();
        let of_devices = if self.devices().any() { [Service::Irq, Service::Pci].as_slice() } else { &[] };
        calls.extend(of_devices.iter().filter(|service| !self.services.iter().any(|s| s.get_ref() == *service)));
        calls
    }
}

impl System {
    /// All processes, in the order in which they are started. A server's clients are numbered in this order.
    pub fn parts(&self) -> Vec<Part> {
        let any = self.owners().any(|owner| owner.devices.any());
        let servers = Service::ALL.into_iter().map(|service| Part::server(service, any));
        let vmms = self.vms.iter().enumerate().map(|(n, vm)| Part {
            name: format!("vmm-{}", vm.name.get_ref()),
            role: Role::Vmm(n),
            priority: VMM_PRIORITY,
            calls: {
                let irq = vm.devices().any().then_some(Service::Irq);
                [Service::Timer, Service::Serial, Service::Pci, Service::File].into_iter().chain(irq).collect()
            },
            devices: vm.devices().any(),
        });
        let components = self.components.iter().enumerate().map(|(n, component)| Part {
            name: component.name.get_ref().clone(),
            role: Role::Component(n),
            priority: *component.priority.get_ref(),
            calls: component.calls(),
            devices: component.devices().any(),
        });
        servers.chain(vmms).chain(components).collect()
    }

    /// Ports that a part holds for good: those of the board's devices that it serves, and a guest's debug ports. What belongs
    /// to functions, or to nobody on the PCI bus, is handed over while the system runs.
    pub fn ports_of(&self, part: &Part) -> Vec<PortRange> {
        let board = self.board();
        match part.role {
            Role::Server(Service::Timer) => vec![board.pit.ports, board.gate, board.rtc.ports],
            Role::Server(Service::Serial) => vec![board.uart.ports],
            Role::Server(Service::Pci) => vec![board.pci],
            Role::Server(Service::Irq | Service::File) | Role::Component(_) => Vec::new(),
            Role::Vmm(n) => {
                let ports = self.vms.get(n).into_iter().flat_map(|vm| &vm.direct_ports).map(|port| *port.get_ref());
                ports.map(|port| PortRange { first: port, last: port }).collect()
            }
        }
    }

    /// The package, or for a component the path, that a part's program comes from: a name for [`crate::compile::Binaries`].
    pub fn program(&self, part: &Part) -> &str {
        match part.role {
            Role::Server(service) => service.server(),
            Role::Vmm(_) => "vmm-server",
            Role::Component(n) => self.components.get(n).map_or("", |component| component.image.get_ref()),
        }
    }

    /// Packages to build, each once.
    pub fn packages(&self) -> Vec<&str> {
        let mut packages = Vec::new();
        for part in self.parts() {
            let path =
                matches!(part.role, Role::Component(n) if self.components.get(n).is_some_and(|c| c.image_is_path()));
            let program = self.program(&part);
            if !path && !packages.contains(&program) {
                packages.push(program);
            }
        }
        packages
    }
}
