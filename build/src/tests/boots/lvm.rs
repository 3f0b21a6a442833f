//! A root file system on a logical volume of LVM: behind the passed-through IDE controller, systems/lvm.toml, and on a virtio disk
//! of one partition. The guests end in a shell there, without Debian's boot scripts, which the tests of other disks run.

use std::path::{Path, PathBuf};

use miette::{Result, ensure};

use super::{ask, description, wait_for_shell};
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "a-root-on-a-logical-volume", volume)]
}

fn volume(context: &Context) -> Result<Outcome> {
    on(context, &passed_through(context)?, "/dev/sda1")?;
    on(context, &description(context, "lvm-virtio-blk"), "/dev/vda1")?;
    passed()
}

/// systems/lvm.toml with a shell in place of Debian's init.
fn passed_through(context: &Context) -> Result<PathBuf> {
    let project = &context.project;
    let text = String::from_utf8_lossy(&project::read(&project.root.join("systems/lvm.toml"))?).into_owned();
    let path = project.guest().join("lvm/lvm-with-a-shell.toml");
    project::write(&path, text.replace("debian-root\"", "debian-root init=/bin/sh\"").as_bytes())?;
    Ok(path)
}

/// Boots a system, whose guest has the volume on `partition`.
fn on(context: &Context, system: &Path, partition: &str) -> Result<()> {
    let mut machine = context.boot(&system.to_string_lossy(), Build::Release)?;
    wait_for_shell(&mut machine)?;
    let root = ask(&mut machine, "grep ' / ' /proc/mounts | tail -n 1")?;
    ensure!(root.starts_with("/dev/mapper/debian-root / ext4"), "the root file system: {root}");
    let file = ask(&mut machine, "cat /etc/hostname /etc/fstab")?;
    ensure!(file == "guest1\n/dev/mapper/debian-root / ext4 noatime 0 0\n", "files there: {file}");
    let below = ask(&mut machine, "ls /sys/block/dm-0/slaves")?;
    ensure!(partition.ends_with(below.trim()), "the volume is on {below}");
    Ok(())
}
