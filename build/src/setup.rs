//! Installs the missing packages through apt, as root or with sudo; if neither works, it prints the command to type.

use std::ffi::OsString;
use std::process::Command;

use miette::{Result, miette};

use crate::packages::{self, Evidence, Package, Purpose};
use crate::{process, progress};

/// How often to try apt, since an archive may be in the middle of an update.
const ATTEMPTS: u32 = 3;

/// How packages can be installed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Installer {
    /// We are root.
    Root,
    /// `sudo` works, perhaps after asking for a password on the terminal.
    Sudo,
}

/// Ensures that everything for `purposes` is installed. Optional packages that cannot be installed are only mentioned.
pub fn ensure(purposes: &[Purpose]) -> Result<()> {
    let missing = packages::missing(&packages::for_purposes(purposes));
    if missing.is_empty() {
        return Ok(());
    }
    let optional = missing.iter().all(|package| package.purpose.is_optional());
    match install(&missing) {
        Err(error) if optional => {
            progress::say(&format!("going on without them: {error}"));
            Ok(())
        }
        other => other,
    }
}

/// Installs packages that are known to be missing.
fn install(missing: &[Package]) -> Result<()> {
    let installer = installer().ok_or_else(|| uninstallable(missing, process::exists("apt-get")))?;
    progress::say(&format!("Installing Debian packages that are missing:\n{}", list(missing)));
    let mut error = None;
    for attempt in 1..=ATTEMPTS {
        // A fresh machine's lists are empty or old. A failed update may not matter; the install shows whether it does.
        let _ = process::run("apt-get update", apt(installer, &["update"], std::env::vars_os()));
        let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
        arguments.extend(missing.iter().map(|package| package.name));
        match process::run("apt-get install", apt(installer, &arguments, std::env::vars_os())) {
            Ok(_) => return Ok(()),
            Err(failure) => error = Some(failure),
        }
        std::thread::sleep(std::time::Duration::from_secs(5 * u64::from(attempt)));
    }
    let error = error.map_or_else(String::new, |error| error.to_string());
    // Some packages may be installed under other names, so only their contents count.
    let still = packages::missing(missing);
    if still.is_empty() {
        return Ok(());
    }
    Err(miette!(help = format!("try it by hand: {}", by_hand(&still)), "{error}"))
}

/// The error where nothing can be installed: there is no apt, or this user may not use it.
fn uninstallable(missing: &[Package], has_apt: bool) -> miette::Report {
    let list = list(missing);
    if has_apt {
        let help = format!("run, as root: {}", by_hand(missing));
        miette!(help = help, "this is missing, and this user can install it neither as root nor with sudo:\n{list}")
    } else {
        let help = "install what has them; the names are those of Debian's packages";
        miette!(help = help, "this is missing, and there is no apt-get here that could install it:\n{list}")
    }
}

