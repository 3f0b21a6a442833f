//! A file of the boot image as a disk of two guests: read-only, and with memory for what a guest writes, which outlives the
//! guest's reboot, is seen by no other, and has an end.

use std::path::PathBuf;

use miette::{IntoDiagnostic, Result, ensure};

use super::{LIMIT, ask, expect, wait_for_shell};
use crate::bochs::Machine;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};
use crate::{process, project};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "two-guests-have-a-file-as-a-disk", files)]
}

/// KiB of the file, and of the memory for writes, whose first page is a table.
const FILE: usize = 2048;
const LAYER: usize = 512;

fn files(context: &Context) -> Result<Outcome> {
    let path = described(context)?;
    let mut machine = context.boot(&path.to_string_lossy(), Build::Release)?;
    wait_for_shell(&mut machine)?;
    read_only(&mut machine)?;
    let write = "modprobe ext4; mkdir -p /mnt/b; mount -t ext4 /dev/vdb /mnt/b; cat /mnt/b/note; echo changed > /mnt/b/note; \
                 echo more > /mnt/b/more; umount /mnt/b";
    let found = ask(&mut machine, write)?;
    ensure!(found == "from the host\n", "the file system of the second disk has {found:?}");

    machine.console.send(b"reboot -f\r").into_diagnostic()?;
    expect(&mut machine, "vmm-one: one: reset")?;
    wait_for_shell(&mut machine)?;
    let found = ask(
        &mut machine,
        "modprobe ext4; mkdir -p /mnt/b; mount -t ext4 /dev/vdb /mnt/b; cat /mnt/b/note /mnt/b/more; umount /mnt/b",
    )?;
    ensure!(found == "changed\nmore\n", "after a reboot the guest has {found:?}");
    read_only(&mut machine)?;
    until_it_is_full(&mut machine)?;

    // The other guest has its own.
    machine.console.move_input("two", LIMIT).into_diagnostic()?;
    let found =
        ask(&mut machine, "modprobe ext4; mkdir -p /mnt; mount -t ext4 /dev/vda /mnt; ls -1 /mnt; cat /mnt/note")?;
    ensure!(found == "lost+found\nnote\nfrom the host\n", "the other guest has {found:?}");
    Ok(Outcome::Passed(format!("{FILE} KiB, and {LAYER} KiB for writes")))
}

/// The description, and its file: a file system with a note.
fn described(context: &Context) -> Result<PathBuf> {
    let folder = context.project.target.join("test-systems");
    let (tree, image, description) = (folder.join("files"), folder.join("files.img"), folder.join("files.toml"));
    project::write(&tree.join("note"), b"from the host\n")?;
    let mut mke2fs = process::tool("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-b", "1024", "-m", "0", "-d"]);
    process::output({
        mke2fs.arg(&tree).arg(&image).arg(format!("{FILE}k"));
        mke2fs
    })?;
    let file = "file = \"./files.img\"";
    let vm = |name: &str, disks: &str| {
        format!(
            "[[vm]]\nname = \"{name}\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\ninitrd = \"debian-disk\"\ndisks = [{disks}]\n"
        )
    };
    let writable = format!("{{ {file}, copy_on_write = \"{LAYER} KiB\" }}");
    let text = format!(
        "board = \"bochs\"\n{}{}",
        vm("one", &format!("{{ {file}, read_only = true }}, {writable}")),
        vm("two", &writable)
    );
    project::write(&description, text.as_bytes())?;
    Ok(description)
}

/// The first disk cannot be written, and has what the file has.
fn read_only(machine: &mut Machine) -> Result<()> {
    let found = ask(machine, "cat /sys/block/vda/ro /sys/block/vdb/ro /sys/block/vda/size; blockdev --getro /dev/vda")?;
    ensure!(found == format!("1\n0\n{}\n1\n", FILE * 2), "the disks are\n{found}");
    let found = ask(
        machine,
        "modprobe ext4; mkdir -p /mnt/a; mount -t ext4 -o ro /dev/vda /mnt/a; cat /mnt/a/note; \
         ! touch /mnt/a/x 2> /tmp/said; grep -o 'Read-only file system' /tmp/said; \
         ! dd if=/dev/zero of=/dev/vda count=1 2> /tmp/said; grep -o 'Operation not permitted' /tmp/said; umount /mnt/a",
    )?;
    let expected = "from the host\nRead-only file system\nOperation not permitted\n";
    ensure!(found == expected, "the read-only disk has {found:?}");
    Ok(())
}

/// Writes beyond the memory for them are errors; what was written before stays, and the log says it once.
fn until_it_is_full(machine: &mut Machine) -> Result<()> {
    ask(machine, "! dd if=/dev/urandom of=/dev/vdb bs=4k conv=notrunc,fsync 2> /dev/null")?;
    let said = ask(machine, "dmesg | grep -c 'I/O error, dev vdb'")?;
    ensure!(said.trim().parse().is_ok_and(|lines: u32| lines > 0), "Linux says nothing of a full disk");
    ask(machine, "echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vdb of=/dev/null bs=64k 2> /dev/null")?;
    let full = format!(
        "block-server: error: one: `files.img`: there is no room for more writes (Full), {room} of {room} KiB",
        room = LAYER - 4
    );
    let lines = super::transcript(machine).matches(&full).count();
    ensure!(lines == 1, "block-server logs {lines} times that the memory is full:\n{}", super::transcript(machine));
    Ok(())
}
