//! Threads of one priority.

use sel4::yield_now;

use crate::bench::Bench;
use crate::check::{Check, Outcome, expect};
use crate::guest::{Guest, SPIN};
use crate::thread::{EQUAL, Thread, reaches, run_guest};

/// The checks of this file.
pub const CHECKS: &[Check] =
    &[Check { patch: "0007", name: "a guest that computes leaves its equals their time", run: a_busy_guest }];

/// 0007: we would wait for ever.
fn a_busy_guest(bench: &mut Bench) -> Outcome {
    let (_guest, thread) = spinning(bench)?;
    expect("the thread enters its guest", reaches(1), true)?;
    for _ in 0..3 {
        yield_now();
    }
    drop(thread);
    Ok(())
}

/// A thread of our own priority, about to run a guest that never exits.
pub fn spinning(bench: &mut Bench) -> sel4::Result<(Guest, Thread)> {
    let vcpu = bench.make()?;
    let thread = Thread::new(bench, run_guest, vcpu.bits(), EQUAL)?;
    let guest = Guest::with(bench, vcpu, thread.0, &SPIN)?;
    thread.start()?;
    Ok((guest, thread))
}
