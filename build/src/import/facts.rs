//! What is known of a board besides its PCI functions: the probe's block of text, and Linux' own files: /proc/cpuinfo,
//! /proc/iomem, acpidump's text, ACPI tables as they are (/sys/firmware/acpi/tables, `acpidump -b`), and the lines of the log in
//! which Linux names the IOMMU's units.
//!
//! Sources: Linux' arch/x86/kernel/cpu/proc.c and feat_ctl.c (flags), kernel/resource.c, drivers/iommu/intel/dmar.c; ACPICA's
//! acpidump. Lines that are none of these are skipped.

use std::collections::BTreeMap;

use probe::acpi::{self, Rsdp, Table};
use probe::block::{BEGIN, END, Sum};
use probe::clocks::Clock;
use probe::cpu::{self, Leaf};
use probe::multiboot::{Firmware, Range};
use probe::vmx;
use probe::{Facts, Unit};

use super::files::Files;

/// Free RAM, and what is not (ACPI specification, "Address Range Types").
const FREE: u32 = 1;
const RESERVED: u32 = 2;
/// Bugs that Linux names since the same version as `itlb_multihit`, or later (arch/x86/include/asm/cpufeatures.h).
const SINCE_MULTIHIT: [&str; 10] =
    ["taa", "srbds", "mmio_stale_data", "mmio_unknown", "retbleed", "eibrs_pbrsb", "gds", "rfds", "bhi", "its"];
/// Longest ACPI table that a file may hold, in bytes.
const LONGEST: usize = 1 << 16;

const MANY_UNITS: &str = "there are more lines about the IOMMU's units than are read: the last ones are left out";
const MANY_RANGES: &str = "there are more ranges of memory than are read: the last ones are left out";

/// What files say of a board.
#[derive(Debug, Default)]
pub struct Known {
    facts: Facts<'static>,
    tables: BTreeMap<[u8; 4], Vec<u8>>,
    /// What is wrong with the files, a sentence each.
    pub doubts: Vec<String>,
}

/// What the lines that follow belong to.
#[derive(Default)]
enum State {
    #[default]
    Between,
    Block(Sum),
    Dump([u8; 4]),
}

impl Known {
    /// Reads all files; `tables` are ACPI tables as they are in memory.
    pub fn read(files: &Files, tables: Vec<Vec<u8>>) -> Self {
        let mut known = Self::default();
        for table in tables {
            if let Some(signature) = table.first_chunk() {
                known.tables.insert(*signature, table);
            }
        }
        let mut state = State::Between;
        let mut processors = 0;
        for (_, text) in files.lines() {
            if text.contains(BEGIN) {
                // An earlier one was that of an earlier boot.
                known = Self { doubts: known.doubts, ..Self::default() };
                state = State::Block(Sum::default());
                continue;
            }
            state = match state {
                State::Block(mut sum) => match text.find(END) {
                    Some(at) => {
                        known.doubts.extend(damage(text.get(at..).unwrap_or_default(), sum));
                        State::Between
                    }
                    None => {
                        sum.add(text);
                        sum.add("\n");
                        known.block_line(text);
                        State::Block(sum)
                    }
                },
                State::Dump(signature) if known.dump_line(signature, text) => State::Dump(signature),
                State::Between | State::Dump(_) => match dump_heading(text) {
                    Some(signature) => {
                        known.tables.insert(signature, Vec::new());
                        State::Dump(signature)
                    }
                    None => {
                        processors += u32::from(text.starts_with("processor\t"));
                        known.linux_line(text, processors);
                        State::Between
                    }
                },
            };
        }
        for (signature, bytes) in known.tables.iter().filter(|(signature, _)| acpi::is_wanted(signature)) {
            if bytes.len() > LONGEST {
                let name = signature.escape_ascii();
                known.doubts.push(format!("the ACPI table {name} is longer than {LONGEST} bytes, and left out"));
            }
        }
        if matches!(state, State::Block(_)) {
            known.doubts.push("the probe's block has no end: keep the log until \"Portcullis probe: done\"".into());
        }
        known
    }

    /// Keeps a sentence, once.
    fn doubt(&mut self, doubt: &str) {
        if !self.doubts.iter().any(|known| known == doubt) {
            self.doubts.push(doubt.into());
        }
    }

