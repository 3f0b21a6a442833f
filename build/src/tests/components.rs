//! Servers and root-task on seL4 in Bochs, called by the clients of tests/components. Each test boots one description
//! of tests/systems; the clients print their findings and a verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use capdl_spec::host;
use capdl_spec::spec::{Id, Kind, Process, Spec};
use miette::{Context as _, IntoDiagnostic, Result, ensure, miette};

use crate::bochs::config::{START_OF_TIME, TICKS_PER_SECOND};
use crate::bochs::log::Ending;
use crate::bochs::{Machine, last_lines};
use crate::cache::sha256;
use crate::console::Failure;
use crate::kernel::Build;
use crate::process;
use crate::project;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Components, name, run);
    vec![
        test("servers-answer-their-clients", servers),
        test("faults-are-reported-and-the-others-go-on", faults),
        test("a-fault-can-stop-the-machine", halt),
        test("capabilities-are-those-of-the-specification", capabilities),
        test("a-component-outside-of-the-project", outside),
    ]
}

/// How long a part of a test may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

fn description(context: &Context, name: &str) -> PathBuf {
    context.project.root.join("tests/systems").join(name).with_extension("toml")
}

fn boot(context: &Context, name: &str, build: Build) -> Result<Machine> {
    let path = description(context, name);
    let path = path.to_str().ok_or_else(|| miette!("{} is no text", path.display()))?;
    context.boot_with(path, build, |options| options.input = false)
}

/// Waits for a text; returns everything printed so far.
fn until(machine: &mut Machine, text: &str) -> Result<String> {
    let found = machine.console.expect(text, LIMIT).and_then(|_| machine.console.expect("\n", LIMIT));
    let printed = printed(machine);
    found.map(|_| printed).map_err(|failure: Failure| {
        let last = last_lines(&machine.console.transcript(), 25);
        miette!("\"{text}\" did not appear: {failure}. The console's last lines:\n{last}")
    })
}

fn printed(machine: &Machine) -> String {
    String::from_utf8_lossy(&machine.console.transcript()).replace('\r', "")
}

/// What a process printed, without its name.
pub fn lines<'a>(text: &'a str, process: &str) -> impl Iterator<Item = &'a str> {
    let prefix = format!("{process}: ");
    text.lines().filter_map(move |line| line.strip_prefix(&prefix))
}

/// How many of a client's checks passed; an error with its messages about those that failed.
pub fn verdict(text: &str, process: &str) -> Result<u32> {
    let verdict = lines(text, process).find_map(|line| line.strip_prefix("verdict: "));
    let verdict = verdict.ok_or_else(|| miette!("{process} gave no verdict:\n{}", last_lines(text.as_bytes(), 25)))?;
    let errors: Vec<&str> = lines(text, process).filter_map(|line| line.strip_prefix("error: ")).collect();
    let passed = verdict.strip_suffix(" passed, 0 failed").and_then(|count| count.parse().ok());
    passed.ok_or_else(|| miette!("{process}: {verdict}\n{}", errors.join("\n")))
}

fn servers(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "components-servers", Build::Release)?;
    until(&mut machine, "outsider: verdict: ")?;
    let text = until(&mut machine, "client: verdict: ")?;
    let checks = verdict(&text, "client")? + verdict(&text, "outsider")?;
    for (process, file) in [("client", "Cargo.lock"), ("outsider", "LICENSE")] {
        let digest = sha256(&project::read(&context.project.root.join(file))?);
        let line = format!("sha256 {digest} {file}");
        ensure!(lines(&text, process).any(|found| found == line), "{process} did not print `{line}`");
    }
    date(&text)?;
    let lost = bursts(&text)?;
    Ok(Outcome::Passed(format!("{checks} checks, {lost} of 400 unpaced lines lost and counted")))
}

/// The date is the emulated clock's: the TSC starts with it, from 0.
fn date(text: &str) -> Result<()> {
    let line = lines(text, "client").find_map(|line| line.strip_prefix("date ")).unwrap_or_default();
    let (unix, at) = line.split_once(" at ").ok_or_else(|| miette!("client printed no date"))?;
    let (unix, at): (u64, u64) = (unix.parse().into_diagnostic()?, at.parse().into_diagnostic()?);
    let expected = START_OF_TIME + at / TICKS_PER_SECOND;
    ensure!(unix.abs_diff(expected) <= 2, "the date was {unix}, the emulated board's {expected}");
    Ok(())
}

