//! Disks in descriptions: an entry of `disks`. A disk has the name that the component has given it that drives it, or
//! is a file of fileserver's.

use serde::Deserialize;
use toml::Spanned;

use super::{bytes::Bytes, guest::Origin};

/// An entry of `disks`: what a VM or a component gets of a disk. All of it, if there is neither a partition nor a range of sectors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskPart {
    /// The name that its driver has for it; `None` if it is a file.
    pub name: Option<Spanned<String>>,
    /// The file that it is, which is never written.
    pub file: Option<Spanned<Origin>>,
    /// Memory for what its owner writes to a file.
    pub copy_on_write: Option<Spanned<Bytes>>,
    /// A primary partition, 1 to 4: its owner sees a disk with this partition alone.
    pub partition: Option<u8>,
    /// The first sector of a range.
    pub first: Option<u64>,
    /// How many sectors it has.
    pub sectors: Option<u64>,
    /// Whether it may only be read.
    #[serde(default)]
    pub read_only: bool,
}
