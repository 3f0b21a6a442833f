//! Fetches the packages of guests from Debian's i386 archive: the 686 kernels and the static busybox.
//!
//! apt runs with a state directory of its own and `APT::Architecture "i386"`, reading the machine's own sources: the
//! host's architecture list and package lists stay as they are, and no privilege is needed. What was fetched stays in
//! target/guest/packages; `PORTCULLIS_GUEST_PACKAGES` names another directory, of packages brought by hand.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use miette::{IntoDiagnostic, Result, miette};

use super::bzimage;
use super::modules::{self, Modules};
use crate::process;
use crate::progress::{self, Step};
use crate::project::{self, Project};

/// How often the archive's index is asked for: it can be in the middle of an update.
const ATTEMPTS: u32 = 4;

/// The environment variable that names a directory of packages.
const PACKAGES_VARIABLE: &str = "PORTCULLIS_GUEST_PACKAGES";

/// How kernels' packages, and the metapackages that depend on them, are called.
const KERNELS: &str = "linux-image-";

/// Debian's kernels for i386.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Without PAE: the default guest's.
    Plain,
    /// With PAE.
    Pae,
}

impl Flavour {
    /// How its packages' names end.
    const fn name(self) -> &'static str {
        match self {
            Flavour::Plain => "686",
            Flavour::Pae => "686-pae",
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
    if unpacked.is_file() {
        return Ok(unpacked);
    }
    unpack(project, &kernel_package(project, flavour)?, "boot", |name| name.starts_with("vmlinuz-"), &unpacked)?;
    Ok(unpacked)
}

fn kernel_package(project: &Project, flavour: Flavour) -> Result<PathBuf> {
    let package = package(project, &flavour.metapackage(), |file| flavour.is_package(file));
    package.map_err(|error| error.wrap_err(NO_KERNEL))
}

/// Modules of the default kernel with all that they depend on, and the release that it calls itself.
pub fn modules(project: &Project, names: &[&str]) -> Result<(String, Modules)> {
    let package = kernel_package(project, Flavour::Plain)?;
    let file = package.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let release = file.split('_').next().and_then(|name| name.strip_prefix(KERNELS)).unwrap_or_default();
    let key = bzimage::fingerprint(format!("{file} {}", names.join(" ")).as_bytes());
    let kept = project.guest().join("modules").join(key);
    if !kept.is_dir() {
        let scratch = Scratch::extract(project, &package)?;
        let found = files_below(&scratch.0.join("lib/modules").join(release));
        let modules = modules::closure(names, |name| {
            let wanted = |path: &&PathBuf| path.file_name().is_some_and(|file| is_module_file(file.as_bytes(), name));
            let path = found.iter().find(wanted);
            project::read(path.ok_or_else(|| miette!("{file} has no module {name}"))?)
        })?;
        let aside = kept.with_extension("part");
        for (name, bytes) in &modules {
            project::write(&aside.join(name), bytes)?;
        }
        std::fs::rename(&aside, &kept).into_diagnostic()?;
    }
    let mut modules = Modules::new();
    for path in files_below(&kept) {
        modules.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), project::read(&path)?);
    }
    Ok((release.to_owned(), modules))
}

/// In file names, and only there, `-` and `_` are two letters.
fn is_module_file(file: &[u8], module: &str) -> bool {
    let plain = |text: &[u8]| text.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect::<Vec<u8>>();
    plain(file) == plain(format!("{module}.ko").as_bytes())
}

/// All regular files below a directory.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files = Vec::new();
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&entry.path())),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

/// Debian's static busybox for i386.
pub fn busybox(project: &Project) -> Result<PathBuf> {
    let unpacked = project.guest().join("busybox-i386");
    if unpacked.is_file() {
        return Ok(unpacked);
    }
    let package = package(project, "busybox-static", |name| name.starts_with("busybox-static_"))?;
    // /bin in Debian 12, /usr/bin later.
    unpack(project, &package, "bin", |name| name == "busybox", &unpacked)
        .or_else(|_| unpack(project, &package, "usr/bin", |name| name == "busybox", &unpacked))?;
    Ok(unpacked)
}

