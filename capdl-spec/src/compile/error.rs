//! Why a valid description does not become a bundle.

use miette::Diagnostic;

use crate::compile::elf::ElfError;

/// Why a valid description does not become a bundle.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum CompileError {
    /// The build has not made it.
    #[error("the program `{0}` is missing")]
    #[diagnostic(help("build the package, or name an ELF that exists"))]
    NoProgram(String),
    /// It cannot be loaded.
    #[error("the program `{program}` cannot be loaded: {error}")]
    #[diagnostic(help("link it as the project's images are, see crates/image-link"))]
    Program {
        /// Which.
        program: String,
        /// Why.
        error: ElfError,
    },
    /// The build has not fetched it.
    #[error("the image `{0}` is missing")]
    #[diagnostic(help("fetch or build it first"))]
    NoImage(String),
    /// Guest memory at a chosen physical address overlaps root-task.
    #[error("programs and images have {bundle} bytes and reach into the memory at {at:#x} that devices use directly")]
    #[diagnostic(help("make the kernel or the initrd smaller, or put files on the disk"))]
    Crowded {
        /// Where the memory begins.
        at: u64,
        /// Length of the bundle that root-task carries, in bytes.
        bundle: u64,
    },
    /// `checks` refuses these in descriptions.
    #[error("`{0}` is too long")]
    TooLong(String),
    /// `checks` refuses these in descriptions.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A bug in this crate: the specification breaks a law of [`crate::laws`].
    #[error("the compiled system breaks the law \"{law}\": {by}")]
    #[diagnostic(help("this is a defect of capdl-spec, not of the description"))]
    Unlawful {
        /// Which law.
        law: &'static str,
        /// Who breaks it.
        by: String,
    },
    /// A bug in this crate: something that authority depends on is missing. There is no default, since that could give
    /// away authority.
    #[error("the wiring has no {what} of `{whose}`")]
    #[diagnostic(help("this is a defect of capdl-spec, not of the description"))]
    Unwired {
        /// What was looked up.
        what: String,
        /// For which process.
        whose: String,
    },
    /// A configuration or the specification cannot be encoded.
    #[error("encoding failed: {0}")]
    Encode(#[from] postcard::Error),
}

impl CompileError {
    /// See [`CompileError::Unwired`].
    pub(crate) fn unwired(what: impl Into<String>, whose: impl Into<String>) -> Self {
        CompileError::Unwired { what: what.into(), whose: whose.into() }
    }
}
