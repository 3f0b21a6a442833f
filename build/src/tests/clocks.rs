//! Boards without an 8254, or one that does not count, as QEMU's Q35 board can be set up: the kernel's local APIC and
//! timer-server each go by another clock.

use capdl_spec::host;
use miette::{Result, ensure};

use super::components::{lines, verdict};
use super::q35::{self, until};
use crate::kernel;
use crate::project;
use crate::test::{Context, Group, Outcome, Test};

pub fn all() -> Vec<Test> {
    vec![
        Test::new(Group::Components, "without-an-8254-the-hpet-keeps-deadlines", |context| {
            deadlines(context, ",pit=off", "ACPI power management timer", "HPET")
        }),
        Test::new(Group::Components, "with-an-8254-it-keeps-deadlines", |context| {
            deadlines(context, "", "8254", "8254")
        })
        .long(),
    ]
}

/// What the boot shows at port 0x80 (docs/hardware.md): the kernel without VT-x, then root-task.
const POST: [u8; 19] =
    [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25];

/// Deadlines are kept on a board with these properties; the kernel and timer-server say by which clocks.
fn deadlines(context: &Context, machine: &'static str, kernels: &str, servers: &str) -> Result<Outcome> {
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    if kernel::are_own() && !machine.is_empty() {
        return Ok(Outcome::Skipped("the other clocks are a patch of ours; other kernels wait for the 8254".into()));
    }
    let system = host::load(&context.project.root.join("tests/systems/q35-deadlines.toml"))?;
    let mut board = q35::boot(context, "q35-deadlines", system, |_, options| {
        options.machine = machine;
        let post = ["-chardev", "file,id=post,path=post.out", "-device", "isa-debugcon,chardev=post,iobase=0x80"];
        options.arguments = post.map(str::to_owned).into();
        Ok(())
    })?;
    let text = until(&mut board, "client: verdict: ")?;
    let checks = verdict(&text, "client")?;
    if !kernel::are_own() {
        ensure!(text.contains(&format!("Clock: by the {kernels}, local APIC ")), "the kernel's clock:\n{text}");
    }
    let said = lines(&text, "timer-server").find(|line| line.starts_with("TSC ")).unwrap_or_default();
    ensure!(said.contains(&format!(", deadlines by the {servers}, ")), "timer-server says {said:?}");
    let codes = project::read(&board.dir().join("post.out"))?;
    ensure!(codes.ends_with(&POST) || kernel::are_own(), "codes at port 0x80: {codes:02x?}");
    Ok(Outcome::Passed(format!("{checks} checks; {said}")))
}
