//! Disks behind block-server, with Linux's own driver: Debian on a partition, which it sees as a disk with this partition
//! alone; and the same bytes in the guest and on the host's image, however they were written.

use std::path::PathBuf;

use miette::{IntoDiagnostic, Result, ensure};

use super::{
    ask, description,
    disk::{NOTE, found_from_outside, log_in},
    expect,
    network::BROKEN,
    recover, wait_for_shell,
};
use crate::bochs::{Machine, config};
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test};
use crate::tests::medium::{FIRST, LENGTH, SECTOR, SECTORS, medium};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![
        test("debian-on-a-partition", debian),
        test("bytes-on-a-partition", bytes),
        test("a-driver-that-is-killed-amid-writes", killed),
    ]
}

fn debian(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("virtio-blk", Build::Release)?;
    log_in(&mut machine)?;
    let disks = ask(&mut machine, "lsblk -rno NAME,TYPE,RO")?;
    ensure!(disks == "vda disk 0\nvda1 part 0\n", "the disks are\n{disks}");
    let sizes = ask(&mut machine, "blockdev --getsz /dev/vda /dev/vda1; cat /sys/block/vda/vda1/start")?;
    // Of the 524,160 sectors, those before the partition are not the guest's, and the table has 64.
    ensure!(sizes == "522176\n522112\n64\n", "the sizes are\n{sizes}");
    let root = ask(&mut machine, "grep ' / ' /proc/mounts")?;
    ensure!(root.starts_with("/dev/vda1 / ext4 rw"), "the root file system: {root}");
    ask(&mut machine, NOTE)?;

    // A reset in the middle of writes: what was synchronized is there.
    machine.console.skip();
    machine.console.send(b"cat /dev/zero > /root/zeros & sleep 2; echo b > /proc/sysrq-trigger\r").into_diagnostic()?;
    expect(&mut machine, "vmm-linux: linux: reset")?;
    log_in(&mut machine)?;
    let note = ask(&mut machine, "cat /root/note; rm -f /root/zeros")?;
    ensure!(note == "written by the guest\n", "/root/note after a reset: {note:?}");
    no_complaints(&mut machine)?;
    found_from_outside(machine)
}

/// Neither Linux nor vmm-server has anything to say about a disk.
fn no_complaints(machine: &mut Machine) -> Result<()> {
    let complaints = ask(machine, "dmesg -r | grep '^<[0-4]>' | grep -E 'vd[ab]|virtio|I/O' || true")?;
    ensure!(complaints.is_empty(), "Linux complains:\n{complaints}");
    let transcript = super::transcript(machine);
    for word in ["breaks queue", "broken", "failed (", "outside its disk"] {
        ensure!(!transcript.contains(word), "{word}:\n{transcript}");
    }
    Ok(())
}

/// The range that the guest has behind the partitions.
const RANGE: (usize, usize) = (36864, 1000);
/// Sectors of the table that the guest sees.
const TABLE: usize = 64;

/// Of the writes of 4 KiB that a driver's process carries out: how many of each life are acknowledged, and how often it is
/// started anew.
const WRITES: usize = 20;
const LIVES: usize = 1 + 16;
/// Blocks of 4 KiB: how many are copied, where zeros are written afterwards, and how long a block is.
const COPIED: usize = 256;
const ZEROS: usize = 512;
const BLOCK: usize = 4096;

