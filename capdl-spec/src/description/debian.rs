//! Debian's part of guests: its kernels, and what the build makes of its packages. A VM's kernel decides about its initrd
//! and its packages: they are of the same architecture, and of one release.

use std::{fs::File, io::Read as _, path::Path};

use serde::Deserialize;
use toml::Spanned;

use crate::description::{file, guest::Origin, system::System};

/// An architecture, as Debian names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// 32-bit.
    I386,
    /// 64-bit.
    Amd64,
}

impl Architecture {
    /// Debian's name.
    pub const fn name(self) -> &'static str {
        match self {
            Architecture::I386 => "i386",
            Architecture::Amd64 => "amd64",
        }
    }

    /// The architecture that a kernel's file is for. `None` if its beginning does not tell: it is compressed as a whole, or no
    /// kernel. (ELF: System V ABI, chapter 4. bzImage: Linux's Documentation/arch/x86/boot.rst.)
    pub fn of(kernel: &[u8]) -> Option<Self> {
        const CLASS: usize = 4;
        const MAGIC: usize = 0x202;
        const XLOADFLAGS: usize = 0x236;
        /// Bit 0: there is an entry point for 64-bit mode. The field is there from protocol 2.12 on; before, it is zero.
        const XLF_KERNEL_64: u8 = 1;
        match (kernel.get(CLASS), kernel.get(MAGIC..MAGIC + 4), kernel.get(XLOADFLAGS)) {
            (Some(2), _, _) if kernel.starts_with(b"\x7fELF") => Some(Self::Amd64),
            (Some(1), _, _) if kernel.starts_with(b"\x7fELF") => Some(Self::I386),
            (_, Some(b"HdrS"), Some(flags)) if flags & XLF_KERNEL_64 != 0 => Some(Self::Amd64),
            (_, Some(b"HdrS"), _) => Some(Self::I386),
            _ => None,
        }
    }
}

/// A release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// Debian 12, with Linux 6.1: the last with kernels for i386.
    Bookworm,
    /// Debian 13, with Linux 6.12.
    Trixie,
}

impl Release {
    /// Debian's name.
    pub const fn name(self) -> &'static str {
        match self {
            Release::Bookworm => "bookworm",
            Release::Trixie => "trixie",
        }
    }

    /// Whether it has kernels for an architecture.
    pub fn has_kernels_for(self, architecture: Architecture) -> bool {
        (self, architecture) != (Release::Trixie, Architecture::I386)
    }
}

/// Debian's kernels: the end of their packages' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// 32-bit, without PAE.
    I686,
    /// 32-bit, with PAE, as Debian installs it on most 32-bit machines.
    I686Pae,
    /// 64-bit.
    Amd64,
    /// 64-bit, with drivers for the devices of virtual machines only.
    CloudAmd64,
}

impl Flavour {
    /// The end of its packages' names.
    pub const fn name(self) -> &'static str {
        match self {
            Flavour::I686 => "686",
            Flavour::I686Pae => "686-pae",
            Flavour::Amd64 => "amd64",
            Flavour::CloudAmd64 => "cloud-amd64",
        }
    }

    /// The architecture that it is for.
    pub const fn architecture(self) -> Architecture {
        match self {
            Flavour::I686 | Flavour::I686Pae => Architecture::I386,
            Flavour::Amd64 | Flavour::CloudAmd64 => Architecture::Amd64,
        }
    }
}

/// The Debian that a VM's kernel, initrd and packages are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Debian {
    /// The release.
    pub release: Release,
    /// The kernel; the architecture follows from it.
    pub flavour: Flavour,
}

impl Debian {
    /// That of the VMs whose kernel is `debian-686`.
    pub const I386: Debian = Debian { release: Release::Bookworm, flavour: Flavour::I686 };
    /// That of the VMs whose kernel is `debian-amd64`.
    pub const AMD64: Debian = Debian { release: Release::Trixie, flavour: Flavour::Amd64 };

    /// The last release that has a kernel.
    pub const fn with(flavour: Flavour) -> Debian {
        match flavour.architecture() {
            Architecture::I386 => Debian { flavour, ..Debian::I386 },
            Architecture::Amd64 => Debian { flavour, ..Debian::AMD64 },
        }
    }

    /// The architecture.
    pub const fn architecture(self) -> Architecture {
        self.flavour.architecture()
    }

