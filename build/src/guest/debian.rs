//! Extracts the guests' files from Debian's packages: the kernels, their modules, the static busybox.
//!
//! Packages come from the archive (`archive`) and stay in target/guest/RELEASE-ARCHITECTURE/packages. `PORTCULLIS_GUEST_PACKAGES` names a
//! directory of packages that the user provides, which take precedence: those in its folder of the release's name, then its own.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use capdl_spec::host::{Debian, Flavour, Release};
use miette::{IntoDiagnostic, Result, miette};

use super::archive::{Apt, KERNELS, PACKAGES_VARIABLE};
use super::bzimage;
use super::compression::Compression;
use super::modules::{self, KernelModules};
use crate::project::{self, Project};
use crate::{cache, process};

/// Whether a package's file is that of a kernel: linux-image-6.1.0-50-686_6.1.176-1_i386.deb, and not -rt-686-pae,
/// -686-unsigned or the debug symbols.
fn is_kernel(file: &str, debian: Debian) -> bool {
    let name = file.split('_').next().unwrap_or_default();
    let ours = |rest: &str| Some(rest.strip_suffix(debian.flavour.name())?.strip_suffix('-')?.to_owned());
    let version = name.strip_prefix(KERNELS).and_then(ours);
    // Of a directory with several releases.
    let series = match debian.release {
        Release::Bookworm => "6.1.",
        Release::Trixie => "6.12.",
    };
    version.is_some_and(|version| {
        version.starts_with(series) && version.ends_with(|c: char| c.is_ascii_digit()) && is_for(file, debian)
    })
}

/// Whether a package's file is for an architecture, or for all.
fn is_for(file: &str, debian: Debian) -> bool {
    [debian.architecture().name(), "all"].iter().any(|end| file.ends_with(&format!("_{end}.deb")))
}

/// Where the files of a release and architecture are kept.
pub fn folder(project: &Project, debian: Debian) -> PathBuf {
    project.guest().join(format!("{}-{}", debian.release.name(), debian.architecture().name()))
}

/// Debian's kernel for the guest, a bzImage.
pub fn kernel(project: &Project, debian: Debian) -> Result<PathBuf> {
    let unpacked = folder(project, debian).join(format!("vmlinuz-{}", debian.flavour.name()));
    let package = kernel_package(project, debian)?;
    unpack(project, &package, &["boot"], |name| name.starts_with("vmlinuz-"), &unpacked)?;
    Ok(unpacked)
}

fn kernel_package(project: &Project, debian: Debian) -> Result<PathBuf> {
    let metapackage = format!("{KERNELS}{}", debian.flavour.name());
    let package = package(project, debian, brought().as_deref(), &metapackage, |file| is_kernel(file, debian));
    package.map_err(|error| error.wrap_err(NO_KERNEL))
}

/// The release of the guest's kernel, as its `uname -r` says.
pub fn release(project: &Project, debian: Debian) -> Result<String> {
    let package = kernel_package(project, debian)?;
    Ok(release_of(&package))
}

fn release_of(package: &Path) -> String {
    let file = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    file.split('_').next().and_then(|name| name.strip_prefix(KERNELS)).unwrap_or_default().to_owned()
}

/// Fetches a package and unpacks it into a directory, beside what is there.
pub fn unpack_all(project: &Project, debian: Debian, name: &str, into: &Path) -> Result<()> {
    extract(&named(project, debian, name)?, into)
}

/// The packages that one depends on, without versions; the first of alternatives.
pub fn dependencies(project: &Project, debian: Debian, name: &str) -> Result<Vec<String>> {
    let mut field = process::tool("dpkg-deb");
    field.arg("--field").arg(named(project, debian, name)?).arg("Depends");
    let said = process::output(field)?;
    let name = |one: &str| one.split([' ', '(', '|', ':']).next().unwrap_or_default().to_owned();
    Ok(said.split(',').map(|one| name(one.trim())).filter(|name| !name.is_empty()).collect())
}

fn named(project: &Project, debian: Debian, name: &str) -> Result<PathBuf> {
    let wanted = |file: &str| file.split('_').next() == Some(name) && is_for(file, debian);
    package(project, debian, brought().as_deref(), name, wanted)
}

