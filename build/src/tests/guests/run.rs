//! Runs tiny guests until they power off, and reads what they have printed. Also which guests have a twin in long mode.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::{Result, ensure, miette};
use vtx::cpuid;

use crate::bochs::Machine;
use crate::bochs::log::Ending;
use crate::guest::tiny;
use crate::kernel::Build;
use crate::test::Context;

/// How long a guest may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(180);

/// A guest's output until it powered off.
pub struct Report {
    pub console: String,
    /// The numbers of its facts, by their names and in their order.
    facts: BTreeMap<String, Vec<Vec<u32>>>,
}

impl Report {
    pub fn of(console: String) -> Self {
        let mut facts: BTreeMap<String, Vec<Vec<u32>>> = BTreeMap::new();
        for line in console.lines().filter_map(|line| line.trim_end().strip_prefix("= ")) {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default().to_owned();
            let numbers = words.filter_map(|word| u32::from_str_radix(word, 16).ok()).collect();
            facts.entry(name).or_default().push(numbers);
        }
        Self { console, facts }
    }

    pub fn facts(&self, name: &str) -> &[Vec<u32>] {
        self.facts.get(name).map_or(&[], Vec::as_slice)
    }

    /// The exits that vmm-server has counted, by the names of their reasons.
    pub fn exits(&self) -> BTreeMap<String, u64> {
        let mut exits = BTreeMap::new();
        for line in self.console.lines().filter(|line| line.starts_with("vmm-")) {
            // `vmm-NAME:    COUNT REASON`, where other lines begin with a word.
            let Some((_, line)) = line.trim_end().split_once(":   ") else { continue };
            let Some((count, name)) = line.trim_start().split_once(' ') else { continue };
            if let Ok(count) = count.parse::<u64>() {
                *exits.entry(name.to_owned()).or_default() += count;
            }
        }
        exits
    }

    /// How many lines of vmm-server's log, or of the guest's, contain `text`.
    pub fn lines(&self, text: &str) -> usize {
        self.console.lines().filter(|line| line.contains(text)).count()
    }
}

/// Runs a guest until it powers off. All its checks must pass.
pub fn run(context: &Context, guest: &str) -> Result<Report> {
    run_all(context, &[guest], "", "")
}

/// Guests of 32 bits with a twin in long mode, `long-NAME`: the same source, or one of its own for what differs there.
const TWINS: &[&str] = &[
    "alignment-check",
    "apic",
    "avx",
    "bench",
    "board",
    "breakpoints",
    "cpuid",
    "halt",
    "instructions",
    "mmio",
    "msr",
    "ports",
    "resets",
    "single-step",
    "state",
    "state-too",
    "string-io",
    "task-switch",
    "triple-fault",
    "vectors",
    "virtio",
];

/// Whether the kernel has 64-bit guests.
pub fn has_long_mode(context: &Context) -> Result<bool> {
    Ok(context.prefix(Build::Release)?.processor() == cpuid::Processor::Bits64)
}

/// The names of a guest and, where the kernel has 64-bit guests, of its twin.
pub fn widths(context: &Context, guest: &str) -> Result<Vec<String>> {
    ensure!(TWINS.contains(&guest), "{guest} is not in the list of guests with a twin");
    Ok([guest.to_owned()].into_iter().chain(has_long_mode(context)?.then(|| format!("long-{guest}"))).collect())
}

/// Those two on the same board: a guest of 64 bits has ACPI unless its description says something else.
pub const WITHOUT_ACPI: &str = "chipset = \"pc1995\"\n";

/// Runs a guest in both widths at once.
pub fn run_widths(context: &Context, guest: &str) -> Result<Report> {
    let names = widths(context, guest)?;
    run_all(context, &names.iter().map(String::as_str).collect::<Vec<_>>(), WITHOUT_ACPI, "")
}

/// The same for several guests at once, each with these lines in its description, which ends with `rest`.
pub fn run_all(context: &Context, guests: &[&str], keys: &str, rest: &str) -> Result<Report> {
    let description = tiny::system(&context.project, guests, keys, rest)?;
    run_described(context, &description, guests.len(), None).map(|(report, _)| report)
}

/// The same for the guests of a description, with a disk.
pub fn run_described(
    context: &Context,
    description: &Path,
    guests: usize,
    disk: Option<PathBuf>,
) -> Result<(Report, Machine)> {
    let mut machine = context.boot_with(&description.to_string_lossy(), Build::Release, |options| {
        options.input = false;
        options.devices.disk = disk.or(options.devices.disk.take());
    })?;
    match machine.wait(LIMIT)? {
        Some(Ending::PowerOff) => {}
        Some(other) => return Err(machine.why(&other)),
        None => {
            let seen = String::from_utf8_lossy(&machine.console.transcript()).into_owned();
            return Err(miette!("the guest did not switch itself off; the console has\n{seen}"));
        }
    }
    let report = Report::of(String::from_utf8_lossy(&machine.console.transcript()).into_owned());
    ensure!(report.lines("guest: right") == guests, "not every guest is content:\n{}", report.console);
    Ok((report, machine))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Guests of 32 bits without a twin, and why.
    const ALONE: &[(&str, &str)] = &[
        ("avx-too", "a second `avx`, of another name"),
        ("channel", "hostile to a device, whose accesses `virtio` and `mmio` make in both widths"),
        ("control-registers", "paging of 32 bits and none; `long-mode` has the control registers of long mode"),
        ("crash", "shows the limit of resets; `triple-fault` crashes in both widths"),
        ("flood", "holds the VMM with one instruction, of `string-io`"),
        ("gate", "accesses others' devices, which `ports` and `mmio` do in both widths"),
        ("line", "takes a device's interrupts, as `apic` does in both widths"),
        ("pvh", "the protocol's entry is of 32 bits for all kernels"),
        ("share", "measures time, beside others"),
        ("silent", "drives a card; what is shown is its VMM's"),
        ("spin", "never exits"),
        ("ticking", "keeps time, beside others"),
        ("typed", "is typed at, one of forty"),
        ("virtio-blk", "hostile to a device; its transport is that of `virtio`"),
        ("virtio-console", "hostile to a device; its transport is that of `virtio`"),
        ("virtio-net", "hostile to a device; its transport is that of `virtio`"),
        ("virtio-vsock", "hostile to a device; its transport is that of `virtio`"),
    ];

    #[test]
    fn each_guest_has_a_twin_or_a_reason_to_have_none() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests");
        let files = std::fs::read_dir(dir).expect("the guests' directory").map(|file| file.expect("a file").path());
        let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "c"));
        let names: BTreeSet<String> =
            sources.filter_map(|path| path.file_stem().map(|name| name.to_string_lossy().into_owned())).collect();
        let narrow: Vec<&str> = names.iter().map(String::as_str).filter(|name| !name.starts_with("long-")).collect();
        let mut listed: Vec<&str> = TWINS.iter().copied().chain(ALONE.iter().map(|&(name, _)| name)).collect();
        listed.sort_unstable();
        assert_eq!(narrow, listed);
    }
}
