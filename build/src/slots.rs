//! Whether the root task's CSpace, whose size is an option of the kernel, is large enough for a system. Where it is not, a
//! release kernel stops without a word.

use std::collections::BTreeSet;

use capdl_spec::spec::{Fill, Kind, Mapping, Spec};
use miette::{Result, miette};

use crate::kernel::Prefix;

/// What the kernel puts there beside the image's pages: its own objects and paging structures, and untyped memory.
const INITIAL: u64 = 512;
const PAGE: u64 = 4096;

/// Capabilities of a specification's objects and of the image that carries it, each with one slot, or one for each page.
/// A frame can be mapped once by a capability, so each further mapping takes copies, as does each of the image's pages.
fn needed(spec: &Spec, image: u64) -> u64 {
    let slots = |kind: &Kind| match *kind {
        // Pages of the image itself.
        Kind::Frames { fill: Fill::Bundle { .. }, .. } => 0,
        Kind::Frames { pages, .. } => pages.into(),
        Kind::Paging { count, .. } => count.into(),
        _ => 1,
    };
    let objects: u64 = spec.objects.iter().map(|object| slots(&object.kind)).sum();
    INITIAL + image.div_ceil(PAGE) + objects + copies(spec)
}

fn copies(spec: &Spec) -> u64 {
    let mut mapped = BTreeSet::new();
    let copies = |mapping: &Mapping| match spec.objects.get(mapping.frames.0 as usize).map(|object| &object.kind) {
        Some(Kind::Frames { pages, fill, .. }) => {
            let original = mapped.insert(mapping.frames) && !matches!(fill, Fill::Bundle { .. });
            if original { 0 } else { u64::from(*pages) }
        }
        _ => 0,
    };
    spec.mappings.iter().map(copies).sum()
}

/// Refuses a kernel with too few slots. `image` is the size of the root task's image in bytes.
pub fn suffice(prefix: &Prefix, spec: &Spec, image: u64) -> Result<()> {
    let (needed, there) = (needed(spec, image), prefix.slots());
    if needed <= there {
        return Ok(());
    }
    let bits = needed.next_power_of_two().ilog2();
    Err(miette!(
        help = format!("configure the kernel with KernelRootCNodeSizeBits={bits} or more"),
        "the system needs {needed} capability slots, and the root CNode of the kernel in {} has {there}",
        prefix.dir().display()
    ))
}

#[cfg(test)]
mod tests {
    use capdl_spec::spec::{Id, Level, Object, PageSize, Rights};

    use super::*;

    #[test]
    fn pages_of_frames_and_of_the_image_take_a_slot_each() {
        let object = |kind| Object { name: String::new(), kind };
        let frames = Kind::Frames { size: PageSize::Small, pages: 100, fill: Fill::Zero };
        let bundle = Kind::Frames { size: PageSize::Small, pages: 1000, fill: Fill::Bundle { offset: 0 } };
        let tables = Kind::Paging { space: Id(0), level: Level::Table, at: 0, count: 7 };
        let objects = vec![object(Kind::Endpoint), object(frames), object(bundle), object(tables)];
        let mut spec = Spec { objects, ..Spec::default() };
        assert_eq!(needed(&spec, 3 * PAGE + 1), INITIAL + 4 + 108);
        let rights = Rights { read: true, write: false, grant: false };
        let (space, at, pages) = (Id(0), 0, PageSize::Small);
        let mapping = |frames| Mapping { space, frames: Id(frames), at, rights, cached: true, pages };
        spec.mappings = vec![mapping(1), mapping(1), mapping(2)];
        assert_eq!(
            needed(&spec, 3 * PAGE + 1),
            INITIAL + 4 + 108 + 100 + 1000,
            "a second mapping and the image's pages"
        );
    }
}
