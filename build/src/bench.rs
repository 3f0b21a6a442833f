//! `cargo xtask bench`: measures costs in emulated instructions, which repeat exactly.
//!
//! `exits` has the rows of single exits, which our own guest measures; `linux` those of whole boots, in a VM and
//! natively; `network` those of two VMs at a switch. The table compares a row with the floor (the smallest loop around VMEnter), the peers (`peers`) and the
//! committed baseline of the pinned kernel, or of a current one; `chart` draws both. docs/performance.md explains method
//! and results.

pub mod chart;
pub mod exits;
pub mod limits;
pub mod linux;
pub mod memory;
pub mod network;
pub mod peers;
pub mod row;
pub mod script;
pub mod table;
pub mod watch;

use std::path::Path;

use miette::{Result, miette};

use crate::kernel::{self, Build};
use crate::packages::Purpose;
use crate::progress::{self, say};
use crate::project::{self, Project};
use crate::setup;
use crate::test::Context;
use row::Rows;
use vtx::cpuid::Processor;

/// The rows that a change is compared with. `cargo xtask bench --json build/src/bench/baseline.json` replaces them.
const BASELINE: &str = include_str!("bench/baseline.json");
/// The same on seL4 16.0.0, configured by kernel-config/settings.
const CURRENT: &str = include_str!("bench/current.json");

/// The committed rows of the pinned kernel.
pub fn baseline() -> Result<Rows> {
    Rows::from_json(BASELINE)
}

/// The committed rows of a current seL4.
pub fn current() -> Result<Rows> {
    Rows::from_json(CURRENT)
}

/// Measures everything, or the rows of single exits alone, prints the table, draws the chart and writes the rows to `json`.
pub fn run(project: &Project, json: Option<&Path>, exits_alone: bool) -> Result<()> {
    setup::ensure(&[Purpose::Kernel, Purpose::Image, Purpose::Bochs])?;
    let baseline_file = json.is_some_and(|file| file.file_name().is_some_and(|name| name == "baseline.json"));
    if kernel::are_own() && baseline_file {
        return Err(miette!(
            help = "for the rows of a current seL4, write to build/src/bench/current.json",
            "baseline.json is for the pinned kernel, and the environment names another"
        ));
    }
    let context = Context::new(project.clone());
    if let Some(remark) = context.prefix(Build::Release)?.remark() {
        say(&remark);
    }
    let mut rows = exits::measure(&context)?;
    if !exits_alone {
        rows.0.extend(linux::measure(&context)?.0);
        if context.prefix(Build::Release)?.processor() == Processor::Bits64 {
            rows.0.extend(linux::long(&context)?.0);
        }
        rows.0.extend(network::measure(&context)?.0);
    }
    let (baseline, current) = (baseline()?, current()?);
    // The chart has both kernels: the one that was measured, and what is committed of the other.
    let (before, [pinned, current]) =
        if kernel::are_own() { (&current, [&baseline, &rows]) } else { (&baseline, [&rows, &current]) };
    progress::print(table::text(&rows, before).trim_end());
    let drawing = project.target.join("bench.svg");
    project::write(&drawing, chart::svg(pinned, current).as_bytes())?;
    say(&format!("drawn in {}", drawing.display()));
    if let Some(file) = json {
        project::write_named(file, rows.to_json().as_bytes())?;
        say(&format!("written to {}", file.display()));
    }
    Ok(())
}
