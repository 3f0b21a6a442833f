//! `cargo xtask import lspci` on captures of emulated boards, and on damaged ones.
//!
//! The captures in build/tests/import are of Linux 6.1 on Bochs's board (`bochs*.txt`) and on those of QEMU 7.2: `pc.txt`, with a
//! network card behind a bridge, and q35 with AHCI, in three forms: `q35-msi.txt` (`-nnvv`, with /proc/ioports and
//! /proc/interrupts in the same file), `q35-nomsi.txt` (`-vvxxx`, `pci=nomsi`) and `q35-brief.txt` (`-D -v`).
//! `PORTCULLIS_BLESS=1 cargo test -p xtask --test import` writes the expected sections anew.

use std::path::{Path, PathBuf};

use capdl_spec::host::{self, Mistake, Source};
use proptest::prelude::*;
use xtask::import::{Dma, Files, PciAddress, convert};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name)
}

fn addresses(text: &str) -> Vec<PciAddress> {
    text.split_whitespace().map(|word| word.parse().expect("an address")).collect()
}

fn section(files: &str, devices: &str, dma: Dma) -> String {
    let paths: Vec<PathBuf> = files.split_whitespace().map(data).collect();
    let files = Files::read(&paths).expect("captures");
    convert(&files, &addresses(devices), dma).unwrap_or_else(|error| panic!("{error:?}"))
}

/// The section is what it was, and a VM that has it is a description.
fn golden(expected: &str, files: &str, devices: &str, dma: Dma) {
    let section = section(files, devices, dma);
    let path = data(expected);
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        std::fs::write(&path, &section).expect("the section is written");
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(section, before, "differs from {}", path.display());
    check(&section);
}

/// Feeds a section to the real parser. Some captures do not say where a pin is, which is a mistake of the description's.
fn check(section: &str) {
    let vm = "[[vm]]\nname = \"linux\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n";
    let text = format!("board = \"pc\"\n{vm}{section}");
    if let Err(mistakes) = host::parse(Source { path: "imported.toml".into(), text: text.clone() }) {
        let said = mistakes.plain();
        let mut known = said.lines().filter(|line| !line.contains("known to the machine's firmware alone"));
        assert!(known.all(|line| line.starts_with("  ")), "{said}\n{text}");
    }
}

#[test]
fn bochs_board_with_ports_and_interrupts_in_a_second_file() {
    golden("bochs.toml", "bochs.txt bochs-proc.txt", "00:01.1 00:02.0 00:03.0", Dma::Trusted);
}

#[test]
fn bochs_board_without_the_second_file() {
    golden("bochs-alone.toml", "bochs.txt", "00:03.0", Dma::Domain);
}

#[test]
fn pc_with_ide_in_compatibility_mode_and_a_card_behind_a_bridge() {
    golden("pc.toml", "pc.txt", "00:01.1 01:01.0", Dma::Trusted);
}

#[test]
fn pc_whose_two_cards_share_a_line() {
    golden("pc-shared.toml", "pc.txt", "00:03.0 01:01.0", Dma::Domain);
}

#[test]
fn q35_with_msi_does_not_take_a_message_for_a_pin() {
    golden("q35-msi.toml", "q35-msi.txt", "00:1f.2 01:00.0", Dma::Domain);
}

#[test]
fn q35_without_msi_with_a_hex_dump() {
    golden("q35-nomsi.toml", "q35-nomsi.txt", "00:1f.2 00:05.0 01:00.0 00:01.0", Dma::Domain);
}

#[test]
fn q35_in_the_short_form_with_domains() {
    golden("q35-brief.toml", "q35-brief.txt", "0000:00:05.0 00:1f.3", Dma::Domain);
}

/// A capture of one function, in the middle of which `lines` stand.
fn one(lines: &str) -> String {
    format!("00:02.0 Ethernet controller: a card\n\tControl: I/O+ Mem+ BusMaster+\n{lines}\n")
}

fn of_text(text: &str) -> miette::Result<String> {
    let files = Files::new([Source { path: "board.txt".into(), text: text.to_owned() }]);
    convert(&files, &addresses("00:02.0"), Dma::Domain)
}

