//! `cargo xtask doctor --board FILE…`: judges a board by the probe's serial log or by Linux' files, and writes a description
//! to start from.

mod groups;

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use capdl_spec::host::{self, Source};
use layout::Bdf;
use miette::{IntoDiagnostic, Result, miette};
use probe::acpi;
use probe::pci::Config;
use probe::{Facts, Sink, Verdict, judge};

use crate::import::capture::{self, Capture, Function};
use crate::import::facts::Known;
use crate::import::{self, Dma, Files, PciAddress, class, device};

/// Bytes of configuration space from which its capabilities are known.
const WITH_CAPABILITIES: usize = 256;
/// Bytes of configuration space that say whether a function is a bridge, and to which buses.
const WITH_HEADER: usize = 64;
/// What is read.
const WANTED: &str = "the files should hold the serial log of `cargo xtask image probe`, or of Linux on the board: /proc/cpuinfo, \
                      /proc/iomem, /proc/interrupts, and the outputs of `sudo lspci -vvxxx` and `sudo acpidump`";
/// The smallest ACPI table is its header.
const HEADER: usize = 36;

/// The result.
#[derive(Debug)]
pub struct Judged {
    /// A line for each thing that matters.
    pub lines: Vec<(Verdict, String)>,
    /// What is doubtful about the files, a sentence each.
    pub doubts: Vec<String>,
    /// A description to start from.
    pub description: String,
}

impl Judged {
    /// The lines and how many of each there are.
    pub fn report(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for doubt in &self.doubts {
            let _ = writeln!(text, "????  {doubt}");
        }
        for (verdict, line) in &self.lines {
            let _ = writeln!(text, "{verdict}  {line}");
        }
        let count = |wanted| self.lines.iter().filter(|(verdict, _)| *verdict == wanted).count();
        let [pass, warn, fail] = [Verdict::Pass, Verdict::Warn, Verdict::Fail].map(count);
        let _ =
            writeln!(text, "{pass} PASS, {warn} WARN, {fail} FAIL (docs/hardware.md). A description to start from:");
        text
    }
}

impl Sink for Judged {
    fn line(&mut self, verdict: Verdict, topic: fmt::Arguments, reason: fmt::Arguments) {
        self.lines.push((verdict, format!("{topic}: {reason}")));
    }
}

/// Judges what the files say; folders are read whole.
pub fn judge_files(paths: &[PathBuf]) -> Result<Judged> {
    let (files, tables) = read(paths)?;
    let known = Known::read(&files, tables);
    let mut capture = capture::parse(&files)?;
    let facts = known.facts();
    if facts.leaves.is_empty() && facts.tables.is_empty() && facts.memory.is_empty() && capture.functions.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(miette!(help = WANTED, "nothing about a board in {}", names.join(", ")));
    }
    let mut judged = Judged { lines: Vec::new(), doubts: known.doubts.clone(), description: String::new() };
    judge::judge(&facts, &mut judged);
    for function in capture.functions.iter().filter(|function| function.address.segment == 0) {
        if function.dump.bytes().len() >= WITH_CAPABILITIES {
            let config = Config(function.dump.bytes());
            let source = source(&files, &capture, function);
            judge::function(function.address.bdf, config, function.acs, source, &mut judged);
        }
    }
    judge_groups(&capture.functions, &mut judged);
    if capture.functions.iter().any(|function| function.dump.bytes().len() < WITH_CAPABILITIES) {
        judged.doubts.push("some PCI functions have no full hex dump: sudo lspci -vvxxx".into());
    }
    capture.has_dmar |= facts.table(b"DMAR").is_some();
    judged.description = describe(&files, &mut capture, &facts);
    Ok(judged)
}

/// A line for each group with several functions that could be passed through.
fn judge_groups(functions: &[Function], judged: &mut Judged) {
    let functions = functions.iter().filter(|function| function.address.segment == 0);
    let known: Vec<(Bdf, Config<'_>)> =
        functions.map(|function| (function.address.bdf, Config(function.dump.bytes()))).collect();
    if known.iter().any(|(_, config)| config.0.len() < WITH_HEADER) {
        let doubt =
            "no groups of functions are shown: those without a hex dump may be bridges, which make groups larger";
        judged.doubts.push(doubt.into());
        return;
    }
    for (root, members) in groups::of(&known) {
        let members: Vec<String> = members.iter().map(Bdf::to_string).collect();
        let what = format_args!("{} have one owner, or group = \"trusted\"", members.join(" "));
        judged.line(Verdict::Pass, format_args!("group {root}"), what);
    }
}

/// The input of the I/O APIC that the capture says, as `import` reads it.
fn source(files: &Files, capture: &Capture, function: &Function) -> Option<u8> {
    // What is wrong with the capture, `import` says where a description is written.
    device::needs(files, capture, function).ok()?.input.map(|input| input.pin)
}

/// The files' texts, and those that are ACPI tables.
fn read(paths: &[PathBuf]) -> Result<(Files, Vec<Vec<u8>>)> {
    let (mut texts, mut tables) = (Vec::new(), Vec::new());
    for path in expanded(paths)? {
        let bytes =
            std::fs::read(&path).map_err(|error| miette!(help = WANTED, "cannot read {}: {error}", path.display()))?;
        let length =
            bytes.get(4..8).map(|length| length.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)));
        if bytes.len() >= HEADER && length == Some(bytes.len()) && acpi::is_whole(&bytes) {
            tables.push(bytes);
        } else {
            texts.push(Source { path, text: String::from_utf8_lossy(&bytes).into_owned() });
        }
    }
    Ok((Files::new(texts), tables))
}

