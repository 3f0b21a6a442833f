//! The Debian packages that the build and the emulator need: which, what for, and which of them are here.
//!
//! `setup` installs from this list and `doctor` prints it, so they cannot disagree.

use std::collections::BTreeSet;
use std::process::Command;

use miette::Result;

use crate::process;

/// What a group of packages is for.
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
    /// The IOMMU tests, which run in QEMU; nothing else needs them.
    Qemu,
}

impl Purpose {
    /// In a few words, for the user.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Kernel => "build the seL4 kernel",
            Self::Image => "make a bootable ISO",
            Self::Bochs => "run in Bochs",
            Self::Disk => "make a guest's disk",
            Self::Qemu => "IOMMU tests in QEMU",
        }
    }

    /// Whether nothing but some tests is lost without these packages.
    pub fn is_optional(self) -> bool {
        self == Self::Qemu
    }

    /// Every purpose, in the order in which a build meets them.
    pub const ALL: [Self; 5] = [Self::Kernel, Self::Image, Self::Bochs, Self::Disk, Self::Qemu];
}

/// One package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// Debian's name for it.
    pub name: &'static str,
    /// What it is needed for.
    pub purpose: Purpose,
    /// What in it is used.
    pub why: &'static str,
}

const fn package(purpose: Purpose, name: &'static str, why: &'static str) -> Package {
    Package { name, purpose, why }
}

/// Everything that is needed, on Debian 12 (Debian 13 and Ubuntu use the same names).
pub const PACKAGES: &[Package] = &[
    package(Purpose::Kernel, "cmake", "drives the kernel build"),
    package(Purpose::Kernel, "make", "runs under cmake"),
    package(Purpose::Kernel, "gcc", "compiles the kernel, and the preload that makes Bochs repeatable"),
    package(Purpose::Kernel, "libc6-dev", "C headers for that preload, and Rust's linking"),
    package(Purpose::Kernel, "binutils", "objcopy: the loader wants the kernel as a 32-bit ELF"),
    package(Purpose::Kernel, "python3", "the kernel's generators are written in it"),
    package(Purpose::Kernel, "python3-ply", "the bitfield generator's parser"),
    package(Purpose::Kernel, "python3-six", "used by the generators"),
    package(Purpose::Kernel, "python3-tempita", "the kernel's templates"),
    package(Purpose::Kernel, "libxml2-utils", "xmllint checks the interface files"),
    package(Purpose::Image, "xorriso", "writes ISO 9660"),
    package(Purpose::Image, "isolinux", "the boot sector of the ISO"),
    package(Purpose::Image, "syslinux-common", "mboot.c32, which loads multiboot kernels"),
    package(Purpose::Bochs, "bochs", "the PC emulator with VT-x"),
    package(Purpose::Bochs, "bochsbios", "its BIOS"),
    package(Purpose::Bochs, "vgabios", "its VGA BIOS"),
    package(Purpose::Disk, "mmdebstrap", "installs a small Debian into an archive"),
    package(Purpose::Disk, "arch-test", "tells mmdebstrap that i386 programs run here"),
    package(Purpose::Disk, "uidmap", "lets mmdebstrap do so without root"),
    package(Purpose::Disk, "e2fsprogs", "mke2fs and debugfs make the file system"),
    package(Purpose::Qemu, "qemu-system-x86", "emulates an IOMMU, which Bochs does not"),
];

/// The packages for some purposes.
pub fn for_purposes(purposes: &[Purpose]) -> Vec<Package> {
    PACKAGES.iter().copied().filter(|package| purposes.contains(&package.purpose)).collect()
}

/// What is installed on this machine, by name; empty where there is no dpkg.
pub fn installed() -> Result<BTreeSet<String>> {
    if !process::exists("dpkg-query") {
        return Ok(BTreeSet::new());
    }
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Abbrev} ${Package}\n"]);
    query.args(PACKAGES.iter().map(|package| package.name));
    // It ends with 1 when any of the names is unknown; what it does know stands on lines of its own.
    let (_, listing) = process::finish(query, |_| {})?;
    Ok(parse_listing(&listing))
}

/// Reads dpkg-query's lines `ii  gcc`: names of which the second letter says "installed".
fn parse_listing(listing: &str) -> BTreeSet<String> {
    let lines = listing.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (status, name, rest) = (words.next()?, words.next()?, words.next());
        (status.get(1..2) == Some("i") && status.len() <= 3 && rest.is_none()).then(|| name.to_owned())
    });
    lines.collect()
}

/// Those of `wanted` that are not in `installed`.
pub fn missing(wanted: &[Package], installed: &BTreeSet<String>) -> Vec<Package> {
    wanted.iter().copied().filter(|package| !installed.contains(package.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "ii  gcc\nrc  cmake\nun  make\nhi  xorriso\ndpkg-query: no packages found matching bochs\n";

    #[test]
    fn only_what_is_installed_counts() {
        let names: Vec<String> = parse_listing(LISTING).into_iter().collect();
        assert_eq!(names, ["gcc", "xorriso"]);
    }

    #[test]
    fn removed_and_unknown_packages_are_missing() {
        let wanted = for_purposes(&[Purpose::Kernel, Purpose::Bochs]);
        let names: Vec<&str> = missing(&wanted, &parse_listing(LISTING)).iter().map(|package| package.name).collect();
        assert!(names.contains(&"cmake") && names.contains(&"make") && names.contains(&"bochs"), "{names:?}");
        assert!(!names.contains(&"gcc"), "{names:?}");
    }

    #[test]
    fn no_package_is_listed_twice() {
        let names: BTreeSet<&str> = PACKAGES.iter().map(|package| package.name).collect();
        assert_eq!(names.len(), PACKAGES.len());
    }
}
