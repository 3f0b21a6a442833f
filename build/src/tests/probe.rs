//! The probe (docs/hardware.md, "Before the first boot"): on two processors of Bochs, which have VT-x, and on QEMU's Q35 board
//! with an IOMMU, by BIOS and by UEFI, which has none.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use capdl_spec::host::{self, Source};
use miette::{IntoDiagnostic, Result, WrapErr, bail, ensure, miette};

use super::{q35, screen};
use crate::bochs::{self, last_lines};
use crate::qemu::{self, Loader};
use crate::test::{Context, Group, Outcome, Test, passed};
use crate::{board, console::Console, image, project};

pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Components, name, run);
    vec![
        test("a-probe-says-what-a-haswell-has", |context| in_bochs(context, "corei7_haswell_4770", "pc-modern", &[])),
        test("a-probe-says-what-an-ivy-bridge-lacks", |context| {
            in_bochs(context, "corei7_ivy_bridge_3770k", "pc", &["WARN INVPCID: none", "WARN 1 GiB pages: none"])
        }),
        test("a-probe-names-a-processor-without-64-bit-mode", too_old),
        test("a-probe-starts-by-bios-without-an-8254", |context| on_q35(context, false)),
        test("a-probe-starts-by-uefi", |context| on_q35(context, true)),
    ]
}

/// How long a probe may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
/// The last line.
const DONE: &str = "Portcullis probe: done.";

/// All that the probe prints.
fn printed(console: &mut Console) -> Result<String> {
    let found = console.expect(DONE, LIMIT);
    found.into_diagnostic().wrap_err_with(|| last_lines(&console.transcript(), 30))?;
    Ok(String::from_utf8_lossy(&console.transcript()).into_owned())
}

/// The lines are there, and no other line has failed.
fn says(text: &str, lines: &[&str], failed: &[&str]) -> Result<Outcome> {
    let said = text.split("==== Portcullis probe: begin").next().unwrap_or_default().replace('\r', "");
    for line in lines.iter().chain(failed) {
        ensure!(said.lines().any(|said| said.starts_with(line)), "no line `{line}`:\n{text}");
    }
    let failures: Vec<&str> = said.lines().filter(|line| line.starts_with("FAIL ")).collect();
    ensure!(failures.len() == failed.len(), "{failures:#?}");
    let counts = text.lines().find(|line| line.contains(" WARN, ")).ok_or_else(|| miette!("no counts:\n{text}"))?;
    Ok(Outcome::Passed(counts.split('.').next().unwrap_or_default().to_owned()))
}

/// What `doctor --board` makes of the console: a whole block, the same verdicts, and a valid description with these lines.
fn judged(dir: &Path, lines: &[&str]) -> Result<()> {
    let log = dir.join("console.txt");
    let judged = board::judge_files(std::slice::from_ref(&log))?;
    ensure!(judged.doubts.is_empty(), "{:#?}", judged.doubts);
    let printed = String::from_utf8_lossy(&project::read(&log)?).replace('\r', "");
    // Groups are the doctor's alone, who has all functions at once.
    for (verdict, line) in judged.lines.iter().filter(|(_, line)| !line.starts_with("group ")) {
        ensure!(
            printed.contains(&format!("{verdict} {line}\n")),
            "the probe does not say `{verdict} {line}`:\n{printed}"
        );
    }
    let text = judged.description.clone();
    for line in lines {
        ensure!(text.contains(line), "no `{line}` in\n{text}");
    }
    host::parse(Source { path: log, text }).map(drop).map_err(|mistakes| mistakes.report())
}

fn in_bochs(context: &Context, processor: &str, board: &str, more: &[&str]) -> Result<Outcome> {
    let mut options = bochs::Options::new("test-probe", &image::probe(&context.project)?);
    options.memory_mib = 512;
    options.processor = processor.to_owned();
    options.extra = vec!["com2: enabled=1, mode=file, dev=com2.txt".into()];
    let mut machine = bochs::Machine::boot(&context.project, &options)?;
    let text = printed(&mut machine.console)?;
    machine.stop();
    let com2 = String::from_utf8_lossy(&project::read(&machine.dir().join("com2.txt"))?).into_owned();
    // The emulator writes the file in pieces.
    ensure!(com2.contains("PASS VT-x: CPUID has it\r\n"), "COM2 has only:\n{com2}");
    judged(machine.dir(), &[&format!("board = \"{board}\"\n"), "--trusted --device 00:01.1"])?;
    let kernel = format!("PASS kernel: board = \"{board}\"");
    let lines = [
        "PASS processor: GenuineIntel family 6 model 0x3",
        "PASS VT-x: CPUID has it",
        "PASS VT-x lock: ",
        "PASS EPT: yes",
        "PASS VPID: yes",
        "PASS unrestricted guest: yes",
        "PASS VT-x controls: all",
        "PASS APIC mode: xAPIC mode",
        "PASS 8254: counts; the TSC by it: ",
        "PASS PM timer: counts; the TSC by it: ",
        "PASS APIC timer: counts at ",
        "PASS firmware: BIOS",
        "PASS ACPI: RSDP revision ",
        "PASS I/O APIC: ",
        "PASS override: ISA interrupt 0 arrives at input 2, edge",
        "WARN DMAR: no IOMMU",
        "PASS memory: ",
        "PASS pci 00:01.0: 8086:7000 class 0601",
        &kernel,
    ];
    says(&text, &[&lines[..], more].concat(), &[])
}

