//! The zero page: `struct boot_params`, by the offsets of Documentation/arch/x86/zero-page.rst and boot.rst ("The Real-Mode
//! Kernel Header"). All that this loader does not set stays zero, above all the sentinel at 0x1ef, which tells the kernel
//! that the rest is meant, and the screen, of which there is none.

use super::e820;

/// Offset of the RSDP's guest-physical address, 64 bits.
const RSDP: usize = 0x070;
/// Offset of the number of E820 entries, one byte.
const E820_ENTRIES: usize = 0x1e8;
/// Offset of the E820 table: 64-bit base, 64-bit size, 32-bit kind each.
const E820_TABLE: usize = 0x2d0;
const E820_ENTRY_SIZE: usize = 20;

/// Offsets in the setup header, which the zero page shares with a bzImage.
pub(super) mod header {
    /// First byte of the header: setup sectors, one byte.
    pub const START: usize = 0x1f1;
    /// Size of the protected-mode code in 16-byte units, 32 bits.
    pub const SYSSIZE: usize = 0x1f4;
    /// 0xaa55.
    pub const BOOT_FLAG: usize = 0x1fe;
    /// Operand of a short jump over the rest of the header: counted from `MAGIC`, it is the header's length.
    pub const JUMP: usize = 0x201;
    /// "HdrS".
    pub const MAGIC: usize = 0x202;
    /// Protocol version, 16 bits.
    pub const VERSION: usize = 0x206;
    /// Boot loader's identity, one byte.
    pub const LOADER: usize = 0x210;
    /// Flags, one byte.
    pub const LOADFLAGS: usize = 0x211;
    /// 32-bit address and size of the initrd.
    pub const RAMDISK_IMAGE: usize = 0x218;
    /// See `RAMDISK_IMAGE`.
    pub const RAMDISK_SIZE: usize = 0x21c;
    /// 32-bit address of the command line.
    pub const CMD_LINE_PTR: usize = 0x228;
    /// Highest address of an initrd's byte, 32 bits.
    pub const INITRD_ADDR_MAX: usize = 0x22c;
    /// Alignment of a relocatable kernel, 32 bits.
    pub const KERNEL_ALIGNMENT: usize = 0x230;
    /// Whether the protected-mode code may be loaded anywhere aligned, one byte.
    pub const RELOCATABLE: usize = 0x234;
    /// More flags, 16 bits.
    pub const XLOADFLAGS: usize = 0x236;
    /// Longest command line without its NUL, 32 bits.
    pub const CMDLINE_SIZE: usize = 0x238;
    /// Where the kernel would like to be loaded, 64 bits.
    pub const PREF_ADDRESS: usize = 0x258;
    /// Bytes from there on that the kernel uses before it reads the memory map, 32 bits.
    pub const INIT_SIZE: usize = 0x260;
    /// End of what the zero page keeps for the header.
    pub const END: usize = 0x290;
}

/// Value of `header::LOADER`: a boot loader without a registered number.
const UNREGISTERED_LOADER: u8 = 0xff;
/// `header::LOADFLAGS`: the protected-mode code is at 1 MiB or above.
pub(super) const LOADED_HIGH: u8 = 1 << 0;
/// What `with_own_header` claims to follow.
const PROTOCOL: u16 = 0x020f;

/// The page's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZeroPage([u8; 4096]);

impl ZeroPage {
    /// A page with the setup header of a bzImage, whose first bytes `head` is.
    pub(super) fn with_header_of(head: &[u8]) -> Self {
        let mut page = ZeroPage([0; 4096]);
        let jump = head.get(header::JUMP).copied().unwrap_or_default();
        let end = (header::MAGIC + usize::from(jump)).min(header::END);
        if let (Some(to), Some(from)) = (page.0.get_mut(header::START..end), head.get(header::START..end)) {
            to.copy_from_slice(from);
        }
        page.put(header::LOADER, &[UNREGISTERED_LOADER]);
        page
    }

    /// A page for a kernel that is loaded without its bzImage, and so without the header made at its build: as much of
    /// one as the kernel proper looks at.
    pub(super) fn with_own_header() -> Self {
        let mut page = ZeroPage([0; 4096]);
        page.put(header::BOOT_FLAG, &0xaa55u16.to_le_bytes());
        page.put(header::MAGIC, b"HdrS");
        page.put(header::VERSION, &PROTOCOL.to_le_bytes());
        page.put(header::LOADER, &[UNREGISTERED_LOADER]);
        page.put(header::LOADFLAGS, &[LOADED_HIGH]);
        page
    }

    /// The page, for the guest's memory.
    pub const fn bytes(&self) -> &[u8; 4096] {
        &self.0
    }

    pub(super) fn set_initrd(&mut self, at: u32, size: u32) {
        self.put(header::RAMDISK_IMAGE, &at.to_le_bytes());
        self.put(header::RAMDISK_SIZE, &size.to_le_bytes());
    }

    pub(super) fn set_command_line(&mut self, at: u32) {
        self.put(header::CMD_LINE_PTR, &at.to_le_bytes());
    }

    pub(super) fn set_rsdp(&mut self, at: u64) {
        self.put(RSDP, &at.to_le_bytes());
    }

    pub(super) fn set_memory_map(&mut self, map: &[e820::Entry]) {
        self.put(E820_ENTRIES, &[map.len() as u8]);
        for (at, entry) in (E820_TABLE..).step_by(E820_ENTRY_SIZE).zip(map) {
            self.put(at, &entry.base.to_le_bytes());
            self.put(at + 8, &entry.size.to_le_bytes());
            self.put(at + 16, &(entry.kind as u32).to_le_bytes());
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}
