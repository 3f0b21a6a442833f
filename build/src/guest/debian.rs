//! Extracts the guests' files from Debian's packages: the 686 kernels, their modules, the static busybox.
//!
//! Packages come from the archive (`archive`) and stay in target/guest/packages. `PORTCULLIS_GUEST_PACKAGES` names a
//! directory of packages that the user provides, which take precedence.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use capdl_spec::description::guest::Stock;
use miette::{IntoDiagnostic, Result, miette};

use super::archive::{Apt, KERNELS, PACKAGES_VARIABLE, RELEASE};
use super::bzimage;
use super::modules::{self, KernelModules};
use crate::project::{self, Project};
use crate::{cache, process};

/// Debian's kernels for i386.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Without PAE: the default guest's.
    Plain,
    /// With PAE.
    Pae,
}

impl Flavour {
    /// The end of its packages' names.
    pub const fn name(self) -> &'static str {
        match self {
            Flavour::Plain => "686",
            Flavour::Pae => "686-pae",
        }
    }

    /// That of a description's kernel, if it is one of Debian's.
    pub const fn of(stock: Stock) -> Option<Self> {
        match stock {
            Stock::DebianKernel => Some(Self::Plain),
            Stock::DebianPaeKernel => Some(Self::Pae),
            _ => None,
        }
    }

    /// The metapackage that depends on the current kernel.
    fn metapackage(self) -> String {
        format!("{KERNELS}{}", self.name())
    }

    /// linux-image-6.1.0-50-686_6.1.176-1_i386.deb, and not -rt-686-pae, -686-unsigned or the debug symbols.
    fn is_package(self, file: &str) -> bool {
        let name = file.split('_').next().unwrap_or_default();
        let version = name.strip_prefix(KERNELS).and_then(|rest| rest.strip_suffix(self.name())?.strip_suffix('-'));
        version.is_some_and(|version| {
            version.starts_with(|c: char| c.is_ascii_digit()) && version.ends_with(|c: char| c.is_ascii_digit())
        })
    }
}

/// Debian's kernel for the guest, a bzImage.
pub fn kernel(project: &Project, flavour: Flavour) -> Result<PathBuf> {
    let unpacked = project.guest().join(format!("vmlinuz-debian-{}", flavour.name()));
    let package = kernel_package(project, flavour)?;
    unpack(project, &package, &["boot"], |name| name.starts_with("vmlinuz-"), &unpacked)?;
    Ok(unpacked)
}

fn kernel_package(project: &Project, flavour: Flavour) -> Result<PathBuf> {
    let package = package(project, brought().as_deref(), &flavour.metapackage(), |file| flavour.is_package(file));
    package.map_err(|error| error.wrap_err(NO_KERNEL))
}

/// The release of the guest's kernel, as its `uname -r` says.
pub fn release(project: &Project, flavour: Flavour) -> Result<String> {
    let package = kernel_package(project, flavour)?;
    Ok(release_of(&package))
}

fn release_of(package: &Path) -> String {
    let file = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    file.split('_').next().and_then(|name| name.strip_prefix(KERNELS)).unwrap_or_default().to_owned()
}

/// Fetches a package and unpacks it into a directory, beside what is there.
pub fn unpack_all(project: &Project, name: &str, into: &Path) -> Result<()> {
    let package = package(project, brought().as_deref(), name, |file| file.split('_').next() == Some(name))?;
    extract(&package, into)
}

/// Modules of the default kernel with all their dependencies, and the kernel's release string.
pub fn modules(project: &Project, names: &[&str]) -> Result<(String, KernelModules)> {
    let package = kernel_package(project, Flavour::Plain)?;
    let file = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let release = release_of(&package);
    let key = bzimage::fingerprint(format!("{file} {}", names.join(" ")).as_bytes());
    let kept = project.guest().join("modules").join(key);
    cache::keep(&kept, &recipe(&package)?, |aside| {
        let scratch = Scratch::extract(project, &package)?;
        let found = project::entries_below(&scratch.0.join("lib/modules").join(&release))?;
        let modules = modules::closure(names, |name| {
            let wanted = |path: &&PathBuf| path.file_name().is_some_and(|file| is_module_file(file.as_bytes(), name));
            let path = found.iter().find(wanted);
            project::read(path.ok_or_else(|| miette!("{file} has no module {name}"))?)
        })?;
        modules.iter().try_for_each(|(name, bytes)| project::write(&aside.join(name), bytes))
    })?;
    let mut modules = KernelModules::new();
    for path in project::entries_below(&kept)? {
        modules.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), project::read(&path)?);
    }
    Ok((release, modules))
}

