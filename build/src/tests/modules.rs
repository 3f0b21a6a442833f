//! No two files of a crate use each other, neither directly nor through others.

use miette::{Report, Result, ensure};

use crate::modules::Modules;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Check, "modules", modules)]
}

/// The crates that are looked at.
const CRATES: [&str; 23] = [
    "ahci-driver",
    "block-server",
    "build",
    "capdl-spec",
    "crates/devices",
    "crates/disk",
    "crates/layout",
    "crates/mmio",
    "crates/proto",
    "crates/rt",
    "crates/sel4",
    "crates/vsock",
    "crates/vtx",
    "e1000-driver",
    "fileserver",
    "ide-driver",
    "irq-server",
    "net-server",
    "pci-server",
    "root-task",
    "serial-server",
    "timer-server",
    "vmm-server",
];
fn modules(context: &Context) -> Result<Outcome> {
    let cycles = |name: &str| Ok::<_, Report>(Modules::read(&context.project.root.join(name).join("src"))?.cycles());
    let mut found = Vec::new();
    for name in CRATES {
        found.extend(cycles(name)?.into_iter().map(|cycle| format!("{name}: {cycle}")));
    }
    ensure!(found.is_empty(), "import cycles between files:\n{}", found.join("\n"));
    Ok(Outcome::Passed(format!("{} crates", CRATES.len())))
}
