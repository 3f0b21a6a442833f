//! Compares the guest's time with the board's: Bochs's log stamps the guest's writes to port 0x402 with ticks.

use miette::{Result, ensure, miette};

use super::{ask, boot, power_off};
use crate::bochs::Machine;
use crate::bochs::config::{START_OF_TIME, TICKS_PER_SECOND};
use crate::test::{Context, Group, Outcome, Test};

pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "time-passes-as-on-the-board", time_passes)]
}

/// Defines `mark`, which writes a letter and a line end to the port: /dev/port takes the port as the file offset, which
/// moves on with every byte.
const MARK: &str = "out() { dd of=/dev/port bs=1 count=1 seek=1026 conv=notrunc 2>/dev/null; }; \
                    mark() { printf $1 | out; echo | out; }";
/// Marks a minute by the guest's clock, from the beginning of a second to the beginning of another.
const MINUTE: &str = "s=$(date +%s); while [ $(date +%s) = $s ]; do :; done; mark A; sleep 59; \
                      while [ $(date +%s) -lt $((s + 61)) ]; do :; done; mark B";
/// Linux's messages when time or interrupts are wrong.
const COMPLAINTS: [&str; 5] = ["lost interrupt", "unstable", "nobody cared", "bios bug", "apic error"];

fn time_passes(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "marks")?;
    ask(&mut machine, MARK)?;
    ask(&mut machine, MINUTE)?;
    let clock = ask(&mut machine, "hwclock -ru; mark C")?;
    let source = ask(&mut machine, "cat /sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    let dmesg = ask(&mut machine, "dmesg")?;
    power_off(&mut machine)?;

    let seconds = (mark(&machine, "B")? - mark(&machine, "A")?) as f64 / TICKS_PER_SECOND as f64;
    ensure!((seconds - 60.0).abs() <= 0.6, "`date` advanced 60 s in {seconds} s of the board");
    // Both the emulated CMOS and its copy in the VM start with the day, and less than a day passes.
    let board = START_OF_TIME % 86_400 + mark(&machine, "C")? / TICKS_PER_SECOND;
    let guest = time_of_day(&clock).ok_or_else(|| miette!("hwclock: {clock:?}"))?;
    ensure!(board.abs_diff(guest) <= 2, "hwclock: {} where the board's is at {board} s", clock.trim());

    let mhz = tsc_mhz(&dmesg).ok_or_else(|| miette!("no TSC in dmesg"))?;
    let real = TICKS_PER_SECOND as f64 / 1e6;
    ensure!((mhz - real).abs() <= real / 100.0, "Linux takes the TSC for {mhz} MHz, and it has {real}");
    ensure!(source == "tsc\n", "the clock source is {source}");
    let complaints: Vec<&str> = dmesg.lines().filter(|line| is_complaint(line)).collect();
    ensure!(complaints.is_empty(), "dmesg:\n{}", complaints.join("\n"));
    Ok(Outcome::Passed(format!("60 s in {seconds:.3} s, TSC of {mhz} MHz")))
}

fn is_complaint(line: &str) -> bool {
    let line = line.to_lowercase();
    COMPLAINTS.iter().any(|complaint| line.contains(complaint))
}

/// The tick at which the guest wrote a mark.
fn mark(machine: &Machine, name: &str) -> Result<u64> {
    let marks = machine.marks();
    let found = marks.iter().find(|(_, text)| text == name);
    found.map(|(tick, _)| *tick).ok_or_else(|| miette!("no mark {name} in {marks:?}"))
}

/// Seconds since midnight in a date like `Sat Jan  1 00:01:14 2000  0.000000 seconds`.
fn time_of_day(text: &str) -> Option<u64> {
    let clock = text.split_whitespace().find(|word| word.contains(':'))?;
    clock.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<u64>().ok()?))
}

/// The rate in `tsc: Detected 50.000 MHz processor`.
fn tsc_mhz(dmesg: &str) -> Option<f64> {
    let (_, rate) = dmesg.lines().find_map(|line| line.split_once("tsc: Detected "))?;
    rate.split_once(" MHz")?.0.parse().ok()
}
