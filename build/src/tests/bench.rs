//! Exits and whole boots cost no more than the committed baseline. Emulated instructions repeat exactly, so a
//! difference of two percent comes from a change of the code, not from noise.

use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, ensure};
use vtx::cpuid::Processor;

use crate::bench::row::{BULK_EXITS, Rows};
use crate::bench::{self, exits, limits, linux, network, watch};
use crate::kernel::{self, Build};
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Guests, "exits-cost-no-more-than-the-baseline", exits_cost),
        Test::new(Group::Guests, "a-board-prints-what-its-exits-cost", board_table),
        Test::new(Group::Boots, "linux-costs-no-more-than-the-baseline", linux_costs),
        Test::new(Group::Boots, "a-64-bit-linux-costs-no-more-than-the-baseline", long_linux_costs),
        Test::new(Group::Boots, "a-network-costs-no-more-than-the-baseline", network_costs),
    ]
}

/// By how much a row may exceed the baseline, in percent.
const PERCENT: u64 = 2;
/// The same for two VMs: who runs when depends on the phase of time slices and timers, which any changed instruction shifts.
const PERCENT_OF_TWO: u64 = 10;

/// Most exits of two VMs for a MiB between them. Builds of one design have had 130 to 288, by the phase; 558 were an 8259's.
const MOST_BULK_EXITS: u64 = 360;

/// Most ticks from the pinned kernel's entry to the first instruction of a guest of 128 MiB.
const START_UP: u64 = 100_000_000;
/// The same for a kernel of the user's own.
const OWN_START_UP: u64 = 200_000_000;

fn exits_cost(context: &Context) -> Result<Outcome> {
    judge(context, exits::measure, PERCENT)
}

/// systems/bench.toml, as for a user's board: every row has a least and a median, of the order of what an emulated board has,
/// and the TSC's rate is the emulator's.
fn board_table(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot_with("bench", Build::Release, |options| options.input = false)?;
    let found = machine.console.expect("bench: the table is complete", Duration::from_secs(300));
    let console = String::from_utf8_lossy(&machine.console.transcript()).into_owned();
    found.into_diagnostic().wrap_err_with(|| console.clone())?;
    // Software cannot power this board off.
    machine.stop();
    let table = console.lines().skip_while(|line| !line.starts_with("row ")).skip(1);
    let mut rows = Vec::new();
    for line in table.take_while(|line| !line.starts_with("TSC")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[name, least, median] = words.as_slice() else { miette::bail!("not a row: {line}\n{console}") };
        let [least, median] = [least, median].map(|number| number.parse::<u32>().unwrap_or(0));
        ensure!(least >= 300 && least <= median && median < 20_000, "{line}\n{console}");
        rows.push(name);
    }
    let events = ["virtqueue", "halt_wake", "inject_eoi"];
    let exits = exits::NAMES.iter().filter_map(|name| name.strip_suffix(exits::LONG)).filter(|name| *name != "floor");
    let expected: Vec<&str> = exits.chain(events).collect();
    ensure!(rows == expected, "rows {rows:?}, not {expected:?}:\n{console}");
    let rate = console.lines().find_map(|line| line.strip_prefix("TSC, cycles in 1 ms")?.trim().parse::<u32>().ok());
    ensure!(rate.is_some_and(|rate| (49_900..50_100).contains(&rate)), "a TSC of {rate:?} cycles in 1 ms:\n{console}");
    Ok(Outcome::Passed(format!("{} rows", rows.len())))
}

fn linux_costs(context: &Context) -> Result<Outcome> {
    judge(context, linux::measure, PERCENT)
}

/// A kernel of 64 bits also keeps the limits (`limits`), as do the exits of a guest in long mode.
fn long_linux_costs(context: &Context) -> Result<Outcome> {
    if context.prefix(Build::Release)?.processor() == Processor::Bits32 {
        return Ok(Outcome::Skipped("the kernel is configured for 32-bit guests only".into()));
    }
    judge(context, linux::long, PERCENT)
}

fn network_costs(context: &Context) -> Result<Outcome> {
    let measure = |context: &Context| {
        let rows = network::measure(context)?;
        let exits = rows.get(BULK_EXITS).map_or(0, |row| row.median);
        ensure!(exits <= MOST_BULK_EXITS, "{}: {exits}, and at most {MOST_BULK_EXITS} may be", BULK_EXITS);
        Ok(rows)
    };
    judge(context, measure, PERCENT_OF_TWO)
}

fn judge(context: &Context, measure: impl FnOnce(&Context) -> Result<Rows>, percent: u64) -> Result<Outcome> {
    let rows = measure(context)?;
    let own_kernel = kernel::are_own();
    let most = if own_kernel { OWN_START_UP } else { START_UP };
    if let Some(row) = rows.get(watch::START_UP) {
        let help = match own_kernel {
            true => "a kernel of your own needs the options and flags of kernel-config/settings",
            false => "docs/performance.md has the parts of the start-up, and how to profile it",
        };
        ensure!(row.median <= most, help = help, "{}: {} ticks, and at most {most} may be", row.name, row.median);
    }
    let count = rows.0.len();
    if own_kernel {
        return Ok(Outcome::Passed(format!("{count} rows, not compared: the baseline is that of the pinned kernel")));
    }
    let baseline = bench::baseline()?;
    let worse = rows.worse(&baseline, percent);
    ensure!(worse.is_empty(), "worse by more than {percent} %:\n{}", worse.join("\n"));
    let exceeded = limits::exceeded(&rows);
    ensure!(exceeded.is_empty(), "more than a limit:\n{}", exceeded.join("\n"));
    Ok(Outcome::Passed(format!("{count} rows")))
}
