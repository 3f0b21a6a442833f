//! The seL4 prefix: made from kernel-config/ by CMake, or the user's own, named by `SEL4_PREFIX`.
//!
//! A prefix is what an installed seL4 has: bin/kernel.elf and libsel4/include. Everything above the kernel is built
//! against one, so the build starts here.

use std::path::{Path, PathBuf};
use std::process::Command;

use miette::{IntoDiagnostic, Result, miette};
use sha2::{Digest, Sha256};

use crate::project::{self, Project};
use crate::{packages::Purpose, process, setup};

/// The configurations of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// With assertions, a serial console, and the calls by which tests ask what a capability is.
    Debug,
    /// What is measured and shipped.
    Release,
    /// As `Debug`, for QEMU without KVM: with the IOMMU and without VT-x, so no guest runs on it.
    Iommu,
}

impl Build {
    /// As it appears in paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
            Self::Iommu => "iommu",
        }
    }

    /// CMake's BUILD and PLATFORM (kernel-config/CMakeLists.txt).
    fn settings(self) -> (&'static str, &'static str) {
        match self {
            Self::Debug => ("debug", "pc99-vtx"),
            Self::Release => ("release", "pc99-vtx"),
            Self::Iommu => ("debug", "pc99-iommu-test"),
        }
    }
}

/// A prefix that was looked at: it has a kernel, and the kernel has VT-x unless it is [`Build::Iommu`].
#[derive(Debug, Clone)]
pub struct Prefix {
    dir: PathBuf,
}

impl Prefix {
    /// Checks a directory.
    pub fn open(dir: &Path) -> Result<Self> {
        let prefix = Self::with_any_kernel(dir)?;
        let settings = dir.join(CONFIG);
        if !vtx_is_on(&settings)? {
            return Err(miette!(
                help = "configure the kernel with KernelVTX=ON: kernel-config/ has the settings for it",
                "VT-x is off in {}",
                settings.display()
            ));
        }
        Ok(prefix)
    }

    fn with_any_kernel(dir: &Path) -> Result<Self> {
        let prefix = Self { dir: dir.to_path_buf() };
        if !prefix.kernel().is_file() {
            return Err(miette!(
                help = "an seL4 prefix is what `cmake --install` of a configured seL4 leaves: bin/kernel.elf, libsel4/include",
                "{} is missing",
                prefix.kernel().display()
            ));
        }
        Ok(prefix)
    }

    /// The directory: what SEL4_PREFIX is set to.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kernel, a 64-bit ELF.
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("bin/kernel.elf")
    }

    /// The same kernel in a 32-bit ELF, which QEMU's `-kernel` takes. A user's prefix may lack it.
    pub fn kernel32(&self) -> PathBuf {
        self.dir.join("bin/kernel32.elf")
    }
}

/// The kernel's own account of its configuration, in a prefix.
const CONFIG: &str = "libsel4/include/kernel/gen_config.json";

fn vtx_is_on(settings: &Path) -> Result<bool> {
    let bytes = project::read(settings)?;
    let config: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|error| miette!("{} is not the kernel's configuration: {error}", settings.display()))?;
    Ok(config["VTX"] == serde_json::Value::Bool(true))
}

/// The prefix to build against: the user's, or ours, built if it is not there or kernel-config/ has changed.
pub fn prefix(project: &Project, build: Build) -> Result<Prefix> {
    match std::env::var_os("SEL4_PREFIX") {
        Some(dir) => Prefix::open(Path::new(&dir))
            .map_err(|error| error.context("SEL4_PREFIX in the environment does not name a usable seL4 prefix")),
        None => make(project, build),
    }
}

fn make(project: &Project, build: Build) -> Result<Prefix> {
    let dir = project.kernel_prefix(build);
    let stamp = dir.join("made-from.sha256");
    let source = project.root.join("kernel-config");
    let open = if build == Build::Iommu { Prefix::with_any_kernel } else { Prefix::open };
    let fingerprint = fingerprint(&source)?;
    if std::fs::read_to_string(&stamp).is_ok_and(|made_from| made_from == fingerprint) {
        return open(&dir);
    }
    setup::ensure(&[Purpose::Kernel])?;
    let work = project.target.join("sel4").join(format!("build-{}", build.name()));
    // Made anew: CMake takes no build tree whose sources were elsewhere, as after the project was moved.
    if work.exists() {
        std::fs::remove_dir_all(&work).into_diagnostic()?;
    }
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(&source).arg("-B").arg(&work);
    let (kind, platform) = build.settings();
    configure.args([format!("-DBUILD={kind}"), format!("-DPLATFORM={platform}")]);
    configure.arg(format!("-DCMAKE_INSTALL_PREFIX={}", dir.display()));
    process::run(&format!("kernel: configure ({})", build.name()), configure)?;
    let mut compile = Command::new("cmake");
    compile.arg("--build").arg(&work);
    process::run(&format!("kernel: build ({})", build.name()), compile)?;
    let mut install = Command::new("cmake");
    install.arg("--install").arg(&work);
    process::output(install)?;
    let prefix = open(&dir)?;
    project::write(&stamp, fingerprint.as_bytes())?;
    Ok(prefix)
}

/// A hash over the names and contents of all files in a directory.
pub fn fingerprint(dir: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for file in files_below(dir)? {
        let name = file.strip_prefix(dir).unwrap_or(&file).to_string_lossy().into_owned();
        let bytes = project::read(&file)?;
        hash.update(format!("{name}\0{}\0", bytes.len()));
        hash.update(&bytes);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|error| miette!("cannot list {}: {error}", dir.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            // What a tool leaves beside the sources (python's __pycache__, cargo's target) is no source.
            let skip = path.file_name().is_some_and(|name| name == "target" || name == "__pycache__");
            if !skip {
                files.extend(files_below(&path)?);
            }
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-kernel-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        dir
    }

    fn fake_prefix(name: &str, config: &str) -> PathBuf {
        let dir = directory(name);
        project::write(&dir.join("bin/kernel.elf"), b"elf").unwrap();
        project::write(&dir.join(CONFIG), config.as_bytes()).unwrap();
        dir
    }

    #[test]
    fn a_prefix_without_vtx_is_refused() {
        let dir = fake_prefix("off", r#"{ "VTX": false }"#);
        assert!(Prefix::open(&dir).unwrap_err().to_string().starts_with("VT-x is off in "));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_prefix_that_does_not_mention_vtx_is_refused() {
        let dir = fake_prefix("silent", "{}");
        assert!(Prefix::open(&dir).unwrap_err().to_string().starts_with("VT-x is off in "));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_prefix_with_vtx_is_taken() {
        let dir = fake_prefix("on", r#"{ "VTX": true }"#);
        assert_eq!(Prefix::open(&dir).unwrap().dir(), dir);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_empty_directory_is_no_prefix_and_the_missing_file_is_named() {
        let error = Prefix::open(&directory("empty")).unwrap_err().to_string();
        assert!(error.ends_with("bin/kernel.elf is missing"), "{error}");
    }

    #[test]
    fn a_renamed_file_changes_the_fingerprint() {
        let dir = directory("print");
        project::write(&dir.join("a"), b"x").unwrap();
        let before = fingerprint(&dir).unwrap();
        std::fs::rename(dir.join("a"), dir.join("b")).unwrap();
        assert_ne!(before, fingerprint(&dir).unwrap());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
