//! Loads Linux as its 32-bit or 64-bit boot protocol asks (Documentation/arch/x86/boot.rst, zero-page.rst): a bzImage, or the
//! vmlinux ELF that a bzImage contains, an initrd and a command line. A 64-bit kernel starts in long mode. Another ELF with an
//! entry for PVH, be it Linux's or not, starts by that ([`pvh`]).
//!
//! Nothing is copied here. [`Plan::new`] reads headers and says which range of which file goes where; the VMM follows
//! the plan with whatever copies fastest. Left out: the EFI handover, the relocation of a vmlinux, which the build does.

mod bzimage;
pub mod e820;
mod elf;
pub mod low;
pub mod mp;
pub mod pvh;
pub mod zero_page;

use arch::Mode;
use core::fmt;
use heapless::Vec;
use layout::guest_board::ACPI_TABLES;
use pvh::StartInfo;
use vtx::cpuid::Processor;
use zero_page::ZeroPage;

/// A file that can be read in pieces.
pub trait Image {
    /// Length in bytes.
    fn size(&self) -> u64;
    /// Reads from `offset` until `into` is full or the file ends; returns the bytes read.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<usize, Unreadable>;
}

/// The file could not be read: its server refused, or the device failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Why there is nothing to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The file could not be read.
    Unreadable,
    /// Neither an ELF file nor a bzImage.
    NotAKernel,
    /// A kernel for 64-bit guests, which this seL4 does not run.
    SixtyFourBit,
    /// An ELF file for a machine that is no x86, or in the other machine's class; its number.
    OtherMachine(u16),
    /// An ELF file that is not for a machine of its own to run; why.
    NotExecutable(&'static str),
    /// The headers contradict themselves, or name addresses that no kernel is loaded at.
    BadHeader,
    /// The file ends before what its headers name.
    Truncated,
    /// A boot protocol before 2.10 (Linux 2.6.31), or a zImage; the version as the header has it, major in the high byte.
    TooOld {
        /// Protocol version.
        version: u16,
    },
    /// The kernel and the initrd do not fit into the guest's memory.
    TooLarge {
        /// Bytes of memory that would do.
        need: u64,
        /// Bytes of memory that the guest has, as far as the kernel accepts an initrd there.
        have: u64,
    },
    /// The kernel is linked for an address where the guest has no memory.
    NotInMemory {
        /// That address.
        at: u64,
    },
    /// The command line is longer than the kernel takes.
    CommandLineTooLong {
        /// Bytes given, without the final NUL.
        length: usize,
        /// Bytes allowed, without the final NUL.
        max: usize,
    },
    /// The command line contains a NUL.
    CommandLineHasNul,
    /// The guest's memory is below 2 MiB or above 3 GiB, where a PC has its devices.
    MemorySize,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Unreadable => write!(f, "the kernel file cannot be read"),
            Error::NotAKernel => write!(f, "not a Linux kernel: neither a bzImage nor an ELF file"),
            Error::SixtyFourBit => write!(f, "a 64-bit kernel; this seL4 runs 32-bit guests only"),
            Error::OtherMachine(number) => {
                write!(f, "an ELF file for machine {number}, neither an i386's of 32 bits nor an x86-64's of 64 bits")
            }
            Error::NotExecutable(why) => write!(f, "an ELF file, but no kernel: {why}"),
            Error::BadHeader => write!(f, "the kernel's headers make no sense"),
            Error::Truncated => write!(f, "the kernel file is shorter than its headers say"),
            Error::TooOld { version } => {
                let (major, minor) = (version >> 8, version & 0xff);
                write!(f, "boot protocol {major}.{minor:02}; 2.10 or later is needed")
            }
            Error::TooLarge { need, have } => {
                let [need, have] = [need, have].map(|bytes| bytes.div_ceil(1024));
                write!(f, "kernel and initrd need {need} KiB of memory, the guest has {have} KiB")
            }
            Error::NotInMemory { at } => {
                write!(f, "the kernel is linked for address {at:#x}, where the guest has no memory")
            }
            Error::CommandLineTooLong { length, max } => {
                write!(f, "the command line has {length} bytes, the kernel takes {max}")
            }
            Error::CommandLineHasNul => write!(f, "the command line contains a NUL"),
            Error::MemorySize => write!(f, "a guest has between 2 MiB and 3 GiB of memory"),
        }
    }
}

