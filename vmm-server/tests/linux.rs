//! Kernels made by hand, and what the loader makes of them.

use arch::Mode;
use linux_raw_sys::bootparam::{boot_e820_entry, boot_params, setup_header};
use proptest::prelude::*;
use std::mem::offset_of;
use vmm_server::linux::{Entry, Error, File, GuestParts, Image, LoadStep, Plan, Protocol, Unreadable, e820, low};
use vmm_server::paging::{Intent, Paging, Root, translate};
use vtx::cpuid::Processor;

const MIB: u64 = 1 << 20;

fn guest(ram: u64, initrd: u64) -> GuestParts<'static> {
    GuestParts {
        processor: Processor::Bits64,
        ram,
        ram_at: 0,
        windows: None,
        acpi: None,
        initrd,
        command_line: b"console=ttyS0",
    }
}

fn plan(kernel: &[u8], ram: u64, initrd: u64) -> Result<Plan, Error> {
    Plan::new(&mut { kernel }, &guest(ram, initrd))
}

struct Segment {
    paddr: u32,
    filesz: u32,
    memsz: u32,
}

/// A vmlinux: its segments lie behind each other from file offset 0x1000, all executable.
fn vmlinux(entry: u32, segments: &[Segment]) -> Vec<u8> {
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 3, 0, 1, 0, 0, 0]); // ET_EXEC, EM_386, EV_CURRENT
    file.extend(entry.to_le_bytes());
    file.extend([52, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // program headers; no sections; no flags
    file.extend([52, 0, 32, 0, segments.len() as u8, 0, 40, 0, 0, 0, 0, 0]);
    let mut offset = 0x1000;
    for s in segments {
        let vaddr = s.paddr.wrapping_add(0xc000_0000);
        for word in [1, offset, vaddr, s.paddr, s.filesz, s.memsz, 7, 0x1000] {
            file.extend(word.to_le_bytes());
        }
        offset += s.filesz;
    }
    file.resize(offset as usize, 0x90);
    file
}

fn small_vmlinux() -> Vec<u8> {
    vmlinux(
        0x0100_0000,
        &[
            Segment { paddr: 0x0100_0000, filesz: 0x3000, memsz: 0x3000 },
            Segment { paddr: 0x0100_4000, filesz: 0x1000, memsz: 0x9000 },
        ],
    )
}

/// A bzImage with Debian's figures: four setup sectors, protocol 2.15, 64 KiB of code.
fn bzimage() -> Vec<u8> {
    let mut file = vec![0u8; 5 * 512 + 0x1_0000];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[4]);
    put(0x1f4, &0x1000u32.to_le_bytes());
    put(0x1fe, &[0x55, 0xaa, 0xeb, 0x66]);
    put(0x202, b"HdrS\x0f\x02");
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x230, &0x0100_0000u32.to_le_bytes());
    put(0x234, &[1]);
    put(0x238, &2047u32.to_le_bytes());
    put(0x258, &0x0100_0000u64.to_le_bytes());
    put(0x260, &0x010d_0000u32.to_le_bytes());
    file
}

fn u32_at(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(page[at..at + 4].try_into().unwrap())
}

#[test]
fn a_vmlinux_goes_to_its_physical_addresses() {
    let plan = plan(&small_vmlinux(), 64 * MIB, 0).unwrap();
    let file = File::Kernel;
    assert_eq!(
        plan.steps.as_slice(),
        [
            LoadStep::Copy { file, offset: 0x1000, gpa: 0x0100_0000, len: 0x3000 },
            LoadStep::Copy { file, offset: 0x4000, gpa: 0x0100_4000, len: 0x1000 },
            LoadStep::Zero { gpa: 0x0100_5000, len: 0x8000 },
        ]
    );
    assert_eq!(plan.entry, Entry { at: 0x0100_0000, mode: Mode::Bits32, protocol: Protocol::Linux });
}

#[test]
fn a_bzimage_goes_where_it_wants_to_unpack() {
    let plan = plan(&bzimage(), 64 * MIB, 0).unwrap();
    let copy = LoadStep::Copy { file: File::Kernel, offset: 2560, gpa: 0x0100_0000, len: 0x1_0000 };
    assert_eq!(plan.steps.as_slice(), [copy]);
    assert_eq!(plan.entry, Entry { at: 0x0100_0000, mode: Mode::Bits32, protocol: Protocol::Linux });
}

#[test]
fn a_bzimage_that_cannot_move_goes_to_1_mib() {
    let mut kernel = bzimage();
    kernel[0x234] = 0;
    assert_eq!(plan(&kernel, 64 * MIB, 0).unwrap().entry.at, 0x10_0000);
}