/// No paced line is missing, and every unpaced one is printed or counted as lost. Returns how many were lost.
fn bursts(text: &str) -> Result<u32> {
    let numbered = |burst: &str| -> Vec<u32> {
        let tail = " abcdefghijklmnopqrstuvwxyz0123456789ABCDEF";
        let lines = lines(text, "client").filter_map(|line| line.strip_prefix(burst)?.strip_suffix(tail));
        lines.filter_map(|number| number.parse().ok()).collect()
    };
    ensure!(numbered("burst ").into_iter().eq(0..400), "20 KB of log did not arrive whole and in order");
    let flood = numbered("flood ");
    ensure!(flood.is_sorted_by(|a, b| a < b), "unpaced lines are out of order");
    let lost: u32 = lines(text, "client")
        .filter_map(|line| line.strip_prefix('(')?.strip_suffix(" lines lost)"))
        .filter_map(|count| count.parse::<u32>().ok())
        .sum();
    ensure!(flood.len() as u32 + lost == 400, "{} unpaced lines arrived, {lost} were counted as lost", flood.len());
    Ok(lost)
}

/// Processes of components-faults.toml, and root-task's expected report of each, up to the first unpredictable address.
const FAULTS: [(&str, &str); 12] = [
    ("null-write", "writes 0x0 at "),
    ("code-write", "writes 0x4"),
    ("jump", "fetches 0x7fff0000 at 0x7fff0000"),
    ("ud2", "processor exception 6, error code 0x0, at "),
    ("divide", "processor exception 0, error code 0x0, at "),
    ("port", "processor exception 13, error code 0x0, at "),
    ("hlt", "processor exception 13, error code 0x0, at "),
    ("system-call", "unknown system call 0x4d at "),
    ("stack", "writes 0x1ffb"),
    ("capability", "no capability at 0x32000, used at "),
    ("panic", "processor exception 6, error code 0x0, at "),
    ("forged", "kind 0"),
];

/// Processes that set r14 and r15 first.
const WITH_REGISTERS: usize = 8;

fn faults(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "components-faults", Build::Release)?;
    let text = until(&mut machine, "witness: verdict: ")?;
    for (number, (process, report)) in FAULTS.into_iter().enumerate() {
        reported(&text, process, report, number < WITH_REGISTERS).wrap_err_with(|| process.to_owned())?;
    }
    // root-task's lines may interrupt other processes' lines.
    let torn: String = text.lines().filter(|line| !line.is_empty() && !line.starts_with("root-task: ")).collect();
    ensure!(!torn.contains("still there"), "a process went on after its fault:\n{text}");
    ensure!(torn.contains("on purpose"), "the panic's message is missing");
    restarted(&text)?;
    let checks = verdict(&text, "witness")?;
    Ok(Outcome::Passed(format!("{} faults, 19 restarts, then {checks} checks", FAULTS.len())))
}

/// A report is one block of whole lines: the fault, the registers, the consequence.
fn reported(text: &str, process: &str, report: &str, registers: bool) -> Result<()> {
    let all: Vec<&str> = text.lines().collect();
    let first = format!("root-task: {process} faulted: {report}");
    let at = all.iter().position(|line| line.starts_with(&first)).ok_or_else(|| miette!("no line `{first}…`"))?;
    let block: Vec<&str> = all[at..].iter().take(7).copied().collect();
    let whole = block.iter().all(|line| line.starts_with("root-task: ")) && block.len() == 7;
    ensure!(whole, "the report is not in one piece:\n{}", block.join("\n"));
    let value = |name: &str| {
        let words: Vec<&str> = block[1..6].iter().flat_map(|line| line.split_whitespace()).collect();
        let at = words.iter().position(|word| *word == name)?;
        u64::from_str_radix(words.get(at + 1)?, 16).ok()
    };
    let names = ["rip", "rsp", "rflags", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11"];
    ensure!(names.iter().all(|name| value(name).is_some()), "registers are missing:\n{}", block.join("\n"));
    if registers {
        ensure!(value("r14") == Some(0x1122_3344_5566_7788), "r14 is {:x?}", value("r14"));
        ensure!(value("r15") == Some(0x99aa_bbcc_ddee_ff00), "r15 is {:x?}", value("r15"));
    }
    let ending = format!("root-task: failed: {process}: it faulted and stays stopped");
    ensure!(block[6] == ending, "the report ends with `{}`", block[6]);
    Ok(())
}

/// One process runs on after its third restart, each time with fresh memory; root-task gives up another.
fn restarted(text: &str) -> Result<()> {
    let expected = ["life 1", "life 2", "life 3", "life 4"].map(|life| format!("{life}, start 1 of this memory"));
    let lives: Vec<&str> = lines(text, "phoenix").filter(|line| line.starts_with("life ")).collect();
    ensure!(lives == expected, "phoenix: {lives:?}");
    let restarts = |of: &str| lines(text, "root-task").filter(|line| *line == format!("{of} restarted")).count();
    ensure!(restarts("phoenix") == 3, "{} restarts of phoenix", restarts("phoenix"));
    ensure!(restarts("sisyphus") == 16, "{} restarts of sisyphus", restarts("sisyphus"));
    let given_up = "failed: sisyphus: it faulted after 16 restarts and stays stopped";
    ensure!(lines(text, "root-task").any(|line| line == given_up), "sisyphus is not given up");
    ensure!(lines(text, "phoenix").any(|line| line == "lives on: served"), "phoenix is not served");
    Ok(())
}

fn halt(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "components-halt", Build::Release)?;
    let ending = machine.wait(LIMIT)?;
    let Some(ending @ Ending::Failed) = ending else { miette::bail!("not a failure: {ending:?}") };
    let why = machine.why(&ending).to_string();
    ensure!(why.starts_with("`fatal` failed: it faulted, which is to stop the machine"), "the run's error is: {why}");
    let text = printed(&machine);
    ensure!(text.contains("root-task: fatal faulted: processor exception 6"), "no report:\n{text}");
    ensure!(text.contains("root-task: the machine stops"), "no last word:\n{text}");
    ensure!(lines(&text, "witness").next().is_none(), "a process ran on:\n{text}");
    crate::test::passed()
}

