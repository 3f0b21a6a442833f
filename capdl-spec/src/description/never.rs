//! Policies on flows: what must not flow, whoever is in between.

use serde::Deserialize;
use toml::Spanned;

/// No information flows from one VM or component to another: not directly, not by what servers do, and not by others in
/// between.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Never {
    /// Who must not give it.
    pub from: Spanned<String>,
    /// Who must not get it.
    pub to: Spanned<String>,
    /// VMs and components that may pass it on, since they decide what.
    #[serde(default)]
    pub except_through: Vec<Spanned<String>>,
    /// Whether signals may flow, which carry no data.
    #[serde(default)]
    pub except_signals: bool,
    /// Servers and drivers that are not trusted to keep the two apart.
    #[serde(default)]
    pub even_if_taken_over: Vec<Spanned<String>>,
}
