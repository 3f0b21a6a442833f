//! Writes the bootable ISO: a loader for BIOS and one for UEFI, which load the kernel and the root-task image. The same
//! file boots from a CD and, written to a USB drive, as a disk. The same input makes the same ISO: all dates are fixed.
//!
//! By BIOS, ISOLINUX's mboot.c32 loads 20 MB in a fifth of the emulated instructions that GRUB takes (which copies byte
//! by byte), by multiboot 1. It takes the kernel as a 32-bit ELF, so objcopy rewrites the header; the code in it stays
//! 64-bit. By UEFI, GRUB loads both by multiboot 2, which hands on the ACPI tables' address.

pub mod menu;

use std::path::{Path, PathBuf};
use std::process::Command;

use miette::{IntoDiagnostic, Result, miette};

use crate::process;
use crate::project;
use menu::{COM1, Console, DEBUG_KERNEL, KERNEL, Menu, ROOT_TASK};

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

/// GRUB's part that loads multiboot 2 kernels under UEFI, in Debian's package grub-efi-amd64-bin.
pub const MULTIBOOT2: &str = "/usr/lib/grub/x86_64-efi/multiboot2.mod";

/// The menus of the probe, for ISOLINUX and for GRUB.
const PROBE_MENU: &str = "DEFAULT probe\nPROMPT 0\nTIMEOUT 0\nLABEL probe\n  KERNEL mboot.c32\n  APPEND /boot/probe\n";
const PROBE_GRUB_MENU: &str = "multiboot2 /boot/probe\nboot\n";

/// What the loader in the EFI system partition does: it takes the menu of the medium that it came from, as a whole rather than
/// the partition. It never searches: a guest may have written another disk so that it looks like an ISO.
const GRUB_START: &str = "regexp --set=1:disk '^([^,]+)' $root\nset root=$disk\nconfigfile /boot/grub/grub.cfg\n";

/// GRUB's modules in that loader: the commands of both files, and the file systems and partition tables of an ISO.
const GRUB_MODULES: &str =
    "all_video boot configfile echo fat iso9660 multiboot2 normal part_gpt part_msdos regexp serial terminal";

/// The EFI system partition in an ISO.
const EFI_IMAGE: &str = "boot/efi.img";

/// Fixed for all files in the ISO: 1 January 2000.
const DATE: &str = "2000010100000000";
/// The same, in seconds since 1970.
const EPOCH: &str = "946684800";

/// Writes a 64-bit kernel to `dir`/kernel with a 32-bit ELF header. Its first instructions are 32-bit code, and multiboot
/// loaders, QEMU's `-kernel` among them, take only such a header.
pub fn elf32(kernel: &Path, dir: &Path) -> Result<PathBuf> {
    elf32_as(kernel, dir, KERNEL)
}

/// The same, under another name.
pub fn elf32_as(kernel: &Path, dir: &Path, name: &str) -> Result<PathBuf> {
    let to = dir.join(name);
    let mut rewrite = process::tool("objcopy");
    rewrite.args(["--output-target", "elf32-i386"]).arg(kernel).arg(&to);
    process::output(rewrite).map(|_| to)
}

/// What an ISO boots.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// A kernel, as the loader takes it: see [`elf32`].
    pub kernel: &'a Path,
    /// A debug kernel, likewise, for an entry of the menu.
    pub debug_kernel: Option<&'a Path>,
    /// The root task's image.
    pub root_task: &'a Path,
    /// The console of the kernel's messages.
    pub console: Console,
    /// Whether the menus wait for a choice, as on a board.
    pub waits: bool,
}

/// Makes `dir`/system.iso from a kernel (64-bit ELF) and a root-task image, with the console on COM1. Leaves the kernel, as
/// loaded, and the image beside it.
pub fn make(kernel: &Path, root_task: &Path, dir: &Path) -> Result<PathBuf> {
    with_contents(
        Contents { kernel: &elf32(kernel, dir)?, debug_kernel: None, root_task, console: COM1, waits: false },
        dir,
    )
}