impl From<Unreadable> for Error {
    fn from(_: Unreadable) -> Self {
        Error::Unreadable
    }
}

/// A file of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum File {
    Kernel,
    Initrd,
}

/// One thing to do to guest memory. Steps do not overlap, and lie in RAM at or above 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadStep {
    /// `len` bytes of `file` from `offset` to guest-physical `gpa`.
    Copy {
        /// Which file.
        file: File,
        /// First byte in the file.
        offset: u64,
        /// Where it goes.
        gpa: u64,
        /// Bytes.
        len: u64,
    },
    /// `len` zero bytes at guest-physical `gpa`.
    Zero {
        /// Where.
        gpa: u64,
        /// Bytes.
        len: u64,
    },
}

impl LoadStep {
    /// First byte and byte after the last, guest-physical.
    pub const fn range(&self) -> (u64, u64) {
        match *self {
            LoadStep::Copy { gpa, len, .. } | LoadStep::Zero { gpa, len } => (gpa, gpa.saturating_add(len)),
        }
    }
}

/// Segments with file content and with a tail of zeros, plus the initrd.
pub const MAX_STEPS: usize = 2 * elf::MAX_SEGMENTS + 1;

/// What puts a kernel into memory and starts it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to copy and to clear.
    pub steps: Vec<LoadStep, MAX_STEPS>,
    /// Boot parameters, for [`low::ZERO_PAGE`].
    pub zero_page: ZeroPage,
    /// What is there instead for a kernel that starts by PVH.
    pub start_info: Option<StartInfo>,
    /// ACPI tables, for `guest_board::ACPI_TABLES`.
    pub tables: Option<[u8; acpi::SIZE]>,
    /// Where the kernel starts.
    pub entry: Entry,
}

/// The boot protocol, by which a kernel gets its memory map, command line and initrd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Linux's own: ESI (RSI) has the address of the zero page, and EBX is zero.
    Linux,
    /// PVH: EBX has the address of `hvm_start_info`.
    Pvh,
}

/// The first instruction. The registers at that point: RSI or EBX = [`low::ZERO_PAGE`], by the [`Protocol`], CS = [`low::BOOT_CS`], DS, ES and SS =
/// [`low::BOOT_DS`], the others zero, interrupts off. Paging is off in 32-bit code, and on [`low::LONG_TABLES`] in 64-bit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its guest-physical address.
    pub at: u64,
    /// 32-bit or 64-bit code.
    pub mode: Mode,
    /// Which boot protocol it is.
    pub protocol: Protocol,
}

/// What a guest is made of, apart from its kernel.
#[derive(Clone, Copy, Debug)]
pub struct GuestParts<'a> {
    /// What it runs on.
    pub processor: Processor,
    /// Bytes of RAM, from `ram_at` on.
    pub ram: u64,
    /// Where the RAM is. If not at zero, there are 640 KiB of low memory as well, and the page where `low` has its own.
    pub ram_at: u64,
    /// Memory that devices have from the start, behind the RAM: first byte, and the one behind the last.
    pub windows: Option<(u64, u64)>,
    /// What its ACPI tables say, if it has any.
    pub acpi: Option<acpi::Parts>,
    /// Bytes of initrd, zero for none.
    pub initrd: u64,
    /// Command line, without a final NUL.
    pub command_line: &'a [u8],
}

/// Smallest RAM of a guest.
const MIN_RAM: u64 = 2 << 20;
/// Highest end of a guest's RAM: device memory begins here.
const MAX_RAM: u64 = 3 << 30;
/// A PC's memory above the hole under 1 MiB.
const HIGH_MEMORY: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// What the two kinds of kernel file have in common, once their headers are read.
struct Kernel {
    steps: Vec<LoadStep, MAX_STEPS>,
    /// End of the memory that the kernel uses before it reads the memory map.
    end: u64,
    entry: Entry,
    /// It needs a processor with long mode.
    is_long: bool,
    /// Highest address that a byte of the initrd may have.
    initrd_max: u64,
    command_line_max: usize,
    zero_page: ZeroPage,
}

