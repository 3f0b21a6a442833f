//! What the build tool uses.

use std::path::Path;

pub use crate::{
    binaries::{Binaries, Files},
    board::Processor,
    bundle::Bundle,
    compile::{compile, plan},
    draw,
    emulator::{Card, CardModel, Emulator},
    error::CompileError,
    guest::{Form, Image, Origin, Stock},
    map,
    mistake::{Mistake, Mistakes},
    part::{Part, Role},
    system::System,
    text::Source,
};
use crate::{checks, form};

/// Reads, parses and checks a description.
pub fn load(path: &Path) -> miette::Result<System> {
    parse(Source::read(path)?).map_err(Mistakes::report)
}

/// Parses and checks a description. Its name is the file's, without the suffix.
pub fn parse(source: Source) -> Result<System, Mistakes> {
    let mut system = form::parse(&source)?;
    system.name = source.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    system.source = source;
    checks::check(&system)?;
    Ok(system)
}
