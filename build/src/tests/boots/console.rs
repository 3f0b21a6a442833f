//! The guest's console, both ways: no byte is lost, and a terminal's special keys work.

use std::io::Write as _;

use miette::{IntoDiagnostic, Result, ensure, miette};

use super::{ask, boot, expect, power_off, wait_for_shell};
use crate::bochs::Machine;
use crate::cache::sha256;
use crate::test::{Context, Group, Outcome, Test};

pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "console-loses-nothing-and-knows-its-keys", console)]
}

/// Bytes pasted at once.
const PASTED: usize = 10_000;
/// Bytes of random data printed as base64: 100 KB of text.
const PRINTED: usize = 75_000;
const CTRL_C: &[u8] = b"\x03";
const CTRL_Z: &[u8] = b"\x1a";

fn console(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "marks")?;
    interrupt(&mut machine)?;
    job_control(&mut machine)?;
    paste(&mut machine)?;
    print(&mut machine)?;
    power_off(&mut machine)?;
    Ok(Outcome::Passed(String::new()))
}

/// Types a line at the shell. The caller waits for its effect.
fn enter(machine: &mut Machine, line: &str) -> Result<()> {
    wait_for_shell(machine)?;
    machine.console.skip();
    machine.console.send(format!("{line}\r").as_bytes()).into_diagnostic()
}

/// Ctrl-C ends the running command, and nothing else.
fn interrupt(machine: &mut Machine) -> Result<()> {
    // Quoted so that the terminal's echo does not contain the text; the process that Ctrl-C interrupts prints it.
    enter(machine, "sh -c 'echo re\"\"ady; exec sleep 1000'")?;
    expect(machine, "ready\r\n")?;
    machine.console.send(CTRL_C).into_diagnostic()?;
    enter(machine, "echo sta\"\"tus $?")?;
    // 128 and SIGINT.
    expect(machine, "status 130\r\n").map(|_| ())
}

/// Ctrl-Z stops the running command, and `fg` continues it.
fn job_control(machine: &mut Machine) -> Result<()> {
    // Text typed before the shell gives the terminal to `cat` would be a command.
    enter(machine, "echo re\"\"ady; cat")?;
    expect(machine, "ready\r\n")?;
    cat_answers(machine, "one")?;
    machine.console.send(CTRL_Z).into_diagnostic()?;
    let jobs = ask(machine, "jobs")?;
    ensure!(jobs.contains("Stopped") && jobs.contains("cat"), "after Ctrl-Z, jobs: {jobs:?}");
    enter(machine, "fg")?;
    expect(machine, "cat\r\n")?;
    cat_answers(machine, "two")?;
    machine.console.send(CTRL_C).into_diagnostic()?;
    let jobs = ask(machine, "jobs")?;
    ensure!(jobs.is_empty(), "after fg and Ctrl-C, jobs: {jobs:?}");
    Ok(())
}

/// `cat` is in the foreground: the terminal echoes a line, and `cat` repeats it.
fn cat_answers(machine: &mut Machine, line: &str) -> Result<()> {
    machine.console.send(format!("{line}\r").as_bytes()).into_diagnostic()?;
    expect(machine, &format!("{line}\r\n{line}\r\n")).map(|_| ())
}

/// Every byte value, as fast as the emulated line takes it.
fn paste(machine: &mut Machine) -> Result<()> {
    let bytes: Vec<u8> = (0..PASTED as u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 23) as u8).collect();
    enter(machine, &format!("stty raw -echo; echo o\"\"pen; head -c {PASTED} | sha256sum; stty sane"))?;
    expect(machine, "open")?;
    let mut keyboard = machine.console.keyboard().ok_or_else(|| miette!("no keyboard"))?;
    keyboard.write_all(&bytes).into_diagnostic()?;
    let seen = expect(machine, "  -")?;
    ensure!(seen.trim() == sha256(&bytes), "{PASTED} bytes arrived changed: {seen}");
    wait_for_shell(machine)
}

fn print(machine: &mut Machine) -> Result<()> {
    let sum = ask(machine, &format!("head -c {PRINTED} /dev/urandom | base64 > /tmp/text; sha256sum /tmp/text"))?;
    let text = ask(machine, "cat /tmp/text")?;
    let same = sum.starts_with(&sha256(text.as_bytes()));
    ensure!(same, "{} bytes arrived of about {}", text.len(), PRINTED / 3 * 4);
    Ok(())
}
