//! VMs and components as owners of devices: what a description passes through to each.

use toml::Spanned;

use crate::{
    compile::part::Role,
    description::{
        devices::{IoPorts, Irq, PciDevice},
        system::{Bytes, Component, System, Vm},
    },
};

/// The devices that a description passes through to one VM or component.
#[derive(Clone, Copy, Debug)]
pub struct Devices<'a> {
    /// See [`Vm::ioports`].
    pub ioports: &'a [Spanned<IoPorts>],
    /// See [`Vm::pci_devices`].
    pub pci_devices: &'a [Spanned<PciDevice>],
    /// See [`Vm::irqs`].
    pub irqs: &'a [Irq],
    /// See [`Vm::pci_devices_iospace`].
    pub iospace: bool,
}

/// A VM or component as an owner of devices.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Its name.
    pub name: &'a Spanned<String>,
    /// Its devices.
    pub devices: Devices<'a>,
    /// Memory for its devices: all of its RAM for a VM.
    pub memory: Option<&'a Spanned<Bytes>>,
    /// Its role among the system's processes.
    pub role: Role,
}

impl<'a> Devices<'a> {
    /// Whether it has any.
    pub fn any(&self) -> bool {
        !self.ioports.is_empty() || !self.pci_devices.is_empty() || !self.irqs.is_empty()
    }

    /// Whether one of its functions uses memory without an IOMMU.
    pub fn trusted(&self) -> bool {
        self.pci_devices.iter().any(|device| device.get_ref().dma.is_some())
    }

    /// Whether one of its functions is behind an IOMMU.
    pub fn confined(&self) -> bool {
        self.iospace && !self.pci_devices.is_empty()
    }

    /// Whether a function of these may be bus master.
    pub fn is_master(&self, device: &PciDevice) -> bool {
        self.iospace || device.dma.is_some()
    }

    /// Whether a function of these may interrupt by messages, which are writes to memory.
    pub fn may_send(&self, device: &PciDevice) -> bool {
        self.is_master(device) && device.interrupts.is_none()
    }

    /// The position of the function that a range of ports names; `None` if it names none, or a function that is not
    /// listed.
    pub fn function_of(&self, ports: &IoPorts) -> Option<usize> {
        let number = *ports.pci_device.as_ref()?.get_ref();
        let at = |n: usize| self.pci_devices[n].get_ref();
        let mut there: Vec<usize> = (0..self.pci_devices.len()).filter(|&n| at(n).address.device == number).collect();
        if there.len() > 1 {
            there.retain(|&n| at(n).name.as_ref().is_some_and(|name| name.get_ref() == ports.name.get_ref()));
        }
        match there[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// The ranges of ports that the description lists for a function, or for no function.
    pub fn ports_of(&self, function: Option<usize>) -> impl Iterator<Item = &'a IoPorts> {
        let devices = *self;
        let ports = self.ioports.iter().map(Spanned::get_ref);
        ports.filter(move |ports| devices.function_of(ports) == function)
    }
}

impl Vm {
    /// What is passed through to it.
    pub fn devices(&self) -> Devices<'_> {
        let iospace = self.pci_devices_iospace.as_ref().is_some_and(|flag| flag.get_ref().0);
        Devices { ioports: &self.ioports, pci_devices: &self.pci_devices, irqs: &self.irqs, iospace }
    }
}

impl Component {
    /// What is passed through to it.
    pub fn devices(&self) -> Devices<'_> {
        let iospace = self.pci_devices_iospace.as_ref().is_some_and(|flag| flag.get_ref().0);
        Devices { ioports: &self.ioports, pci_devices: &self.pci_devices, irqs: &self.irqs, iospace }
    }
}

impl System {
    /// VMs, then components, each with its devices.
    pub fn owners(&self) -> impl Iterator<Item = Owner<'_>> {
        let vms = self.vms.iter().enumerate().map(|(n, vm)| Owner {
            name: &vm.name,
            devices: vm.devices(),
            memory: Some(&vm.memory),
            role: Role::Vmm(n),
        });
        let components = self.components.iter().enumerate().map(|(n, component)| Owner {
            name: &component.name,
            devices: component.devices(),
            memory: component.dma_memory.as_ref(),
            role: Role::Component(n),
        });
        vms.chain(components)
    }
}

impl Owner<'_> {
    /// Whether it is a VM; otherwise it is a component.
    pub fn is_vm(&self) -> bool {
        matches!(self.role, Role::Vmm(_))
    }
}
