//! The bytes of a system's programs and images, which the build made or fetched.

use std::collections::BTreeMap;

/// What the build made or fetched.
pub trait Binaries {
    /// The ELF of a program, which goes by its package's name or by a component's path as the description has it.
    fn elf(&self, program: &str) -> Option<&[u8]>;
    /// The image of this name, see [`System::images`].
    fn image(&self, name: &str) -> Option<&[u8]>;
}

/// Binaries by name.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// ELFs by package or path.
    pub elfs: BTreeMap<String, Vec<u8>>,
    /// Images by name.
    pub images: BTreeMap<String, Vec<u8>>,
}

impl Binaries for Files {
    fn elf(&self, program: &str) -> Option<&[u8]> {
        self.elfs.get(program).map(Vec::as_slice)
    }
    fn image(&self, name: &str) -> Option<&[u8]> {
        self.images.get(name).map(Vec::as_slice)
    }
}
