//! What a call to a server and its reply cost: the time that timer-server takes to tell the TSC's rate, which it knows.

use proto::timer::Client;
use rt::{Endpoint, tsc};

use crate::verdict::flush;

/// Calls.
const ROUNDS: usize = 2000;

/// Measures, and logs a row like those of tests/guests/bench.c.
pub fn calls() {
    let server = Client(Endpoint::at(proto::timer::SERVICE.slot));
    let mut samples = [0; ROUNDS];
    // The console's interrupts would fall among the calls.
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
