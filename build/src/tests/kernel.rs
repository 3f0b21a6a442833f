//! The kernel's known defects: tests/kernel runs as the root task, on every kernel in Bochs.

use std::collections::{BTreeMap, BTreeSet};

use capdl_spec::host::Processor;
use miette::{Result, ensure};

use crate::defects::boots::{self, Verdict};
use crate::kernel::{self, Build, Kernel, Platform};
use crate::project;
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

/// Our kernels have none that can be shown. A user's may have those that upstream has not mended.
fn mended_defects(context: &Context, kernel: Kernel) -> Result<Outcome> {
    let answers = boots::ask(&context.project, &context.prefix(kernel)?)?;
    let (mut passed, mut failed, mut left) = (0, Vec::new(), BTreeMap::new());
    let mut present = BTreeSet::new();
    for answer in &answers.checks {
        match &answer.verdict {
            Verdict::Passed => passed += 1,
            Verdict::Failed(what) => {
                present.insert(answer.defect.as_str());
                failed.push(format!("{}: {}: {what}", answer.defect, answer.check));
            }
            Verdict::LeftOut(why) => *left.entry(why).or_insert(0) += 1,
        }
    }
    let invepts = answers.invalid_invepts;
    if invepts > 0 {
        present.insert("invept");
        failed.push(format!("invept: {invepts} lines \"INVEPT: ...\" in the emulator's log: nothing is flushed"));
    }
    let left: String = left.into_iter().map(|(why, count)| format!("; {count} left out: {why}")).collect();
    if !kernel::are_own() {
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        return Ok(Outcome::Passed(format!("{passed} checks{left}")));
    }
    let page = project::read(&context.project.root.join("docs/kernel-defects.md"))?;
    let page = String::from_utf8_lossy(&page);
    let unexpected: Vec<&str> = mended(&page).into_iter().filter(|name| present.contains(name)).collect();
    ensure!(
        unexpected.is_empty(),
        help = "docs/kernel-defects.md calls them mended in 16.0.0: is this an older kernel, or is a check wrong?",
        "present: {}\n{}",
        unexpected.join(", "),
        failed.join("\n")
    );
    let names: Vec<&str> = present.into_iter().collect();
    Ok(Outcome::Passed(format!("{passed} checks; {} defects: {}{left}", names.len(), names.join(", "))))
}

/// The defects that a current seL4 is without, by the sections of docs/kernel-defects.md.
fn mended(page: &str) -> Vec<&str> {
    let sections = page.split("\n### `").skip(1).filter_map(|section| section.split_once('`'));
    sections.filter(|(_, text)| text.trim_start().starts_with("16.0.0: mended, ")).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_which_defects_a_current_kernel_is_without() {
        let page = include_str!("../../../docs/kernel-defects.md");
        let mended = mended(page);
        assert!(mended.contains(&"time-slice") && mended.contains(&"dead-space"), "{mended:?}");
        assert!(!mended.contains(&"cr2") && !mended.contains(&"bases"), "{mended:?}");
    }
}
