//! Kernels made by hand, and what the loader makes of them.

mod long;
mod refused;

use arch::Mode;
use linux_raw_sys::bootparam::{boot_e820_entry, boot_params, setup_header};
use std::mem::offset_of;
use vmm_server::linux::{Entry, Error, File, GuestParts, LoadStep, Plan, Protocol, e820, low};
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