/// Modules of a kernel with all their dependencies, and the kernel's release string. What is built into the kernel is left
/// out, and of the cloud kernel what it does not have.
pub fn modules(project: &Project, debian: Debian, names: &[&str]) -> Result<(String, KernelModules)> {
    let package = kernel_package(project, debian)?;
    let file = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let release = release_of(&package);
    let key = bzimage::fingerprint(format!("{file} {}", names.join(" ")).as_bytes());
    let kept = folder(project, debian).join("modules").join(key);
    cache::keep(&kept, &recipe(&package)?, |aside| {
        let scratch = Scratch::extract(project, &package)?;
        // /lib in Debian 12, /usr/lib later.
        let dirs = ["lib/modules", "usr/lib/modules"].map(|dir| scratch.0.join(dir).join(&release));
        let dir = dirs.iter().find(|dir| dir.is_dir()).ok_or_else(|| miette!("{file} has no modules"))?;
        let found = project::entries_below(dir)?;
        let file_of = |name: &str| {
            let wanted = |path: &&PathBuf| path.file_name().is_some_and(|file| is_module_file(file.as_bytes(), name));
            found.iter().find(wanted)
        };
        let builtin = project::read(&dir.join("modules.builtin"))?;
        let is_builtin = |name: &str| {
            let mut files =
                builtin.split(|byte| *byte == b'\n').filter_map(|line| line.rsplit(|byte| *byte == b'/').next());
            files.any(|file| is_module_file(file, name))
        };
        let cloud = debian.flavour == Flavour::CloudAmd64;
        let mut names = names.to_vec();
        names.retain(|name| file_of(name).is_some() || !(cloud || is_builtin(name)));
        let modules = modules::closure(&names, |name| {
            let path = file_of(name).ok_or_else(|| miette!("{file} has no module {name}"))?;
            let bytes = project::read(path)?;
            match Compression::of(&bytes) {
                Some(compression) => Ok(compression.decompress(&bytes)?),
                None => Ok(bytes),
            }
        })?;
        modules.iter().try_for_each(|(name, bytes)| project::write(&aside.join(name), bytes))
    })?;
    let mut modules = KernelModules::new();
    for path in project::entries_below(&kept)? {
        modules.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), project::read(&path)?);
    }
    Ok((release, modules))
}

/// Whether a file is that of a module, perhaps compressed. `-` and `_` differ in file names, but not in module names.
fn is_module_file(file: &[u8], module: &str) -> bool {
    let plain = |text: &[u8]| text.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect::<Vec<u8>>();
    let name = plain(format!("{module}.ko").as_bytes());
    plain(file).strip_prefix(name.as_slice()).is_some_and(|end| matches!(end, b"" | b".xz" | b".zst" | b".gz"))
}

/// Debian's static busybox.
pub fn busybox(project: &Project, debian: Debian) -> Result<PathBuf> {
    busybox_from(project, debian, brought().as_deref())
}

fn busybox_from(project: &Project, debian: Debian, brought: Option<&Path>) -> Result<PathBuf> {
    let unpacked = folder(project, debian).join("busybox");
    let wanted = |file: &str| file.starts_with("busybox-static_") && is_for(file, debian);
    let package = package(project, debian, brought, "busybox-static", wanted)?;
    // /bin in Debian 12, /usr/bin later.
    unpack(project, &package, &["bin", "usr/bin"], |name| name == "busybox", &unpacked)?;
    Ok(unpacked)
}

const NO_KERNEL: &str = "Debian's kernel for the guest could not be fetched. You can bring a kernel of your own by \
    three lines in the system's description:\n  kernel = \"./bzImage\"\n  initrd = \"./initrd\"\n  \
    cmdline = \"earlyprintk=ttyS0,115200 console=ttyS0,115200 ...\"";

/// The user's directory of packages, if one is named.
fn brought() -> Option<PathBuf> {
    std::env::var_os(PACKAGES_VARIABLE).map(PathBuf::from)
}

