//! What the build tool uses.

use std::path::Path;

pub use crate::{
    audit,
    compile::{
        binaries::{Binaries, Files},
        bundle::Bundle,
        compile,
        error::CompileError,
        part::{Part, Role},
        plan, planned,
    },
    description::{
        board::{BOARDS, Board, Processor},
        console,
        debian::{Architecture, Debian, Flavour, Release, Stock, What},
        defects::{DEFECTS, Defect, Endangered, LARGE_PAGES},
        emulator::{Card, CardModel, Emulator},
        guest::{Additions, Form, Image, Origin},
        mistake::{self, Mistake, Mistakes},
        snippet,
        system::System,
        text::Source,
    },
    draw, map,
};
use crate::{audit::never, checks, description::form};

/// Reads, parses and checks a description.
pub fn load(path: &Path) -> miette::Result<System> {
    parse(Source::read(path)?).map_err(Mistakes::report)
}

/// Parses and checks a description. Its name is the file's, without the suffix.
pub fn parse(source: Source) -> Result<System, Mistakes> {
    let system = parse_all_but_flows(source)?;
    forbidden_flows(&system)?;
    Ok(system)
}

/// Refuses a system in which something flows that its policy forbids.
pub fn forbidden_flows(system: &System) -> Result<(), Mistakes> {
    let broken = never::broken(system);
    if broken.is_empty() { Ok(()) } else { Err(Mistakes(broken)) }
}

/// As [`parse`], without [`forbidden_flows`]: for who shows what flows.
pub fn parse_all_but_flows(source: Source) -> Result<System, Mistakes> {
    let mut system = form::parse(&source)?;
    system.name = source.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    system.source = source;
    system.settle_guests();
    system.expand()?;
    checks::check(&system)?;
    Ok(system)
}
