//! Shows long steps: a spinner with the elapsed time on a terminal, plain lines elsewhere.

use std::io::{ErrorKind, IsTerminal, Write as _};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use capdl_spec::host::snippet;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::interrupt;

/// All spinners of this process, so that two at a time do not overwrite each other.
static SPINNERS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// One step. If dropped before `done`, it counts as failed.
pub struct Step {
    what: String,
    started: Instant,
    spinner: Option<ProgressBar>,
    finished: bool,
}

impl Step {
    /// Announces a step: `kernel: building the debug kernel`.
    pub fn start(what: &str) -> Self {
        let spinner = fancy().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}");
            let spinner = ProgressBar::new_spinner().with_style(style.unwrap_or(ProgressStyle::default_spinner()));
            let spinner = SPINNERS.add(spinner);
            spinner.set_prefix(what.to_owned());
            spinner.enable_steady_tick(Duration::from_millis(120));
            spinner
        });
        if spinner.is_none() {
            eprintln!("{what} ...");
        }
        Self { what: what.to_owned(), started: Instant::now(), spinner, finished: false }
    }

    /// Shows the last line of the step's output, on a terminal only.
    pub fn note(&self, line: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(line.chars().filter(|c| !c.is_control()).collect::<String>());
        }
    }

    /// Ends the step with success.
    pub fn done(mut self) {
        self.finish("");
    }

    fn finish(&mut self, verdict: &str) {
        self.finished = true;
        let line = format!("{}: {verdict}{:.1} s", self.what, self.started.elapsed().as_secs_f32());
        match &self.spinner {
            Some(spinner) => {
                spinner.finish_and_clear();
                SPINNERS.remove(spinner);
                say(&line);
            }
            None => say(&line),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.finished {
            self.finish("failed after ");
        }
    }
}

/// Prints a line for the user (on standard error) without disturbing the spinners. It may contain names of files and
/// output of programs, so control characters are escaped, except colours.
pub fn say(line: &str) {
    let line = &printable(line);
    if fancy() {
        SPINNERS.suspend(|| eprintln!("{line}"));
    } else {
        eprintln!("{line}");
    }
}

/// Text escaped by `snippet::printable`, except tabs and the colours of a report (SGR, ECMA-48 section 8.3.117).
fn printable(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let mut parts = text.split("\x1b[");
    let mut shown = visible(parts.next().unwrap_or_default());
    for part in parts {
        let digits = part.find(|c: char| !matches!(c, '0'..='9' | ';')).unwrap_or(part.len());
        let colour = part.get(digits..).is_some_and(|rest| rest.starts_with('m'));
        shown += if colour { "\x1b[" } else { "\\u{1b}[" };
        shown += &visible(part);
    }
    shown
}

fn visible(text: &str) -> String {
    text.split('\t').map(snippet::printable).collect::<Vec<_>>().join("\t")
}

/// Whether standard error is a terminal that can redraw lines.
fn fancy() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("CI").is_none()
}

/// Prints a result, of one line or several, on standard output, without disturbing the spinners.
///
/// If the reader has closed the pipe, as `head` does, the program ends without a message. If writing fails otherwise,
/// it ends with a failure.
pub fn print(lines: &str) {
    let write = || {
        let mut output = std::io::stdout().lock();
        writeln!(output, "{lines}").and_then(|()| output.flush())
    };
    let written = if fancy() { SPINNERS.suspend(write) } else { write() };
    if let Err(error) = written {
        interrupt::clean_up();
        let quiet = error.kind() == ErrorKind::BrokenPipe;
        if !quiet {
            eprintln!("cannot write to standard output: {error}");
        }
        std::process::exit(if quiet { 0 } else { 1 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_seen_and_colours_and_tabs_stay() {
        assert_eq!(printable("no \x08file\r\n\tx\x07"), "no \\u{8}file\n\tx\\u{7}");
        assert_eq!(printable("\x1b[31;1m×\x1b[0m fine"), "\x1b[31;1m×\x1b[0m fine");
        assert_eq!(printable("a\x1b[2Jb\x1b]0;title\x07"), "a\\u{1b}[2Jb\\u{1b}]0;title\\u{7}");
    }
}
