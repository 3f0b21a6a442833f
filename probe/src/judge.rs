//! One line for each thing that this product needs of a board. What is not known, since a file is missing, has no line.

mod function;
mod iommu;

use core::fmt::{self, Write};

use crate::acpi::{self, Interrupts};
use crate::clocks::Clock;
use crate::cpu::{self, Feature};
use crate::facts::Facts;
use crate::multiboot::Firmware;
use crate::vmx::{self, Capability};

pub use function::function;
pub use iommu::is_usable as iommu_is_usable;

/// How a line begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is as it should be.
    Pass,
    /// Something is slower, or has to be told in the description, or looks wrong.
    Warn,
    /// The system will not start, or not do its work.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        })
    }
}

/// Takes lines.
pub trait Sink {
    /// A verdict on a topic, and its reason.
    fn line(&mut self, verdict: Verdict, topic: fmt::Arguments, reason: fmt::Arguments);
}

use Verdict::{Fail, Pass, Warn};

/// RAM that a small guest and its servers need, in bytes.
const ENOUGH: u64 = 256 << 20;
/// Ranges of free memory that the kernel takes.
const KERNEL_RANGES: usize = 32;
/// Two rates of the TSC are the same if they differ by less than this part.
const SAME: u64 = 200;
const MIB: u64 = 1 << 20;

/// Judges all that is known, less PCI functions, for which there is [`function`].
pub fn judge(facts: &Facts, out: &mut impl Sink) {
    processor(facts, out);
    virtualisation(facts, out);
    local_apic(facts, out);
    clocks(facts, out);
    tables(facts, out);
    iommu::judge(facts, out);
    memory(facts, out);
}

/// The `board` of a description: the newest kernel that runs on this processor. `None` if none does, or that is not known.
pub fn board(facts: &Facts) -> Option<&'static str> {
    let has = |feature| cpu::has(&facts.leaves, feature) == Some(true);
    let vtx = [vmx::EPT, vmx::VPID].into_iter().all(|what| vmx::can(&facts.msrs, what) == Some(true));
    if !has(cpu::VMX) || !has(cpu::LONG_MODE) || !vtx {
        return None;
    }
    let modern = [cpu::FSGSBASE, cpu::PCID, cpu::INVPCID, cpu::GIANT_PAGES];
    Some(if modern.into_iter().all(has) { "pc-modern" } else { "pc" })
}

/// Models of family 6 with EPT that are without "iTLB multihit", as Linux has them (arch/x86/kernel/cpu/common.c): Silvermont,
/// Airmont, Goldmont, Goldmont Plus, Tremont of servers, Xeon Phi. Not all of them say so by IA32_ARCH_CAPABILITIES.
const WITHOUT_MULTIHIT: [u32; 12] = [0x37, 0x4a, 0x4d, 0x4c, 0x5a, 0x75, 0x5c, 0x5f, 0x7a, 0x86, 0x57, 0x85];

/// Whether the processor has the erratum "iTLB multihit" (CVE-2018-12207), and what says so; `None` if it may have.
pub fn multihit(facts: &Facts) -> Option<(bool, &'static str)> {
    let capabilities = vmx::value(&facts.msrs, vmx::ARCH_CAPABILITIES).unwrap_or(0);
    let is_without = |(family, model, _)| family == 6 && WITHOUT_MULTIHIT.contains(&model);
    match facts.multihit {
        Some(has) => Some((has, "/proc/cpuinfo")),
        None if capabilities & vmx::NO_MULTIHIT != 0 => Some((false, "IA32_ARCH_CAPABILITIES")),
        None => cpu::signature(&facts.leaves).filter(|known| is_without(*known)).map(|_| (false, "its model")),
    }
}

/// Text of bytes, up to the first that is none.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: &&u8| byte.is_ascii_graphic() || **byte == b' ';
        self.0
            .iter()
            .skip_while(|byte| **byte == b' ')
            .take_while(plain)
            .try_for_each(|byte| f.write_char(char::from(*byte)))
    }
}

/// A rate in MHz, with three digits.
struct Rate(u64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} MHz", self.0 / 1_000_000, self.0 / 1000 % 1000)
    }
}

