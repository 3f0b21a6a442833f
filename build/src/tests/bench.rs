//! Exits and whole boots cost no more than the committed baseline. Emulated instructions repeat exactly, so a
//! difference of two percent comes from a change of the code, not from noise.

use miette::{Result, ensure};

use crate::bench::row::Rows;
use crate::bench::{self, exits, linux};
use crate::kernel;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Guests, "exits-cost-no-more-than-the-baseline", exits_cost),
        Test::new(Group::Boots, "linux-costs-no-more-than-the-baseline", linux_costs),
    ]
}

/// By how much a row may exceed the baseline, in percent.
const PERCENT: u64 = 2;

fn exits_cost(context: &Context) -> Result<Outcome> {
    judge(context, exits::measure)
}

fn linux_costs(context: &Context) -> Result<Outcome> {
    judge(context, linux::measure)
}

fn judge(context: &Context, measure: fn(&Context) -> Result<Rows>) -> Result<Outcome> {
    let rows = measure(context)?;
    if kernel::are_own() {
        let rows = rows.0.len();
        return Ok(Outcome::Passed(format!("{rows} rows, not compared: the baseline is that of the pinned kernel")));
    }
    let baseline = bench::baseline()?;
    let worse = rows.worse(&baseline, PERCENT);
    ensure!(worse.is_empty(), "worse by more than {PERCENT} %:\n{}", worse.join("\n"));
    let rows = rows.0.len();
    Ok(Outcome::Passed(format!("{rows} rows")))
}
