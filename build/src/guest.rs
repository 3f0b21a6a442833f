//! The guests that need no path: Debian's stock kernels, initramfs around Debian's static busybox, a disk.
//!
//! `archive` fetches packages, `debian` unpacks them, `bzimage` extracts the kernel from its self-extracting wrapper or
//! a compressed file (`compression`), `relocation` moves it, `loader` checks it with the guest's loader, `cpio` writes
//! archives, `initramfs` lists the contents of ours, `modules` its drivers, `additions` extend it; `kbuild` builds modules for guests, `programs` programs. `disk` makes a disk with the Debian that
//! `debootstrap` installs, in a file system that `ext4` makes, perhaps on a volume of `lvm`. `tiny` compiles the tests' guests.

pub mod additions;
pub mod archive;
pub mod bzimage;
pub mod compression;
pub mod cpio;
pub mod debian;
pub mod debootstrap;
pub mod disk;
pub mod error;
pub mod ext4;
pub mod initramfs;
pub mod kbuild;
pub mod loader;
pub mod lvm;
pub mod modules;
pub mod programs;
pub mod relocation;
pub mod tiny;

use std::path::{Path, PathBuf};

use capdl_spec::host::{Architecture, Debian};
use miette::{Context, Result};

use crate::progress::Step;
use crate::project::{self, Project};
use crate::{cache, process};

/// A kernel without compressed parts: decompresses a bzImage once, so that the guest need not do it at every boot.
pub fn vmlinux(project: &Project, kernel: &Path) -> Result<PathBuf> {
    let bytes = project::read(kernel)?;
    if !bzimage::is_packed(&bytes).wrap_err_with(|| kernel.display().to_string())? {
        return Ok(kernel.to_path_buf());
    }
    let key = bzimage::fingerprint(&bytes);
    let unpacked = project.guest().join("vmlinux").join(&key);
    let recipe = format!("{key} {}", include_str!("guest/bzimage.rs"));
    cache::keep(&unpacked, &recipe, |aside| {
        let step = Step::start("guest: decompress the kernel");
        let elf = bzimage::unpack(&bytes).wrap_err_with(|| kernel.display().to_string())?;
        project::write(aside, &elf)?;
        step.done();
        Ok(())
    })?;
    Ok(unpacked)
}

/// The loaded part of that ELF, relocated to physical address `at` if there is one. A bzImage without payload stays
/// unchanged; the guest's loader moves it.
pub fn loaded_vmlinux(project: &Project, kernel: &Path, at: Option<u64>) -> Result<PathBuf> {
    let vmlinux = vmlinux(project, kernel)?;
    let bytes = project::read(&vmlinux)?;
    if !bytes.starts_with(bzimage::ELF) {
        return Ok(vmlinux);
    }
    let place = at.map_or("loaded".to_owned(), |at| format!("{at:x}"));
    let key = format!("{}-{place}", bzimage::fingerprint(&bytes));
    let path = project.guest().join("vmlinux").join(&key);
    // The recipe includes this tool's own code, since the result changes with it.
    cache::keep(&path, &format!("{key} {}", include_str!("guest/relocation.rs")), |aside| {
        let moved = match at {
            None => bytes,
            Some(at) => relocation::relocate(bytes, at).wrap_err_with(|| kernel.display().to_string())?,
        };
        project::write(aside, &relocation::loaded(moved))
    })?;
    Ok(path)
}

/// The default initramfs. `script`, if any, runs on the console before the first shell: exact runs need no typing.
pub fn initramfs(project: &Project, debian: Debian, script: Option<&str>) -> Result<PathBuf> {
    let busybox = project::read(&debian::busybox(project, debian)?)?;
    let archive = initramfs::archive(&busybox, script)?;
    let name = match script {
        None => "initramfs.cpio".to_owned(),
        Some(_) => format!("initramfs-{}.cpio", bzimage::fingerprint(&archive)),
    };
    let path = debian::folder(project, debian).join(name);
    project::write(&path, &archive)?;
    Ok(path)
}

/// The initramfs that mounts a disk and continues from it.
pub fn disk_initramfs(project: &Project, debian: Debian) -> Result<PathBuf> {
    let busybox = project::read(&debian::busybox(project, debian)?)?;
    let (release, modules) = debian::modules(project, debian, &initramfs::MODULES)?;
    let path = debian::folder(project, debian).join(format!("disk-{}.cpio", debian.flavour.name()));
    let mut programs = Vec::new();
    for (name, folder) in PROGRAMS {
        programs.push((name, project::read(&program(project, debian.architecture(), name, folder)?)?));
    }
    project::write(&path, &initramfs::disk_archive(&busybox, &programs, &release, &modules)?)?;
    Ok(path)
}

/// Programs for what busybox has none for, and where they are: streams by AF_VSOCK, virtio ports, and channels.
const PROGRAMS: [(&str, &str); 3] =
    [("vsock", "guests/disk"), ("port", "guests/disk"), ("portcullis-channel", "guests/channel")];

/// One of them, compiled.
fn program(project: &Project, architecture: Architecture, name: &str, folder: &str) -> Result<PathBuf> {
    let folder = project.root.join(folder);
    let source = folder.join(name).with_extension("c");
    let program = project.guest().join("programs").join(format!("{name}-{}", architecture.name()));
    cache::keep(&program, &cache::fingerprint(&folder)?, |aside| {
        let mut gcc = tiny::gcc(&source, aside, architecture);
        gcc.arg("-Wl,--omagic,--strip-all");
        process::output(gcc).map(|_| ())
    })?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs of users include it, with whatever standard they have.
    #[test]
    fn the_header_and_the_program_of_channels_are_plain_c_of_both_widths() {
        let folder = Project::find().unwrap().root.join("guests/channel");
        let all = [("-std=c99", "-m32"), ("-std=c99", "-m64"), ("-std=gnu17", "-m32")];
        for ((standard, width), file) in all.into_iter().flat_map(|how| ["h", "c"].map(|suffix| (how, suffix))) {
            let mut gcc = process::tool("gcc");
            gcc.args([
                standard,
                width,
                "-Wall",
                "-Wextra",
                "-Werror",
                "-ffreestanding",
                "-fsyntax-only",
                "-Wno-unused-function",
            ]);
            gcc.args(["-x", "c"]).arg(folder.join("portcullis-channel").with_extension(file));
            process::output(gcc).unwrap();
        }
    }
}
