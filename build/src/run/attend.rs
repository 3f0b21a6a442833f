//! Connects the console to the user's terminal, or only shows it, until the system ends or the user leaves.

use std::time::{Duration, Instant};

use miette::Result;

use super::disappointed;
use crate::bochs::Machine;
use crate::bochs::log::Ending;
use crate::console::Failure;
use crate::console::terminal::{self, Terminal, WAYS_OUT};
use crate::progress::{print, say};

/// How long the user has typed nothing when the tool may.
const IDLE: Duration = Duration::from_millis(500);

pub(super) fn run(machine: &mut Machine, deadline: Instant) -> Result<()> {
    let at_terminal = Terminal::is_there();
    say(&hint(at_terminal));
    let keyboard = if terminal::may_read_keys() { machine.console.keyboard() } else { None };
    let keys = keyboard.map(terminal::forward_keys);
    let raw = if at_terminal { Terminal::raw() } else { None };
    let (mut known, mut size) = (None, None);
    let mut last_key = Instant::now();
    let ending = loop {
        if let Some(ending) = machine.wait(Duration::from_millis(50))? {
            break Some(ending);
        }
        if keys.as_ref().is_some_and(|keys| keys.left()) {
            break None;
        }
        if keys.as_ref().is_some_and(|keys| keys.typed()) {
            last_key = Instant::now();
        }
        // The terminal's size may change, and so may the VM: each gets it, between two commands of the user.
        let now = if at_terminal { Terminal::size() } else { None };
        if machine.console.follow_input() || now != known {
            (known, size) = (now, now);
        }
        if last_key.elapsed() > IDLE {
            machine.console.tell_size(&mut size);
        }
        if Instant::now() > deadline {
            drop(raw);
            return Err(disappointed(machine, Failure::TimedOut, "the system is still running"));
        }
    };
    drop(raw);
    print("");
    match ending {
        None => say("Left the console."),
        Some(Ending::PowerOff) => say("The system powered off."),
        Some(other) => return Err(machine.why(&other)),
    }
    Ok(())
}

/// How the run ends, for the user.
fn hint(at_terminal: bool) -> String {
    if at_terminal {
        return format!("{WAYS_OUT} the console and ends the emulator.");
    }
    "There is no terminal: the console is shown until the system ends. --until TEXT, --exec CMD and --timeout SECONDS end \
     a run earlier, and so does Ctrl-C."
        .to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_user_is_told_how_to_leave_with_and_without_a_terminal() {
        for (at_terminal, ways) in [(true, &["Ctrl-]", "Enter ~ ."][..]), (false, &["--until", "--exec", "--timeout"])]
        {
            let hint = super::hint(at_terminal);
            assert!(ways.iter().all(|way| hint.contains(way)), "{hint}");
        }
    }
}
