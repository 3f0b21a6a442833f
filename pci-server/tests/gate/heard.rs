//! What the server logs. Tests run side by side and share the log, so each looks for a word that only it causes.

use std::sync::{Mutex, Once};

use log::{LevelFilter, Log, Metadata, Record};

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Listener;

impl Log for Listener {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }
    fn log(&self, record: &Record) {
        LOG.lock().unwrap().push(record.args().to_string());
    }
    fn flush(&self) {}
}

/// The lines that `test` causes and that have `word` in them.
pub fn heard(word: &str, test: impl FnOnce()) -> Vec<String> {
    static START: Once = Once::new();
    START.call_once(|| log::set_logger(&Listener).unwrap());
    log::set_max_level(LevelFilter::Info);
    test();
    LOG.lock().unwrap().iter().filter(|line| line.contains(word)).cloned().collect()
}
