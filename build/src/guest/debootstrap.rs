//! Installs a small Debian into a tar archive, with mmdebstrap: 12 for i386 with sysvinit, or 13 for amd64 with systemd.
//!
//! mmdebstrap chooses the mode: as root in a chroot, else in a user namespace, else with fakechroot. The archive is the
//! same each way, and from run to run: sorted, and no time in it is later than SOURCE_DATE_EPOCH. Debian's release
//! alone is used, without its updates, so it changes only with a point release.

use std::path::{Path, PathBuf};
use std::process::Command;

use capdl_spec::host::{Debian, Release};
use miette::Result;

use super::archive::Apt;
use super::bzimage;
use crate::packages::Purpose;
use crate::project::Project;
use crate::{cache, process, setup};

/// 1 January 2000, 00:00 UTC: no file is newer.
pub const EPOCH: u64 = 946_684_800;

/// What is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installation {
    /// With sysvinit.
    Sysv,
    /// With systemd.
    Systemd,
}

impl Installation {
    /// Part of files' names.
    const fn name(self) -> &'static str {
        match self {
            Self::Sysv => "sysv",
            Self::Systemd => "systemd",
        }
    }

    const fn debian(self) -> Debian {
        match self {
            Self::Sysv => Debian::I386,
            Self::Systemd => Debian::AMD64,
        }
    }

    /// Packages beside Debian's essential ones: an init, the network and its tools, and tools that show the hardware.
    const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Sysv => &[
                "usr-is-merged",
                "sysvinit-core",
                "initscripts",
                "login",
                "ifupdown",
                "iproute2",
                "iputils-ping",
                "udhcpc",
                "pciutils",
                "e2fsprogs",
                "tftp-hpa",
                "netbase",
                "kmod",
            ],
            Self::Systemd => &[
                "systemd-sysv",
                "udev",
                "login",
                "iproute2",
                "iputils-ping",
                "pciutils",
                "e2fsprogs",
                "netbase",
                "kmod",
            ],
        }
    }

    /// A command that switches off what serves absent hardware, or nobody here, and on what the guest needs.
    fn configure(self) -> String {
        match self {
            Self::Sysv => format!("chroot \"$1\" insserv --remove {}", NEEDLESS_SCRIPTS.join(" ")),
            Self::Systemd => format!(
                "systemctl --root=\"$1\" mask {} && systemctl --root=\"$1\" enable systemd-networkd.service",
                NEEDLESS_UNITS.join(" ")
            ),
        }
    }
}

/// Boot scripts for absent hardware and services: a hardware clock, a screen, NFS, modules to load, old logs.
const NEEDLESS_SCRIPTS: [&str; 9] = [
    "hwclock.sh",
    "brightness",
    "mount-configfs",
    "mountnfs.sh",
    "mountnfs-bootclean.sh",
    "kmod",
    "bootlogs",
    "rmnologin",
    "rc.local",
];

/// Units for what a guest has none of: updates, other terminals, a network at once, programs for other machines.
const NEEDLESS_UNITS: [&str; 10] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "getty-static.service",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-networkd-wait-online.service",
];

/// Files of no use on a serial console.
const LEFT_OUT: [&str; 4] = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// The archive; made once, and again when the recipe changes.
pub fn archive(project: &Project, installation: Installation) -> Result<PathBuf> {
    let key = key(installation);
    let path = project.guest().join(format!("{}-{key}.tar", installation.name()));
    cache::keep(&path, &key, |aside| {
        setup::ensure(&[Purpose::Disk])?;
        let source = Apt::new(project, installation.debian())?.source()?;
        let made = process::run("disk: install a Debian", mmdebstrap(installation, &source, aside));
        made.map(|_| ()).map_err(|error| error.wrap_err(NOT_MADE))
    })?;
    Ok(path)
}

const NOT_MADE: &str = "the disk's Debian could not be installed. It needs programs of its architecture to run on this machine, and \
    either root, or user namespaces with entries in /etc/subuid and /etc/subgid, or the package fakechroot. A disk of \
    your own works as well: disk = \"./disk.img\"";

/// Covers everything that the archive depends on, except the packages' versions.
pub fn key(installation: Installation) -> String {
    bzimage::fingerprint(process::show(&mmdebstrap(installation, "", Path::new(""))).as_bytes())
}

fn mmdebstrap(installation: Installation, source: &str, to: &Path) -> Command {
    let debian = installation.debian();
    let mut command = process::tool("mmdebstrap");
    command.env("SOURCE_DATE_EPOCH", EPOCH.to_string());
    command.arg(format!("--architectures={}", debian.architecture().name()));
    command.args(["--variant=essential", "--format=tar"]);
    if debian.release == Release::Bookworm {
        // Later releases are merged by themselves.
        command.arg("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr");
    }
    command.arg(format!("--include={}", installation.packages().join(",")));
    command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg(format!("--customize-hook={}", installation.configure()));
    command.arg(debian.release.name()).arg(to).arg(source);
    command
}