const NO_KERNEL: &str = "the default guest's kernel could not be fetched. Debian 12 has it; Debian 13 and Ubuntu no longer \
    do. Bring a 32-bit kernel by three lines in the system's description:\n  kernel = \"./bzImage\"\n  \
    initrd = \"./initrd\"\n  cmdline = \"earlyprintk=ttyS0,115200 console=ttyS0,115200 ...\"";

/// A package file: one that is here already, or else fetched.
fn package(project: &Project, name: &str, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let ours = project.guest().join("packages");
    let brought = std::env::var_os(PACKAGES_VARIABLE).map(PathBuf::from);
    let find = || brought.iter().chain([&ours]).find_map(|dir| newest(dir, &wanted));
    if let Some(package) = find() {
        return Ok(package);
    }
    std::fs::create_dir_all(&ours).into_diagnostic()?;
    Apt::new(project.guest().join("apt"))?.fetch(name, &ours)?;
    find().ok_or_else(|| miette!("apt fetched {name}, but it is not in {}", ours.display()))
}

/// The last of the matching packages in a directory.
fn newest(dir: &Path, wanted: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let files = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    let is_wanted = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted);
    files.filter(|path| path.extension().is_some_and(|e| e == "deb") && is_wanted(path)).max()
}

/// An apt that has nothing to do with the host's packages.
struct Apt {
    config: PathBuf,
}

impl Apt {
    fn new(dir: PathBuf) -> Result<Self> {
        for name in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(dir.join(name)).into_diagnostic()?;
        }
        let config = dir.join("apt.conf");
        project::write(&dir.join("status"), b"")?;
        project::write(&config, configuration(&dir).as_bytes())?;
        Ok(Self { config })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config).env("LC_ALL", "C");
        command
    }

    /// Downloads a package into a directory. The index of an earlier fetch is used first; it may be too old.
    fn fetch(&self, name: &str, into: &Path) -> Result<()> {
        if !process::exists("apt-get") {
            let help = format!("put the .deb files into a directory and name it in {PACKAGES_VARIABLE}");
            return Err(miette!(help = help, "packages {name} (i386) are needed, and there is no apt-get here"));
        }
        let mut error = match self.candidate(name)? {
            Some(exact) => match self.download(&exact, into) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            None => miette!("there is no index yet"),
        };
        for attempt in 1..=ATTEMPTS {
            let said = self.update()?;
            // One broken index out of several makes the update fail, and need not concern us.
            error = match self.candidate(name)? {
                Some(exact) => match self.download(&exact, into) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                None => unavailable(name, &said),
            };
            let complete = !said.contains("E: ");
            if complete || attempt == ATTEMPTS {
                break;
            }
            progress::say("guest: the archive's index is incomplete; trying again");
            std::thread::sleep(Duration::from_secs(5 * u64::from(attempt)));
        }
        Err(error)
    }

    /// The lines `deb URI RELEASE main` for the release that this machine's sources have, without its updates: what is in
    /// it stays the same between point releases.
    fn release(&self) -> Result<Option<(String, String)>> {
        let mut query = self.command("apt-get");
        query.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]);
        let (_, targets) = process::finish(query, |_| {})?;
        Ok(release(&targets))
    }

    fn update(&self) -> Result<String> {
        let step = Step::start("guest: fetch the i386 package index");
        let mut update = self.command("apt-get");
        update.arg("update");
        let (_, said) = process::finish(update, |line| step.note(line))?;
        step.done();
        Ok(said)
    }

    fn download(&self, name: &str, into: &Path) -> Result<()> {
        let mut download = self.command("apt-get");
        download.args(["download", name]).current_dir(into);
        process::run(&format!("guest: fetch {name}"), download).map(|_| ())
    }

    /// The exact package to download: the metapackage's dependency for the kernel, the name itself otherwise.
    fn candidate(&self, name: &str) -> Result<Option<String>> {
        let mut query = self.command("apt-cache");
        if name.starts_with(KERNELS) {
            query.args(["depends", name]);
            let (_, output) = process::finish(query, |_| {})?;
            return Ok(dependency(&output));
        }
        query.args(["policy", name]);
        let (_, output) = process::finish(query, |_| {})?;
        let available = output.lines().any(|line| line.trim().starts_with("Candidate:") && !line.contains("(none)"));
        Ok(available.then(|| name.to_owned()))
    }
}

