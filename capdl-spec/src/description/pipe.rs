//! Pipes in descriptions: which two VMs send each other bytes.

use serde::Deserialize;
use toml::Spanned;

/// A pipe: what one end writes, the other reads.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pipe {
    /// Unique among pipes; the guests find their ports by it.
    pub name: Spanned<String>,
    /// The names of the two VMs.
    pub members: Vec<Spanned<String>>,
}