/// The driver faults amid writes, again and again: the guest does not notice. When it is not started anew any more, the guest
/// has errors, and goes on.
fn killed(context: &Context) -> Result<Outcome> {
    let before = medium();
    let path: PathBuf = context.project.guest().join("test-disk-killed.img");
    project::write(&path, &before)?;
    let system = description(context, "disk-killed");
    let mut machine = context.boot_with(&system.to_string_lossy(), Build::Release, |options| {
        options.devices.disk = Some(path);
    })?;
    wait_for_shell(&mut machine)?;
    let mut run = |command: &str, end: &str| {
        machine.console.skip();
        machine.console.send(format!("{command}\r").as_bytes()).into_diagnostic()?;
        expect(&mut machine, end)
    };
    let copy = format!(
        "dd if=/dev/vda1 of=/dev/vda1 bs=4k skip={} count={COPIED} oflag=direct conv=notrunc,fsync; echo copied $?",
        LENGTH / 2 * SECTOR / BLOCK
    );
    run(&copy, "copied 0\r\n")?;
    run(
        &format!("dd if=/dev/zero of=/dev/vda1 bs=4k seek={ZEROS} count=1024 oflag=direct conv=notrunc; echo ended $?"),
        "ended 1\r\n",
    )?;
    // The guest lives, and so does its disk, on which nothing can be done.
    run("dd if=/dev/vda1 of=/dev/null bs=4k skip=1500 count=1 iflag=direct; echo read $?", "read 1\r\n")?;
    ask(&mut machine, "dmesg | grep -q 'I/O error, dev vda, sector .* op 0x1:(WRITE)'")?;
    let transcript = super::transcript(&machine);
    for (what, times) in [
        ("ide faulted: ", LIVES),
        ("ide restarted", LIVES - 1),
        ("its driver has ended", 1),
        ("has broken the ring", 0),
    ] {
        let found = transcript.matches(what).count();
        ensure!(found == times, "\"{what}\" {found} times, not {times}:\n{transcript}");
    }
    let after = project::read(&machine.dir().join(config::DISK))?;
    what_was_acknowledged(&before, &after)
}

/// The image has all copied blocks, then as many blocks of zeros as there were writes left, and one that was not acknowledged.
fn what_was_acknowledged(before: &[u8], after: &[u8]) -> Result<Outcome> {
    let partition = FIRST * SECTOR..(FIRST + LENGTH) * SECTOR;
    let half = LENGTH / 2 * SECTOR;
    let (before, after) = (&before[partition.clone()], &after[partition]);
    let mut expected = before.to_vec();
    expected.copy_within(half..half + COPIED * BLOCK, 0);
    let zeros = LIVES * WRITES - COPIED;
    expected[ZEROS * BLOCK..][..(zeros + 1) * BLOCK].fill(0);
    let wrong = (0..LENGTH * SECTOR / BLOCK).find(|n| after[n * BLOCK..][..BLOCK] != expected[n * BLOCK..][..BLOCK]);
    ensure!(wrong.is_none(), "block {wrong:?} of the partition is not as the guest has left it");
    Ok(Outcome::Passed(format!(
        "{} writes acknowledged by {LIVES} drivers, all in the image, then errors",
        LIVES * WRITES
    )))
}

fn bytes(context: &Context) -> Result<Outcome> {
    let before = medium();
    let path: PathBuf = context.project.guest().join("test-disks.img");
    project::write(&path, &before)?;
    let system = description(context, "disks");
    let iso = recover::broken(context, &system, "vmm-server", BROKEN)?;
    let mut machine = context.boot_with(&system.to_string_lossy(), Build::Release, |options| {
        options.iso = iso;
        options.devices.disk = Some(path);
    })?;
    wait_for_shell(&mut machine)?;
    what_there_is(&mut machine)?;
    let requests = many_requests(&mut machine)?;
    without_the_driver(&mut machine)?;
    end_in_the_middle(&mut machine, 112, "reboot -f", "vmm-linux: linux: reset")?;
    end_in_the_middle(&mut machine, 116, "poweroff -f", "vmm-linux faulted: processor exception 6")?;
    no_complaints(&mut machine)?;
    what_is_refused(&mut machine)?;
    // The guest has synchronized all, and vmm-server cannot power it off.
    let after = project::read(&machine.dir().join(config::DISK))?;
    compare(&before, &after)?;
    Ok(Outcome::Passed(format!("{requests} requests of eight processes, in the image as in the guest")))
}