    /// The same for all kernels of the architecture.
    pub const fn of_any_kernel(self) -> Debian {
        let flavour = match self.architecture() {
            Architecture::I386 => Flavour::I686,
            Architecture::Amd64 => Flavour::Amd64,
        };
        Debian { flavour, ..self }
    }
}

impl Default for Debian {
    fn default() -> Debian {
        Debian::I386
    }
}

/// What the build fetches or makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// A kernel of Debian's package `linux-image-FLAVOUR`.
    Kernel,
    /// An initramfs with Debian's static busybox: a shell on ttyS0.
    Busybox,
    /// An initramfs that mounts the command line's `root=` and starts the init there.
    Disk,
    /// A disk with a Debian of sysvinit on its first partition.
    Sysv,
    /// The same on a logical volume of LVM, `/dev/mapper/debian-root`.
    Lvm,
    /// A disk with a 64-bit Debian of systemd on its first partition.
    Systemd,
}

/// An image that a description may name without a path. An initrd is that of the VM's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stock {
    /// What it is.
    pub what: What,
    /// Whose it is.
    pub debian: Debian,
}

/// What an image may be used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// `kernel`.
    Kernel,
    /// `initrd`.
    Initrd,
    /// The emulator's `disk`.
    Disk,
}

impl Stock {
    /// All of them, before their VMs are known.
    pub const ALL: [Stock; 9] = [
        Stock::kernel(Flavour::I686),
        Stock::kernel(Flavour::I686Pae),
        Stock::kernel(Flavour::Amd64),
        Stock::kernel(Flavour::CloudAmd64),
        Stock { what: What::Busybox, debian: Debian::I386 },
        Stock { what: What::Disk, debian: Debian::I386 },
        Stock { what: What::Sysv, debian: Debian::I386 },
        Stock { what: What::Lvm, debian: Debian::I386 },
        Stock { what: What::Systemd, debian: Debian::AMD64 },
    ];

    const fn kernel(flavour: Flavour) -> Stock {
        Stock { what: What::Kernel, debian: Debian::with(flavour) }
    }

    /// As descriptions name it.
    pub const fn name(self) -> &'static str {
        match self.what {
            What::Kernel => match self.debian.flavour {
                Flavour::I686 => "debian-686",
                Flavour::I686Pae => "debian-686-pae",
                Flavour::Amd64 => "debian-amd64",
                Flavour::CloudAmd64 => "debian-cloud-amd64",
            },
            What::Busybox => "debian-busybox",
            What::Disk => "debian-disk",
            What::Sysv => "debian-sysv",
            What::Lvm => "debian-lvm",
            What::Systemd => "debian-systemd",
        }
    }

    /// The name in full: with the kernel and the release, unless they are the usual ones.
    pub(super) fn full_name(self) -> String {
        let mut name = self.name().to_owned();
        if matches!(self.what, What::Busybox | What::Disk) && self.debian.flavour != Flavour::I686 {
            name = format!("{name}-{}", self.debian.flavour.name());
        }
        if self.debian != Debian::with(self.debian.flavour) {
            name = format!("{name}-{}", self.debian.release.name());
        }
        name
    }

    /// What it may be used as.
    pub const fn purpose(self) -> Use {
        match self.what {
            What::Kernel => Use::Kernel,
            What::Busybox | What::Disk => Use::Initrd,
            What::Sysv | What::Lvm | What::Systemd => Use::Disk,
        }
    }
}

impl System {
    /// Decides for each VM of which Debian its kernel, its initrd and its packages are.
    pub(crate) fn settle_guests(&mut self) {
        let folder = self.folder().to_path_buf();
        for vm in &mut self.vms {
            let kernel = match vm.kernel.get_ref() {
                Origin::Stock(stock) => stock.debian,
                Origin::File(path) => match beginning(&folder.join(path)).and_then(|file| Architecture::of(&file)) {
                    Some(Architecture::Amd64) => Debian::AMD64,
                    Some(Architecture::I386) | None => Debian::I386,
                },
            };
            vm.debian = Debian { release: vm.release.as_ref().map_or(kernel.release, |one| *one.get_ref()), ..kernel };
            let debian = vm.debian;
            for image in core::iter::once(&mut vm.kernel).chain(&mut vm.initrd) {
                let span = image.span();
                let Origin::Stock(stock) = image.get_ref() else { continue };
                let debian = match stock.what {
                    What::Kernel | What::Disk => debian,
                    // It has no modules.
                    What::Busybox => debian.of_any_kernel(),
                    What::Sysv | What::Lvm | What::Systemd => continue,
                };
                *image = Spanned::new(span, Origin::Stock(Stock { debian, ..*stock }));
            }
        }
    }
}