    /// All of it.
    pub fn facts(&self) -> Facts<'_> {
        let mut facts = self.facts.clone();
        for (signature, bytes) in &self.tables {
            if acpi::is_wanted(signature) && bytes.len() <= LONGEST {
                // There is room for one of each kind.
                let _ = facts.tables.push(Table { signature: *signature, bytes });
            }
        }
        facts
    }

    /// A line of the probe's block; what it is not able to read, a damaged block has.
    fn block_line(&mut self, text: &str) -> Option<()> {
        let (key, value) = text.trim().split_once(" = ")?;
        let (key, place) = key.split_once('.').unwrap_or((key, ""));
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let mut numbers = value.split(' ').map_while(hex);
        match key {
            "cpuid" => {
                let registers: Vec<u32> = numbers.map_while(|number| number.try_into().ok()).collect();
                let leaf = u32::from_str_radix(place, 16).ok()?;
                self.facts.leaves.push(Leaf { leaf, registers: registers.try_into().ok()? }).ok()
            }
            "msr" => self.facts.msrs.push((u32::from_str_radix(place, 16).ok()?, numbers.next()?)).ok(),
            "firmware" => {
                self.facts.firmware = Some(if value == "uefi" { Firmware::Uefi } else { Firmware::Bios });
                Some(())
            }
            "rsdp" => {
                let revision = numbers.next()?.try_into().ok()?;
                self.facts.rsdp = Some(Rsdp { revision, rsdt: numbers.next()?, xsdt: numbers.next()? });
                Some(())
            }
            "table" => {
                let signature = *place.as_bytes().first_chunk()?;
                let bytes =
                    (0..value.len()).step_by(2).map_while(|at| u8::from_str_radix(value.get(at..at + 2)?, 16).ok());
                self.tables.entry(signature).or_default().extend(bytes);
                Some(())
            }
            "unit" => {
                let mut next = || numbers.next();
                let (version, capabilities, extended) = (next()? as u32, next()?, next()?);
                let (status, protected) = (next()? as u32, next()? as u32);
                let unit = Unit { address: hex(place)?, version, capabilities, extended, status, protected };
                self.facts.units.push(unit).map_err(|_| self.doubt(MANY_UNITS)).ok()
            }
            "clock" => {
                let clock = match value {
                    "dead" => Clock::Dead,
                    "missing" => Clock::Missing,
                    hz => Clock::Counts(hz.parse().ok()?),
                };
                let clocks = &mut self.facts.clocks;
                clocks.known = true;
                *match place {
                    "8254" => &mut clocks.pit,
                    "pm" => &mut clocks.pm_timer,
                    "hpet" => &mut clocks.hpet,
                    _ => &mut clocks.apic,
                } = clock;
                Some(())
            }
            "memory" => {
                let (start, length) = (hex(place)?, numbers.next()?);
                let kind = value.split(' ').nth(1)?.parse().ok()?;
                self.facts.memory.push(Range { start, length, kind }).map_err(|_| self.doubt(MANY_RANGES)).ok()
            }
            "uarts" => {
                self.facts.uarts = u8::try_from(numbers.next()?).ok();
                Some(())
            }
            _ => None,
        }
    }

    /// A line of acpidump: `    0000: 46 41 43 50 …  FACP`, sixteen bytes and their characters. False if it is none.
    fn dump_line(&mut self, signature: [u8; 4], text: &str) -> bool {
        let Some((offset, rest)) = text.trim_start().split_once(": ") else { return false };
        let table = self.tables.entry(signature).or_default();
        let bytes = rest.trim_start().split("  ").next().unwrap_or_default().split(' ');
        let bytes: Option<Vec<u8>> = bytes.map(|word| u8::from_str_radix(word, 16).ok()).collect();
        match (usize::from_str_radix(offset, 16), bytes) {
            (Ok(offset), Some(bytes)) if offset == table.len() && table.len() <= LONGEST => {
                table.extend(bytes);
                true
            }
            _ => false,
        }
    }

    /// A line of /proc/cpuinfo, of the first processor, of /proc/iomem, or of Linux' log.
    fn linux_line(&mut self, text: &str, processor: u32) -> Option<()> {
        if let Some((_, unit)) = text.split_once(": reg_base_addr ") {
            let unit = logged_unit(unit)?;
            return self.facts.units.push(unit).map_err(|_| self.doubt(MANY_UNITS)).ok();
        }
        if let Some((range, name)) = text.split_once(" : ") {
            return self.memory_line(range, name);
        }
        let (key, value) = text.split_once(':').filter(|_| processor <= 1)?;
        let value = value.trim();
        match key.trim_end() {
            "vendor_id" => {
                let bytes: [u8; 12] = value.as_bytes().try_into().ok()?;
                let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
                self.leaf(0, [0x16, word(0)?, word(8)?, word(4)?]);
            }
            "cpu family" => self.signature(value.parse().ok()?, 8),
            "model" => {
                let model: u32 = value.parse().ok()?;
                self.signature(model & 0xf, 4);
                self.signature(model >> 4, 16);
            }
            "stepping" => self.signature(value.parse().ok()?, 0),
            "model name" => {
                let mut name = value.bytes().chain(std::iter::repeat(0));
                for leaf in 0x8000_0002..=0x8000_0004 {
                    let registers = [(); 4].map(|()| u32::from_le_bytes([(); 4].map(|()| name.next().unwrap_or(0))));
                    self.leaf(leaf, registers);
                }
            }
            "flags" => {
                for feature in cpu::FEATURES.iter().filter(|feature| value.split(' ').any(|flag| flag == feature.linux))
                {
                    let mut registers = [0; 4];
                    registers[feature.register as usize] = 1 << feature.bit;
                    self.leaf(feature.leaf, registers);
                }
                // Linux has some of VT-x here, before version 5.6 nowhere else.
                if value.split(' ').any(|flag| flag == "ept") {
                    self.facts.partial_vmx = true;
                    self.vmx_flags(value);
                }
            }
            "vmx flags" => {
                self.facts.partial_vmx = false;
                self.vmx_flags(value);
            }
            "bugs" => {
                let mut bugs = value.split(' ');
                // A Linux before 5.4 knows none of these: whether the processor has it is open then.
                let newer = bugs.clone().any(|bug| SINCE_MULTIHIT.contains(&bug));
                self.facts.multihit =
                    if bugs.any(|bug| bug == "itlb_multihit") { Some(true) } else { newer.then_some(false) };
                self.leaf(7, [0; 4]);
            }
            _ => {}
        }
        Some(())
    }

    /// Adds bits to a leaf.
    fn leaf(&mut self, leaf: u32, registers: [u32; 4]) {
        match self.facts.leaves.iter_mut().find(|known| known.leaf == leaf) {
            Some(known) => known.registers.iter_mut().zip(registers).for_each(|(old, new)| *old |= new),
            None => drop(self.facts.leaves.push(Leaf { leaf, registers })),
        }
    }

    fn signature(&mut self, value: u32, shift: u32) {
        self.leaf(1, [value << shift, 0, 0, 0]);
    }

    /// Adds bits to a register.
    fn msr(&mut self, register: u32, bits: u64) {
        match self.facts.msrs.iter_mut().find(|(known, _)| *known == register) {
            Some((_, value)) => *value |= bits,
            None => drop(self.facts.msrs.push((register, bits))),
        }
    }

    /// What VT-x can do. Linux has no flags for what every processor with VT-x can.
    fn vmx_flags(&mut self, flags: &str) {
        let named = [vmx::EPT, vmx::VPID, vmx::UNRESTRICTED, vmx::PREEMPTION_TIMER];
        let all = named.iter().chain(&vmx::NEEDED).chain(&vmx::NEEDED_OF_EPT).chain(&vmx::INVALIDATIONS);
        for what in all {
            let there = what.linux.is_empty() || flags.split(' ').any(|flag| flag == what.linux);
            self.msr(what.register, u64::from(there) << what.bit);
        }
    }

    /// `00100000-bfffffff : System RAM`; what is inside of it is indented.
    fn memory_line(&mut self, range: &str, name: &str) -> Option<()> {
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| u64::from_str_radix(text, 16).ok().filter(|_| text.len() >= 8);
        let (start, last) = (number(first)?, number(last)?);
        if last == 0 {
            self.doubt("/proc/iomem shows nothing but zeros to ordinary users: sudo cat /proc/iomem");
            return None;
        }
        let kind = if name == "System RAM" { FREE } else { RESERVED };
        let range = Range { start, length: last.checked_sub(start)?.checked_add(1)?, kind };
        self.facts.memory.push(range).map_err(|_| self.doubt(MANY_RANGES)).ok()
    }
}

/// What is wrong with a block that ends with this marker and has this sum.
fn damage(end: &str, sum: Sum) -> Option<String> {
    let expected = format!("{END}{} lines, sum {:08x} ====", sum.lines, sum.value);
    let said = end.trim_end();
    (said != expected).then(|| {
        let lines = sum.lines;
        format!("the probe's block is damaged: it has {lines} lines here and ends with `{said}`; keep the log of another run")
    })
}

/// `APIC @ 0x00000000BFFF0000`
fn dump_heading(text: &str) -> Option<[u8; 4]> {
    let (signature, _) = text.split_once(" @ 0x")?;
    signature.as_bytes().try_into().ok()
}

/// `fed90000 ver 1:0 cap c0000020660462 ecap f0101a`
fn logged_unit(text: &str) -> Option<Unit> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [address, "ver", version, "cap", capabilities, "ecap", extended, ..] = words[..] else { return None };
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (major, minor) = version.split_once(':')?;
    let version = (number(major)? << 4 | number(minor)?) as u32;
    let (capabilities, extended) = (number(capabilities)?, number(extended)?);
    Some(Unit { address: number(address)?, version, capabilities, extended, status: 0, protected: 0 })
}