fn what_there_is(machine: &mut Machine) -> Result<()> {
    let found = ask(
        machine,
        "cd /sys/block; echo *; cat vda/size vda/ro vda/vda1/start vda/vda1/size vda/queue/write_cache; cd /; \
         echo /dev/vd*; cat /sys/block/vdb/size /sys/block/vdb/ro",
    )?;
    let expected = "vda vdb\n16448\n0\n64\n16384\nwrite back\n/dev/vda /dev/vda1 /dev/vdb\n1000\n1\n";
    ensure!(found == expected, "the disks are\n{found}");
    // The first and the last sector of each, by their words.
    for (disk, sector, number) in [
        ("vda", TABLE, FIRST),
        ("vda", TABLE + LENGTH - 1, FIRST + LENGTH - 1),
        ("vda1", 0, FIRST),
        ("vdb", 0, RANGE.0),
        ("vdb", RANGE.1 - 1, RANGE.0 + RANGE.1 - 1),
    ] {
        let read = format!(
            "dd if=/dev/{disk} bs=512 skip={sector} 2>/dev/null | head -c 512 | od -A n -v -t d4 -w4 | uniq -c"
        );
        let words = ask(machine, &read)?;
        let words: Vec<&str> = words.split_whitespace().collect();
        ensure!(words == ["128", &number.to_string()], "sector {sector} of {disk} has {words:?}");
    }
    // There is nothing behind the end.
    for sector in [TABLE + LENGTH, FIRST + LENGTH, 1 << 32, (1 << 54) + TABLE] {
        let read = format!("dd if=/dev/vda bs=512 skip={sector} count=1 2>/dev/null | wc -c");
        ensure!(ask(machine, &read)? == "0\n", "there is a sector {sector}");
    }
    Ok(())
}

/// Eight processes at once copy the partition's second half to its first, each its own part and a page at a time, so that
/// the requests of all are mixed. Returns how many requests that were.
fn many_requests(machine: &mut Machine) -> Result<u64> {
    let copy = |how: &str| format!("for i in 0 1 2 3 4 5 6 7; do dd {how} bs=64k count=8 2>/dev/null & done; wait");
    let count = |machine: &mut Machine| {
        let counts = ask(machine, "cat /sys/block/vda/stat")?;
        Ok::<_, miette::Report>(super::field(&counts, "", 0)? + super::field(&counts, "", 4)?)
    };
    ask(machine, "cd /sys/block/vda/queue; echo 2 > nomerges; echo 0 > read_ahead_kb; cd /")?;
    let before = count(machine)?;
    ask(machine, &copy("if=/dev/vda1 skip=$((64+8*i)) of=/tmp/$i"))?;
    ask(machine, &copy("if=/tmp/$i of=/dev/vda1 seek=$((8*i)) conv=notrunc,fsync"))?;
    let requests = count(machine)? - before;
    ensure!(requests >= 2048, "{requests} requests are too few");
    ask(machine, "cd /sys/block/vda/queue; echo 0 > nomerges; echo 128 > read_ahead_kb; cd /; rm /tmp/[0-7]")?;
    are_equal(machine)?;
    Ok(requests)
}

/// Both halves of the partition are equal, on the disk.
fn are_equal(machine: &mut Machine) -> Result<()> {
    let sums = "echo 3 > /proc/sys/vm/drop_caches; for skip in 0 4; do \
                dd if=/dev/vda1 bs=1M count=4 skip=$skip 2>/dev/null | sha256sum; done | uniq | wc -l";
    ensure!(ask(machine, sums)? == "1\n", "what was written is not what is read");
    Ok(())
}

