//! The server's log. Tests run in parallel and share the log, so each searches for a word that only it causes.

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

/// The logged lines that contain `word`, after running `test`.
pub fn logged(word: &str, test: impl FnOnce()) -> Vec<String> {
    static START: Once = Once::new();
    START.call_once(|| log::set_logger(&Listener).unwrap());
    log::set_max_level(LevelFilter::Info);
    test();
    LOG.lock().unwrap().iter().filter(|line| line.contains(word)).cloned().collect()
}
