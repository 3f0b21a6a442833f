//! `--exec`: types commands at the guest's shell and prints their answers. A run succeeds only if each command did.

use std::time::{Duration, Instant};

use miette::{Result, miette};

use super::{disappointed, left};
use crate::bochs::Machine;
use crate::bochs::log::Ending;
use crate::console::Failure;
use crate::console::shell::{Answer, Status};
use crate::progress::{Step, print, say};

/// How long a system may take to power off.
const GRACE: Duration = Duration::from_secs(60);

/// Runs all commands in order. Reports failures at the end, or at once if the guest does not answer any more.
pub(super) fn run(machine: &mut Machine, commands: &[String], deadline: Instant) -> Result<()> {
    let step = Step::start("boot: until the guest's shell waits");
    if let Err(failure) = machine.console.wait_for_prompt(left(deadline)) {
        return Err(disappointed(machine, failure, "no shell prompt appeared"));
    }
    step.done();
    let mut failed = Vec::new();
    let mut last_failed = false;
    for (index, command) in commands.iter().enumerate() {
        say(&format!("$ {command}"));
        match machine.console.shell(command, left(deadline)) {
            Ok(Answer { output, status }) => {
                print_output(&output);
                let mistake = mistake(command, status);
                last_failed = mistake.is_some();
                failed.extend(mistake);
            }
            // The last command may be the one that switches the guest off.
            Err(failure @ (Failure::Ended | Failure::Off)) if index + 1 == commands.len() => {
                switched_off(machine, command, failure)?;
                last_failed = false;
            }
            Err(failure) => return Err(disappointed(machine, failure, &format!("`{command}` did not answer"))),
        }
    }
    // A shell that `poweroff` kills prints a status first.
    if last_failed && machine.wait(GRACE)? == Some(Ending::PowerOff) && machine.console.switched_off() {
        failed.pop();
        say("The system powered off.");
    }
    if failed.is_empty() { Ok(()) } else { Err(miette!("{}", failed.join("\n"))) }
}

fn print_output(output: &str) {
    if !output.is_empty() {
        print(output.strip_suffix('\n').unwrap_or(output));
    }
}

/// The error for a command that ended this way; `None` for success.
fn mistake(command: &str, status: Status) -> Option<String> {
    match status {
        Status::Exit(0) => None,
        Status::Exit(status) => Some(format!("`{command}` ended with status {status}")),
        Status::Refused => Some(format!("`{command}` was given up by the shell before its end: is its syntax right?")),
        Status::ShellEnded => {
            Some(format!("`{command}` has no status: the shell that ran it exited or was killed, and another one came"))
        }
    }
}

/// Handles a guest that ended while a command ran. It has failed unless a command asked it to power off.
fn switched_off(machine: &mut Machine, command: &str, failure: Failure) -> Result<()> {
    let asked = machine.console.switched_off();
    let what = format!("`{command}` did not answer, and Linux did not say that it was asked to power off");
    // The machine ends with its last VM.
    let grace = if failure == Failure::Ended { GRACE } else { Duration::from_secs(3) };
    match machine.wait(grace)? {
        Some(Ending::PowerOff) if asked => {
            say("The system powered off.");
            Ok(())
        }
        Some(ending) => Err(machine.why(&ending).wrap_err(what)),
        None if failure == Failure::Off && asked => {
            say("The guest powered off; others go on.");
            Ok(())
        }
        None if failure == Failure::Off => Err(disappointed(machine, failure, &what)),
        None => Err(miette!("the console was closed, but Bochs goes on")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_status_of_zero_is_no_mistake() {
        assert_eq!(mistake("true", Status::Exit(0)), None);
        for (status, word) in
            [(Status::Exit(3), "status 3"), (Status::Refused, "syntax"), (Status::ShellEnded, "killed")]
        {
            let text = mistake("echo 'abc", status).unwrap();
            assert!(text.starts_with("`echo 'abc` ") && text.contains(word), "{text}");
        }
    }
}
