//! External commands: run with their progress shown, and with an error that tells what was run, how it ended and what it
//! said last.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use miette::{IntoDiagnostic, Result};

use crate::progress::Step;

/// How many of a failed command's last lines are shown.
const TAIL: usize = 25;

/// Runs a long command under the heading `what`. Its output (both streams) is returned when it succeeds.
pub fn run(what: &str, command: Command) -> Result<String> {
    let step = Step::start(what);
    let output = capture(command, |line| step.note(line))?;
    step.done();
    Ok(output)
}

/// Runs a short command without a heading. Its output (both streams) is returned when it succeeds.
pub fn output(command: Command) -> Result<String> {
    capture(command, |_| {})
}

/// Runs a command with no input, hands every line that it prints to `each`, and fails unless it ends with exit code 0.
pub fn capture(command: Command, each: impl FnMut(&str)) -> Result<String> {
    let shown = show(&command);
    let (status, output) = finish(command, each)?;
    if status.success() {
        return Ok(output);
    }
    Err(failure(&shown, status, &output))
}

/// Runs a command with no input to its end, whatever that is.
pub fn finish(mut command: Command, mut each: impl FnMut(&str)) -> Result<(ExitStatus, String)> {
    let shown = show(&command);
    let (reader, writer) = std::io::pipe().into_diagnostic()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().into_diagnostic()?).stderr(writer);
    let mut child = command.spawn().map_err(|error| {
        miette::miette!(
            help = "`cargo xtask setup` installs what the build needs; `cargo xtask doctor` lists what is missing",
            "cannot start `{shown}`: {error}"
        )
    })?;
    // The command holds the pipe's writing end: while it lives, the reader would wait for ever.
    drop(command);
    let mut output = String::new();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).into_diagnostic()? > 0 {
        let text = String::from_utf8_lossy(&line);
        each(text.trim_end());
        output.push_str(&text);
        line.clear();
    }
    Ok((child.wait().into_diagnostic()?, output))
}

/// Whether a program is in the search path.
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The command as a person would type it.
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quoted = words.map(|word| {
        let word = word.to_string_lossy();
        let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c));
        if plain { word.into_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The error for a command that ended badly.
pub fn failure(shown: &str, status: ExitStatus, output: &str) -> miette::Report {
    let mut tail: VecDeque<&str> = output.lines().rev().take(TAIL).collect();
    tail.make_contiguous().reverse();
    let said = if tail.is_empty() { "(it printed nothing)".into() } else { tail.make_contiguous().join("\n") };
    miette::miette!("`{shown}` failed with {status}:\n{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_shown_with_its_code_and_its_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo first; echo 'last words' >&2; exit 3"]);
        let error = output(command).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("last words"), "{error}");
    }

    #[test]
    fn both_streams_are_captured_in_order() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two >&2; echo three"]);
        assert_eq!(output(command).unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_command_is_shown_so_that_it_can_be_pasted() {
        let mut command = Command::new("dpkg-query");
        command.args(["-W", "${Package} it's"]);
        assert_eq!(show(&command), r"dpkg-query -W '${Package} it'\''s'");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(Command::new("no-such-program")).unwrap_err().to_string();
        assert!(error.contains("no-such-program"), "{error}");
    }
}
