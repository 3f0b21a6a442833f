//! Tests on QEMU's Q35 board: the IOMMU's, a SATA disk, a network card. No guest runs there; components take the place of
//! vmm-servers.

use std::path::Path;
use std::time::Duration;

use capdl_spec::host::System;
use miette::{IntoDiagnostic as _, Result, miette};

use crate::bochs::last_lines;
use crate::kernel::{Build, Kernel, Platform};
use crate::packages::Purpose;
use crate::qemu::{Machine, Options};
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
    mut system: System,
    board: impl FnOnce(&Path, &mut Options) -> Result<()>,
) -> Result<Machine> {
    let project = &context.project;
    let prefix = context.prefix(Kernel { build: Build::Debug, platform: Platform::Iommu })?;
    let dir = project.images(&format!("{name}-iommu"));
    std::fs::create_dir_all(&dir).into_diagnostic()?;
    let (root_task, _) = image::make_root_task_image(project, &mut system, &prefix, &dir)?;
    let kernel = iso::elf32(&prefix.kernel(), &dir)?;
    let mut options = Options::new(&format!("test-{name}"), kernel, root_task);
    board(&dir, &mut options)?;
    Machine::boot(project, &options)
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
