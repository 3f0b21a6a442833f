//! Processors: old ones, on which the kernel for `pc` and `cma34cr` runs, and ones that lack a feature, which the
//! kernel names in one sentence. The first with RDRAND is an Ivy Bridge, so older ones have no entropy device. Also
//! boots the ISO as a disk.

use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, ensure};

use super::{LIMIT, ask, description, last_lines, wait_for_shell};
use crate::kernel::{self, Build};
use crate::test::{Context, Group, Outcome, Test, passed};

pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![
        test("an-ivy-bridge-reaches-its-guests-shell", ivy_bridge),
        test("a-nehalem-reaches-its-guests-shell", nehalem),
        test("what-a-processor-lacks-is-said-in-one-sentence", lacking),
        test("the-iso-starts-as-a-disk", disk),
    ]
}

fn ivy_bridge(context: &Context) -> Result<Outcome> {
    reaches_the_shell(context, "corei7_ivy_bridge_3770k", true)
}

/// The first with EPT.
fn nehalem(context: &Context) -> Result<Outcome> {
    reaches_the_shell(context, "corei5_lynnfield_750", false)
}

/// The log's line when the description has an entropy device but the processor has neither RDSEED nor RDRAND.
const NO_ENTROPY: &str = "no entropy device, since this processor has neither RDSEED nor RDRAND";

fn reaches_the_shell(context: &Context, processor: &str, entropy: bool) -> Result<Outcome> {
    let system = description(context, "pc");
    let mut machine = context.boot_with(&system.to_string_lossy(), Build::Release, |options| {
        options.processor = processor.to_owned();
    })?;
    wait_for_shell(&mut machine)?;
    let cpu = ask(&mut machine, "grep -m1 'model name' /proc/cpuinfo")?;
    let devices = ask(&mut machine, "cat /sys/bus/pci/devices/*/device")?;
    ensure!(devices.contains("0x1005\n") == entropy, "functions of the guest's bus:\n{devices}");
    ensure!(super::transcript(&machine).contains(NO_ENTROPY) != entropy, "the log:\n{}", last_lines(&machine));
    // Software cannot power this board off.
    machine.stop();
    Ok(Outcome::Passed(cpu.split_once(": ").map_or(cpu.as_str(), |(_, name)| name).trim().to_owned()))
}

/// The kernel's first message, before it has examined the processor.
const LACKS: &str = "seL4 stops: its configuration needs what this processor lacks: ";

/// Each processor, what boots on it, and the expected message.
const LACKING: [(&str, &str, Build, &str); 6] = [
    ("corei7_sandy_bridge_2600k", "minimal", Build::Release, "1 GiB pages, INVPCID, FSGSBASE\r\n"),
    ("corei7_sandy_bridge_2600k", "minimal", Build::Debug, "1 GiB pages, INVPCID, FSGSBASE\r\n"),
    ("corei7_ivy_bridge_3770k", "minimal", Build::Release, "1 GiB pages, INVPCID\r\n"),
    ("p4_willamette", "pc", Build::Release, "64-bit mode, VT-x\r\n"),
    ("turion64_tyler", "pc", Build::Release, "VT-x\r\n"),
    ("core2_penryn_t9600", "pc", Build::Release, "seL4 stops: the processor's VT-x has no EPT\r\n"),
];

fn lacking(context: &Context) -> Result<Outcome> {
    if kernel::are_own() {
        return Ok(Outcome::Skipped(
            "the sentence is of a patch of ours; other kernels have words of their own".into(),
        ));
    }
    for (processor, system, build, what) in LACKING {
        let sentence = if what.starts_with("seL4") { what.to_owned() } else { format!("{LACKS}{what}") };
        let system = match system {
            "pc" => description(context, system).to_string_lossy().into_owned(),
            known => known.to_owned(),
        };
        let mut machine = context.boot_with(&system, build, |options| options.processor = processor.to_owned())?;
        let found = machine.console.expect(&sentence, Duration::from_secs(60));
        found.into_diagnostic().wrap_err_with(|| last_lines(&machine)).wrap_err_with(|| processor.to_owned())?;
        machine.stop();
    }
    passed()
}

/// ISOLINUX loads the kernel and root-task's image, starting from the disk's boot sector.
fn disk(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot_with("minimal", Build::Release, |options| options.as_disk = true)?;
    let found = machine.console.expect("root-task: minimal: ", LIMIT);
    found.into_diagnostic().wrap_err_with(|| last_lines(&machine))?;
    machine.stop();
    let log = machine.log();
    ensure!(!log.contains("Booting from CD"), "it started from a CD:\n{log}");
    passed()
}
