//! Where things are: the project's sources, and the places in the target directory where the tool puts its products.
//!
//! `CARGO_TARGET_DIR` moves all products, as it does for cargo.

use std::path::{Path, PathBuf};

use miette::{Context, IntoDiagnostic, Result};

use crate::kernel::Build;

/// The project's directories, all absolute.
#[derive(Debug, Clone)]
pub struct Project {
    /// The workspace: where Cargo.toml, systems/ and kernel-config/ are.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Project {
    /// Finds the project that this tool was started from (or, started by hand, the one that it was built from).
    pub fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest)
            .parent()
            .ok_or_else(|| miette::miette!("{} has no parent directory", Path::new(&manifest).display()))?
            .to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir).into_diagnostic()?,
            None => root.join("target"),
        };
        std::fs::create_dir_all(&target)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot create {}", target.display()))?;
        Ok(Self { root, target })
    }

    /// The seL4 prefix that the build makes from kernel-config/.
    pub fn kernel_prefix(&self, build: Build) -> PathBuf {
        self.target.join("sel4").join(build.name())
    }

    /// The default guest: its packages, its kernel and its initramfs.
    pub fn guest(&self) -> PathBuf {
        self.target.join("guest")
    }

    /// The products of `cargo xtask image SYSTEM`.
    pub fn images(&self, system: &str) -> PathBuf {
        self.target.join("images").join(system)
    }

    /// One run of the emulator: its configuration, its log, what the console printed.
    pub fn run(&self, name: &str) -> PathBuf {
        self.target.join("runs").join(name)
    }

    /// The description of a system: a name stands for systems/NAME.toml, anything with a slash or an extension is a file.
    pub fn system(&self, name: &str) -> Result<PathBuf> {
        let path = if name.contains('/') || name.ends_with(".toml") {
            std::path::absolute(name).into_diagnostic()?
        } else {
            self.root.join("systems").join(name).with_extension("toml")
        };
        if path.is_file() {
            return Ok(path);
        }
        Err(miette::miette!(
            help = format!("known systems: {}", self.system_names().join(", ")),
            "there is no system description {}",
            path.display()
        ))
    }

    /// The names of the descriptions in systems/, sorted.
    pub fn system_names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join("systems")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        names
    }
}

/// Reads a file, naming it in the error.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).into_diagnostic().wrap_err_with(|| format!("cannot read {}", path.display()))
}

/// Writes a file and the directories above it, naming it in the error. An unchanged file keeps its time.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot create {}", parent.display()))?;
    }
    std::fs::write(path, bytes).into_diagnostic().wrap_err_with(|| format!("cannot write {}", path.display()))
}
