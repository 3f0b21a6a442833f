//! pci-server, irq-server and the IOMMU on QEMU's Q35 board, where no guest runs: the clients of tests/components take
//! the place of a vmm-server (tests/systems/q35-ahci.toml). Their findings are compared with QEMU's own view of its
//! board.

use std::path::{Path, PathBuf};

use capdl_spec::host::{self, Mistakes, Source, System};
use miette::{Result, ensure};
use serde_json::{Value, json};

use super::components::{lines, verdict};
use super::q35::{self, until};
use crate::kernel;
use crate::project::{self, Project};
use crate::qemu::Machine;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Components, "dma-stays-within-its-domain", dma)]
}

/// Cards on the board beside the disk: one whose owner may not use DMA, one whose owner's memory is at a known address,
/// one behind a bridge, one whose memory leaves no room below 4 GiB, and one whose memory is above it therefore, behind
/// another host bridge, whose bus is 0x80.
const DEVICES: [&str; 8] = [
    "e1000e,addr=2,romfile=",
    "e1000e,addr=3,romfile=",
    "pcie-root-port,id=bridge,addr=4,chassis=1",
    "e1000e,bus=bridge,romfile=",
    "pci-testdev,addr=5,membar=2G",
    "pxb-pcie,id=second,addr=6,bus_nr=128",
    "pcie-root-port,id=below,bus=second,chassis=2",
    "virtio-net-pci,bus=below,id=high,disable-legacy=on,romfile=",
];
/// QEMU fills up the name with spaces.
const MODEL: &str = "PORTCULLIS";
const SECTORS: u32 = 8192;
/// Names in VT-d's reports, of bus, device and function: the disk at 00:1f.2, and the trusted card at 00:03.0.
const DISK: &str = "0xfa";
const CARD: &str = "0x18";
/// The address and contents of the canary's memory (tests/components/src/dma.rs).
const CANARY_AT: u64 = 0x400_0000;
const CANARY: u64 = 0x6361_6e61_7279_2121;
const CANARY_BYTES: u64 = 0x1_0000;

fn dma(context: &Context) -> Result<Outcome> {
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    let mut machine = q35::boot(context, "q35-ahci", system(&context.project)?, |dir, options| {
        options.disk = Some((format!("snapshot=on,file={}", disk(dir)?.display()), MODEL));
        options.devices = DEVICES.map(str::to_owned).into();
        options.acpi_tables = vec![format!("sig=DMAR,data={}", reservations(dir)?.display())];
        Ok(())
    })?;
    let text = until(&mut machine, "disk: listed")?;
    // At once: when the disk's owner has stopped, pci-server resets the disk, and its registers are gone for a moment.
    let functions = same_functions(&text, &machine.ask("query-pci", json!({}))?)?;
    // The components' lines come in any order.
    machine.console.rewind();
    until(&mut machine, "high: waits for a message")?;
    // The state of a card's link is in its configuration.
    machine.ask("set_link", json!({ "name": "high", "up": false }))?;
    until(&mut machine, "high: verdict: ")?;
    machine.console.rewind();
    let text = until(&mut machine, "disk: verdict: ")?;
    let disk = format!("disk `{MODEL}`, {SECTORS} sectors");
    ensure!(lines(&text, "disk").filter(|line| *line == disk).count() == 2, "no two lines `{disk}`:\n{text}");
    let kept = text.matches("registering RMRR entry").count();
    ensure!(kept == 3, "the kernel has read {kept} of the firmware's reservations:\n{text}");
    // The pin of the disk's function, where the chipset is known to have it.
    let pin = "irq-server: `AHCI`: I/O APIC 0 pin 16, level";
    ensure!(text.contains(pin), "no line `{pin}`:\n{text}");
    let checks = verdict(&text, "disk")? + verdict(&text, "card")? + verdict(&text, "high")?;
    intact(&mut machine)?;
    // By two patches of ours; other kernels have words of their own, if any.
    let left = if kernel::are_own() {
        "; left out on a kernel of your own: stray interrupts and NMIs"
    } else {
        interrupts_are_ignored(&text)?;
        ""
    };
    let faults = reported(&text)?;
    Ok(Outcome::Passed(format!(
        "{functions} functions, {checks} checks, {faults} transfers refused and reported{left}"
    )))
}