/// A package file: the user's, or else one that was fetched, now or before.
fn package(
    project: &Project,
    debian: Debian,
    brought: Option<&Path>,
    name: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<PathBuf> {
    if let Some(dir) = brought {
        if !dir.is_dir() {
            let help = "it names a directory of .deb files";
            return Err(miette!(help = help, "{PACKAGES_VARIABLE} is {}, which is no directory", dir.display()));
        }
        if let Some(package) = newest(&dir.join(debian.release.name()), &wanted) {
            return Ok(package);
        }
        let packages = matching(dir, &wanted);
        // A kernel's name has its release.
        if packages.len() > 1 && !name.starts_with(KERNELS) {
            return Err(ambiguous(dir, name, debian, &packages));
        }
        if let Some(package) = packages.into_iter().max() {
            return Ok(package);
        }
    }
    let fetched = folder(project, debian).join("packages").join(name);
    cache::keep(&fetched, name, |aside| {
        std::fs::create_dir_all(aside).into_diagnostic()?;
        Apt::new(project, debian)?.fetch(name, aside)
    })?;
    newest(&fetched, wanted).ok_or_else(|| miette!("apt fetched {name}, but it is not in {}", fetched.display()))
}

/// The package's part of the recipe of anything made from it.
fn recipe(package: &Path) -> Result<String> {
    Ok(format!("{} {}", package.file_name().unwrap_or_default().display(), cache::fingerprint(package)?))
}

/// The matching packages in a directory.
fn matching(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_wanted = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted);
    files.filter(|path| path.extension().is_some_and(|e| e == "deb") && is_wanted(path)).collect()
}

/// The last of them.
fn newest(dir: &Path, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    matching(dir, wanted).into_iter().max()
}

/// Files of one package, of which at most one is of the release: their names do not say which.
fn ambiguous(dir: &Path, name: &str, debian: Debian, packages: &[PathBuf]) -> miette::Report {
    let release = debian.release.name();
    let architecture = debian.architecture().name();
    let mut files: Vec<_> =
        packages.iter().flat_map(|path| path.file_name()).map(|file| file.display().to_string()).collect();
    files.sort_unstable();
    let help = format!("move those of {release} into {}, and likewise of other releases", dir.join(release).display());
    miette!(
        help = help,
        "{PACKAGES_VARIABLE} has {name} for {architecture} {} times ({}), and nothing says which is of {release}",
        files.len(),
        files.join(", ")
    )
}

/// Packages with all that they depend on, unpacked into a directory. Their installation scripts do not run.
pub fn packages(project: &Project, debian: Debian, names: &[String]) -> Result<PathBuf> {
    let key = bzimage::fingerprint(names.join(" ").as_bytes());
    let fetched = folder(project, debian).join("packages").join(format!("with-{key}"));
    let recipe = names.join(" ");
    cache::keep(&fetched, &recipe, |aside| Apt::new(project, debian)?.fetch_all(names, aside))?;
    let unpacked = folder(project, debian).join("additions").join(&key);
    cache::keep(&unpacked, &format!("{recipe}, merged"), |aside| {
        std::fs::create_dir_all(aside).into_diagnostic()?;
        let mut packages = project::entries_below(&fetched)?;
        packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
        for package in packages {
            extract(&package, aside)?;
        }
        merge(aside)
    })?;
    Ok(unpacked)
}

