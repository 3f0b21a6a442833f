//! Long steps, shown: a spinner with the time it has taken on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// All spinners of this process, so that two at a time do not overwrite each other.
static SPINNERS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// One step. Dropped before `done`, it counts as failed.
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

    /// Shows the last line of what the step is printing; nothing without a terminal.
    pub fn note(&self, line: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(line.chars().filter(|c| !c.is_control()).collect::<String>());
        }
    }

    /// Ends the step well.
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

/// Prints a line for the user (on standard error) without disturbing the spinners.
pub fn say(line: &str) {
    if fancy() {
        SPINNERS.suspend(|| eprintln!("{line}"));
    } else {
        eprintln!("{line}");
    }
}

/// Whether somebody looks at a terminal that can redraw lines.
fn fancy() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("CI").is_none()
}

/// Prints a result (on standard output) without disturbing the spinners.
pub fn print(line: &str) {
    if fancy() {
        SPINNERS.suspend(|| println!("{line}"));
    } else {
        println!("{line}");
    }
}
