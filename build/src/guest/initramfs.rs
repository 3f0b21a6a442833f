//! Contents of an initramfs: busybox under all its names, and a shell on ttyS0.
//!
//! busybox's init gives the shell its controlling terminal (so Ctrl-C and job control work), restarts it when it ends,
//! and executes poweroff and reboot. The text files are in guests/default/. A second kind, in guests/disk/, loads
//! drivers for the devices on the PCI bus and continues from the file system that the command line's `root=` names;
//! without one it ends in a shell as well.

use std::collections::BTreeSet;

use miette::{Result, miette};

use super::cpio::{Archive, Entry};
use super::modules::{self, KernelModules};

const INITTAB: &str = include_str!("../../../guests/default/inittab");
const STARTUP: &str = include_str!("../../../guests/default/startup");
const PROFILE: &str = include_str!("../../../guests/default/profile");

/// The prompt of the shell in these archives.
pub const PROMPT: &str = "portcullis:/# ";

/// The line that makes init run a script on the console, to its end, before the first shell.
const RUN_LINE: &str = "ttyS0::wait:/etc/portcullis/run\n";

/// Drivers for what emulated boards have: IDE, the disk behind it, its file system, two Ethernet cards. ext4 requests
/// crc32c by its algorithm's name, so modules.dep does not list that dependency. Device-mapper, for volumes of LVM. And drivers
/// for VMs' devices: virtio's transport, the entropy device, the network device, the disk, the socket device, and the console;
/// the driver for channels; and those for the buttons of a board with ACPI.
pub const MODULES: [&str; 16] = [
    "ata_piix",
    "sd_mod",
    "ext4",
    "crc32c_generic",
    "dm_mod",
    "e1000",
    "ne2k-pci",
    "virtio_pci",
    "virtio-rng",
    "virtio_net",
    "virtio_blk",
    "vmw_vsock_virtio_transport",
    "virtio_console",
    "uio_pci_generic",
    "button",
    "evdev",
];

/// The default archive, uncompressed: decompressing would cost the guest more than reading.
pub fn archive(busybox: &[u8], script: Option<&str>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    base(&mut archive, busybox)?;
    archive.add("init", &Entry::Link("bin/busybox"));
    let mut inittab = INITTAB.to_owned();
    if let Some(script) = script {
        inittab.push_str(RUN_LINE);
        add_text(&mut archive, "etc/portcullis/run", 0o755, script);
    }
    add_text(&mut archive, "etc/hostname", 0o644, "portcullis\n");
    add_text(&mut archive, "etc/inittab", 0o644, &inittab);
    add_text(&mut archive, "etc/profile", 0o644, PROFILE);
    add_text(&mut archive, "etc/portcullis/startup", 0o755, STARTUP);
    Ok(archive.finish())
}

/// The archive that continues from a disk, with `programs` of ours: its kernel, `release`, loads `modules` as the hardware
/// needs them.
pub fn disk_archive(
    busybox: &[u8],
    programs: &[(&str, Vec<u8>)],
    release: &str,
    modules: &KernelModules,
) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    base(&mut archive, busybox)?;
    for (name, bytes) in programs {
        archive.add(&format!("bin/{name}"), &Entry::File { mode: 0o755, bytes });
    }
    add_text(&mut archive, "init", 0o755, include_str!("../../../guests/disk/init"));
    add_text(&mut archive, "etc/inittab", 0o644, include_str!("../../../guests/disk/inittab"));
    add_text(&mut archive, "etc/profile", 0o644, include_str!("../../../guests/disk/profile"));
    for directory in
        ["etc/acpi", "etc/acpi/PWRF", "etc/udhcpc", "lib", "lib/modules", &format!("lib/modules/{release}")]
    {
        archive.add(directory, &Entry::Directory { mode: 0o755 });
    }
    add_text(&mut archive, "etc/udhcpc/default.script", 0o755, include_str!("../../../guests/disk/udhcpc"));
    // The name that busybox's acpid gives the event.
    add_text(&mut archive, "etc/acpi/PWRF/00000080", 0o755, include_str!("../../../guests/disk/power-button"));
    let at = |file: &str| format!("lib/modules/{release}/{file}");
    add_text(&mut archive, &at("modules.dep"), 0o644, &modules::dependency_index(modules)?);
    add_text(&mut archive, &at("modules.alias"), 0o644, &modules::alias_index(modules)?);
    for (name, bytes) in modules {
        archive.add(&at(&format!("{name}.ko")), &Entry::File { mode: 0o644, bytes });
    }
    Ok(archive.finish())
}

