//! The findings as a table: what the kernel has first, then what could not be shown, then what is mended.

use std::fmt::Write as _;

use capdl_spec::host::{DEFECTS, Defect};

use super::{Finding, Findings};

/// The table for one kernel.
pub fn table(kernel: &str, findings: &Findings) -> String {
    let of = |defect: &Defect| findings.get(defect.name);
    let present = DEFECTS.iter().filter(|defect| matches!(of(defect), Some(Finding::Present(_))));
    let unshown = DEFECTS.iter().filter(|defect| matches!(of(defect), Some(Finding::NotShown(_))));
    let mended = DEFECTS.iter().filter(|defect| matches!(of(defect), Some(Finding::Mended)));
    let counts = [present.clone().count(), unshown.clone().count(), mended.clone().count()];
    let mut text = format!("{kernel}\n{:20} {:10} what it means; which systems it endangers\n", "defect", "");
    for defect in present.chain(unshown).chain(mended) {
        row(&mut text, defect, of(defect));
    }
    let [present, unshown, mended] = counts;
    let _ =
        write!(text, "{present} present, {unshown} not shown here, {mended} mended; docs/kernel-defects.md has more");
    text
}

fn row(text: &mut String, defect: &Defect, finding: Option<&Finding>) {
    let Some(finding) = finding else { return };
    let Defect { name, means, endangers } = defect;
    let (state, notes) = match finding {
        Finding::Mended => ("mended", Vec::new()),
        Finding::Present(seen) => ("PRESENT", seen.iter().map(|seen| format!("seen: {seen}")).collect()),
        Finding::NotShown(why) => ("not shown", vec![format!("not shown here: {why}")]),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{name:20} {state:10} {means}; {}", endangers.describe());
    for note in notes {
        let note = shortened(&note);
        let _ = writeln!(text, "{:31} {note}", "");
    }
}

/// The beginning of a long note; all of it is in the kept result.
fn shortened(note: &str) -> String {
    const MOST: usize = 160;
    let begin: String = note.chars().take(MOST).collect();
    if begin.len() < note.len() { begin + "…" } else { begin }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_has_comes_first_with_what_was_seen() {
        let mut findings: Findings = DEFECTS.iter().map(|defect| (defect.name.to_owned(), Finding::Mended)).collect();
        findings.insert("ports".into(), Finding::Present(vec!["a port is closed: c, not 1e".into()]));
        findings.insert("ept-types".into(), Finding::NotShown("no caches".into()));
        let text = table("a prefix", &findings);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].starts_with("ports                PRESENT    ports that were enabled before"), "{text}");
        assert!(lines[2].ends_with("after revocation; none: user level avoids it"), "{text}");
        assert_eq!(lines[3].trim(), "seen: a port is closed: c, not 1e");
        assert!(lines[4].starts_with("ept-types            not shown "), "{text}");
        assert!(lines[6].starts_with("cr2                  mended "), "{text}");
        let mended = DEFECTS.len() - 2;
        assert!(text.contains(&format!("\n1 present, 1 not shown here, {mended} mended; ")), "{text}");
    }
}
