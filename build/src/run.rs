//! `cargo xtask run`: builds and boots a system, for a user at a terminal (`attend`) or for a script (`commands`).
//! However it ends, it reports what in the system has failed.

mod attend;
mod commands;

use std::time::{Duration, Instant};

use capdl_spec::host::{self, console, mistake};
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
    /// The VM that gets the input; the first one if left out.
    pub vm: Option<String>,
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
    let vm = options.vm.as_deref().map(|vm| wanted(project, &options.system, vm)).transpose()?.flatten();
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
    if let Some(vm) = vm
        && let Err(failure) = machine.console.move_input(&vm, left(deadline))
    {
        return Err(disappointed(&mut machine, failure, &format!("the input does not go to the VM `{vm}`")));
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

/// The console of this name, a VM's or its second one, unless it is the one that gets the input anyway.
fn wanted(project: &Project, system: &str, name: &str) -> Result<Option<String>> {
    let system = host::load(&project.system(system)?)?;
    let consoles = system.consoles();
    let names: Vec<&str> = consoles.iter().map(String::as_str).collect();
    choose(name, &names).map_err(|help| {
        let path = system.source.path.display();
        miette!(help = help, "{path}: no VM has the name `{name}`, which --vm gives")
    })
}

/// The VM of this name, if the input has to be moved to it; the error is advice.
fn choose(name: &str, vms: &[&str]) -> Result<Option<String>, String> {
    match vms.iter().position(|vm| *vm == name) {
        Some(number) => Ok((number > 0).then(|| name.to_owned())),
        None => {
            let all = match vms {
                [] => "the system has no VM".to_owned(),
                [vm] => format!("its only VM is `{vm}`"),
                vms => format!("its VMs are {}", vms.join(", ")),
            };
            Err(mistake::close(name, vms).map_or(all.clone(), |vm| format!("did you mean `{vm}`? {all}")))
        }
    }
}

/// Refuses a description for a board that differs from Bochs's. Descriptions for any PC run in Bochs too.
fn on_a_board_of_bochs(project: &Project, name: &str) -> Result<()> {
    let system = host::load(&project.system(name)?)?;
    let (board, port) = (system.board().name, system.board().uart.ports.first);
    if matches!(board, "bochs" | "pc") {
        let help = "Bochs has COM1 to COM4; `cargo xtask image` makes an ISO for a board with another";
        let there = console::com_number(port).map(|_| ());
        return there.ok_or_else(|| miette!(help = help, "Bochs has no UART at the console's port {port:#x}"));
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

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn a_vm_is_chosen_by_its_name() {
        assert_eq!(choose("first", &["first", "second"]), Ok(None));
        assert_eq!(choose("second", &["first", "second"]), Ok(Some("second".into())));
        let advice = |name, vms: &[&str]| choose(name, vms).unwrap_err();
        assert_eq!(advice("secnod", &["first", "second"]), "did you mean `second`? its VMs are first, second");
        assert_eq!(advice("x", &["linux"]), "its only VM is `linux`");
        assert_eq!(advice("x", &[]), "the system has no VM");
    }
}