/// As memtest86+ is: its last paragraph is not whole, and the header counts it.
#[test]
fn a_bzimage_need_not_be_padded_to_a_paragraph() {
    let whole = bzimage();
    for missing in 0..16 {
        let plan = plan(&whole[..whole.len() - missing], 64 * MIB, 0).unwrap();
        let (start, end) = plan.steps[0].range();
        assert_eq!(end - start, 0x1_0000 - missing as u64);
    }
    assert_eq!(plan(&whole[..whole.len() - 16], 64 * MIB, 0).err(), Some(Error::Truncated));
}

#[test]
fn the_initrd_ends_where_ram_ends() {
    let plan = plan(&bzimage(), 64 * MIB, 0x1234).unwrap();
    let initrd = LoadStep::Copy { file: File::Initrd, offset: 0, gpa: 64 * MIB - 0x2000, len: 0x1234 };
    assert_eq!(plan.steps.last(), Some(&initrd));
}

#[test]
fn the_initrd_stays_below_what_the_kernel_can_reach() {
    let plan = plan(&small_vmlinux(), 2048 * MIB, 0x1000).unwrap();
    assert_eq!(plan.steps.last().unwrap().range(), (0x37ff_f000, 0x3800_0000));
}

/// A guest whose RAM is at 64 MiB.
fn plan_at_64_mib(kernel: &[u8], initrd: u64) -> Result<Plan, Error> {
    Plan::new(&mut { kernel }, &GuestParts { ram_at: 64 * MIB, ..guest(64 * MIB, initrd) })
}

#[test]
fn where_ram_begins_higher_everything_large_is_there() {
    let moved = vmlinux(0x0400_0000, &[Segment { paddr: 0x0400_0000, filesz: 0x1000, memsz: 0x2000 }]);
    let plan = plan_at_64_mib(&moved, 0x1234).unwrap();
    assert_eq!(plan.entry.at, 0x0400_0000);
    assert_eq!(plan.steps.last().unwrap().range(), (128 * MIB - 0x2000, 128 * MIB - 0x2000 + 0x1234));
    let page = plan.zero_page.bytes();
    assert_eq!(page[0x1e8], 4, "ranges");
    assert_eq!(page[0x2d0 + 3 * 20..][..8], (64 * MIB).to_le_bytes());
    assert_eq!(page[0x2d0 + 3 * 20 + 8..][..8], (64 * MIB).to_le_bytes());
    plan.low_memory(b"quiet", |at, bytes| assert!(at + bytes.len() as u64 <= MIB, "{at:#x}"));
}

#[test]
fn a_bzimage_moves_to_where_ram_begins_if_it_can() {
    assert_eq!(plan_at_64_mib(&bzimage(), 0).unwrap().entry.at, 0x0400_0000);
    let mut kernel = bzimage();
    kernel[0x234] = 0;
    assert_eq!(plan_at_64_mib(&kernel, 0).unwrap_err(), Error::NotInMemory { at: MIB });
}

#[test]
fn a_vmlinux_below_ram_is_refused_and_so_is_ram_that_reaches_the_devices() {
    assert_eq!(plan_at_64_mib(&small_vmlinux(), 0).unwrap_err(), Error::NotInMemory { at: 0x0100_0000 });
    for (ram_at, ram) in [(3072 * MIB - 32 * MIB, 64 * MIB), (u64::MAX, 64 * MIB), (64 * MIB, u64::MAX)] {
        let guest = GuestParts { ram_at, ..guest(ram, 0) };
        assert_eq!(Plan::new(&mut bzimage().as_slice(), &guest).unwrap_err(), Error::MemorySize);
    }
    let initrd = 64 * MIB - 0x010d_0000 + 1;
    let need = 64 * MIB + 1;
    assert_eq!(plan_at_64_mib(&bzimage(), initrd).unwrap_err(), Error::TooLarge { need, have: 64 * MIB });
}

#[test]
fn the_zero_page_names_everything() {
    let plan = plan(&bzimage(), 64 * MIB, 0x1234).unwrap();
    let page = plan.zero_page.bytes();
    let hdr = offset_of!(boot_params, hdr);
    assert_eq!(u32_at(page, hdr + offset_of!(setup_header, ramdisk_image)), 0x03ff_e000);
    assert_eq!(u32_at(page, hdr + offset_of!(setup_header, ramdisk_size)), 0x1234);
    assert_eq!(u32_at(page, hdr + offset_of!(setup_header, cmd_line_ptr)), low::COMMAND_LINE as u32);
    assert_eq!(page[hdr + offset_of!(setup_header, type_of_loader)], 0xff);
    assert_eq!(page[offset_of!(boot_params, sentinel)], 0);
    // Copied from the image.
    assert_eq!(u32_at(page, hdr + offset_of!(setup_header, init_size)), 0x010d_0000);
}