/// The lines of a section that are no comments.
fn values(lines: &str) -> String {
    let section = of_text(&one(lines)).unwrap_or_else(|error| panic!("{error:?}"));
    check(&section);
    section.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The line, the message and the remedy that a capture earns.
fn mistake(text: &str) -> (usize, String, String) {
    let report = of_text(text).expect_err("a mistake");
    let mistake = report.downcast_ref::<Mistake>().unwrap_or_else(|| panic!("without a place: {report:?}"));
    (mistake.line(), mistake.message.clone(), mistake.remedy.clone())
}

#[test]
fn memory_above_4_gib_is_kept_whole() {
    let values = values("\tRegion 0: Memory at 383ffff00000 (64-bit, prefetchable) [size=1M]\n\tIOMMU group: 7");
    assert!(values.contains("{ paddr = 0x383ffff00000, size = 0x100000, page_bits = 12 }"), "{values}");
    assert!(values.contains("pci_devices_iospace = 1  # bus master: Ethernet; board.txt:4 shows that"), "{values}");
}

#[test]
fn a_region_without_an_address_is_left_out() {
    for region in ["Memory at <unassigned> (64-bit, prefetchable) [size=1M]", "I/O ports at <ignored> [disabled]"] {
        let values = values(&format!("\tRegion 0: {region}"));
        assert!(values.contains("memory = []") && !values.contains("ioports"), "{values}");
    }
}

#[test]
fn bars_of_an_ide_channel_in_compatibility_mode_are_not_taken_for_memory() {
    let text = "00:02.0 IDE interface: an IDE (prog-if 8a [ISA Compatibility mode])\n\tControl: I/O+\n\
                \tRegion 0: [virtual] Memory at 000001f0 (32-bit, non-prefetchable) [size=8]\n\
                \tRegion 1: Memory at 000003f0 (type 3, non-prefetchable) [virtual]\n\
                \tRegion 4: I/O ports at f000 [size=16]\n";
    let section = of_text(text).unwrap_or_else(|error| panic!("{error:?}"));
    for range in
        ["0x1f0, end = 0x1f8", "0x3f6, end = 0x3f7", "0x170, end = 0x178", "0x376, end = 0x377", "0xf000, end = 0xf010"]
    {
        assert!(section.contains(range), "{range} in {section}");
    }
    assert!(section.contains("memory = []"), "{section}");
}

#[test]
fn an_ide_controller_in_native_mode_is_a_device_like_others() {
    let text = "00:02.0 IDE interface: an IDE (prog-if 8f [PCI native mode-only])\n\tControl: I/O+\n\
                \tInterrupt: pin B routed to IRQ 19\n\tRegion 0: I/O ports at 40c8 [size=8]\n";
    let section = of_text(text).unwrap_or_else(|error| panic!("{error:?}"));
    assert!(section.contains("start = 0x40c8, end = 0x40d0") && !section.contains("0x1f0"), "{section}");
    assert!(section.contains("source = 19, level_trig = 1, active_low = 1, dest = 11"), "{section}");
}

#[test]
fn an_interrupt_table_from_before_linux_4_names_the_pin_too() {
    let table = "           CPU0       CPU1\n 10:         20          0   IO-APIC-fasteoi   eth0\n";
    let section = of_text(&(one("\tInterrupt: pin A routed to IRQ 10") + table));
    let section = section.unwrap_or_else(|error| panic!("{error:?}"));
    assert!(section.contains("source = 10, level_trig = 1"), "{section}");
}

#[test]
fn interrupts_that_are_no_known_pin_are_explained() {
    let cases = [
        ("\tInterrupt: pin A routed to IRQ 10", "IRQ 10 is below 16"),
        ("\tInterrupt: pin A routed to IRQ 0", "IRQ 0 means that the firmware gave it none"),
        ("\tInterrupt: pin A routed to IRQ 40", "IRQ 40 is no input of the first I/O APIC"),
        (
            "\tInterrupt: pin A routed to IRQ 45\n\tCapabilities: [d0] MSI: Enable+ Count=1/1",
            "IRQ 45 is a message's number",
        ),
        ("\tCapabilities: <access denied>", "run lspci as root"),
    ];
    for (lines, reason) in cases {
        let section = of_text(&one(lines)).unwrap_or_else(|error| panic!("{error:?}"));
        assert!(section.contains(reason) && !section.contains("irqs = ["), "{section}");
    }
}

#[test]
fn damaged_lines_are_named_with_what_to_do() {
    let cases = [
        ("\tRegion 0: Memory at c05q0000 [size=4K]", "`c05q0000` is no address"),
        ("\tRegion 0: Memory at c0500000 [size=4Q]", "`4Q` is no size"),
        ("\tRegion 0: Memory at c0500000 [size=99999999999999T]", "`99999999999999T` is no size"),
        ("\tRegion 0: Memory at c0500000 [size=3K]", "a BAR of 0xc00 bytes cannot be at 0xc0500000"),
        ("\tRegion 0: Memory at c0500800 [size=4K]", "a BAR of 0x1000 bytes cannot be at 0xc0500800"),
        ("\tRegion 0: I/O ports at 13000 [size=32]", "ports end at 0xffff, but this BAR is at 0x13000"),
        ("\tRegion 0: I/O ports at 3000", "the region has no size"),
        ("\tRegion 0: Memory at 00003000 [size=4K]", "0x3000 is no physical address for a device's memory"),
        ("\tInterrupt: pin A routed to IRQ nineteen", "`nineteen` is no interrupt number"),
        ("00: 86 80 0e 10", "a line of the hex dump is not sixteen bytes"),
    ];
    for (line, message) in cases {
        let (number, found, remedy) = mistake(&one(line));
        assert_eq!((number, found.as_str()), (3, message));
        assert!(!remedy.is_empty());
    }
}

#[test]
fn a_hex_dump_that_contradicts_a_region_is_an_error_that_shows_both() {
    let zeros = ["00"; 15].join(" ");
    let dump = format!("00: 86 {zeros}\n10: 01 30 {}\n", ["00"; 14].join(" "));
    let text = one(&format!("\tRegion 0: I/O ports at 3020 [size=32]\n{dump}"));
    assert_eq!(mistake(&text).1, "this line says 0x3020, the hex dump has 0x00003001 at 0x10");
    assert!(of_text(&text.replace("3020", "3000")).is_ok());
}

#[test]
fn port_lists_are_compared_with_the_regions() {
    let ports = one("\tRegion 0: I/O ports at 3000 [size=32]") + "\n3000-300f : 0000:00:02.0\n";
    let (line, message, _) = mistake(&ports);
    assert_eq!(line, 5);
    assert!(message.starts_with("/proc/ioports has 3000-300f, but the BAR has 3000-301f (board.txt:3"), "{message}");
    let zeros = one("\tRegion 0: I/O ports at 3000 [size=32]") + "0000-0000 : dma1\n";
    assert_eq!(mistake(&zeros).2, "read it as root: sudo cat /proc/ioports");
}

#[test]
fn a_size_that_lspci_leaves_out_is_taken_from_the_port_list() {
    let text = one("\tRegion 0: I/O ports at 3000") + "3000-301f : 0000:00:02.0\n  3000-301f : e1000\n";
    let section = of_text(&text).unwrap_or_else(|error| panic!("{error:?}"));
    assert!(section.contains("start = 0x3000, end = 0x3020"), "{section}");
}

#[test]
fn ports_that_are_no_bar_are_listed_without_the_device() {
    let text = one("\tRegion 0: I/O ports at 3000 [size=32]") + "3000-301f : 0000:00:02.0\n0600-063f : 0000:00:02.0\n";
    let section = of_text(&text).unwrap_or_else(|error| panic!("{error:?}"));
    check(&section);
    // Power management is at such places: whether the guest may have that, the description has to say.
    assert!(section.contains("# { start = 0x600, end = 0x640, name = \"Ethernet\" },  # board.txt:5"), "{section}");
    let card = of_text(&text.replace("0600-063f", "0300-031f")).unwrap_or_else(|error| panic!("{error:?}"));
    check(&card);
    assert!(card.contains("\n    { start = 0x300, end = 0x320, name = \"Ethernet\" },  # board.txt:5"), "{card}");
}

#[test]
fn a_bar_on_the_mainboards_ports_is_a_damaged_line() {
    let (line, message, _) = mistake(&one("\tRegion 0: I/O ports at 00c0 [size=32]"));
    assert_eq!(line, 3);
    assert!(message.starts_with("no BAR is at 0xc0: that is the mainboard's, the DMA controller"), "{message}");
}

#[test]
fn memory_within_a_page_is_left_to_pci_server() {
    let values = values("\tRegion 0: Memory at c0500400 (32-bit, non-prefetchable) [size=1K]");
    assert!(!values.contains("memory"), "{values}");
}

#[test]
fn two_outputs_of_lspci_in_one_capture_are_one_too_many() {
    let (line, message, _) = mistake(&(one("") + &one("")));
    assert_eq!((line, message.as_str()), (4, "00:02.0 is here for the second time; board.txt:1 has it already"));
}

#[test]
fn what_cannot_be_passed_through_is_refused_with_the_reason() {
    let cases = [
        ("00:02.0 PCI bridge: a bridge\n\tControl: I/O+\n", "it is a bridge"),
        ("00:02.0 Class 0680: a bridge\n\tControl: I/O+\n", "it is a bridge"),
        ("00:02.0 Ethernet controller: a card\n", "nothing but its name"),
    ];
    for (text, reason) in cases {
        assert!(mistake(text).1.contains(reason), "{text}");
    }
    let other = of_text("00:03.0 Ethernet controller: a card\n\tControl: I/O+\n").expect_err("no such function");
    assert_eq!(other.to_string(), "board.txt has no function 00:02.0");
    assert!(other.help().is_some_and(|help| help.to_string().contains("00:03.0 Ethernet controller: a card")));
}

#[test]
fn a_file_without_functions_says_how_to_make_one() {
    for text in ["", "hello\n", "Slot:\t00:02.0\n"] {
        let report = of_text(text).expect_err("nothing in it");
        assert_eq!(report.to_string(), "no PCI function in board.txt");
        assert!(report.help().is_some_and(|help| help.to_string().contains("sudo lspci -vvxxx > FILE")));
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = of_text(&text);
    }

    #[test]
    fn no_mixture_of_known_words_makes_it_panic_and_every_section_is_a_description(
        words in proptest::collection::vec(prop::sample::select(WORDS), 0..60)
    ) {
        if let Ok(section) = of_text(&(one("") + &words.concat())) {
            check(&section);
        }
        if let Ok(section) = of_text(&format!("00:02.0 IDE interface: x\n\tFlags: bus master\n{}", words.concat())) {
            check(&section);
        }
    }

    #[test]
    fn no_damage_to_a_capture_makes_it_panic(at in 0usize..13_000, length in 0usize..40, byte in any::<u8>()) {
        let mut bytes = std::fs::read(data("pc.txt")).expect("a capture");
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, [byte]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let files = Files::new([Source { path: "pc.txt".into(), text }]);
        for device in ["00:01.1", "00:02.0", "01:01.0"] {
            if let Ok(section) = convert(&files, &addresses(device), Dma::Domain) {
                check(&section);
            }
        }
    }
}

/// What lines are made of.
const WORDS: &[&str] = &[
    "\n",
    "\n\t",
    "\n  ",
    " ",
    "Region 0: ",
    "Region 9: ",
    "[virtual] ",
    "I/O ports at ",
    "Memory at ",
    "0",
    "ffff",
    "c0500000",
    "ffffffffffffffff",
    "ffff800000000000",
    "10000",
    "3000",
    "<unassigned>",
    " [size=32]",
    " [size=4K]",
    " [size=16777216T]",
    " [disabled]",
    "Interrupt: pin A routed to IRQ 19",
    "Interrupt: pin ? routed to IRQ 4294967295",
    "Flags: bus master, IRQ 5",
    "Capabilities: [40] MSI: Enable+",
    "00: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    "10: ",
    "CPU0",
    " 5: 1 XT-PIC x",
    "19: 7 IO-APIC 19-fasteoi x",
    "3000-301f : 0000:00:02.0",
    "0000-0000 : x",
    "ffff-ffff : 0000:00:02.0",
    "00:02.0 ",
    "00:02.1 IDE interface: x",
    "(prog-if 8a)",
    "é",
    "\u{0}",
    "\"",
    "IOMMU group: 3",
    "Expansion ROM at ",
];
