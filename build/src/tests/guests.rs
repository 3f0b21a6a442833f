//! Tiny guests in Bochs test the processor and board that a guest sees, instruction by instruction. A guest checks what
//! it can itself; here the facts that it prints are compared with the tables in vtx.

mod hostile;
mod neighbours;

use std::arch::x86_64::CpuidResult;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use miette::{Result, ensure, miette};
use vtx::{cpuid, msr};

use crate::bochs::Machine;
use crate::bochs::log::Ending;
use crate::guest::{self, tiny};
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Guests, name, run);
    let own = vec![
        test("cpuid-all-leaves", cpuid_all_leaves),
        test("msr-all", msr_all),
        test("ports-all", ports_all),
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
        test("a-guest-that-crashes-for-ever-has-failed", crash),
        test("alignment-check", alignment_check),
        test("halt", halt),
        test("triple-fault", triple_fault),
        test("resets", resets),
        test("a-guest-that-cannot-start-fails-the-run", cannot_start),
        test("a-system-that-cannot-be-built-fails-the-run", cannot_be_built),
    ];
    [own, hostile::all(), neighbours::all()].concat()
}

/// How long a guest may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// A guest's output until it powered off.
struct Report {
    console: String,
    /// The numbers of its facts, by their names and in their order.
    facts: BTreeMap<String, Vec<Vec<u32>>>,
}

impl Report {
    fn of(console: String) -> Self {
        let mut facts: BTreeMap<String, Vec<Vec<u32>>> = BTreeMap::new();
        for line in console.lines().filter_map(|line| line.trim_end().strip_prefix("= ")) {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default().to_owned();
            let numbers = words.filter_map(|word| u32::from_str_radix(word, 16).ok()).collect();
            facts.entry(name).or_default().push(numbers);
        }
        Self { console, facts }
    }

    fn facts(&self, name: &str) -> &[Vec<u32>] {
        self.facts.get(name).map_or(&[], Vec::as_slice)
    }

