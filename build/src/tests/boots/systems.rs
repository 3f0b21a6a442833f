//! Systems that differ from the minimal one: a kernel that unpacks itself, two guests, invalid kernels. Also the
//! minimal one in QEMU, if there is VT-x.

use std::process::Stdio;

use miette::{IntoDiagnostic, Result, ensure};

use crate::bochs::Machine;
use crate::console::shell::Status;
use crate::console::{Failure, find};

use super::{LIMIT, ask, boot, description, power_off, transcript};
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test, passed};
use crate::{process, project};

pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![
        test("a-bzimage-decompresses-itself", decompresses_itself).long(),
        test("two-guests-reach-their-shells", two_guests),
        test("linux-reaches-its-shell-in-qemu-with-kvm", simulate),
        Test::new(Group::Spec, "a-wrong-kernel-file-is-named", wrong_kernels),
    ]
}

/// Two billion instructions of unpacking, and then the usual boot.
fn decompresses_itself(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "decompress-in-guest")?;
    let cmdline = ask(&mut machine, "cat /proc/cmdline")?;
    ensure!(cmdline.contains("console=ttyS0"), "/proc/cmdline: {cmdline}");
    power_off(&mut machine)?;
    passed()
}

fn two_guests(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("two", Build::Release)?;
    for guest in ["first", "second"] {
        machine.console.rewind();
        let shell = format!("{guest}: portcullis:/# ");
        let waited = machine.console.expect(&shell, LIMIT);
        waited.into_diagnostic().map_err(|error| error.wrap_err(transcript(&machine)))?;
    }
    let console = transcript(&machine);
    let pae = console.lines().any(|line| line.starts_with("second: ") && line.contains("-686-pae "));
    ensure!(pae, "the second guest's kernel is another:\n{console}");
    machine.console.rewind();
    answers(&mut machine)
}

/// The first guest's shell answers while the second runs, and reports each command's status.
fn answers(machine: &mut Machine) -> Result<Outcome> {
    let release = ask(machine, "uname -r")?;
    ensure!(release.ends_with("-686\n") && release.lines().count() == 1, "uname -r: {release:?}");
    // Like a kernel message, it appears after the prompt.
    ask(machine, "(sleep 1; echo; echo a late line > /dev/ttyS0) & :")?;
    let late = |fresh: &[u8]| find(fresh, b"a late line\r\n");
    machine.console.wait_until(LIMIT, late).into_diagnostic()?;
    for (command, status) in [
        ("echo 'abc", Status::Refused),
        ("exit 3", Status::ShellEnded),
        ("kill -9 $$", Status::ShellEnded),
        ("false", Status::Exit(1)),
    ] {
        let answer = machine.console.shell(command, LIMIT);
        let answer = answer.into_diagnostic().map_err(|error| error.wrap_err(transcript(machine)))?;
        ensure!(answer.status == status, "`{command}` ended with {:?}", answer.status);
    }
    let off = machine.console.shell("poweroff -f", LIMIT);
    ensure!(off == Err(Failure::Off) && machine.console.switched_off(), "poweroff: {off:?}");
    passed()
}

/// The script that `cargo xtask image` leaves beside the ISO. It reports itself if it cannot run here.
fn simulate(context: &Context) -> Result<Outcome> {
    let image = context.image("minimal", Build::Release)?;
    let mut run = process::tool("timeout");
    run.arg(LIMIT.as_secs().to_string()).arg(image.iso.with_file_name("simulate")).stdin(Stdio::null());
    let output = run.output().into_diagnostic()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if let Some((_, reason)) = said.split_once("this machine cannot: ") {
        return Ok(Outcome::Skipped(reason.trim().to_owned()));
    }
    let console = String::from_utf8_lossy(&output.stdout);
    ensure!(console.contains("portcullis:/# "), "no shell in QEMU:\n{console}\n{said}");
    passed()
}

/// Kernels that the build refuses, with the line of the description that names them.
fn wrong_kernels(context: &Context) -> Result<Outcome> {
    let folder = context.project.guest().join("wrong");
    // e_ident of a 64-bit ELF (System V ABI, chapter 4), and 64 bytes of nothing.
    project::write(&folder.join("elf64"), &[b"\x7fELF\x02\x01\x01".as_slice(), &[0; 64]].concat())?;
    let vm = "board = \"bochs\"\n\n[[vm]]\nname = \"linux\"\nmemory = ";
    project::write(&folder.join("elf64.toml"), format!("{vm}\"64 MiB\"\nkernel = \"./elf64\"\n").as_bytes())?;
    project::write(&folder.join("small.toml"), format!("{vm}\"16 MiB\"\nkernel = \"debian-686\"\n").as_bytes())?;
    for (system, said) in [
        (description(context, "missing-kernel"), "missing-kernel.toml:7:10"),
        (description(context, "not-a-kernel"), "not-a-kernel.toml:7:10"),
        (folder.join("elf64.toml"), "elf64.toml:6:10"),
        (folder.join("small.toml"), "small.toml:5:10"),
    ] {
        let built = context.image(&system.to_string_lossy(), Build::Release);
        let Err(error) = built else { miette::bail!("{} was built", system.display()) };
        let error = format!("{error:?}");
        ensure!(error.contains(said), "the error does not point at {said}:\n{error}");
    }
    passed()
}