#[test]
fn a_vmlinux_gets_a_header_made_for_it() {
    let plan = plan(&small_vmlinux(), 64 * MIB, 0).unwrap();
    let page = plan.zero_page.bytes();
    let hdr = offset_of!(boot_params, hdr);
    assert_eq!(u32_at(page, hdr + offset_of!(setup_header, header)), u32::from_le_bytes(*b"HdrS"));
    assert_eq!(page[hdr + offset_of!(setup_header, loadflags)], 1);
    assert_eq!(u32_at(page, hdr + offset_of!(setup_header, ramdisk_size)), 0);
}

#[test]
fn the_memory_map_of_128_mib() {
    use e820::Kind::{Reserved, Usable};
    let expected =
        [(0, 0x9fc00, Usable), (0x9fc00, 0x400, Reserved), (0xf0000, 0x10000, Reserved), (0x100000, 0x7f00000, Usable)];
    let map: Vec<_> = e820::map(128 * MIB).iter().map(|e| (e.base, e.size, e.kind)).collect();
    assert_eq!(map, expected);

    let plan = plan(&bzimage(), 128 * MIB, 0).unwrap();
    let page = plan.zero_page.bytes();
    assert_eq!(page[offset_of!(boot_params, e820_entries)], 4);
    let last = offset_of!(boot_params, e820_table) + 3 * size_of::<boot_e820_entry>();
    assert_eq!(page[last..last + 20], *b"\0\0\x10\0\0\0\0\0\0\0\xf0\x07\0\0\0\0\x01\0\0\0");
}

/// `acpi_rsdp_addr` of the zero page, the BIOS's area that keeps the tables, and no range for windows: the PCI bus has them.
#[test]
fn a_board_with_acpi_has_its_tables_where_the_map_reserves_them() {
    let acpi = acpi::Parts { memory: 64 * MIB as u32, inputs: [11; acpi::DEVICES] };
    let windows = Some((64 * MIB, 65 * MIB));
    let parts = GuestParts { windows, acpi: Some(acpi), ..guest(64 * MIB, 0) };
    let plan = Plan::new(&mut bzimage().as_slice(), &parts).unwrap();
    let page = plan.zero_page.bytes();
    let at = offset_of!(boot_params, acpi_rsdp_addr);
    assert_eq!((&page[at..at + 8], page[offset_of!(boot_params, e820_entries)]), (&0xe_0000u64.to_le_bytes()[..], 4));
    let bios = offset_of!(boot_params, e820_table) + 2 * size_of::<boot_e820_entry>();
    assert_eq!(page[bios..bios + 20], *b"\0\0\x0e\0\0\0\0\0\0\0\x02\0\0\0\0\0\x02\0\0\0");
    let mut tables = 0;
    plan.low_memory(b"quiet", |gpa, bytes| {
        if bytes.starts_with(b"RSD PTR ") {
            tables = bytes.len();
            assert_eq!(gpa, 0xe_0000);
        }
        assert!(gpa + bytes.len() as u64 <= low::PAGE_DIRECTORY, "{gpa:#x}");
    });
    assert_eq!(tables, acpi::SIZE);
}

#[test]
fn low_memory_is_reserved_or_never_allocated_and_does_not_overlap() {
    let plan = plan(&bzimage(), 64 * MIB, 0).unwrap();
    let mut pieces = Vec::new();
    plan.low_memory(b"quiet", |gpa, bytes| pieces.push((gpa, bytes.to_vec())));
    low::first_entry(|gpa, bytes| pieces.push((gpa, bytes.to_vec())));
    pieces.sort();
    for pair in pieces.windows(2) {
        assert!(pair[0].0 + pair[0].1.len() as u64 <= pair[1].0);
    }
    for (gpa, bytes) in &pieces {
        let end = gpa + bytes.len() as u64;
        let reserved = (0x9_fc00, 0xa_0000);
        assert!([(0x1000, 0x1_0000), reserved, (0xf_0000, 0x10_0000)].iter().any(|at| *gpa >= at.0 && end <= at.1));
    }
    let line: Vec<u8> = pieces.iter().filter(|p| (0x3000..0x4000).contains(&p.0)).flat_map(|p| p.1.clone()).collect();
    assert_eq!(line, b"quiet\0");
}

