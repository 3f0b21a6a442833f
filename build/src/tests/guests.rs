//! Tiny guests in Bochs test the processor and board that a guest sees, instruction by instruction, in 32-bit code and in long
//! mode. A guest checks what it can itself; here is what only its log, or its exits' count, shows.

mod endings;
mod hostile;
mod neighbours;
mod run;
mod tables;

use miette::{Result, ensure};
use vtx::cpuid;

use self::run::{WITHOUT_ACPI, has_long_mode, run, run_all, run_widths, widths};
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Guests, name, run);
    let own = vec![
        test("string-io", string_io),
        test("mmio-unmapped", mmio_unmapped),
        test("vectors-unmapped", vectors_unmapped),
        test("local-apic", local_apic),
        test("instructions-that-exit", instructions),
        test("control-registers", control_registers),
        test("long-mode", long_mode),
        test("mode-switches-under-load", mode_switches),
        test("avx-in-three-guests", avx),
        test("pvh-entry", pvh_entry),
        test("single-step", single_step),
        test("breakpoints", breakpoints),
        test("two-guests-keep-their-state", state).fails_by(&["cr2"]),
        test("task-switch", task_switch),
        test("alignment-check", alignment_check),
    ];
    [own, tables::all(), endings::all(), hostile::all(), neighbours::all()].concat()
}

fn string_io(context: &Context) -> Result<Outcome> {
    let report = run_widths(context, "string-io")?;
    let text = "= text of REP OUTSB, longer than the sixteen bytes of a FIFO and than sixty-four";
    let lines = report.lines(text);
    ensure!(lines == widths(context, "string-io")?.len(), "REP OUTSB printed something else:\n{}", report.console);
    passed()
}

fn mmio_unmapped(context: &Context) -> Result<Outcome> {
    run_widths(context, "mmio").and_then(|_| passed())
}

/// FPU, MMX and SSE registers, and all other instructions that the processor executes in place of the emulator.
fn vectors_unmapped(context: &Context) -> Result<Outcome> {
    run_widths(context, "vectors").and_then(|_| passed())
}

/// The local APIC's registers, deadlines, and the 8259's interrupts past it and through it.
fn local_apic(context: &Context) -> Result<Outcome> {
    run_widths(context, "apic").and_then(|_| passed())
}

/// VMX, GETSEC, INVD, XSETBV and the like, from privilege levels 0 and 3. The instructions that should exit do, by
/// vmm-server's count.
fn instructions(context: &Context) -> Result<Outcome> {
    /// At level 0 and at level 3 where the exit comes before the check of privilege, else once.
    const EXITS: [(&str, u64); 11] = [
        ("CPUID", 4),
        ("HLT", 1),
        ("INVD", 1),
        ("MONITOR", 1),
        ("MWAIT", 1),
        ("RDMSR", 1),
        ("RDPMC", 1),
        ("VMCALL", 2),
        ("VMX instruction", 2 * 11),
        ("WBINVD", 1),
        ("debug register", 2),
    ];
    for guest in widths(context, "instructions")? {
        instructions_of(context, &guest, EXITS)?;
    }
    passed()
}

fn instructions_of<const N: usize>(context: &Context, guest: &str, expected: [(&str, u64); N]) -> Result<()> {
    let report = run(context, guest)?;
    ensure!(report.facts("instructions").len() == 2, "one level is missing:\n{}", report.console);
    let mut exits = report.exits();
    for printing in ["I/O instruction", "preemption timer", "interrupt window"] {
        exits.remove(printing);
    }
    let expected = expected.map(|(name, count)| (name.to_owned(), count)).into();
    ensure!(exits == expected, "these exits: {exits:?}, not {expected:?}");
    let logged = report.lines("the guest makes hypercall 77, which is unknown");
    ensure!(logged == 1, "{logged} lines about a hypercall:\n{}", report.console);
    Ok(())
}

fn control_registers(context: &Context) -> Result<Outcome> {
    run(context, "control-registers").and_then(|_| passed())
}

/// What only long mode has: MSRs, SYSCALL, CR8, compatibility mode, and the way out of long mode and in again.
fn long_mode(context: &Context) -> Result<Outcome> {
    if !has_long_mode(context)? {
        return Ok(Outcome::Skipped("the kernel is configured for 32-bit guests only".into()));
    }
    let report = run(context, "long-mode")?;
    // Before its reset and after it.
    let switched = u32::from(context.prefix(Build::Release)?.switches_all_msrs());
    ensure!(report.facts("switched") == [[switched], [switched]], "KERNEL_GS_BASE and TSC_AUX:\n{}", report.console);
    passed()
}

