//! What a guest finds behind every number: CPUID leaves, MSRs and ports, compared with the tables in vtx and the board's list.

use std::arch::x86_64::CpuidResult;
use std::collections::BTreeMap;

use miette::{Result, ensure, miette};
use vtx::{cpuid, msr};

use super::run::{WITHOUT_ACPI, has_long_mode, run, run_all, widths};
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Guests, name, run);
    vec![test("cpuid-all-leaves", cpuid_all_leaves), test("msr-all", msr_all), test("ports-all", ports_all)]
}

/// The guest sees what the policy has filtered, so filtering again changes nothing: every hidden bit is clear, every
/// shown one set. Leaves that the guest does not print are zero.
fn cpuid_all_leaves(context: &Context) -> Result<Outcome> {
    let widths = widths(context, "cpuid")?;
    let counts = widths.iter().map(|guest| cpuid_leaves(context, guest)).collect::<Result<Vec<_>>>()?;
    Ok(Outcome::Passed(format!("{counts:?} answers that are not zero")))
}

fn cpuid_leaves(context: &Context, guest: &str) -> Result<usize> {
    let prefix = context.prefix(Build::Release)?;
    let (processor, xcr0) = (prefix.processor(), prefix.xcr0());
    let report = run(context, guest)?;
    let mut seen = BTreeMap::new();
    for fact in report.facts("cpuid") {
        let &[leaf, subleaf, eax, ebx, ecx, edx] = fact.as_slice() else {
            return Err(miette!("not a leaf: {fact:x?}"));
        };
        seen.insert((leaf, subleaf), CpuidResult { eax, ebx, ecx, edx });
    }
    let zero = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };
    let tsc = seen.get(&(0x15, 0)).unwrap_or(&zero);
    let tsc_hz = u64::from(tsc.ecx) * u64::from(tsc.ebx) / u64::from(tsc.eax.max(1));
    for leaf in (0..=0x40).chain(0x4000_0000..=0x4000_0010).chain(0x8000_0000..=0x8000_0040) {
        for subleaf in 0..4 {
            let guest = *seen.get(&(leaf, subleaf)).unwrap_or(&zero);
            let allowed = cpuid::leaf(processor, xcr0, leaf, subleaf, guest, tsc_hz);
            ensure!(guest == allowed, "leaf {leaf:#x}.{subleaf}: {guest:x?}, but the policy gives {allowed:x?}");
        }
    }
    let signature = seen.get(&(0x4000_0000, 0)).unwrap_or(&zero);
    let name = [signature.ebx, signature.ecx, signature.edx].map(u32::to_le_bytes).concat();
    ensure!(name == cpuid::SIGNATURE, "the hypervisor calls itself {}", String::from_utf8_lossy(&name));
    Ok(seen.len())
}

/// The guest's registers are those of the table, with their values; all else is #GP.
fn msr_all(context: &Context) -> Result<Outcome> {
    msrs_of(context, "msr", 0)?;
    if has_long_mode(context)? {
        // LME and LMA, which no guest clears in 64-bit code.
        msrs_of(context, "long-msr", 0x500)?;
    }
    passed()
}

fn msrs_of(context: &Context, guest: &str, efer: u64) -> Result<()> {
    const APIC_BASE: u32 = 0x1b;
    const EFER: u32 = 0xc000_0080;
    let processor = context.prefix(Build::Release)?.processor();
    let report = run(context, guest)?;
    let read = report.facts("read");
    let tested = |number: &u32| matches!(number, 0..0x2000 | 0xc000_0000..0xc000_2000);
    let table: Vec<&msr::Msr> = msr::TABLE.iter().filter(|msr| tested(&msr.number) && msr.is_in(processor)).collect();
    for (msr, fact) in table.iter().zip(read) {
        let value = match msr.read {
            msr::Read::Value(value) => Some(value),
            msr::Read::Native => Some(0),
            msr::Read::Own(msr::Own::ApicBase) => Some(0xfee0_0900),
            msr::Read::Own(msr::Own::Efer) => Some(efer),
            msr::Read::Apic | msr::Read::Own(msr::Own::FsBase | msr::Own::GsBase | msr::Own::Syscall(_)) => Some(0),
            msr::Read::Own(msr::Own::Pat) => Some(msr::PAT_RESET),
            msr::Read::Own(msr::Own::MtrrDefType) => Some(msr::MTRR_DEF_TYPE_RESET),
            msr::Read::Tsc => None,
        };
        let &[number, high, low] = fact.as_slice() else { return Err(miette!("not a register: {fact:x?}")) };
        let got = u64::from(high) << 32 | u64::from(low);
        ensure!(number == msr.number, "{number:#x} can be read before {:#x}, {}", msr.number, msr.name);
        ensure!(value.is_none_or(|value| value == got), "{} reads {got:#x}", msr.name);
    }
    ensure!(read.len() == table.len(), "{} registers can be read, not {}", read.len(), table.len());
    let writable = |msr: &&&msr::Msr| {
        matches!(msr.write, msr::Write::Native | msr::Write::Own) || msr::write(processor, msr.number, 0).is_ok()
    };
    let expected = table.iter().filter(writable).map(|msr| msr.number);
    let takes_zero = |&number: &u32| number != APIC_BASE && (number != EFER || efer == 0);
    let expected: Vec<u32> = expected.filter(takes_zero).collect();
    let written: Vec<u32> = report.facts("write").concat();
    ensure!(written == expected, "zero can be written to {written:x?}, not to {expected:x?}");
    let faults = (4 * 0x2000 - read.len() - written.len()) as u32;
    ensure!(report.facts("faults").concat() == [faults, 0], "{:x?} faults, not {faults:x}", report.facts("faults"));
    Ok(())
}

/// Ports that belong to a device of the board: everything else reads all ones at every width. A wide access goes to the
/// owner of its first port.
fn ports_all(context: &Context) -> Result<Outcome> {
    let guests = widths(context, "ports")?;
    let counts = guests.iter().map(|guest| ports_of(context, guest)).collect::<Result<Vec<_>>>()?;
    Ok(Outcome::Passed(format!("{counts:?} ranges answer")))
}

fn ports_of(context: &Context, guest: &str) -> Result<usize> {
    /// PIC, PIT, keyboard controller and port 0x61, RTC, delay, control port A, PIC, COM1, ELCR, PCI mechanism 1.
    const OWNED: [(u32, u32); 12] = [
        (0x20, 0x21),
        (0x40, 0x43),
        (0x60, 0x61),
        (0x64, 0x64),
        (0x70, 0x71),
        (0x80, 0x80),
        (0x92, 0x92),
        (0xa0, 0xa1),
        (0x3f8, 0x3ff),
        (0x4d0, 0x4d1),
        (0xcf8, 0xcfb),
        (0xcfc, 0xcff),
    ];
    let report = run_all(context, &[guest], WITHOUT_ACPI, "")?;
    let answering = report.facts("port");
    for fact in answering {
        let &[width, first, last] = fact.as_slice() else { return Err(miette!("not a range: {fact:x?}")) };
        let owned = (first..=last).all(|port| OWNED.iter().any(|&(low, high)| (low..=high).contains(&port)));
        ensure!(owned, "nobody owns all of ports {first:#x} to {last:#x}, but {width} bytes are not all ones there");
    }
    ensure!(answering.iter().any(|fact| fact.starts_with(&[1, 0x20])), "the PIC does not answer");
    ensure!(report.lines("reset") == 0, "a port has reset the guest:\n{}", report.console);
    Ok(answering.len())
}
