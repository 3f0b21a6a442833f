//! `cargo xtask doctor --board` on Linux' files of a board with an Ivy Bridge and a QM77 like the cma34cr's (in
//! build/tests/board; rewritten by hand from public listings), on a probe's block, and on damaged ones.

use std::path::{Path, PathBuf};

use capdl_spec::host::{self, Source};
use probe::acpi::Table;
use probe::block::Block;
use probe::clocks::{Clock, Clocks};
use probe::cpu::Leaf;
use probe::multiboot::{Firmware, Range};
use probe::{Facts, Unit, Verdict, acpi};
use xtask::board::{Judged, judge_files};

mod generations;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/board").join(name)
}

/// The judgement, whose description is a valid one.
fn judged(paths: &[PathBuf]) -> Judged {
    let judged = judge_files(paths).unwrap_or_else(|error| panic!("{error:?}"));
    let source = Source { path: "board.toml".into(), text: judged.description.clone() };
    if let Err(mistakes) = host::parse(source) {
        panic!("{}\n{}", mistakes.plain(), judged.description);
    }
    judged
}

#[track_caller]
fn says(judged: &Judged, verdict: Verdict, line: &str) {
    let there = judged.lines.iter().any(|(found, text)| *found == verdict && text.starts_with(line));
    assert!(there, "no {verdict} {line}:\n{}", judged.report());
}

/// A file with this text, in a folder of its own.
fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).expect("a file");
    path
}

#[test]
fn linux_files_of_an_ivy_bridge_tell_the_kernel_the_lines_and_the_iommu() {
    let judged = judged(&[data("")]);
    assert_eq!(judged.doubts, Vec::<String>::new());
    says(&judged, Verdict::Pass, "processor: GenuineIntel family 6 model 0x3a stepping 9, Intel(R) Core(TM) i7-3612QE");
    says(&judged, Verdict::Warn, "INVPCID: none");
    says(&judged, Verdict::Pass, "FSGSBASE: ");
    says(&judged, Verdict::Pass, "EPT: yes");
    says(&judged, Verdict::Pass, "kernel: board = \"pc\"");
    says(&judged, Verdict::Warn, "iTLB multihit: yes, by /proc/cpuinfo");
    says(&judged, Verdict::Pass, "MADT: 4 processors");
    says(&judged, Verdict::Pass, "override: ISA interrupt 9 arrives at input 9, level");
    says(&judged, Verdict::Pass, "DMAR unit: at 0xfed91000, for all other functions, 2 scopes");
    says(&judged, Verdict::Pass, "RMRR: 0xbd8a7000 to 0xbd8b3fff, for 00:1d.0 00:1a.0");
    says(&judged, Verdict::Pass, "memory: 8167 MiB free in 4 ranges above 1 MiB");
    says(&judged, Verdict::Pass, "pci 00:1c.0: 8086:1e10 bridge to bus 0x5, ACS unknown");
    says(&judged, Verdict::Pass, "pci 00:1f.2: 8086:1e03 class 0106, MSI, INTB (source = 19), reset by FLR");
    says(&judged, Verdict::Pass, "pci 00:1f.3: 8086:1e22 class 0c05, INTC (source = 18), reset by its bus alone");
    says(&judged, Verdict::Pass, "group 00:1f.0: 00:1f.2 00:1f.3 have one owner, or group = \"trusted\"");
    assert!(judged.lines.iter().all(|(verdict, _)| *verdict != Verdict::Fail), "{}", judged.report());
    for line in [
        "board = \"pc\"\n",
        "pci_devices_iospace = 1  # bus master: SATA, Ethernet; lspci:42 shows that the board has an IOMMU",
        "{ name = \"SATA\", source = 19, level_trig = 1, active_low = 1, dest = 11 }",
        "{ name = \"Ethernet\", source = 20, level_trig = 1, active_low = 1, dest = 10 }",
        "{ start = 0x4060, end = 0x4080, pci_device = 0x1f, name = \"SATA\" }",
    ] {
        assert!(judged.description.contains(line), "no {line}:\n{}", judged.description);
    }
}

