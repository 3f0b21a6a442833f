//! Installs a small Debian (i386, sysvinit) into a tar archive, with mmdebstrap.
//!
//! mmdebstrap chooses the mode: as root in a chroot, else in a user namespace, else with fakechroot. The archive is the
//! same each way, and from run to run: sorted, and no time in it is later than SOURCE_DATE_EPOCH. Debian's release
//! alone is used, without its updates, so it changes only with a point release.

use std::path::{Path, PathBuf};
use std::process::Command;

use miette::Result;

use super::archive::{Apt, RELEASE};
use super::bzimage;
use crate::packages::Purpose;
use crate::project::Project;
use crate::{cache, process, setup};

/// 1 January 2000, 00:00 UTC: no file is newer.
pub const EPOCH: u64 = 946_684_800;

/// Packages beside Debian's essential ones: an init, the network and its tools, and tools that show the hardware.
const PACKAGES: [&str; 13] = [
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
];

/// Boot scripts for absent hardware and services: a hardware clock, a screen, NFS, modules to load, old logs.
const NEEDLESS: [&str; 9] = [
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

/// Files of no use on a serial console.
const LEFT_OUT: [&str; 4] = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// The archive; made once, and again when the recipe changes.
pub fn archive(project: &Project) -> Result<PathBuf> {
    let path = project.guest().join(format!("sysv-{}.tar", key()));
    cache::keep(&path, &key(), |aside| {
        setup::ensure(&[Purpose::Disk])?;
        let source = Apt::new(project)?.source()?;
        let made = process::run("disk: install a Debian", mmdebstrap(&source, aside));
        made.map(|_| ()).map_err(|error| error.wrap_err(NOT_MADE))
    })?;
    Ok(path)
}

const NOT_MADE: &str = "the disk's Debian could not be installed. It needs i386 programs to run on this machine, and \
    either root, or user namespaces with entries in /etc/subuid and /etc/subgid, or the package fakechroot. A disk of \
    your own works as well: disk = \"./disk.img\"";

/// Covers everything that the archive depends on, except the packages' versions.
pub fn key() -> String {
    bzimage::fingerprint(process::show(&mmdebstrap("", Path::new(""))).as_bytes())
}

fn mmdebstrap(source: &str, to: &Path) -> Command {
    let mut command = process::tool("mmdebstrap");
    command.env("SOURCE_DATE_EPOCH", EPOCH.to_string());
    command.args(["--architectures=i386", "--variant=essential", "--format=tar"]);
    command.arg("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr");
    command.arg(format!("--include={}", PACKAGES.join(",")));
    command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg(format!("--customize-hook=chroot \"$1\" insserv --remove {}", NEEDLESS.join(" ")));
    command.arg(RELEASE).arg(to).arg(source);
    command
}
