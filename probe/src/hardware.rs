//! The board itself: privileged instructions, ports, and memory at its physical address. The only code of this crate that is
//! unsafe, with the entry in `boot`.
#![allow(unsafe_code)]

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, _rdtsc};
use core::cell::UnsafeCell;
use core::ptr;

use probe::framebuffer::{Framebuffer, MOST_BYTES};
use probe::machine::{Machine, Memory};

/// What `boot` maps, one to one.
const MAPPED: u64 = 1 << 32;
/// Where `boot` has left room to map the screen's memory.
const WINDOW: u64 = 0xffff_ffff_c000_0000;
/// Entries of a page directory, and what each maps.
const PAGES: usize = 512;
const LARGE_PAGE: u64 = 2 << 20;
const _: () = assert!(MOST_BYTES + LARGE_PAGE <= PAGES as u64 * LARGE_PAGE, "a screen's memory fits into the window");
/// A present, writable, large page with PCD alone, which is UC-: not cached; writes combine only where the firmware's MTRRs say
/// WC (Intel SDM volume 3, "Memory Cache Control").
const SCREEN_PAGE: u64 = 0x93;
/// Exception vectors.
const VECTORS: usize = 32;
/// The code segment in `boot`.
const CODE: u64 = 8;
/// A present interrupt gate for the kernel.
const GATE: u64 = 0x8e;

unsafe extern "C" {
    /// RDMSR into `value`; 0 if the processor has no such register.
    fn probe_read_msr(register: u32, value: *mut u64) -> u32;
    /// Entries of all vectors, 16 bytes each.
    static probe_vectors: [[u8; 16]; VECTORS];
    /// The page directory of the window.
    static probe_window: UnsafeCell<[u64; PAGES]>;
}

/// The board. There is one processor at work and no interrupt, so nothing happens behind this code's back.
pub struct Board;

impl Board {
    /// The board, whose exceptions go to `boot` from now on.
    pub fn new() -> Self {
        struct Table(UnsafeCell<[[u64; 2]; VECTORS]>);
        // SAFETY: one processor runs this program, and only `new` and that processor refer to the table.
        unsafe impl Sync for Table {}
        static TABLE: Table = Table(UnsafeCell::new([[0; 2]; VECTORS]));
        #[repr(C, packed)]
        struct Pointer(u16, *const [[u64; 2]; VECTORS]);

        let entries = (&raw const probe_vectors) as u64;
        for vector in 0..VECTORS {
            let entry = entries + 16 * vector as u64;
            let low = entry & 0xffff | CODE << 16 | GATE << 40 | (entry & 0xffff_0000) << 32;
            // SAFETY: only this function writes to the table. At the second call, from `stop`, the processor uses it already; each
            // entry then gets the value that it has.
            unsafe { (*TABLE.0.get())[vector] = [low, entry >> 32] };
        }
        let pointer = Pointer((size_of::<[[u64; 2]; VECTORS]>() - 1) as u16, TABLE.0.get());
        // SAFETY: the table is complete and stays where it is; its gates lead to the exception handlers of `boot`.
        unsafe { asm!("lidt [{}]", in(reg) &pointer, options(readonly, nostack, preserves_flags)) };
        Self
    }

    /// Maps a framebuffer, wherever it is, and returns it at the address where it can be reached.
    pub fn reach(&self, framebuffer: Framebuffer) -> Framebuffer {
        let first = framebuffer.address() & !(LARGE_PAGE - 1);
        for (index, page) in
            (first..framebuffer.address() + framebuffer.bytes()).step_by(LARGE_PAGE as usize).enumerate()
        {
            // SAFETY: the directory is the window's alone, and no reference into the window or to the directory is kept.
            unsafe { (*probe_window.get())[index] = page | SCREEN_PAGE };
        }
        // SAFETY: flushes what was mapped there before; the tables stay the same.
        unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack, preserves_flags)) };
        framebuffer.at(WINDOW + (framebuffer.address() - first))
    }

    /// Stops the processor.
    pub fn halt(&self) -> ! {
        loop {
            // SAFETY: waits for an interrupt, and none is enabled.
            unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
        }
    }
}

/// Whether an address is text mode's or the window's, where no memory of this program is: no framebuffer is taken that the memory map
/// has as free RAM.
fn is_screen(address: u64) -> bool {
    (0xb_8000..0xc_0000).contains(&address) || address >= WINDOW
}

/// IN and OUT of one width, whose register is fixed.
macro_rules! ports {
    ($read:ident, $input:literal, $write:ident, $output:literal, $type:ty, $register:tt) => {
        fn $read(&self, port: u16) -> $type {
            let value: $type;
            // SAFETY: this program owns the board, and reading a port changes no memory.
            unsafe { asm!($input, in("dx") port, out($register) value, options(nomem, nostack, preserves_flags)) };
            value
        }

        fn $write(&self, port: u16, value: $type) {
            // SAFETY: as above; nothing here makes a device write to memory.
            unsafe { asm!($output, in("dx") port, in($register) value, options(nomem, nostack, preserves_flags)) };
        }
    };
}

impl Machine for Board {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        let answer = __cpuid_count(leaf, subleaf);
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    }

    fn msr(&self, register: u32) -> Option<u64> {
        let mut value = 0;
        // SAFETY: writes `value`; a register that does not exist is an exception, after which the function returns 0.
        let there = unsafe { probe_read_msr(register, &mut value) };
        (there != 0).then_some(value)
    }

    fn tsc(&self) -> u64 {
        // SAFETY: reads a register; every 64-bit processor has it.
        unsafe { _rdtsc() }
    }

    ports!(in8, "in al, dx", out8, "out dx, al", u8, "al");
    ports!(in32, "in eax, dx", out32, "out dx, eax", u32, "eax");

    fn read32(&self, address: u64) -> u32 {
        if address >= MAPPED || !address.is_multiple_of(4) {
            return u32::MAX;
        }
        // SAFETY: mapped and aligned; callers ask for registers of devices, and a read of memory would do no harm either.
        unsafe { ptr::with_exposed_provenance::<u32>(address as usize).read_volatile() }
    }

    fn write32(&self, address: u64, value: u32) {
        if address < MAPPED && address.is_multiple_of(4) {
            // SAFETY: mapped and aligned; callers write to registers of devices at addresses that firmware says, none of which is
            // memory of this program.
            unsafe { ptr::with_exposed_provenance_mut::<u32>(address as usize).write_volatile(value) };
        }
    }

    fn draw8(&self, address: u64, value: u8) {
        if is_screen(address) {
            // SAFETY: the screen's memory, as far as `boot` or `reach` has mapped it; elsewhere this is an exception.
            unsafe { ptr::with_exposed_provenance_mut::<u8>(address as usize).write_volatile(value) };
        }
    }

    fn draw32(&self, address: u64, value: u32) {
        if is_screen(address) && address.is_multiple_of(4) {
            // SAFETY: as above, and aligned.
            unsafe { ptr::with_exposed_provenance_mut::<u32>(address as usize).write_volatile(value) };
        }
    }
}

impl Memory<'static> for Board {
    fn bytes(&self, address: u64, length: usize) -> Option<&'static [u8]> {
        let end = address.checked_add(length as u64)?;
        if address == 0 || end > MAPPED {
            return None;
        }
        // SAFETY: mapped; firmware and the loader filled it in, and nothing writes to it while this program runs.
        Some(unsafe { core::slice::from_raw_parts(ptr::with_exposed_provenance(address as usize), length) })
    }
}
