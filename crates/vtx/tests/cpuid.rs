//! What a guest may and may not see, by the bit numbers of the SDM.

use core::arch::x86_64::CpuidResult;
use vtx::cpuid::{leaf as leaf_at, *};

/// The leaf on a processor whose TSC counts 50 million a second.
fn leaf(leaf: u32, subleaf: u32, host: CpuidResult) -> CpuidResult {
    leaf_at(Processor::Bits32, 0, leaf, subleaf, host, 50_000_000)
}

/// The same where the kernel supports 64-bit guests.
fn long(leaf: u32, subleaf: u32, host: CpuidResult) -> CpuidResult {
    leaf_at(Processor::Bits64, 0, leaf, subleaf, host, 50_000_000)
}

const ALL: CpuidResult = CpuidResult { eax: u32::MAX, ebx: u32::MAX, ecx: u32::MAX, edx: u32::MAX };
const NONE: CpuidResult = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };

#[test]
fn the_tables_name_each_bit_once() {
    for table in
        [LEAF_1_ECX, LEAF_1_EDX, LEAF_7_EBX, LEAF_7_ECX, LEAF_7_EDX, LEAF_EXT_1_ECX, LEAF_EXT_1_EDX, LEAF_EXT_7_EDX]
    {
        assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(table.iter().all(|&(bit, name, _)| bit < 32 && !name.is_empty()));
    }
}

#[test]
fn leaf_1_on_a_processor_that_has_everything() {
    let seen = leaf(1, 0, ALL);
    assert_eq!(seen.ecx, 0xc3f8_0203);
    assert_eq!(seen.edx, 0x0f8a_ab7f & !(1 << 16) | 1 << 17 | 1 << 14 | 1 << 7);
    assert_eq!(seen.ebx, 0x0001_ff00);
}

#[test]
fn nothing_is_invented_but_the_hypervisor_the_local_apic_the_steady_tsc_and_no_banks_of_machine_checks() {
    // The hypervisor, the TSC deadlines and the x2APIC; the local APIC, MCE and MCA.
    let edx = 1 << 9 | 1 << 7 | 1 << 14;
    assert_eq!(leaf(1, 0, NONE), CpuidResult { ebx: 1 << 16, ecx: 1 << 31 | 1 << 24 | 1 << 21, edx, ..NONE });
    // Its timer always runs.
    assert_eq!(leaf(6, 0, NONE), CpuidResult { eax: 1 << 2, ..NONE });
    // TSC_ADJUST: a TSC that cannot be moved is one that has not been.
    assert_eq!(leaf(7, 0, NONE), CpuidResult { ebx: 1 << 1, ..NONE });
}

#[test]
fn no_feature_that_needs_xsave_is_left() {
    let one = leaf(1, 0, ALL).ecx;
    let seven = leaf(7, 0, ALL);
    for bit in [12, 26, 27, 28, 29] {
        assert_eq!(one >> bit & 1, 0, "leaf 1 ECX {bit}");
    }
    for bit in [5, 14, 16, 17, 21, 26, 27, 28, 30, 31] {
        assert_eq!(seven.ebx >> bit & 1, 0, "leaf 7 EBX {bit}");
    }
    for bit in [1, 6, 9, 10, 11, 12, 14] {
        assert_eq!(seven.ecx >> bit & 1, 0, "leaf 7 ECX {bit}");
    }
    assert_eq!(leaf(0xd, 0, ALL), NONE);
}

#[test]
fn xsave_and_avx_are_there_where_the_kernel_keeps_their_state() {
    let seen = |xcr0, leaf, subleaf, host| leaf_at(Processor::Bits64, xcr0, leaf, subleaf, host, 50_000_000);
    const XSAVE: u32 = 1 << 26;
    const AVX: u32 = 1 << 12 | 1 << 28 | 1 << 29;
    for (xcr0, shown) in [(0, 0), (3, XSAVE), (7, XSAVE | AVX)] {
        let ecx = seen(xcr0, 1, 0, ALL).ecx;
        assert_eq!(ecx & (XSAVE | AVX | 1 << 27), shown, "OSXSAVE is CR4's");
        assert_eq!(seen(xcr0, 7, 0, ALL).ebx >> 5 & 1, (xcr0 == 7).into(), "AVX2");
        assert_eq!(seen(xcr0, 1, 0, NONE).ecx & (XSAVE | AVX), 0, "nothing is invented");
    }
    let host = CpuidResult { eax: 0xe7, ebx: 832, ecx: 2696, edx: 1 };
    assert_eq!(seen(7, 0xd, 0, host), CpuidResult { eax: 7, ebx: 832, ecx: 832, edx: 0 });
    assert_eq!(seen(7, 0xd, 1, ALL), CpuidResult { eax: 7, ebx: u32::MAX, ecx: 0, edx: 0 }, "no XSAVES");
    assert_eq!(seen(7, 0xd, 2, host), CpuidResult { edx: 0, ..host });
    assert_eq!([(7, 3), (3, 2), (7, 63), (7, 64), (7, u32::MAX)].map(|(xcr0, n)| seen(xcr0, 0xd, n, ALL)), [NONE; 5]);
}

#[test]
fn no_instruction_is_promised_that_a_clear_control_makes_undefined() {
    assert_eq!(leaf(7, 0, ALL).ebx >> 10 & 1, 0, "INVPCID");
    assert_eq!(leaf(7, 0, ALL).ecx >> 5 & 1, 0, "WAITPKG");
    assert_eq!(leaf(7, 0, ALL).ecx >> 22 & 1, 0, "RDPID");
    assert_eq!(leaf(0x8000_0001, 0, ALL).edx >> 27 & 1, 0, "RDTSCP");
}