/// A copy of templates/component in another folder, with the line of its manifest that names the project: its own test runs,
/// and a description beside it has it built and started.
fn outside(context: &Context) -> Result<Outcome> {
    let project = &context.project;
    let folder = std::env::temp_dir().join(format!("portcullis-outside-{}", std::process::id()));
    let there = folder.join("mine");
    let _ = std::fs::remove_dir_all(&folder);
    project::copy_tree(&project.root.join("templates/component"), &there)?;
    let manifest = String::from_utf8_lossy(&project::read(&there.join("Cargo.toml"))?).into_owned();
    let library = project.root.join("crates/portcullis");
    let manifest = manifest.replace("../../crates/portcullis", &library.to_string_lossy());
    project::write(&there.join("Cargo.toml"), manifest.as_bytes())?;
    // A second one of the same name, with another program, and the project's own of that name.
    let other = folder.join("other");
    project::copy_tree(&there, &other)?;
    let renamed = |folder: &Path, name: &str, greeting: &str| {
        let file = |path: &str| {
            Ok::<_, miette::Report>(String::from_utf8_lossy(&project::read(&folder.join(path))?).into_owned())
        };
        let manifest = file("Cargo.toml")?.replace("my-component", name);
        project::write(&folder.join("Cargo.toml"), manifest.as_bytes())?;
        let main = file("src/main.rs")?.replace("my_component", &name.replace('-', "_"));
        project::write(&folder.join("src/main.rs"), main.as_bytes())?;
        project::write(&folder.join("src/lib.rs"), file("src/lib.rs")?.replace("Hello", greeting).as_bytes())
    };
    renamed(&there, "print-server", "Hello")?;
    renamed(&other, "print-server", "Goodbye")?;
    let component = |name: &str, image: &str| {
        format!("[[component]]\nname = \"{name}\"\nimage = \"{image}\"\nargs = \"outside\"\n")
    };
    let components =
        [component("greeter", "./mine"), component("leaver", "./other"), component("printer", "print-server")];
    let text = format!("board = \"bochs\"\n{}", components.concat());
    let path = folder.join("greeting.toml");
    project::write(&path, text.as_bytes())?;
    let run = || {
        let mut machine =
            context.boot_with(&path.to_string_lossy(), Build::Release, |options| options.input = false)?;
        for line in
            ["greeter: Hello, outside!", "leaver: Goodbye, outside!", "printer: error: it is an end of no channel"]
        {
            until(&mut machine, line)?;
            machine.console.rewind();
        }
        machine.stop();
        let mut cargo = process::cargo();
        cargo.current_dir(&there).args(["test", "--target-dir"]).arg(project.target.join("outside"));
        let said = process::output(cargo)?;
        ensure!(said.contains("test result: ok. 1 passed"), "the component's own test says:\n{said}");
        crate::test::passed()
    };
    let outcome = run();
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}

