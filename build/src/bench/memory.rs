//! The memory that a system with one guest uses beside the guest's own: in all, from root-task's report of the memory
//! left after it has made everything; by process, from the specification's objects. Their sizes are those of the pinned
//! kernel (seL4's sel4_arch/constants.h for x86_64).

use std::collections::BTreeMap;

use capdl_spec::spec::{Fill, Kind, Object};
use miette::{IntoDiagnostic, Result, miette};

use super::row::{Row, Unit};
use super::script::{MEMORY_MIB, Run};

/// log2 of the bytes that a slot of a CNode, a thread, a virtual CPU, and any paging structure take.
const SLOT_BITS: u8 = 5;
const TCB_BITS: u8 = 11;
const VCPU_BITS: u8 = 14;
const PAGING_BITS: u8 = 12;

/// The rows: the image, as large as it lies in memory; what lies beside the guest's memory in all, that image included;
/// and of that the share of each process. Shared memory counts for the first of the two processes. The rest belongs to
/// the kernel or the root task, or lies below 1 MiB.
pub fn rows(run: &Run) -> Result<Vec<Row>> {
    let image = run.image.as_ref().ok_or_else(|| miette!("this was no VM"))?;
    let file = std::fs::metadata(image.iso.with_file_name("root-task")).into_diagnostic()?;
    let taken = (u64::from(image.memory_mib - MEMORY_MIB) << 20) - left(&run.console)?;
    let row = |name: &str, bytes| Row::single(name, bytes, Unit::Bytes);
    let mut rows = vec![row("image_size", file.len()), row("memory_beside_guest", taken)];
    let mut processes: BTreeMap<&str, u64> = BTreeMap::new();
    for object in &image.spec.objects {
        let owner = object.name.split(['.', '+']).next().unwrap_or_default();
        *processes.entry(owner).or_default() += bytes(object);
    }
    processes.retain(|_, bytes| *bytes > 0);
    rows.extend(processes.iter().map(|(owner, bytes)| row(&format!("memory_{owner}"), *bytes)));
    Ok(rows)
}

/// Bytes that root-task has left, of `minimal: 134 objects, 360580 KiB of memory left`.
fn left(console: &str) -> Result<u64> {
    let line = console.lines().find_map(|line| line.strip_prefix("root-task: ")?.strip_suffix(" KiB of memory left"));
    let kib: Option<u64> = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    Ok(kib.ok_or_else(|| miette!("root-task does not tell what memory is left:\n{console}"))? << 10)
}

/// Bytes of free memory that an object takes; 0 for the guest's memory.
fn bytes(object: &Object) -> u64 {
    match object.kind {
        _ if object.name.ends_with(".guest-ram") => 0,
        // The image's own pages.
        Kind::Frames { fill: Fill::Bundle { .. } | Fill::Device { .. }, .. } => 0,
        Kind::Frames { size, pages, .. } => u64::from(pages) << size.bits(),
        Kind::CNode { bits } => 1 << (bits + SLOT_BITS),
        Kind::Tcb => 1 << TCB_BITS,
        Kind::Vcpu => 1 << VCPU_BITS,
        Kind::VSpace | Kind::Ept | Kind::Paging { .. } | Kind::SparePaging { .. } => 1 << PAGING_BITS,
        // At most 32 bytes each, or none.
        Kind::Endpoint | Kind::Notification | Kind::IoSpace { .. } | Kind::IoPorts { .. } | Kind::IrqControl => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capdl_spec::spec::PageSize;

    #[test]
    fn what_is_left_is_read_from_root_tasks_line() {
        let console = "seL4\nroot-task: bench-boot: 139 objects, 360580 KiB of memory left\nroot-task: started\n";
        assert_eq!(left(console).unwrap(), 360_580 << 10);
        assert!(left("root-task: 5 objects").is_err());
    }

    #[test]
    fn the_guests_memory_and_the_images_pages_are_not_counted() {
        let frames = |name: &str, fill| Object {
            name: name.to_owned(),
            kind: Kind::Frames { size: PageSize::Small, pages: 2, fill },
        };
        assert_eq!(bytes(&frames("vmm-linux.guest-ram", Fill::Zero)), 0);
        assert_eq!(bytes(&frames("fileserver.image.0", Fill::Bundle { offset: 0 })), 0);
        assert_eq!(bytes(&frames("vmm-linux.stack", Fill::Zero)), 8192);
    }
}
