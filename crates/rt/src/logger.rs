//! The log: whole lines in a ring from which serial-server prints. Logging never blocks: if the ring is full, lines are
//! dropped and counted, and the next line that fits is preceded by the count.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};

use heapless::String;
use layout::{Slot, slot, window};
use log::{Level, LevelFilter, Log, Metadata, Record};
use mmio::{Producer, Ring, Window};

/// Longest line, with its end. Longer ones are cut.
const MAX_LINE: usize = 256;

/// Logs to the ring shared with serial-server. For [`crate::main!`].
pub fn start_shared() {
    // SAFETY: root-task maps the ring at this address in every process but serial-server, which calls `start_own`.
    let window = unsafe { Window::new(window::LOG as *mut u8, window::LOG_BYTES) };
    start(window, Some(slot::LOG));
}

/// Logs to the process's own ring, see [`own`]. For [`crate::main!`].
pub fn start_own() {
    start(own(), None);
}

/// The ring of a process that reads its own log: serial-server, which is also the ring's consumer.
pub fn own() -> Window {
    OWN.window()
}

/// Another ring of that size, for what serial-server prints beside its log: answers to what the user types.
pub fn answers() -> Window {
    ANSWERS.window()
}

/// Waits until serial-server has taken all lines, with a timeout in TSC ticks: serial-server may be unable to run.
#[cfg_attr(not(feature = "image"), expect(dead_code, reason = "called by the panic handler"))]
pub(crate) fn drain(ticks: u64) {
    let start = crate::tsc();
    let mut pending = true;
    while pending && crate::tsc().wrapping_sub(start) < ticks {
        LOGGER.with(|state| pending = state.as_ref().is_some_and(|state| state.ring.pending() > 0));
    }
}

fn start(window: Window, bell: Option<Slot>) {
    let Ok(ring) = Ring::new(window) else { return };
    LOGGER.with(|state| *state = Some(State { ring: ring.producer(), bell, lost: 0 }));
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

#[repr(C, align(64))]
struct Own(UnsafeCell<[u8; window::LOG_BYTES as usize]>);
// SAFETY: the process has one thread.
unsafe impl Sync for Own {}

static OWN: Own = Own::new();
static ANSWERS: Own = Own::new();

impl Own {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; window::LOG_BYTES as usize]))
    }

    fn window(&self) -> Window {
        // SAFETY: the bytes are reached through windows only, and both are statics.
        unsafe { Window::new(self.0.get().cast(), window::LOG_BYTES) }
    }
}

struct Logger(UnsafeCell<Option<State>>);
// SAFETY: the process has one thread.
unsafe impl Sync for Logger {}

static LOGGER: Logger = Logger(UnsafeCell::new(None));

struct State {
    ring: Producer,
    bell: Option<Slot>,
    /// Lines dropped since the last one that fit.
    lost: u32,
}

impl Logger {
    /// Calls `use_state` with the state. Calls must not nest, so `use_state` must not log.
    fn with(&self, use_state: impl FnOnce(&mut Option<State>)) {
        // SAFETY: one thread, and the callers below neither log nor call back, so this is the only reference.
        use_state(unsafe { &mut *self.0.get() });
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        // Formatted before the state is borrowed, since a `Display` may log as well.
        let mut line = Line(String::new());
        let word = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            Level::Info | Level::Debug | Level::Trace => "",
        };
        let _ = write!(line, "{word}{}", record.args());
        self.with(|state| {
            if let Some(state) = state {
                state.put(&mut line.0);
            }
        });
    }

    fn flush(&self) {}
}

impl State {
    fn put(&mut self, line: &mut String<MAX_LINE>) {
        let mut note = String::<32>::new();
        if self.lost > 0 {
            let _ = writeln!(note, "({} lines lost)", self.lost);
        }
        // A line that fills the buffer loses its last character to the end of line.
        if line.push('\n').is_err() {
            line.pop();
            let _ = line.push('\n');
        }
        if (self.ring.room() as usize) < note.len() + line.len() {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        self.lost = 0;
        self.ring.push(note.as_bytes());
        self.ring.push(line.as_bytes());
        if self.ring.must_signal()
            && let Some(bell) = self.bell
        {
            crate::signal(bell);
        }
    }
}

/// One line: text beyond the maximum length is dropped, and an end of line inside it becomes a space.
struct Line(String<MAX_LINE>);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            self.0.push(if char == '\n' { ' ' } else { char }).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}
