//! Debian's part of guests: its kernels, and what the build makes of its packages. A VM's kernel decides about its initrd
//! and its packages: they are of the same architecture, and of one release.

use serde::Deserialize;

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