#[test]
fn a_binary_table_is_what_the_text_of_acpidump_says() {
    let text = std::fs::read_to_string(data("acpidump")).unwrap();
    let dmar = text.split("DMAR @").nth(1).unwrap();
    let words = dmar.lines().skip(1).filter_map(|line| line.split(": ").nth(1)?.get(..47));
    let bytes: Vec<u8> =
        words.flat_map(str::split_whitespace).map(|word| u8::from_str_radix(word, 16).unwrap()).collect();
    assert!(acpi::is_whole(&bytes));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("DMAR");
    std::fs::write(&path, bytes).unwrap();
    let judged = judged(&[path]);
    says(&judged, Verdict::Pass, "DMAR unit: at 0xfed90000, for its own functions, 1 scopes");
    assert!(judged.description.contains("board = \"pc\"  # the files do not say"), "{}", judged.description);
}

/// A board of the probe's, with one function.
fn block() -> String {
    let hpet = [b"HPET".as_slice(), &[56, 0, 0, 0], &[7; 48]].concat();
    let mut facts = Facts {
        firmware: Some(Firmware::Uefi),
        rsdp: Some(acpi::Rsdp { revision: 2, rsdt: 0x7000, xsdt: 0x8000 }),
        clocks: Clocks { pit: Clock::Dead, hpet: Clock::Counts(2_400_000_000), known: true, ..Clocks::default() },
        uarts: Some(1),
        ..Facts::default()
    };
    facts.leaves.push(Leaf { leaf: 1, registers: [0x306a9, 0x100800, 1 << 5, 1 << 9] }).unwrap();
    facts.msrs.push((0x3a, 1)).unwrap();
    facts.tables.push(Table { signature: *b"HPET", bytes: &hpet }).unwrap();
    let unit =
        Unit { address: 0xfed9_0000, version: 0x60, capabilities: 1 << 10, extended: 2, status: 1 << 31, protected: 1 };
    facts.units.push(unit).unwrap();
    facts.memory.push(Range { start: 0x10_0000, length: 64 << 20, kind: 1 }).unwrap();
    let mut text = "GRUB\r\n".to_owned();
    let mut block = Block::begin(&mut text).unwrap();
    block.facts(&facts).unwrap();
    block.end().unwrap();
    text.replace('\n', "\r\n") + "PASS and so on\r\n"
}

#[test]
fn a_block_is_read_as_it_was_written_in_a_log_with_other_lines() {
    let judged = judged(&[file("block.txt", &block())]);
    assert_eq!(judged.doubts, Vec::<String>::new());
    says(&judged, Verdict::Fail, "VT-x lock: locked off");
    says(&judged, Verdict::Warn, "8254: does not count: timer-server uses the HPET");
    says(&judged, Verdict::Pass, "HPET: counts; the TSC by it: 2400.000 MHz");
    says(&judged, Verdict::Warn, "ACPI: the checksum of HPET is wrong");
    says(&judged, Verdict::Pass, "firmware: UEFI");
    says(&judged, Verdict::Fail, "memory: 64 MiB free in 1 ranges");
}

#[test]
fn a_damaged_block_says_so_and_the_last_of_two_counts() {
    let whole = block();
    let cut = whole.split("uarts").next().unwrap();
    let lost = whole.replacen("cpuid.00000001 = 000306a9", "cpuid.00000001 = 00306a9", 1);
    for (name, text, doubt) in [("cut.txt", cut, "has no end"), ("lost.txt", &*lost, "is damaged")] {
        let judged = judge_files(&[file(name, text)]).unwrap();
        assert!(judged.doubts.iter().any(|said| said.contains(doubt)), "{:?}", judged.doubts);
    }
    let twice = judged(&[file("twice.txt", &(cut.to_owned() + &whole))]);
    assert_eq!(twice.doubts, Vec::<String>::new());
}

#[test]
fn what_says_nothing_about_a_board_is_refused_with_a_remedy() {
    let report = judge_files(&[file("nothing.txt", "hello\n")]).expect_err("nothing");
    assert!(report.help().is_some_and(|help| help.to_string().contains("cargo xtask image probe")));
}

/// An ACPI table as `acpidump` prints it.
#[test]
fn a_folder_without_files_and_a_file_that_is_not_there_are_named() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nothing");
    std::fs::create_dir_all(&folder).expect("a folder");
    for path in [folder.clone(), folder.join("absent")] {
        let said = format!("{:?}", judge_files(std::slice::from_ref(&path)).unwrap_err());
        let plain: String = said.split_whitespace().collect();
        assert!(plain.contains("nothing") && plain.contains("cargoxtaskimageprobe"), "{said}");
    }
}

