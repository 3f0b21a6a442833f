//! `cargo xtask audit`: what flows between the VMs and components of a system, as text, as a drawing or as JSON.
//!
//! capdl-spec computes it from the system as it compiles, without programs and images: nothing is built.

use std::path::Path;

use capdl_spec::host::{self, Mistakes, Source};
use miette::{IntoDiagnostic, Result};

use crate::map::draw;
use crate::project::Project;

/// How an audit is shown, and whether all policies of the description hold.
pub struct Shown {
    /// The audit.
    pub text: String,
    /// What to say of the policies.
    pub policies: Result<()>,
}

/// The audit of a system as text or as JSON; also writes the matrix to `svg`, if given.
pub fn audit(project: &Project, name: &str, svg: Option<&Path>, json: bool) -> Result<Shown> {
    let source = Source::read(&project.system(name)?)?;
    let system = host::parse_all_but_flows(source).map_err(Mistakes::report)?;
    let audit = host::audit::audit(&host::planned(&system)?)?;
    if let Some(file) = svg {
        draw(file, &audit.svg())?;
    }
    let text = if json { serde_json::to_string_pretty(&audit.named()).into_diagnostic()? } else { audit.text() };
    Ok(Shown { text, policies: host::forbidden_flows(&system).map_err(Mistakes::report) })
}
