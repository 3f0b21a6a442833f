//! The memory that a system with one guest uses beside the guest's own: in all, from root-task's report of the memory
//! left after it has made everything; by process, from the specification's objects (`footprint`).

use miette::{Result, miette};

use super::row::{Row, Unit};
use super::script::{self, Run};
use crate::footprint;

/// The rows: the image, as large as it lies in memory; what lies beside the guest's memory in all, that image included;
/// and of that the share of each process. Shared memory counts for the first of the two processes. The rest belongs to
/// the kernel or the root task, or lies below 1 MiB.
pub fn rows(run: &Run) -> Result<Vec<Row>> {
    let image = run.image.as_ref().ok_or_else(|| miette!("this was no VM"))?;
    let taken = (u64::from(image.memory_mib - script::memory_mib(script::DEBIAN)) << 20) - left(&run.console)?;
    let row = |name: &str, bytes| Row::single(name, bytes, Unit::Bytes);
    let mut rows = vec![row("image_size", image.bytes), row("memory_beside_guest", taken)];
    let processes = footprint::by_process(&image.spec);
    rows.extend(processes.iter().map(|(owner, bytes)| row(&format!("memory_{owner}"), *bytes)));
    Ok(rows)
}

/// Bytes that root-task has left, of `minimal: 134 objects, 360580 KiB of memory left`.
fn left(console: &str) -> Result<u64> {
    let line = console.lines().find_map(|line| line.strip_prefix("root-task: ")?.strip_suffix(" KiB of memory left"));
    let kib: Option<u64> = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    Ok(kib.ok_or_else(|| miette!("root-task does not tell what memory is left:\n{console}"))? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_read_from_root_tasks_line() {
        let console = "seL4\nroot-task: bench-boot: 139 objects, 360580 KiB of memory left\nroot-task: started\n";
        assert_eq!(left(console).unwrap(), 360_580 << 10);
        assert!(left("root-task: 5 objects").is_err());
    }
}
