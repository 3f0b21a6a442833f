//! What is in the default guest's initramfs: busybox under all its names, as init too, and a shell on ttyS0.
//!
//! busybox's init gives the shell its controlling terminal (so Ctrl-C and job control work), starts another when it
//! ends, and carries out poweroff and reboot. The text files are in guests/default/.

use std::collections::BTreeSet;

use miette::{Result, miette};

use super::cpio::{Archive, Entry};

const INITTAB: &str = include_str!("../../../guests/default/inittab");
const STARTUP: &str = include_str!("../../../guests/default/startup");
const PROFILE: &str = include_str!("../../../guests/default/profile");

/// The line that makes init run a script on the console, to its end, before the first shell.
const RUN_LINE: &str = "ttyS0::wait:/etc/portcullis/run\n";

/// The archive, uncompressed: decompressing would cost the guest more than reading.
pub fn archive(busybox: &[u8], script: Option<&str>) -> Result<Vec<u8>> {
    let applets = applets(busybox)
        .ok_or_else(|| miette!("the busybox of the package lists no applets: is it a busybox at all?"))?;
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "etc", "etc/portcullis", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var"] {
        archive.add(directory, &Entry::Directory);
    }
    for (path, target) in [("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin"), ("init", "bin/busybox")] {
        archive.add(path, &Entry::Link(target));
    }
    // The kernel opens the console before anything can mount /dev.
    archive.add("dev/console", &Entry::Device { mode: 0o600, major: 5, minor: 1 });
    archive.add("dev/null", &Entry::Device { mode: 0o666, major: 1, minor: 3 });
    archive.add("dev/ttyS0", &Entry::Device { mode: 0o660, major: 4, minor: 64 });
    archive.add("bin/busybox", &Entry::File { mode: 0o755, bytes: busybox });
    for applet in applets.iter().filter(|applet| **applet != "busybox") {
        archive.add(&format!("bin/{applet}"), &Entry::Link("busybox"));
    }
    let mut inittab = INITTAB.to_owned();
    if let Some(script) = script {
        inittab.push_str(RUN_LINE);
        archive.add("etc/portcullis/run", &Entry::File { mode: 0o755, bytes: script.as_bytes() });
    }
    for (path, mode, text) in [
        ("etc/hostname", 0o644, "portcullis\n"),
        ("etc/group", 0o644, "root:x:0:\n"),
        ("etc/passwd", 0o644, "root::0:0:root:/root:/bin/sh\n"),
        ("etc/inittab", 0o644, inittab.as_str()),
        ("etc/profile", 0o644, PROFILE),
        ("etc/portcullis/startup", 0o755, STARTUP),
    ] {
        archive.add(path, &Entry::File { mode, bytes: text.as_bytes() });
    }
    Ok(archive.finish())
}

/// The names under which busybox works, from the sorted list in the program itself (it need not run on this machine).
fn applets(busybox: &[u8]) -> Option<BTreeSet<&str>> {
    const START: &[u8] = b"\0[\0[[\0";
    let start = busybox.windows(START.len()).position(|window| window == START)? + 1;
    let names = busybox.get(start..)?.split(|byte| *byte == 0);
    let names = names.map_while(|name| std::str::from_utf8(name).ok().filter(|name| is_applet(name)));
    let names: BTreeSet<&str> = names.collect();
    names.contains("sh").then_some(names)
}

fn is_applet(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "[_-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSYBOX: &[u8] = b"\x7fELF code \0[\0[[\0ash\0init\0sh\0zcat\0\0 data";

    #[test]
    fn the_applets_are_read_from_the_program() {
        let names: Vec<&str> = applets(BUSYBOX).unwrap().into_iter().collect();
        assert_eq!(names, ["[", "[[", "ash", "init", "sh", "zcat"]);
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
