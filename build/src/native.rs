//! The same Linux without Portcullis, on the same emulated board, for comparison with a guest's speed.
//!
//! ISOLINUX loads the kernel. As for a guest, the kernel is decompressed beforehand, since decompressing would dominate
//! the boot: `flat` replaces the compressed image. See Linux's Documentation/arch/x86/boot.rst.

use std::path::PathBuf;

use miette::{Result, miette};
use object::LittleEndian;
use object::elf::{FileHeader32, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader as _};

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
/// Bytes before the image in that part, for the code that moves it, and for tables of 64-bit mode.
const STUB: usize = 0x7000;
/// Memory after the kernel's end: more than it takes there for page tables before it knows the memory map.
const BEYOND: u32 = 5 << 20;

/// A bzImage with the kernel's memory image in place of the compressed one.
pub fn flat(kernel: &[u8]) -> Result<Vec<u8>> {
    let broken = || miette!("the kernel is not a bzImage of Linux");
    let elf = bzimage::unpack(kernel)?;
    let parsed = loaded::<FileHeader32<LittleEndian>>(&elf).map(|loaded| (loaded, false));
    let (Loaded { base, entry, end, image }, long) =
        parsed.or_else(|| Some((loaded::<FileHeader64<LittleEndian>>(&elf)?, true))).ok_or_else(broken)?;
    if base < LOADED_AT + STUB as u32 {
        return Err(miette!("the kernel begins at {base:#x}, in the way of the code that moves it"));
    }
    let setup = (usize::from(*kernel.get(field::SETUP_SECTS).ok_or_else(broken)?) + 1) * 512;
    let mut out = kernel.get(..setup).ok_or_else(broken)?.to_vec();
    out.extend(stub(base, entry, image.len(), long));
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

/// A kernel's memory image.
struct Loaded {
    /// Its first physical address.
    base: u32,
    /// Where it begins to run.
    entry: u32,
    /// Its last one.
    end: u32,
    /// Its bytes from the first on, a multiple of 16.
    image: Vec<u8>,
}

fn loaded<Elf: FileHeader<Endian = LittleEndian>>(elf: &[u8]) -> Option<Loaded> {
    let header = Elf::parse(elf).ok()?;
    let little = LittleEndian;
    let headers = header.program_headers(little, elf).ok()?;
    let segments = || headers.iter().filter(|header| header.p_type(little) == PT_LOAD);
    let physical = |segment: &Elf::ProgramHeader| segment.p_paddr(little).into();
    let base: u64 = segments().map(physical).min()?;
    let end: u64 = segments().map(|segment| physical(segment) + segment.p_memsz(little).into()).max()?;
    let mut image = Vec::new();
    for segment in segments() {
        let at = usize::try_from(physical(segment) - base).ok()?;
        let bytes = segment.data(little, elf).ok()?;
        image.resize(image.len().max(at + bytes.len()), 0);
        image.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
    }
    image.resize(image.len().next_multiple_of(16), 0);
    let (base, end) = (u32::try_from(base).ok()?, u32::try_from(end).ok()?);
    let entry = u32::try_from(header.e_entry(little).into()).ok()?;
    (base..end).contains(&entry).then_some(Loaded { base, entry, end, image })
}

/// Code that moves the image that follows it to its place, marks the tick, and enters it with the registers unchanged:
/// ESI points to the boot parameters, EBX, EBP and EDI are zero. A 64-bit kernel is entered in 64-bit mode, RSI the same.
fn stub(base: u32, entry: u32, length: usize, long: bool) -> Vec<u8> {
    let mut code = vec![0xfa]; // cli
    code.extend([0x89, 0xf2]); // mov edx, esi
    // Backwards, since the places may overlap.
    code.push(0xfd); // std
    code.push(0xbe); // mov esi, the image's last double word
    code.extend((LOADED_AT + (STUB + length) as u32 - 4).to_le_bytes());
    code.push(0xbf); // mov edi, that of its place
    code.extend((base + length as u32 - 4).to_le_bytes());
    code.push(0xb9); // mov ecx, its double words
    code.extend(((length / 4) as u32).to_le_bytes());
    code.extend([0xf3, 0xa5]); // rep movsd
    code.push(0xfc); // cld
    code.extend([0x89, 0xd6]); // mov esi, edx
    if long {
        code.extend(LONG_MODE_ON);
    }
    code.extend([0x66, 0xba, 0x02, 0x04]); // mov dx, 0x402
    for byte in ENTRY_MARK.bytes().chain([b'\n']) {
        code.extend([0xb0, byte, 0xee]); // mov al, byte; out dx, al
    }
    code.extend([0x31, 0xdb, 0x31, 0xed, 0x31, 0xff]); // xor ebx, ebx; xor ebp, ebp; xor edi, edi
    code.push(0xb8); // mov eax, entry
    code.extend(entry.to_le_bytes());
    if long {
        code.push(0xea); // jmp far, to the next instruction
        code.extend((LOADED_AT + code.len() as u32 + 6).to_le_bytes());
        code.extend([0x10, 0]); // __BOOT_CS
        // The upper halves are undefined until then.
        code.extend([0x89, 0xc0, 0x89, 0xf6]); // mov eax, eax; mov esi, esi
    }
    code.extend([0xff, 0xe0]); // jmp eax, or rax
    code.resize(STUB, 0x90);
    if long {
        for (at, value) in tables() {
            code[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    code
}

/// In the stub, for 64-bit mode: descriptors, and page tables of three levels.
const GDTR: usize = 0x800;
const GDT: usize = 0x810;
const PML4: usize = 0x1000;
const PDPT: usize = 0x2000;
const DIRECTORIES: usize = 0x3000;

/// Switches paging and 64-bit mode on, in a segment that is still of 32 bits (SDM volume 3, "Initializing IA-32e Mode"). Changes
/// EAX, ECX and EDX.
const LONG_MODE_ON: [u8; 46] = {
    let [a, b, c, d] = (LOADED_AT + PML4 as u32).to_le_bytes();
    let [e, f, g, h] = (LOADED_AT + GDTR as u32).to_le_bytes();
    [
        0x0f, 0x20, 0xe0, // mov eax, cr4
        0x83, 0xc8, 0x20, // or eax, PAE
        0x0f, 0x22, 0xe0, // mov cr4, eax
        0xb8, a, b, c, d, // mov eax, the page map
        0x0f, 0x22, 0xd8, // mov cr3, eax
        0xb9, 0x80, 0, 0, 0xc0, // mov ecx, IA32_EFER
        0x0f, 0x32, // rdmsr
        0x80, 0xcc, 0x01, // or ah, LME
        0x0f, 0x30, // wrmsr
        0x0f, 0x20, 0xc0, // mov eax, cr0
        0x0f, 0xba, 0xe8, 31, // bts eax, PG
        0x0f, 0x22, 0xc0, // mov cr0, eax
        0x0f, 0x01, 0x15, e, f, g, h, // lgdt
    ]
};

/// What is in those tables, in double words of 64 bits by their place in the stub: the first 4 GiB at their own addresses, and the
/// segments of Linux's boot protocol, code at 0x10 and data at 0x18.
fn tables() -> Vec<(usize, u64)> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let here = u64::from(LOADED_AT);
    let mut all: Vec<(usize, u64)> = (PML4..STUB).step_by(8).map(|at| (at, 0)).collect();
    all.push((GDTR, 31 | (here + GDT as u64) << 16));
    all.extend([(GDT, 0), (GDT + 8, 0), (GDT + 16, 0x00af_9a00_0000_ffff), (GDT + 24, 0x00cf_9200_0000_ffff)]);
    all.push((PML4, (here + PDPT as u64) | PRESENT_WRITABLE));
    for n in 0..4 {
        let directory = DIRECTORIES + n * 0x1000;
        all.push((PDPT + 8 * n, (here + directory as u64) | PRESENT_WRITABLE));
        let pages = (0..512).map(|page| ((n * 512 + page) as u64 * (2 << 20)) | LARGE | PRESENT_WRITABLE);
        all.extend(pages.enumerate().map(|(index, entry)| (directory + 8 * index, entry)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_for_64_bits_has_its_tables_behind_it_and_maps_4_gib() {
        let (narrow, wide) = (stub(0x100_0000, 0x100_0000, 4096, false), stub(0x100_0000, 0x100_0c43, 4096, true));
        assert_eq!((narrow.len(), wide.len()), (STUB, STUB));
        let entry = |at: usize| u64::from_le_bytes(wide[at..at + 8].try_into().unwrap());
        // Between code and tables there is room (SDM volume 3, "4-Level Paging": present, writable, and of 2 MiB).
        assert!(wide[0x400..GDTR].iter().all(|byte| *byte == 0x90));
        assert_eq!(entry(PML4), u64::from(LOADED_AT) + PDPT as u64 + 3);
        for n in 0..4 {
            assert_eq!(entry(PDPT + 8 * n), u64::from(LOADED_AT) + (DIRECTORIES + n * 0x1000) as u64 + 3);
        }
        for (page, at) in (DIRECTORIES..STUB).step_by(8).enumerate() {
            assert_eq!(entry(at), ((page as u64) << 21) | 0x83);
        }
    }
}
