//! What the build tool uses.

use std::{fs, path::Path};

use crate::checks;
pub use crate::{
    board::Processor,
    bundle::Bundle,
    compile::{Binaries, CompileError, Files, compile, plan},
    draw,
    emulator::{Card, CardModel, Emulator},
    guest::{Form, Image, Origin, Stock},
    map,
    mistake::{Mistake, Mistakes},
    parts::{Part, Role, Service},
    system::{Source, System},
};

/// A description cannot be read at all.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("cannot read {path}: {error}")]
#[diagnostic(help("descriptions are the systems/NAME.toml files"))]
struct Unreadable {
    path: String,
    error: std::io::Error,
}

/// Reads, parses and checks a description.
pub fn load(path: &Path) -> miette::Result<System> {
    let text =
        fs::read_to_string(path).map_err(|error| Unreadable { path: path.to_string_lossy().to_string(), error })?;
    let source = Source { path: path.to_path_buf(), text };
    parse(source).map_err(|mut mistakes| match mistakes.0.len() {
        1 => mistakes.0.remove(0).into(),
        _ => mistakes.into(),
    })
}

/// Parses and checks a description. Its name is the file's, without the suffix.
pub fn parse(source: Source) -> Result<System, Mistakes> {
    let parsed: Result<System, _> = toml::from_str(&source.text);
    let mut system = parsed.map_err(|error| Mistakes(vec![Mistake::of_form(&source, &error)]))?;
    system.name = source.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    system.source = source;
    checks::check(&system)?;
    Ok(system)
}
