//! Which of the known defects (of capdl-spec) a kernel has: `cargo xtask kernel-check` finds out (`boots`), the
//! result is kept by the hash of the kernel (`kept`), and a system that one of them endangers is refused (`consult`).

pub mod boots;
mod consult;
mod kept;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use capdl_spec::host::DEFECTS;
use miette::Result;

use crate::kernel::{self, Build, Kernel};
use crate::packages::Purpose;
use crate::progress;
use crate::project::Project;
use crate::setup;
use boots::{Answers, Verdict};

pub use consult::consult;

/// What is known of one defect on a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The kernel is without it.
    Mended,
    /// The kernel has it; what was seen.
    Present(Vec<String>),
    /// It cannot be shown; why.
    NotShown(String),
}

/// What is known of a kernel, by the defects' names.
pub type Findings = BTreeMap<String, Finding>;

/// Defects that no check of tests/kernel looks for, and why.
const NOT_SHOWN: [(&str, &str); 6] = [
    ("ept-flush", "Bochs drops all translations of a guest at each exit"),
    ("ept-types", "Bochs has no caches"),
    ("io-tables", "Bochs has no IOMMU"),
    ("interrupts", "it takes a device that writes to the local APIC's addresses, which Bochs has not"),
    ("nmi", "it takes a device that writes to the local APIC's addresses, which Bochs has not"),
    ("null-ept", "what lies behind the variable depends on the kernel's link"),
];

/// `cargo xtask kernel-check`: asks the kernel, keeps the result, and returns it as a table.
pub fn check(project: &Project, kernel: Kernel) -> Result<String> {
    setup::ensure(&[Purpose::Kernel, Purpose::Image, Purpose::Bochs])?;
    let prefix = kernel::prefix(project, kernel)?;
    let findings = findings(&boots::ask(project, &prefix)?);
    let place = kept::keep(project, &prefix, &findings)?;
    progress::say(&format!("the result is kept in {}", place.display()));
    Ok(table::table(&format!("{} ({})", prefix.about(), prefix.dir().display()), &findings))
}

/// The defects that the user's release kernel is known to have.
pub fn present(project: &Project) -> Result<BTreeSet<String>> {
    if !kernel::are_own() {
        return Ok(BTreeSet::new());
    }
    let known = kept::known(project, &kernel::prefix(project, Build::Release.into())?)?.unwrap_or_default();
    let present = known.into_iter().filter(|(_, finding)| matches!(finding, Finding::Present(_)));
    Ok(present.map(|(name, _)| name).collect())
}

/// What the answers say of each defect.
fn findings(answers: &Answers) -> Findings {
    DEFECTS.iter().map(|defect| (defect.name.to_owned(), finding(defect.name, answers))).collect()
}

fn finding(name: &str, answers: &Answers) -> Finding {
    let (mut seen, mut passed, mut left) = (Vec::new(), false, None);
    for answer in answers.checks.iter().filter(|answer| answer.defect == name) {
        match &answer.verdict {
            Verdict::Passed => passed = true,
            Verdict::Failed(what) => seen.push(format!("{}: {what}", answer.check)),
            Verdict::LeftOut(why) => left = Some(why.clone()),
        }
    }
    if name == "invept" && answers.invalid_invepts > 0 {
        seen.push(format!("{} INVEPTs with an invalid descriptor", answers.invalid_invepts));
    }
    let reason = NOT_SHOWN.iter().find(|(unshown, _)| *unshown == name).map(|(_, why)| (*why).to_owned());
    match (seen.is_empty(), passed) {
        (false, _) => Finding::Present(seen),
        (true, true) => Finding::Mended,
        (true, false) => Finding::NotShown(left.or(reason).unwrap_or_else(|| "its checks did not run".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project;

    fn answers(checks: &[(&str, Verdict)], invalid_invepts: usize) -> Answers {
        let answer = |(defect, verdict): &(&str, Verdict)| boots::Answer {
            defect: (*defect).into(),
            check: "a check".into(),
            verdict: verdict.clone(),
        };
        Answers { checks: checks.iter().map(answer).collect(), invalid_invepts }
    }

    #[test]
    fn one_failed_check_among_others_is_a_defect() {
        let failed = Verdict::Failed("reason: c, not 1e".into());
        let answers = answers(&[("ports", Verdict::Passed), ("ports", failed), ("cr2", Verdict::Passed)], 0);
        let found = findings(&answers);
        assert_eq!(found["ports"], Finding::Present(vec!["a check: reason: c, not 1e".into()]));
        assert_eq!(found["cr2"], Finding::Mended);
        assert_eq!(found["ept-types"], Finding::NotShown("Bochs has no caches".into()));
        assert_eq!(found["flags"], Finding::NotShown("its checks did not run".into()));
        assert_eq!(found.len(), DEFECTS.len());
    }

    #[test]
    fn a_check_that_was_left_out_says_nothing_unless_another_ran() {
        let left = || Verdict::LeftOut("no FSGSBASE".into());
        let alone = findings(&answers(&[("bases", left())], 0));
        assert_eq!(alone["bases"], Finding::NotShown("no FSGSBASE".into()));
        let both = findings(&answers(&[("bases", left()), ("bases", Verdict::Passed)], 0));
        assert_eq!(both["bases"], Finding::Mended);
    }

    #[test]
    fn the_emulators_log_shows_an_invalid_invept() {
        let found = findings(&answers(&[("invept", Verdict::Passed)], 66));
        assert_eq!(found["invept"], Finding::Present(vec!["66 INVEPTs with an invalid descriptor".into()]));
    }

    /// The names in the sources of tests/kernel.
    fn checked() -> Vec<String> {
        let folder = Project::find().unwrap().root.join("tests/kernel/src");
        let mut names = Vec::new();
        for file in crate::cache::sources_below(&folder).unwrap() {
            let text = String::from_utf8(project::read(&file).unwrap()).unwrap();
            let found = text.split("Check { ").chain(text.split("Check {\n")).skip(1);
            let quoted = found.filter_map(|rest| rest.trim_start().strip_prefix("defect: \"")?.split_once('"'));
            names.extend(quoted.map(|(name, _)| name.to_owned()));
        }
        names
    }

    #[test]
    fn each_defect_has_a_check_or_a_reason_and_a_section_of_the_documentation() {
        let checked = checked();
        assert!(checked.len() > 70, "{checked:?}");
        for name in &checked {
            assert!(DEFECTS.iter().any(|defect| defect.name == name), "{name}");
        }
        let page = project::read(&Project::find().unwrap().root.join("docs/kernel-defects.md")).unwrap();
        let page = String::from_utf8(page).unwrap();
        for defect in DEFECTS {
            let name = defect.name;
            let reason = NOT_SHOWN.iter().any(|(unshown, _)| *unshown == name);
            assert_ne!(checked.iter().any(|checked| checked == name), reason, "{name}");
            assert!(page.lines().any(|line| line == format!("### `{name}`")), "{name} has no section");
        }
    }
}
