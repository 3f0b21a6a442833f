//! Places memory that devices access without an IOMMU.

use crate::{
    compile::part::Role,
    description::{owners::Owner, system::System},
};

/// Lowest physical address of memory that devices access without an IOMMU: above the kernel and root-task with the
/// bundle, which `compile` checks.
pub const TRUSTED_RAM: u64 = 64 << 20;
/// Physical memory that the kernel, root-task's program with the specification, and its CSpace take at most, beside the
/// bundle's blobs. The kernel lies
/// at 1 MiB and moves root-task right behind itself; the CSpace (8 MiB) follows, aligned to its size.
const BELOW_BUNDLE: u64 = 24 << 20;
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
    let mut next = system.trusted_ram.unwrap_or(TRUSTED_RAM);
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

impl System {
    /// Moves the memory that devices access without an IOMMU up, so that a bundle with blobs of this many bytes fits below
    /// it, as [`CompileError::Crowded`](crate::host::CompileError::Crowded) asks for. Kernels in it move as well, so images
    /// have to be made again from [`System::images`].
    pub fn make_room(&mut self, bundle: u64) {
        let end = bundle.saturating_add(BELOW_BUNDLE).checked_next_multiple_of(RAM_ALIGN);
        self.trusted_ram = end.map(|end| end.max(TRUSTED_RAM));
    }
}

impl System {
    /// Whether the memory that devices access without an IOMMU is where the image will have it; otherwise it may be further up.
    pub(crate) fn is_settled(&self) -> bool {
        self.trusted_ram.is_some()
    }
}

/// The placed memory, if any, that begins below the end of root-task with a bundle of this size.
pub(crate) fn under_root_task(system: &System, bundle: u64) -> Option<Placed> {
    placed(system).into_iter().next().filter(|placed| bundle > placed.paddr.saturating_sub(BELOW_BUNDLE))
}
