//! Boots tests/kernel on a kernel until each of its checks has an answer. A check that stops the machine or hangs has
//! failed, and the rest runs in another boot.

use std::path::Path;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, Result, miette};

use crate::bochs::log::Ending;
use crate::bochs::{Machine, Options, last_lines, log};
use crate::kernel::Prefix;
use crate::progress::Step;
use crate::project::{self, Project};
use crate::{image, iso};

/// How long a board may take to the first line.
const BOOT: Duration = Duration::from_secs(180);
/// How long a check may print nothing, at least, and in times of what the boot took, which says how fast the host is now.
/// No check executes more than a few times the instructions of a boot.
const SILENCE: (Duration, u32) = (Duration::from_secs(20), 8);
/// A debug kernel's last words: before it stops the machine, and at a fault of the root task, which nobody handles.
const LAST_WORDS: [(&str, &str); 2] =
    [("\nhalting...", "the kernel stops the machine"), ("while trying to handle:", "the root task faults")];

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel behaves as it should.
    Passed,
    /// It does not; what was seen.
    Failed(String),
    /// It cannot be asked; why.
    LeftOut(String),
}

/// A check and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The defect that it looks for.
    pub defect: String,
    /// What it checks.
    pub check: String,
    /// How it ended.
    pub verdict: Verdict,
}

/// All that a kernel was asked.
#[derive(Debug, Default)]
pub struct Answers {
    /// The checks, in the order in which they ran.
    pub checks: Vec<Answer>,
    /// How often the kernel executed INVEPT with an invalid descriptor: only the emulator's log shows that.
    pub invalid_invepts: usize,
}

/// Runs all checks on a kernel.
pub fn ask(project: &Project, prefix: &Prefix) -> Result<Answers> {
    let built = image::cargo_build(project, &["kernel-tests"], prefix)?;
    let root_task = built.get("kernel-tests").ok_or_else(|| miette!("cargo built no kernel-tests"))?;
    let root_task = project::read(root_task)?;
    let name = format!("kernel-tests-{}", prefix.name());
    let dir = project.images(&name);
    std::fs::create_dir_all(&dir).into_diagnostic()?;
    let step = Step::start(&format!("{}: ask it for its defects", prefix.name()));
    let mut answers = Answers::default();
    loop {
        let last = answers.checks.last().map_or("", |answer| &answer.check);
        let iso = iso_behind(prefix, &root_task, last, &dir)?;
        let (text, ending, invepts) = boot(project, &name, &iso, &step)?;
        answers.invalid_invepts += invepts;
        let Said { mut checks, running, end } = read(&text);
        if let Some(running) = running {
            checks.push(Answer { verdict: Verdict::Failed(why(&text, ending.as_ref())), ..running });
        }
        let nothing = checks.is_empty();
        answers.checks.extend(checks);
        if end {
            break;
        }
        if nothing {
            let last = last_lines(text.as_bytes(), 12);
            return Err(miette!("no check runs on this kernel; the console's last lines:\n{last}"));
        }
    }
    step.done();
    Ok(answers)
}

/// An ISO whose root task begins behind a check.
fn iso_behind(prefix: &Prefix, root_task: &[u8], check: &str, dir: &Path) -> Result<std::path::PathBuf> {
    let bundle = [check.as_bytes(), &[0]].concat();
    let elf = image::with_bundle(root_task.to_vec(), &bundle)
        .ok_or_else(|| miette!("kernel-tests has no segment for a bundle (see crates/image-link)"))?;
    let path = dir.join("root-task");
    project::write(&path, &elf)?;
    iso::make(&prefix.kernel(), &path, dir)
}

/// One boot: what was printed, how it ended (`None` if it printed nothing more), and the invalid INVEPTs.
fn boot(project: &Project, name: &str, iso: &Path, step: &Step) -> Result<(String, Option<Ending>, usize)> {
    let mut options = Options::new(&format!("test-{name}"), iso);
    options.memory_mib = 512;
    options.input = false;
    let mut machine = Machine::boot(project, &options)?;
    let (mut printed, mut since, mut patience) = (String::new(), Instant::now(), BOOT);
    let ending = loop {
        if let Some(ending) = machine.wait(Duration::from_millis(200))? {
            break Some(ending);
        }
        let now = transcript(&machine);
        if now != printed {
            if printed.is_empty() {
                patience = SILENCE.0.max(since.elapsed() * SILENCE.1);
            }
            (printed, since) = (now, Instant::now());
            step.note(printed.trim_end().lines().last().unwrap_or_default());
        }
        if since.elapsed() > patience || last_words(&printed).is_some() {
            break None;
        }
    };
    machine.stop();
    let log = machine.log();
    let invalid = log.lines().filter_map(log::line).filter(|line| line.text.starts_with("INVEPT: ")).count();
    Ok((transcript(&machine), ending, invalid))
}

