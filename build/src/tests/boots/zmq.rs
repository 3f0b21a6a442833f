//! Programs with Debian's libzmq, in one guest and in three at a switch: systems/zmq.toml.

use miette::{Result, ensure};

use super::{ask, wait_for_shell};
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};
use crate::walkthrough;

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "zeromq-in-three-guests", scenarios)]
}

/// What the scenarios say. A subscriber has the average of exactly the updates at its place, and the workers have done each
/// task once, each half of them.
const TRANSCRIPT: &str = "\
Three scenarios in one VM
message size: 1 [B]
roundtrip count: 1000
average latency: … [us]
Average temperature for zipcode 10001 was 47.5F
Total elapsed time: … msec
worker 1: 50 tasks
worker 2: 50 tasks
Three scenarios across three VMs
message size: 1 [B]
roundtrip count: 1000
average latency: … [us]
Average temperature for zipcode 10001 was 47.5F
Total elapsed time: … msec
worker 1: 50 tasks
worker 2: 50 tasks
Finished running all scenarios";

fn scenarios(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("zmq", Build::Release)?;
    wait_for_shell(&mut machine)?;
    let said = ask(&mut machine, "scenarios")?;
    ensure!(walkthrough::matches(TRANSCRIPT, &said), "the scenarios say:\n{said}");
    let latencies = said.lines().filter_map(|line| line.strip_prefix("average latency: "));
    Ok(Outcome::Passed(latencies.collect::<Vec<_>>().join(" in one guest, in two ")))
}