/// Who has no acpidump is not led to trust a device with all memory.
#[test]
fn without_acpi_tables_nobody_is_told_to_trust_a_device() {
    let files = ["cpuinfo", "interrupts", "iomem", "lspci"].map(data);
    let description = judged(&files).description;
    assert!(description.contains("sudo acpidump") && !description.contains("--trusted"), "{description}");
}

fn dumped(signature: &str, body: &[u8]) -> String {
    let mut table = [signature.as_bytes(), &(36 + body.len() as u32).to_le_bytes(), &[0; 28], body].concat();
    table[9] = 0u8.wrapping_sub(table.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
    let mut text = format!("{signature} @ 0x0000000000000000\n");
    for (index, line) in table.chunks(16).enumerate() {
        let words: Vec<String> = line.iter().map(|byte| format!("{byte:02X}")).collect();
        text += &format!("    {:04X}: {:<47}  ....\n", 16 * index, words.join(" "));
    }
    text + "\n"
}

#[test]
fn of_thirty_tables_the_needed_ones_are_kept() {
    let first = ["ASF!", "BATB", "BGRT", "BOOT", "CSRT", "DBG2", "DBGP"].map(str::to_owned);
    let others = first.into_iter().chain((0..19).map(|number| format!("SS{number:02}")));
    let mut tables: Vec<(String, Vec<u8>)> = others.map(|signature| (signature, vec![0; 20])).collect();
    let ecam = [&[0; 8][..], &0xe000_0000u64.to_le_bytes(), &[0, 0, 0, 0x3f, 0, 0, 0, 0]].concat();
    tables.extend([("APIC".into(), vec![0; 8]), ("FACP".into(), vec![0; 200]), ("HPET".into(), vec![0; 20])]);
    tables.push(("MCFG".into(), ecam));
    tables.sort();
    assert_eq!(tables.len(), 30);
    let text: String = tables.iter().map(|(signature, body)| dumped(signature, body)).collect();
    let judged = judged(&[file("thirty.txt", &text)]);
    assert_eq!(judged.doubts, Vec::<String>::new());
    says(&judged, Verdict::Fail, "I/O APIC: the MADT has none");
    says(&judged, Verdict::Pass, "MCFG: segment 0, buses 0x0 to 0x3f at 0xe0000000");
}

#[test]
fn an_iommu_that_the_kernel_cannot_use_is_not_in_the_description() {
    let whole = judged(&[data("")]).description;
    assert!(whole.contains("pci_devices_iospace = 1"), "{whole}");
    let unit = |address: &str, version: &str, cap: u32| {
        format!("[    0.1] DMAR: dmar0: reg_base_addr {address} ver {version} cap {cap:x} ecap f010da\n")
    };
    let (three, four) = (1 << 9, 1 << 10);
    for (name, log, reason) in [
        ("six.txt", unit("fed90000", "6:0", four), "unit fed90000: version 6.0"),
        (
            "common.txt",
            unit("fed90000", "1:0", three) + &unit("fed91000", "1:0", four),
            "IOMMU: its units have no depth",
        ),
        ("neither.txt", unit("fed90000", "1:0", 0), "unit fed90000: tables of neither"),
    ] {
        let judged = judged(&[data(""), file(name, &log)]);
        says(&judged, Verdict::Fail, reason);
        assert!(!judged.description.contains("pci_devices_iospace"), "{}", judged.description);
        assert!(judged.description.contains("without-iommu"), "{}", judged.description);
    }
    let good = unit("fed90000", "1:0", three | four) + &unit("fed91000", "1:0", four);
    assert!(judged(&[data(""), file("good.txt", &good)]).description.contains("pci_devices_iospace = 1"));
}

#[test]
fn a_linux_that_does_not_know_the_multihit_bug_leaves_it_open() {
    let text = std::fs::read_to_string(data("cpuinfo")).unwrap();
    for (bugs, verdict, said) in [
        ("cpu_meltdown spectre_v1 mds swapgs", Verdict::Warn, "iTLB multihit: maybe"),
        ("spectre_v1 swapgs taa", Verdict::Pass, "iTLB multihit: no, by /proc/cpuinfo"),
        ("taa itlb_multihit", Verdict::Warn, "iTLB multihit: yes, by /proc/cpuinfo"),
    ] {
        let text = text.replace("cpu_meltdown spectre_v1 spectre_v2 l1tf mds itlb_multihit", bugs);
        assert!(text.contains(bugs));
        let judged = judged(&[file("bugs.txt", &text)]);
        says(&judged, verdict, said);
        assert_eq!(judged.description.contains("\nlarge_pages = true  # "), verdict == Verdict::Pass);
    }
}

#[test]
fn an_atom_is_without_the_multihit_bug() {
    let text = std::fs::read_to_string(data("cpuinfo")).unwrap().replace("l1tf mds itlb_multihit", "");
    for (model, verdict, said) in [
        ("92", Verdict::Pass, "iTLB multihit: no, by its model: large_pages = true"),
        ("142", Verdict::Warn, "iTLB multihit: maybe"),
    ] {
        let atom = text.replacen("model\t\t: 58", &format!("model\t\t: {model}"), 1);
        assert_ne!(atom, text);
        says(&judged(&[file(&format!("model-{model}.txt"), &atom)]), verdict, said);
    }
}

#[test]
fn the_captures_of_boards_with_an_iommu_keep_their_devices() {
    let imports = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    for name in ["bochs.txt", "pc.txt", "q35-msi.txt", "q35-nomsi.txt"] {
        let judged = judged(&[imports.join(name), data("acpidump")]);
        let text = &judged.description;
        assert!(text.contains("pci_devices = ["), "{name}: {text}");
        assert!(!text.contains("A device is left out"), "{name}: {text}");
        assert!(!text.contains("shows no IOMMU"), "{name}: {text}");
    }
}

#[test]
fn what_is_behind_one_bridge_is_a_group() {
    let imports = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    let text = std::fs::read_to_string(imports.join("pc.txt")).unwrap();
    let (_, card) = text.split_once("\n01:01.0 ").unwrap();
    let card = card.split_once("\n\n").map_or(card, |(card, _)| card);
    let group = "group 00:06.0: 01:01.0 01:02.0 have one owner";
    says(&judged(&[file("two-cards.txt", &format!("{text}\n\n01:02.0 {card}\n"))]), Verdict::Pass, group);
    let alone = judged(&[file("one-card.txt", &text)]);
    // Below 16, by /proc/interrupts, as `import` has it.
    says(&alone, Verdict::Pass, "pci 01:01.0: 8086:100e class 0200, INTA (source = 11)");
    assert!(!alone.report().contains("group "), "{}", alone.report());
}

#[test]
fn without_a_dump_of_each_function_no_group_is_shown() {
    let imports = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    let text = std::fs::read_to_string(imports.join("pc.txt")).unwrap();
    let (_, card) = text.split_once("\n01:01.0 ").unwrap();
    let card = card.split_once("\n\n").map_or(card, |(card, _)| card);
    // The last function has none.
    let bridge = "0e.0 PCI bridge: Intel Corporation Device 1234\n";
    let text = format!("{text}\n\n01:02.0 {card}\n\n00:{bridge}");
    let without = judged(&[file("no-dump.txt", &text)]);
    assert!(!without.report().contains("group 00"), "{}", without.report());
    assert!(without.doubts.iter().any(|doubt| doubt.contains("no groups of functions")), "{:?}", without.doubts);
    // That of another segment does not matter.
    let other =
        judged(&[file("other-segment.txt", &text.replace(&format!("00:{bridge}"), &format!("0001:00:{bridge}")))]);
    says(&other, Verdict::Pass, "group 00:06.0: 01:01.0 01:02.0 have one owner");
}

#[test]
fn a_console_that_is_not_com1_is_in_the_description() {
    for (uarts, line) in [(2, "console = { port = \"COM2\" }"), (0xc, "console = { port = \"COM3\" }")] {
        let mut facts = Facts { uarts: Some(uarts), ..Facts::default() };
        facts.memory.push(Range { start: 0x10_0000, length: 1 << 30, kind: 1 }).unwrap();
        let mut text = String::new();
        let mut block = Block::begin(&mut text).unwrap();
        block.facts(&facts).unwrap();
        block.end().unwrap();
        let judged = judged(&[file("uarts.txt", &text)]);
        assert!(judged.description.contains(line), "{}", judged.description);
    }
    assert!(!judged(&[file("com1.txt", &block())]).description.contains("console"));
}