/// What a debug kernel's last words mean, if it has said any.
fn last_words(text: &str) -> Option<&'static str> {
    LAST_WORDS.iter().find(|(words, _)| text.contains(words)).map(|(_, meaning)| *meaning)
}

fn transcript(machine: &Machine) -> String {
    String::from_utf8_lossy(&machine.console.transcript()).replace('\r', "")
}

/// What a root task has printed.
struct Said {
    /// The checks that came to an end.
    checks: Vec<Answer>,
    /// The check that did not.
    running: Option<Answer>,
    /// Whether there are no more.
    end: bool,
}

fn read(text: &str) -> Said {
    let mut said = Said { checks: Vec::new(), running: None, end: false };
    for line in text.lines() {
        let Some((word, rest)) = line.split_at_checked(5) else {
            said.end |= line == "end";
            continue;
        };
        let Some((defect, rest)) = rest.split_once(": ") else { continue };
        let (check, what) = rest.split_once(": ").unwrap_or((rest, ""));
        let verdict = match word {
            "run  " => {
                let verdict = Verdict::Failed(String::new());
                said.running = Some(Answer { defect: defect.into(), check: check.into(), verdict });
                continue;
            }
            "ok   " => Verdict::Passed,
            "FAIL " => Verdict::Failed(what.into()),
            "left " => Verdict::LeftOut(what.into()),
            // The kernel's own messages.
            _ => continue,
        };
        said.running = None;
        said.checks.push(Answer { defect: defect.into(), check: check.into(), verdict });
    }
    said
}

/// Why a check did not come to an end: the way in which the machine ended, and what the kernel said.
fn why(text: &str, ending: Option<&Ending>) -> String {
    let end = match ending {
        Some(Ending::Panic(what)) => what.clone(),
        Some(Ending::Died(status)) => format!("Bochs ended by itself, {status}"),
        Some(Ending::PowerOff | Ending::Failed) => "the machine is off".to_owned(),
        None => last_words(text).unwrap_or("the machine stands still").to_owned(),
    };
    let behind = text.rsplit_once("run  ").and_then(|(_, behind)| behind.split_once('\n'));
    let lines = || behind.iter().flat_map(|(_, said)| said.lines()).map(str::trim).filter(|line| !line.is_empty());
    // A debug kernel prints a page of registers around what has happened, and before that what it refuses.
    let cause = ["seL4 ", "Vector", "Caught ", "Found thread "];
    let said = lines().find(|line| cause.iter().any(|begin| line.starts_with(begin))).or_else(|| lines().next());
    let said = said.map(|said| said.replace(char::is_control, ""));
    said.map_or(end.clone(), |said| format!("{end}: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(defect: &str, check: &str, verdict: Verdict) -> Answer {
        Answer { defect: defect.into(), check: check.into(), verdict }
    }

    #[test]
    fn each_line_of_a_check_is_read_and_the_kernels_own_are_not() {
        let text = "Booting all finished, dropped to user space\n\
                    left bases: by instruction: this kernel is without FSGSBASE_INST\n\
                    run  cr2: a guest keeps it\nok   cr2: a guest keeps it\n\
                    <<seL4(CPU 0) [decodeInvocation/580 T0x1 \"x\" @1]: Attempted to invoke a null cap #0.>>\n\
                    run  ports: a port is closed\nFAIL ports: a port is closed: reason: c, not 1e\n";
        let said = read(text);
        let left = Verdict::LeftOut("this kernel is without FSGSBASE_INST".into());
        let expected = [
            answer("bases", "by instruction", left),
            answer("cr2", "a guest keeps it", Verdict::Passed),
            answer("ports", "a port is closed", Verdict::Failed("reason: c, not 1e".into())),
        ];
        assert_eq!(said.checks, expected);
        assert!(said.running.is_none() && !said.end);
        assert!(read(&format!("{text}end\n")).end);
    }

    #[test]
    fn a_check_without_an_end_has_failed_with_the_kernels_first_line() {
        let text = "run  cr2: a\nok   cr2: a\nrun  former-vcpus: b\n\
                    seL4 failed assertion 'vcpu->vpid == vpid' at vcpu.c:1 in function f\nhalting...\n";
        let said = read(text);
        assert_eq!(said.running.map(|running| running.check), Some("b".to_owned()));
        let assertion = "seL4 failed assertion 'vcpu->vpid == vpid' at vcpu.c:1 in function f";
        assert_eq!(why(text, None), format!("the kernel stops the machine: {assertion}"));
        let exception = "run  flags: d\nCaller: x\n== KERNEL EXCEPTION ==\nVector:  0xd\nhalting...\n";
        assert_eq!(why(&format!("\n{exception}"), None), "the kernel stops the machine: Vector:  0xd");
        let silent = "run  vmenter: c\n";
        assert_eq!(why(silent, None), "the machine stands still");
        assert_eq!(why(silent, Some(&Ending::Panic("triple fault".into()))), "triple fault");
    }
}