/// As the host's decoder reads them: CR4 is read once, changed in PGE alone, and restored.
#[test]
fn the_first_entry_toggles_pge_and_exits() {
    use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic, OpKind, Register};
    let code: Vec<_> = Decoder::with_ip(32, &low::FLUSH_CODE, low::FLUSH, DecoderOptions::NONE).into_iter().collect();
    let (mut eax, mut written) = (0_u32, Vec::new());
    for one in &code {
        assert_eq!(one.flow_control(), FlowControl::Next);
        match (one.mnemonic(), one.op0_register(), one.op1_register()) {
            (Mnemonic::Mov, Register::EAX, Register::CR4) => eax = 0,
            (Mnemonic::Mov, Register::CR4, Register::EAX) => written.push(eax),
            (Mnemonic::Lea, Register::EAX, _) if one.op1_kind() == OpKind::Memory => {
                assert_eq!((one.memory_base(), one.memory_index()), (Register::EAX, Register::None));
                eax = eax.wrapping_add(one.memory_displacement32());
            }
            (Mnemonic::Cpuid, ..) => assert_eq!((one.ip(), one.next_ip()), (low::FLUSH_END, low::FLUSH_END + 2)),
            _ => panic!("{one:?}"),
        }
    }
    assert_eq!(written, [vtx::cr::cr4::PGE as u32, 0]);
    assert_eq!(code.last().map(|last| last.mnemonic()), Some(Mnemonic::Cpuid));
}

#[test]
fn the_page_directory_maps_every_address_to_itself() {
    assert_eq!(low::page_directory_entry(0), 0x0000_00e7);
    assert_eq!(low::page_directory_entry(1), 0x0040_00e7);
    assert_eq!(low::page_directory_entry(1023), 0xffc0_00e7);
}

#[test]
fn the_boot_segments_are_flat() {
    assert_eq!(low::gdt(Mode::Bits32)[usize::from(low::BOOT_CS) / 8], 0x00cf_9b00_0000_ffff);
    assert_eq!(low::gdt(Mode::Bits32)[usize::from(low::BOOT_DS) / 8], 0x00cf_9300_0000_ffff);
    assert_eq!(low::GDT_LIMIT, 31);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let need = 0x020d_0000; // 16 MiB and init_size
    assert_eq!(plan(&bzimage(), 32 * MIB, 0).unwrap_err(), Error::TooLarge { need, have: 32 * MIB });
    let error = plan(&bzimage(), 34 * MIB, 2 * MIB).unwrap_err();
    assert_eq!(error, Error::TooLarge { need: need + 2 * MIB, have: 34 * MIB });
    assert_eq!(error.to_string(), "kernel and initrd need 35648 KiB of memory, the guest has 34816 KiB");
}

#[test]
fn an_initrd_too_high_by_a_byte_is_refused() {
    let kernel_end = 0x020d_0000;
    assert!(plan(&bzimage(), 64 * MIB, 64 * MIB - kernel_end).is_ok());
    assert!(matches!(plan(&bzimage(), 64 * MIB, 64 * MIB - kernel_end + 1), Err(Error::TooLarge { .. })));
    assert!(matches!(plan(&bzimage(), 64 * MIB, u64::MAX), Err(Error::TooLarge { .. })));
}

#[test]
fn files_that_are_no_kernel() {
    assert_eq!(plan(b"", 64 * MIB, 0).unwrap_err(), Error::NotAKernel);
    assert_eq!(plan(b"#!/bin/sh\n", 64 * MIB, 0).unwrap_err(), Error::NotAKernel);
    let mut arm = small_vmlinux();
    arm[18] = 40;
    assert_eq!(plan(&arm, 64 * MIB, 0).unwrap_err(), Error::OtherMachine(40));
    arm[18] = 62;
    assert_eq!(plan(&arm, 64 * MIB, 0).unwrap_err(), Error::OtherMachine(62), "x86-64 with addresses of 32 bits");
}

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

#[test]
fn an_old_protocol_and_a_zimage_are_refused_by_name() {
    let mut image = bzimage();
    image[0x206] = 9;
    let error = plan(&image, 64 * MIB, 0).unwrap_err();
    assert_eq!(error, Error::TooOld { version: 0x209 });
    assert_eq!(error.to_string(), "boot protocol 2.09; 2.10 or later is needed");
    let mut image = bzimage();
    image[0x211] = 0;
    assert_eq!(plan(&image, 64 * MIB, 0).unwrap_err(), Error::TooOld { version: 0x20f });
}

