//! The kernel's fixed defects: tests/kernel runs as the root task, on every kernel in Bochs. It checks its results
//! itself; effects that only the emulator sees are in Bochs's log.

use std::time::Duration;

use capdl_spec::host::Processor;
use miette::{IntoDiagnostic, Result, ensure, miette};

use crate::bochs::log::Ending;
use crate::bochs::{Machine, Options, last_lines, log};
use crate::kernel::{self, Build, Kernel, Platform};
use crate::test::{Context, Group, Outcome, Test};
use crate::{image, iso};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Components, name, run);
    vec![
        test("kernel-mended-defects-debug", |context| mended_defects(context, Build::Debug.into())),
        test("kernel-mended-defects-release", |context| mended_defects(context, Build::Release.into())),
        test("kernel-mended-defects-nehalem", |context| mended_defects(context, NEHALEM)).long(),
    ]
}

/// How long all checks may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// The kernel for old processors, which takes other code paths without PCIDs and large pages.
const NEHALEM: Kernel = Kernel { build: Build::Release, platform: Platform::Vtx(Processor::Nehalem) };

fn mended_defects(context: &Context, kernel: Kernel) -> Result<Outcome> {
    let mut machine = boot(context, kernel)?;
    let ending = machine.wait(LIMIT)?;
    let text = String::from_utf8_lossy(&machine.console.transcript()).replace('\r', "");
    if kernel::are_own() {
        return found(&text);
    }
    let last = last_lines(text.as_bytes(), 12);
    match ending {
        Some(Ending::PowerOff) => {}
        Some(other) => return Err(machine.why(&other)),
        None => return Err(miette!("the checks do not come to an end; the last lines:\n{last}")),
    }
    let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("FAIL ")).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    let verdict = text.lines().find_map(|line| line.strip_prefix("verdict: "));
    let verdict = verdict.ok_or_else(|| miette!("no verdict; the last lines:\n{last}"))?;
    let passed = text.lines().filter(|line| line.starts_with("ok   ")).count();
    let left: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("left ")).collect();
    let counted = format!("{passed} passed, 0 failed, {} left out", left.len());
    ensure!(passed > 0 && verdict == counted, "the lines say {counted}, but the verdict is {verdict}");
    no_invalid_invept(&machine)?;
    let checks = format!("{passed} checks");
    Ok(Outcome::Passed([&[checks.as_str()], left.as_slice()].concat().join("; left out: ")))
}

/// A kernel without our patches has some of the defects, one of which may stop it. The checks have to begin, and what they
/// find is a remark.
fn found(text: &str) -> Result<Outcome> {
    let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    let (right, wrong) = (count("ok   "), count("FAIL "));
    ensure!(right > 0, "no check passes; the last lines:\n{}", last_lines(text.as_bytes(), 12));
    let run = text.lines().filter_map(|line| line.strip_prefix("run  ")).next_back().unwrap_or_default();
    let end = if count("verdict: ") > 0 { String::new() } else { format!(", stopped in {run}") };
    Ok(Outcome::Passed(format!("this kernel is not of our patches: {right} checks right, {wrong} wrong{end}")))
}

fn boot(context: &Context, kernel: Kernel) -> Result<Machine> {
    let prefix = context.prefix(kernel)?;
    let built = image::cargo_build(&context.project, &["kernel-tests"], &prefix)?;
    let root_task = built.get("kernel-tests").ok_or_else(|| miette!("cargo built no kernel-tests"))?;
    let name = format!("kernel-tests-{}", prefix.name());
    let dir = context.project.images(&name);
    std::fs::create_dir_all(&dir).into_diagnostic()?;
    let iso = iso::make(&prefix.kernel(), root_task, &dir)?;
    let mut options = Options::new(&format!("test-{name}"), &iso);
    options.memory_mib = 512;
    options.input = false;
    Machine::boot(&context.project, &options)
}

/// Patch 0005: on this emulator a failed INVEPT has no effect that a program could see, but leaves a line in the log.
fn no_invalid_invept(machine: &Machine) -> Result<()> {
    let log = machine.log();
    let invalid = log.lines().filter_map(log::line).filter(|line| line.text.starts_with("INVEPT: ")).count();
    ensure!(invalid == 0, "the kernel flushes nothing: {invalid} lines \"INVEPT: ...\" in the emulator's log");
    Ok(())
}
