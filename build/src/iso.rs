//! Writes the bootable ISO: ISOLINUX, which loads the kernel and the root-task image by the multiboot protocol.
//!
//! ISOLINUX's mboot.c32 loads 20 MB in a fifth of the emulated instructions that GRUB takes (which copies byte by
//! byte). It takes the kernel as a 32-bit ELF, so objcopy rewrites the header; the code in it stays 64-bit. The same
//! file boots from a CD and, written to a USB drive, as a disk; by BIOS only, since UEFI needs another loader. The same
//! input makes the same ISO: all dates are fixed.

use std::path::{Path, PathBuf};
use std::process::Command;

use miette::{IntoDiagnostic, Result, miette};

use crate::process;
use crate::project;

/// The boot sector that lets the ISO boot as a disk: it finds ISOLINUX in the ISO. From Debian's package isolinux.
const DISK_BOOT_SECTOR: &str = "/usr/lib/ISOLINUX/isohdpfx.bin";

/// The loader itself, of the same package.
pub const BOOT_SECTOR: &str = "/usr/lib/ISOLINUX/isolinux.bin";
/// Its part that loads multiboot kernels, in Debian's package syslinux-common.
pub const MULTIBOOT: &str = "/usr/lib/syslinux/modules/bios/mboot.c32";

/// The files of the loader.
const LOADER: [&str; 4] = [
    BOOT_SECTOR,
    "/usr/lib/syslinux/modules/bios/ldlinux.c32",
    "/usr/lib/syslinux/modules/bios/libcom32.c32",
    MULTIBOOT,
];

const MENU: &str = "DEFAULT portcullis\nPROMPT 0\nTIMEOUT 0\nLABEL portcullis\n  KERNEL mboot.c32\n  \
                    APPEND /boot/kernel --- /boot/root-task\n";

/// Fixed for all files in the ISO: 1 January 2000.
const DATE: &str = "2000010100000000";

/// Writes a 64-bit kernel to `dir`/kernel with a 32-bit ELF header. Its first instructions are 32-bit code, and multiboot
/// loaders, QEMU's `-kernel` among them, take only such a header.
pub fn elf32(kernel: &Path, dir: &Path) -> Result<PathBuf> {
    let to = dir.join("kernel");
    let mut rewrite = process::tool("objcopy");
    rewrite.args(["--output-target", "elf32-i386"]).arg(kernel).arg(&to);
    process::output(rewrite).map(|_| to)
}

/// Makes `dir`/system.iso from a kernel (64-bit ELF) and a root-task image. Leaves the kernel, as loaded, and the image
/// beside it.
pub fn make(kernel: &Path, root_task: &Path, dir: &Path) -> Result<PathBuf> {
    with_kernel(&elf32(kernel, dir)?, root_task, dir)
}

/// The same, from a kernel as the loader takes it.
pub fn with_kernel(kernel32: &Path, root_task: &Path, dir: &Path) -> Result<PathBuf> {
    let tree = tree_with_loader(dir, MENU)?;
    let image = dir.join("root-task");
    if image != root_task {
        std::fs::copy(root_task, &image)
            .map_err(|error| miette!("cannot copy {} to {}: {error}", root_task.display(), image.display()))?;
    }
    std::fs::create_dir_all(tree.join("boot")).into_diagnostic()?;
    for (from, name) in [(kernel32, "kernel"), (&image, "root-task")] {
        let to = tree.join("boot").join(name);
        std::fs::hard_link(from, &to).or_else(|_| std::fs::copy(from, &to).map(|_| ())).into_diagnostic()?;
    }
    pack(&tree, dir)
}

/// Makes `dir`/system.iso with a Linux kernel and its initramfs, /boot/vmlinuz and /boot/initrd for the menu.
pub fn with_linux(kernel: &[u8], initrd: &[u8], menu: &str, dir: &Path) -> Result<PathBuf> {
    let tree = tree_with_loader(dir, menu)?;
    project::write(&tree.join("boot/vmlinuz"), kernel)?;
    project::write(&tree.join("boot/initrd"), initrd)?;
    pack(&tree, dir)
}

/// A directory with the loader and its menu, which becomes an ISO.
fn tree_with_loader(dir: &Path, menu: &str) -> Result<PathBuf> {
    let tree = dir.join("iso");
    let _ = std::fs::remove_dir_all(&tree);
    for file in LOADER.map(Path::new) {
        let name = file.file_name().unwrap_or_default();
        let bytes = project::read(file).map_err(|error| {
            miette!(help = "`cargo xtask setup` installs isolinux and syslinux-common", "{error}: {}", file.display())
        })?;
        project::write(&tree.join("isolinux").join(name), &bytes)?;
    }
    project::write(&tree.join("isolinux/isolinux.cfg"), menu.as_bytes())?;
    Ok(tree)
}

/// Writes the ISO and removes the directory.
fn pack(tree: &Path, dir: &Path) -> Result<PathBuf> {
    let iso = dir.join("system.iso");
    let aside = dir.join("system.iso.part");
    // xorriso would add to an existing file.
    let _ = std::fs::remove_file(&aside);
    process::output(xorriso(tree, &aside))?;
    std::fs::rename(&aside, &iso).into_diagnostic()?;
    let _ = std::fs::remove_dir_all(tree);
    Ok(iso)
}

fn xorriso(tree: &Path, iso: &Path) -> Command {
    let mut command = process::tool("xorriso");
    command.env("SOURCE_DATE_EPOCH", "946684800");
    command.args(["-as", "mkisofs", "-quiet", "-rational-rock", "-V", "PORTCULLIS"]);
    command.args(["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot"]);
    command.args(["-boot-load-size", "4", "-boot-info-table", "-isohybrid-mbr", DISK_BOOT_SECTOR]);
    command.args(["--set_all_file_dates", DATE]);
    command.arg("-o").arg(iso).arg(tree);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_iso_has_the_boot_sector_of_a_disk() {
        let text = process::show(&xorriso(Path::new("tree"), Path::new("system.iso")));
        assert!(text.contains(" -isohybrid-mbr /usr/lib/ISOLINUX/isohdpfx.bin "), "{text}");
    }
}
