//! Places memory that devices access without an IOMMU.

use crate::{
    compile::part::Role,
    description::{owners::Owner, system::System},
};

/// Physical address of the first memory that devices access without an IOMMU: above the kernel and root-task with the
/// bundle, which `compile` checks.
pub const TRUSTED_RAM: u64 = 64 << 20;
/// Alignment of such memory: 32-bit Linux kernels can be relocated by multiples of it (the largest
/// CONFIG_PHYSICAL_ALIGN).
pub const RAM_ALIGN: u64 = 16 << 20;

/// Memory at a chosen physical address in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Whose it is.
    pub owner: Role,
    pub paddr: u64,
    pub bytes: u64,
}

/// The memory of all owners whose devices access it without an IOMMU, one after the other.
pub(crate) fn placed(system: &System) -> Vec<Placed> {
    let mut next = TRUSTED_RAM;
    let mut placed = Vec::new();
    for Owner { devices, memory, role: owner, .. } in system.owners() {
        let (true, Some(memory)) = (devices.trusted(), memory) else { continue };
        let bytes = memory.get_ref().0;
        placed.push(Placed { owner, paddr: next, bytes });
        next = next.saturating_add(bytes).checked_next_multiple_of(RAM_ALIGN).unwrap_or(u64::MAX);
    }
    placed
}

/// Where an owner's memory was placed.
pub(crate) fn placed_at(system: &System, owner: Role) -> Option<u64> {
    placed(system).into_iter().find(|placed| placed.owner == owner).map(|placed| placed.paddr)
}
