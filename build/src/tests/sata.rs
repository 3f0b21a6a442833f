//! ahci-driver and block-server on QEMU's Q35 board, where no guest runs: a client of tests/components takes the place of a
//! vmm-server (tests/systems/q35-disks.toml), behind an IOMMU. QEMU has the disk report errors where it is told to, and the
//! image afterwards has what the client wrote.

use std::path::PathBuf;

use capdl_spec::host;
use miette::{Result, ensure, miette};
use serde_json::{Value, json};

use super::components::{lines, verdict};
use super::medium::{FIRST, LENGTH, SECTOR, SECTORS, medium};
use super::q35::{self, until};
use crate::project;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Components, "a-sata-disk-behind-block-server", sata)]
}

/// Sectors of the partition whose reads fail, and whose writes do; tests/systems/q35-disks.toml has them too.
const UNREAD: usize = 5000;
const UNWRITTEN: usize = 6000;
/// Sectors of the longest request (`proto::block::MOST`).
const LONGEST: usize = 256;
/// What the client writes of the partition: the first sector, and how many.
const WRITTEN: [(usize, usize); 3] = [(100, 16), (200, LONGEST), (LENGTH - 1, 1)];
const BYTE: u8 = 0xb5;

fn sata(context: &Context) -> Result<Outcome> {
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    let system = host::load(&context.project.root.join("tests/systems/q35-disks.toml"))?;
    let (before, mut disk) = (medium(), PathBuf::new());
    let mut machine = q35::boot(context, "q35-disks", system, |dir, options| {
        disk = dir.join("disk.img");
        options.disk = Some((format!("{},file.image.filename={}", errors(), disk.display()), "PORTCULLIS"));
        project::write(&disk, &before)
    })?;
    let text = until(&mut machine, "client: verdict: ")?;
    let checks = verdict(&text, "client")?;
    q35::sends_messages(&text, "AHCI", "00:1f.2")?;
    logged(&text)?;
    counted(&machine.ask("query-blockstats", json!({}))?)?;
    drop(machine);
    let mut expected = before;
    for (first, sectors) in WRITTEN {
        expected[(FIRST + first) * SECTOR..][..sectors * SECTOR].fill(BYTE);
    }
    let after = project::read(&disk)?;
    let wrong = (0..SECTORS).find(|n| after[n * SECTOR..][..SECTOR] != expected[n * SECTOR..][..SECTOR]);
    ensure!(wrong.is_none(), "sector {wrong:?} of the image is not as the client has left it");
    Ok(Outcome::Passed(format!("{checks} checks, three errors of the disk, and the image has what was written")))
}

/// QEMU's `blkdebug`: errors of a read, of a write, and of the first flush.
fn errors() -> String {
    let rules = [
        format!("iotype=read,sector={}", FIRST + UNREAD),
        format!("iotype=write,sector={}", FIRST + UNWRITTEN),
        "iotype=flush,once=on".into(),
    ];
    let rules = rules.iter().enumerate().flat_map(|(n, rule)| {
        let rule = format!("event=none,errno=5,{rule}");
        rule.split(',').map(|option| format!(",file.inject-error.{n}.{option}")).collect::<Vec<_>>()
    });
    format!("file.driver=blkdebug{}", rules.collect::<String>())
}

/// Each error of the disk is a line of block-server's, once; and the controller has reached what it may.
fn logged(text: &str) -> Result<()> {
    let failed: Vec<&str> = lines(text, "block-server").filter(|line| line.contains(" failed (")).collect();
    let expected = [
        "error: `main`: Flush of client failed (1 so far)".to_owned(),
        format!("error: `main`: Read {{ sector: {}, sectors: 1 }} of client failed (2 so far)", FIRST + UNREAD),
        format!("error: `main`: Write {{ sector: {}, sectors: 1 }} of client failed (3 so far)", FIRST + UNWRITTEN),
    ];
    ensure!(failed == expected, "block-server says\n{}", failed.join("\n"));
    let found = lines(text, "sata").any(|line| line == format!("a disk of {SECTORS} sectors"));
    ensure!(found, "the driver does not say how large the disk is:\n{text}");
    ensure!(!text.contains("IOMMU: DMA "), "the controller has aimed elsewhere:\n{text}");
    Ok(())
}

/// QEMU has had as many flushes as the client has made.
fn counted(stats: &Value) -> Result<()> {
    let disk =
        stats.as_array().and_then(|all| all.iter().find(|one| one["qdev"].is_string() || one["device"] == "disk"));
    let stats = &disk.ok_or_else(|| miette!("QEMU does not know the disk: {stats}"))?["stats"];
    let flushes = (stats["flush_operations"].as_u64(), stats["failed_flush_operations"].as_u64());
    ensure!(flushes == (Some(1), Some(1)), "QEMU has counted {flushes:?} flushes: {stats}");
    Ok(())
}