fn add_text(archive: &mut Archive, path: &str, mode: u32, text: &str) {
    archive.add(path, &Entry::File { mode, bytes: text.as_bytes() });
}

/// What every archive has: directories, devices, busybox and its names, the one user.
fn base(archive: &mut Archive, busybox: &[u8]) -> Result<()> {
    let applets = applets(busybox)
        .ok_or_else(|| miette!("the busybox of the package lists no applets: is it a busybox at all?"))?;
    for directory in ["bin", "dev", "etc", "etc/portcullis", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var"] {
        archive.add(directory, &Entry::Directory { mode: 0o755 });
    }
    for (path, target) in [("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin")] {
        archive.add(path, &Entry::Link(target));
    }
    // The kernel opens the console before any program can mount /dev.
    archive.add("dev/console", &Entry::Device { mode: 0o600, major: 5, minor: 1 });
    archive.add("dev/null", &Entry::Device { mode: 0o666, major: 1, minor: 3 });
    archive.add("dev/ttyS0", &Entry::Device { mode: 0o660, major: 4, minor: 64 });
    archive.add("bin/busybox", &Entry::File { mode: 0o755, bytes: busybox });
    for applet in applets.iter().filter(|applet| **applet != "busybox") {
        archive.add(&format!("bin/{applet}"), &Entry::Link("busybox"));
    }
    add_text(archive, "etc/group", 0o644, "root:x:0:\n");
    add_text(archive, "etc/passwd", 0o644, "root::0:0:root:/root:/bin/sh\n");
    Ok(())
}

/// The names under which busybox works, from the sorted list in the program itself (it need not run on this machine).
fn applets(busybox: &[u8]) -> Option<BTreeSet<&str>> {
    // The bytes before it differ between versions, and need not be a string.
    const START: &[u8] = b"[\0[[\0";
    let starts = busybox.windows(START.len()).enumerate().filter(|(_, window)| *window == START);
    let lists = starts.filter_map(|(start, _)| {
        let names = busybox.get(start..)?.split(|byte| *byte == 0);
        let names = names.map_while(|name| std::str::from_utf8(name).ok().filter(|name| is_applet(name)));
        Some(names.collect::<BTreeSet<&str>>())
    });
    lists.into_iter().find(|names| names.contains("sh"))
}

fn is_applet(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "[_-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSYBOX: &[u8] = b"\x7fELF [\0[[\0 code \0[\0[[\0ash\0init\0sh\0zcat\0\0 data";

    #[test]
    fn the_applets_are_read_from_the_program() {
        let names: Vec<&str> = applets(BUSYBOX).unwrap().into_iter().collect();
        assert_eq!(names, ["[", "[[", "ash", "init", "sh", "zcat"]);
    }

    #[test]
    fn anything_may_lie_before_the_list() {
        // So it is in busybox 1.37.
        assert!(applets(b"\x7fELF \xc0\xae [\0[[\0acpid\0sh\0zcat\0\0/bin/sh").unwrap().contains("acpid"));
    }

    #[test]
    fn a_program_without_applets_is_refused() {
        assert!(archive(b"\x7fELF something else", None).is_err());
    }

    #[test]
    fn the_same_input_makes_the_same_archive() {
        assert_eq!(archive(BUSYBOX, None).unwrap(), archive(BUSYBOX, None).unwrap());
    }

    #[test]
    fn a_script_runs_before_the_shell_and_only_if_there_is_one() {
        let has = |archive: &[u8], text: &str| archive.windows(text.len()).any(|window| window == text.as_bytes());
        let plain = archive(BUSYBOX, None).unwrap();
        assert!(!has(&plain, "etc/portcullis/run"));
        let scripted = archive(BUSYBOX, Some("#!/bin/sh\npoweroff\n")).unwrap();
        assert!(has(&scripted, RUN_LINE) && has(&scripted, "poweroff"));
    }
}