impl Plan {
    /// Reads the headers of `kernel` and lays the guest's memory out.
    pub fn new(kernel: &mut impl Image, guest: &GuestParts) -> Result<Plan, Error> {
        if guest.ram < MIN_RAM || guest.ram_at > MAX_RAM || guest.ram > MAX_RAM - guest.ram_at {
            return Err(Error::MemorySize);
        }
        let kernel = read_headers(kernel, guest.ram_at)?;
        if kernel.is_long && guest.processor == Processor::Bits32 {
            return Err(Error::SixtyFourBit);
        }
        let lowest = kernel.steps.iter().map(|step| step.range().0).min().unwrap_or_default();
        if lowest < HIGH_MEMORY {
            return Err(Error::BadHeader);
        }
        if lowest < guest.ram_at {
            return Err(Error::NotInMemory { at: lowest });
        }
        check_command_line(guest.command_line, kernel.command_line_max)?;
        let initrd = place_initrd(&kernel, guest)?;
        let Kernel { mut steps, entry, mut zero_page, .. } = kernel;
        if guest.initrd != 0 {
            let copy = LoadStep::Copy { file: File::Initrd, offset: 0, gpa: initrd, len: guest.initrd };
            steps.push(copy).map_err(|_| Error::BadHeader)?;
            zero_page.set_initrd(initrd as u32, guest.initrd as u32);
        }
        zero_page.set_command_line(low::COMMAND_LINE as u32);
        let tables = guest.acpi.as_ref().map(acpi::tables);
        // With ACPI, the memory of devices is the PCI bus's: a range of the map would keep a system from using it.
        let (bios, windows) = match tables {
            Some(_) => (ACPI_TABLES, None),
            None => (e820::BIOS, guest.windows),
        };
        if tables.is_some() {
            zero_page.set_rsdp(ACPI_TABLES);
        }
        let map = e820::map_at(guest.ram_at, guest.ram, bios, windows);
        zero_page.set_memory_map(&map);
        let start_info = (entry.protocol == Protocol::Pvh).then(|| {
            let initrd = (guest.initrd != 0).then_some((initrd, guest.initrd));
            StartInfo::new(&map, initrd, tables.is_some().then_some(ACPI_TABLES))
        });
        Ok(Plan { steps, zero_page, start_info, tables, entry })
    }
}

fn read_headers(kernel: &mut impl Image, ram_at: u64) -> Result<Kernel, Error> {
    let mut head = [0; PAGE as usize];
    let length = kernel.read(0, &mut head)?.min(head.len());
    let head = head.get(..length).unwrap_or_default();
    if head.starts_with(b"\x7fELF") { elf::read(kernel, head) } else { bzimage::read(head, kernel.size(), ram_at) }
}

fn check_command_line(line: &[u8], kernel_max: usize) -> Result<(), Error> {
    let max = kernel_max.min(low::COMMAND_LINE_SIZE - 1);
    if line.len() > max {
        return Err(Error::CommandLineTooLong { length: line.len(), max });
    }
    if line.contains(&0) {
        return Err(Error::CommandLineHasNul);
    }
    Ok(())
}

/// As high as RAM and the kernel allow: Linux maps its own memory from below, and unpacks the initrd into what is free.
fn place_initrd(kernel: &Kernel, guest: &GuestParts) -> Result<u64, Error> {
    let ram_end = guest.ram_at.saturating_add(guest.ram);
    let end = ram_end.min(kernel.initrd_max.saturating_add(1));
    let kernel_end = kernel.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    let start = end.saturating_sub(guest.initrd) & !(PAGE - 1);
    if kernel.end > ram_end || (guest.initrd != 0 && start < kernel_end) {
        let need = kernel_end.saturating_add(guest.initrd).saturating_sub(guest.ram_at);
        return Err(Error::TooLarge { need, have: end.saturating_sub(guest.ram_at) });
    }
    Ok(start)
}

/// A file that is in memory already.
impl Image for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<usize, Unreadable> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let length = rest.len().min(into.len());
        for (to, from) in into.iter_mut().zip(rest) {
            *to = *from;
        }
        Ok(length)
    }
}
