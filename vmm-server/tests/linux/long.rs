//! Kernels of 64 bits, and ones that start by PVH.

use arch::Mode;
use vmm_server::linux::{Entry, Error, File, GuestParts, LoadStep, Plan, Protocol, low};
use vmm_server::paging::{Intent, Paging, Root, translate};
use vtx::cpuid::Processor;

use super::{MIB, bzimage, guest, plan};

/// An ELF of 64 bits (System V ABI, chapters 4 and 5) with one segment, as Linux's vmlinux has it.
fn long_vmlinux() -> Vec<u8> {
    let mut file = vec![0u8; 0x3000];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &[2, 0, 62, 0, 1, 0, 0, 0]);
    put(24, &0x0100_0100u64.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &[64, 0, 56, 0, 1, 0, 64, 0]);
    put(64, &[1, 0, 0, 0, 5, 0, 0, 0]);
    for (field, value) in
        [0x1000, 0xffff_ffff_8100_0000, 0x0100_0000, 0x2000, 0x6000, 0x20_0000u64].into_iter().enumerate()
    {
        put(72 + 8 * field, &value.to_le_bytes());
    }
    file
}

#[test]
fn a_64_bit_vmlinux_starts_in_64_bit_code() {
    let plan = plan(&long_vmlinux(), 64 * MIB, 0).unwrap();
    assert_eq!(
        plan.steps.as_slice(),
        [
            LoadStep::Copy { file: File::Kernel, offset: 0x1000, gpa: 0x0100_0000, len: 0x2000 },
            LoadStep::Zero { gpa: 0x0100_2000, len: 0x4000 },
        ]
    );
    assert_eq!(plan.entry, Entry { at: 0x0100_0100, mode: Mode::Bits64, protocol: Protocol::Linux });
}

/// That file with a second header, of a segment of notes: one of another system, and Xen's with an address of `bytes`.
fn pvh_vmlinux(entry: u32, bytes: u32) -> Vec<u8> {
    let mut file = long_vmlinux();
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(56, &[2, 0]);
    put(120, &[4, 0, 0, 0, 4, 0, 0, 0]);
    put(128, &0x2800u64.to_le_bytes());
    put(120 + 32, &0x100u64.to_le_bytes());
    put(0x2800, b"\x06\0\0\0\x01\0\0\0\x12\0\0\0Linux\0\0\0\x07\0\0\0");
    put(0x2800 + 24, b"\x04\0\0\0");
    put(0x2800 + 28, &bytes.to_le_bytes());
    put(0x2800 + 32, b"\x12\0\0\0Xen\0");
    put(0x2800 + 40, &entry.to_le_bytes());
    file
}

#[test]
fn an_elf_with_a_note_of_xen_starts_by_pvh() {
    for bytes in [4, 8] {
        let plan = plan(&pvh_vmlinux(0x0100_0200, bytes), 64 * MIB, 0).unwrap();
        assert_eq!(plan.entry, Entry { at: 0x0100_0200, mode: Mode::Bits32, protocol: Protocol::Pvh });
        assert_eq!(low::gdt(plan.entry.mode)[2], 0x00cf_9b00_0000_ffff, "a flat segment of 32 bits");
    }
    let none = plan(&pvh_vmlinux(0x0100_0200, 2), 64 * MIB, 0).unwrap();
    assert_eq!(none.entry.protocol, Protocol::Linux, "a note that names no address");
    assert_eq!(plan(&pvh_vmlinux(0x0200_0000, 4), 64 * MIB, 0).unwrap_err(), Error::BadHeader, "not in its code");
    let narrow = GuestParts { processor: Processor::Bits32, ..guest(64 * MIB, 0) };
    let kernel = pvh_vmlinux(0x0100_0200, 4);
    assert_eq!(Plan::new(&mut kernel.as_slice(), &narrow).unwrap_err(), Error::SixtyFourBit);
}