/// The processor is a Pentium 4, on which no 64-bit code runs.
fn too_old(context: &Context) -> Result<Outcome> {
    let mut options = bochs::Options::new("test-probe-too-old", &image::probe(&context.project)?);
    options.memory_mib = 512;
    options.processor = "p4_willamette".to_owned();
    let mut machine = bochs::Machine::boot(&context.project, &options)?;
    let found = machine.console.expect("FAIL 64-bit mode: this processor has none", LIMIT);
    found.into_diagnostic().wrap_err_with(|| last_lines(&machine.console.transcript(), 30))?;
    passed()
}

/// The screen shows the last lines of what the probe has printed, less the block, and nothing else.
fn shown(
    machine: &mut qemu::Machine,
    screen: fn(&mut qemu::Machine) -> Result<screen::Lines>,
    printed: &str,
) -> Result<()> {
    let printed = printed.replace('\r', "");
    let block = printed.find("==== Portcullis probe: begin").zip(printed.find("What is not PASS, again:"));
    let (Some((begin, end)), Some(done)) = (block, printed.find(DONE)) else { bail!("no block:\n{printed}") };
    let printed = format!("{}{}{DONE} Switch off.\n", &printed[..begin], &printed[end..done]);
    let limit = Instant::now() + LIMIT;
    loop {
        let (lines, columns) = screen(machine)?;
        let expected: Vec<&str> = printed.split('\n').flat_map(|line| wrapped(line, columns)).collect();
        if expected.ends_with(&lines.iter().map(String::as_str).collect::<Vec<_>>()) {
            return Ok(());
        }
        let (lines, expected) = (lines.join("\n"), expected.join("\n"));
        ensure!(Instant::now() < limit, "{columns} columns show\n{lines}\nnot the end of\n{expected}");
        thread::sleep(Duration::from_millis(500));
    }
}

/// A line of ASCII, as a screen shows it.
fn wrapped(line: &str, columns: usize) -> Vec<&str> {
    match line.is_empty() {
        true => vec![line],
        false => (0..line.len()).step_by(columns).map(|at| line[at..line.len().min(at + columns)].trim_end()).collect(),
    }
}

/// Functions with pins, and what the probe says of them: on a Q35 board it knows the wiring of devices 25 to 29 and 31, by the
/// registers of the ICH9. The inputs are those of QEMU's chipset, as a test of pci-server has them.
const WITH_PINS: [(&str, &str, &str); 12] = [
    // The ICH9 has no registers for these, which other chipsets have; QEMU wires them to 20 and 22.
    ("14.0", "edu", "INTA"),
    ("16.0", "edu", "INTA"),
    ("19.0", "edu", "INTA (source = 16)"),
    ("1a.0", "edu", "INTA (source = 16)"),
    ("1b.0", "edu", "INTA (source = 16)"),
    ("1c.0", "edu", "INTA (source = 16)"),
    ("1d.0", "ich9-usb-uhci1", "INTA (source = 16)"),
    ("1d.1", "ich9-usb-uhci2", "INTB (source = 17)"),
    ("1d.2", "ich9-usb-uhci3", "INTC (source = 18)"),
    ("1d.7", "ich9-usb-ehci1", "INTD (source = 19)"),
    // Wired to 20, but the chipset's register reads zero.
    ("1e.0", "edu", "INTA"),
    ("1f.4", "edu", "INTA (source = 16)"),
];

fn on_q35(context: &Context, uefi: bool) -> Result<Outcome> {
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    let iso = image::probe(&context.project)?;
    let name = if uefi { "test-probe-uefi" } else { "test-probe-bios" };
    let mut options = qemu::Options::new(name, Loader::Iso { iso, uefi, usb: !uefi });
    if !uefi {
        options.machine = ",pit=off";
    }
    options.devices = ["e1000e", "pcie-root-port,id=port1,bus=pcie.0", "VGA"].map(str::to_owned).to_vec();
    options.devices.extend(WITH_PINS.map(|(at, device, _)| format!("{device},addr={at},multifunction=on")));
    let mut machine = qemu::Machine::boot(&context.project, &options)?;
    let text = printed(&mut machine.console)?;
    shown(&mut machine, if uefi { screen::pixels } else { screen::text }, &text)?;
    let devices = ["pci_devices_iospace = 1", "name = \"SATA\", bus = 0, dev = 0x1f, fun = 2", "source = 16"];
    judged(machine.dir(), &devices)?;
    let [firmware, pit] = match uefi {
        true => ["PASS firmware: UEFI", "PASS 8254: counts; the TSC by it: "],
        false => ["PASS firmware: BIOS", "WARN 8254: does not count: timer-server uses the HPET"],
    };
    let lines = [
        firmware,
        pit,
        "PASS PM timer: counts; the TSC by it: ",
        "PASS HPET: counts; the TSC by it: ",
        "PASS MCFG: segment 0, buses 0x0 to ",
        "PASS DMAR unit: at 0xfed90000, for ",
        "PASS unit fed90000: version 1.0",
        "PASS unit fed90000: tables of three",
        "PASS pci 00:1f.2: 8086:2922 class 0106, MSI, INTA (source = 16)",
        "PASS memory: ",
    ];
    for (at, _, pin) in WITH_PINS {
        let mut said = text.lines().filter(|line| line.starts_with(&format!("PASS pci 00:{at}: ")));
        ensure!(said.any(|line| line.contains(&format!(", {pin},"))), "00:{at} is not at {pin}:\n{text}");
    }
    says(&text, &lines, &["FAIL VT-x: CPUID does not show it", "FAIL kernel: none runs on this processor"])
}