#[test]
fn leaves_that_would_mislead_or_do_not_exist_are_zero() {
    for unknown in [3, 5, 8, 9, 0xa, 0xb, 0xd, 0x14, 0x17, 0x40, 0x4000_0001, 0x4000_0010, 0x8000_0040] {
        assert_eq!(leaf(unknown, 0, ALL), NONE, "{unknown:#x}");
    }
    assert_eq!(leaf(7, 1, ALL), NONE);
    assert_eq!(leaf(6, 0, ALL), leaf(6, 0, NONE), "of power management, nothing of the host's");
}

#[test]
fn the_hypervisor_names_itself() {
    let seen = leaf(0x4000_0000, 0, ALL);
    let name: Vec<u8> = [seen.ebx, seen.ecx, seen.edx].iter().flat_map(|r| r.to_le_bytes()).collect();
    assert_eq!((seen.eax, name.as_slice()), (0x4000_0000, b"PortcullisVM".as_slice()));
}

#[test]
fn the_highest_basic_leaf_is_that_of_the_frequency_and_the_extended_one_the_hosts() {
    assert_eq!(leaf(0, 0, CpuidResult { eax: 0xd, ..ALL }).eax, 0x16);
    let host = CpuidResult { eax: 0x8000_0008, ..NONE };
    assert_eq!(leaf(0x8000_0000, 0, host).eax, 0x8000_0008);
}

#[test]
fn the_tsc_rate_is_the_measured_one() {
    for hertz in [50_000_000, 2_400_000_000, 5_100_000_000u64] {
        let ratio = leaf_at(Processor::Bits32, 0, 0x15, 0, ALL, hertz);
        assert_eq!(u64::from(ratio.ecx) * u64::from(ratio.ebx) / u64::from(ratio.eax), hertz);
        assert_eq!(u64::from(leaf_at(Processor::Bits64, 0, 0x16, 0, ALL, hertz).eax), hertz / 1_000_000);
    }
}

#[test]
fn caches_belong_to_one_thread_of_one_core() {
    let haswell_l1d = CpuidResult { eax: 0x1c00_4121, ebx: 0x01c0_003f, ecx: 63, edx: 0 };
    assert_eq!(leaf(4, 0, haswell_l1d), CpuidResult { eax: 0x121, ..haswell_l1d });
}

#[test]
fn address_widths_are_the_hosts_physical_and_32_linear() {
    assert_eq!(leaf(0x8000_0008, 0, CpuidResult { eax: 0x3027, ..NONE }).eax, 0x2027);
}

/// The features of x86-64-v2 (System V ABI for x86-64, "Micro-Architecture Levels"), and what Linux uses beyond them.
#[test]
fn the_processor_with_long_mode_is_an_x86_64_v2() {
    let (one, extended) = (long(1, 0, ALL), long(0x8000_0001, 0, ALL));
    for (bit, name) in
        [(0, "SSE3"), (9, "SSSE3"), (13, "CX16"), (17, "PCID"), (19, "SSE4.1"), (20, "SSE4.2"), (23, "POPCNT")]
    {
        assert_eq!(one.ecx >> bit & 1, 1, "{name}");
    }
    for (bit, name) in [(11, "SYSCALL"), (20, "NX"), (26, "1 GiB pages"), (27, "RDTSCP"), (29, "LM")] {
        assert_eq!(extended.edx >> bit & 1, 1, "{name}");
    }
    assert_eq!((extended.ecx & 1, long(7, 0, ALL).ebx & (1 | 1 << 10)), (1, 1 | 1 << 10), "LAHF; FSGSBASE and INVPCID");
    assert_eq!(long(0x8000_0008, 0, CpuidResult { eax: 0x3027, ..NONE }).eax, 0x3027);
    assert_eq!(long(1, 0, NONE).edx, leaf(1, 0, NONE).edx | 1 << 12 | 1 << 16, "MTRR and PAT, whatever the host has");
    assert_eq!(long(0x8000_0001, 0, NONE), NONE);
}

#[test]
fn the_processor_with_long_mode_has_all_that_the_other_has() {
    for (at, host) in
        [(1, ALL), (7, ALL), (0x8000_0001, ALL), (0x8000_0007, ALL)].into_iter().chain([(1, NONE), (7, NONE)])
    {
        let [narrow, wide] = [leaf(at, 0, host), long(at, 0, host)].map(|seen| [seen.ebx, seen.ecx, seen.edx]);
        assert!(narrow.iter().zip(wide).all(|(narrow, wide)| narrow & !wide == 0), "{at:#x}");
    }
}

#[test]
fn no_speculation_control_is_promised() {
    for processor in [Processor::Bits32, Processor::Bits64] {
        let seven = leaf_at(processor, 0, 7, 0, ALL, 50_000_000);
        assert_eq!(seven.edx & (1 << 26 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 31), 0, "{processor:?}");
    }
}

#[test]
fn control_registers_follow_the_features() {
    let bits = |leaf: fn(u32, u32, CpuidResult) -> CpuidResult, host| {
        let features = features(leaf(1, 0, host), leaf(7, 0, host), leaf(0x8000_0001, 0, host));
        (features.cr4, features.efer)
    };
    assert_eq!((bits(leaf, NONE), bits(long, NONE)), ((0, 0), (0, 0)));
    assert_eq!(bits(leaf, ALL), (1 << 20 | 1 << 21 | 1 << 11, 0));
    assert_eq!(bits(long, ALL), (1 << 20 | 1 << 21 | 1 << 11 | 1 << 16 | 1 << 17, 1 << 0 | 1 << 8 | 1 << 11));
}
