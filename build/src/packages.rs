//! The Debian packages that the build and the emulator need, the purpose of each, and a sign that it is installed.
//!
//! `setup` installs from this list and `doctor` prints it, so the two agree.

use std::collections::BTreeSet;
use std::path::Path;

use crate::bochs::config;
use crate::{iso, process};

/// UEFI firmware for QEMU's boards.
pub const UEFI: &str = "/usr/share/ovmf/OVMF.fd";

/// The purpose of a group of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Building seL4 and its interface headers.
    Kernel,
    /// Making the bootable ISO.
    Image,
    /// Running in Bochs.
    Bochs,
    /// Making the disk image of the systems that have one.
    Disk,
    /// The tests that run in QEMU; only these need them.
    Qemu,
}

impl Purpose {
    /// The purpose in a few words, for the user.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Kernel => "build the seL4 kernel",
            Self::Image => "make a bootable ISO",
            Self::Bochs => "run in Bochs",
            Self::Disk => "make a guest's disk",
            Self::Qemu => "tests in QEMU",
        }
    }

    /// Whether only some tests need these packages.
    pub fn is_optional(self) -> bool {
        self == Self::Qemu
    }

    /// Every purpose, in the order in which a build meets them.
    pub const ALL: [Self; 5] = [Self::Kernel, Self::Image, Self::Bochs, Self::Disk, Self::Qemu];
}

