//! The script `simulate` on a host without KVM: what it finds there is made up, and QEMU emulates the processor. So the
//! script's machine boots, and ends the script, with a kernel without VT-x; the shipped kernel refuses it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use capdl_spec::host;
use capdl_spec::spec::Spec;
use miette::{IntoDiagnostic as _, Result, ensure};

use super::q35;
use crate::bochs::config::Devices;
use crate::kernel::{self, Build};
use crate::simulate::{self, Simulated};
use crate::test::{Context, Group, Outcome, Test, passed};
use crate::{process, project};

pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Components, "a-simulated-system-ends-its-script", ends),
        Test::new(Group::Components, "a-simulated-processor-without-vtx-is-refused", refuses).long(),
    ]
}

/// Emulates what KVM would run.
const QEMU: &str = "#!/bin/sh
for argument; do
    shift
    case $argument in
    -enable-kvm) set -- \"$@\" -accel tcg ;;
    host) set -- \"$@\" max ;;
    *) set -- \"$@\" \"$argument\" ;;
    esac
done
PATH=${PATH#*:} exec qemu-system-x86_64 \"$@\"
";

/// Runs the script in `dir` for so many seconds at most.
fn run(dir: &Path, seconds: u32) -> Result<Output> {
    let host = dir.join("host");
    let flags = simulate::features(host::Processor::Haswell).join(" ");
    project::write(&host.join("cpuinfo"), format!("flags\t\t: vmx {flags}\n").as_bytes())?;
    project::write(&host.join("nested"), b"Y\n")?;
    let qemu = host.join("qemu-system-x86_64");
    project::write(&qemu, QEMU.as_bytes())?;
    std::fs::set_permissions(&qemu, std::fs::Permissions::from_mode(0o755)).into_diagnostic()?;
    let path = format!("{}:{}", host.display(), std::env::var("PATH").unwrap_or_default());
    let mut run = process::tool("timeout");
    run.arg(seconds.to_string()).arg(dir.join("simulate")).stdin(Stdio::null());
    run.env("PATH", path).env("KVM", "/dev/null");
    run.env("CPUINFO", host.join("cpuinfo")).env("NESTED", host.join("nested")).output().into_diagnostic()
}

/// A system that stops because a process has faulted: root-task's byte ends QEMU, and the script has failed.
fn ends(context: &Context) -> Result<Outcome> {
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    let system = host::load(&context.project.root.join("tests/systems/components-halt.toml"))?;
    let board = *system.board();
    let iso = q35::iso(context, "simulated-halt", system)?;
    let dir = iso.parent().unwrap_or(&context.project.root);
    let (devices, spec) = (Devices::default(), Spec::default());
    simulate::write(dir, &Simulated { board: &board, com: 1, memory_mib: 256, devices: &devices, spec: &spec })?;
    let output = run(dir, 120)?;
    let (console, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(console.contains("root-task: the machine stops"), "no last word:\n{console}\n{said}");
    let failed = output.status.code() == Some(1) && said.contains("simulate: the system has failed");
    ensure!(failed, "the script ends with {:?}:\n{said}", output.status.code());
    passed()
}

/// The shipped kernel, whose first sentence is then the last.
fn refuses(context: &Context) -> Result<Outcome> {
    if kernel::are_own() {
        return Ok(Outcome::Skipped("the sentence is a patch of the project's kernel".into()));
    }
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    let image = context.image("minimal", Build::Release)?;
    let output = run(image.iso.parent().unwrap_or(&context.project.root), 20)?;
    let console = String::from_utf8_lossy(&output.stdout);
    let refused = console.contains("seL4 stops: ") && console.contains("VT-x");
    ensure!(refused, "no refusal:\n{console}\n{}", String::from_utf8_lossy(&output.stderr));
    passed()
}
