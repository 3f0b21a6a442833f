//! Boards of other generations, by what their users have shown in public: each fact is from the log that its test names, and the
//! tables are put together from those. Flags of processors are those of Linux' /proc/cpuinfo on the model.

use super::*;

/// Linux 3.13 on an Asus Z87-A with a Core i7-4770 (Haswell): ubuntuforums.org, "CalDigit Thunderbolt Hub and Asus Z87-A
/// Thunderbolt add-on card", 1 April 2014. That Linux has VT-x among the other flags, only some of it, and no bugs.
const HASWELL: &str = "\
processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 60
model name	: Intel(R) Core(TM) i7-4770 CPU @ 3.40GHz
stepping	: 3
flags		: fpu msr apic sep mtrr pat nx pdpe1gb rdtscp lm constant_tsc nonstop_tsc vmx smx est pcid sse4_2 x2apic tsc_deadline_timer xsave avx rdrand tpr_shadow vnmi flexpriority ept vpid fsgsbase avx2 smep bmi2 erms invpcid

00000000-00000fff : reserved
00001000-0009d7ff : System RAM
00100000-868a2fff : System RAM
868a3000-868a9fff : ACPI Non-volatile Storage
868aa000-86cf9fff : System RAM
87158000-98400fff : System RAM
99fff000-99ffffff : System RAM
9b000000-9f1fffff : reserved
100000000-3feffffff : System RAM

[    0.020376] dmar: IOMMU 0: reg_base_addr fed90000 ver 1:0 cap c0000020660462 ecap f0101a
[    0.020380] dmar: IOMMU 1: reg_base_addr fed91000 ver 1:0 cap d2008020660462 ecap f010da
";

/// A device scope: a function on bus 0, an I/O APIC or an HPET.
fn scope(kind: u8, id: u8, bus: u8, device: u8, function: u8) -> Vec<u8> {
    vec![kind, 8, 0, 0, id, bus, device, function]
}

/// A unit of the DMAR; `all` if it is for all other functions.
fn unit(address: u64, all: bool, scopes: &[Vec<u8>]) -> Vec<u8> {
    let scopes = scopes.concat();
    [&[0, 0, 16 + scopes.len() as u8, 0, u8::from(all), 0, 0, 0][..], &address.to_le_bytes(), &scopes].concat()
}

/// Reserved memory in the DMAR.
fn reserved(base: u64, last: u64, scopes: &[Vec<u8>]) -> Vec<u8> {
    let scopes = scopes.concat();
    [&[1, 0, 24 + scopes.len() as u8, 0, 0, 0, 0, 0][..], &base.to_le_bytes(), &last.to_le_bytes(), &scopes].concat()
}