/// `-` and `_` differ in file names, but not in module names.
fn is_module_file(file: &[u8], module: &str) -> bool {
    let plain = |text: &[u8]| text.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect::<Vec<u8>>();
    plain(file) == plain(format!("{module}.ko").as_bytes())
}

/// Debian's static busybox for i386.
pub fn busybox(project: &Project) -> Result<PathBuf> {
    busybox_from(project, brought().as_deref())
}

fn busybox_from(project: &Project, brought: Option<&Path>) -> Result<PathBuf> {
    let unpacked = project.guest().join("busybox-i386");
    let package = package(project, brought, "busybox-static", |name| name.starts_with("busybox-static_"))?;
    // /bin in Debian 12, /usr/bin later.
    unpack(project, &package, &["bin", "usr/bin"], |name| name == "busybox", &unpacked)?;
    Ok(unpacked)
}

const NO_KERNEL: &str = "the default guest's kernel could not be fetched. You can bring a 32-bit kernel of your own by \
    three lines in the system's description:\n  kernel = \"./bzImage\"\n  initrd = \"./initrd\"\n  \
    cmdline = \"earlyprintk=ttyS0,115200 console=ttyS0,115200 ...\"";

/// The user's directory of packages, if one is named.
fn brought() -> Option<PathBuf> {
    std::env::var_os(PACKAGES_VARIABLE).map(PathBuf::from)
}

/// A package file: the user's, or else one that was fetched, now or before.
fn package(project: &Project, brought: Option<&Path>, name: &str, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    if let Some(dir) = brought {
        if !dir.is_dir() {
            let help = "it names a directory of .deb files, for i386";
            return Err(miette!(help = help, "{PACKAGES_VARIABLE} is {}, which is no directory", dir.display()));
        }
        if let Some(package) = newest(dir, &wanted) {
            return Ok(package);
        }
    }
    let fetched = project.guest().join("packages").join(name);
    cache::keep(&fetched, &format!("{name} of {RELEASE}"), |aside| {
        std::fs::create_dir_all(aside).into_diagnostic()?;
        Apt::new(project)?.fetch(name, aside)
    })?;
    newest(&fetched, wanted).ok_or_else(|| miette!("apt fetched {name}, but it is not in {}", fetched.display()))
}

/// The package's part of the recipe of anything made from it.
fn recipe(package: &Path) -> Result<String> {
    Ok(format!("{} {}", package.file_name().unwrap_or_default().display(), cache::fingerprint(package)?))
}

/// The last of the matching packages in a directory.
fn newest(dir: &Path, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let files = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    let is_wanted = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted);
    files.filter(|path| path.extension().is_some_and(|e| e == "deb") && is_wanted(path)).max()
}

/// Packages with all that they depend on, unpacked into a directory. Their installation scripts do not run.
pub fn packages(project: &Project, names: &[String]) -> Result<PathBuf> {
    let key = bzimage::fingerprint(names.join(" ").as_bytes());
    let fetched = project.guest().join("packages").join(format!("with-{key}"));
    let recipe = format!("{} of {RELEASE}", names.join(" "));
    cache::keep(&fetched, &recipe, |aside| Apt::new(project)?.fetch_all(names, aside))?;
    let unpacked = project.guest().join("additions").join(&key);
    cache::keep(&unpacked, &recipe, |aside| {
        std::fs::create_dir_all(aside).into_diagnostic()?;
        let mut packages = project::entries_below(&fetched)?;
        packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
        for package in packages {
            extract(&package, aside)?;
        }
        Ok(())
    })?;
    Ok(unpacked)
}