/// The board with its components. Of other kernels, most do not survive what the disk does with the right to interrupt.
fn system(project: &Project) -> Result<System> {
    let path = project.root.join("tests/systems/q35-ahci.toml");
    let text = String::from_utf8_lossy(&project::read(&path)?).into_owned();
    let text = if kernel::are_own() { text.replace(" interrupts\"", "\"") } else { text };
    host::parse(Source { path, text }).map_err(Mistakes::report)
}

/// A disk in which every word encodes its position: word `n` of sector `s` is `s << 16 | n`.
fn disk(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("disk.img");
    let words = (0..SECTORS).flat_map(|sector| (0..512 / 4).map(move |n| sector << 16 | n));
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    project::write(&path, &bytes)?;
    Ok(path)
}

/// What firmware adds to the board's table of IOMMUs when it reserves memory for devices (VT-d specification, section 8.1
/// and 8.4). Here the disk may use the canary's first page, and two functions that are not there take further domains.
fn reservations(dir: &Path) -> Result<PathBuf> {
    // Of the table: 39 bits of address. Of each structure: type 1, 32 bytes, segment 0; first and last byte.
    let mut table = vec![39 - 1];
    table.resize(12, 0);
    for [device, function] in [[0x1a, 0], [0x1d, 0], [0x1f, 2]] {
        table.extend([1, 0, 32, 0, 0, 0, 0, 0]);
        table.extend(CANARY_AT.to_le_bytes());
        table.extend((CANARY_AT + 0xfff).to_le_bytes());
        // Of its one device: a PCI endpoint, 8 bytes, on bus 0.
        table.extend([1, 8, 0, 0, 0, 0, device, function]);
    }
    let path = dir.join("dmar.bin");
    project::write(&path, &table)?;
    Ok(path)
}

/// pci-server's list equals QEMU's. Returns the number of functions.
fn same_functions(text: &str, board: &Value) -> Result<usize> {
    let mut expected = Vec::new();
    for bus in board.as_array().into_iter().flatten() {
        describe(bus, &mut expected);
    }
    let mut found: Vec<&str> =
        lines(text, "disk").filter(|line| line.starts_with("function ") || line.starts_with("bar ")).collect();
    found.sort_unstable();
    expected.sort_unstable();
    ensure!(found == expected, "pci-server lists\n{}\nQEMU has\n{}", found.join("\n"), expected.join("\n"));
    Ok(found.iter().filter(|line| line.starts_with("function ")).count())
}

/// What the client prints of the functions of a bus, and of those behind its bridges.
fn describe(bus: &Value, into: &mut Vec<String>) {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    for device in bus["devices"].as_array().into_iter().flatten() {
        let id = &device["id"];
        let address =
            format!("{:02x}:{:02x}.{}", number(&device["bus"]), number(&device["slot"]), number(&device["function"]));
        into.push(format!(
            "function {address} {:04x}:{:04x} {:04x}:{:04x} class {:04x} pin {}",
            number(&id["vendor"]),
            number(&id["device"]),
            number(&id["subsystem-vendor"]),
            number(&id["subsystem"]),
            number(&device["class_info"]["class"]),
            number(&device["irq_pin"]),
        ));
        // The seventh is the expansion ROM's.
        let regions = device["regions"].as_array().into_iter().flatten();
        for region in regions.filter(|region| number(&region["bar"]) < 6) {
            let kind = match (region["type"].as_str(), region["mem_type_64"].as_bool()) {
                (Some("io"), _) => "io",
                (_, Some(true)) => "memory64",
                _ => "memory",
            };
            let (bar, at, size) = (number(&region["bar"]), number(&region["address"]), number(&region["size"]));
            into.push(format!("bar {address} {bar} {kind} {at:#x} {size:#x}"));
        }
        describe(&device["pci_bridge"], into);
    }
}

