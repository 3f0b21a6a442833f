//! Refuses a system that a defect of the user's kernel endangers, unless its description accepts that. A kernel that
//! nobody has asked may have any of them, and runs one VM without devices, on a real board one with large pages;
//! docs/decisions/0017 has the reasons. Our own
//! kernels have none that can be shown, as the tests show.

use std::ops::Range;

use capdl_spec::host::{self, DEFECTS, Defect, Endangered, LARGE_PAGES, Mistake, Mistakes, System};
use miette::Result;

use super::{Finding, Findings, kept};
use crate::kernel::{self, Build, Kernel};
use crate::progress::say;
use crate::project::Project;

/// Looks up what is known of the kernel; says what concerns this system, and refuses it where that endangers it. The
/// system is named as on the command line.
pub fn consult(project: &Project, name: &str, build: Build) -> Result<()> {
    let system = host::load(&project.system(name)?)?;
    if !kernel::are_own() {
        return refuse(large_pages_for_nothing(&system, None).into_iter().collect());
    }
    let prefix = kernel::prefix(project, Kernel::of(&system, build))?;
    let known = kept::known(project, &prefix)?;
    for remark in prefix.remark().into_iter().chain(remarks(&system, known.as_ref())) {
        say(&remark);
    }
    let finding = known.as_ref().and_then(|known: &Findings| known.get(LARGE_PAGES));
    let mut mistakes = dangers(&system, known.as_ref());
    mistakes.extend(large_pages_for_nothing(&system, Some(finding)));
    refuse(mistakes)
}

fn refuse(mistakes: Vec<Mistake>) -> Result<()> {
    if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes).report()) }
}

/// To accept this defect puts all guests into large pages, which on a kernel without it endangers the machine for nothing.
/// `finding` is `None` on a kernel of ours, and what is known of another one.
fn large_pages_for_nothing(system: &System, finding: Option<Option<&Finding>>) -> Option<Mistake> {
    let name = system.accept_kernel_defects.iter().find(|name| name.get_ref() == LARGE_PAGES)?;
    if !matches!(finding, None | Some(Some(Finding::Mended))) {
        return None;
    }
    let message = "this kernel is without the defect, and accepting it puts guests into large pages".to_owned();
    let remedy = "leave it out; a VM that is to have large pages says large_pages = true";
    Some(Mistake::new(&system.source, name.span(), message, remedy))
}

/// Whether a kernel has a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suspicion {
    /// A check has shown it.
    Shown,
    /// No check of it has run.
    Unasked,
}

/// A kernel's defects that endanger a system in one place.
struct Danger {
    suspicion: Suspicion,
    span: Range<usize>,
    what: String,
    defects: Vec<&'static Defect>,
}

/// The mistakes of building this system on this kernel, one for each endangered place.
fn dangers(system: &System, known: Option<&Findings>) -> Vec<Mistake> {
    let mut dangers: Vec<Danger> = Vec::new();
    for defect in DEFECTS {
        let Some(suspicion) = suspicion(defect, known, system) else { continue };
        let Some((span, what)) = system.endangered_by(defect) else { continue };
        match dangers.iter_mut().find(|danger| danger.span == span && danger.suspicion == suspicion) {
            Some(danger) => danger.defects.push(defect),
            None => dangers.push(Danger { suspicion, span, what, defects: vec![defect] }),
        }
    }
    dangers.into_iter().map(|danger| mistake(system, danger)).collect()
}

/// Why a system may have to be refused for a defect; `None` where the kernel is without it, where no check could ever
/// tell, and where nothing but the only guest is at stake before anybody has asked.
fn suspicion(defect: &Defect, known: Option<&Findings>, system: &System) -> Option<Suspicion> {
    match known.and_then(|known| known.get(defect.name)) {
        Some(Finding::Present(_)) => Some(Suspicion::Shown),
        Some(Finding::Mended | Finding::NotShown(_)) => None,
        None if super::NOT_SHOWN.iter().any(|(name, _)| *name == defect.name) => None,
        None if defect.endangers == Endangered::Guests && system.is_one_vm_without_devices() => None,
        None => Some(Suspicion::Unasked),
    }
}