#[test]
fn a_truncated_file_is_distinguished_from_a_bad_one() {
    let elf = small_vmlinux();
    assert_eq!(plan(&elf[..elf.len() - 1], 64 * MIB, 0).unwrap_err(), Error::Truncated);
    let image = bzimage();
    assert_eq!(plan(&image[..image.len() - 16], 64 * MIB, 0).unwrap_err(), Error::Truncated);
    assert_eq!(plan(&image[..0x210], 64 * MIB, 0).unwrap_err(), Error::Truncated);
}

#[test]
fn segments_in_the_way_of_each_other_or_of_the_loader_are_refused() {
    let start = Segment { paddr: 0x0100_0000, filesz: 0x2000, memsz: 0x2000 };
    let inside = Segment { paddr: 0x0100_1000, filesz: 0x10, memsz: 0x10 };
    assert_eq!(plan(&vmlinux(0x0100_0000, &[start, inside]), 64 * MIB, 0).unwrap_err(), Error::BadHeader);
    let low = Segment { paddr: 0x2000, filesz: 0x2000, memsz: 0x2000 };
    assert_eq!(plan(&vmlinux(0x2000, &[low]), 64 * MIB, 0).unwrap_err(), Error::BadHeader);
}

#[test]
fn an_entry_outside_the_code_is_refused() {
    let mut elf = small_vmlinux();
    elf[27] = 0x02;
    assert_eq!(plan(&elf, 64 * MIB, 0).unwrap_err(), Error::BadHeader);
}

#[test]
fn the_command_line_has_a_limit() {
    let mut image = bzimage();
    image[0x238..0x23c].copy_from_slice(&255u32.to_le_bytes());
    let line = [b'a'; 256];
    let with = |command_line| {
        Plan::new(
            &mut image.as_slice(),
            &GuestParts {
                processor: Processor::Bits32,
                ram: 64 * MIB,
                ram_at: 0,
                windows: None,
                acpi: None,
                initrd: 0,
                command_line,
            },
        )
    };
    assert!(with(&line[..255]).is_ok());
    assert_eq!(with(&line).unwrap_err(), Error::CommandLineTooLong { length: 256, max: 255 });
    assert_eq!(with(b"a\0b").unwrap_err(), Error::CommandLineHasNul);
}

#[test]
fn memory_that_is_no_pc_is_refused() {
    assert_eq!(plan(&bzimage(), MIB, 0).unwrap_err(), Error::MemorySize);
    assert_eq!(plan(&bzimage(), 4096 * MIB, 0).unwrap_err(), Error::MemorySize);
}

#[test]
fn a_file_that_cannot_be_read_is_not_called_a_bad_kernel() {
    struct Broken;
    impl Image for Broken {
        fn size(&self) -> u64 {
            u64::MAX
        }
        fn read(&mut self, _: u64, _: &mut [u8]) -> Result<usize, Unreadable> {
            Err(Unreadable)
        }
    }
    assert_eq!(Plan::new(&mut Broken, &guest(64 * MIB, 0)).unwrap_err(), Error::Unreadable);
}

/// A file with these first bytes that claims any length.
struct Claims(Vec<u8>, u64);

impl Image for Claims {
    fn size(&self) -> u64 {
        self.1
    }
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<usize, Unreadable> {
        self.0.as_slice().read(offset, into)
    }
}

/// Whatever the plan is, following it cannot hurt anything but the guest's own high memory.
fn check(plan: &Plan, ram: u64) {
    let mut ranges: Vec<_> = plan.steps.iter().map(LoadStep::range).collect();
    ranges.sort();
    assert!(ranges.iter().all(|&(start, end)| MIB <= start && start < end && end <= ram));
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_planned(bytes: Vec<u8>, size: u64, ram: u64, initrd: u64) {
        let _ = Plan::new(&mut Claims(bytes, size), &guest(ram, initrd));
    }

    #[test]
    fn a_damaged_kernel_is_refused_or_harmless(
        elf: bool,
        edits in prop::collection::vec((0usize..0x300, any::<u8>()), 0..6),
        size in prop_oneof![Just(0x1_1000u64), any::<u64>()],
        ram in 2 * MIB..3072 * MIB,
        initrd in 0..64 * MIB,
    ) {
        let mut file = if elf { small_vmlinux() } else { bzimage() };
        for (at, byte) in edits {
            // Half of the edits go to the program headers or to the setup header.
            let at = if elf || at % 2 == 0 { at % 0x80 } else { 0x1f1 + at % 0x80 };
            file[at] = byte;
        }
        if let Ok(plan) = Plan::new(&mut Claims(file, size), &guest(ram, initrd)) {
            check(&plan, ram);
        }
    }
}