/// Thousands of rounds through every mode but real mode, each with interrupts, beside a guest that keeps time.
fn mode_switches(context: &Context) -> Result<Outcome> {
    if !has_long_mode(context)? {
        return Ok(Outcome::Skipped("the kernel is configured for 32-bit guests only".into()));
    }
    let report = run_all(context, &["long-switches", "ticking"], WITHOUT_ACPI, "")?;
    ensure!(report.lines(": resets: ") == 0, "a switch has reset the guest:\n{}", report.console);
    passed()
}

/// Guests that turn AVX on, and sum in its registers while they preempt each other.
fn avx(context: &Context) -> Result<Outcome> {
    if context.prefix(Build::Release)?.xcr0() != cpuid::COMPONENTS {
        return Ok(Outcome::Skipped("the kernel keeps the FXSAVE state of its threads only".into()));
    }
    let long: &[&str] = if has_long_mode(context)? { &["long-avx"] } else { &[] };
    run_all(context, &[&["avx", "avx-too"], long].concat(), "", "").and_then(|_| passed())
}

/// An ELF that starts by PVH, with its start information.
fn pvh_entry(context: &Context) -> Result<Outcome> {
    run_all(context, &["pvh"], "chipset = \"pc\"\ncmdline = \"one two=three\"\n", "").and_then(|_| passed())
}

fn single_step(context: &Context) -> Result<Outcome> {
    run_widths(context, "single-step").and_then(|_| passed())
}

fn breakpoints(context: &Context) -> Result<Outcome> {
    if !context.prefix(Build::Release)?.has_guest_debug_registers() {
        return Ok(Outcome::Skipped(
            "the kernel switches no debug registers, so none of a guest's takes effect".into(),
        ));
    }
    run_widths(context, "breakpoints").and_then(|_| passed())
}

/// Guests whose every register differs, two of each width: after a million page faults each, preempted and in turns, no value
/// is another's.
fn state(context: &Context) -> Result<Outcome> {
    let long: &[&str] = if has_long_mode(context)? { &["long-state", "long-state-too"] } else { &[] };
    let guests = [&["state", "state-too"], long].concat();
    let report = run_all(context, &guests, "", "")?;
    // Lines of several guests begin with their names.
    let counts = report.console.lines().filter_map(|line| line.trim_end().split_once(": = faults "));
    let counts: Vec<u32> = counts.filter_map(|(_, count)| u32::from_str_radix(count, 16).ok()).collect();
    ensure!(
        counts.len() == guests.len() && counts.iter().all(|&count| count > 1_000_000),
        "{counts:?}:\n{}",
        report.console
    );
    Ok(Outcome::Passed(format!("{} page faults", counts.iter().sum::<u32>())))
}

/// Between tasks of 32 bits. In long mode there are none, and the attempts do not even exit; the last one is a triple fault.
fn task_switch(context: &Context) -> Result<Outcome> {
    let report = run_widths(context, "task-switch")?;
    let exits = report.exits().get("task switch").copied();
    // By JMP and back, three times by INT and IRET, and for the double fault and back.
    ensure!(exits == Some(2 + 2 * 3 + 2), "{exits:?} task switches have exited:\n{}", report.console);
    let resets = report.lines(": long-task-switch: reset after a triple fault");
    ensure!(resets == usize::from(has_long_mode(context)?), "{resets} triple faults:\n{}", report.console);
    passed()
}

/// #AC exits, is delivered, and loses no interrupt; a guest in an endless loop of #AC is reset, and the others go on.
fn alignment_check(context: &Context) -> Result<Outcome> {
    let names = widths(context, "alignment-check")?;
    let names: Vec<&str> = names.iter().map(String::as_str).chain(["ticking"]).collect();
    let report = run_all(context, &names, WITHOUT_ACPI, "")?;
    let log = "reset after #AC in the delivery of #AC";
    ensure!(report.lines(log) == 1, "not one line in the log:\n{}", report.console);
    ensure!(report.lines(": long-alignment-check: reset") == 0, "#AC for ever in long mode:\n{}", report.console);
    passed()
}
