//! Boots without input, driven by a script in the initramfs: they repeat exactly, and show the cost of idling.

use capdl_spec::host::Debian;
use miette::{Result, ensure, miette};

use super::{field, transcript, wait_for_end};
use crate::bench::script::exits;
use crate::bochs::Machine;
use crate::guest;
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test};

pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![test("runs-repeat-bit-for-bit", runs_repeat), test("an-idle-guest-rests", idle_guest_rests)]
}

/// Boots a guest that reads its interrupt counts, sleeps for that many seconds, reads them again, and powers off.
fn sleep(context: &Context, seconds: u32) -> Result<Machine> {
    let script = format!(
        "#!/bin/sh\n\
         mark() {{ for c in $1 '\\n'; do printf $c | dd of=/dev/port bs=1 count=1 seek=1026 conv=notrunc 2>/dev/null; done; }}\n\
         mark A; grep LOC /proc/interrupts; sleep {seconds}; grep LOC /proc/interrupts; mark B\n\
         poweroff\n"
    );
    let initrd = guest::initramfs(&context.project, Debian::I386, Some(&script))?;
    let description = context.project.target.join("test-systems").join(format!("sleep-{seconds}.toml"));
    let text = format!(
        "board = \"bochs\"\n\
         [[vm]]\n\
         name = \"linux\"\n\
         memory = \"64 MiB\"\n\
         kernel = \"debian-686\"\n\
         initrd = \"{}\"\n\
         direct_ports = [0x402]\n",
        initrd.display()
    );
    project::write(&description, text.as_bytes())?;
    let boot = context.boot_with(&description.to_string_lossy(), Build::Release, |options| options.input = false);
    let mut machine = boot?;
    wait_for_end(&mut machine)?;
    Ok(machine)
}

/// Without input, two boots print the same bytes and mark the same ticks.
fn runs_repeat(context: &Context) -> Result<Outcome> {
    let (first, second) = (sleep(context, 1)?, sleep(context, 1)?);
    let (bytes, marks) = (first.console.transcript(), first.marks());
    ensure!(marks.iter().any(|(_, text)| text == "B"), "the guest marked nothing: {marks:?}");
    ensure!(bytes == second.console.transcript(), "two boots of one image printed different bytes");
    ensure!(marks == second.marks(), "the ticks differ:\n{marks:?}\n{:?}", second.marks());
    let ticks = marks.last().map_or(0, |(tick, _)| *tick);
    Ok(Outcome::Passed(format!("{} bytes, {ticks} ticks", bytes.len())))
}

/// Emulated seconds between the two runs.
const IDLE: u64 = 30;
/// Exits that Linux's tick costs: HLT, the end of interrupt, the next deadline.
const EXITS_PER_TICK: u64 = 3;
/// Exits that an idle guest may take in a second beyond those.
const OTHER_EXITS: u64 = 20;

/// Two boots that differ only in how long they sleep: the difference of their exits is the cost of idling.
fn idle_guest_rests(context: &Context) -> Result<Outcome> {
    let (short, long) = (transcript(&sleep(context, 1)?), transcript(&sleep(context, 1 + IDLE as u32)?));
    let exits = exits(&long)? - exits(&short)?;
    let ticks = ticks(&long)? - ticks(&short)?;
    let other = exits.saturating_sub(ticks * EXITS_PER_TICK);
    ensure!(other < IDLE * OTHER_EXITS, "{exits} exits in {IDLE} s, with {ticks} ticks:\n{long}");
    Ok(Outcome::Passed(format!("in {IDLE} s {ticks} ticks with {EXITS_PER_TICK} exits each, {other} others")))
}

/// Timer interrupts between the two readings.
fn ticks(transcript: &str) -> Result<u64> {
    let looks: Vec<&str> = transcript.lines().filter(|line| line.trim_start().starts_with("LOC:")).collect();
    match looks[..] {
        [first, second] => Ok(field(second, "LOC:", 1)? - field(first, "LOC:", 1)?),
        _ => Err(miette!("no two looks at /proc/interrupts:\n{transcript}")),
    }
}
