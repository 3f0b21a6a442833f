//! The cost of a call to a server and its reply: timer-server's call for the TSC's rate, which needs no work.

use proto::timer::Client;
use rt::{Endpoint, tsc};

use crate::verdict::flush;

/// Calls.
const ROUNDS: usize = 2000;

/// Measures, and logs a row like those of tests/guests/bench.c.
pub fn calls() {
    let server = Client(Endpoint::at(proto::timer::SERVICE.slot));
    let mut samples = [0; ROUNDS];
    // The console's interrupts would disturb the measurement.
    flush();
    for sample in &mut samples {
        let start = tsc();
        let answer = server.frequency();
        *sample = tsc() - start;
        if let Err(error) = answer {
            log::error!("timer-server: {error:?}");
        }
    }
    samples.sort_unstable();
    let (least, median, p99) = (samples[0], samples[ROUNDS / 2], samples[ROUNDS * 99 / 100]);
    log::info!("= ipc_call {least:x} {median:x} {p99:x}");
    flush();
}
