//! `cargo xtask run`: builds and boots a system, for a user at a terminal (`attend`) or for a script (`commands`).
//! However it ends, it reports what in the system has failed.

mod attend;
mod commands;

use std::time::{Duration, Instant};

use capdl_spec::host;
use miette::{Result, miette};

use crate::bochs::config::Pace;
use crate::bochs::log::Ending;
use crate::bochs::{Machine, Options};
use crate::console::shell::LONGEST;
use crate::console::terminal::Terminal;
use crate::console::{Failure, find};
use crate::kernel::Build;
use crate::packages::Purpose;
use crate::progress::{print, say};
use crate::project::Project;
use crate::{defects, image, setup};

/// The options of the command line.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The system to boot.
    pub system: String,
    /// Which kernel.
    pub build: Build,
    /// Text on the console at which the run ends with success.
    pub until: Option<String>,
    /// Commands to type at the guest's shell, in order.
    pub exec: Vec<String>,
    /// Time since power-on after which the run ends with failure.
    pub timeout: Option<Duration>,
}

/// "No limit": longer than any user waits.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Builds, boots, and does what the options say.
pub fn run(project: &Project, options: &RunOptions) -> Result<()> {
    if let Some(long) = options.exec.iter().find(|command| command.len() > LONGEST) {
        return Err(miette!("a command of {} characters is too long to type: at most {LONGEST}", long.len()));
    }
    on_a_board_of_bochs(project, &options.system)?;
    setup::ensure(&[Purpose::Kernel, Purpose::Image, Purpose::Bochs])?;
    defects::consult(project, &options.system, options.build)?;
    let image = image::build(project, &options.system, options.build)?;
    let show = options.exec.is_empty();
    let attended = show && options.until.is_none() && Terminal::is_there();
    let pace = if attended { Pace::RealTime } else { Pace::Free };
    let emulator = Options { show, pace, ..image.options(&image.system) };
    let deadline = Instant::now() + options.timeout.unwrap_or(FOR_EVER);
    let mut machine = Machine::boot(project, &emulator)?;
    say(&format!("Booting {} in Bochs; its files are in {}", image.system, machine.dir().display()));
    if !options.exec.is_empty() || options.until.is_some() {
        machine.console.watch();
    }
    if !options.exec.is_empty() {
        commands::run(&mut machine, &options.exec, deadline)?;
        machine.console.rewind();
    }
    match &options.until {
        Some(text) => until(&mut machine, text, deadline)?,
        None if options.exec.is_empty() => attend::run(&mut machine, deadline)?,
        None => {}
    }
    // A run in which something has failed does not succeed, whatever the options say.
    match machine.failures() {
        failures if failures.is_empty() => Ok(()),
        failures => Err(miette!("{}", failures.join("\n"))),
    }
}

/// Refuses a description for a board that differs from Bochs's. Descriptions for any PC run in Bochs too.
fn on_a_board_of_bochs(project: &Project, name: &str) -> Result<()> {
    let board = host::load(&project.system(name)?)?.board().name;
    if matches!(board, "bochs" | "pc") {
        return Ok(());
    }
    let help = format!("`cargo xtask image {name}` makes an ISO for it");
    Err(miette!(help = help, "`run` boots in Bochs, and this description is for the board `{board}`"))
}

/// Waits for a text on the console.
fn until(machine: &mut Machine, text: &str, deadline: Instant) -> Result<()> {
    match machine.console.expect(text, left(deadline)) {
        Ok(_) => {
            print("");
            say(&format!("\"{text}\" appeared"));
            Ok(())
        }
        Err(failure) => Err(disappointed(machine, failure, &format!("\"{text}\" did not appear"))),
    }
}

/// The error when expected text did not appear on the console: what happened instead.
fn disappointed(machine: &mut Machine, failure: Failure, what: &str) -> miette::Report {
    // The console may close a moment before the emulator ends.
    let grace =
        if matches!(failure, Failure::Ended | Failure::Reported) { Duration::from_secs(5) } else { Duration::ZERO };
    match machine.wait(grace) {
        Ok(Some(ending)) => machine.why(&ending).wrap_err(what.to_owned()),
        _ if failure == Failure::Reported => machine.why(&Ending::Failed).wrap_err(what.to_owned()),
        _ => {
            let transcript = machine.console.transcript();
            let panicked = failure != Failure::Panicked && find(&transcript, b"Kernel panic").is_some();
            let hint = if panicked { " (the guest's kernel panicked)" } else { "" };
            let tail = crate::bochs::last_lines(&transcript, 15);
            let help = format!("all of the console is in {}", machine.dir().join("console.txt").display());
            miette!(help = help, "{what}: {failure}{hint}. The console's last lines:\n{tail}")
        }
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
