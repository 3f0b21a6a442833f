//! serial-server: lines arrive whole and in order, dropped lines are counted, and the statistics are right.

use proto::serial::Client;
use rt::Endpoint;

use crate::verdict::{Verdict, flush};

/// Lines of each burst: 20 KB and more.
const LINES: u32 = 400;
/// Lines that fit the log's ring.
const BATCH: u32 = 40;
/// The end of every line, so that a gap shows.
const TAIL: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF";

fn server() -> Client<Endpoint> {
    Client(Endpoint::at(proto::serial::SERVICE.slot))
}

/// Runs all checks.
pub fn all(verdict: &mut Verdict) {
    flush();
    let before = server().stats().unwrap_or_default();
    burst("burst", Some(BATCH));
    let after = server().stats().unwrap_or_default();
    let least = u64::from(LINES) * (TAIL.len() as u64 + "burst 0000 \r\n".len() as u64);
    verdict.holds("bytes sent are counted", after.sent - before.sent >= least);
    verdict.holds("interrupts are counted", after.interrupts > before.interrupts);
    verdict.equal("nothing was received, nothing lost", (after.received, after.lost), (0, 0));
    burst("flood", None);
    verdict.equal("everything is printed", server().flush(), Ok(0));
}

/// Prints the lines, waiting after each `batch`. Without waiting, lines are dropped, and the next that fits has their
/// count.
fn burst(name: &str, batch: Option<u32>) {
    for line in 0..LINES {
        if batch.is_some_and(|batch| line % batch == 0) {
            flush();
        }
        log::info!("{name} {line:04} {TAIL}");
    }
    flush();
    log::info!("{name} ends");
    flush();
}
