//! Tests on QEMU's Q35 board: the IOMMU's, a SATA disk, a network card. No guest runs there; components take the place of
//! vmm-servers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use capdl_spec::host::System;
use miette::{Result, ensure, miette};

use super::components::lines;
use crate::bochs::last_lines;
use crate::iso::Contents;
use crate::iso::menu::COM1;
use crate::kernel::{Build, Kernel, Platform, Prefix};
use crate::packages::Purpose;
use crate::qemu::{Loader, Machine, Options};
use crate::test::{Context, Outcome};
use crate::{image, iso, process, setup};

/// How long a part of a test may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Why there is no such test here.
pub fn skipped() -> Result<Option<Outcome>> {
    setup::ensure(&[Purpose::Qemu])?;
    let there = process::exists("qemu-system-x86_64");
    Ok((!there).then(|| Outcome::Skipped("there is no qemu-system-x86_64".into())))
}

/// Boots a system with the debug kernel. `board` gets a folder for its files, and adds the devices.
pub fn boot(
    context: &Context,
    name: &str,
    system: System,
    board: impl FnOnce(&Path, &mut Options) -> Result<()>,
) -> Result<Machine> {
    boot_with(Build::Debug, context, name, system, board)
}

/// The same, with either kernel.
pub fn boot_with(
    build: Build,
    context: &Context,
    name: &str,
    system: System,
    board: impl FnOnce(&Path, &mut Options) -> Result<()>,
) -> Result<Machine> {
    let (prefix, root_task, dir) = image(context, build, name, system)?;
    let kernel = iso::elf32(&prefix.kernel(), &dir)?;
    let mut options = Options::new(&format!("test-{name}"), Loader::Qemu { kernel, root_task });
    board(&dir, &mut options)?;
    Machine::boot(&context.project, &options)
}

/// The kernel, a system's root task, and the folder for its files.
fn image(context: &Context, build: Build, name: &str, mut system: System) -> Result<(Prefix, PathBuf, PathBuf)> {
    let prefix = context.prefix(Kernel { build, platform: Platform::Iommu })?;
    let dir = context.folder(&format!("{name}-iommu"))?;
    let (root_task, _) = image::make_root_task_image(&context.project, &mut system, &prefix, &dir)?;
    Ok((prefix, root_task, dir))
}

/// The system as an ISO.
pub fn iso(context: &Context, name: &str, system: System) -> Result<PathBuf> {
    let (prefix, root_task, dir) = image(context, Build::Debug, name, system)?;
    iso::make(&prefix.kernel(), &root_task, &dir)
}

/// The same as an ISO for a board, whose menu has a debug kernel, too: here both are one.
pub fn iso_for_a_board(context: &Context, name: &str, system: System) -> Result<PathBuf> {
    let (prefix, root_task, dir) = image(context, Build::Debug, name, system)?;
    let kernel = iso::elf32(&prefix.kernel(), &dir)?;
    let contents =
        Contents { kernel: &kernel, debug_kernel: Some(&kernel), root_task: &root_task, console: COM1, waits: true };
    iso::with_contents(contents, &dir)
}

/// Waits for a text and the end of its line; returns everything printed so far.
pub fn until(machine: &mut Machine, text: &str) -> Result<String> {
    let found = machine.console.expect(text, LIMIT).and_then(|_| machine.console.expect("\n", LIMIT));
    let transcript = machine.console.transcript();
    found.map_err(|failure| {
        let help = format!("see console.txt and qemu.out in {}", machine.dir().display());
        miette!(help = help, "no \"{text}\": {failure}. The last lines:\n{}", last_lines(&transcript, 25))
    })?;
    Ok(String::from_utf8_lossy(&transcript).replace('\r', ""))
}

/// The function interrupts by messages: irq-server has taken them on its line, and pci-server has told it to send them.
pub fn sends_messages(text: &str, name: &str, at: &str) -> Result<()> {
    let line = lines(text, "irq-server").any(|line| line.contains(&format!("`{name}`: messages of {at}, vector ")));
    let said =
        lines(text, "pci-server").any(|line| line.contains(&format!("`{name}`: {at} ")) && line.ends_with(" MSI"));
    ensure!(line && said, "`{name}` at {at} does not interrupt by messages:\n{text}");
    Ok(())
}
