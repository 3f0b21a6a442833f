//! No two files of a crate use each other, directly or indirectly.

use miette::{Report, Result, ensure};

use crate::modules::Modules;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Check, "modules", modules)]
}

/// Crates without a circle.
const FREE: [&str; 15] = [
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
];
/// Crates that still have some: one that has lost its last goes to [`FREE`].
const NOT_YET: [&str; 1] = ["vmm-server"];

fn modules(context: &Context) -> Result<Outcome> {
    let circles = |name: &str| Ok::<_, Report>(Modules::read(&context.project.root.join(name).join("src"))?.circles());
    let mut found = Vec::new();
    for name in FREE {
        found.extend(circles(name)?.into_iter().map(|circle| format!("{name}: {circle}")));
    }
    ensure!(found.is_empty(), "files use each other in circles:\n{}", found.join("\n"));
    let mut left = Vec::new();
    for name in NOT_YET {
        left.push(format!("{name}: {}", circles(name)?.len()));
    }
    Ok(Outcome::Passed(format!("circles left: {}", left.join(", "))))
}
