//! `cargo xtask map`: who may do what in a system, as text, and as a drawing.
//!
//! Both come from capdl-spec, from the description alone: nothing is built.

use std::path::Path;

use capdl_spec::host;
use miette::Result;

use crate::project::Project;

/// The map of a system as text; with `svg`, the drawing is written there too.
pub fn map(project: &Project, name: &str, svg: Option<&Path>) -> Result<String> {
    let system = host::load(&project.system(name)?)?;
    let spec = host::plan(&system)?;
    if svg.is_some() {
        return Err(miette::miette!("the drawing is not there yet"));
    }
    Ok(format!("{spec:#?}\n"))
}
