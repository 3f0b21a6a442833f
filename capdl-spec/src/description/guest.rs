//! Images of guests: where a description's `kernel`, `initrd` and `files` come from, and the names under which
//! fileserver holds them. An image is a name of the table (the build fetches or makes it) or a path.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de::Error};

use crate::description::mistake;

/// Images that a description may name without a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stock {
    /// The kernel of Debian's `linux-image-686`: 32-bit, without PAE.
    DebianKernel,
    /// The kernel of Debian's `linux-image-686-pae`: 32-bit, with PAE, as Debian installs it on most 32-bit machines.
    DebianPaeKernel,
    /// An initramfs with Debian's static i386 busybox: a shell on ttyS0.
    DebianBusybox,
    /// An initramfs that mounts the command line's `root=` and starts the init there.
    DebianDisk,
    /// A disk with a Debian of sysvinit on its first partition.
    DebianSysv,
    /// The same on a logical volume of LVM, `/dev/mapper/debian-root`.
    DebianLvm,
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
    /// All of them.
    pub const ALL: [Stock; 6] = [
        Stock::DebianKernel,
        Stock::DebianPaeKernel,
        Stock::DebianBusybox,
        Stock::DebianDisk,
        Stock::DebianSysv,
        Stock::DebianLvm,
    ];

    /// As descriptions name it.
    pub const fn name(self) -> &'static str {
        match self {
            Stock::DebianKernel => "debian-686",
            Stock::DebianPaeKernel => "debian-686-pae",
            Stock::DebianBusybox => "debian-busybox",
            Stock::DebianDisk => "debian-disk",
            Stock::DebianSysv => "debian-sysv",
            Stock::DebianLvm => "debian-lvm",
        }
    }

    /// What it may be used as.
    pub const fn purpose(self) -> Use {
        match self {
            Stock::DebianKernel | Stock::DebianPaeKernel => Use::Kernel,
            Stock::DebianBusybox | Stock::DebianDisk => Use::Initrd,
            Stock::DebianSysv | Stock::DebianLvm => Use::Disk,
        }
    }
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The table.
    Stock(Stock),
    /// A file; in a description, relative to the description's folder. Written with at least one slash.
    File(PathBuf),
}

/// What the build does with an image before it goes into the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Nothing.
    AsIs,
    /// A bzImage is replaced by the vmlinux in it; a vmlinux stays.
    Decompressed,
    /// As `Decompressed`, and the vmlinux is moved so that it loads at another physical address.
    Relocated {
        /// Where it loads: a multiple of 16 MiB.
        at: u64,
    },
    /// An initrd with more files behind its own.
    Extended(Additions),
}

/// Files that a VM's initrd gets in addition, in this order: a later one replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Additions {
    /// Packages of the guest's distribution.
    pub packages: Vec<String>,
    /// Folders with a Makefile, relative to the working directory.
    pub programs: Vec<PathBuf>,
    /// Packages that are there when those are built.
    pub build_packages: Vec<String>,
    /// The VM's kernel, for which modules among them are built.
    pub kernel: Option<Stock>,
    /// A folder, relative to the working directory.
    pub overlay: Option<PathBuf>,
}

/// An image that a system needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Under which fileserver holds it: unique in the system.
    pub name: String,
    /// Where it comes from, paths made relative to the working directory.
    pub origin: Origin,
    /// How it goes into the bundle.
    pub form: Form,
}

impl Origin {
    /// The name that an image of this origin gets, unless another has it.
    pub fn base_name(&self) -> String {
        match self {
            Origin::Stock(stock) => stock.name().to_string(),
            Origin::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// The same origin, with its path relative to `folder`.
    pub fn within(&self, folder: &Path) -> Origin {
        match self {
            Origin::Stock(stock) => Origin::Stock(*stock),
            Origin::File(path) => Origin::File(folder.join(path)),
        }
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if text.contains('/') {
            return Ok(Origin::File(text.into()));
        }
        let stock = Stock::ALL.into_iter().find(|stock| stock.name() == text);
        stock.map(Origin::Stock).ok_or_else(|| {
            let names = Stock::ALL.map(Stock::name);
            if let Some(close) = mistake::close(&text, &names) {
                return D::Error::custom(format!(
                    "no image is called `{text}`\ndid you mean `{close}`? A file beside the description is written `./{text}`"
                ));
            }
            D::Error::custom(format!(
                "no image is called `{text}`\nthe images that need no path are `debian-686` and `debian-686-pae` (kernels), \
                 `debian-busybox` and `debian-disk` (initrds), `debian-sysv` and `debian-lvm` (disks); a file beside the description is written `./{text}`"
            ))
        })
    }
}