/// The release and its source line in the answer of `apt-get indextargets`.
fn release(targets: &str) -> Option<(String, String)> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (uri, release, component) = (words.next()?, words.next()?, words.next()?);
        let plain = component == "main" && !release.contains('-') && uri.contains("debian");
        plain.then(|| (release.to_owned(), format!("deb {uri} {release} main")))
    })
}

/// The Debian release that this machine gets packages from: its name, and the line that apt wants for its i386 part.
pub fn source(project: &Project) -> Result<(String, String)> {
    let release = Apt::new(project.guest().join("apt"))?.release()?;
    release.ok_or_else(|| miette!("this machine's apt sources name no Debian release with i386 packages"))
}

fn unavailable(name: &str, said: &str) -> miette::Report {
    let is_error = |line: &&str| line.starts_with("E: ") || line.starts_with("Err:");
    let errors: Vec<&str> = said.lines().filter(is_error).collect();
    let help = format!("or put the .deb files into a directory and name it in {PACKAGES_VARIABLE}");
    miette!(help = help, "this machine's apt sources have no i386 package {name}\n{}", errors.join("\n"))
}

/// The kernel package in the answer of `apt-cache depends`.
fn dependency(output: &str) -> Option<String> {
    let names = output.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let kernel =
        |name: &&str| name.strip_prefix(KERNELS).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    names.map(str::trim).find(kernel).map(str::to_owned)
}

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "APT::Architecture \"i386\";\n\
         #clear APT::Architectures;\n\
         APT::Architectures {{ \"i386\"; }};\n\
         APT::Sandbox::User \"\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         Debug::NoLocking \"true\";\n\
         Dir::State \"{dir}\";\n\
         Dir::State::lists \"{dir}/lists\";\n\
         Dir::State::status \"{dir}/status\";\n\
         Dir::Cache \"{dir}/cache\";\n"
    )
}

/// Takes one file out of a package.
fn unpack(project: &Project, package: &Path, dir: &str, wanted: impl Fn(&str) -> bool, to: &Path) -> Result<()> {
    let scratch = Scratch::extract(project, package)?;
    let files = std::fs::read_dir(scratch.0.join(dir)).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = files.filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted)).max();
    let file = found.ok_or_else(|| miette!("{} has no such file in /{dir}", package.display()))?;
    project::read(&file).and_then(|bytes| project::write(to, &bytes))
}

/// A package's files, as long as it lives.
struct Scratch(PathBuf);

impl Scratch {
    fn extract(project: &Project, package: &Path) -> Result<Self> {
        let name = package.file_name().unwrap_or_default().display();
        let scratch = Self(project.guest().join(format!("unpack-{}-{name}", std::process::id())));
        let mut extract = Command::new("dpkg-deb");
        extract.arg("--extract").arg(package).arg(&scratch.0);
        process::run(&format!("guest: unpack {name}"), extract)?;
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

    #[test]
    fn the_metapackage_names_the_kernel() {
        let output = "linux-image-686\n  Depends: linux-image-6.1.0-50-686\n";
        assert_eq!(dependency(output).as_deref(), Some("linux-image-6.1.0-50-686"));
    }

    #[test]
    fn an_unknown_metapackage_names_nothing() {
        assert_eq!(dependency("N: Unable to locate package linux-image-686\n"), None);
    }

    #[test]
    fn the_release_is_the_one_without_updates() {
        let targets = "http://a/debian/ bookworm-updates main\nhttp://a/debian/ bookworm contrib\n\
                       http://a/debian/ bookworm main\n";
        let line = "deb http://a/debian/ bookworm main".to_owned();
        assert_eq!(release(targets), Some(("bookworm".to_owned(), line)));
        assert_eq!(release("http://b/ubuntu/ noble main\n"), None);
    }

    #[test]
    fn apt_keeps_to_its_own_directory() {
        let text = configuration(Path::new("/t"));
        assert!(text.contains("Dir::State \"/t\";") && text.contains("APT::Architecture \"i386\";"), "{text}");
    }
}
