//! Keeps what is known of a kernel, by the hash of its image: in the prefix if that can be written, otherwise in the
//! target directory, as for the kernels that the build itself makes there.

use std::path::{Path, PathBuf};

use miette::{Result, miette};
use serde_json::{Map, Value, json};

use super::{Finding, Findings};
use crate::cache;
use crate::kernel::{self, Prefix};
use crate::project::{self, Project};

/// The file's name in a prefix.
const FILE: &str = "portcullis-kernel-check.json";

/// Keeps the findings; returns where.
pub fn keep(project: &Project, prefix: &Prefix, findings: &Findings) -> Result<PathBuf> {
    let kernel = cache::fingerprint(&prefix.kernel())?;
    let text = format!("{:#}\n", to_json(&kernel, findings));
    let [own, ours] = places(project, prefix, &kernel);
    // A prefix of ours is hashed as a whole, and would be made again.
    if kernel::are_own() && project::write(&own, text.as_bytes()).is_ok() {
        return Ok(own);
    }
    project::write(&ours, text.as_bytes())?;
    Ok(ours)
}

/// What is known of this kernel. `None` if nobody has asked it, or asked another kernel in its place.
pub fn known(project: &Project, prefix: &Prefix) -> Result<Option<Findings>> {
    let kernel = cache::fingerprint(&prefix.kernel())?;
    for place in places(project, prefix, &kernel) {
        let Ok(bytes) = std::fs::read(&place) else { continue };
        let findings = from_json(&kernel, &bytes).map_err(|why| damaged(&place, &why))?;
        if findings.is_some() {
            return Ok(findings);
        }
    }
    Ok(None)
}

fn places(project: &Project, prefix: &Prefix, kernel: &str) -> [PathBuf; 2] {
    [prefix.dir().join(FILE), project.target.join("kernel-checks").join(kernel).with_extension("json")]
}

fn damaged(place: &Path, why: &str) -> miette::Report {
    let help = "remove it, and run `cargo xtask kernel-check` again";
    miette!(help = help, "{} is not a result of `cargo xtask kernel-check`: {why}", place.display())
}

fn to_json(kernel: &str, findings: &Findings) -> Value {
    let defects: Map<String, Value> = findings
        .iter()
        .map(|(name, finding)| {
            let value = match finding {
                Finding::Mended => json!({ "state": "mended" }),
                Finding::Present(seen) => json!({ "state": "present", "seen": seen }),
                Finding::NotShown(why) => json!({ "state": "not shown", "why": why }),
            };
            (name.clone(), value)
        })
        .collect();
    json!({ "kernel": kernel, "defects": defects })
}

/// `None` if it is another kernel's.
fn from_json(kernel: &str, bytes: &[u8]) -> Result<Option<Findings>, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if value["kernel"].as_str().ok_or("it names no kernel")? != kernel {
        return Ok(None);
    }
    let defects = value["defects"].as_object().ok_or("it has no defects")?;
    let finding = |(name, value): (&String, &Value)| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let finding = match value["state"].as_str() {
            Some("mended") => Finding::Mended,
            Some("present") => Finding::Present(value["seen"].as_array().into_iter().flatten().map(text).collect()),
            Some("not shown") => Finding::NotShown(text(&value["why"])),
            _ => return Err(format!("`{name}` has no state")),
        };
        Ok((name.clone(), finding))
    };
    defects.iter().map(finding).collect::<Result<_, String>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Findings {
        let seen = vec!["a: b".to_owned(), "c".to_owned()];
        [
            ("cr2".to_owned(), Finding::Present(seen)),
            ("flags".to_owned(), Finding::Mended),
            ("ept-types".to_owned(), Finding::NotShown("no caches".into())),
        ]
        .into()
    }

    #[test]
    fn what_is_kept_is_known_again_of_the_same_kernel_only() {
        let text = to_json("abc", &some()).to_string();
        assert_eq!(from_json("abc", text.as_bytes()), Ok(Some(some())));
        assert_eq!(from_json("abd", text.as_bytes()), Ok(None));
    }

    #[test]
    fn a_damaged_file_is_neither_a_clean_bill_nor_ignored() {
        let text = to_json("abc", &some()).to_string();
        for end in 0..text.len() {
            assert!(from_json("abc", &text.as_bytes()[..end]).is_err(), "{end}");
        }
        for wrong in ["{}", "[]", r#"{"kernel":"abc"}"#, r#"{"kernel":"abc","defects":{"cr2":{}}}"#] {
            assert!(from_json("abc", wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
