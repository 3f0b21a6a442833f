//! The log, and where it goes: to the kernel's console at first, to whatever the root task says later.

use core::cell::Cell;
use core::fmt::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};
use sel4::debug::DebugConsole;

/// Takes text.
pub type Sink = fn(&str);

struct Console(Cell<Sink>);
// SAFETY: the root task has one thread.
unsafe impl Sync for Console {}

static CONSOLE: Console = Console(Cell::new(to_kernel));

fn to_kernel(text: &str) {
    // The kernel's console takes everything.
    let _ = DebugConsole.write_str(text);
}

/// Sends the log, and a panic's last words, to `sink` from now on. A release kernel has no console, so until then
/// nothing is heard.
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
