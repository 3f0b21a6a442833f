//! The results of checks: counts those that hold, and logs those that fail.

use core::fmt::Debug;

use proto::serial::Client;
use rt::Endpoint;

/// Counts of checks.
#[derive(Default)]
pub struct Verdict {
    passed: u32,
    failed: u32,
}

impl Verdict {
    /// Checks that a condition holds.
    pub fn holds(&mut self, what: &str, holds: bool) {
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
            log::error!("wrong: {what}");
            flush();
        }
    }

    /// Checks that two values are equal.
    pub fn equal<T: PartialEq + Debug>(&mut self, what: &str, found: T, expected: T) {
        let holds = found == expected;
        self.holds(what, holds);
        if !holds {
            log::error!("  found {found:?}, expected {expected:?}");
            flush();
        }
    }

    /// Logs the last line, with the counts.
    pub fn close(self) {
        log::info!("verdict: {} passed, {} failed", self.passed, self.failed);
        flush();
    }
}

/// Waits until everything is printed. Only for components with the service "serial".
pub fn flush() {
    while Client(Endpoint::at(proto::serial::SERVICE.slot)).flush() != Ok(0) {}
}
