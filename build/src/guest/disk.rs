//! The disks `debian-sysv`, `debian-lvm` and `debian-systemd`: raw images with an MBR and one partition, with a small Debian in
//! an ext4 file system. The partition is that file system, or a physical volume of LVM, in which it fills a logical one.
//!
//! `debootstrap` installs the Debian, `ext4` makes the file system, and `lvm` what is around it; this file changes the first
//! and places the others. Root logs in on ttyS0 without a password. Kernel and modules are not on the disk: the guest's come
//! from its initramfs. The MBR's partition table is as in the Linux kernel's block/partitions/msdos.c.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::debootstrap::{self, Installation};
use super::ext4::{self, Node, NodeKind, Partition, Tree};
use super::{bzimage, lvm};
use crate::progress::Step;
use crate::project::{self, Project};
use crate::{cache, process};

const SECTOR: u64 = 512;
/// Where the partition begins, as everywhere today.
const PARTITION: u64 = 1 << 20;

/// Files that are added to the packages' files, or replace them, beside fstab.
const FILES: [(&str, u32, &str); 3] = [
    ("etc/hostname", 0o644, "guest1\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost\n127.0.1.1 guest1\n"),
    ("etc/resolv.conf", 0o644, ""),
];
const SYSV_FILES: [(&str, u32, &str); 2] = [
    ("etc/inittab", 0o644, include_str!("../../../guests/sysv/inittab")),
    ("etc/network/interfaces", 0o644, include_str!("../../../guests/sysv/interfaces")),
];
/// systemd asks no questions at a first boot if there is a machine's identity, and makes no caches anew that are as old as /usr.
const SYSTEMD_FILES: [(&str, u32, &str); 4] = [
    ("etc/systemd/network/80-dhcp.network", 0o644, include_str!("../../../guests/systemd/80-dhcp.network")),
    ("etc/machine-id", 0o444, "706f72746375406c8973000000000001\n"),
    ("etc/.updated", 0o644, ""),
    ("var/.updated", 0o644, ""),
];

/// What the partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// A file system.
    FileSystem,
    /// A physical volume, in which a logical one is the file system.
    Lvm,
    /// A file system with a larger Debian, one with systemd.
    Systemd,
}

impl Contents {
    /// Part of the image's name.
    const fn name(self) -> &'static str {
        match self {
            Self::FileSystem => "sysv",
            Self::Lvm => "lvm",
            Self::Systemd => "systemd",
        }
    }

    const fn installation(self) -> Installation {
        match self {
            Self::FileSystem | Self::Lvm => Installation::Sysv,
            Self::Systemd => Installation::Systemd,
        }
    }

    /// Its size in bytes: whole cylinders of 16 heads and 63 sectors, as emulators count.
    const fn size(self) -> u64 {
        let cylinders = match self {
            Self::FileSystem | Self::Lvm => 520, // 256 MiB
            Self::Systemd => 1560,               // 768 MiB
        };
        cylinders * 16 * 63 * SECTOR
    }

    /// The file system's device in the guest, for fstab.
    const fn device(self) -> &'static str {
        match self {
            Self::FileSystem => "/dev/sda1",
            Self::Lvm => lvm::DEVICE,
            Self::Systemd => "LABEL=root",
        }
    }

    /// The type in the partition table.
    const fn kind(self) -> u8 {
        match self {
            Self::FileSystem | Self::Systemd => 0x83,
            Self::Lvm => 0x8e,
        }
    }
}

/// The image; makes it if it is not there.
pub fn image(project: &Project, contents: Contents) -> Result<PathBuf> {
    let sources = concat!(include_str!("disk.rs"), include_str!("ext4.rs"), include_str!("lvm.rs"));
    let installation = contents.installation();
    let key = format!("{} {sources} {:?}", debootstrap::key(installation), files(contents));
    let key = bzimage::fingerprint(key.as_bytes());
    let path = project.guest().join(format!("{}-{key}.img", contents.name()));
    let archive = debootstrap::archive(project, installation)?;
    cache::keep(&path, &format!("{key} {}", cache::fingerprint(&archive)?), |aside| {
        let archive = project::read(&archive)?;
        let step = Step::start("disk: make the file system");
        make(&archive, aside, contents)?;
        step.done();
        Ok(())
    })?;
    Ok(path)
}

/// Makes the image from an archive of Debian.
pub fn make(archive: &[u8], path: &Path, contents: Contents) -> Result<()> {
    let mut tree = ext4::tree(archive)?;
    configure(&mut tree, contents)?;
    let _ = std::fs::remove_file(path);
    let mut file = File::create(path).into_diagnostic().wrap_err_with(|| path.display().to_string())?;
    file.set_len(contents.size()).into_diagnostic()?;
    file.write_all(&boot_record(contents)).into_diagnostic()?;
    if contents == Contents::Lvm {
        file.seek(SeekFrom::Start(PARTITION)).into_diagnostic()?;
        file.write_all(&lvm::head(contents.size() - PARTITION)).into_diagnostic()?;
    }
    drop(file);
    ext4::make(&tree, &file_system(path, contents), &path.with_added_extension("files"))
}

