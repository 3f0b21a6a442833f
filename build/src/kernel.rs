//! Which seL4 a build is for: CMake makes it from kernel-config/, or the user names installed ones by `SEL4_PREFIX` and
//! its like. Everything above the kernel is built against such a prefix, so the build starts here.

pub mod prefix;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use capdl_spec::host::{Processor, System};
use miette::{IntoDiagnostic, Report, Result, miette};

use crate::project::Project;
use crate::{cache, packages::Purpose, process, setup};

pub use prefix::Prefix;

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
            Self::Vtx(Processor::IvyBridge) => "pc99-vtx-ivy-bridge",
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
    /// The kernel for the board of a system.
    pub fn of(system: &System, build: Build) -> Self {
        Self { build, platform: Platform::Vtx(system.board().processor) }
    }

    /// The environment variable that names the user's.
    pub fn variable(self) -> &'static str {
        match (self.platform, self.build) {
            (Platform::Iommu, _) => "SEL4_PREFIX_IOMMU",
            (Platform::Vtx(_), Build::Release) => "SEL4_PREFIX",
            (Platform::Vtx(_), Build::Debug) => "SEL4_PREFIX_DEBUG",
        }
    }

    /// As it appears in paths.
    pub fn name(self) -> String {
        let build = self.build.name();
        match self.platform {
            Platform::Vtx(Processor::Haswell) => build.to_owned(),
            Platform::Vtx(Processor::IvyBridge) => format!("{build}-ivy-bridge"),
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

/// The environment variables by which a user names kernels. If there is one of them, none of ours is used.
pub const VARIABLES: [&str; 3] = [SHIPPED, "SEL4_PREFIX_DEBUG", "SEL4_PREFIX_IOMMU"];
/// The variable for the kernel that everything needs.
const SHIPPED: &str = "SEL4_PREFIX";

/// Whether the kernels are the user's.
pub fn are_own() -> bool {
    VARIABLES.iter().any(|name| env::var_os(name).is_some())
}

/// Names the user's kernels to a command that starts with an empty environment, by absolute paths, since it may run
/// elsewhere.
pub fn hand_on(command: &mut Command) {
    for name in VARIABLES {
        if let Some(dir) = env::var_os(name) {
            let absolute = std::path::absolute(&dir).map_or(dir, PathBuf::into_os_string);
            command.env(name, absolute);
        }
    }
}

/// The error of a task that needs a kernel which the user, who names others, does not name.
#[derive(Debug)]
pub struct Lacking(pub String);

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Lacking {}
impl miette::Diagnostic for Lacking {}

/// The prefix to build against: the user's, or ours, which this builds if it is missing or kernel-config/ has changed.
pub fn prefix(project: &Project, kernel: Kernel) -> Result<Prefix> {
    if !are_own() {
        return make(project, kernel);
    }
    let variable = kernel.variable();
    if let Some(dir) = env::var_os(variable) {
        return own(variable, dir, kernel);
    }
    let Some(dir) = env::var_os(SHIPPED) else { return Err(unnamed()) };
    // A wrong path is an error for each task, and not a kernel that one task lacks.
    let shipped = own(SHIPPED, dir, Build::Release.into())?;
    match kernel.platform {
        // One kernel for both, if it is one that can be both.
        Platform::Vtx(_) => Prefix::open_own(shipped.dir(), kernel).map_err(|_| lacking(kernel).into()),
        Platform::Iommu => Err(lacking(kernel).into()),
    }
}

/// The error where the user names kernels, but not the one that everything needs.
fn unnamed() -> Report {
    let named: Vec<&str> = VARIABLES.into_iter().filter(|name| env::var_os(name).is_some()).collect();
    miette!(
        help =
            format!("set {SHIPPED} to an installed release kernel, or unset {} to use the project's", named.join(", ")),
        "the environment has {}, but {SHIPPED} names no kernel to measure and ship",
        named.join(" and ")
    )
}

fn lacking(kernel: Kernel) -> Lacking {
    let what = match kernel.platform {
        Platform::Iommu => "debug kernel without VT-x, for QEMU",
        Platform::Vtx(_) => "debug kernel",
    };
    Lacking(format!("{SHIPPED} is no {what}, and {} names none", kernel.variable()))
}

/// The prefix that an environment variable names.
pub fn own(variable: &str, dir: OsString, kernel: Kernel) -> Result<Prefix> {
    let opened = if dir.is_empty() {
        Err(miette!(help = "unset it, or let it name a directory", "it is empty"))
    } else {
        // The servers' build scripts run in other directories, so the path must be absolute. And cargo runs them again
        // only for another path: where a link leads has to be part of it.
        let dir = std::path::absolute(dir).into_diagnostic();
        dir.and_then(|dir| Prefix::open_own(&dir.canonicalize().unwrap_or(dir), kernel))
    };
    opened.map_err(|error| error.context(format!("{variable} in the environment does not name a usable seL4 prefix")))
}

fn make(project: &Project, kernel: Kernel) -> Result<Prefix> {
    let name = kernel.name();
    let dir = project.target.join("sel4").join(&name);
    let source = project.root.join("kernel-config");
    cache::keep(&dir, &cache::fingerprint(&source)?, |aside| build(project, kernel, &source, aside))?;
    Prefix::open(&dir, &name, kernel)
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
    use capdl_spec::host::{self, Source};

    use super::*;

    #[test]
    fn a_board_gets_the_kernel_that_its_oldest_processor_boots() {
        let nehalem = include_str!("../../kernel-config/settings/pc99-vtx-nehalem.cmake");
        let ivy_bridge = include_str!("../../kernel-config/settings/pc99-vtx-ivy-bridge.cmake");
        for (settings, bases) in [(nehalem, "FSGSBASE_MSR ON"), (ivy_bridge, "FSGSBASE_INST ON")] {
            for setting in ["SUPPORT_PCID OFF", bases, "HUGE_PAGE OFF"] {
                assert!(settings.contains(&format!("\nkernel_config({setting})\n")), "{setting}");
            }
        }
        for (board, settings) in [
            ("bochs", "pc99-vtx"),
            ("pc-modern", "pc99-vtx"),
            ("cma34cr", "pc99-vtx-ivy-bridge"),
            ("pc", "pc99-vtx-nehalem"),
        ] {
            let vm = "[[vm]]\nname = \"linux\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n";
            let text = format!("board = \"{board}\"\n{vm}");
            let system = host::parse(Source { path: "x.toml".into(), text }).expect("it is right");
            let kernel = Kernel::of(&system, Build::Release);
            assert_eq!(kernel.platform.settings(), settings, "{board}");
        }
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