/// The driver leaves and comes back, also with the legacy interface, by which it has no write cache unless it asks for one.
fn without_the_driver(machine: &mut Machine) -> Result<()> {
    for command in [
        "cd /sys/bus/virtio/drivers/virtio_blk; for n in 0 1; do echo virtio$n > unbind; done; ls /sys/block; \
         for n in 0 1; do echo virtio$n > bind; done; cd /",
        "rmmod virtio_blk; ls /sys/block; modprobe virtio_blk",
        "rmmod virtio_blk; ls /sys/block; rmmod virtio_pci; modprobe virtio_pci force_legacy=1; modprobe virtio_blk",
    ] {
        let left = ask(machine, command)?;
        ensure!(left.is_empty(), "without a driver there is {left}");
        ask(machine, "until [ -b /dev/vda1 -a -b /dev/vdb ]; do usleep 10000; done")?;
        are_equal(machine)?;
    }
    let legacy = ask(machine, "cut -c33 /sys/bus/virtio/devices/virtio0/features")?;
    ensure!(legacy == "0\n", "feature VERSION_1 of the legacy interface: {legacy}");
    Ok(())
}

/// Where the writes are that a reset interrupts, in 512 KiB.
const INTERRUPTED: usize = 15;

/// A guest, or its vmm-server, ends in the middle of writes: what was synchronized, from `at` times 64 KiB on, is there.
fn end_in_the_middle(machine: &mut Machine, at: usize, how: &str, said: &str) -> Result<()> {
    let write = format!(
        "while :; do dd if=/dev/zero of=/dev/vda1 bs=4k seek={} count=128 conv=notrunc,fsync 2>/dev/null; done & \
         dd if=/dev/zero of=/dev/vda1 bs=64k seek={at} count=4 conv=notrunc,fsync 2>/dev/null; {how}",
        INTERRUPTED * 128
    );
    machine.console.skip();
    machine.console.send(format!("{write}\r").as_bytes()).into_diagnostic()?;
    expect(machine, said)?;
    wait_for_shell(machine)?;
    let zeros = format!("dd if=/dev/vda1 bs=64k skip={at} count=4 2>/dev/null | tr -d '\\0' | wc -c");
    ensure!(ask(machine, &zeros)? == "0\n", "what was synchronized is not there");
    Ok(())
}

/// Nobody writes the table, nor what is read-only: the error is that request's, once, and block-server logs it.
fn what_is_refused(machine: &mut Machine) -> Result<()> {
    ask(machine, "! dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>/dev/null")?;
    ask(machine, "dmesg -c > /dev/null; ! dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=notrunc,fsync 2>/dev/null")?;
    let said = ask(machine, "dmesg | grep -c 'I/O error, dev vda, sector 0 op 0x1:(WRITE)'")?;
    ensure!(said == "1\n", "Linux says {said} times that sector 0 was not written");
    let table = ask(
        machine,
        "echo 3 > /proc/sys/vm/drop_caches; dd if=/dev/vda bs=512 count=1 2>/dev/null | od -A n -t x1 -j 446 -N 16",
    )?;
    let table: Vec<&str> = table.split_whitespace().collect();
    ensure!(table.join(" ") == "00 fe ff ff 83 fe ff ff 40 00 00 00 00 40 00 00", "the table has {table:?}");
    let lines = super::transcript(machine).matches("a request is outside its disk").count();
    ensure!(lines == 1, "block-server logs it {lines} times");
    Ok(())
}

/// The image afterwards: the partition as the guest has written it, and all else as it was.
fn compare(before: &[u8], after: &[u8]) -> Result<()> {
    ensure!(before.len() == after.len(), "the image has another size");
    let half = LENGTH / 2;
    let sector = |bytes: &[u8], n: usize| bytes[n * SECTOR..][..SECTOR].to_vec();
    for n in 0..SECTORS {
        let (found, was) = (sector(after, n), sector(before, n));
        // Where in the partition, in units of 64 KiB.
        let place = n.checked_sub(FIRST).map_or(usize::MAX, |n| n / 128);
        let right = match place {
            0..64 => found == sector(before, n + half),
            112..120 => found.iter().all(|&byte| byte == 0),
            120..128 => found == was || found.iter().all(|&byte| byte == 0),
            _ => found == was,
        };
        ensure!(right, "sector {n} of the image has {:x?}…", &found[..16]);
    }
    Ok(())
}