/// With a debug kernel, root-task and each component identify the capabilities in their CSpaces.
fn capabilities(context: &Context) -> Result<Outcome> {
    let mut notes = Vec::new();
    let spec = plan(context, "components-cspace")?;
    let mut machine = boot(context, "components-cspace", Build::Debug)?;
    let mut text = String::new();
    for process in ["all", "some", "none"] {
        machine.console.rewind();
        text = until(&mut machine, &format!("{process}: slots end, 0 beyond"))?;
    }
    machine.stop();
    notes.push(verified(&text, &spec)?);
    let mut kinds = Kinds::default();
    for process in ["all", "some", "none"] {
        let process = spec.processes.iter().find(|p| p.name == process).ok_or_else(|| miette!("no {process}"))?;
        compare(&text, &spec, process, &mut kinds).wrap_err_with(|| process.name.clone())?;
    }
    let minimal = host::plan(&host::load(&context.project.system("minimal")?)?)?;
    let mut machine = context.boot_with("minimal", Build::Debug, |options| options.input = false)?;
    notes.push(verified(&until(&mut machine, "root-task: checked: ")?, &minimal)?);
    Ok(Outcome::Passed(notes.join("; ")))
}

fn plan(context: &Context, name: &str) -> Result<Spec> {
    Ok(host::plan(&host::load(&description(context, name))?)?)
}

/// root-task found in all CNodes exactly the specification's capabilities; and no process has untyped memory or ASIDs.
fn verified(text: &str, spec: &Spec) -> Result<String> {
    let slots: usize = spec.objects.iter().map(|o| if let Kind::CNode { bits } = o.kind { 1 << bits } else { 0 }).sum();
    let cnodes = spec.objects.iter().filter(|object| matches!(object.kind, Kind::CNode { .. })).count();
    let count = spec.caps.len();
    let line = format!(
        "checked: {count} capabilities of the type that the specification says, {} slots of {cnodes} CNodes empty",
        slots - count
    );
    ensure!(lines(text, "root-task").any(|found| found == line), "root-task did not print `{line}`");
    Ok(format!("{}: {count} capabilities", spec.name))
}

/// The kernel's numbers for types of capabilities, as they appear: each number stands for one kind.
#[derive(Default)]
struct Kinds(BTreeMap<&'static str, u32>);

impl Kinds {
    fn agree(&mut self, kind: &'static str, number: u32) -> bool {
        let known = *self.0.entry(kind).or_insert(number);
        known == number && self.0.values().filter(|other| **other == number).count() == 1
    }
}

/// The process found in its own CSpace what the specification puts there.
fn compare(text: &str, spec: &Spec, process: &Process, kinds: &mut Kinds) -> Result<()> {
    let in_cnode = |cnode: Id| spec.caps.iter().filter(move |cap| cap.cnode == cnode);
    let mut expected: BTreeMap<(&str, u32), &'static str> = BTreeMap::new();
    expected.extend(in_cnode(process.cspace).map(|cap| (("slot", cap.slot), word(spec, cap.object))));
    let scratch = in_cnode(process.cspace).map(|cap| cap.object).filter(|id| word(spec, *id) == "CNode");
    expected.extend(scratch.flat_map(in_cnode).map(|cap| (("scratch", cap.slot), word(spec, cap.object))));
    let mut found: BTreeMap<(&str, u32), u32> = BTreeMap::new();
    for line in lines(text, &process.name) {
        let words: Vec<&str> = line.split(' ').collect();
        if let [place @ ("slot" | "scratch"), slot, "type", number] = words[..] {
            found.insert((place, slot.parse().into_diagnostic()?), number.parse().into_diagnostic()?);
        }
    }
    ensure!(found.keys().eq(expected.keys()), "found {found:?}, expected {expected:?}");
    for (place, number) in found {
        let kind = expected.get(&place).copied().unwrap_or_default();
        // The scratch slot's address resolves into the CNode, whose first slot also holds the CNode.
        ensure!(kinds.agree(kind, number), "{place:?}: type {number} for a {kind}, known: {:?}", kinds.0);
    }
    Ok(())
}

fn word(spec: &Spec, object: Id) -> &'static str {
    match spec.kind(object) {
        Some(Kind::Endpoint) => "endpoint",
        Some(Kind::Notification) => "notification",
        Some(Kind::CNode { .. }) => "CNode",
        Some(Kind::Vcpu) => "VCPU",
        Some(Kind::IoPorts { .. }) => "I/O ports",
        Some(Kind::IrqControl) => "IRQControl",
        _ => "thing that no process may hold",
    }
}
