//! How much memory an emulated board needs: for the running system, and for booting it.
//!
//! The running system has the kernel, the root-task image (whose pages are fileserver's images too) and the objects of
//! the specification. Before that, there are three copies of the image at once: the boot loader's file, the copy that
//! it places for the kernel, and the kernel's own copy (`try_boot_sys_mbi` in the kernel's boot_sys.c; mboot.c32).

use capdl_spec::spec::{Fill, Kind, Spec};

/// The kernel, the firmware's part below 1 MiB, and the gaps between objects of different sizes.
const KERNEL_AND_GAPS: u64 = 24 << 20;
/// A board's memory is a multiple of this, and at least [`LEAST_MIB`].
const STEP_MIB: u64 = 128;
const LEAST_MIB: u64 = 512;

/// The contents of a board's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeeds {
    /// RAM of guests and everything else that the specification makes.
    pub objects: u64,
    /// The root-task image.
    pub image: u64,
    /// The end of the memory at chosen physical addresses.
    pub placed: u64,
}

impl MemoryNeeds {
    /// Of a specification and the image that carries it.
    pub fn of(spec: &Spec, image: u64) -> Self {
        let objects = spec.objects.iter().map(|object| bytes(&object.kind)).sum();
        let placed = spec.objects.iter().map(|object| match object.kind {
            Kind::Frames { size, pages, fill: Fill::Ram { paddr } } => paddr + (u64::from(pages) << size.bits()),
            _ => 0,
        });
        Self { objects, image, placed: placed.max().unwrap_or(0) }
    }

    /// The board's memory, in MiB.
    pub fn mib(&self) -> u64 {
        let made = self.objects + self.image;
        let need = made.max(3 * self.image).max(self.placed) + KERNEL_AND_GAPS;
        need.div_ceil(1 << 20).next_multiple_of(STEP_MIB).max(LEAST_MIB)
    }

    /// The sum in words.
    pub fn sum(&self) -> String {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        format!(
            "{} MiB for guests, programs and tables, {} MiB of images ({} MiB while they are loaded), {} MiB for the kernel",
            mib(self.objects),
            mib(self.image),
            mib(3 * self.image),
            mib(KERNEL_AND_GAPS)
        )
    }
}

/// An object's memory: at least what the kernel takes (its objecttype.h and the sizes of its structures).
fn bytes(kind: &Kind) -> u64 {
    const PAGE: u64 = 4096;
    match *kind {
        Kind::Frames { fill: Fill::Bundle { .. } | Fill::Device { .. }, .. } => 0,
        Kind::Frames { size, pages, .. } => u64::from(pages) << size.bits(),
        Kind::CNode { bits } => 32 << bits,
        Kind::Vcpu => 4 * PAGE,
        // Includes the page tables that root-task adds as mappings need them.
        Kind::IoSpace { .. } => 64 * PAGE,
        Kind::Endpoint | Kind::Notification | Kind::IoPorts { .. } | Kind::IrqControl => 64,
        Kind::Paging { count, .. } => u64::from(count) * PAGE,
        Kind::Tcb | Kind::VSpace | Kind::Ept | Kind::SparePaging { .. } => PAGE,
    }
}

#[cfg(test)]
mod tests {
    use capdl_spec::spec::{Object, PageSize};

    use super::*;

    fn spec(kinds: &[Kind]) -> Spec {
        let objects = kinds.iter().map(|kind| Object { name: String::new(), kind: kind.clone() }).collect();
        Spec { objects, ..Spec::default() }
    }

    fn ram(mib: u32, fill: Fill) -> Kind {
        Kind::Frames { size: PageSize::Large, pages: mib / 2, fill }
    }

    #[test]
    fn a_small_system_has_the_least() {
        let needs = MemoryNeeds::of(&spec(&[ram(128, Fill::Zero), Kind::Tcb]), 18 << 20);
        assert_eq!(needs.objects, (128 << 20) + 4096);
        assert_eq!(needs.mib(), 512);
    }

    #[test]
    fn images_count_three_times_where_that_is_more() {
        assert_eq!(MemoryNeeds::of(&spec(&[ram(1024, Fill::Zero)]), 250 << 20).mib(), 1408);
        assert_eq!(MemoryNeeds::of(&spec(&[ram(64, Fill::Zero)]), 250 << 20).mib(), 896);
    }

    #[test]
    fn memory_at_a_place_of_its_own_must_be_there() {
        let needs = MemoryNeeds::of(&spec(&[ram(128, Fill::Ram { paddr: 512 << 20 })]), 18 << 20);
        assert_eq!(needs.mib(), 768);
    }

    #[test]
    fn devices_and_images_are_not_made_of_memory() {
        let bundle = Kind::Frames { size: PageSize::Small, pages: 1000, fill: Fill::Bundle { offset: 0 } };
        assert_eq!(MemoryNeeds::of(&spec(&[bundle, ram(64, Fill::Device { paddr: 3 << 30 })]), 0).objects, 0);
    }
}
