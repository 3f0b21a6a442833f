//! The IOMMU: what the DMAR says of it, what its units say of themselves, and whether the kernel can use it.

use core::fmt;

use super::Sink;
use super::Verdict::{Fail, Pass, Warn};
use crate::acpi::{self, Remapping};
use crate::facts::{Facts, Unit};

/// The major version from which on units take invalidations by a queue only, which the kernel does not use.
const FIRST_WITH_QUEUE_ALONE: u32 = 6;
/// CAP_REG, SAGAW: tables of three levels, and of four.
const THREE: u64 = 1 << 9;
const FOUR: u64 = 1 << 10;
const FIVE: u64 = 1 << 11;

/// Whether the kernel can use the IOMMU: the DMAR is whole and has a unit, and no unit stands against it. The kernel uses
/// all units or none.
pub fn is_usable(facts: &Facts) -> bool {
    let dmar = facts.table(b"DMAR").unwrap_or_default();
    let there = acpi::dmar(dmar).any(|entry| matches!(entry, Remapping::Unit { .. }));
    let in_reach = |entry| match entry {
        Remapping::Unit { address, segment, .. } => is_in_reach(address, segment),
        Remapping::Reserved { .. } => true,
    };
    let fits = |unit: &Unit| answers(unit) && unit.version >> 4 & 0xf < FIRST_WITH_QUEUE_ALONE;
    there
        && acpi::dmar_is_whole(dmar)
        && acpi::dmar(dmar).all(in_reach)
        && facts.units.iter().all(fits)
        && common(facts) != 0
}

/// The kernel maps registers below 4 GiB, and knows the functions of segment 0. Some firmware names a unit at address 0 that does
/// not exist.
fn is_in_reach(address: u64, segment: u16) -> bool {
    segment == 0 && address >> 32 == 0 && address != 0
}

fn answers(unit: &Unit) -> bool {
    unit.version != 0 && unit.version != u32::MAX
}

/// Depths of tables that a unit can have.
fn levels(unit: &Unit) -> u64 {
    unit.capabilities & (THREE | FOUR | FIVE)
}

/// Depths of tables that all units can have: the kernel makes one set of tables.
fn common(facts: &Facts) -> u64 {
    facts.units.iter().fold(THREE | FOUR | FIVE, |common, unit| common & levels(unit))
}

/// A line for each entry of the DMAR and each unit.
pub fn judge(facts: &Facts, out: &mut impl Sink) {
    let Some(dmar) = facts.table(b"DMAR") else {
        if facts.rsdp.is_some() || !facts.tables.is_empty() {
            out.line(
                Warn,
                format_args!("DMAR"),
                format_args!(
                    "no IOMMU: switch \"VT-d\" on in the firmware's set-up, or trust devices (dma = \"trusted\")"
                ),
            );
        }
        return;
    };
    for entry in acpi::dmar(dmar) {
        match entry {
            Remapping::Unit { address: 0, .. } => out.line(
                Fail,
                format_args!("DMAR unit"),
                format_args!("at 0x0, where there is none: the kernel uses no IOMMU; a newer firmware may not have it"),
            ),
            Remapping::Unit { address, all, segment, scopes } => {
                let whose = if all { "all other functions" } else { "its own functions" };
                let count = acpi::scopes(scopes).count();
                let (verdict, remedy) = match is_in_reach(address, segment) {
                    true => (Pass, ""),
                    false => (
                        Fail,
                        ": above 4 GiB or of another segment than 0, so the kernel uses no IOMMU; trust devices (dma = \"trusted\")",
                    ),
                };
                out.line(
                    verdict,
                    format_args!("DMAR unit"),
                    format_args!("at {address:#x}, for {whose}, {count} scopes, segment {segment}{remedy}"),
                );
            }
            Remapping::Reserved { base, last, scopes } => {
                out.line(Pass, format_args!("RMRR"), format_args!("{base:#x} to {last:#x}, for{}", Scopes(scopes)));
            }
        }
    }
    if !acpi::dmar_is_whole(dmar) {
        out.line(Fail, format_args!("DMAR"), format_args!("the table is damaged: the kernel uses no IOMMU"));
    }
    facts.units.iter().for_each(|unit| judge_unit(unit, out));
    let each = facts.units.iter().all(|unit| answers(unit) && levels(unit) != 0);
    if each && common(facts) == 0 {
        out.line(Fail, format_args!("IOMMU"), format_args!("its units have no depth of tables in common"));
    }
}

/// Device scopes, a word for each.
struct Scopes<'a>(&'a [u8]);

impl fmt::Display for Scopes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for scope in acpi::scopes(self.0) {
            let kind = if scope.kind == 2 { " all behind bridge" } else { "" };
            let (device, function) = scope.first;
            write!(f, "{kind} {:02x}:{device:02x}.{function}", scope.bus)?;
            if scope.further != 0 {
                write!(f, " and {} steps down", scope.further)?;
            }
        }
        Ok(())
    }
}

fn judge_unit(unit: &Unit, out: &mut impl Sink) {
    let (major, minor) = (unit.version >> 4 & 0xf, unit.version & 0xf);
    let topic = format_args!("unit {:x}", unit.address);
    if !answers(unit) {
        return out.line(Fail, topic, format_args!("its registers do not answer"));
    }
    if major >= FIRST_WITH_QUEUE_ALONE {
        out.line(
            Fail,
            topic,
            format_args!(
                "version {major}.{minor} takes invalidations by a queue only: the kernel uses no IOMMU; \
                 trust devices (dma = \"trusted\")"
            ),
        );
    } else {
        out.line(Pass, topic, format_args!("version {major}.{minor}"));
    }
    let names = match [THREE, FOUR, FIVE].map(|depth| levels(unit) & depth != 0) {
        [true, true, false] => "three and four",
        [true, false, false] => "three",
        [false, true, false] => "four",
        [false, false, true] => "five",
        [false, true, true] => "four and five",
        [true, _, true] => "three to five",
        [false, false, false] => "neither three, four nor five",
    };
    out.line(
        if levels(unit) != 0 { Pass } else { Fail },
        topic,
        format_args!(
            "tables of {names} levels, {} domains, {} bits",
            1u64 << (4 + 2 * (unit.capabilities & 7)),
            (unit.capabilities >> 16 & 0x3f) + 1
        ),
    );
    if unit.capabilities >> 7 & 1 != 0 {
        out.line(Pass, topic, format_args!("caching mode: an emulated unit"));
    }
    if unit.status >> 31 & 1 != 0 {
        out.line(Warn, topic, format_args!("firmware has left translation on"));
    }
    if unit.protected & 1 != 0 {
        out.line(Warn, topic, format_args!("firmware has left protected memory on: \"DMA protection\" in its set-up"));
    }
}
