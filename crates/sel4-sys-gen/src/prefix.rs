//! The directory of an installed seL4: `bin/kernel.elf` and `libsel4/include/…`.

use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::{Config, Result};

/// An installed seL4.
pub struct Prefix {
    root: PathBuf,
    /// The configuration that it was built with.
    pub config: Config,
}

impl Prefix {
    /// The prefix that `SEL4_PREFIX` names, or else the debug kernel that the workspace's own build installs. A relative
    /// path is relative to the user's directory.
    pub fn from_env() -> Result<Self> {
        if let Some(root) = env::var_os("SEL4_PREFIX") {
            // cargo runs build scripts in their packages' directories, and leaves the shell's PWD alone.
            let user = env::var_os("PWD").unwrap_or_default();
            return Self::open(Path::new(&user).join(root));
        }
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/sel4/debug");
        match built.canonicalize() {
            Ok(root) => Self::open(root),
            Err(_) => {
                Err("no seL4 to bind to: run `cargo xtask kernel`, or name an installed one by SEL4_PREFIX".into())
            }
        }
    }

    /// The prefix at `root`; fails if its configuration cannot be read.
    pub fn open(root: PathBuf) -> Result<Self> {
        let include = root.join("libsel4/include");
        let mut config = Config::default();
        // The kernel and libsel4 have a configuration each.
        for name in ["kernel/gen_config.json", "sel4/gen_config.json"] {
            let path = include.join(name);
            if path.exists() {
                config.add_json(&read(&path)?).map_err(|why| format!("{}: {why}", path.display()))?;
            }
        }
        if config.is_empty() {
            return Err(
                format!("{}: no installed seL4 (no libsel4/include/kernel/gen_config.json)", root.display()).into()
            );
        }
        if config.is_defined("KERNEL_MCS") {
            return Err(format!(
                "the kernel in {} has the MCS scheduler, which this project does not support: configure it with \
                 KernelIsMCS=OFF",
                root.display()
            )
            .into());
        }
        Ok(Self { root, config })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the C headers are.
    pub fn include(&self) -> PathBuf {
        self.root.join("libsel4/include")
    }

    /// The system calls.
    pub fn syscalls(&self) -> PathBuf {
        self.include().join("api/syscall.xml")
    }

    /// The invocations, in the order in which their labels are numbered.
    pub fn interfaces(&self) -> [PathBuf; 3] {
        ["object-api.xml", "object-api-sel4-arch.xml", "object-api-arch.xml"]
            .map(|name| self.include().join("interfaces").join(name))
    }

    /// Every preprocessed bitfield description, in the order of their paths.
    pub fn bitfields(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![self.include()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(|why| format!("{}: {why}", folder.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "pbf") {
                    found.push(path);
                }
            }
        }
        // Directories are read in any order, but equal prefixes have to give equal bindings.
        found.sort();
        Ok(found)
    }
}

/// The text of `path`; the error names the file.
pub fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()).into())
}