/// Makes `dir`/system.iso, and leaves the root-task image beside it.
pub fn with_contents(contents: Contents, dir: &Path) -> Result<PathBuf> {
    let Contents { kernel, debug_kernel, root_task, console, waits } = contents;
    let menu = Menu { console, debug: debug_kernel.is_some(), waits };
    let tree = tree_with_loader(dir, &menu.isolinux())?;
    let image = dir.join(ROOT_TASK);
    if image != root_task {
        std::fs::copy(root_task, &image)
            .map_err(|error| miette!("cannot copy {} to {}: {error}", root_task.display(), image.display()))?;
    }
    std::fs::create_dir_all(tree.join("boot")).into_diagnostic()?;
    let debug_kernel = debug_kernel.map(|kernel| (kernel, DEBUG_KERNEL));
    for (from, name) in [(kernel, KERNEL), (&image, ROOT_TASK)].into_iter().chain(debug_kernel) {
        let to = tree.join("boot").join(name);
        std::fs::hard_link(from, &to).or_else(|_| std::fs::copy(from, &to).map(|_| ())).into_diagnostic()?;
    }
    add_uefi(&tree, dir, &menu.grub())?;
    pack(&tree, dir)
}

/// Makes `dir`/system.iso of the probe (a 64-bit ELF), which both loaders load in place of a kernel.
pub fn with_probe(probe: &Path, dir: &Path) -> Result<PathBuf> {
    let tree = tree_with_loader(dir, PROBE_MENU)?;
    project::write(&tree.join("boot/probe"), &project::read(&elf32(probe, dir)?)?)?;
    add_uefi(&tree, dir, PROBE_GRUB_MENU)?;
    pack(&tree, dir)
}

/// Adds a loader for UEFI: a FAT file system with GRUB in it, and GRUB's menu.
fn add_uefi(tree: &Path, dir: &Path, menu: &str) -> Result<()> {
    project::write(&tree.join("boot/grub/grub.cfg"), menu.as_bytes())?;
    let (start, loader, image) = (dir.join("grub-start.cfg"), dir.join("BOOTX64.EFI"), tree.join(EFI_IMAGE));
    project::write(&start, GRUB_START.as_bytes())?;
    let mut make = process::tool("grub-mkimage");
    make.args(["-O", "x86_64-efi", "-p", "/boot/grub", "-c"]).arg(&start).arg("-o").arg(&loader);
    make.args(GRUB_MODULES.split_whitespace());
    process::output(make)?;
    fat(&image, &["EFI", "EFI/BOOT"], &[(&loader, "EFI/BOOT/BOOTX64.EFI")])?;
    for file in [start, loader] {
        std::fs::remove_file(file).into_diagnostic()?;
    }
    Ok(())
}

/// Makes a file with a FAT file system, with folders and copies of files. It is as large as a floppy disk of 2.88 MB: enough
/// for a loader, and a size that all firmware knows.
pub fn fat(image: &Path, folders: &[&str], files: &[(&Path, &str)]) -> Result<()> {
    let mtools = |program: &str| {
        let mut command = process::tool(program);
        command.env("SOURCE_DATE_EPOCH", EPOCH).arg("-i").arg(image);
        command
    };
    let mut format = mtools("mformat");
    format.args(["-C", "-f", "2880", "-N", "0", "::"]);
    process::output(format)?;
    let mut make = mtools("mmd");
    make.args(folders.iter().map(|name| format!("::/{name}")));
    process::output(make)?;
    for (from, to) in files {
        let mut copy = mtools("mcopy");
        copy.arg(from).arg(format!("::/{to}"));
        process::output(copy)?;
    }
    Ok(())
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
    command.env("SOURCE_DATE_EPOCH", EPOCH);
    command.args(["-as", "mkisofs", "-quiet", "-rational-rock", "-V", "PORTCULLIS"]);
    command.args(["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot"]);
    command.args(["-boot-load-size", "4", "-boot-info-table", "-isohybrid-mbr", DISK_BOOT_SECTOR]);
    if tree.join(EFI_IMAGE).exists() {
        command.args(["-eltorito-alt-boot", "-e", EFI_IMAGE, "-no-emul-boot", "-isohybrid-gpt-basdat"]);
    }
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
