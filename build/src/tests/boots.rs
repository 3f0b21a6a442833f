//! Whole systems with Linux in them, booted in Bochs. A boot takes a quarter of a minute and a core, so tests share
//! boots where they can. This file has their common functions.

mod acpi;
mod amd64;
mod amd64_userland;
mod block;
mod channels;
mod com2;
mod console;
mod devices;
mod disk;
mod entropy;
mod ethernet;
mod files;
mod firmware;
mod kexec;
mod lvm;
mod machine;
mod managed;
mod mediated;
mod network;
mod nic;
mod ports;
mod processors;
mod quiet;
mod recover;
mod restart;
mod shared;
mod systems;
mod time;
mod tutorial;
mod uplink;
mod vsock;
mod work;
mod zmq;

use std::path::PathBuf;
use std::time::Duration;

use miette::{IntoDiagnostic, Result, WrapErr, ensure, miette};

use crate::bochs::Machine;
use crate::bochs::log::Ending;
use crate::console::shell::Status;
use crate::kernel::Build;
use crate::test::{Context, Test};

/// The tests of this folder, the longest first: they run two at a time.
pub fn all() -> Vec<Test> {
    [
        network::all(),
        ethernet::all(),
        disk::all(),
        block::all(),
        lvm::all(),
        zmq::all(),
        files::all(),
        devices::all(),
        recover::all(),
        mediated::all(),
        kexec::all(),
        uplink::all(),
        nic::all(),
        channels::all(),
        vsock::all(),
        managed::all(),
        ports::all(),
        systems::all(),
        restart::all(),
        acpi::all(),
        shared::all(),
        work::all(),
        processors::all(),
        firmware::all(),
        quiet::all(),
        entropy::all(),
        time::all(),
        tutorial::all(),
        amd64::all(),
        amd64_userland::all(),
        console::all(),
        com2::all(),
        machine::all(),
    ]
    .concat()
}

/// How long a boot or a command may take on a busy machine; on an idle one it takes a sixteenth of this.
const LIMIT: Duration = Duration::from_secs(300);

/// A description in tests/systems/.
fn description(context: &Context, name: &str) -> PathBuf {
    context.project.root.join("tests/systems").join(name).with_extension("toml")
}

/// Boots a description of tests/systems/ to its guest's shell.
fn boot(context: &Context, name: &str) -> Result<Machine> {
    let mut machine = context.boot(&description(context, name).to_string_lossy(), Build::Release)?;
    wait_for_shell(&mut machine)?;
    Ok(machine)
}

/// Waits for the shell's prompt. If it does not appear, the error has the console's last lines.
fn wait_for_shell(machine: &mut Machine) -> Result<()> {
    let waited = machine.console.wait_for_prompt(LIMIT);
    waited.into_diagnostic().wrap_err_with(|| last_lines(machine)).wrap_err("the guest's shell does not come up")
}

/// The output of a command at the guest's shell, which has to succeed.
fn ask(machine: &mut Machine, command: &str) -> Result<String> {
    let answer = machine.console.shell(command, LIMIT);
    let answer = answer.into_diagnostic().wrap_err_with(|| last_lines(machine)).wrap_err_with(|| command.to_owned())?;
    ensure!(answer.status == Status::Exit(0), "`{command}` ended with {:?}:\n{}", answer.status, answer.output);
    Ok(answer.output)
}

/// The output of a command at a console's shell.
fn at(machine: &mut Machine, console: &str, command: &str) -> Result<String> {
    let moved = machine.console.move_input(console, LIMIT);
    moved.into_diagnostic().map_err(|error| error.wrap_err(last_lines(machine)))?;
    machine.console.skip();
    // The shell may have printed its prompt long ago.
    machine.console.send(b"\r").into_diagnostic()?;
    wait_for_shell(machine)?;
    ask(machine, command)
}

/// Waits until a text is printed, and returns what came before it.
fn expect(machine: &mut Machine, text: &str) -> Result<String> {
    let found = machine.console.expect(text, LIMIT);
    found.into_diagnostic().wrap_err_with(|| last_lines(machine)).wrap_err_with(|| format!("no `{text}`"))
}

/// Types `poweroff` and waits until the board is off.
fn power_off(machine: &mut Machine) -> Result<()> {
    machine.console.send(b"poweroff\r").into_diagnostic()?;
    wait_for_end(machine)
}

/// Waits until the board is off, after the guest's vmm-server has reported the power-off.
fn wait_for_end(machine: &mut Machine) -> Result<()> {
    match machine.wait(LIMIT)? {
        Some(Ending::PowerOff) => {}
        Some(other) => return Err(machine.why(&other)),
        None => return Err(miette!("the board does not go off:\n{}", last_lines(machine))),
    }
    ensure!(
        transcript(machine).contains(": linux has powered off"),
        "it went off in silence:\n{}",
        last_lines(machine)
    );
    Ok(())
}

/// Everything printed since power-on, with plain line ends.
fn transcript(machine: &Machine) -> String {
    String::from_utf8_lossy(&machine.console.transcript()).replace("\r\n", "\n")
}

fn last_lines(machine: &Machine) -> String {
    crate::bochs::last_lines(&machine.console.transcript(), 15)
}

/// The number in a column (from 0, parted by spaces) of the line that begins with `label`.
fn field(text: &str, label: &str, column: usize) -> Result<u64> {
    let line = text.lines().find(|line| line.trim_start().starts_with(label));
    let number = line.and_then(|line| line.split_whitespace().nth(column)?.parse().ok());
    number.ok_or_else(|| miette!("no number in column {column} of a line `{label}` in:\n{text}"))
}