/// As much of a file as [`Architecture::of`] looks at. Files that cannot be read are found by a check.
fn beginning(path: &Path) -> Option<Vec<u8>> {
    const ENOUGH: u64 = 1024;
    file::examine(path).ok()?;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(ENOUGH).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{self, Source};

    fn bzimage(xloadflags: u8) -> Vec<u8> {
        let mut file = vec![0; 1024];
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x236] = xloadflags;
        file
    }

    /// The kernel's and the initrd's full name, and the Debian of packages.
    fn vm(keys: &str) -> (String, String, Debian) {
        let text = format!("board = \"bochs\"\n[[vm]]\nname = \"x\"\nmemory = \"128 MiB\"\n{keys}\n");
        let system = host::parse(Source { path: "x.toml".into(), text }).expect("it is right");
        let vm = &system.vms[0];
        let name = |origin: &Origin| origin.base_name();
        (name(vm.kernel.get_ref()), vm.initrd.as_ref().map_or(String::new(), |one| name(one.get_ref())), vm.debian)
    }

    #[test]
    fn a_kernels_file_tells_its_architecture() {
        let elf = |class| [b"\x7fELF".as_slice(), &[class; 60]].concat();
        assert_eq!(Architecture::of(&elf(1)), Some(Architecture::I386));
        assert_eq!(Architecture::of(&elf(2)), Some(Architecture::Amd64));
        assert_eq!(Architecture::of(&bzimage(0)), Some(Architecture::I386));
        assert_eq!(Architecture::of(&bzimage(0x3f)), Some(Architecture::Amd64));
        assert_eq!(Architecture::of(&bzimage(0x3e)), Some(Architecture::I386));
        assert_eq!(Architecture::of(b"\x1f\x8b\x08"), None);
        assert_eq!(Architecture::of(b""), None);
    }

    #[test]
    fn an_initrd_is_that_of_the_kernel() {
        let busybox = "initrd = \"debian-busybox\"";
        let disk = "initrd = \"debian-disk\"";
        for (keys, kernel, initrd) in [
            (format!("kernel = \"debian-686\"\n{busybox}"), "debian-686", "debian-busybox"),
            (format!("kernel = \"debian-686-pae\"\n{busybox}"), "debian-686-pae", "debian-busybox"),
            (format!("kernel = \"debian-686-pae\"\n{disk}"), "debian-686-pae", "debian-disk-686-pae"),
            (format!("kernel = \"debian-amd64\"\n{busybox}"), "debian-amd64", "debian-busybox-amd64"),
            (format!("kernel = \"debian-cloud-amd64\"\n{busybox}"), "debian-cloud-amd64", "debian-busybox-amd64"),
            (format!("kernel = \"debian-cloud-amd64\"\n{disk}"), "debian-cloud-amd64", "debian-disk-cloud-amd64"),
            (
                format!("kernel = \"debian-amd64\"\nrelease = \"bookworm\"\n{busybox}"),
                "debian-amd64-bookworm",
                "debian-busybox-amd64-bookworm",
            ),
        ] {
            let found = vm(&keys);
            assert_eq!((found.0.as_str(), found.1.as_str()), (kernel, initrd), "{keys}");
        }
    }

    #[test]
    fn the_initrd_and_the_packages_for_an_own_kernel_are_of_its_architecture() {
        let dir = std::env::temp_dir().join(format!("capdl-spec-debian-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("is writable");
        for (flags, name, debian) in [(1, "debian-busybox-amd64", Debian::AMD64), (0, "debian-busybox", Debian::I386)] {
            let file = dir.join("bzImage");
            std::fs::write(&file, bzimage(flags)).expect("is writable");
            let found = vm(&format!("kernel = \"{}\"\ninitrd = \"debian-busybox\"", file.display()));
            assert_eq!((found.1.as_str(), found.2), (name, debian));
        }
        std::fs::remove_dir_all(dir).expect("is removed");
    }
}
