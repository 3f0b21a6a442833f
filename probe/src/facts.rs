//! What is known of a board: registers and tables as they are, so that whoever reads the block of text can find in it what
//! nobody has asked for yet. Anything may be missing, since Linux' files do not have all of it.

use heapless::Vec;

use crate::acpi::{self, MOST_TABLES, Remapping, Rsdp, Table};
use crate::clocks::{self, Clocks};
use crate::cpu::{self, Leaf, MOST_LEAVES};
use crate::machine::{Machine, Memory};
use crate::multiboot::{Firmware, Loaded, MOST_RANGES, Range};
use crate::vmx::{self, MOST_MSRS, Msr};

/// Most units of the IOMMU.
pub const MOST_UNITS: usize = 16;

/// The registers of a unit of the IOMMU (VT-d specification 3.3, chapter 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Their address.
    pub address: u64,
    /// VER_REG.
    pub version: u32,
    /// CAP_REG.
    pub capabilities: u64,
    /// ECAP_REG.
    pub extended: u64,
    /// GSTS_REG.
    pub status: u32,
    /// PMEN_REG.
    pub protected: u32,
}

/// A board.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// CPUID; empty if unknown.
    pub leaves: Vec<Leaf, MOST_LEAVES>,
    /// MSRs.
    pub msrs: Vec<Msr, MOST_MSRS>,
    /// What started the loader.
    pub firmware: Option<Firmware>,
    /// The ACPI root pointer.
    pub rsdp: Option<Rsdp>,
    /// ACPI tables.
    pub tables: Vec<Table<'a>, MOST_TABLES>,
    /// Units of the IOMMU.
    pub units: Vec<Unit, MOST_UNITS>,
    /// Clocks, and the TSC's rate by each.
    pub clocks: Clocks,
    /// Memory; empty if unknown.
    pub memory: Vec<Range, MOST_RANGES>,
    /// Whether the processor has the bug "iTLB multihit", by /proc/cpuinfo.
    pub multihit: Option<bool>,
    /// Whether VT-x is known by a Linux that names only some of what it can do, before version 5.6.
    pub partial_vmx: bool,
    /// COM1 to COM4, which are there, from bit 0 on.
    pub uarts: Option<u8>,
}

impl<'a> Facts<'a> {
    /// Reads everything.
    pub fn collect<M: Machine + Memory<'a>>(machine: &M, loaded: Option<Loaded>, uarts: u8) -> Self {
        let leaves = cpu::leaves(machine);
        let msrs = vmx::registers(machine, &leaves);
        let rsdp = loaded.as_ref().and_then(|loaded| loaded.rsdp);
        let tables = rsdp.map(|rsdp| rsdp.tables(machine)).unwrap_or_default();
        let firmware = loaded.as_ref().map(|loaded| loaded.firmware);
        let memory = loaded.map(|loaded| loaded.memory).unwrap_or_default();
        let mut facts = Self { leaves, msrs, firmware, rsdp, tables, memory, uarts: Some(uarts), ..Self::default() };
        facts.units = units(machine, facts.table(b"DMAR").unwrap_or_default());
        let pm_timer = facts.table(b"FACP").and_then(acpi::pm_timer);
        let hpet = facts.table(b"HPET").and_then(acpi::hpet);
        let apic = vmx::value(&facts.msrs, vmx::APIC_BASE);
        facts.clocks = clocks::measure(machine, pm_timer, hpet, apic);
        facts
    }

    /// A table's bytes.
    pub fn table(&self, signature: &[u8; 4]) -> Option<&'a [u8]> {
        self.tables.iter().find(|table| table.signature == *signature).map(|table| table.bytes)
    }
}

fn units(machine: &impl Machine, dmar: &[u8]) -> Vec<Unit, MOST_UNITS> {
    let addresses = acpi::dmar(dmar).filter_map(|entry| match entry {
        // What is at address 0 is no unit, whatever the table says.
        Remapping::Unit { address: 0, .. } | Remapping::Reserved { .. } => None,
        Remapping::Unit { address, .. } => Some(address),
    });
    let registers = |address: u64| Unit {
        address,
        version: machine.read32(address),
        capabilities: machine.read64(address.wrapping_add(0x08)),
        extended: machine.read64(address.wrapping_add(0x10)),
        status: machine.read32(address.wrapping_add(0x1c)),
        protected: machine.read32(address.wrapping_add(0x64)),
    };
    addresses.map(registers).take(MOST_UNITS).collect()
}
