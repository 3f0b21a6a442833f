//! A description's text, which messages quote.

use std::path::PathBuf;

/// Where a description was read from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}
