//! The default guest's files, without a boot.

use std::path::PathBuf;

use capdl_spec::host::Debian;
use miette::{IntoDiagnostic, Result, ensure};

use crate::guest::debootstrap::{self, Installation};
use crate::guest::disk::{self, Contents};
use crate::guest::{self, bzimage, debian, ext4};
use crate::kernel::{self, Build};
use crate::project;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Check, name, run);
    vec![
        test("initramfs-repeats", initramfs_repeats),
        test("kernel-unpacks", kernel_unpacks),
        test("disk-repeats", disk_repeats),
        test("a-truncated-file-is-made-again", truncated),
    ]
}

fn initramfs_repeats(context: &Context) -> Result<Outcome> {
    let made = project::read(&guest::initramfs(&context.project, Debian::I386, None)?)?;
    let busybox = project::read(&guest::debian::busybox(&context.project, Debian::I386)?)?;
    let again = guest::initramfs::archive(&busybox, None)?;
    ensure!(made == again, "two archives of the same files differ");
    Ok(Outcome::Passed(format!("{} KiB, {}", made.len() / 1024, bzimage::fingerprint(&made))))
}

fn kernel_unpacks(context: &Context) -> Result<Outcome> {
    let kernel = guest::debian::kernel(&context.project, Debian::I386)?;
    let vmlinux = project::read(&guest::vmlinux(&context.project, &kernel)?)?;
    // ELF32, little-endian, i386 (System V ABI, chapter 4).
    ensure!(vmlinux.starts_with(b"\x7fELF\x01\x01"), "not a 32-bit ELF");
    ensure!(vmlinux.get(18..20) == Some(&[3, 0]), "not for the i386");
    Ok(Outcome::Passed(format!("{} KiB", vmlinux.len() / 1024)))
}

/// A kept file that is cut in half, as a full disk or a kill leaves it, is made again. (The modules and the packages
/// are directories, as the kernel's prefix is.)
fn truncated(context: &Context) -> Result<Outcome> {
    let project = &context.project;
    let kernel = || debian::kernel(project, Debian::I386);
    let all: [&dyn Fn() -> Result<PathBuf>; 6] = [
        &kernel,
        &|| debian::busybox(project, Debian::I386),
        &|| guest::vmlinux(project, &kernel()?),
        &|| guest::loaded_vmlinux(project, &kernel()?, None),
        &|| guest::loaded_vmlinux(project, &kernel()?, Some(0x200_0000)),
        &|| Ok(context.prefix(Build::Release)?.kernel()),
    ];
    // A user's kernel is not ours to damage.
    let kept = if kernel::are_own() { &all[..5] } else { &all };
    for make in kept {
        let path = make()?;
        let whole = project::read(&path)?;
        std::fs::write(&path, whole.get(..whole.len() / 2).unwrap_or_default()).into_diagnostic()?;
        ensure!(make()? == path && project::read(&path)? == whole, "{} is believed", path.display());
    }
    Ok(Outcome::Passed(format!("{} files", kept.len())))
}

/// Starts from the archive of installed packages: installing them takes a minute, and mmdebstrap guarantees that it
/// repeats.
fn disk_repeats(context: &Context) -> Result<Outcome> {
    let made = disk::image(&context.project, Contents::FileSystem)?;
    let again = made.with_extension("again");
    disk::make(
        &project::read(&debootstrap::archive(&context.project, Installation::Sysv)?)?,
        &again,
        Contents::FileSystem,
    )?;
    let same = project::read(&made)? == project::read(&again)?;
    let result = ext4::check(&disk::file_system(&again, Contents::FileSystem));
    std::fs::remove_file(&again).into_diagnostic()?;
    result?;
    ensure!(same, "two file systems made of the same archive differ");
    let name = ext4::read(&disk::file_system(&made, Contents::FileSystem), "/etc/hostname")?;
    ensure!(name == "guest1\n", "/etc/hostname is {name:?}");
    Ok(Outcome::Passed(bzimage::fingerprint(&project::read(&made)?)))
}
