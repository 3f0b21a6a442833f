//! Debian on a disk behind the passed-through IDE controller, and the same without the controller.

use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, ensure};

use super::{ask, boot, last_lines, wait_for_end};
use crate::bochs::{Machine, config};
use crate::guest::{disk, ext4};
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![test("debian-on-a-disk", debian), test("without-the-disk-there-is-none", absent)]
}

/// From power-on to a login: two billion instructions.
const BOOT_LIMIT: Duration = Duration::from_secs(420);

/// Waits for Debian's login prompt and logs in as root, who has no password.
pub fn log_in(machine: &mut Machine) -> Result<()> {
    let prompt = machine.console.expect("guest1 login: ", BOOT_LIMIT);
    prompt.into_diagnostic().wrap_err_with(|| last_lines(machine)).wrap_err("Debian does not come up")?;
    machine.console.send(b"root\r").into_diagnostic()?;
    super::wait_for_shell(machine)
}

/// Powers Debian off, whose scripts take long.
pub fn shut_down(machine: &mut Machine) -> Result<()> {
    machine.console.send(b"poweroff\r").into_diagnostic()?;
    let halted = machine.console.expect("has powered off", BOOT_LIMIT);
    halted.into_diagnostic().wrap_err_with(|| last_lines(machine)).wrap_err("Debian does not go off")?;
    wait_for_end(machine)
}

fn debian(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("disk", Build::Release)?;
    log_in(&mut machine)?;
    let root = ask(&mut machine, "grep ' / ' /proc/mounts")?;
    ensure!(root.contains("/dev/") && root.contains(" ext4 rw"), "the root file system: {root}");
    let controller = ask(&mut machine, "lspci -n")?;
    ensure!(controller.contains("8086:7010"), "lspci:\n{controller}");
    let mode = ask(&mut machine, "cat /sys/class/ata_device/dev1.0/xfer_mode")?;
    ensure!(mode.contains("DMA"), "the disk is in mode {mode}");
    ask(&mut machine, NOTE)?;
    found_from_outside(machine)
}

/// Writes a file.
pub const NOTE: &str = "echo written by the guest > /root/note; sync";

/// Powers Debian off, and finds the file of [`NOTE`] on the disk's image.
pub fn found_from_outside(mut machine: Machine) -> Result<Outcome> {
    shut_down(&mut machine)?;
    let place = disk::file_system(&machine.dir().join(config::DISK), disk::Contents::FileSystem);
    let note = ext4::read(&place, "/root/note")?;
    ensure!(note == "written by the guest\n", "/root/note in the image: {note:?}");
    ext4::check(&place)?;
    Ok(Outcome::Passed("a file written there was found from outside".into()))
}

fn absent(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "disk-absent")?;
    let transcript = super::transcript(&machine);
    ensure!(transcript.contains("\n(initramfs) "), "the prompt is another one:\n{}", last_lines(&machine));
    ensure!(transcript.contains("there is no /dev/sda1"), "nothing is said of the disk:\n{}", last_lines(&machine));
    let disks = ask(&mut machine, "ls /dev | grep sd || echo none")?;
    ensure!(disks == "none\n", "without a controller there is {disks}");
    super::power_off(&mut machine)?;
    crate::test::passed()
}
