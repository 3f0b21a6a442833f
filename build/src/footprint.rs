//! What each process takes beside the guests' memory, from the specification's objects. Sizes are those of the pinned
//! kernel (seL4's sel4_arch/constants.h for x86_64).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use capdl_spec::spec::{Fill, Kind, Object, Spec};

/// log2 of the bytes that a slot of a CNode, a thread, a virtual CPU, and any paging structure take.
const SLOT_BITS: u8 = 5;
const TCB_BITS: u8 = 11;
const VCPU_BITS: u8 = 14;
const PAGING_BITS: u8 = 12;

/// Bytes of the guests' memory.
pub fn guests(spec: &Spec) -> u64 {
    spec.objects.iter().filter(|object| is_guests(object)).map(|object| frames(&object.kind)).sum()
}

/// Bytes that each process takes beside it. Shared memory counts for the first of the two processes; the image's own
/// pages do not count.
pub fn by_process(spec: &Spec) -> BTreeMap<&str, u64> {
    let mut processes: BTreeMap<&str, u64> = BTreeMap::new();
    for object in &spec.objects {
        let owner = object.name.split(['.', '+']).next().unwrap_or_default();
        *processes.entry(owner).or_default() += bytes(object);
    }
    processes.retain(|_, bytes| *bytes > 0);
    processes
}

/// All of that in a line, `image` being the bytes of the root-task image.
pub fn summary(spec: &Spec, image: u64) -> String {
    let beside = image + by_process(spec).values().sum::<u64>();
    format!("{} KiB of memory for the guests; beside it {} KiB", kib(guests(spec)), kib(beside))
}

/// The same, and a line for each process.
pub fn text(spec: &Spec, image: u64) -> String {
    let mut text = summary(spec, image);
    let rows = by_process(spec).into_iter().chain([("the image, with all files for the guests", image)]);
    for (what, bytes) in rows {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {:>7} KiB  {what}", kib(bytes));
    }
    text
}

fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 10)
}

fn is_guests(object: &Object) -> bool {
    object.name.ends_with(".guest-ram")
}

fn frames(kind: &Kind) -> u64 {
    match *kind {
        Kind::Frames { fill: Fill::Bundle { .. } | Fill::Device { .. }, .. } => 0,
        Kind::Frames { size, pages, .. } => u64::from(pages) << size.bits(),
        _ => 0,
    }
}

/// Bytes of free memory that an object takes; 0 for the guest's memory.
fn bytes(object: &Object) -> u64 {
    match object.kind {
        _ if is_guests(object) => 0,
        Kind::Frames { .. } => frames(&object.kind),
        Kind::CNode { bits } => 1 << (bits + SLOT_BITS),
        Kind::Tcb => 1 << TCB_BITS,
        Kind::Vcpu => 1 << VCPU_BITS,
        Kind::Paging { count, .. } => u64::from(count) << PAGING_BITS,
        Kind::VSpace | Kind::Ept | Kind::SparePaging { .. } => 1 << PAGING_BITS,
        // At most 32 bytes each, or none.
        Kind::Endpoint | Kind::Notification | Kind::IoSpace { .. } | Kind::IoPorts { .. } | Kind::IrqControl => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capdl_spec::spec::PageSize;

    fn object(name: &str, kind: Kind) -> Object {
        Object { name: name.to_owned(), kind }
    }

    fn spec() -> Spec {
        let frames = |name: &str, fill| object(name, Kind::Frames { size: PageSize::Small, pages: 2, fill });
        let objects = vec![
            frames("vmm-linux.guest-ram", Fill::Zero),
            frames("fileserver.image.0", Fill::Bundle { offset: 0 }),
            frames("vmm-linux.stack", Fill::Zero),
            frames("vmm-linux+serial-server.log", Fill::Zero),
            object("vmm-linux.vcpu", Kind::Vcpu),
            object("root-task.supervisor", Kind::Endpoint),
        ];
        Spec { objects, ..Spec::default() }
    }

    #[test]
    fn the_guests_memory_and_the_images_pages_are_not_a_processs() {
        assert_eq!(by_process(&spec()), BTreeMap::from([("vmm-linux", 2 * 8192 + 16384)]));
        assert_eq!(guests(&spec()), 8192);
    }

    #[test]
    fn the_text_has_a_line_for_each_process_and_the_sum() {
        let text = text(&spec(), 4096);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "8 KiB of memory for the guests; beside it 36 KiB");
        assert_eq!(lines[1], "       32 KiB  vmm-linux");
        assert_eq!(lines[2], "        4 KiB  the image, with all files for the guests");
    }
}
