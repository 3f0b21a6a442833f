//! `cargo xtask bench`: measures costs in emulated instructions, which repeat exactly.
//!
//! `exits` has the rows of single exits, which our own guest measures; `linux` those of whole boots, in a VM and
//! natively. The table compares a row with the floor (the smallest loop around VMEnter), the peers (`peers`) and the
//! committed baseline; `chart` draws it. docs/performance.md explains method and results.

pub mod chart;
pub mod exits;
pub mod linux;
pub mod memory;
pub mod peers;
pub mod row;
pub mod script;
pub mod table;
pub mod watch;

use std::path::Path;

use miette::Result;

use crate::kernel::Build;
use crate::packages::Purpose;
use crate::progress::{self, say};
use crate::project::{self, Project};
use crate::setup;
use crate::test::Context;
use row::Rows;

/// The rows that a change is compared with. `cargo xtask bench --json build/src/bench/baseline.json` replaces them.
const BASELINE: &str = include_str!("bench/baseline.json");

/// The committed rows.
pub fn baseline() -> Result<Rows> {
    Rows::from_json(BASELINE)
}

/// Measures everything, or the rows of single exits alone, prints the table, draws the chart and writes the rows to `json`.
pub fn run(project: &Project, json: Option<&Path>, exits_alone: bool) -> Result<()> {
    setup::ensure(&[Purpose::Kernel, Purpose::Image, Purpose::Bochs])?;
    let context = Context::new(project.clone());
    if let Some(remark) = context.prefix(Build::Release)?.remark() {
        say(&remark);
    }
    let mut rows = exits::measure(&context)?;
    if !exits_alone {
        rows.0.extend(linux::measure(&context)?.0);
    }
    progress::print(table::text(&rows, &baseline()?).trim_end());
    let drawing = project.target.join("bench.svg");
    project::write(&drawing, chart::svg(&rows).as_bytes())?;
    say(&format!("drawn in {}", drawing.display()));
    if let Some(file) = json {
        project::write_named(file, rows.to_json().as_bytes())?;
        say(&format!("written to {}", file.display()));
    }
    Ok(())
}