/// The kernel has reported the disk at each address that it tried to access, the card once, and no other function.
/// Returns the number of reports.
fn reported(text: &str) -> Result<usize> {
    let all: Vec<(&str, u64)> = text.split("IOMMU: DMA ").skip(1).filter_map(report).collect();
    let (reports, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(source, _)| *source == DISK);
    let card = !others.is_empty() && others.iter().all(|other| *other == (CARD, CANARY_AT));
    ensure!(card, "the kernel reports {others:x?} beside the disk, and should just the card:\n{text}");
    ensure!(lines(text, "canary").any(|line| line == "the card reads: Ok(())"), "the card is not set up:\n{text}");
    let aims: Vec<u64> =
        lines(text, "disk").filter_map(|line| u64::from_str_radix(line.strip_prefix("aims at 0x")?, 16).ok()).collect();
    for aim in &aims {
        // A sector that crosses the domain's end is stopped there. The report has the page.
        let pages = [aim & !0xfff, (aim + 511) & !0xfff];
        let hit = reports.iter().any(|(_, at)| pages.contains(&(at & !0xfff)));
        ensure!(hit, "the kernel does not report an access to {aim:#x}:\n{text}");
    }
    ensure!(aims.len() == 7, "{} aims", aims.len());
    Ok(aims.len() + 1)
}

/// Source and address: `write page fault from bus/dev/fun 0xfa on address 0x0:4000000 with reason code 0x5`, or
/// `from 0xfa (bus: …) on address …` in later releases.
fn report(line: &str) -> Option<(&str, u64)> {
    let rest = line.split_once(" from ")?.1;
    let (source, rest) = rest.trim_start_matches("bus/dev/fun ").split_once(' ')?;
    let rest = rest.split_once("on address 0x")?.1;
    let (high, rest) = rest.split_once(':')?;
    let (low, _) = rest.split_once(' ')?;
    Some((source, u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?))
}

/// The kernel has counted interrupt messages that no process has set up, with exceptions' vectors and others, and NMIs.
fn interrupts_are_ignored(text: &str) -> Result<()> {
    let strays = text.split("Interrupt with vector ").skip(1);
    let vectors: Vec<u32> = strays.filter_map(|line| line.split_once(',')?.0.parse().ok()).collect();
    let of = |range: std::ops::RangeInclusive<u32>| vectors.iter().any(|vector| range.contains(vector));
    ensure!(of(16..=31) && of(158..=255), "the kernel reports vectors {vectors:?}:\n{text}");
    ensure!(text.contains("NMI: port 0x61 reads "), "the kernel reports no NMI:\n{text}");
    Ok(())
}

/// Afterwards the canary finds its memory intact, and so does QEMU at its physical address, which the DMA had targeted.
fn intact(machine: &mut Machine) -> Result<()> {
    let line = format!("canary: {CANARY:#x} in {CANARY_BYTES:#x} bytes at {CANARY_AT:#x} ");
    machine.console.skip();
    // The first round may have begun before.
    for _ in 0..2 {
        let text = until(machine, &line)?;
        ensure!(!text.contains(" damaged, round "), "the canary's memory is damaged:\n{text}");
    }
    for at in (CANARY_AT..CANARY_AT + CANARY_BYTES).step_by(0x200) {
        let word = machine.physical_word(at)?;
        ensure!(word == CANARY, "at {at:#x} QEMU's memory has {word:#x}");
    }
    Ok(())
}

#[cfg(test)]
mod unit {
    #[test]
    fn reports_of_old_and_of_current_kernels_are_read() {
        for line in [
            "write page fault from bus/dev/fun 0xfa on address 0x1:4000000 with reason code 0x5",
            "write page fault from 0xfa (bus: 0x0/dev: 0x1f/fun: 0x2) on address 0x1:4000000 with reason code 0x5",
        ] {
            assert_eq!(super::report(line), Some(("0xfa", 0x1_0400_0000)), "{line}");
        }
    }
}
