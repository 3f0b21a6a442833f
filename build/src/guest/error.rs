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
    /// It is an ELF for a machine other than a PC; its number in the ELF.
    OtherMachine(u16),
    /// It has no relocations.
    NotRelocatable,
    /// It can be moved by multiples of 2 MiB only, or to below 4 GiB.
    BadPlace(u64),
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
            Self::OtherMachine(183) => write!(f, "it is for 64-bit ARM, and guests run on x86"),
            Self::OtherMachine(number) => {
                write!(
                    f,
                    "it is an ELF for the machine {number}: no i386 (3, of 32 bits) and no x86-64 (62, of 64 bits)"
                )
            }
            Self::NotRelocatable => write!(
                f,
                "it cannot be moved in memory: it has no relocations (Linux: CONFIG_RELOCATABLE; a bzImage keeps them, a \
                 vmlinux does not)"
            ),
            Self::BadPlace(at) => write!(f, "it cannot be moved to {at:#x}"),
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
            Self::OtherMachine(_) => {
                "build it for x86 (ARCH=x86_64 or ARCH=i386), or take the distribution's amd64 kernel"
            }
            Self::NotRelocatable | Self::BadRelocation(_) | Self::BadPlace(_) => {
                "devices with dma = \"trusted\" need a kernel that can be moved: CONFIG_RELOCATABLE, in a bzImage"
            }
        }
    }
}
