//! Debian's archive for the guests: the same releases and architectures on every host.
//!
//! apt runs with directories and sources of its own for each release and architecture, so the host's package lists and architectures stay as they are, no
//! privilege is needed, and hosts of different releases make the same guest. It uses the host's mirrors (those that
//! `apt-get update` would ask), its proxy, and the archive's keyring.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use capdl_spec::host::Debian;
use miette::{IntoDiagnostic, Result, miette};

use crate::process;
use crate::progress::{self, Step};
use crate::project::{self, Project};

/// The environment variable that names a directory of packages.
pub(super) const PACKAGES_VARIABLE: &str = "PORTCULLIS_GUEST_PACKAGES";

/// The beginning of the names of kernel packages, and of the metapackages that depend on them.
pub(super) const KERNELS: &str = "linux-image-";

/// The keys with which Debian signs its releases (package debian-archive-keyring, which Ubuntu has as well).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// How often to try fetching the archive's index, which may be in the middle of an update.
const ATTEMPTS: u32 = 4;

/// An apt that is independent of the host's packages. Of a release its updates are not used, so the result changes only
/// with a point release.
pub struct Apt {
    debian: Debian,
    config: PathBuf,
}

impl Apt {
    /// Asks the host's apt for its mirrors.
    pub fn new(project: &Project, debian: Debian) -> Result<Self> {
        let (release, architecture) = (debian.release.name(), debian.architecture().name());
        if !process::exists("apt-get") {
            let help = format!("put the .deb files into a directory and name it in {PACKAGES_VARIABLE}");
            return Err(miette!(
                help = help,
                "packages of Debian {release} for {architecture} are needed, and there is no apt-get here"
            ));
        }
        let mut query = process::tool("apt-get");
        query.args(["update", "--print-uris", "-o", "Debug::NoLocking=true"]);
        let mirrors = mirrors(&process::finish(query, |_| {})?.1);
        if mirrors.is_empty() {
            let help = format!("add one, or put the .deb files into a directory and name it in {PACKAGES_VARIABLE}");
            return Err(miette!(help = help, "this machine's apt sources name no mirror of Debian"));
        }
        let dir = project.guest().join("apt").join(format!("{release}-{architecture}"));
        for name in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(dir.join(name)).into_diagnostic()?;
        }
        let config = dir.join("apt.conf");
        project::write(&dir.join("status"), b"")?;
        project::write(&dir.join("sources.list"), sources(&mirrors, release, Path::new(KEYRING).is_file()).as_bytes())?;
        project::write(&config, configuration(&dir, architecture).as_bytes())?;
        Ok(Self { debian, config })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = process::tool(program);
        // The host may prefer its own release, which would be an error here.
        command.env("APT_CONFIG", &self.config).args(["-o", "APT::Default-Release="]);
        command
    }

    /// Downloads a package into a directory. The index of an earlier fetch is used first; it may be too old.
    pub fn fetch(&self, name: &str, into: &Path) -> Result<()> {
        let mut error = match self.candidate(name)? {
            Some(exact) => match self.download(&exact, into) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            None => miette!("there is no index yet"),
        };
        for attempt in 1..=ATTEMPTS {
            let said = self.update()?;
            // One broken index of several makes the update fail, and may be one that we do not need.
            error = match self.candidate(name)? {
                Some(exact) => match self.download(&exact, into) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                None => self.unavailable(name, &said),
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

    /// Downloads packages, and all that they depend on, into a directory. The index of an earlier fetch is used first.
    pub fn fetch_all(&self, names: &[String], into: &Path) -> Result<()> {
        std::fs::create_dir_all(into.join("partial")).into_diagnostic()?;
        let install = || {
            let mut install = self.command("apt-get");
            install.args(["install", "--download-only", "--no-install-recommends", "--yes"]);
            install.arg("-o").arg(format!("Dir::Cache::archives={}", into.display())).args(names);
            process::run(&format!("guest: fetch {}", names.join(", ")), install)
        };
        if install().is_ok() {
            return Ok(());
        }
        let said = self.update()?;
        install().map(|_| ()).map_err(|error| error.wrap_err(self.unavailable(&names.join(", "), &said)))
    }

    /// The line `deb URI RELEASE main` of the mirror that answers.
    pub fn source(&self) -> Result<String> {
        let ask = || {
            let mut query = self.command("apt-get");
            query.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
            Ok::<_, miette::Report>(process::finish(query, |_| {})?.1)
        };
        let mut known = ask()?;
        if known.trim().is_empty() {
            self.update()?;
            known = ask()?;
        }
        let uri = known.lines().next().filter(|line| line.contains(':'));
        let release = self.debian.release.name();
        let uri =
            uri.ok_or_else(|| miette!("no mirror of Debian that this machine's apt sources name has {release}"))?;
        Ok(format!("deb {uri} {release} main"))
    }

    fn update(&self) -> Result<String> {
        let (release, architecture) = (self.debian.release.name(), self.debian.architecture().name());
        let step = Step::start(&format!("guest: fetch the package index of {release} for {architecture}"));
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

    fn unavailable(&self, name: &str, said: &str) -> miette::Report {
        let is_error = |line: &&str| line.starts_with("E: ") || line.starts_with("Err:") || line.starts_with("W: ");
        let errors: Vec<&str> = said.lines().filter(is_error).collect();
        // A keyring from before the release.
        let unknown_key = errors.iter().any(|line| line.contains("NO_PUBKEY") || line.contains("Missing key"));
        let first =
            if unknown_key { "install this system's updates: its debian-archive-keyring is too old; " } else { "" };
        let help = format!("{first}or put the .deb files into a directory and name it in {PACKAGES_VARIABLE}");
        let (release, architecture) = (self.debian.release.name(), self.debian.architecture().name());
        let errors = errors.join("\n");
        miette!(help = help, "the mirror of Debian gives no {name} for {architecture} of {release}\n{errors}")
    }
}

/// The mirrors of Debian in what `apt-get update --print-uris` would fetch: `'URI/dists/SUITE/InRelease' NAME 0`.
/// Another archive may have such a name too; Debian has not signed it, so apt refuses it.
fn mirrors(uris: &str) -> Vec<String> {
    let mut mirrors = Vec::new();
    for line in uris.lines().filter(|line| line.contains("/InRelease'")) {
        let uri = line.trim_start_matches('\'').split_once("/dists/").map(|(uri, _)| uri.trim_end_matches('/'));
        let Some((uri, folder)) = uri.and_then(|uri| Some((uri, uri.rsplit_once('/')?.1))) else { continue };
        let is_debian = folder.starts_with("debian") && !folder.contains("security");
        if is_debian && !mirrors.iter().any(|known| known == uri) {
            mirrors.push(uri.to_owned());
        }
    }
    mirrors
}

fn sources(mirrors: &[String], release: &str, keyring: bool) -> String {
    let option = if keyring { format!("[signed-by={KEYRING}] ") } else { String::new() };
    mirrors.iter().map(|mirror| format!("deb {option}{mirror} {release} main\n")).collect()
}

/// The kernel package in the answer of `apt-cache depends`.
fn dependency(output: &str) -> Option<String> {
    let names = output.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let kernel =
        |name: &&str| name.strip_prefix(KERNELS).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    names.map(str::trim).find(kernel).map(str::to_owned)
}

fn configuration(dir: &Path, architecture: &str) -> String {
    let dir = dir.display();
    format!(
        "APT::Architecture \"{architecture}\";\n\
         #clear APT::Architectures;\n\
         APT::Architectures {{ \"{architecture}\"; }};\n\
         APT::Sandbox::User \"\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         Debug::NoLocking \"true\";\n\
         Dir::State \"{dir}\";\n\
         Dir::State::lists \"{dir}/lists\";\n\
         Dir::State::status \"{dir}/status\";\n\
         Dir::Cache \"{dir}/cache\";\n\
         Dir::Etc::sourcelist \"{dir}/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metapackage_names_the_kernel() {
        let output = "linux-image-686\n  Depends: linux-image-6.1.0-50-686\n";
        assert_eq!(dependency(output).as_deref(), Some("linux-image-6.1.0-50-686"));
        let output = "linux-image-cloud-amd64\n  Depends: linux-image-6.12.57+deb13-cloud-amd64\n";
        assert_eq!(dependency(output).as_deref(), Some("linux-image-6.12.57+deb13-cloud-amd64"));
    }

    #[test]
    fn an_unknown_metapackage_names_nothing() {
        assert_eq!(dependency("N: Unable to locate package linux-image-686\n"), None);
    }

    #[test]
    fn the_mirror_is_the_hosts_whatever_its_release_and_architecture() {
        let uris = "'http://a/ubuntu/dists/noble/InRelease' a_InRelease 0 \n\
                    'http://b/debian/dists/trixie/InRelease' b_trixie_InRelease 0 \n\
                    'http://b/debian/dists/trixie-updates/InRelease' b_trixie-updates_InRelease 0 \n\
                    'http://b/debian-security/dists/trixie-security/InRelease' b_InRelease 0 \n\
                    'http://b/debian/dists/trixie/main/binary-amd64/Packages.xz' b_Packages 0 \n\
                    'mirror+file:/etc/apt/mirrors/debian.list/dists/trixie/InRelease' c_InRelease 0 \n";
        assert_eq!(mirrors(uris), ["http://b/debian", "mirror+file:/etc/apt/mirrors/debian.list"]);
        assert_eq!(mirrors("'http://a/ubuntu/dists/noble/InRelease' a 0 \n"), [""; 0]);
    }

    #[test]
    fn every_host_gets_the_release_that_is_wanted_with_debians_signature() {
        let line = format!("deb [signed-by={KEYRING}] http://b/debian bookworm main\n");
        assert_eq!(sources(&["http://b/debian".into()], "bookworm", true), line);
        assert_eq!(sources(&["http://b/debian".into()], "trixie", false), "deb http://b/debian trixie main\n");
    }

    #[test]
    fn apt_keeps_to_its_own_directory() {
        let text = configuration(Path::new("/t"), "i386");
        for line in ["Dir::State \"/t\";", "APT::Architecture \"i386\";", "Dir::Etc::sourcelist \"/t/sources.list\";"] {
            assert!(text.contains(line), "{text}");
        }
    }
}
