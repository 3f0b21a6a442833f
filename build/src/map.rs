//! `cargo xtask map`: the authority of every process in a system, as text and as a drawing.
//!
//! capdl-spec makes both from the description alone; nothing is built.

use std::path::Path;

use capdl_spec::host;
use miette::{Result, miette};

use crate::progress;
use crate::project::{self, Project};

/// The map of a system as text; also writes the drawing to `svg`, if given.
pub fn map(project: &Project, name: &str, svg: Option<&Path>) -> Result<String> {
    let system = host::load(&project.system(name)?)?;
    let spec = host::plan(&system)?;
    if let Some(file) = svg {
        draw(file, &host::draw::svg(&system, &spec))?;
    }
    Ok(host::map::text(&system, &spec))
}

/// Writes a drawing to a file.
pub fn draw(file: &Path, svg: &str) -> Result<()> {
    if file.extension().is_none_or(|extension| extension != "svg") {
        return Err(miette!("the drawing is an SVG: {} should end in .svg", file.display()));
    }
    project::write_named(file, svg.as_bytes())?;
    progress::say(&format!("drawn in {}", file.display()));
    Ok(())
}
