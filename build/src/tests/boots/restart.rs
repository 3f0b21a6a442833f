//! Guests that reboot: on request, and after a panic of their kernel.

use miette::{IntoDiagnostic, Result, ensure};

use super::{LIMIT, ask, boot, expect, power_off, wait_for_shell};
use crate::bochs::Machine;
use crate::console::Failure;
use crate::test::{Context, Group, Outcome, Test};

pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "linux-reboots-in-place", reboots)]
}

const REBOOTS: usize = 3;

fn reboots(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "memory-64")?;
    let total = ask(&mut machine, "grep MemTotal /proc/meminfo")?;
    let mut logs = Vec::new();
    for _ in 0..REBOOTS {
        ask(&mut machine, "touch /tmp/before")?;
        machine.console.skip();
        machine.console.send(b"reboot\r").into_diagnostic()?;
        logs.push(until_it_is_back(&mut machine)?);
        let files = ask(&mut machine, "ls /tmp")?;
        ensure!(files.is_empty(), "after a reboot there is still {files}");
    }
    ensure!(logs.iter().all(|log| *log == logs[0]), "the reboots differ in the log: {logs:#?}");
    panic(&mut machine)?;
    let after = ask(&mut machine, "grep MemTotal /proc/meminfo")?;
    ensure!(after == total, "before: {total}after: {after}");
    power_off(&mut machine)?;
    Ok(Outcome::Passed(format!("{REBOOTS} times and after a panic")))
}

/// The kernel panics, and reboots a second later.
fn panic(machine: &mut Machine) -> Result<()> {
    ask(machine, "echo 1 > /proc/sys/kernel/panic")?;
    let crash = machine.console.shell("echo c > /proc/sysrq-trigger", LIMIT);
    ensure!(crash == Err(Failure::Reset), "the crash was taken for {crash:?}");
    expect(machine, "Kernel panic - not syncing: sysrq triggered crash")?;
    until_it_is_back(machine).map(|_| ())
}

/// Waits for the reset and for the shell after it; returns what the system logged about it.
fn until_it_is_back(machine: &mut Machine) -> Result<String> {
    let before = machine.console.transcript().len();
    expect(machine, "vmm-linux: linux: reset")?;
    wait_for_shell(machine)?;
    let transcript = machine.console.transcript();
    let text = String::from_utf8_lossy(transcript.get(before..).unwrap_or_default()).replace('\r', "");
    let logged: Vec<&str> = text.lines().filter(|line| is_log(line)).collect();
    Ok(logged.join("\n"))
}

/// Whether a line is from one of our processes.
fn is_log(line: &str) -> bool {
    line.split_once(": ")
        .is_some_and(|(name, _)| name.ends_with("-server") || ["vmm-linux", "root-task"].contains(&name))
}
