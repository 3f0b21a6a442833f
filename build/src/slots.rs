//! Whether the root task's CSpace, whose size is an option of the kernel, is large enough for a system. Where it is not, a
//! release kernel stops without a word.

use capdl_spec::spec::{Fill, Kind, Spec};
use miette::{Result, miette};

use crate::kernel::Prefix;

/// What the kernel puts there beside the image's pages: its own objects and paging structures, and untyped memory.
const INITIAL: u64 = 512;
const PAGE: u64 = 4096;

/// Capabilities of a specification's objects and of the image that carries it, each with one slot, or one for each page.
fn needed(spec: &Spec, image: u64) -> u64 {
    let slots = |kind: &Kind| match *kind {
        // Pages of the image itself.
        Kind::Frames { fill: Fill::Bundle { .. }, .. } => 0,
        Kind::Frames { pages, .. } => pages.into(),
        _ => 1,
    };
    let objects: u64 = spec.objects.iter().map(|object| slots(&object.kind)).sum();
    INITIAL + image.div_ceil(PAGE) + objects
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
    use capdl_spec::spec::{Object, PageSize};

    use super::*;

    #[test]
    fn pages_of_frames_and_of_the_image_take_a_slot_each() {
        let object = |kind| Object { name: String::new(), kind };
        let frames = Kind::Frames { size: PageSize::Small, pages: 100, fill: Fill::Zero };
        let bundle = Kind::Frames { size: PageSize::Small, pages: 1000, fill: Fill::Bundle { offset: 0 } };
        let objects = vec![object(Kind::Endpoint), object(frames), object(bundle)];
        let spec = Spec { objects, ..Spec::default() };
        assert_eq!(needed(&spec, 3 * PAGE + 1), INITIAL + 4 + 101);
    }
}