fn processor(facts: &Facts, out: &mut impl Sink) {
    let leaves = &facts.leaves;
    let Some(vendor) = cpu::vendor(leaves) else { return };
    let verdict = if &vendor == b"GenuineIntel" { Pass } else { Warn };
    let (family, model, stepping) = cpu::signature(leaves).unwrap_or_default();
    let (vendor, brand) = (Text(&vendor), cpu::brand(leaves));
    out.line(
        verdict,
        format_args!("processor"),
        format_args!("{vendor} family {family} model {model:#x} stepping {stepping}, {}", Text(&brand)),
    );
    let mut needs = |feature: Feature, verdict: Verdict, without: &str| {
        let there = cpu::has(leaves, feature) == Some(true);
        let reason = if there { "CPUID has it" } else { without };
        out.line(if there { Pass } else { verdict }, format_args!("{}", feature.name), format_args!("{reason}"));
    };
    needs(cpu::LONG_MODE, Fail, "the kernel is 64-bit code");
    needs(cpu::NX, Fail, "the kernel uses it");
    needs(
        cpu::VMX,
        Fail,
        "CPUID does not show it: switch \"Intel Virtualization Technology\" on in the firmware's set-up; an AMD or a hypervisor \
         without nesting has none",
    );
    needs(cpu::APIC, Fail, "switched off: \"Local APIC\" in the firmware's set-up");
    for feature in [cpu::GIANT_PAGES, cpu::PCID, cpu::INVPCID, cpu::FSGSBASE] {
        needs(feature, Warn, "none: not for `board = \"pc-modern\"`");
    }
    needs(cpu::XSAVE, Warn, "none: guests have the FXSAVE state alone");
    needs(cpu::INVARIANT_TSC, Warn, "none: the TSC may stop or change its rate; switch C-states and SpeedStep off");
    needs(cpu::TSC_DEADLINE, Pass, "none: not needed");
    needs(cpu::RDRAND, Warn, "none: guests have no entropy device");
    if cpu::has(leaves, cpu::HYPERVISOR) == Some(true) {
        out.line(
            Warn,
            format_args!("hypervisor"),
            format_args!("this is a virtual machine: what follows is the hypervisor's word"),
        );
    }
    if let Some(board) = board(facts) {
        let also = match board == "pc" && cpu::has(leaves, cpu::FSGSBASE) == Some(true) {
            true => "; \"cma34cr\" uses FSGSBASE, too",
            false => "",
        };
        out.line(Pass, format_args!("kernel"), format_args!("board = \"{board}\"{also}"));
    } else if !facts.msrs.is_empty() {
        out.line(Fail, format_args!("kernel"), format_args!("none runs on this processor"));
    }
}

fn virtualisation(facts: &Facts, out: &mut impl Sink) {
    if let Some(control) = vmx::value(&facts.msrs, vmx::FEATURE_CONTROL) {
        let (verdict, reason) = match (control & vmx::LOCKED != 0, control & vmx::VMX_ALLOWED != 0) {
            (true, false) => (
                Fail,
                "locked off: switch \"Intel Virtualization Technology\" on in the firmware's set-up, then the power off and on",
            ),
            (true, true) => (Pass, "on and locked"),
            (false, _) => (Pass, "not locked: the kernel switches it on"),
        };
        out.line(verdict, format_args!("VT-x lock"), format_args!("{reason} (IA32_FEATURE_CONTROL {control:#x})"));
    }
    let can = |what: Capability| vmx::can(&facts.msrs, what).filter(|_| !(facts.partial_vmx && what.is_named_late()));
    let mut capability = |what: Capability, verdict: Verdict, without: &str| {
        let Some(there) = can(what) else { return };
        let reason = if there { "yes" } else { without };
        out.line(if there { Pass } else { verdict }, format_args!("{}", what.name), format_args!("{reason}"));
    };
    capability(vmx::EPT, Fail, "none: the processor is older than Nehalem, or a hypervisor hides it");
    capability(vmx::VPID, Fail, "none: the kernel uses it");
    capability(vmx::UNRESTRICTED, Pass, "none, as on Nehalem: not needed");
    capability(vmx::PREEMPTION_TIMER, Warn, "none: guests' deadlines cost more");
    // All of a kind in one line, if all are there.
    let mut all = |topic: &str, whats: &[Capability], verdict: Verdict| {
        let known = whats.iter().filter(|what| can(**what).is_some()).count();
        let lacking = || whats.iter().filter(|what| can(**what) == Some(false));
        match lacking().count() {
            0 if known < whats.len() => {}
            0 => out.line(Pass, format_args!("{topic}"), format_args!("all that the kernel uses")),
            _ => {
                lacking().for_each(|what| out.line(verdict, format_args!("{topic}"), format_args!("no {}", what.name)))
            }
        }
    };
    all("VT-x controls", &vmx::NEEDED, Fail);
    if can(vmx::EPT) == Some(true) {
        all("EPT", &vmx::NEEDED_OF_EPT, Fail);
        all("invalidation", &vmx::INVALIDATIONS[..3], Warn);
    }
    if cpu::has(&facts.leaves, cpu::VMX) == Some(true) && facts.leaves.iter().any(|leaf| leaf.leaf == 7) {
        let topic = format_args!("iTLB multihit");
        let small = "(CVE-2018-12207): guests are in pages of 4 KiB";
        match multihit(facts) {
            Some((false, by)) => {
                out.line(Pass, topic, format_args!("no, by {by}: large_pages = true saves TLB misses"))
            }
            Some((true, by)) => out.line(Warn, topic, format_args!("yes, by {by} {small}")),
            None => out.line(Warn, topic, format_args!("maybe {small}")),
        }
    }
}

