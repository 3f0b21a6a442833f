//! cargo's own checks: format, lints, and the unit tests of every package.

use std::process::Command;

use miette::Result;

use crate::process;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Check, name, run);
    vec![
        test("format", format),
        test("lints", lints),
        test("units", units),
        test("virtio-in-ten-million-cases", virtio).long(),
    ]
}

fn format(context: &Context) -> Result<Outcome> {
    process::run("check: cargo fmt", cargo(context, &["fmt", "--all", "--check", "--", "--color", "never"])?)?;
    passed()
}

fn lints(context: &Context) -> Result<Outcome> {
    let arguments = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"];
    process::run("check: cargo clippy", cargo(context, &arguments)?)?;
    passed()
}

fn units(context: &Context) -> Result<Outcome> {
    let output = process::run("check: cargo test", cargo(context, &["test", "--workspace", "--no-fail-fast"])?)?;
    Ok(Outcome::Passed(format!("{} unit tests", count_passed(&output))))
}

/// The properties of the virtio devices, whatever driver and back end do, with more cases than `units` has time for.
fn virtio(context: &Context) -> Result<Outcome> {
    /// For each of the seven.
    const CASES: u32 = 1_500_000;
    let mut command = cargo(context, &["test", "--release", "--package", "devices", "--lib", "virtio"])?;
    command.env("PORTCULLIS_CASES", CASES.to_string());
    let output = process::run("check: virtio devices in ten million cases", command)?;
    Ok(Outcome::Passed(format!("{} unit tests", count_passed(&output))))
}

/// A cargo call on the whole workspace, which needs the interface files of some kernel.
fn cargo(context: &Context, arguments: &[&str]) -> Result<Command> {
    let prefix = context.interface()?;
    let mut command = process::cargo();
    command.args(arguments).current_dir(&context.project.root);
    command.env("SEL4_PREFIX", prefix.dir()).env("CARGO_TARGET_DIR", &context.project.target);
    Ok(command)
}

/// Adds up the lines `test result: ok. 12 passed; 0 failed; ...`.
fn count_passed(output: &str) -> u32 {
    let counts = output.lines().filter_map(|line| {
        let counts = line.strip_prefix("test result: ")?;
        counts.split_once(". ")?.1.split_once(" passed")?.0.parse::<u32>().ok()
    });
    counts.sum()
}

#[cfg(test)]
mod unit {
    #[test]
    fn results_of_all_packages_are_added_up() {
        let output = "test result: ok. 12 passed; 0 failed\nrunning 2 tests\ntest result: ok. 3 passed; 0 failed\n";
        assert_eq!(super::count_passed(output), 15);
    }
}