fn mistake(system: &System, danger: Danger) -> Mistake {
    let Danger { suspicion, span, what, defects } = danger;
    let names: Vec<String> = defects.iter().map(|defect| format!("`{}`", defect.name)).collect();
    let (names, them) = (names.join(", "), if defects.len() == 1 { "it" } else { "them" });
    let accepted = system.accept_kernel_defects.iter().map(|name| name.get_ref().as_str());
    let accepted: Vec<String> =
        accepted.chain(defects.iter().map(|defect| defect.name)).map(|name| format!("\"{name}\"")).collect();
    let accept = format!("accept_kernel_defects = [{}]", accepted.join(", "));
    let (message, remedy) = match (suspicion, defects.as_slice()) {
        (Suspicion::Shown, [one]) => (
            format!("{what}, and this kernel has the defect {names}: {}", one.means),
            format!("docs/kernel-defects.md says how to mend it; to build the system in spite of it, write {accept}"),
        ),
        (Suspicion::Shown, _) => (
            format!("{what}, and this kernel has the defects {names}"),
            format!(
                "docs/kernel-defects.md says how to mend them; to build the system in spite of them, write {accept}"
            ),
        ),
        (Suspicion::Unasked, _) => (
            format!("{what}, and it is not known whether this kernel has what endangers that: {names}"),
            format!("run `cargo xtask kernel-check`, once for a kernel; or, to accept {them}, write {accept}"),
        ),
    };
    Mistake::new(&system.source, span, message, remedy)
}

