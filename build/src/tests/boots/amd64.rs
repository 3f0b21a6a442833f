//! 64-bit guests: Debian's amd64 kernels of both releases, each with the initramfs that it gets.

use capdl_spec::host::{Debian, Flavour, Release};
use miette::{Result, ensure};

use super::{ask, wait_for_shell};
use crate::bochs::config::Devices;
use crate::guest::{self, debian};
use crate::native::{self, Linux};
use crate::test::{Context, Group, Outcome, Test};

pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![
        test("amd64-natively-bookworm", |context| natively(context, Release::Bookworm, Flavour::Amd64)),
        test("amd64-natively-bookworm-cloud", |context| natively(context, Release::Bookworm, Flavour::CloudAmd64)),
        test("amd64-natively-trixie", |context| natively(context, Release::Trixie, Flavour::Amd64)),
        test("amd64-natively-trixie-cloud", |context| natively(context, Release::Trixie, Flavour::CloudAmd64)),
    ]
}

const COMMAND_LINE: &str = "console=ttyS0,115200 cryptomgr.notests=1 quiet";

/// Boots kernel and initramfs on the board without Portcullis, and looks at what its shell says.
fn natively(context: &Context, release: Release, flavour: Flavour) -> Result<Outcome> {
    let (project, debian) = (&context.project, Debian { release, flavour });
    let linux = Linux {
        kernel: debian::kernel(project, debian)?,
        initrd: guest::disk_initramfs(project, debian)?,
        cmdline: COMMAND_LINE.to_owned(),
        memory_mib: 256,
        devices: Devices::default(),
    };
    let name = format!("native-{}-{}", release.name(), flavour.name());
    let mut machine = native::boot(project, &name, &linux, |_| ())?;
    wait_for_shell(&mut machine)?;
    let said = ask(&mut machine, "uname -m; uname -r")?;
    let expected = format!("x86_64\n{}\n", debian::release(project, debian)?);
    ensure!(said == expected, "uname -m; uname -r says {said:?}, not {expected:?}");
    // The programs and the modules are of the kernel's architecture, too.
    for command in
        ["lsmod | grep -q uio || modprobe uio", "port nothing /bin/sh || [ $? = 1 ]", "portcullis-channel list"]
    {
        ask(&mut machine, command)?;
    }
    Ok(Outcome::Passed(expected.replace('\n', " ").trim().to_owned()))
}
