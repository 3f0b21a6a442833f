//! Linux finds the name, command line, memory, PCI bus and interrupts that the description promises.

use capdl_spec::host;
use capdl_spec::host::Architecture;
use miette::{Result, ensure, miette};
use vmm_server::linux::e820;

use super::{ask, boot, description, field, power_off};
use crate::bochs::Machine;
use crate::guest::tiny;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};
use crate::{process, project};

pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![test("linux-finds-what-the-description-says", finds_what_the_description_says)]
}

fn finds_what_the_description_says(context: &Context) -> Result<Outcome> {
    let vm = &host::load(&description(context, "marks"))?.vms[0];
    let mut machine = boot(context, "marks")?;
    let name = ask(&mut machine, "uname -rm")?;
    ensure!(name.ends_with("-686 i686\n"), "uname -rm: {name}");
    let cmdline = ask(&mut machine, "cat /proc/cmdline")?;
    ensure!(cmdline.strip_suffix('\n') == Some(vm.cmdline().as_ref()), "/proc/cmdline: {cmdline:?}");
    let memory = has_memory(&mut machine, vm.memory.get_ref().0)?;
    virtual_bus(&mut machine)?;
    interrupts_move(&mut machine)?;
    machine_checks(&mut machine)?;
    let left = if context.prefix(Build::Release)?.has_guest_debug_registers() {
        watchpoint(context, &mut machine)?;
        ""
    } else {
        "; left out, since the kernel switches no debug registers: a watchpoint"
    };
    power_off(&mut machine)?;
    Ok(Outcome::Passed(format!("{}, {memory}{left}", name.trim())))
}

/// The guest has `bytes` of memory, at exactly the right addresses.
///
/// `free` counts what the kernel's image and its table of pages leave (15 MiB less, however much there is), so this
/// adds what the kernel says that it kept. Together they are within 3 % of the description's memory.
pub fn has_memory(machine: &mut Machine, bytes: u64) -> Result<String> {
    let dmesg = ask(machine, "dmesg")?;
    let seen: Vec<&str> =
        dmesg.lines().filter_map(|line| line.split_once("] BIOS-e820: ")).map(|line| line.1).collect();
    let predicted: Vec<String> = e820::map(bytes).iter().map(e820_line).collect();
    ensure!(seen == predicted, "e820 in dmesg:\n{}\npredicted:\n{}", seen.join("\n"), predicted.join("\n"));

    let (available, managed) = memory_line(&dmesg)?;
    // Whole pages, except the first one, which Linux does not use.
    let pages = |entry: &e820::Entry| (entry.base + entry.size) / 4096 - entry.base.div_ceil(4096);
    let usable = e820::map(bytes).iter().filter(|entry| entry.kind == e820::Kind::Usable).map(pages).sum::<u64>() - 1;
    ensure!(managed == usable * 4, "Linux manages {managed} KiB of {} usable ones", usable * 4);

    let free = field(&ask(machine, "free")?, "Mem:", 1)?;
    let kept = managed - available - freed(&dmesg);
    ensure!(free + kept == managed, "free: {free} KiB, and {kept} kept by the kernel, of {managed}");
    let promised = bytes >> 10;
    ensure!(promised.abs_diff(managed) * 100 <= promised * 3, "Linux manages {managed} KiB of {promised}");
    Ok(format!("{} MiB, free {free} KiB", bytes >> 20))
}

/// KiB that the kernel gave back after it had counted what is available: the sum of `Freeing initrd memory: 2056K`.
fn freed(dmesg: &str) -> u64 {
    let lines = dmesg.lines().filter(|line| line.contains("] Freeing "));
    lines.filter_map(|line| line.rsplit_once(": ")?.1.strip_suffix('K')?.parse::<u64>().ok()).sum()
}

/// A range as Linux prints it: `[mem 0x0000000000000000-0x000000000009fbff] usable`.
fn e820_line(entry: &e820::Entry) -> String {
    let kind = match entry.kind {
        e820::Kind::Usable => "usable",
        e820::Kind::Reserved => "reserved",
    };
    format!("[mem {:#018x}-{:#018x}] {kind}", entry.base, entry.base + entry.size - 1)
}

/// The two figures of `Memory: 111164K/130680K available`.
fn memory_line(dmesg: &str) -> Result<(u64, u64)> {
    let figures = dmesg.lines().find_map(|line| {
        let (available, rest) = line.split_once("] Memory: ")?.1.split_once("K/")?;
        Some((available.parse().ok()?, rest.split_once("K available")?.0.parse().ok()?))
    });
    figures.ok_or_else(|| miette!("no line `Memory: ...K/...K available` in dmesg"))
}

/// The virtual PCI bus has a host bridge and nothing else.
fn virtual_bus(machine: &mut Machine) -> Result<()> {
    let list = "cd /sys/bus/pci/devices; for d in *; do echo $d $(cat $d/vendor $d/device $d/class); done; cd /";
    let seen = ask(machine, list)?;
    ensure!(seen == "0000:00:00.0 0x8086 0x1237 0x060000\n", "/sys/bus/pci/devices:\n{seen}");
    Ok(())
}

/// The guest has machine-check registers without banks; without any, Linux reports an error.
fn machine_checks(machine: &mut Machine) -> Result<()> {
    let complaints = ask(machine, "dmesg | grep -i 'mce:' || true")?;
    ensure!(complaints.is_empty(), "{complaints}");
    Ok(())
}

/// A debugger's watchpoint stops the process that it debugs.
fn watchpoint(context: &Context, machine: &mut Machine) -> Result<()> {
    /// Less than the shell's longest line, at four characters for each.
    const BYTES: usize = 200;
    let program = context.project.guest().join("tiny/watchpoint");
    let mut gcc =
        tiny::gcc(&context.project.root.join("build/src/tests/boots/watchpoint.c"), &program, Architecture::I386);
    gcc.arg("-Wl,--omagic,--strip-all");
    process::output(gcc)?;
    for piece in project::read(&program)?.chunks(BYTES) {
        let bytes: String = piece.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        ask(machine, &format!("printf '{bytes}' >> /tmp/watchpoint"))?;
    }
    ask(machine, "chmod +x /tmp/watchpoint; /tmp/watchpoint").map(|_| ())
}

/// The timer's interrupts are the local APIC's, the 8254's none; the UART's arrive through the 8259 pair.
fn interrupts_move(machine: &mut Machine) -> Result<()> {
    let before = ask(machine, "cat /proc/interrupts")?;
    let after = ask(machine, "sleep 1; cat /proc/interrupts")?;
    for (line, chip, what) in [("LOC:", "Local", "timer interrupts"), ("4:", "XT-PIC", "ttyS0")] {
        let of_line = after.lines().find(|text| text.trim_start().starts_with(line)).unwrap_or_default();
        ensure!(of_line.contains(chip) && of_line.ends_with(what), "line {line} is not {what}'s:\n{after}");
        let (first, second) = (field(&before, line, 1)?, field(&after, line, 1)?);
        ensure!(second > first, "{what}: {first} interrupts, then {second}");
    }
    ensure!(field(&after, "0:", 1).is_err(), "the 8254 interrupts:\n{after}");
    ensure!(field(&after, "ERR:", 1)? == 0, "spurious interrupts:\n{after}");
    Ok(())
}
