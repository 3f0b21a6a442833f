//! `cargo xtask run`: from nothing to the guest's console, for a person at a terminal or for a script.

use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use miette::{Result, miette};

use crate::bochs::config::Pace;
use crate::bochs::log::Ending;
use crate::bochs::{Machine, Options};
use crate::console::shell::{Answer, LONGEST};
use crate::console::terminal::{self, LEAVE_NAME, Terminal};
use crate::console::{Failure, find};
use crate::kernel::Build;
use crate::packages::Purpose;
use crate::progress::{Step, say};
use crate::project::Project;
use crate::{image, setup};

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Wishes {
    /// The system to boot.
    pub system: String,
    /// Which kernel.
    pub build: Build,
    /// End with success when this appears on the console.
    pub until: Option<String>,
    /// Type these at the guest's shell, in order.
    pub exec: Vec<String>,
    /// End with failure after this time, counted from power-on.
    pub timeout: Option<Duration>,
}

/// "No limit": longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a system that was told to power off may take.
const GRACE: Duration = Duration::from_secs(60);

/// Builds, boots, and does what is wished.
pub fn run(project: &Project, wishes: &Wishes) -> Result<()> {
    if let Some(long) = wishes.exec.iter().find(|command| command.len() > LONGEST) {
        return Err(miette!("a command of {} characters is too long to type: at most {LONGEST}", long.len()));
    }
    setup::ensure(&[Purpose::Kernel, Purpose::Image, Purpose::Bochs])?;
    let image = image::build(project, &wishes.system, wishes.build)?;
    let show = wishes.exec.is_empty();
    let attended = show && wishes.until.is_none() && Terminal::is_there();
    let pace = if attended { Pace::RealTime } else { Pace::Free };
    let options = Options { show, pace, ..image.options(&image.system) };
    let deadline = Instant::now() + wishes.timeout.unwrap_or(FOR_EVER);
    let mut machine = Machine::boot(project, &options)?;
    say(&format!("Booting {} in Bochs; its files are in {}", image.system, machine.dir().display()));
    if !wishes.exec.is_empty() || wishes.until.is_some() {
        machine.console.watch();
    }
    if !wishes.exec.is_empty() {
        commands(&mut machine, &wishes.exec, deadline)?;
        machine.console.rewind();
    }
    match &wishes.until {
        Some(text) => until(&mut machine, text, deadline)?,
        None if wishes.exec.is_empty() => attend(&mut machine, deadline)?,
        None => {}
    }
    // Whatever else was wished: a run in which something has failed is none that went well.
    match machine.failures() {
        failures if failures.is_empty() => Ok(()),
        failures => Err(miette!("{}", failures.join("\n"))),
    }
}

/// Waits for a text on the console.
fn until(machine: &mut Machine, text: &str, deadline: Instant) -> Result<()> {
    match machine.console.expect(text, left(deadline)) {
        Ok(_) => {
            println!();
            say(&format!("\"{text}\" appeared"));
            Ok(())
        }
        Err(failure) => Err(disappointed(machine, failure, &format!("\"{text}\" did not appear"))),
    }
}

/// Types commands and prints their answers. A command that fails makes the run fail, at its end.
fn commands(machine: &mut Machine, commands: &[String], deadline: Instant) -> Result<()> {
    let step = Step::start("boot: until the guest's shell waits");
    if let Err(failure) = machine.console.wait_for_prompt(left(deadline)) {
        return Err(disappointed(machine, failure, "no shell prompt appeared"));
    }
    step.done();
    let mut failed = Vec::new();
    for (index, command) in commands.iter().enumerate() {
        say(&format!("$ {command}"));
        match machine.console.shell(command, left(deadline)) {
            Ok(Answer { output, status }) => {
                print!("{output}");
                if !output.is_empty() && !output.ends_with('\n') {
                    println!();
                }
                let _ = std::io::stdout().flush();
                match status {
                    Some(0) => {}
                    Some(status) => failed.push(format!("`{command}` ended with status {status}")),
                    None => say("(the shell came back without an exit status: it was restarted, or refused the line)"),
                }
            }
            // The last command may be the one that ends the machine.
            Err(Failure::Ended) if index + 1 == commands.len() => {
                return ended(machine, &failed);
            }
            Err(failure) => {
                return Err(disappointed(machine, failure, &format!("`{command}` did not answer")));
            }
        }
    }
    // A shell that is killed by `poweroff` tells a status first.
    if !failed.is_empty() && machine.wait(GRACE)? == Some(Ending::PowerOff) {
        failed.pop();
        say("The system powered off.");
    }
    if failed.is_empty() { Ok(()) } else { Err(miette!("{}", failed.join("\n"))) }
}

fn ended(machine: &mut Machine, failed: &[String]) -> Result<()> {
    match machine.wait(GRACE)? {
        Some(Ending::PowerOff) => say("The system powered off."),
        Some(other) => return Err(machine.why(&other)),
        None => return Err(miette!("the console was closed, but Bochs goes on")),
    }
    if failed.is_empty() { Ok(()) } else { Err(miette!("{}", failed.join("\n"))) }
}

/// Joins the console to the terminal, or just shows it, until the system ends or the user leaves.
fn attend(machine: &mut Machine, deadline: Instant) -> Result<()> {
    let at_terminal = Terminal::is_there();
    if at_terminal {
        say(&format!("{LEAVE_NAME} leaves the console and ends the emulator."));
    }
    let keys = machine.console.keyboard().map(terminal::forward_keys);
    let raw = if at_terminal { Terminal::raw() } else { None };
    let ending = loop {
        if let Some(ending) = machine.wait(Duration::from_millis(50))? {
            break Some(ending);
        }
        if keys.as_ref().is_some_and(|left| left.load(Ordering::Relaxed)) {
            break None;
        }
        if Instant::now() > deadline {
            drop(raw);
            return Err(disappointed(machine, Failure::TimedOut, "the system is still running"));
        }
    };
    drop(raw);
    println!();
    match ending {
        None => say("Left the console."),
        Some(Ending::PowerOff) => say("The system powered off."),
        Some(other) => return Err(machine.why(&other)),
    }
    Ok(())
}

/// The error when something on the console did not come: what happened instead.
fn disappointed(machine: &mut Machine, failure: Failure, what: &str) -> miette::Report {
    // The console may close a moment before the emulator is gone.
    let grace =
        if matches!(failure, Failure::Ended | Failure::Reported) { Duration::from_secs(5) } else { Duration::ZERO };
    match machine.wait(grace) {
        Ok(Some(ending)) => machine.why(&ending).wrap_err(what.to_owned()),
        _ if failure == Failure::Reported => machine.why(&Ending::Failed).wrap_err(what.to_owned()),
        _ => {
            let transcript = machine.console.transcript();
            let hint = if find(&transcript, b"Kernel panic").is_some() { " (the guest's kernel panicked)" } else { "" };
            let tail = crate::bochs::last_lines(&transcript, 15);
            let help = format!("all of the console is in {}", machine.dir().join("console.txt").display());
            miette!(help = help, "{what}: {failure}{hint}. The console's last lines:\n{tail}")
        }
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
