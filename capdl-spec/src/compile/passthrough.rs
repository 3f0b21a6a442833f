//! What follows from a description's devices: the owner, ports and interrupts of each function.

use proto::{irq::Route, pci::Dma};

use crate::description::{
    devices::{Access, Irq, PciDevice},
    owners::Owner,
    system::System,
};

/// Bus address of a component's memory for devices behind an IOMMU.
pub const COMPONENT_BUS: u64 = 1 << 20;

/// A function of a VM or component.
pub(crate) struct Function<'a> {
    pub owner: Owner<'a>,
    /// Position in the owner's `pci_devices`.
    pub index: usize,
    pub device: &'a PciDevice,
}

/// Owners that have devices.
pub(crate) fn owners(system: &System) -> impl Iterator<Item = Owner<'_>> {
    system.owners().filter(|owner| owner.devices.any())
}

/// All functions that have an owner.
pub(crate) fn functions(system: &System) -> impl Iterator<Item = Function<'_>> {
    owners(system).flat_map(|owner| {
        let devices = owner.devices.pci_devices.iter().enumerate();
        devices.map(move |(index, device)| Function { owner, index, device: device.get_ref() })
    })
}

impl Function<'_> {
    /// The domain of its I/O address space, if it has one: 1 for the first such function of the system. No two
    /// functions share a domain, since all functions of a domain share its page tables (VT-d specification 1.3, section
    /// 3.4.3).
    pub fn domain(&self, system: &System) -> Option<u16> {
        let mut confined = functions(system).filter(|function| function.owner.devices.confined());
        let first = confined.position(|one| (one.owner.role, one.index) == (self.owner.role, self.index));
        first.map(|n| n as u16 + 1)
    }

    pub fn dma(&self) -> Dma {
        match (self.owner.devices.iospace, &self.device.dma) {
            (true, _) => Dma::Domain,
            (false, Some(_)) => Dma::Trusted,
            (false, None) => Dma::No,
        }
    }

    pub fn direct(&self) -> bool {
        self.device.access == Access::Direct
    }

    /// First and last port of the ranges that the description lists for it, if it lists any.
    pub fn ports(&self) -> Option<Vec<(u16, u16)>> {
        let ports: Vec<_> = self.owner.devices.ports_of(Some(self.index)).map(|ports| ports.range()).collect();
        (!ports.is_empty()).then_some(ports)
    }
}

impl Irq {
    /// Where it arrives.
    pub fn route(&self) -> Route {
        Route {
            ioapic: self.ioapic,
            pin: *self.source.get_ref(),
            level: self.level_trig.0,
            active_low: self.active_low.0,
        }
    }
}
