//! How a guest ends: it powers off, is reset in each of the ways, or fails, alone.

use miette::{Result, ensure};

use super::run::{LIMIT, Report, run_widths, widths};
use crate::bochs::Machine;
use crate::bochs::log::Ending;
use crate::guest::{self, tiny};
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Guests, name, run);
    vec![
        test("halt", halt),
        test("triple-fault", triple_fault),
        test("a-guest-that-crashes-for-ever-has-failed", crash),
        test("resets", resets),
        test("a-guest-that-cannot-start-fails-the-run", cannot_start),
        test("a-system-that-cannot-be-built-fails-the-run", cannot_be_built),
    ]
}

fn halt(context: &Context) -> Result<Outcome> {
    let report = run_widths(context, "halt")?;
    let guests = widths(context, "halt")?.len();
    ensure!(report.lines("halt has powered off") == guests, "no word of it:\n{}", report.console);
    passed()
}

fn triple_fault(context: &Context) -> Result<Outcome> {
    let report = run_widths(context, "triple-fault")?;
    let guests = widths(context, "triple-fault")?.len();
    ensure!(report.lines("guest: triple fault") == guests, "it came up more than twice:\n{}", report.console);
    ensure!(report.lines("reset after a triple fault") == guests, "not one line each in the log:\n{}", report.console);
    let registers = ["eax 0000c0de", "stack 0000c0de", "rax 112233440000c0de", "stack 112233440000c0de"];
    let logged = registers.map(|text| report.lines(text));
    let expected = if guests == 2 { [1, 1, 1, 1] } else { [1, 1, 0, 0] };
    ensure!(logged == expected, "registers and stacks in the log: {logged:?}\n{}", report.console);
    passed()
}

/// It is reset a few times, its registers are logged once, and the other guest goes on.
fn crash(context: &Context) -> Result<Outcome> {
    let description = tiny::system(&context.project, &["crash", "ticking"], "", "")?;
    let mut machine =
        context.boot_with(&description.to_string_lossy(), Build::Release, |options| options.input = false)?;
    let ending = machine.wait(LIMIT)?;
    let report = Report::of(String::from_utf8_lossy(&machine.console.transcript()).into_owned());
    let lines =
        ["reset after a triple fault", "eax 0000c0de", "ticking has powered off"].map(|text| report.lines(text));
    // The last crash is logged like the first.
    ensure!(lines == [17, 2, 1], "crashes, their registers, and the other's end: {lines:?}\n{}", report.console);
    fails(&machine, ending, "the VM `crash` failed: stopped: it was reset more than 16 times in a row")
}

/// Every kind of reset: one line in the log each, in order. Without task switches in long mode.
fn resets(context: &Context) -> Result<Outcome> {
    const BY_PORT: &str = "reset by the guest";
    const FROM_PROTECTED_MODE: &str = "reset, since the guest leaves protected mode";
    const BY_A_TASK: &str = "reset after a hardware task switch";
    const NO_IDT: &str = "reset after an interrupt delivered through memory that is not there";
    const NO_PAGE_TABLES: &str = "reset after page tables in memory that is not there";
    let narrow = [&[BY_PORT; 5][..], &[FROM_PROTECTED_MODE, BY_A_TASK, BY_A_TASK, NO_IDT, NO_PAGE_TABLES]].concat();
    let long = [&[BY_PORT; 5][..], &[FROM_PROTECTED_MODE, NO_IDT, NO_PAGE_TABLES]].concat();
    let report = run_widths(context, "resets")?;
    for (guest, expected) in widths(context, "resets")?.iter().zip([narrow, long]) {
        let begin = format!(": {guest}: reset");
        let lines: Vec<&str> = report.console.lines().filter(|line| line.contains(&begin)).collect();
        let right = lines.len() == expected.len()
            && lines.iter().zip(&expected).all(|(line, expected)| line.contains(expected));
        ensure!(right, "these resets:\n{}\nare not:\n{}", lines.join("\n"), expected.join("\n"));
    }
    passed()
}

/// A failure that only vmm-server can detect ends that VM alone: the other guest goes on, and the machine's end shows
/// the failure.
fn cannot_start(context: &Context) -> Result<Outcome> {
    const REASON: &str = "the VM `halt` failed: kernel: an ELF file for machine 3, neither";
    let description = tiny::system(&context.project, &["halt", "ticking"], "", "")?;
    let image = context.image(&description.to_string_lossy(), Build::Release)?;
    // The build would refuse such a kernel, so this changes it afterwards: EI_CLASS of its ELF becomes ELFCLASS64.
    let mut iso = project::read(&image.iso)?;
    let kernel = guest::loaded_vmlinux(&context.project, &description.with_file_name("halt"), None)?;
    let kernel = project::read(&kernel)?;
    let at: Vec<usize> = (0..iso.len()).filter(|&at| iso[at..].starts_with(&kernel)).collect();
    ensure!(!at.is_empty(), "the kernel is not in the image");
    for at in at {
        iso[at + 4] = 2;
    }
    let broken = image.iso.with_file_name("broken.iso");
    project::write(&broken, &iso)?;
    let mut machine = context.boot_with(&description.to_string_lossy(), Build::Release, |options| {
        options.iso = broken;
        options.input = false;
    })?;
    let ending = machine.wait(LIMIT)?;
    let console = String::from_utf8_lossy(&machine.console.transcript()).into_owned();
    ensure!(console.contains("ticking has powered off"), "the other guest did not go on:\n{console}");
    fails(&machine, ending, REASON)
}

/// root-task reports on its own console what it cannot make, and the machine ends.
fn cannot_be_built(context: &Context) -> Result<Outcome> {
    let small = tiny::system(&context.project, &["halt"], "", "")?;
    let text = String::from_utf8_lossy(&project::read(&small)?).replace("4 MiB", "64 MiB");
    let description = small.with_file_name("tiny-halt-64.toml");
    project::write(&description, text.as_bytes())?;
    let mut machine = context.boot_with(&description.to_string_lossy(), Build::Release, |options| {
        options.memory_mib = 48;
        options.input = false;
    })?;
    let ending = machine.wait(LIMIT)?;
    fails(&machine, ending, "the system was not started: ")
}

/// The run fails, with one sentence.
fn fails(machine: &Machine, ending: Option<Ending>, reason: &str) -> Result<Outcome> {
    let console = String::from_utf8_lossy(&machine.console.transcript()).into_owned();
    let Some(ending @ Ending::Failed) = ending else { miette::bail!("the run ends with {ending:?}:\n{console}") };
    let why = machine.why(&ending).to_string();
    ensure!(why.lines().next().is_some_and(|line| line.starts_with(reason)), "the run's error is: {why}");
    passed()
}
