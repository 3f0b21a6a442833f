//! The seL4 prefix: CMake makes it from kernel-config/, or the user names one by `SEL4_PREFIX`.
//!
//! A prefix is an installed seL4: bin/kernel.elf and libsel4/include. Everything above the kernel is built against a
//! prefix, so the build starts here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use capdl_spec::host::Processor;
use miette::{IntoDiagnostic, Result, miette};

use crate::project::{self, Project};
use crate::{cache, packages::Purpose, process, setup};

/// How much of the kernel's work is visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// With assertions, a serial console, and the system calls by which tests identify capabilities.
    Debug,
    /// The kernel that is measured and shipped.
    Release,
}

impl Build {
    /// Its name in CMake's BUILD, and in paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

/// What the kernel requires of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// VT-x, and processors from a generation on.
    Vtx(Processor),
    /// QEMU without KVM: with the IOMMU and without VT-x, so no guest runs on it.
    Iommu,
}

impl Platform {
    /// CMake's PLATFORM, a file in kernel-config/settings.
    fn settings(self) -> &'static str {
        match self {
            Self::Vtx(Processor::Haswell) => "pc99-vtx",
            Self::Vtx(Processor::Nehalem) => "pc99-vtx-nehalem",
            Self::Iommu => "pc99-iommu-test",
        }
    }
}

/// One of the kernels that the tool can build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// How much of its work is visible.
    pub build: Build,
    /// What it requires.
    pub platform: Platform,
}

impl Kernel {
    /// As it appears in paths.
    pub fn name(self) -> String {
        let build = self.build.name();
        match self.platform {
            Platform::Vtx(Processor::Haswell) => build.to_owned(),
            Platform::Vtx(Processor::Nehalem) => format!("{build}-nehalem"),
            Platform::Iommu => format!("{build}-iommu"),
        }
    }
}

/// The kernel for the emulated board.
impl From<Build> for Kernel {
    fn from(build: Build) -> Self {
        Self { build, platform: Platform::Vtx(Processor::Haswell) }
    }
}

/// A checked prefix: it has a kernel, with VT-x unless it is for [`Platform::Iommu`].
#[derive(Debug, Clone)]
pub struct Prefix {
    dir: PathBuf,
    name: String,
}

/// The name of the user's kernel in paths.
const OWN: &str = "own-prefix";
/// The environment variable that names the user's prefix.
const VARIABLE: &str = "SEL4_PREFIX";