    /// The exits that vmm-server has counted, by the names of their reasons.
    fn exits(&self) -> BTreeMap<String, u64> {
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
    fn lines(&self, text: &str) -> usize {
        self.console.lines().filter(|line| line.contains(text)).count()
    }
}

/// Runs a guest until it powers off. All its checks must pass.
fn run(context: &Context, guest: &str) -> Result<Report> {
    run_all(context, &[guest], "", "")
}

/// The names of a guest that both widths share: that of 32 bits and, where the kernel has 64-bit guests, the other.
fn widths(context: &Context, guest: &str) -> Result<Vec<String>> {
    let long = context.prefix(Build::Release)?.processor() == cpuid::Processor::Bits64;
    Ok([guest.to_owned()].into_iter().chain(long.then(|| format!("long-{guest}"))).collect())
}

/// Those two on the same board: a guest of 64 bits has ACPI unless its description says something else.
const WITHOUT_ACPI: &str = "chipset = \"pc1995\"\n";

/// Runs a guest in both widths at once.
fn run_widths(context: &Context, guest: &str) -> Result<Report> {
    let names = widths(context, guest)?;
    run_all(context, &names.iter().map(String::as_str).collect::<Vec<_>>(), WITHOUT_ACPI, "")
}

/// The same for several guests at once, each with these lines in its description, which ends with `rest`.
fn run_all(context: &Context, guests: &[&str], keys: &str, rest: &str) -> Result<Report> {
    let description = tiny::system(&context.project, guests, keys, rest)?;
    run_described(context, &description, guests.len(), None).map(|(report, _)| report)
}

/// The same for the guests of a description, with a disk.
fn run_described(
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

/// The guest sees what the policy has filtered, so filtering again changes nothing: every hidden bit is clear, every
/// shown one set. Leaves that the guest does not print are zero.
fn cpuid_all_leaves(context: &Context) -> Result<Outcome> {
    let widths = widths(context, "cpuid")?;
    let counts = widths.iter().map(|guest| cpuid_leaves(context, guest)).collect::<Result<Vec<_>>>()?;
    Ok(Outcome::Passed(format!("{counts:?} answers that are not zero")))
}

fn cpuid_leaves(context: &Context, guest: &str) -> Result<usize> {
    let prefix = context.prefix(Build::Release)?;
    let (processor, xcr0) = (prefix.processor(), prefix.xcr0());
    let report = run(context, guest)?;
    let mut seen = BTreeMap::new();
    for fact in report.facts("cpuid") {
        let &[leaf, subleaf, eax, ebx, ecx, edx] = fact.as_slice() else {
            return Err(miette!("not a leaf: {fact:x?}"));
        };
        seen.insert((leaf, subleaf), CpuidResult { eax, ebx, ecx, edx });
    }
    let zero = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    let tsc = seen.get(&(0x15, 0)).unwrap_or(&zero);
    let tsc_hz = u64::from(tsc.ecx) * u64::from(tsc.ebx) / u64::from(tsc.eax.max(1));
    for leaf in (0..=0x40).chain(0x4000_0000..=0x4000_0010).chain(0x8000_0000..=0x8000_0040) {
        for subleaf in 0..4 {
            let guest = *seen.get(&(leaf, subleaf)).unwrap_or(&zero);
            let allowed = cpuid::leaf(processor, xcr0, leaf, subleaf, guest, tsc_hz);
            ensure!(guest == allowed, "leaf {leaf:#x}.{subleaf}: {guest:x?}, but the policy gives {allowed:x?}");
        }
    }
    let signature = seen.get(&(0x4000_0000, 0)).unwrap_or(&zero);
    let name = [signature.ebx, signature.ecx, signature.edx].map(u32::to_le_bytes).concat();
    ensure!(name == cpuid::SIGNATURE, "the hypervisor calls itself {}", String::from_utf8_lossy(&name));
    Ok(seen.len())
}

/// The guest's registers are those of the table, with their values; all else is #GP.
fn msr_all(context: &Context) -> Result<Outcome> {
    msrs_of(context, "msr", 0)?;
    if context.prefix(Build::Release)?.processor() == cpuid::Processor::Bits64 {
        // LME and LMA, which no guest clears in 64-bit code.
        msrs_of(context, "long-msr", 0x500)?;
    }
    passed()
}

fn msrs_of(context: &Context, guest: &str, efer: u64) -> Result<()> {
    const APIC_BASE: u32 = 0x1b;
    const EFER: u32 = 0xc000_0080;
    let processor = context.prefix(Build::Release)?.processor();
    let report = run(context, guest)?;
    let read = report.facts("read");
    let tested = |number: &u32| matches!(number, 0..0x2000 | 0xc000_0000..0xc000_2000);
    let table: Vec<&msr::Msr> = msr::TABLE.iter().filter(|msr| tested(&msr.number) && msr.is_in(processor)).collect();
    for (msr, fact) in table.iter().zip(read) {
        let value = match msr.read {
            msr::Read::Value(value) => Some(value),
            msr::Read::Native => Some(0),
            msr::Read::Own(msr::Own::ApicBase) => Some(0xfee0_0900),
            msr::Read::Own(msr::Own::Efer) => Some(efer),
            msr::Read::Apic | msr::Read::Own(msr::Own::FsBase | msr::Own::GsBase | msr::Own::Syscall(_)) => Some(0),
            msr::Read::Own(msr::Own::Pat) => Some(msr::PAT_RESET),
            msr::Read::Own(msr::Own::MtrrDefType) => Some(msr::MTRR_DEF_TYPE_RESET),
            msr::Read::Tsc => None,
        };
        let &[number, high, low] = fact.as_slice() else { return Err(miette!("not a register: {fact:x?}")) };
        let got = u64::from(high) << 32 | u64::from(low);
        ensure!(number == msr.number, "{number:#x} can be read before {:#x}, {}", msr.number, msr.name);
        ensure!(value.is_none_or(|value| value == got), "{} reads {got:#x}", msr.name);
    }
    ensure!(read.len() == table.len(), "{} registers can be read, not {}", read.len(), table.len());
    let writable = |msr: &&&msr::Msr| {
        matches!(msr.write, msr::Write::Native | msr::Write::Own) || msr::write(processor, msr.number, 0).is_ok()
    };
    let expected = table.iter().filter(writable).map(|msr| msr.number);
    let takes_zero = |&number: &u32| number != APIC_BASE && (number != EFER || efer == 0);
    let expected: Vec<u32> = expected.filter(takes_zero).collect();
    let written: Vec<u32> = report.facts("write").concat();
    ensure!(written == expected, "zero can be written to {written:x?}, not to {expected:x?}");
    let faults = (4 * 0x2000 - read.len() - written.len()) as u32;
    ensure!(report.facts("faults").concat() == [faults, 0], "{:x?} faults, not {faults:x}", report.facts("faults"));
    Ok(())
}

/// Ports that belong to a device of the board: everything else reads all ones at every width. A wide access goes to the
/// owner of its first port.
fn ports_all(context: &Context) -> Result<Outcome> {
    let guests = widths(context, "ports")?;
    let counts = guests.iter().map(|guest| ports_of(context, guest)).collect::<Result<Vec<_>>>()?;
    Ok(Outcome::Passed(format!("{counts:?} ranges answer")))
}

fn ports_of(context: &Context, guest: &str) -> Result<usize> {
    /// PIC, PIT, keyboard controller and port 0x61, RTC, delay, control port A, PIC, COM1, ELCR, PCI mechanism 1.
    const OWNED: [(u32, u32); 12] = [
        (0x20, 0x21),
        (0x40, 0x43),
        (0x60, 0x61),
        (0x64, 0x64),
        (0x70, 0x71),
        (0x80, 0x80),
        (0x92, 0x92),
        (0xa0, 0xa1),
        (0x3f8, 0x3ff),
        (0x4d0, 0x4d1),
        (0xcf8, 0xcfb),
        (0xcfc, 0xcff),
    ];
    let report = run_all(context, &[guest], WITHOUT_ACPI, "")?;
    let answering = report.facts("port");
    for fact in answering {
        let &[width, first, last] = fact.as_slice() else { return Err(miette!("not a range: {fact:x?}")) };
        let owned = (first..=last).all(|port| OWNED.iter().any(|&(low, high)| (low..=high).contains(&port)));
        ensure!(owned, "nobody owns all of ports {first:#x} to {last:#x}, but {width} bytes are not all ones there");
    }
    ensure!(answering.iter().any(|fact| fact.starts_with(&[1, 0x20])), "the PIC does not answer");
    ensure!(report.lines("reset") == 0, "a port has reset the guest:\n{}", report.console);
    Ok(answering.len())
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
    run(context, "vectors").and_then(|_| passed())
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
    if context.prefix(Build::Release)?.processor() == cpuid::Processor::Bits32 {
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
    if context.prefix(Build::Release)?.processor() == cpuid::Processor::Bits32 {
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
    let long: &[&str] = match context.prefix(Build::Release)?.processor() {
        cpuid::Processor::Bits32 => &[],
        cpuid::Processor::Bits64 => &["long-avx"],
    };
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
    let guests: &[&str] = match context.prefix(Build::Release)?.processor() {
        cpuid::Processor::Bits32 => &["state", "state-too"],
        cpuid::Processor::Bits64 => &["state", "state-too", "long-state", "long-state-too"],
    };
    let report = run_all(context, guests, "", "")?;
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

fn task_switch(context: &Context) -> Result<Outcome> {
    run(context, "task-switch").and_then(|_| passed())
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

/// #AC exits, is delivered, and loses no interrupt; a guest in an endless loop of #AC is reset, and the others go on.
fn alignment_check(context: &Context) -> Result<Outcome> {
    let report = run_all(context, &["alignment-check", "ticking"], "", "")?;
    let log = "reset after #AC in the delivery of #AC";
    ensure!(report.lines(log) == 1, "not one line in the log:\n{}", report.console);
    passed()
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

/// Every kind of reset: one line in the log each, in order.
fn resets(context: &Context) -> Result<Outcome> {
    const LINES: [&str; 10] = [
        "reset by the guest",
        "reset by the guest",
        "reset by the guest",
        "reset by the guest",
        "reset by the guest",
        "reset, since the guest leaves protected mode",
        "reset after a hardware task switch",
        "reset after a hardware task switch",
        "reset after an interrupt delivered through memory that is not there",
        "reset after page tables in memory that is not there",
    ];
    let report = run(context, "resets")?;
    let lines: Vec<&str> = report.console.lines().filter(|line| line.contains(": resets: reset")).collect();
    let right = lines.len() == LINES.len() && lines.iter().zip(LINES).all(|(line, expected)| line.contains(expected));
    ensure!(right, "these resets:\n{}\nare not:\n{}", lines.join("\n"), LINES.join("\n"));
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