/// `hvm_start_info` by xen/include/public/arch-x86/hvm/start_info.h.
#[test]
fn pvh_is_told_of_memory_module_command_line_and_acpi() {
    let acpi = acpi::Parts { memory: 64 * MIB as u32, inputs: [11; acpi::DEVICES] };
    let parts = GuestParts { acpi: Some(acpi), ..guest(64 * MIB, 0x1234) };
    let plan = Plan::new(&mut pvh_vmlinux(0x0100_0200, 4).as_slice(), &parts).unwrap();
    let mut memory = vec![0u8; 0x10_0000];
    plan.low_memory(b"quiet", |at, bytes| memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes));
    let u32_at = |at: usize| u32::from_le_bytes(memory[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(memory[at..at + 8].try_into().unwrap());
    let info = low::ZERO_PAGE as usize;
    assert_eq!([0, 4, 8, 12].map(|at| u32_at(info + at)), [0x336e_c578, 1, 0, 1]);
    assert_eq!((u64_at(info + 24), u64_at(info + 32)), (low::COMMAND_LINE, 0xe_0000));
    let module = u64_at(info + 16) as usize;
    assert_eq!([0, 8, 16, 24].map(|at| u64_at(module + at)), [64 * MIB - 0x2000, 0x1234, 0, 0]);
    let (map, entries) = (u64_at(info + 40) as usize, u32_at(info + 48) as usize);
    let last = map + 24 * (entries - 1);
    assert_eq!((u64_at(last), u64_at(last + 8), u32_at(last + 16)), (MIB, 63 * MIB, 1));
    assert_eq!((u64_at(map), u32_at(map + 16), u32_at(map + 24 + 16)), (0, 1, 2));
}

#[test]
fn elf_files_that_are_no_kernels_are_refused_with_the_reason() {
    for (at, value, why) in
        [(16, 1, "an object file"), (16, 3, "a shared library"), (16, 4, "a core dump"), (120, 3, "a dynamic linker")]
    {
        let mut file = pvh_vmlinux(0x0100_0200, 4);
        file[at] = value;
        let error = plan(&file, 64 * MIB, 0).unwrap_err().to_string();
        assert!(error.starts_with("an ELF file, but no kernel: ") && error.contains(why), "{error}");
    }
}

#[test]
fn a_64_bit_bzimage_starts_at_its_second_entry() {
    let mut image = bzimage();
    image[0x236] = 1;
    let plan = plan(&image, 64 * MIB, 0).unwrap();
    assert_eq!(plan.entry, Entry { at: 0x0100_0200, mode: Mode::Bits64, protocol: Protocol::Linux });
}

/// What boot.rst asks for ("64-bit Boot Protocol"): identity tables for the kernel, the zero page and the command line, and the
/// segments.
#[test]
fn a_64_bit_kernel_finds_identity_tables_and_a_code_segment_of_64_bits() {
    let plan = plan(&long_vmlinux(), 64 * MIB, 0).unwrap();
    let mut memory = vec![0u8; 0x10_0000];
    plan.low_memory(b"quiet", |at, bytes| memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes));
    let word =
        |at: u64| memory.get(at as usize..at as usize + 8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    let root = Root { paging: Paging::Long { no_execute: false }, cr3: low::LONG_TABLES, write_protect: true };
    let at = |linear| translate(&root, linear, Intent { write: true, user: false }, |at, _| word(at)).ok();
    for linear in [0, low::ZERO_PAGE, low::COMMAND_LINE + 7, 0x0100_0123, 0xbfff_ffff, 0xffff_ffff] {
        assert_eq!(at(linear), Some(linear), "{linear:#x}");
    }
    assert_eq!(at(1 << 32), None);
    let code = word(low::GDT + u64::from(low::BOOT_CS)).unwrap();
    assert_eq!((code >> 53 & 3, code >> 40 & 0x9f), (1, 0x9b), "L without D; present code");
}

#[test]
fn a_64_bit_kernel_is_refused_by_name_where_guests_have_32_bits() {
    let mut image = bzimage();
    image[0x236] = 1;
    for kernel in [image, long_vmlinux()] {
        let narrow = GuestParts { processor: Processor::Bits32, ..guest(64 * MIB, 0) };
        assert_eq!(Plan::new(&mut kernel.as_slice(), &narrow).unwrap_err(), Error::SixtyFourBit);
    }
}