impl Prefix {
    /// Checks a directory. `name` is the kernel's name in paths.
    pub fn open(dir: &Path, name: &str) -> Result<Self> {
        let prefix = Self::with_any_kernel(dir, name)?;
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

    fn with_any_kernel(dir: &Path, name: &str) -> Result<Self> {
        let prefix = Self { dir: dir.to_path_buf(), name: name.to_owned() };
        let kernel = prefix.kernel();
        if !kernel.is_file() {
            return Err(miette!(
                help = "an seL4 prefix is what `cmake --install` of a configured seL4 leaves: bin/kernel.elf, libsel4/include",
                "{} is missing",
                kernel.display()
            ));
        }
        // ELF (System V ABI, chapter 4): magic and class, 64 bits; e_machine, x86-64.
        let bytes = project::read(&kernel)?;
        if !bytes.starts_with(b"\x7fELF\x02") || bytes.get(18..20) != Some(&[62, 0]) {
            return Err(miette!(
                help = "configure it with KernelPlatform=pc99 and KernelSel4Arch=x86_64",
                "{} is no 64-bit kernel for x86",
                kernel.display()
            ));
        }
        Ok(prefix)
    }

    /// The kernel's name in paths.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory: the value for SEL4_PREFIX.
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

/// The kernel's record of its configuration, in a prefix.
const CONFIG: &str = "libsel4/include/kernel/gen_config.json";

fn vtx_is_on(settings: &Path) -> Result<bool> {
    let bytes = project::read(settings)?;
    let config: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|error| miette!("{} is not the kernel's configuration: {error}", settings.display()))?;
    Ok(config["VTX"] == serde_json::Value::Bool(true))
}

/// Whether the kernel is the user's.
pub fn is_own() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// The prefix to build against: the user's, or ours, which this builds if it is missing or kernel-config/ has changed.
pub fn prefix(project: &Project, kernel: Kernel) -> Result<Prefix> {
    let Some(dir) = std::env::var_os(VARIABLE) else { return make(project, kernel) };
    let opened = if dir.is_empty() {
        Err(miette!(help = "unset it, or let it name a directory", "it is empty"))
    } else {
        // The servers' build scripts run in other directories, so the path must be absolute.
        std::path::absolute(dir).into_diagnostic().and_then(|dir| Prefix::open(&dir, OWN))
    };
    opened.map_err(|error| error.context(format!("{VARIABLE} in the environment does not name a usable seL4 prefix")))
}

fn make(project: &Project, kernel: Kernel) -> Result<Prefix> {
    let name = kernel.name();
    let dir = project.target.join("sel4").join(&name);
    let source = project.root.join("kernel-config");
    cache::keep(&dir, &cache::fingerprint(&source)?, |aside| build(project, kernel, &source, aside))?;
    if kernel.platform == Platform::Iommu { Prefix::with_any_kernel(&dir, &name) } else { Prefix::open(&dir, &name) }
}

/// Configures, compiles, and installs to `into`.
fn build(project: &Project, kernel: Kernel, source: &Path, into: &Path) -> Result<()> {
    setup::ensure(&[Purpose::Kernel])?;
    let name = kernel.name();
    let work = Workplace::new(project.target.join("sel4").join(format!("build-{name}")))?;
    let mut configure = process::tool("cmake");
    configure.arg("-S").arg(source).arg("-B").arg(&work.dir);
    let (kind, platform) = (kernel.build.name(), kernel.platform.settings());
    configure.args([format!("-DBUILD={kind}"), format!("-DPLATFORM={platform}")]);
    let mut prefix = OsString::from("-DCMAKE_INSTALL_PREFIX=");
    prefix.push(into);
    configure.arg(prefix);
    process::run(&format!("kernel: configure ({name})"), configure)?;
    let mut compile = process::tool("cmake");
    compile.arg("--build").arg(&work.dir);
    process::run(&format!("kernel: build ({name})"), compile)?;
    let mut install = process::tool("cmake");
    install.arg("--install").arg(&work.dir);
    process::output(install).map(|_| ())
}

/// An empty directory to compile the kernel in: CMake refuses a build tree whose sources were elsewhere, as after the
/// project was moved.
struct Workplace {
    dir: PathBuf,
    /// Whether it is outside the target directory, and is removed after the build.
    passing: bool,
}

impl Workplace {
    /// At `wanted`, or in /tmp if that path contains spaces, at which the kernel's makefile would split it.
    fn new(wanted: PathBuf) -> Result<Self> {
        let passing = wanted.to_string_lossy().contains(char::is_whitespace);
        let name = wanted.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dir = if passing { format!("/tmp/portcullis-{name}-{}", std::process::id()).into() } else { wanted };
        if dir.exists() {
            std::fs::remove_dir_all(&dir).into_diagnostic()?;
        }
        std::fs::create_dir_all(&dir).into_diagnostic()?;
        Ok(Self { dir, passing })
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if self.passing {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
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
        let elf = [b"\x7fELF\x02".as_slice(), &[0; 13], &[62, 0]].concat();
        project::write(&dir.join("bin/kernel.elf"), &elf).unwrap();
        project::write(&dir.join(CONFIG), config.as_bytes()).unwrap();
        dir
    }

    #[test]
    fn a_prefix_without_vtx_is_refused() {
        let dir = fake_prefix("off", r#"{ "VTX": false }"#);
        assert!(Prefix::open(&dir, OWN).unwrap_err().to_string().starts_with("VT-x is off in "));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_prefix_that_does_not_mention_vtx_is_refused() {
        let dir = fake_prefix("silent", "{}");
        assert!(Prefix::open(&dir, OWN).unwrap_err().to_string().starts_with("VT-x is off in "));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_prefix_with_vtx_is_taken() {
        let dir = fake_prefix("on", r#"{ "VTX": true }"#);
        assert_eq!(Prefix::open(&dir, OWN).unwrap().dir(), dir);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_empty_directory_is_no_prefix_and_the_missing_file_is_named() {
        let error = Prefix::open(&directory("empty"), OWN).unwrap_err().to_string();
        assert!(error.ends_with("bin/kernel.elf is missing"), "{error}");
    }

    #[test]
    fn a_kernel_for_another_processor_is_refused() {
        let dir = fake_prefix("arm", r#"{ "VTX": true }"#);
        project::write(&dir.join("bin/kernel.elf"), b"\x7fELF\x01 of 32 bits").unwrap();
        let error = Prefix::open(&dir, OWN).unwrap_err().to_string();
        assert!(error.ends_with("is no 64-bit kernel for x86"), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_kernel_is_compiled_where_no_space_is_in_the_path() {
        let plain = std::env::temp_dir().join(format!("xtask-work-{}", std::process::id()));
        assert_eq!(Workplace::new(plain.clone()).unwrap().dir, plain);
        let spaced = Workplace::new(plain.join("my projects/build-release")).unwrap();
        let dir = spaced.dir.clone();
        assert!(!dir.to_str().unwrap().contains(' ') && dir.is_dir());
        drop(spaced);
        assert!(!dir.exists());
        std::fs::remove_dir_all(plain).unwrap();
    }
}
