//! A guest that starts another kernel by kexec while frames come and its disk is read: by itself, and from a panic. Nothing
//! resets the devices in between, so it is the new kernel's drivers that do, and until then nothing may come to where the old
//! ones wanted it.

use std::path::PathBuf;

use capdl_spec::host::Debian;
use miette::{IntoDiagnostic, Result, ensure};

use super::{ask, expect, network::at, wait_for_shell};
use crate::bochs::Machine;
use crate::cache::sha256;
use crate::guest::debian;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};
use crate::{guest, project};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "a-kernel-that-another-one-starts", kexec).long()]
}

const CMDLINE: &str = "earlyprintk=ttyS0,115200 console=ttyS0,115200 i8042.nokbd=y i8042.nomux=y i8042.noaux=y \
                       io_delay=udelay noisapnp pci=nomsi acpi=off cryptomgr.notests=1 quiet";
const MAC: &str = "02:00:00:00:00:0a";
const SECTORS: usize = 2048;

fn kexec(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot(&described(context)?.to_string_lossy(), Build::Release)?;
    wait_for_shell(&mut machine)?;
    ask(&mut machine, "until echo exit | nc 10.0.0.2 99; do usleep 200000; done")?;
    // By an entry of its own, the peer goes on sending when nobody answers.
    let send = "ping -q -i 0.01 -s 1400 10.0.0.1 > /dev/null 2>&1 &";
    at(&mut machine, 2, &format!("arp -s 10.0.0.1 {MAC}; {send}"))?;
    ask(&mut machine, "dd if=/dev/zero of=/dev/vda bs=4k seek=100 count=1 conv=notrunc,fsync 2> /dev/null")?;
    let mut disk = medium();
    disk[100 * 4096..][..4096].fill(0);
    let sum = sha256(&disk);

    load(&mut machine, "-p")?;
    machine.console.skip();
    machine.console.send(b"echo c > /proc/sysrq-trigger\r").into_diagnostic()?;
    expect(&mut machine, "Kernel panic - not syncing: sysrq triggered crash")?;
    is_content(&mut machine, "elfcorehdr=", &sum)?;

    machine.console.skip();
    machine.console.send(b"reboot -f\r").into_diagnostic()?;
    expect(&mut machine, "vmm-linux: linux: reset")?;
    wait_for_shell(&mut machine)?;
    load(&mut machine, "-l --append=again")?;
    machine.console.skip();
    // Network devices stay as they are.
    machine.console.send(b"kexec -e -x\r").into_diagnostic()?;
    expect(&mut machine, "printk: bootconsole [earlyser0] enabled")?;
    is_content(&mut machine, " again", &sum)?;
    let said = super::transcript(&machine);
    ensure!(said.matches("linux: reset by").count() == 1, "vmm-server has seen other resets:\n{said}");
    for word in ["breaks queue", "breaks the rules", "broken"] {
        ensure!(!said.contains(word), "{word}:\n{said}");
    }
    // The peer goes on: the board stays on.
    machine.console.send(b"poweroff\r").into_diagnostic()?;
    expect(&mut machine, "linux has powered off")?;
    Ok(Outcome::Passed("by a panic, and by kexec -e".into()))
}

/// Loads the kernel and the initramfs of the overlay, and keeps disk and network busy.
fn load(machine: &mut Machine, how: &str) -> Result<()> {
    ask(machine, &format!("kexec {how} --reuse-cmdline --initrd=/boot/initrd /boot/vmlinuz"))?;
    ask(machine, "(while :; do dd if=/dev/vda of=/dev/null bs=64k iflag=direct 2> /dev/null; done) & sleep 1")?;
    Ok(())
}

/// The new kernel has a network and the disk as they were.
fn is_content(machine: &mut Machine, cmdline: &str, sum: &str) -> Result<()> {
    wait_for_shell(machine)?;
    let found = ask(machine, "cat /proc/cmdline")?;
    ensure!(found.contains(cmdline), "this is no new kernel: {found}");
    has_both(machine, sum)
}

/// A peer that sends all the time can be reached, the disk has these contents, and Linux has nothing to complain about.
pub(super) fn has_both(machine: &mut Machine, sum: &str) -> Result<()> {
    let before = received(machine)?;
    ask(machine, "ping -c 3 -W 2 10.0.0.2")?;
    ensure!(received(machine)? > before + 3, "the peer does not send any more");
    let found = ask(machine, "sha256sum < /dev/vda")?;
    ensure!(found.starts_with(sum), "the disk has {found}, and should {sum}");
    let complaints =
        ask(machine, "dmesg -r | grep '^<[0-4]>' | grep -E 'virtio|eth0|vda|irq|IRQ|BAR|BUG|WARN' || true")?;
    ensure!(complaints.is_empty(), "Linux complains:\n{complaints}");
    Ok(())
}

fn received(machine: &mut Machine) -> Result<u64> {
    let count = ask(machine, "cat /sys/class/net/eth0/statistics/rx_packets")?;
    super::field(&count, "", 0)
}

/// What the disk has at first.
pub(super) fn medium() -> Vec<u8> {
    (0..SECTORS as u32 * 128).flat_map(u32::to_le_bytes).collect()
}

/// The description, the guest's kernel and initramfs once more as files in it, and its disk.
fn described(context: &Context) -> Result<PathBuf> {
    let project = &context.project;
    let folder = project.target.join("test-systems/kexec");
    let boot = folder.join("files/boot");
    project::write(&boot.join("vmlinuz"), &project::read(&debian::kernel(project, Debian::I386)?)?)?;
    project::write(&boot.join("initrd"), &project::read(&guest::disk_initramfs(project, Debian::I386)?)?)?;
    project::write(&folder.join("disk.img"), &medium())?;
    let vm = |name: &str, memory: u32, cmdline: &str, more: &str| {
        format!(
            "[[vm]]\nname = \"{name}\"\nmemory = \"{memory} MiB\"\nkernel = \"debian-686\"\ninitrd = \"debian-disk\"\n\
             cmdline = \"{CMDLINE} {cmdline}\"\n{more}\n"
        )
    };
    // Set aside for the kernel that a panic starts.
    let linux = "crashkernel=64M ip=10.0.0.1/24";
    let more = "packages = [\"kexec-tools\"]\noverlay = \"./files\"\n\
                disks = [{ file = \"./disk.img\", copy_on_write = \"1028 KiB\" }]";
    let text = format!(
        "board = \"bochs\"\n{}{}[[network]]\nname = \"lan\"\nmembers = [{{ name = \"linux\", mac = \"{MAC}\" }}, \"peer\"]\n",
        vm("linux", 224, linux, more),
        vm("peer", 64, "ip=10.0.0.2/24 shell=99", "")
    );
    let path = folder.join("kexec.toml");
    project::write(&path, text.as_bytes())?;
    Ok(path)
}
