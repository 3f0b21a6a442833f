//! pci-server, irq-server and the IOMMU on QEMU's Q35 board, where no guest runs: the clients of tests/components take
//! the place of a vmm-server (tests/systems/q35-ahci.toml). Their findings are compared with QEMU's own view of its
//! board.

use std::path::{Path, PathBuf};

use capdl_spec::host::{self, Mistakes, Source, System};
use miette::{Result, ensure};
use serde_json::{Value, json};

use super::components::{lines, verdict};
use super::q35::{self, until};
use crate::kernel::{self, Build};
use crate::project::{self, Project};
use crate::qemu::Machine;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Components, "dma-stays-within-its-domain", |context| dma(context, ",aw-bits=48", 4)),
        Test::new(Group::Components, "dma-stays-within-three-levels", |context| dma(context, ",aw-bits=39", 3)),
        Test::new(Group::Components, "dma-stays-behind-caches-of-what-is-absent", |context| {
            dma(context, ",aw-bits=48,caching-mode=on", 4)
        })
        .long(),
        Test::new(Group::Components, "dma-faults-are-limited", flood),
        Test::new(Group::Components, "an-iommu-of-version-6-is-left-alone", |context| {
            left_alone(context, "version-6", 0x60, &[], "an IOMMU has register version 6 or later")
        }),
        Test::new(Group::Components, "an-iommu-of-a-damaged-table-is-left-alone", |context| {
            // A structure without a length, before one of a further unit.
            let rest = [[0; 4].as_slice(), &unit(0, REGISTERS + 0x1000)].concat();
            left_alone(context, "damaged", 0x10, &rest, "the firmware's DMAR table is damaged")
        }),
        Test::new(Group::Components, "an-iommu-of-a-table-with-a-short-unit-is-left-alone", |context| {
            left_alone(context, "short", 0x10, &[0, 0, 8, 0, 1, 0, 0, 0], "the firmware's DMAR table is damaged")
        })
        .long(),
        Test::new(Group::Components, "an-iommu-beside-one-of-another-segment-is-left-alone", |context| {
            left_alone(context, "segment", 0x10, &unit(1, REGISTERS + 0x1000), "an IOMMU is for another segment")
        })
        .long(),
        Test::new(Group::Components, "an-iommu-beside-one-above-4-gib-is-left-alone", |context| {
            left_alone(context, "above", 0x10, &unit(0, 1 << 32), "an IOMMU has its registers above 4 GiB")
        })
        .long(),
        Test::new(Group::Components, "an-iommu-beside-one-at-address-0-is-left-alone", |context| {
            left_alone(context, "nowhere", 0x10, &unit(0, 0), "the firmware names an IOMMU at address 0")
        })
        .long(),
        Test::new(Group::Components, "an-iommu-that-does-not-obey-stops-the-boot", deaf).long(),
    ]
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
/// Bus, device and function in the kernel's reports: the disk at 00:1f.2, and the trusted card at 00:03.0.
const DISK: u16 = 0xfa;
const CARD: u16 = 0x18;
/// The address and contents of the canary's memory (tests/components/src/dma.rs).
const CANARY_AT: u64 = 0x400_0000;
const CANARY: u64 = 0x6361_6e61_7279_2121;
const CANARY_BYTES: u64 = 0x1_0000;