fn local_apic(facts: &Facts, out: &mut impl Sink) {
    let Some(base) = vmx::value(&facts.msrs, vmx::APIC_BASE) else { return };
    let locked = vmx::value(&facts.msrs, vmx::XAPIC_DISABLE_STATUS).is_some_and(|status| status & 1 != 0);
    let (verdict, reason) = match (base & vmx::APIC_ON != 0, base & vmx::X2APIC_ON != 0, locked) {
        (false, ..) => (Fail, "switched off: \"Local APIC\" in the firmware's set-up"),
        (_, _, true) => (Fail, "locked in x2APIC mode: switch \"x2APIC\" off in the firmware's set-up"),
        (_, true, _) => (Warn, "x2APIC mode: the kernel switches back; if it stops at code 17, switch \"x2APIC\" off"),
        (_, false, _) => (Pass, "xAPIC mode"),
    };
    out.line(verdict, format_args!("APIC mode"), format_args!("{reason} (IA32_APIC_BASE {base:#x})"));
}

fn clocks(facts: &Facts, out: &mut impl Sink) {
    let clocks = &facts.clocks;
    if !clocks.known {
        return;
    }
    let others = [clocks.pm_timer, clocks.hpet].iter().any(|clock| clock.rate().is_some());
    let gated = if others { Warn } else { Fail };
    let all = [
        (
            "8254",
            clocks.pit,
            gated,
            "does not count: timer-server uses the HPET; \"8254 clock gating\" off gives it back",
        ),
        ("PM timer", clocks.pm_timer, Warn, "does not count"),
        ("HPET", clocks.hpet, Warn, "does not count"),
    ];
    for (name, clock, verdict, dead) in all {
        match clock {
            Clock::Counts(hz) => {
                out.line(Pass, format_args!("{name}"), format_args!("counts; the TSC by it: {}", Rate(hz)))
            }
            Clock::Dead => out.line(verdict, format_args!("{name}"), format_args!("{dead}")),
            Clock::Missing => out.line(Warn, format_args!("{name}"), format_args!("no table names one")),
        }
    }
    if clocks.pit.rate().is_none() && clocks.hpet.rate().is_none() {
        out.line(
            Fail,
            format_args!("deadlines"),
            format_args!("timer-server needs the 8254 or the HPET: switch one on in the firmware's set-up"),
        );
    }
    match clocks.apic {
        Clock::Counts(hz) => out.line(Pass, format_args!("APIC timer"), format_args!("counts at {}", Rate(hz))),
        Clock::Dead => out.line(Fail, format_args!("APIC timer"), format_args!("does not count")),
        Clock::Missing => {}
    }
    tsc(facts, out);
}

fn tsc(facts: &Facts, out: &mut impl Sink) {
    let rates = [facts.clocks.pit, facts.clocks.pm_timer, facts.clocks.hpet].map(Clock::rate);
    let topic = format_args!("TSC rate");
    let Some(measured) = rates.into_iter().flatten().next() else {
        return out.line(Fail, topic, format_args!("no clock to measure it by"));
    };
    if rates.into_iter().flatten().any(|hz| hz.abs_diff(measured) > measured / SAME) {
        out.line(Warn, topic, format_args!("the clocks disagree"));
    }
    match cpu::told_tsc(&facts.leaves) {
        None => out.line(Pass, topic, format_args!("{}, measured; CPUID does not say it", Rate(measured))),
        Some(told) if told.abs_diff(measured) <= measured / SAME => {
            out.line(Pass, topic, format_args!("{}, by CPUID {}", Rate(measured), Rate(told)))
        }
        Some(told) => out.line(Warn, topic, format_args!("{}, but by CPUID {}", Rate(measured), Rate(told))),
    }
}

