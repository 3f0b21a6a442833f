//! What the build makes on the host: the kernel prefixes, and the doctor's report.

use miette::{Result, ensure};

use crate::doctor;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Check, name, run);
    vec![test("kernel-prefixes", kernel_prefixes), test("doctor", doctor_reports)]
}

fn kernel_prefixes(context: &Context) -> Result<Outcome> {
    for build in [Build::Debug, Build::Release] {
        let prefix = context.prefix(build)?;
        ensure!(prefix.kernel().is_file(), "{} is missing", prefix.kernel().display());
    }
    passed()
}

fn doctor_reports(_: &Context) -> Result<Outcome> {
    let report = doctor::report()?;
    for heading in ["System", "Packages", "Processor", "Runs here"] {
        ensure!(report.lines().any(|line| line.starts_with(heading)), "no line `{heading}` in\n{report}");
    }
    ensure!(report.lines().count() <= 24, "more than a screen:\n{report}");
    passed()
}