/// The missing packages for the user to read: the package, its purpose, and what was not found of it.
fn list(missing: &[Package]) -> String {
    let width = missing.iter().map(|package| package.name.len()).max().unwrap_or(0);
    let lines = missing.iter().map(|package| {
        let looked_for = match package.evidence {
            Evidence::Program(name) => format!("program {name}"),
            Evidence::File(path) => path.to_owned(),
            Evidence::Module(name) => format!("Python module {name}"),
        };
        format!("  {:width$}  {}: {} ({looked_for})", package.name, package.purpose.describe(), package.why)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The command that a user would type.
pub fn by_hand(missing: &[Package]) -> String {
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let sudo = sudo(process::exists("sudo"), rustix::process::geteuid().is_root());
    format!("{sudo}apt-get update && {sudo}apt-get install --yes --no-install-recommends {}", names.join(" "))
}

/// The beginning of a command that only root may run.
fn sudo(is_here: bool, is_root: bool) -> &'static str {
    if is_here && !is_root { "sudo " } else { "" }
}

fn installer() -> Option<Installer> {
    if !process::exists("apt-get") {
        return None;
    }
    if rustix::process::geteuid().is_root() {
        return Some(Installer::Root);
    }
    if !process::exists("sudo") {
        return None;
    }
    // `sudo -v` asks for the password on the terminal, if it must; without one it fails at once.
    let authorised = process::tool("sudo").arg("--validate").status();
    authorised.is_ok_and(|status| status.success()).then_some(Installer::Sudo)
}

/// How packages would be installed here, for the report. It does not ask for a password and changes nothing.
pub fn way() -> &'static str {
    match (process::exists("apt-get"), rustix::process::geteuid().is_root(), process::exists("sudo")) {
        (false, ..) => "by hand: there is no apt-get",
        (true, true, _) => "through apt, as root",
        (true, false, true) => "through apt, with sudo",
        (true, false, false) => "by root: this user is not, and there is no sudo",
    }
}

/// apt, as root. `environment` is the user's.
fn apt(installer: Installer, arguments: &[&str], environment: impl Iterator<Item = (OsString, OsString)>) -> Command {
    let mut command = match installer {
        Installer::Root => process::tool("env"),
        Installer::Sudo => {
            let mut sudo = process::tool("sudo");
            sudo.args(["--non-interactive", "env"]);
            // sudo does not pass the environment on, so the proxies are passed explicitly.
            for (name, value) in process::proxies(environment) {
                let mut setting = name;
                setting.push("=");
                setting.push(value);
                sudo.arg(setting);
            }
            sudo
        }
    };
    // Another apt may be running (a machine's daily one): wait for its lock.
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]);
    command.args(["-o", "Acquire::Retries=3"]).args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_what_is_missing_and_why() {
        let text = list(&packages::for_purposes(&[Purpose::Bochs]));
        assert!(text.contains("bochsbios  run in Bochs: its BIOS (/usr/share/bochs/BIOS-bochs-latest)"), "{text}");
    }

    #[test]
    fn the_command_for_the_user_names_every_package_and_sudo_only_where_there_is_one() {
        let text = by_hand(&packages::for_purposes(&[Purpose::Image]));
        let packages = "xorriso isolinux syslinux-common grub-common grub-efi-amd64-bin mtools";
        assert!(text.ends_with(&format!("install --yes --no-install-recommends {packages}")), "{text}");
        assert_eq!(
            [(true, false), (true, true), (false, false)].map(|(here, root)| sudo(here, root)),
            ["sudo ", "", ""]
        );
    }

    #[test]
    fn without_sudo_the_command_is_for_root_and_without_apt_there_is_none() {
        let missing = packages::for_purposes(&[Purpose::Image]);
        let help = |has_apt| uninstallable(&missing, has_apt).help().map(|help| help.to_string()).unwrap_or_default();
        assert_eq!(help(true), format!("run, as root: {}", by_hand(&missing)));
        assert!(!help(false).contains("apt-get") && !help(false).contains("sudo"), "{}", help(false));
    }

    #[test]
    fn apt_is_never_asked_a_question() {
        let text = process::show(&apt(Installer::Sudo, &["install", "--yes", "gcc"], std::iter::empty()));
        assert!(text.starts_with("sudo --non-interactive env "), "{text}");
        assert!(text.contains(" DEBIAN_FRONTEND=noninteractive apt-get "), "{text}");
    }

    #[test]
    fn the_proxies_are_those_of_the_user_in_either_spelling() {
        let all = [("http_proxy", "p"), ("HTTPS_PROXY", "q"), ("LD_PRELOAD", "x")];
        let all = all.map(|(name, value)| (name.into(), value.into()));
        let names: Vec<_> = process::proxies(all.clone().into_iter()).map(|(name, _)| name).collect();
        assert_eq!(names, ["http_proxy", "HTTPS_PROXY"]);
        // sudo hands nothing on by itself.
        let text = process::show(&apt(Installer::Sudo, &["update"], all.into_iter()));
        assert!(text.contains(" env http_proxy=p HTTPS_PROXY=q DEBIAN_FRONTEND=noninteractive apt-get "), "{text}");
    }
}