/// Makes the links that base-files has where a release has no /lib of its own: programs name their loader in /lib or /lib64.
fn merge(root: &Path) -> Result<()> {
    for name in ["lib", "lib64"] {
        let (link, target) = (root.join(name), Path::new("usr").join(name));
        if !link.exists() && root.join(&target).is_dir() {
            std::os::unix::fs::symlink(target, link).into_diagnostic()?;
        }
    }
    Ok(())
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

    const I386: Debian = Debian::I386;
    const AMD64: Debian = Debian::AMD64;

    #[test]
    fn the_kernel_is_of_the_flavour_and_the_release_asked_for() {
        let all = [
            (I386, "linux-image-6.1.0-50-686_6.1.176-1_i386.deb"),
            (Debian::with(Flavour::I686Pae), "linux-image-6.1.0-50-686-pae_6.1.176-1_i386.deb"),
            (Debian { release: Release::Bookworm, ..AMD64 }, "linux-image-6.1.0-50-amd64_6.1.176-1_amd64.deb"),
            (AMD64, "linux-image-6.12.57+deb13-amd64_6.12.57-1_amd64.deb"),
            (Debian::with(Flavour::CloudAmd64), "linux-image-6.12.57+deb13-cloud-amd64_6.12.57-1_amd64.deb"),
        ];
        for (wanted, _) in all {
            for (debian, file) in all {
                assert_eq!(is_kernel(file, wanted), debian == wanted, "{file} for {wanted:?}");
            }
            for other in [
                "linux-image-686",
                "linux-image-6.1.0-50-686-dbg",
                "linux-image-6.1.0-50-rt-686-pae_6_i386.deb",
                "linux-image-6.12.57+deb13-amd64-unsigned_6.12.57-1_amd64.deb",
                "linux-image-6.12.57+deb13-rt-amd64_6.12.57-1_amd64.deb",
                "linux-image-6.12.57+deb13-arm64_6.12.57-1_arm64.deb",
            ] {
                assert!(!is_kernel(other, wanted), "{other}");
            }
        }
    }

    #[test]
    fn a_release_without_a_lib_of_its_own_gets_links_to_it() {
        let (project, _) = empty("merge");
        let root = &project.root;
        for dir in ["merged/usr/lib64", "split/usr/lib", "split/lib"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        merge(&root.join("merged")).unwrap();
        merge(&root.join("split")).unwrap();
        assert_eq!(std::fs::read_link(root.join("merged/lib64")).unwrap(), Path::new("usr/lib64"));
        assert!(!root.join("merged/lib").exists() && !root.join("split/lib").is_symlink());
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn modules_may_be_compressed() {
        for file in ["virtio-rng.ko", "virtio_rng.ko.xz", "virtio-rng.ko.zst"] {
            assert!(is_module_file(file.as_bytes(), "virtio-rng"), "{file}");
        }
        assert!(!is_module_file(b"virtio-rng.ko.dwo", "virtio-rng") && !is_module_file(b"virtio.ko", "virtio-rng"));
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
            let path = busybox_from(&project, I386, Some(&packages)).unwrap();
            assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
        };
        pack(&packages, "busybox-static_1_i386.deb", "the first");
        busybox("the first");
        std::fs::remove_file(packages.join("busybox-static_1_i386.deb")).unwrap();
        pack(&packages, "busybox-static_2_i386.deb", "the second");
        busybox("the second");
        std::fs::write(folder(&project, I386).join("busybox"), "the sec").unwrap();
        busybox("the second");
        pack(&packages, "busybox-static_3_amd64.deb", "for others");
        busybox("the second");
        std::fs::remove_dir_all(project.root).unwrap();
    }

    #[test]
    fn packages_of_several_releases_are_told_apart_by_their_folders() {
        if !process::exists("dpkg-deb") {
            return;
        }
        let (project, packages) = empty("releases");
        let bookworm = Debian { release: Release::Bookworm, ..AMD64 };
        let busybox = |debian| {
            let path = busybox_from(&project, debian, Some(&packages)).map_err(|error| error.to_string())?;
            Ok::<_, String>(std::fs::read_to_string(path).unwrap())
        };
        pack(&packages, "busybox-static_1.35_amd64.deb", "of bookworm");
        pack(&packages, "busybox-static_1.37_amd64.deb", "of trixie");
        let error = busybox(AMD64).unwrap_err();
        assert_eq!(
            error,
            "PORTCULLIS_GUEST_PACKAGES has busybox-static for amd64 2 times (busybox-static_1.35_amd64.deb, \
             busybox-static_1.37_amd64.deb), and nothing says which is of trixie"
        );
        for (file, release) in
            [("busybox-static_1.35_amd64.deb", "bookworm"), ("busybox-static_1.37_amd64.deb", "trixie")]
        {
            std::fs::create_dir_all(packages.join(release)).unwrap();
            std::fs::rename(packages.join(file), packages.join(release).join(file)).unwrap();
        }
        assert_eq!(busybox(AMD64).as_deref(), Ok("of trixie"));
        assert_eq!(busybox(bookworm).as_deref(), Ok("of bookworm"));
        std::fs::remove_dir_all(project.root).unwrap();
    }

    #[test]
    fn a_directory_of_packages_that_is_not_there_is_an_error() {
        let (project, packages) = empty("misspelt");
        let error = busybox_from(&project, I386, Some(&packages.join("mispelt"))).unwrap_err().to_string();
        assert!(error.contains(PACKAGES_VARIABLE) && error.contains("mispelt"), "{error}");
        std::fs::remove_dir_all(project.root).unwrap();
    }
}
