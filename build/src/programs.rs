//! Checks, before anything is built, that the workspace has the packages that a description names as components'
//! programs.

use std::ops::Range;

use capdl_spec::host::{Mistake, Mistakes, System, mistake};
use miette::{IntoDiagnostic, Result};
use serde_json::Value;

use crate::process;
use crate::project::Project;

/// A package of the workspace.
struct CargoPackage {
    name: String,
    /// Whether it has a program, and the feature with which programs for an image are built.
    program: bool,
}

/// Refuses components whose package cannot be built for an image.
pub fn check(project: &Project, system: &System) -> Result<()> {
    if system.components.iter().all(|component| component.image_is_path()) {
        return Ok(());
    }
    let mut cargo = process::cargo();
    cargo.current_dir(&project.root).args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let said = process::output(cargo)?;
    // Warnings are on their own lines.
    let metadata = said.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    let mistakes = wrong(system, &packages(&serde_json::from_str(metadata).into_diagnostic()?));
    if mistakes.is_empty() { Ok(()) } else { Err(Mistakes(mistakes).report()) }
}

/// The packages that `cargo metadata` lists (the Cargo book, "cargo metadata").
fn packages(metadata: &Value) -> Vec<CargoPackage> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let package = |package: &Value| {
        let targets = list(package, "targets");
        let bin = targets.iter().any(|target| list(target, "kind").iter().any(|kind| kind == "bin"));
        let feature = package.get("features").is_some_and(|features| features.get("image").is_some());
        Some(CargoPackage { name: package.get("name")?.as_str()?.to_owned(), program: bin && feature })
    };
    list(metadata, "packages").iter().filter_map(package).collect()
}

/// Components whose package is missing, or has no program for an image.
fn wrong(system: &System, packages: &[CargoPackage]) -> Vec<Mistake> {
    let fitting: Vec<&str> =
        packages.iter().filter(|package| package.program).map(|package| package.name.as_str()).collect();
    let named =
        system.components.iter().filter(|component| !component.image_is_path()).map(|component| &component.image);
    let unfit = named.filter(|image| !fitting.contains(&image.get_ref().as_str()));
    let mistake = |(name, span): (&String, Range<usize>)| {
        let (message, remedy) = if packages.iter().any(|package| package.name == *name) {
            let message = format!("the package `{name}` has no program for an image");
            (message, "it needs a src/main.rs and the feature `image`, as tests/components has them".to_owned())
        } else {
            let file = format!("a file beside the description is written \"./{name}\"");
            let remedy = match mistake::close(name, &fitting) {
                Some(close) => format!("did you mean `{close}`? Or, {file}"),
                None => format!("add it to the members in Cargo.toml; {file}"),
            };
            (format!("no package of the workspace is called `{name}`"), remedy)
        };
        Mistake::new(&system.source, span, message, remedy)
    };
    unfit.map(|image| (image.get_ref(), image.span())).map(mistake).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use capdl_spec::host::{self, Source};

    fn system(image: &str) -> System {
        let text = format!("board = \"bochs\"\n[[component]]\nname = \"probe\"\nimage = \"{image}\"\n");
        host::parse(Source { path: Path::new("x.toml").into(), text }).unwrap()
    }

    fn said(image: &str) -> Option<String> {
        check(&Project::find().unwrap(), &system(image)).err().map(|error| format!("{error:?}"))
    }

    #[test]
    fn a_component_is_a_package_with_a_program_for_an_image() {
        assert_eq!(said("components"), None);
        for (image, message, remedy) in [
            ("component", "no package of the workspace is called `component`", "did you mean `components`?"),
            ("zzz", "no package of the workspace is called `zzz`", "add it to the members in Cargo.toml"),
            ("xtask", "the package `xtask` has no program for an image", "the feature `image`"),
            ("layout", "the package `layout` has no program for an image", "the feature `image`"),
        ] {
            let said = said(image).unwrap();
            for part in [message, remedy, "x.toml:4:9"] {
                assert!(said.contains(part), "{image}: {said}");
            }
        }
    }
}