/// What is worth a line and no refusal.
fn remarks(system: &System, known: Option<&Findings>) -> Vec<String> {
    let Some(known) = known else {
        return vec!["nobody has asked this kernel for its defects: `cargo xtask kernel-check` does, once".to_owned()];
    };
    let names = |wanted: &dyn Fn(&Defect) -> bool| -> Option<String> {
        let names: Vec<&str> = DEFECTS.iter().filter(|defect| wanted(defect)).map(|defect| defect.name).collect();
        if names.is_empty() { None } else { Some(names.join(", ")) }
    };
    let present = |defect: &Defect| matches!(known.get(defect.name), Some(Finding::Present(_)));
    let unshown = |defect: &Defect| matches!(known.get(defect.name), Some(Finding::NotShown(_)));
    let accepted = names(&|defect| present(defect) && system.accepts(defect));
    let hostile =
        names(&|defect| present(defect) && defect.endangers == Endangered::HostileProcesses && !system.accepts(defect));
    let unknown = names(&|defect| unshown(defect) && system.endangered_by(defect).is_some());
    let unasked = names(&|defect| !known.contains_key(defect.name));
    [
        accepted.map(|names| format!("defects of this kernel that the description accepts: {names}")),
        hostile.map(|names| format!("defects of this kernel that a hostile process could use: {names}")),
        unknown.map(|names| format!("defects that could not be shown, and would endanger this system: {names}")),
        unasked.map(|names| {
            format!("this kernel was asked by an earlier `cargo xtask kernel-check`, which did not know of: {names}")
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use capdl_spec::host::Source;

    const ONE: &str = "board = \"bochs\"\n[[vm]]\nname = \"one\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n";
    const TWO: &str = "[[vm]]\nname = \"two\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n";

    fn system(text: &str) -> System {
        host::parse(Source { path: "x.toml".into(), text: text.into() }).unwrap()
    }

    /// All mended but these.
    fn with(present: &[&str]) -> Findings {
        let finding = |name: &str| match present.contains(&name) {
            true => Finding::Present(Vec::new()),
            false => Finding::Mended,
        };
        DEFECTS.iter().map(|defect| (defect.name.to_owned(), finding(defect.name))).collect()
    }

    fn said(text: &str, known: Option<&Findings>) -> String {
        Mistakes(dangers(&system(text), known)).plain()
    }

    #[test]
    fn two_vms_are_refused_where_cr2_is_lost_and_one_is_not() {
        let known = with(&["cr2", "flags"]);
        assert_eq!(said(ONE, Some(&known)), "");
        let two = said(&[ONE, TWO].concat(), Some(&known));
        assert!(two.starts_with("x.toml:7: `two` is a second VM, and this kernel has the defect `cr2`: "), "{two}");
        assert!(two.contains("write accept_kernel_defects = [\"cr2\"]"), "{two}");
    }

    #[test]
    fn what_the_description_accepts_is_built_and_named() {
        let text = format!("accept_kernel_defects = [\"cr2\"]\n{ONE}{TWO}");
        let known = with(&["cr2", "flags"]);
        assert_eq!(said(&text, Some(&known)), "");
        let remarks = remarks(&system(&text), Some(&known));
        assert_eq!(remarks.len(), 2, "{remarks:?}");
        assert!(remarks[0].ends_with("accepts: cr2") && remarks[1].ends_with("could use: flags"), "{remarks:?}");
    }

    #[test]
    fn the_remedy_keeps_what_is_accepted_already() {
        let text = format!("accept_kernel_defects = [\"ports\"]\n{ONE}{TWO}");
        let said = said(&text, Some(&with(&["cr2"])));
        assert!(said.contains("accept_kernel_defects = [\"ports\", \"cr2\"]"), "{said}");
    }

    #[test]
    fn memory_that_cannot_be_revoked_refuses_the_guest_that_has_it() {
        let known = with(&["ports", "invept", "ept-flush"]);
        let text = format!("{ONE}pci_devices = [\"00:03.0\"]\n");
        let said = said(&text, Some(&known));
        assert!(said.starts_with("x.toml:6: `one` has the device 00:03.0, and this kernel has the defects"), "{said}");
        assert!(said.contains("`invept`, `ept-flush`") && !said.contains("`ports`"), "{said}");
    }

    #[test]
    fn a_kernel_that_nobody_has_asked_runs_one_vm_without_devices() {
        let said = said(&[ONE, TWO].concat(), None);
        assert!(said.contains("x.toml:7: `two` is a second VM, and it is not known whether"), "{said}");
        assert!(said.contains("x.toml:3: `one` is a VM, and it is not known whether"), "{said}");
        assert!(said.contains("`cr2`, `time-slice`") && said.contains("run `cargo xtask kernel-check`"), "{said}");
        assert!(
            super::tests::said(&format!("{ONE}pci_devices = [\"00:03.0\"]\n"), None).contains("`invept`, `copies`")
        );
        assert_eq!(super::tests::said(ONE, None), "");
        assert_eq!(remarks(&system(ONE), None).len(), 1);
    }

    #[test]
    fn a_defect_that_a_kept_result_does_not_know_yet_has_to_be_asked_for() {
        let mut known = with(&[]);
        known.remove("time-slice");
        let said = said(&[ONE, TWO].concat(), Some(&known));
        assert!(said.contains("it is not known whether") && said.contains("endangers that: `time-slice`"), "{said}");
    }

    #[test]
    fn large_pages_are_accepted_where_the_kernel_cannot_do_without_them() {
        let accepting = system(&format!("accept_kernel_defects = [\"large-pages\"]\n{ONE}"));
        let said =
            |finding| large_pages_for_nothing(&accepting, finding).map(|mistake| Mistakes(vec![mistake]).plain());
        let refused = "x.toml:1: this kernel is without the defect";
        assert!(said(None).is_some_and(|said| said.starts_with(refused)));
        let [mended, present] = [Finding::Mended, Finding::Present(Vec::new())];
        assert!(said(Some(Some(&mended))).is_some_and(|said| said.starts_with(refused)));
        assert_eq!(said(Some(Some(&present))), None);
        assert_eq!(said(Some(None)), None, "nobody has asked it");
        assert!(large_pages_for_nothing(&system(ONE), None).is_none());
    }

    #[test]
    fn what_cannot_be_shown_is_named_and_refuses_nothing() {
        let mut known = with(&[]);
        known.insert("ept-flush".into(), Finding::NotShown("Bochs".into()));
        let text = format!("{ONE}pci_devices = [\"00:03.0\"]\n");
        assert_eq!(said(&text, Some(&known)), "");
        let remarks = remarks(&system(&text), Some(&known));
        assert!(remarks.len() == 1 && remarks[0].ends_with("this system: ept-flush"), "{remarks:?}");
        assert!(!said(&text, None).contains("ept-flush"));
    }
}
