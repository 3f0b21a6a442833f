//! 64-bit guests: Debian's amd64 kernels of both releases, each with the initramfs that it gets.

use capdl_spec::host::{Debian, Flavour, Release};
use miette::{Result, ensure};
use vtx::cpuid::Processor;

use super::{ask, wait_for_shell};
use crate::bochs::Machine;
use crate::bochs::config::Devices;
use crate::guest::{self, debian, relocation};
use crate::kernel::Build;
use crate::native::{self, Linux};
use crate::project;
use crate::test::{Context, Group, Outcome, Test};

/// Said of each PCI bus without memory-mapped configuration space.
const NO_ECAM: &str = "fail to add MMCONFIG information";

pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![
        test("amd64-bookworm", |context| in_a_vm(context, Release::Bookworm, Flavour::Amd64)),
        test("amd64-bookworm-cloud", |context| in_a_vm(context, Release::Bookworm, Flavour::CloudAmd64)),
        test("amd64-trixie", |context| in_a_vm(context, Release::Trixie, Flavour::Amd64)).long(),
        test("amd64-trixie-cloud", |context| in_a_vm(context, Release::Trixie, Flavour::CloudAmd64)).long(),
        test("amd64-by-pvh", by_pvh),
        test("amd64-natively-bookworm", |context| natively(context, Release::Bookworm, Flavour::Amd64)).long(),
        test("amd64-natively-bookworm-cloud", |context| natively(context, Release::Bookworm, Flavour::CloudAmd64))
            .long(),
        test("amd64-natively-trixie", |context| natively(context, Release::Trixie, Flavour::Amd64)).long(),
        test("amd64-natively-trixie-cloud", |context| natively(context, Release::Trixie, Flavour::CloudAmd64)).long(),
    ]
}

/// Boots kernel and initramfs in a VM. The kernel finds the processor's features, and complains of nothing.
fn in_a_vm(context: &Context, release: Release, flavour: Flavour) -> Result<Outcome> {
    const FLAGS: [&str; 8] = ["lm", "nx", "syscall", "cx16", "sse4_2", "popcnt", "rdtscp", "pat"];
    if context.prefix(Build::Release)?.processor() == Processor::Bits32 {
        return Ok(Outcome::Skipped("the kernel is configured for 32-bit guests only".into()));
    }
    let (kernel, of) = (flavour.name(), release.name());
    let vm =
        format!("[[vm]]\nname = \"linux\"\nmemory = \"256 MiB\"\nkernel = \"debian-{kernel}\"\nrelease = \"{of}\"\n");
    let mut machine = booted(context, &format!("{kernel}-{of}"), &format!("{vm}initrd = \"debian-busybox\"\n"))?;
    wait_for_shell(&mut machine)?;
    let said = ask(&mut machine, "uname -m; uname -r")?;
    let expected = format!("x86_64\n{}\n", debian::release(&context.project, Debian { release, flavour })?);
    ensure!(said == expected, "uname -m; uname -r says {said:?}, not {expected:?}");
    let cpu = ask(&mut machine, "grep -m 1 ^flags /proc/cpuinfo")?;
    let missing: Vec<&str> = FLAGS.into_iter().filter(|&flag| !cpu.split_whitespace().any(|has| has == flag)).collect();
    ensure!(missing.is_empty(), "the guest's processor lacks {missing:?}: {cpu}");
    let log = ask(&mut machine, "dmesg -r | grep '^<[0-4]>' || true")?;
    let complaints: Vec<&str> = log.lines().filter(|line| !line.contains(NO_ECAM)).collect();
    ensure!(complaints.is_empty(), "Linux complains:\n{}", complaints.join("\n"));
    Ok(Outcome::Passed(expected.replace('\n', " ").trim().to_owned()))
}

/// Boots a vmlinux by its entry for PVH, which the same kernel as a bzImage does not use.
fn by_pvh(context: &Context) -> Result<Outcome> {
    /// What Linux makes of it where no Xen is: arch/x86/platform/pvh/enlighten.c has the number 0xb.
    const LOADER: &str = "176\n";
    if context.prefix(Build::Release)?.processor() == Processor::Bits32 {
        return Ok(Outcome::Skipped("the kernel is configured for 32-bit guests only".into()));
    }
    let (project, debian) = (&context.project, Debian { release: Release::Trixie, flavour: Flavour::CloudAmd64 });
    let unpacked = project::read(&guest::vmlinux(project, &debian::kernel(project, debian)?)?)?;
    project::write(&project.target.join("test-systems/vmlinux-pvh"), &relocation::with_notes(unpacked))?;
    let vm =
        "[[vm]]\nname = \"linux\"\nmemory = \"256 MiB\"\nkernel = \"./vmlinux-pvh\"\ninitrd = \"debian-busybox\"\n";
    let mut machine = booted(context, "pvh", vm)?;
    wait_for_shell(&mut machine)?;
    let loader = ask(&mut machine, "cat /proc/sys/kernel/bootloader_type")?;
    ensure!(loader == LOADER, "the loader is {loader:?}");
    let log = ask(&mut machine, "dmesg -r | grep '^<[0-4]>' || true")?;
    let complaints: Vec<&str> = log.lines().filter(|line| !line.contains(NO_ECAM)).collect();
    ensure!(complaints.is_empty(), "Linux complains:\n{}", complaints.join("\n"));
    let said = ask(&mut machine, "uname -m; ls /sys/firmware/acpi/tables | grep -c FACP; grep -c RAM /proc/iomem")?;
    ensure!(said == "x86_64\n1\n2\n", "machine, FADT and ranges of RAM are {said:?}");
    Ok(Outcome::Passed(said.replace('\n', " ").trim().to_owned()))
}

/// A system of one description.
fn booted(context: &Context, name: &str, vms: &str) -> Result<Machine> {
    let description = context.project.target.join("test-systems").join(format!("{name}.toml"));
    project::write(&description, format!("board = \"bochs\"\n{vms}").as_bytes())?;
    context.boot_with(&description.to_string_lossy(), Build::Release, |_| {})
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
