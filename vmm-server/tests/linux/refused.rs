//! Files that are no kernels, or do not fit, and any bytes at all: refused with the reason, or planned without harm.

use proptest::prelude::*;
use vmm_server::linux::{Error, GuestParts, Image, LoadStep, Plan, Unreadable};
use vtx::cpuid::Processor;

use super::{MIB, Segment, bzimage, guest, plan, small_vmlinux, vmlinux};

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
