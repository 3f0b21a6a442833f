//! Why a guest's kernel is unusable, and the remedy.

use std::fmt;

/// Why a kernel cannot be unpacked or moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The magic "HdrS" is missing.
    NotABzImage,
    /// The header points behind the end of the file.
    Truncated,
    /// A compression that is not read here; its name.
    Compression(&'static str),
    /// The decompressor's error.
    Corrupt(String),
    /// It decompressed to something that is not an ELF.
    NotAnElf,
    /// It is for 64-bit processors.
    SixtyFourBit,
    /// It has no relocations.
    NotRelocatable,
    /// A relocation names a virtual address (given) outside the kernel.
    BadRelocation(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABzImage => write!(f, "it is neither an ELF nor a bzImage (no \"HdrS\" at 0x202)"),
            Self::Truncated => write!(f, "its header points behind the end of the file"),
            Self::Compression(name) => write!(f, "it is compressed with {name}, which the build does not read"),
            Self::Corrupt(reason) => write!(f, "what is compressed in it is damaged: {reason}"),
            Self::NotAnElf => write!(f, "what is compressed in it is no kernel"),
            Self::SixtyFourBit => write!(f, "it is a 64-bit kernel; only 32-bit guests run"),
            Self::NotRelocatable => write!(
                f,
                "it cannot be moved in memory: it has no relocations (Linux: CONFIG_RELOCATABLE; a bzImage keeps them, a \
                 vmlinux does not)"
            ),
            Self::BadRelocation(address) => write!(f, "it has a relocation at {address:#x}, outside the kernel"),
        }
    }
}

impl std::error::Error for Error {}
impl miette::Diagnostic for Error {}

impl Error {
    /// The remedy.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Compression(_) => {
                "write decompress = \"guest\" in the VM's table, for a bzImage that unpacks itself; or unpack it"
            }
            Self::NotABzImage | Self::NotAnElf => "name a bzImage, or a vmlinux, which may be compressed",
            Self::Truncated | Self::Corrupt(_) => "copy it again: the file is damaged",
            Self::SixtyFourBit => "build it for the i386, or take the distribution's i386 or i686 kernel",
            Self::NotRelocatable | Self::BadRelocation(_) => {
                "devices with dma = \"trusted\" need a kernel that can be moved: CONFIG_RELOCATABLE, in a bzImage"
            }
        }
    }
}