/// The file system on a disk made here.
pub fn file_system(disk: &Path, contents: Contents) -> Partition {
    let (start, size) = match contents {
        Contents::FileSystem | Contents::Systemd => (0, contents.size() - PARTITION),
        Contents::Lvm => lvm::root(contents.size() - PARTITION),
    };
    Partition { file: disk.to_path_buf(), offset: PARTITION + start, size: size / 4096 * 4096 }
}

/// Copies a disk for one run. Blocks of zeros become holes.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut copy = process::tool("cp");
    copy.args(["--sparse=always", "--reflink=auto"]).arg(from).arg(to);
    process::output(copy).map(|_| ())
}

/// Our files for it.
fn files(contents: Contents) -> Vec<(&'static str, u32, &'static str)> {
    let own: &[_] = match contents.installation() {
        Installation::Sysv => &SYSV_FILES,
        Installation::Systemd => &SYSTEMD_FILES,
    };
    FILES.iter().chain(own).copied().collect()
}

/// Adds our files, and lets root log in without a password.
fn configure(tree: &mut Tree, contents: Contents) -> Result<()> {
    let fstab = format!("{} / ext4 noatime 0 0\n", contents.device());
    let mut add = |path: &str, mode, text: &str| {
        let kind = NodeKind::File(text.as_bytes().to_vec());
        tree.insert(path.to_owned(), Node { kind, mode, owner: (0, 0) });
    };
    files(contents).into_iter().for_each(|(path, mode, text)| add(path, mode, text));
    add("etc/fstab", 0o644, &fstab);
    // Debian would make it at the first boot, with a warning.
    tree.insert("etc/mtab".into(), Node { kind: NodeKind::Link("/proc/mounts".into()), mode: 0o777, owner: (0, 0) });
    for path in ["etc/passwd", "etc/shadow"] {
        let Some(Node { kind: NodeKind::File(bytes), .. }) = tree.get_mut(path) else {
            return Err(miette!("the disk's Debian has no /{path}"));
        };
        let text = String::from_utf8_lossy(bytes).replacen("root:*:", "root::", 1);
        *bytes = text.into_bytes();
    }
    Ok(())
}

/// The first sector: no boot code, one partition, and a signature of the disk.
fn boot_record(contents: Contents) -> [u8; 512] {
    let mut sector = [0; 512];
    sector[440..444].copy_from_slice(b"port");
    // Bootable; no cylinders, heads and sectors (their fields are full).
    let entry = &mut sector[446..462];
    entry[..8].copy_from_slice(&[0x80, 0xfe, 0xff, 0xff, contents.kind(), 0xfe, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&((PARTITION / SECTOR) as u32).to_le_bytes());
    entry[12..].copy_from_slice(&(((contents.size() - PARTITION) / SECTOR) as u32).to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_ends_with_the_disk_and_the_file_system_is_in_it() {
        for (contents, kind) in [(Contents::FileSystem, 0x83), (Contents::Lvm, 0x8e), (Contents::Systemd, 0x83)] {
            let sector = boot_record(contents);
            assert_eq!(sector[446 + 4], kind);
            let word =
                |at: usize| u64::from(u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]]));
            assert_eq!((word(454) + word(458)) * 512, contents.size());
            let place = file_system(Path::new("x"), contents);
            assert!(place.offset >= word(454) * 512 && place.offset + place.size <= contents.size());
        }
    }

    #[test]
    fn root_needs_no_password() {
        let mut tree = Tree::new();
        let kind = NodeKind::File(b"root:*:10957:0:99999:7:::\ndaemon:*:1:0:9:7:::\n".to_vec());
        tree.insert("etc/shadow".into(), Node { kind, mode: 0o640, owner: (0, 42) });
        // In Debian 13 that one has no root if no package needed it.
        let kind = NodeKind::File(b"root:*:0:0:root:/root:/bin/bash\n".to_vec());
        tree.insert("etc/passwd".into(), Node { kind, mode: 0o644, owner: (0, 0) });
        configure(&mut tree, Contents::Lvm).unwrap();
        let NodeKind::File(fstab) = &tree["etc/fstab"].kind else { panic!("no file") };
        assert!(fstab.starts_with(b"/dev/mapper/debian-root / ext4"));
        let NodeKind::File(passwd) = &tree["etc/passwd"].kind else { panic!("no file") };
        assert!(passwd.starts_with(b"root::0:0:"));
        let NodeKind::File(shadow) = &tree["etc/shadow"].kind else { panic!("no file") };
        assert!(shadow.starts_with(b"root::10957") && shadow.ends_with(b"daemon:*:1:0:9:7:::\n"));
    }
}
