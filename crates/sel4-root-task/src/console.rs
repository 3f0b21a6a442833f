//! The log. It goes to the kernel's console at first, and to the root task's own sink after [`set_sink`].

use core::cell::Cell;
use core::fmt::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};
use sel4::debug::DebugConsole;

/// Prints text.
pub type Sink = fn(&str);

struct Console(Cell<Sink>);
// SAFETY: the root task has one thread.
unsafe impl Sync for Console {}

static CONSOLE: Console = Console(Cell::new(to_kernel));

fn to_kernel(text: &str) {
    // The kernel's console never fails.
    let _ = DebugConsole.write_str(text);
}

/// Sends the log and panic messages to `sink` from now on. A release kernel has no console, so earlier output is lost
/// there.
pub fn set_sink(sink: Sink) {
    CONSOLE.0.set(sink);
}

/// Text to the sink.
pub(crate) struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        (CONSOLE.0.get())(text);
        Ok(())
    }
}

impl Log for Console {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let _ = writeln!(Out, "root-task: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Installs the log, from `info` up.
#[cfg_attr(not(feature = "image"), expect(dead_code, reason = "called at the entry"))]
pub(crate) fn start_log() {
    // It fails only if it is installed already.
    let _ = log::set_logger(&CONSOLE);
    log::set_max_level(LevelFilter::Info);
}
