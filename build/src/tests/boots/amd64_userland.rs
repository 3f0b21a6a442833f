//! What 64-bit guests run: packages, programs and modules that the build adds to their initrd, and Debian 13 with systemd
//! from a disk. Each natively and in a VM, where a 32-bit guest is beside it.

use std::path::PathBuf;
use std::time::Duration;

use capdl_spec::host::{Additions, Debian, Flavour, Release};
use miette::{IntoDiagnostic, Result, WrapErr, ensure};

use super::{LIMIT, ask, at, description, last_lines};
use crate::bochs::Machine;
use crate::bochs::config::Devices;
use crate::guest::{self, debian, disk};
use crate::kernel::Build;
use crate::native::{self, Linux};
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![
        test("debian-13-from-a-virtio-disk", from_a_virtio_disk).long(),
        test("amd64-beside-i386-at-a-switch", side_by_side),
        test("debian-13-natively-from-a-disk", natively_from_a_disk).long(),
        test("additions-to-bookworm-natively", |context| additions(context, Release::Bookworm)).long(),
        test("additions-to-trixie-natively", |context| additions(context, Release::Trixie)).long(),
    ]
}

/// How long systemd may take.
const LONG: Duration = LIMIT.saturating_mul(3);

/// Boots a description of tests/systems/; why not, where guests have 32 bits.
fn boot(context: &Context, name: &str) -> Result<std::result::Result<Machine, Outcome>> {
    let system = description(context, name).to_string_lossy().into_owned();
    match context.image(&system, Build::Release) {
        Err(error) if error.to_string().contains("a 64-bit kernel") => {
            Ok(Err(Outcome::Skipped("guests have 32 bits on this kernel".into())))
        }
        Err(error) => Err(error),
        Ok(_) => context.boot(&system, Build::Release).map(Ok),
    }
}

/// One guest reaches the other through the switch, and each is as wide as its kernel is.
fn side_by_side(context: &Context) -> Result<Outcome> {
    let mut machine = match boot(context, "amd64-and-i386")? {
        Ok(machine) => machine,
        Err(skipped) => return Ok(skipped),
    };
    for (guest, width, other) in [("wide", "x86_64", "10.0.0.2"), ("narrow", "i686", "10.0.0.1")] {
        let said = at(&mut machine, guest, &format!("uname -m; ping -c 3 {other} | grep -c 'bytes from'"))?;
        ensure!(said == format!("{width}\n3\n"), "{guest} says\n{said}");
    }
    passed()
}

fn from_a_virtio_disk(context: &Context) -> Result<Outcome> {
    match boot(context, "amd64-disk")? {
        Ok(mut machine) => is_debian_13(&mut machine),
        Err(skipped) => Ok(skipped),
    }
}

fn natively_from_a_disk(context: &Context) -> Result<Outcome> {
    let disk = disk::image(&context.project, disk::Contents::Systemd)?;
    let devices = Devices { disk: Some(disk), ..Devices::default() };
    let initrd = guest::disk_initramfs(&context.project, Debian::AMD64)?;
    is_debian_13(&mut natively(context, Debian::AMD64, initrd, devices, "root=/dev/sda1 TERM=dumb")?)
}

/// Logs in, and waits until everything has started.
fn is_debian_13(machine: &mut Machine) -> Result<Outcome> {
    let waited = machine.console.wait_for_prompt(LONG);
    waited.into_diagnostic().wrap_err_with(|| last_lines(machine))?;
    let said = ask(
        machine,
        "cat /etc/debian_version; findmnt -n -o OPTIONS / | cut -d , -f 1; systemctl is-system-running --wait",
    )?;
    ensure!(said.starts_with("13.") && said.ends_with("\nrw\nrunning\n"), "the system on the disk says:\n{said}");
    passed()
}

/// A package with its libraries, and a program and a module of the user's.
fn additions(context: &Context, release: Release) -> Result<Outcome> {
    let (project, debian) = (&context.project, Debian { release, flavour: Flavour::CloudAmd64 });
    let tutorial = project.root.join("systems/tutorial-linux");
    let additions = Additions {
        packages: vec!["strace".into()],
        programs: ["hello", "poke"].map(|folder| tutorial.join(folder)).into(),
        debian,
        has_kernel: true,
        ..Additions::default()
    };
    let initrd = guest::additions::extended(project, &guest::initramfs(project, debian, None)?, &additions)?;
    let mut machine = natively(context, debian, initrd, Devices::default(), "")?;
    let waited = machine.console.wait_for_prompt(LIMIT);
    waited.into_diagnostic().wrap_err_with(|| last_lines(&machine))?;
    let said =
        ask(&mut machine, "strace -c hello 2>/dev/null; insmod /lib/modules/poke.ko && grep -c poke /proc/devices")?;
    ensure!(said == "Hello, World!\n1\n", "the package, the program and the module: {said}");
    passed()
}

/// Boots a Debian without Portcullis.
fn natively(context: &Context, debian: Debian, initrd: PathBuf, devices: Devices, words: &str) -> Result<Machine> {
    let name = format!("native-{}-{}", debian.release.name(), initrd.file_stem().unwrap_or_default().display());
    let linux = Linux {
        kernel: debian::kernel(&context.project, debian)?,
        initrd,
        cmdline: format!("console=ttyS0,115200 cryptomgr.notests=1 quiet {words}"),
        memory_mib: 256,
        devices,
    };
    native::boot(&context.project, &name, &linux, |_| ())
}