/// A sign that a package's contents are here, however they were installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// A program in the search path or in /usr/sbin or /sbin.
    Program(&'static str),
    /// A file.
    File(&'static str),
    /// A Python module.
    Module(&'static str),
}

/// One package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// Debian's name for it.
    pub name: &'static str,
    /// Its purpose.
    pub purpose: Purpose,
    /// The sign that it is installed.
    pub evidence: Evidence,
    /// The part of it that is used.
    pub why: &'static str,
}

const fn package(purpose: Purpose, name: &'static str, evidence: Evidence, why: &'static str) -> Package {
    Package { name, purpose, evidence, why }
}

/// Everything that is needed, by its name on Debian 12 (Debian 13 and Ubuntu use the same names).
pub const PACKAGES: &[Package] = {
    use Evidence::{File, Module, Program};
    use Purpose::{Bochs, Disk, Image, Kernel, Qemu};
    &[
        package(Kernel, "cmake", Program("cmake"), "drives the kernel build"),
        package(Kernel, "make", Program("make"), "runs under cmake"),
        package(Kernel, "gcc", Program("gcc"), "compiles the kernel, and the preload that makes Bochs repeatable"),
        package(Kernel, "cpp", Program("cpp"), "preprocesses the kernel's interface files"),
        package(Kernel, "libc6-dev", File("/usr/include/stdio.h"), "C headers for that preload, and Rust's linking"),
        package(Kernel, "binutils", Program("objcopy"), "the loader wants the kernel as a 32-bit ELF"),
        package(Kernel, "patch", Program("patch"), "mends the kernel's source"),
        package(Kernel, "python3", Program("python3"), "the kernel's generators are written in it"),
        package(Kernel, "python3-ply", Module("ply"), "the bitfield generator's parser"),
        package(Kernel, "python3-six", Module("six"), "used by the generators"),
        package(Kernel, "python3-tempita", Module("tempita"), "the kernel's templates"),
        package(Kernel, "libxml2-utils", Program("xmllint"), "checks the interface files"),
        package(Image, "xorriso", Program("xorriso"), "writes ISO 9660"),
        package(Image, "isolinux", File(iso::BOOT_SECTOR), "the boot sectors of the ISO"),
        package(Image, "syslinux-common", File(iso::MULTIBOOT), "mboot.c32, which loads multiboot kernels"),
        package(Image, "grub-common", Program("grub-mkimage"), "puts the loader for UEFI together"),
        package(Image, "grub-efi-amd64-bin", File(iso::MULTIBOOT2), "its parts"),
        package(Image, "mtools", Program("mformat"), "makes the EFI system partition"),
        package(Bochs, "bochs", Program("bochs-bin"), "the PC emulator with VT-x"),
        package(Bochs, "bochsbios", File(config::BIOS), "its BIOS"),
        package(Bochs, "vgabios", File(config::VGA_BIOS), "its VGA BIOS"),
        package(Disk, "mmdebstrap", Program("mmdebstrap"), "installs a small Debian into an archive"),
        package(Disk, "arch-test", Program("arch-test"), "tells mmdebstrap whose programs run here"),
        package(Disk, "uidmap", Program("newuidmap"), "lets mmdebstrap do so without root"),
        package(Disk, "e2fsprogs", Program("mke2fs"), "mke2fs and debugfs make the file system"),
        package(Qemu, "qemu-system-x86", Program("qemu-system-x86_64"), "emulates an IOMMU, which Bochs does not"),
        package(Qemu, "ovmf", File(UEFI), "its UEFI firmware"),
    ]
};

/// The packages for some purposes.
pub fn for_purposes(purposes: &[Purpose]) -> Vec<Package> {
    PACKAGES.iter().copied().filter(|package| purposes.contains(&package.purpose)).collect()
}

/// The packages of `wanted` whose contents this machine lacks. This asks no package manager, since there may be none,
/// and it does not know about programs that the user built.
pub fn missing(wanted: &[Package]) -> Vec<Package> {
    let names = wanted.iter().filter_map(|package| match package.evidence {
        Evidence::Module(name) => Some(name),
        _ => None,
    });
    let names: Vec<&str> = names.collect();
    let absent = if names.is_empty() { BTreeSet::new() } else { absent_modules(&names) };
    without(wanted, |evidence| match evidence {
        Evidence::Program(name) => process::exists(name),
        Evidence::File(path) => Path::new(path).is_file(),
        Evidence::Module(name) => !absent.contains(name),
    })
}

fn without(wanted: &[Package], is_here: impl Fn(Evidence) -> bool) -> Vec<Package> {
    wanted.iter().copied().filter(|package| !is_here(package.evidence)).collect()
}

/// The modules that neither the search path's python3 nor the system's has, as kernel-config/cmake/tools.cmake looks
/// for them. All modules, if there is no Python.
fn absent_modules(names: &[&str]) -> BTreeSet<String> {
    let all: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut least = all.clone();
    for python in ["python3", "/usr/bin/python3"] {
        let mut ask = process::tool(python);
        ask.args(["-c", LOOK]).args(names);
        let Ok((status, said)) = process::finish(ask, |_| {}) else { continue };
        let absent: BTreeSet<String> = said.split_whitespace().map(str::to_owned).collect();
        if status.success() && absent.len() < least.len() {
            least = absent;
        }
    }
    least
}

/// Prints those of its arguments that are not modules.
const LOOK: &str = "import sys, importlib.util as u; print(*(n for n in sys.argv[1:] if not u.find_spec(n)))";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_here_is_not_missing_whoever_brought_it() {
        let wanted = for_purposes(&[Purpose::Kernel, Purpose::Bochs]);
        let names = |here: &[Evidence]| -> Vec<&str> {
            without(&wanted, |evidence| here.contains(&evidence)).iter().map(|package| package.name).collect()
        };
        let found = names(&[Evidence::Program("gcc"), Evidence::File(config::BIOS)]);
        assert!(found.contains(&"cmake") && found.contains(&"patch") && found.contains(&"bochs"), "{found:?}");
        assert!(!found.contains(&"gcc") && !found.contains(&"bochsbios"), "{found:?}");
    }

    #[test]
    fn what_no_package_manager_knows_is_found_too() {
        let wanted =
            [Evidence::Program("sh"), Evidence::File("/proc/self/status"), Evidence::Program("no-such-program")];
        let wanted = wanted.map(|evidence| package(Purpose::Kernel, "unknown-to-dpkg", evidence, "a test"));
        assert_eq!(missing(&wanted), [wanted[2]]);
    }

    #[test]
    fn modules_are_asked_of_python_itself() {
        let absent = absent_modules(&["sys", "no_such_module"]);
        let expected: &[&str] =
            if process::exists("python3") { &["no_such_module"] } else { &["no_such_module", "sys"] };
        assert_eq!(absent.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_readme_begins_with_what_rust_links_with() {
        let readme = include_str!("../../README.md");
        let first = readme.lines().find_map(|line| line.strip_prefix("    ")).unwrap();
        let names = first.strip_prefix("sudo apt-get install ").and_then(|rest| rest.split(" #").next());
        let names: Vec<&str> = names.unwrap().split_whitespace().collect();
        assert!(names.contains(&"gcc") && names.contains(&"libc6-dev"), "{first}");
        assert!(names.iter().all(|name| PACKAGES.iter().any(|package| package.name == *name)), "{first}");
    }

    #[test]
    fn no_package_is_listed_twice() {
        let names: BTreeSet<&str> = PACKAGES.iter().map(|package| package.name).collect();
        assert_eq!(names.len(), PACKAGES.len());
    }

    #[test]
    fn every_program_of_the_kernels_build_is_in_a_package() {
        let tools = include_str!("../../kernel-config/cmake/tools.cmake");
        let required = tools.lines().filter_map(|line| line.strip_prefix("require_tool(")?.strip_suffix(')'));
        for line in required {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Essential on Debian.
            let listed = PACKAGES.iter().any(|package| package.name == words[2]) || words[2] == "bash";
            assert!(listed, "{line}");
        }
    }
}