fn tables(facts: &Facts, out: &mut impl Sink) {
    match facts.firmware {
        Some(Firmware::Bios) => out.line(Pass, format_args!("firmware"), format_args!("BIOS")),
        Some(Firmware::Uefi) => out.line(Pass, format_args!("firmware"), format_args!("UEFI")),
        None => {}
    }
    match facts.rsdp {
        Some(rsdp) if rsdp.xsdt != 0 => out.line(
            Pass,
            format_args!("ACPI"),
            format_args!("RSDP revision {}, XSDT at {:#x}, RSDT at {:#x}", rsdp.revision, rsdp.xsdt, rsdp.rsdt),
        ),
        Some(rsdp) => out.line(
            Pass,
            format_args!("ACPI"),
            format_args!("RSDP revision {}, RSDT at {:#x}", rsdp.revision, rsdp.rsdt),
        ),
        None if facts.firmware.is_some() => {
            out.line(Fail, format_args!("ACPI"), format_args!("no RSDP: switch ACPI on in the firmware's set-up"))
        }
        None => {}
    }
    for table in facts.tables.iter().filter(|table| !acpi::is_whole(table.bytes)) {
        out.line(Warn, format_args!("ACPI"), format_args!("the checksum of {} is wrong", Text(&table.signature)));
    }
    match facts.table(b"APIC") {
        Some(madt) => interrupts(facts, madt, out),
        None if facts.rsdp.is_some() => {
            out.line(Fail, format_args!("MADT"), format_args!("none: the kernel finds no I/O APIC"))
        }
        None => {}
    }
    match facts.table(b"MCFG") {
        Some(mcfg) => acpi::mcfg(mcfg).for_each(|(address, segment, first, last)| {
            out.line(
                if segment == 0 { Pass } else { Warn },
                format_args!("MCFG"),
                format_args!("segment {segment}, buses {first:#x} to {last:#x} at {address:#x}"),
            );
        }),
        None if facts.rsdp.is_some() => {
            out.line(Warn, format_args!("MCFG"), format_args!("none: extended configuration space is out of reach"))
        }
        None => {}
    }
}

fn interrupts(facts: &Facts, madt: &[u8], out: &mut impl Sink) {
    let own = cpu::answer(&facts.leaves, 1).map(|[_, ebx, ..]| ebx >> 24);
    let processors = || {
        acpi::madt(madt).filter_map(|entry| match entry {
            Interrupts::Processor { apic, enabled: true } => Some(apic),
            _ => None,
        })
    };
    let (count, first) = (processors().count(), processors().next());
    match own {
        Some(own) if first.is_some_and(|first| first & 0xff != own) => out.line(
            Warn,
            format_args!("MADT"),
            format_args!("{count} processors; this one, APIC {own:#x}, is not the first of them: interrupts go to it nevertheless"),
        ),
        _ => out.line(Pass, format_args!("MADT"), format_args!("{count} processors; Portcullis uses the one that boots")),
    }
    let mut chips = 0;
    for entry in acpi::madt(madt) {
        match entry {
            Interrupts::IoApic { id, address, base } => {
                chips += 1;
                out.line(Pass, format_args!("I/O APIC"), format_args!("{id} at {address:#x}, inputs from {base} on"));
            }
            Interrupts::Override { irq, input, flags } => {
                let level = if flags >> 2 & 0b11 == 0b11 { "level" } else { "edge" };
                out.line(
                    Pass,
                    format_args!("override"),
                    format_args!("ISA interrupt {irq} arrives at input {input}, {level}"),
                );
            }
            Interrupts::Processor { .. } => {}
        }
    }
    if chips == 0 {
        out.line(
            Fail,
            format_args!("I/O APIC"),
            format_args!("the MADT has none: switch \"I/O APIC\" on in the firmware's set-up"),
        );
    }
}

fn memory(facts: &Facts, out: &mut impl Sink) {
    if facts.memory.is_empty() {
        if facts.firmware.is_some() {
            out.line(Fail, format_args!("memory"), format_args!("the loader has handed over no map"));
        }
        return;
    }
    let free = || facts.memory.iter().filter(|range| range.kind == 1 && range.start >= MIB);
    let sum: u64 = free().map(|range| range.length).fold(0, u64::saturating_add);
    let (ranges, most) = (free().count(), free().map(|range| range.length).max().unwrap_or(0));
    let above: u64 =
        free().filter(|range| range.start >= 1 << 32).map(|range| range.length).fold(0, u64::saturating_add);
    out.line(
        if sum >= ENOUGH { Pass } else { Fail },
        format_args!("memory"),
        format_args!(
            "{} MiB free in {ranges} ranges above 1 MiB, the largest {} MiB; above 4 GiB {} MiB",
            sum / MIB,
            most / MIB,
            above / MIB
        ),
    );
    if ranges > KERNEL_RANGES {
        out.line(
            Warn,
            format_args!("memory"),
            format_args!("the kernel uses the {KERNEL_RANGES} largest ranges alone"),
        );
    }
}