/// Extracts one file from a package; the file is in one of several directories.
fn unpack(project: &Project, package: &Path, dirs: &[&str], wanted: impl Fn(&str) -> bool, to: &Path) -> Result<()> {
    cache::keep(to, &recipe(package)?, |aside| {
        let scratch = Scratch::extract(project, package)?;
        let entries =
            dirs.iter().flat_map(|dir| std::fs::read_dir(scratch.0.join(dir)).into_iter().flatten().flatten());
        let files = entries.map(|entry| entry.path()).filter(|path| path.is_file());
        let found = files.filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted)).max();
        let file = found.ok_or_else(|| miette!("{} has no such file in /{}", package.display(), dirs.join(" or /")))?;
        project::read(&file).and_then(|bytes| project::write(aside, &bytes))
    })
}

/// Unpacks a package's files into a directory.
fn extract(package: &Path, into: &Path) -> Result<()> {
    let mut extract = process::tool("dpkg-deb");
    extract.arg("--extract").arg(package).arg(into);
    process::run(&format!("guest: unpack {}", package.file_name().unwrap_or_default().display()), extract).map(|_| ())
}

/// A package's files, in a directory that is removed on drop.
struct Scratch(PathBuf);

impl Scratch {
    fn extract(project: &Project, package: &Path) -> Result<Self> {
        let name = package.file_name().unwrap_or_default().display();
        let scratch = Self(project.guest().join(format!("unpack-{}-{name}", std::process::id())));
        std::fs::create_dir_all(project.guest()).into_diagnostic()?;
        extract(package, &scratch.0)?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_of_the_flavour_asked_for() {
        let (plain, pae) =
            ("linux-image-6.1.0-50-686_6.1.176-1_i386.deb", "linux-image-6.1.0-50-686-pae_6.1.176-1_i386.deb");
        assert!(Flavour::Plain.is_package(plain) && Flavour::Pae.is_package(pae));
        assert!(!Flavour::Plain.is_package(pae) && !Flavour::Pae.is_package(plain));
        for other in ["linux-image-686", "linux-image-6.1.0-50-686-dbg", "linux-image-6.1.0-50-rt-686-pae_6_i386.deb"] {
            assert!(!Flavour::Plain.is_package(other) && !Flavour::Pae.is_package(other), "{other}");
        }
    }

    /// A project in an empty directory, and a directory of packages beside it.
    fn empty(name: &str) -> (Project, PathBuf) {
        let dir = std::env::temp_dir().join(format!("xtask-debian-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let packages = dir.join("packages");
        std::fs::create_dir_all(&packages).unwrap();
        (Project { root: dir.clone(), target: dir.join("target") }, packages)
    }

    /// A package of one file, of which the second field is the contents.
    fn pack(packages: &Path, file: &str, contents: &str) {
        let tree = packages.join("tree");
        project::write(&tree.join("bin/busybox"), contents.as_bytes()).unwrap();
        let control = "Package: x\nVersion: 1\nArchitecture: i386\nMaintainer: x <x@x>\nDescription: x\n";
        project::write(&tree.join("DEBIAN/control"), control.as_bytes()).unwrap();
        let mut build = process::tool("dpkg-deb");
        build.args(["--root-owner-group", "--build"]).arg(&tree).arg(packages.join(file));
        process::output(build).unwrap();
        std::fs::remove_dir_all(tree).unwrap();
    }

    #[test]
    fn packages_that_were_brought_are_used_at_once_and_again_when_they_change() {
        if !process::exists("dpkg-deb") {
            return;
        }
        let (project, packages) = empty("brought");
        let busybox = |expected: &str| {
            let path = busybox_from(&project, Some(&packages)).unwrap();
            assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
        };
        pack(&packages, "busybox-static_1_i386.deb", "the first");
        busybox("the first");
        pack(&packages, "busybox-static_2_i386.deb", "the second");
        busybox("the second");
        std::fs::write(project.guest().join("busybox-i386"), "the sec").unwrap();
        busybox("the second");
        std::fs::remove_dir_all(project.root).unwrap();
    }

    #[test]
    fn a_directory_of_packages_that_is_not_there_is_an_error() {
        let (project, packages) = empty("misspelt");
        let error = busybox_from(&project, Some(&packages.join("mispelt"))).unwrap_err().to_string();
        assert!(error.contains(PACKAGES_VARIABLE) && error.contains("mispelt"), "{error}");
        std::fs::remove_dir_all(project.root).unwrap();
    }
}