/// A DMAR for addresses of 39 bits.
fn dmar(entries: &[Vec<u8>]) -> Vec<u8> {
    [&[38, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &entries.concat()].concat()
}

/// A MADT with processors of these APIC IDs, an I/O APIC, and the timer's and ACPI's interrupts.
fn madt(io_apic: u8, processors: &[u8]) -> Vec<u8> {
    let processors = (1..).zip(processors).flat_map(|(number, apic)| [0, 8, number, *apic, 1, 0, 0, 0]);
    let others = [
        &[1, 12, io_apic, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0][..],
        &[2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
        &[2, 10, 0, 9, 9, 0, 0, 0, 13, 0],
        &[4, 6, 0xff, 5, 0, 1],
    ];
    [0, 0, 0xe0, 0xfe, 1, 0, 0, 0].into_iter().chain(processors).chain(others.concat()).collect()
}

#[test]
fn a_haswell_by_a_linux_of_its_time() {
    let graphics = [scope(1, 0, 0, 2, 0)];
    let usb = [scope(1, 0, 0, 0x1d, 0), scope(1, 0, 0, 0x1a, 0), scope(1, 0, 0, 0x14, 0)];
    let body = dmar(&[
        unit(0xfed9_0000, false, &graphics),
        unit(0xfed9_1000, true, &[scope(3, 8, 0xf0, 0x1f, 0), scope(4, 0, 0xf0, 0x0f, 0)]),
        reserved(0x9863_1000, 0x9863_dfff, &usb),
        reserved(0x9b00_0000, 0x9f1f_ffff, &graphics),
    ]);
    // The lengths of the board's tables.
    assert_eq!(36 + body.len(), 0xb8);
    let madt = madt(8, &[0, 2, 4, 6, 1, 3, 5, 7]);
    assert_eq!(36 + madt.len(), 0x92);
    let text = format!("{HASWELL}{}{}", dumped("DMAR", &body), dumped("APIC", &madt));
    let judged = judged(&[file("haswell.txt", &text)]);
    says(&judged, Verdict::Pass, "kernel: board = \"pc-modern\"");
    says(&judged, Verdict::Pass, "VT-x controls: all");
    says(&judged, Verdict::Warn, "iTLB multihit: maybe");
    says(&judged, Verdict::Pass, "MADT: 8 processors");
    says(&judged, Verdict::Pass, "I/O APIC: 8 at 0xfec00000, inputs from 0 on");
    says(&judged, Verdict::Pass, "unit fed90000: tables of four levels, 256 domains, 39 bits");
    says(&judged, Verdict::Pass, "RMRR: 0x98631000 to 0x9863dfff, for 00:1d.0 00:1a.0 00:14.0");
    says(&judged, Verdict::Pass, "memory: 14702 MiB free in 5 ranges");
    // What this Linux does not say of VT-x is no failing of the processor's.
    for topic in ["preemption timer", "unrestricted guest", "invalidation"] {
        let said: Vec<_> = judged.lines.iter().filter(|(_, line)| line.starts_with(topic)).collect();
        assert!(said.is_empty(), "{said:?}");
    }
    assert!(judged.lines.iter().all(|(verdict, _)| *verdict != Verdict::Fail), "{}", judged.report());
}

/// Linux 5.10 on a Dell XPS 13 9310 with a Core i7-1165G7 (Tiger Lake): dmesg.log of 4 November 2020 on the mailing list
/// linux-wireless, thread "pci_alloc_irq_vectors fails ENOSPC for XPS 13 9310". Firmware 1.1.1 has a unit at address 0.
const TIGER_LAKE: &str = "\
processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 140
model name	: 11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz
stepping	: 1
flags		: fpu msr apic sep mtrr pat nx pdpe1gb rdtscp lm constant_tsc nonstop_tsc vmx est pcid sse4_2 x2apic tsc_deadline_timer xsave avx rdrand tpr_shadow vnmi flexpriority ept vpid ept_ad fsgsbase avx2 smep bmi2 erms invpcid avx512f arch_capabilities
vmx flags	: vnmi preemption_timer posted_intr invvpid ept_x_only ept_ad ept_1gb flexpriority apicv tsc_offset vtpr mtf vapic ept vpid unrestricted_guest vapic_reg vid ple pml ept_mode_based_exec tsc_scaling
bugs		: spectre_v1 spectre_v2 spec_store_bypass

00000000-00000fff : Reserved
00001000-0009efff : System RAM
00100000-5f72afff : System RAM
63fff000-63ffffff : System RAM
69000000-707fffff : Reserved
100000000-88f7fffff : System RAM

[    0.103697] DMAR: dmar0: reg_base_addr fed90000 ver 4:0 cap 1c0000c40660462 ecap 69e2ff0505e
[    0.103701] DMAR: dmar1: reg_base_addr fed84000 ver 1:0 cap d2008c40660462 ecap f050da
[    0.103706] DMAR: dmar2: reg_base_addr fed86000 ver 1:0 cap d2008c40660462 ecap f050da
";

/// A Tiger Lake's DMAR, with the graphics' unit, those of two Thunderbolt ports, and the others' one.
fn tiger_lake(others: Vec<u8>) -> String {
    let graphics = [scope(1, 0, 0, 2, 0)];
    let body = dmar(&[
        unit(0xfed9_0000, false, &graphics),
        unit(0xfed8_4000, false, &[scope(2, 0, 0, 7, 0)]),
        unit(0xfed8_6000, false, &[scope(2, 0, 0, 7, 2)]),
        others,
        reserved(0x6c80_0000, 0x707f_ffff, &graphics),
    ]);
    format!("{TIGER_LAKE}{}{}", dumped("DMAR", &body), dumped("APIC", &madt(2, &[0, 2, 4, 6, 1, 3, 5, 7])))
}

#[test]
fn a_tiger_lake_whose_firmware_has_a_unit_at_address_0() {
    // Some devices to choose from.
    let devices = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/q35-msi.txt");
    let judged = judged(&[devices, file("tiger-lake-0.txt", &tiger_lake(unit(0, true, &[])))]);
    says(&judged, Verdict::Pass, "kernel: board = \"pc-modern\"");
    says(&judged, Verdict::Pass, "unit fed90000: version 4.0");
    says(&judged, Verdict::Fail, "DMAR unit: at 0x0, where there is none: the kernel uses no IOMMU; a newer firmware");
    assert!(judged.description.contains("without-iommu"), "{}", judged.description);
    assert!(!judged.description.contains("pci_devices_iospace"), "{}", judged.description);
}

#[test]
fn a_tiger_lake_with_units_for_thunderbolt() {
    let others = unit(0xfed9_1000, true, &[scope(3, 2, 0, 0x1e, 7), scope(4, 0, 0, 0x1e, 6)]);
    let text = tiger_lake(others)
        + "[    0.116275] DMAR: dmar3: reg_base_addr fed91000 ver 1:0 cap d2008c40660462 ecap f050da\n";
    let judged = judged(&[file("tiger-lake.txt", &text)]);
    says(&judged, Verdict::Pass, "preemption timer: yes");
    says(&judged, Verdict::Pass, "unrestricted guest: yes");
    says(&judged, Verdict::Pass, "invalidation: all");
    says(&judged, Verdict::Pass, "DMAR unit: at 0xfed84000, for its own functions, 1 scopes, segment 0");
    says(&judged, Verdict::Pass, "unit fed91000: tables of four levels, 256 domains, 39 bits");
    says(&judged, Verdict::Pass, "memory: 32494 MiB free in 3 ranges");
    assert!(judged.lines.iter().all(|(verdict, _)| *verdict != Verdict::Fail), "{}", judged.report());
}

/// A unit of a Sapphire Rapids: the README of github.com/sharathdm/x86_ir_table.
#[test]
fn a_sapphire_rapids_takes_commands_by_a_queue_alone() {
    let log = "[    0.056825] DMAR: dmar0: reg_base_addr aa3fc000 ver 6:0 cap 9ed008c40780466 ecap 3ee9e86f050df\n";
    let body = dmar(&[unit(0xaa3f_c000, true, &[])]);
    let judged = judged(&[file("sapphire-rapids.txt", &format!("{log}{}", dumped("DMAR", &body)))]);
    says(&judged, Verdict::Fail, "unit aa3fc000: version 6.0 takes invalidations by a queue only");
    says(&judged, Verdict::Pass, "unit aa3fc000: tables of four levels, 65536 domains, 57 bits");
}
