//! A bzImage: a setup header (boot.rst, "The Real-Mode Kernel Header"), real-mode code that neither the 32-bit protocol nor the
//! 64-bit one runs, and code that unpacks the kernel. It is loaded where the kernel wants to end up, so that the
//! code need not move itself there first; or, if there is no memory there, where memory begins.

use super::zero_page::{LOADED_HIGH, ZeroPage, header};
use super::{Entry, Error, File, HIGH_MEMORY, Kernel, LoadStep, Protocol};
use arch::Mode;
use heapless::Vec;

/// First protocol with `pref_address` and `init_size`. Without them, a loader cannot know how much memory the kernel
/// uses.
const OLDEST: u16 = 0x020a;
/// `xloadflags`: a 64-bit kernel, whose 64-bit code is at [`ENTRY_64`].
const XLF_KERNEL_64: u16 = 1 << 0;
const ENTRY_64: u64 = 0x200;
const SECTOR: u64 = 512;
/// Unit of `syssize`.
const PARAGRAPH: u64 = 16;
/// boot.rst: zero setup sectors mean four.
const DEFAULT_SETUP_SECTORS: u8 = 4;

/// Reads the header in `head`, the file's first bytes. `size` is the file's; RAM begins at `ram_at`.
pub(super) fn read(head: &[u8], size: u64, ram_at: u64) -> Result<Kernel, Error> {
    let header = Header(head);
    if header.bytes(header::BOOT_FLAG) != Some([0x55, 0xaa]) || header.bytes(header::MAGIC) != Some(*b"HdrS") {
        return Err(Error::NotAKernel);
    }
    let version = header.u16(header::VERSION)?;
    if version < OLDEST || header.u8(header::LOADFLAGS)? & LOADED_HIGH == 0 {
        return Err(Error::TooOld { version });
    }
    let is_long = version >= 0x020c && header.u16(header::XLOADFLAGS)? & XLF_KERNEL_64 != 0;
    let sectors = match header.u8(header::START)? {
        0 => DEFAULT_SETUP_SECTORS,
        sectors => sectors,
    };
    let offset = (u64::from(sectors) + 1) * SECTOR;
    let len = size.checked_sub(offset).filter(|&len| len != 0).ok_or(Error::Truncated)?;
    // The size is rounded up to paragraphs, and the file need not be padded to them: memtest86+'s is not.
    if len.div_ceil(PARAGRAPH) < header.u32(header::SYSSIZE)?.into() {
        return Err(Error::Truncated);
    }
    let place = LoadAddress::of(&header, ram_at)?;
    let mut steps = Vec::new();
    steps.push(LoadStep::Copy { file: File::Kernel, offset, gpa: place.load, len }).map_err(|_| Error::BadHeader)?;
    Ok(Kernel {
        steps,
        end: place.unpacked_end.max(place.load.saturating_add(len)),
        entry: match is_long {
            true => Entry {
                at: place.load.checked_add(ENTRY_64).ok_or(Error::BadHeader)?,
                mode: Mode::Bits64,
                protocol: Protocol::Linux,
            },
            false => Entry { at: place.load, mode: Mode::Bits32, protocol: Protocol::Linux },
        },
        is_long,
        initrd_max: header.u32(header::INITRD_ADDR_MAX)?.into(),
        command_line_max: usize::try_from(header.u32(header::CMDLINE_SIZE)?).unwrap_or(usize::MAX),
        zero_page: ZeroPage::with_header_of(head),
    })
}

/// Where the protected-mode code goes, and where it puts the kernel.
struct LoadAddress {
    load: u64,
    unpacked_end: u64,
}

impl LoadAddress {
    /// The kernel unpacks to its preferred address when that is where it was loaded, and also when it was loaded lower,
    /// as a kernel that cannot be relocated is: at 1 MiB.
    fn of(header: &Header, ram_at: u64) -> Result<Self, Error> {
        let preferred = header.u64(header::PREF_ADDRESS)?;
        let relocatable = header.u8(header::RELOCATABLE)? != 0;
        let alignment = u64::from(header.u32(header::KERNEL_ALIGNMENT)?);
        if preferred < HIGH_MEMORY || (relocatable && (alignment == 0 || preferred % alignment != 0)) {
            return Err(Error::BadHeader);
        }
        let init_size = u64::from(header.u32(header::INIT_SIZE)?);
        let unpacked_at = if relocatable && preferred < ram_at {
            ram_at.checked_next_multiple_of(alignment).ok_or(Error::BadHeader)?
        } else {
            preferred
        };
        let unpacked_end = unpacked_at.checked_add(init_size).ok_or(Error::BadHeader)?;
        Ok(LoadAddress { load: if relocatable { unpacked_at } else { HIGH_MEMORY }, unpacked_end })
    }
}

/// Little-endian fields by their offset in the file.
struct Header<'a>(&'a [u8]);

impl Header<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    fn u8(&self, at: usize) -> Result<u8, Error> {
        self.bytes(at).map(u8::from_le_bytes).ok_or(Error::Truncated)
    }

    fn u16(&self, at: usize) -> Result<u16, Error> {
        self.bytes(at).map(u16::from_le_bytes).ok_or(Error::Truncated)
    }

    fn u32(&self, at: usize) -> Result<u32, Error> {
        self.bytes(at).map(u32::from_le_bytes).ok_or(Error::Truncated)
    }

    fn u64(&self, at: usize) -> Result<u64, Error> {
        self.bytes(at).map(u64::from_le_bytes).ok_or(Error::Truncated)
    }
}
