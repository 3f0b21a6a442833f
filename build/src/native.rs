//! The same Linux without Portcullis, on the same emulated board, for comparison with a guest's speed.
//!
//! ISOLINUX loads the kernel. As for a guest, the kernel is decompressed beforehand, since decompressing would dominate
//! the boot: `flat` replaces the compressed image. See Linux's Documentation/arch/x86/boot.rst.

use std::path::PathBuf;

use miette::{Result, miette};
use object::LittleEndian;
use object::elf::{FileHeader32, PT_LOAD};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use crate::bochs::config::Devices;
use crate::bochs::{Machine, Options};
use crate::guest::bzimage;
use crate::iso;
use crate::project::{self, Project};

/// What to boot.
#[derive(Debug, Clone)]
pub struct Linux {
    /// A bzImage.
    pub kernel: PathBuf,
    /// An initramfs.
    pub initrd: PathBuf,
    /// The kernel's command line.
    pub cmdline: String,
    /// The board's memory, in MiB.
    pub memory_mib: u32,
    /// The devices that are plugged into the board.
    pub devices: Devices,
}

/// Switches a board on with Linux alone on it. `name` is the run's, and that of the ISO in target/images.
pub fn boot(project: &Project, name: &str, linux: &Linux, change: impl FnOnce(&mut Options)) -> Result<Machine> {
    let dir = project.images(name);
    let kernel = flat(&project::read(&linux.kernel)?)?;
    let initrd = project::read(&linux.initrd)?;
    let menu = format!(
        "DEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\n  KERNEL /boot/vmlinuz\n  INITRD /boot/initrd\n  APPEND {}\n",
        linux.cmdline
    );
    let iso = iso::with_linux(&kernel, &initrd, &menu, &dir)?;
    let mut options = Options::new(name, &iso);
    options.memory_mib = linux.memory_mib;
    options.devices = linux.devices.clone();
    change(&mut options);
    Machine::boot(project, &options)
}

/// Offsets of fields in the header.
mod field {
    pub const SETUP_SECTS: usize = 0x1f1;
    pub const SYSSIZE: usize = 0x1f4;
    pub const CODE32_START: usize = 0x214;
    pub const RELOCATABLE_KERNEL: usize = 0x234;
    pub const XLOADFLAGS: usize = 0x236;
    pub const PAYLOAD_OFFSET: usize = 0x248;
    pub const PAYLOAD_LENGTH: usize = 0x24c;
    pub const PREF_ADDRESS: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
    pub const HANDOVER_OFFSET: usize = 0x264;
    pub const KERNEL_INFO_OFFSET: usize = 0x268;
}

/// Where a loader puts the protected-mode part.
const LOADED_AT: u32 = 0x10_0000;
/// The line that this code leaves in the emulator's log when it enters the kernel.
pub const ENTRY_MARK: &str = "entry";
/// Bytes before the image in that part, for the code that moves it.
const STUB: usize = 512;
/// Memory after the kernel's end: more than it takes there for page tables before it knows the memory map.
const BEYOND: u32 = 5 << 20;

/// A bzImage with the kernel's memory image in place of the compressed one.
pub fn flat(kernel: &[u8]) -> Result<Vec<u8>> {
    let broken = || miette!("the kernel is not a bzImage of a 32-bit Linux");
    let elf = bzimage::unpack(kernel)?;
    let (base, end, image) = loaded(&elf).ok_or_else(broken)?;
    if image.len() + STUB > base.saturating_sub(LOADED_AT) as usize {
        return Err(miette!("the kernel is too large to be moved from {LOADED_AT:#x} to {base:#x}"));
    }
    let setup = (usize::from(*kernel.get(field::SETUP_SECTS).ok_or_else(broken)?) + 1) * 512;
    let mut out = kernel.get(..setup).ok_or_else(broken)?.to_vec();
    out.extend(stub(base, image.len()));
    out.extend(image);
    let paragraphs = (out.len() - setup).div_ceil(16);
    let init_size = (end - LOADED_AT + BEYOND).next_multiple_of(4096);
    let fields: [(usize, &[u8]); 10] = [
        (field::SYSSIZE, &u32::try_from(paragraphs).unwrap_or(u32::MAX).to_le_bytes()),
        (field::CODE32_START, &LOADED_AT.to_le_bytes()),
        (field::RELOCATABLE_KERNEL, &[0]),
        (field::XLOADFLAGS, &[0; 2]),
        (field::PAYLOAD_OFFSET, &[0; 4]),
        (field::PAYLOAD_LENGTH, &[0; 4]),
        (field::PREF_ADDRESS, &u64::from(LOADED_AT).to_le_bytes()),
        (field::INIT_SIZE, &init_size.to_le_bytes()),
        (field::HANDOVER_OFFSET, &[0; 4]),
        (field::KERNEL_INFO_OFFSET, &[0; 4]),
    ];
    for (at, bytes) in fields {
        out.get_mut(at..at + bytes.len()).ok_or_else(broken)?.copy_from_slice(bytes);
    }
    Ok(out)
}

/// The kernel's first and last physical address, and its bytes from the first on. It has to begin with its entry.
fn loaded(elf: &[u8]) -> Option<(u32, u32, Vec<u8>)> {
    let header = FileHeader32::<LittleEndian>::parse(elf).ok()?;
    let little = LittleEndian;
    let headers = header.program_headers(little, elf).ok()?;
    let segments = || headers.iter().filter(|header| header.p_type(little) == PT_LOAD);
    let base = segments().map(|segment| segment.p_paddr(little)).min()?;
    let end = segments().map(|segment| segment.p_paddr(little) + segment.p_memsz(little)).max()?;
    let mut image = Vec::new();
    for segment in segments() {
        let at = (segment.p_paddr(little) - base) as usize;
        let bytes = segment.data(little, elf).ok()?;
        image.resize(image.len().max(at + bytes.len()), 0);
        image.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
    }
    image.resize(image.len().next_multiple_of(16), 0);
    (header.e_entry(little) == base).then_some((base, end, image))
}

/// Code that moves the image that follows it to its place, marks the tick, and enters it with the registers unchanged:
/// ESI points to the boot parameters, EBX, EBP and EDI are zero.
fn stub(base: u32, length: usize) -> [u8; STUB] {
    let mut code = vec![0xfa, 0xfc]; // cli; cld
    code.extend([0x89, 0xf2]); // mov edx, esi
    code.push(0xbe); // mov esi, the image
    code.extend((LOADED_AT + STUB as u32).to_le_bytes());
    code.push(0xbf); // mov edi, base
    code.extend(base.to_le_bytes());
    code.push(0xb9); // mov ecx, its double words
    code.extend(((length / 4) as u32).to_le_bytes());
    code.extend([0xf3, 0xa5]); // rep movsd
    code.extend([0x89, 0xd6]); // mov esi, edx
    code.extend([0x66, 0xba, 0x02, 0x04]); // mov dx, 0x402
    for byte in ENTRY_MARK.bytes().chain([b'\n']) {
        code.extend([0xb0, byte, 0xee]); // mov al, byte; out dx, al
    }
    code.extend([0x31, 0xdb, 0x31, 0xed, 0x31, 0xff]); // xor ebx, ebx; xor ebp, ebp; xor edi, edi
    code.push(0xb8); // mov eax, base
    code.extend(base.to_le_bytes());
    code.extend([0xff, 0xe0]); // jmp eax
    let mut stub = [0x90; STUB];
    stub[..code.len()].copy_from_slice(&code);
    stub
}
