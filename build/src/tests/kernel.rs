//! The kernel's known defects: tests/kernel runs as the root task, on every kernel in Bochs.

use capdl_spec::host::Processor;
use miette::{Result, ensure};

use crate::defects::boots::{self, Verdict};
use crate::kernel::{self, Build, Kernel, Platform};
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Components, name, run);
    vec![
        test("kernel-mended-defects-debug", |context| mended_defects(context, Build::Debug.into())),
        test("kernel-mended-defects-release", |context| mended_defects(context, Build::Release.into())),
        test("kernel-mended-defects-nehalem", |context| mended_defects(context, NEHALEM)).long(),
    ]
}

/// The kernel for old processors, which takes other code paths without PCIDs and large pages.
const NEHALEM: Kernel = Kernel { build: Build::Release, platform: Platform::Vtx(Processor::Nehalem) };

/// Our kernels have none that can be shown; a user's may.
fn mended_defects(context: &Context, kernel: Kernel) -> Result<Outcome> {
    let answers = boots::ask(&context.project, &context.prefix(kernel)?)?;
    let (mut passed, mut failed, mut left) = (0, Vec::new(), Vec::new());
    for answer in &answers.checks {
        match &answer.verdict {
            Verdict::Passed => passed += 1,
            Verdict::Failed(what) => failed.push(format!("{}: {}: {what}", answer.defect, answer.check)),
            Verdict::LeftOut(why) => left.push(format!("; left out: {}: {why}", answer.check)),
        }
    }
    let invepts = answers.invalid_invepts;
    if invepts > 0 {
        failed.push(format!("invept: {invepts} lines \"INVEPT: ...\" in the emulator's log: nothing is flushed"));
    }
    ensure!(passed > 0, "no check has passed:\n{}", failed.join("\n"));
    if kernel::are_own() {
        return Ok(Outcome::Passed(format!("{passed} checks; {} defects{}", failed.len(), left.concat())));
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(Outcome::Passed(format!("{passed} checks{}", left.concat())))
}
