//! Installs the missing packages, through apt: as root, or with sudo; where neither works, it says what to type.

use std::process::Command;

use miette::{Result, miette};

use crate::packages::{self, Package, Purpose};
use crate::{process, progress};

/// How often apt is asked before it is given up: an archive can be in the middle of an update.
const ATTEMPTS: u32 = 3;

/// How packages can be installed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Installer {
    /// We are root.
    Root,
    /// `sudo` works, perhaps after asking for a password on the terminal.
    Sudo,
}

/// Makes sure that everything for `purposes` is installed. Optional packages that cannot be had are only mentioned.
pub fn ensure(purposes: &[Purpose]) -> Result<()> {
    let missing = packages::missing(&packages::for_purposes(purposes), &packages::installed()?);
    if missing.is_empty() {
        return Ok(());
    }
    progress::say(&announce(&missing));
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
    let Some(installer) = installer() else {
        return Err(miette!(help = format!("run: {}", by_hand(missing)), "{}", why_not()));
    };
    let mut error = None;
    for attempt in 1..=ATTEMPTS {
        // The lists of a fresh machine are empty or old. A failed update need not matter: the install tells.
        let _ = process::run("apt-get update", apt(installer, &["update"]));
        let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
        arguments.extend(missing.iter().map(|package| package.name));
        match process::run("apt-get install", apt(installer, &arguments)) {
            Ok(_) => return Ok(()),
            Err(failure) => error = Some(failure),
        }
        std::thread::sleep(std::time::Duration::from_secs(5 * u64::from(attempt)));
    }
    let error = error.map_or_else(String::new, |error| error.to_string());
    Err(miette!(help = format!("try it by hand: {}", by_hand(missing)), "{error}"))
}

/// The list that the user reads before anything is installed.
fn announce(missing: &[Package]) -> String {
    let width = missing.iter().map(|package| package.name.len()).max().unwrap_or(0);
    let lines = missing.iter().map(|package| {
        let why = package.why;
        format!("  {:width$}  {}: {why}", package.name, package.purpose.describe())
    });
    format!("Installing Debian packages that are missing:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// The command that a person would type.
pub fn by_hand(missing: &[Package]) -> String {
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    format!("sudo apt-get update && sudo apt-get install --yes --no-install-recommends {}", names.join(" "))
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
    let authorised = Command::new("sudo").arg("--validate").status();
    authorised.is_ok_and(|status| status.success()).then_some(Installer::Sudo)
}

fn why_not() -> &'static str {
    if process::exists("apt-get") {
        "packages are missing, and this user can install them neither as root nor with sudo"
    } else {
        "packages are missing, and there is no apt-get on this machine (it is not a Debian or Ubuntu)"
    }
}

fn apt(installer: Installer, arguments: &[&str]) -> Command {
    let mut command = match installer {
        Installer::Root => Command::new("env"),
        Installer::Sudo => {
            let mut sudo = Command::new("sudo");
            sudo.args(["--non-interactive", "env"]);
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
    fn the_user_is_told_what_is_installed_and_why() {
        let text = announce(&packages::for_purposes(&[Purpose::Bochs]));
        assert!(text.contains("bochsbios  run in Bochs: its BIOS"), "{text}");
    }

    #[test]
    fn the_command_for_the_user_names_every_package() {
        let text = by_hand(&packages::for_purposes(&[Purpose::Image]));
        assert!(text.ends_with("install --yes --no-install-recommends xorriso isolinux syslinux-common"), "{text}");
    }

    #[test]
    fn apt_is_never_asked_a_question() {
        let text = process::show(&apt(Installer::Sudo, &["install", "--yes", "gcc"]));
        assert!(text.starts_with("sudo --non-interactive env DEBIAN_FRONTEND=noninteractive apt-get"), "{text}");
    }
}