/// Folders become the files in them.
fn expanded(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).into_diagnostic()?;
        let mut inside: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

/// A description with a small guest, and, where an IOMMU confines them, a disk controller and a network card.
fn describe(files: &Files, capture: &mut Capture, facts: &Facts) -> String {
    let mut text = format!("# A description to start from, by `cargo xtask doctor --board` from {}.\n", files.names());
    // Writing to a String cannot fail.
    let _ = match judge::board(facts) {
        Some(board) => writeln!(text, "board = \"{board}\""),
        None if facts.msrs.is_empty() => {
            writeln!(text, "board = \"pc\"  # the files do not say what the processor has")
        }
        None => writeln!(text, "board = \"pc\"  # no kernel runs on this processor as it is set up"),
    };
    text.push_str(&console(facts));
    text.push_str(
        "\n[[vm]]\nname = \"linux\"\nmemory = \"128 MiB\"\nkernel = \"debian-686\"\ninitrd = \"debian-busybox\"\n",
    );
    if let Some((false, by)) = judge::multihit(facts) {
        let _ = writeln!(text, "large_pages = true  # the processor is without the erratum \"iTLB multihit\", by {by}");
    }
    let devices = devices(capture);
    if devices.is_empty() {
        return text;
    }
    let names: Vec<String> = devices.iter().map(PciAddress::to_string).collect();
    if facts.tables.is_empty() && facts.rsdp.is_none() {
        text.push_str(
            "# Whether the kernel can use an IOMMU of this board, to pass devices through, is in the output of \
             `sudo acpidump`.\n",
        );
        return text;
    }
    if !judge::iommu_is_usable(facts) {
        if facts.table(b"DMAR").is_some() {
            text.push_str(
                "# The kernel cannot use the IOMMU of this board: see what FAILs. At its boot menu: without-iommu.\n",
            );
        }
        let _ = writeln!(
            text,
            "# Without an IOMMU a device that is bus master reaches all memory. For one that is trusted with that:\n\
             # cargo xtask import lspci FILE --trusted --device {}",
            names.join(" --device ")
        );
        return text;
    }
    let (mut kept, mut sections, mut why) = (Vec::new(), String::new(), String::new());
    for device in devices {
        kept.push(device);
        let section = import::section(files, capture, &kept, Dma::Domain).map_err(|error| error.to_string());
        match section.and_then(|section| valid(&format!("{text}{section}")).map(|()| section)) {
            Ok(section) => sections = format!("\n{section}"),
            Err(reason) => {
                kept.pop();
                let _ = writeln!(why, "{device}: {reason}");
            }
        }
    }
    text + &commented(&why) + &sections
}

/// The line for the console, if the probe's UARTs are not where it is without one.
fn console(facts: &Facts) -> String {
    match facts.uarts.map(u8::trailing_zeros) {
        Some(first @ 1..4) => {
            format!("console = {{ port = \"COM{}\" }}  # no UART answers at COM1's ports\n", first + 1)
        }
        _ => String::new(),
    }
}

/// Why a device is left out.
fn commented(why: &str) -> String {
    let lines: String = why.lines().map(|line| format!("# {line}\n")).collect();
    if why.is_empty() { lines } else { format!("# A device is left out:\n{lines}") }
}

/// Whether a description is right, or what is wrong with it.
fn valid(text: &str) -> Result<(), String> {
    let source = Source { path: Path::new("board.toml").into(), text: text.to_owned() };
    host::parse(source).map(drop).map_err(|mistakes| mistakes.plain())
}

/// The first disk controller and the first network card. Their drivers will make them bus masters, whatever they were.
fn devices(capture: &mut Capture) -> Vec<PciAddress> {
    const DISKS: u16 = 0x01;
    const NETWORKS: u16 = 0x02;
    let mut found = Vec::new();
    for base in [DISKS, NETWORKS] {
        let fits = |function: &&mut Function| {
            device::refusal(function).is_none()
                && class::number(&function.class).is_some_and(|class| class >> 8 == base)
        };
        if let Some(function) = capture.functions.iter_mut().find(fits) {
            function.bus_master = true;
            found.push(function.address);
        }
    }
    found
}