/// Behind an IOMMU with these properties, of which the kernel uses so many levels of tables.
fn dma(context: &Context, iommu: &'static str, levels: u32) -> Result<Outcome> {
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    let mut machine = q35::boot(context, "q35-ahci", system(&context.project)?, |dir, options| {
        options.iommu = Some(iommu);
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
    reserved(&text)?;
    let used = format!("IOMMU: Using {levels} page-table levels");
    ensure!(text.contains(&used) || kernel::are_own(), "no \"{used}\":\n{text}");
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

/// Device scopes: a PCI endpoint, and all functions behind a bridge.
const ENDPOINT: u8 = 1;
const BRIDGE: u8 = 2;

/// What firmware adds to the board's table of IOMMUs when it reserves memory for devices (VT-d specification, section 8.1
/// and 8.4). Here the disk may use the canary's first page, and two functions that are not there take further domains.
/// By patches of ours further ones are behind the bridge: all of them, the first by its path, and one behind a function
/// that is no bridge; and zeros end the table.
fn reservations(dir: &Path) -> Result<PathBuf> {
    let mut scopes: Vec<(u8, &[u8])> = vec![(ENDPOINT, &[0x1a, 0]), (ENDPOINT, &[0x1d, 0]), (ENDPOINT, &[0x1f, 2])];
    if !kernel::are_own() {
        scopes.extend([(BRIDGE, [4, 0].as_slice()), (ENDPOINT, &[4, 0, 0, 0]), (ENDPOINT, &[5, 0, 0, 0])]);
    }
    let mut table = dmar();
    for (scope, path) in scopes {
        let length = 6 + path.len() as u8;
        // Type 1, segment 0; first and last byte.
        table.extend([1, 0, 24 + length, 0, 0, 0, 0, 0]);
        table.extend(CANARY_AT.to_le_bytes());
        table.extend((CANARY_AT + 0xfff).to_le_bytes());
        // Of its one scope: on bus 0.
        table.extend([scope, length, 0, 0, 0, 0]);
        table.extend(path);
    }
    if !kernel::are_own() {
        // Firmware fills tables up.
        table.extend([0; 20]);
    }
    let path = dir.join("dmar.bin");
    project::write(&path, &table)?;
    Ok(path)
}

/// A table of IOMMUs, without its ACPI header: 39 bits of address.
fn dmar() -> Vec<u8> {
    let mut table = vec![39 - 1];
    table.resize(12, 0);
    table
}

/// The kernel has read the reservations: for three functions on bus 0, the bridge, and twice the one behind it. It has
/// said of the other that it is not found.
fn reserved(text: &str) -> Result<()> {
    let kept = text.matches("registering RMRR entry").count();
    let lost = text.matches("reserves memory (RMRR) for a function that is not found").count();
    let expected = if kernel::are_own() { (3, 0) } else { (6, 1) };
    ensure!((kept, lost) == expected, "the kernel has read {kept} of the firmware's reservations:\n{text}");
    Ok(())
}

/// Where the registers of an IOMMU are that is nothing but memory: below 1 MiB, which no object gets, and below
/// 0x7000, which SeaBIOS leaves alone.
const REGISTERS: u64 = 0x2000;
/// Registers: version, capabilities, commands and their status, protected memory.
const VERSION: u64 = 0x00;
const CAPABILITIES: u64 = 0x08;
const COMMAND: u64 = 0x18;
const PROTECTED: u64 = 0x60;
/// Capabilities: four levels of tables, a protected low region, and fault records in the first page.
const FOUR_LEVELS: u64 = 0x4 << 8 | 0x20 << 24;
const PROTECTED_LOW: u64 = 1 << 5;

/// A unit in the table, for all functions of a segment: type 0, 16 bytes.
fn unit(segment: u8, registers: u64) -> Vec<u8> {
    [[0, 0, 16, 0, 1, 0, segment, 0], registers.to_le_bytes()].concat()
}

/// Boots a system that needs no IOMMU on a board whose IOMMU has these registers. The firmware's table goes on behind it.
/// Each test has files of its own, by `name`: two run at a time.
fn with_registers(context: &Context, name: &str, registers: &[(u64, u64)], rest: &[u8]) -> Result<Machine> {
    let system = host::load(&context.project.root.join("tests/systems/q35-deadlines.toml"))?;
    q35::boot(context, &format!("q35-iommu-{name}"), system, |dir, options| {
        options.iommu = None;
        options.devices = registers
            .iter()
            .map(|(at, value)| format!("loader,addr={:#x},data={value:#x},data-len=8", REGISTERS + at))
            .collect();
        let table = [dmar(), unit(0, REGISTERS), rest.to_vec()].concat();
        let path = dir.join("dmar.bin");
        project::write(&path, &table)?;
        options.acpi_tables = vec![format!("sig=DMAR,data={}", path.display())];
        Ok(())
    })
}

/// The system runs without the IOMMU, says why, and the memory that firmware protects against DMA is no longer so.
/// Register version 6 has no invalidation by registers.
fn left_alone(context: &Context, name: &str, version: u64, rest: &[u8], why: &str) -> Result<Outcome> {
    if let Some(skipped) = skipped()? {
        return Ok(skipped);
    }
    let on = 1 << 31 | 1;
    let registers = [(VERSION, version), (CAPABILITIES, FOUR_LEVELS | PROTECTED_LOW), (PROTECTED, on << 32)];
    let mut machine = with_registers(context, name, &registers, rest)?;
    let text = until(&mut machine, "client: verdict: ")?;
    ensure!(text.contains(&format!("seL4: {why}")), "no \"{why}\":\n{text}");
    let protected = machine.physical_word(REGISTERS + PROTECTED)?;
    ensure!(protected == 0, "the register of protected memory reads {protected:#x}");
    Ok(Outcome::Passed(format!("{} checks", verdict(&text, "client")?)))
}

/// Memory does not answer to commands: the kernel does not wait for ever.
fn deaf(context: &Context) -> Result<Outcome> {
    if let Some(skipped) = skipped()? {
        return Ok(skipped);
    }
    for (status, why) in [
        (0, "an IOMMU does not take its tables: boot without the IOMMU"),
        // Set Root Table Pointer has been obeyed.
        (1 << 30, "an IOMMU does not invalidate what it caches: boot without the IOMMU"),
    ] {
        let registers = [(VERSION, 0x10), (CAPABILITIES, FOUR_LEVELS), (COMMAND, status << 32)];
        let mut machine = with_registers(context, "deaf", &registers, &[])?;
        until(&mut machine, &format!("seL4 stops: {why}"))?;
    }
    Ok(Outcome::Passed("the boot stops, and says why".into()))
}

/// A release kernel reports the faults of a device that makes them as fast as it can: sixteen, and then one each second. The
/// line of pci-server's has the function's owner.
fn flood(context: &Context) -> Result<Outcome> {
    if let Some(skipped) = skipped()? {
        return Ok(skipped);
    }
    let system = host::load(&context.project.root.join("tests/systems/q35-faults.toml"))?;
    let mut machine = q35::boot_with(Build::Release, context, "q35-faults", system, |dir, options| {
        options.disk = Some((format!("snapshot=on,file={}", disk(dir)?.display()), MODEL));
        Ok(())
    })?;
    let text = until(&mut machine, "disk: verdict: ")?;
    ensure!(text.contains("`00:1f.2`: 00:1f.2 8086:2922 of `disk`, "), "no owner of 00:1f.2:\n{text}");
    let reports: Vec<&str> = text.split("IOMMU blocks ").skip(1).filter_map(|rest| rest.lines().next()).collect();
    let (all, last) = ("00:1f.2: write to 0xfffff000, reason 5", "; from here on one each second is shown");
    ensure!(reports.iter().all(|report| report.starts_with(all)), "other reports than of the disk:\n{text}");
    let position = reports.iter().position(|report| report.ends_with(last));
    ensure!(position == Some(15), "report {position:?} is the last at once:\n{text}");
    let aimed =
        lines(&text, "disk").find_map(|line| line.strip_prefix("aimed for ")?.split_once(" ms: ")?.0.parse().ok());
    let seconds = aimed.unwrap_or(0) / 1000;
    // The first fault comes a little after the flood's start, and its last ones wait for the next report.
    let expected = 16 + seconds - 1..=16 + seconds + 1;
    ensure!(seconds >= 4 && expected.contains(&reports.len()), "{} reports, not {expected:?}:\n{text}", reports.len());
    Ok(Outcome::Passed(format!("{} checks, {} reports", verdict(&text, "disk")?, reports.len())))
}

/// Why a test of the kernel's patches does not run here.
fn skipped() -> Result<Option<Outcome>> {
    let foreign = kernel::are_own().then(|| Outcome::Skipped("needs patches of the project's kernel".into()));
    Ok(q35::skipped()?.or(foreign))
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
    let all: Vec<(u16, u64)> = text.split("IOMMU").skip(1).filter_map(report).collect();
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

/// Source and address of what follows `IOMMU` in a report: ` blocks 00:1f.2: write to 0x4000000, reason 5` by a patch of ours,
/// `: DMA write page fault from bus/dev/fun 0xfa on address 0x0:4000000 with reason code 0x5`, or `from 0xfa (bus: …) on
/// address …` in later releases.
fn report(line: &str) -> Option<(u16, u64)> {
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    if let Some(rest) = line.strip_prefix(" blocks ") {
        let (source, rest) = rest.split_once(": ")?;
        let (bus, rest_of_source) = source.split_once(':')?;
        let (device, function) = rest_of_source.split_once('.')?;
        let source = number(bus)? << 8 | number(device)? << 3 | number(function)?;
        let (_, rest) = rest.split_once(" 0x")?;
        return Some((source.try_into().ok()?, number(rest.split_once(',')?.0)?));
    }
    let rest = line.split_once(" from ")?.1;
    let (source, rest) = rest.trim_start_matches("bus/dev/fun ").split_once(' ')?;
    let rest = rest.split_once("on address 0x")?.1;
    let (high, rest) = rest.split_once(':')?;
    let (low, _) = rest.split_once(' ')?;
    Some((number(source.strip_prefix("0x")?)?.try_into().ok()?, number(high)? << 32 | number(low)?))
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
            " blocks 00:1f.2: write to 0x104000000, reason 5",
            ": DMA write page fault from bus/dev/fun 0xfa on address 0x1:4000000 with reason code 0x5",
            ": DMA write page fault from 0xfa (bus: 0x0/dev: 0x1f/fun: 0x2) on address 0x1:4000000 with reason code 0x5",
        ] {
            assert_eq!(super::report(line), Some((0xfa, 0x1_0400_0000)), "{line}");
        }
        assert_eq!(super::report(": Using 4 page-table levels"), None);
    }
}
