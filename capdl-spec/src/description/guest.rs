//! Images of guests: where a description's `kernel`, `initrd` and `files` come from, and the names under which
//! fileserver holds them. An image is a name of the table (the build fetches or makes it) or a path.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de::Error};

use crate::description::{
    debian::{Debian, Stock},
    mistake,
};

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
    /// The Debian that packages are from.
    pub debian: Debian,
    /// Whether its kernel is the VM's, so that modules can be built for it.
    pub has_kernel: bool,
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
            Origin::Stock(stock) => stock.full_name(),
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
                "no image is called `{text}`\nthe images that need no path are `debian-686`, `debian-686-pae`, `debian-amd64` and \
                 `debian-cloud-amd64` (kernels), `debian-busybox` and `debian-disk` (initrds), `debian-sysv`, `debian-lvm` and `debian-systemd` (disks); \
                 a file beside the description is written `./{text}`"
            ))
        })
    }
}
