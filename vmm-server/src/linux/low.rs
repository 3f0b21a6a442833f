//! What the loader puts under 1 MiB, and where. GDT, boot parameters, command line and the page tables that a
//! 64-bit kernel starts on lie in the first 64 KiB, which
//! Linux never allocates (X86_RESERVE_LOW) and reads once. The page directory has to outlive the boot, since the guest
//! runs on it whenever its paging is off: it lies in the BIOS's 64 KiB, which the memory map reserves, as it does the MP table.
//! So does what the VMM needs later on.

use layout::guest_board::ACPI_TABLES;

use super::{Plan, mp};
use arch::Mode;

/// Guest-physical address of the GDT.
pub const GDT: u64 = 0x1000;
/// Guest-physical address of the zero page.
pub const ZERO_PAGE: u64 = 0x2000;
/// Guest-physical address of the command line.
pub const COMMAND_LINE: u64 = 0x3000;
/// Bytes for the command line, its NUL included.
pub const COMMAND_LINE_SIZE: usize = 0x1000;
/// Guest-physical address of the page tables that a 64-bit kernel starts on, until it has its own: a PML4, a table of page
/// directories and four of these, with 2 MiB pages, map 4 GiB to themselves.
pub const LONG_TABLES: u64 = 0x4000;
/// Guest-physical address of the identity page directory: CR3 while the guest's paging is off.
pub const PAGE_DIRECTORY: u64 = 0xf_0000;
/// Guest-physical address of what [`crate::native`] makes its page tables of, fourteen pages.
pub const NATIVE: u64 = 0xf_1000;
/// Guest-physical address of [`FLUSH_CODE`], and its linear address with paging off. Linux maps it to itself or not at
/// all, unless a process asks for this page. Then a kernel that does not flush may have the first entry fetch that
/// process's code instead, so the entry is bounded, and has to end where `FLUSH_CODE` does.
pub const FLUSH: u64 = 0xf_f000;
/// The address of its last instruction.
pub const FLUSH_END: u64 = FLUSH + FLUSH_CODE.len() as u64 - 2;

/// Instructions that flush all translations cached under the vCPU's VPID, global ones included, and then exit: a MOV to
/// CR4 that changes PGE does (SDM volume 3, "Operations that Invalidate TLBs and Paging-Structure Caches"). They
/// leave EAX and the arithmetic flags undefined.
#[rustfmt::skip]
pub const FLUSH_CODE: [u8; 23] = [
    0x0f, 0x20, 0xe0,                   // mov eax, cr4
    0x8d, 0x80, 0x80, 0x00, 0x00, 0x00, // lea eax, [eax + PGE]
    0x0f, 0x22, 0xe0,                   // mov cr4, eax
    0x8d, 0x80, 0x80, 0xff, 0xff, 0xff, // lea eax, [eax - PGE]
    0x0f, 0x22, 0xe0,                   // mov cr4, eax
    0x0f, 0xa2,                         // cpuid
];

/// Selector of the flat code segment (boot.rst, "32-bit Boot Protocol" and "64-bit Boot Protocol").
pub const BOOT_CS: u16 = 0x10;
/// Selector of the flat data segment.
pub const BOOT_DS: u16 = 0x18;
/// Limit of the GDT, for GDTR.
pub const GDT_LIMIT: u32 = 8 * 4 - 1;

/// The GDT: two empty entries, then code of this mode and data, both of 4 GiB and already marked as accessed.
pub const fn gdt(mode: Mode) -> [u64; 4] {
    let code = match mode {
        Mode::Bits64 => 0x00af_9b00_0000_ffff,
        Mode::Bits16 | Mode::Bits32 => 0x00cf_9b00_0000_ffff,
    };
    [0, 0, code, 0x00cf_9300_0000_ffff]
}

/// Calls `put` with each entry of [`LONG_TABLES`]. Pages are present, writable, accessed and dirty.
fn long_tables(mut put: impl FnMut(u64, u64)) {
    const PAGE: u64 = 0x1000;
    const DIRECTORIES: u64 = 4;
    put(LONG_TABLES, (LONG_TABLES + PAGE) | 0x3);
    for n in 0..DIRECTORIES {
        put(LONG_TABLES + PAGE + 8 * n, (LONG_TABLES + (2 + n) * PAGE) | 0x3);
    }
    for n in 0..DIRECTORIES * 512 {
        put(LONG_TABLES + 2 * PAGE + 8 * n, n << 21 | 0xe3);
    }
}

/// Entry `index` of the page directory: 4 MiB at its own address, present, writable, open to user mode (an unpaged guest
/// has no such protection), accessed and dirty, so that the processor never writes it.
pub const fn page_directory_entry(index: u16) -> u32 {
    (index as u32 & 0x3ff) << 22 | 0xe7
}

impl Plan {
    /// Calls `put` with every piece of low memory: a guest-physical address and the bytes for it.
    pub fn low_memory(&self, command_line: &[u8], mut put: impl FnMut(u64, &[u8])) {
        for (at, entry) in (GDT..).step_by(8).zip(gdt(self.entry.mode)) {
            put(at, &entry.to_le_bytes());
        }
        if self.entry.mode == Mode::Bits64 {
            put(LONG_TABLES, &[0; 0x2000]);
            long_tables(|at, entry| put(at, &entry.to_le_bytes()));
        }
        match &self.start_info {
            Some(info) => put(ZERO_PAGE, info.bytes()),
            None => put(ZERO_PAGE, self.zero_page.bytes()),
        }
        put(COMMAND_LINE, command_line);
        put(COMMAND_LINE + command_line.len() as u64, &[0]);
        put(mp::AT, &mp::table());
        if let Some(tables) = &self.tables {
            put(ACPI_TABLES, tables);
        }
    }
}

/// Calls `put` with what the first entry of a life needs, and the guest with paging off: page directory and
/// [`FLUSH_CODE`].
pub fn first_entry(mut put: impl FnMut(u64, &[u8])) {
    for (at, index) in (PAGE_DIRECTORY..).step_by(4).zip(0..1024) {
        put(at, &page_directory_entry(index).to_le_bytes());
    }
    put(FLUSH, &FLUSH_CODE);
}
