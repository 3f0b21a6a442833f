//! No two files of a crate use each other, neither directly nor through others.

use miette::{Report, Result, ensure};

use crate::modules::Modules;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Check, "modules", modules)]
}

/// The crates that are looked at.
const CRATES: [&str; 16] = [
    "build",
    "capdl-spec",
    "crates/devices",
    "crates/layout",
    "crates/mmio",
    "crates/proto",
    "crates/rt",
    "crates/sel4",
    "crates/vtx",
    "fileserver",
    "irq-server",
    "pci-server",
    "root-task",
    "serial-server",
    "timer-server",
    "vmm-server",
];
fn modules(context: &Context) -> Result<Outcome> {
    let circles = |name: &str| Ok::<_, Report>(Modules::read(&context.project.root.join(name).join("src"))?.circles());
    let mut found = Vec::new();
    for name in CRATES {
        found.extend(circles(name)?.into_iter().map(|circle| format!("{name}: {circle}")));
    }
    ensure!(found.is_empty(), "files use each other in circles:\n{}", found.join("\n"));
    Ok(Outcome::Passed(format!("{} crates", CRATES.len())))
}
