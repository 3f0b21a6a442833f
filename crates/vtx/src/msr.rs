//! RDMSR and WRMSR in the guest (SDM volume 4). The kernel makes every MSR exit but the three SYSENTER ones, and, if it
//! supports 64-bit guests, the bases of FS and GS. It lets a VMM read no MSR on the guest's behalf but those of [`crate::syscall`].
//! The table has every MSR of the guest, but for those of an x2APIC, which are the local APIC's; any other is #GP, as on a processor
//! without it. It is consistent with [`crate::cpuid`]: an MSR whose feature is hidden does not exist.
//!
//! So there are none that control speculation: SPEC_CTRL, PRED_CMD, FLUSH_CMD and ARCH_CAPABILITIES are #GP.

use crate::{processor::Processor, syscall::SyscallMsr};

/// The guest gets #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gp;

/// The answer to RDMSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Always this.
    Value(u64),
    /// The time-stamp counter, as RDTSC gives it.
    Tsc,
    /// The value of a register of the local APIC: the caller reads it there.
    Apic,
    /// The access does not exit: the VMCS has the guest's own value.
    Native,
    /// The caller has the guest's own value.
    Own(Own),
}

/// A register whose value the vCPU has, in the VMCS or beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// IA32_APIC_BASE: the local APIC's.
    ApicBase,
    /// IA32_EFER: see [`crate::cr`].
    Efer,
    /// IA32_PAT: `GuestPat`.
    Pat,
    /// IA32_MTRR_DEF_TYPE, which is stored, and has no effect.
    MtrrDefType,
    /// IA32_FS_BASE: `GuestFsBase`.
    FsBase,
    /// IA32_GS_BASE: `GuestGsBase`.
    GsBase,
    /// One that the kernel switches.
    Syscall(SyscallMsr),
}

/// The answer to WRMSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// #GP.
    Refused,
    /// #GP, unless it writes what is there.
    Same,
    /// The value is ignored.
    Vanishes,
    /// The value is for a register of the local APIC: the caller writes it there.
    Apic,
    /// The access does not exit.
    Native,
    /// The caller sets the guest's own value, or refuses it.
    Own,
}

/// A register that exists.
#[derive(Clone, Copy, Debug)]
pub struct Msr {
    /// Its number, as in ECX.
    pub number: u32,
    /// Its name in the SDM.
    pub name: &'static str,
    /// What RDMSR gives.
    pub read: Read,
    /// What WRMSR does.
    pub write: Write,
    /// Only [`Processor::Bits64`] has it.
    pub is_long: bool,
}

const fn msr(number: u32, name: &'static str, read: Read, write: Write) -> Msr {
    Msr { number, name, read, write, is_long: false }
}

/// One that only the processor with long mode has.
const fn long(number: u32, name: &'static str, read: Read, write: Write) -> Msr {
    Msr { is_long: true, ..msr(number, name, read, write) }
}

impl Msr {
    /// Whether a processor has it.
    pub const fn is_in(&self, processor: Processor) -> bool {
        !self.is_long || matches!(processor, Processor::Bits64)
    }
}

/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// Locked, VMX off: Linux then leaves it alone.
const LOCKED: u64 = 1;
/// Revision 1. Linux writes 0, executes CPUID and reads the revision from the upper half.
const MICROCODE: u64 = 1 << 32;
/// Fast strings work (Linux drops REP MOVSB otherwise); branch trace storage and precise sampling do not exist.
const MISC_ENABLE: u64 = 1 << 0 | 1 << 11 | 1 << 12;

use Read::{Native, Tsc, Value};
use SyscallMsr::{Cstar, Fmask, KernelGsBase, Lstar, Star, TscAux};

/// Every register that exists, by number.
pub const TABLE: &[Msr] = &[
    // A write would need the TSC offset, which the kernel lets no VMM set. Linux writes the TSC only to correct a
    // second processor's.
    msr(0x10, "IA32_TIME_STAMP_COUNTER", Tsc, Write::Vanishes),
    msr(0x17, "IA32_PLATFORM_ID", Value(0), Write::Refused),
    // The local APIC cannot be moved, and an xAPIC not be disabled: a guest without one would be another board.
    msr(0x1b, "IA32_APIC_BASE", Read::Own(Own::ApicBase), Write::Own),
    msr(0x3a, "IA32_FEATURE_CONTROL", Value(LOCKED), Write::Refused),
    // The TSC cannot be written (see 0x10), so its adjustment is always zero.
    msr(0x3b, "IA32_TSC_ADJUST", Value(0), Write::Vanishes),
    msr(0x8b, "IA32_BIOS_SIGN_ID", Value(MICROCODE), Write::Vanishes),
    // No ranges, be they fixed or variable, and no write-combining.
    long(0xfe, "IA32_MTRRCAP", Value(0), Write::Refused),
    msr(0x174, "IA32_SYSENTER_CS", Native, Write::Native),
    msr(0x175, "IA32_SYSENTER_ESP", Native, Write::Native),
    msr(0x176, "IA32_SYSENTER_EIP", Native, Write::Native),
    // No banks of machine-check registers, and so no checks.
    msr(0x179, "IA32_MCG_CAP", Value(0), Write::Refused),
    msr(0x17a, "IA32_MCG_STATUS", Value(0), Write::Same),
    msr(0x1a0, "IA32_MISC_ENABLE", Value(MISC_ENABLE), Write::Vanishes),
    // Linux writes it to step by branches; the guest then steps by instructions.
    msr(0x1d9, "IA32_DEBUGCTL", Value(0), Write::Vanishes),
    long(0x277, "IA32_PAT", Read::Own(Own::Pat), Write::Own),
    // Linux switches the MTRRs off and on again where it sets its PAT. The EPT gives memory types.
    long(0x2ff, "IA32_MTRR_DEF_TYPE", Read::Own(Own::MtrrDefType), Write::Own),
    msr(TSC_DEADLINE, "IA32_TSC_DEADLINE", Read::Apic, Write::Apic),
    // Without long mode, the guest has none of the features that it enables. Saving and restoring it must still work.
    msr(0xc000_0080, "IA32_EFER", Read::Own(Own::Efer), Write::Own),
    long(0xc000_0081, "IA32_STAR", Read::Own(Own::Syscall(Star)), Write::Own),
    long(0xc000_0082, "IA32_LSTAR", Read::Own(Own::Syscall(Lstar)), Write::Own),
    long(0xc000_0083, "IA32_CSTAR", Read::Own(Own::Syscall(Cstar)), Write::Own),
    long(0xc000_0084, "IA32_FMASK", Read::Own(Own::Syscall(Fmask)), Write::Own),
    // In long mode, accesses to the three bases do not exit.
    long(0xc000_0100, "IA32_FS_BASE", Read::Own(Own::FsBase), Write::Own),
    long(0xc000_0101, "IA32_GS_BASE", Read::Own(Own::GsBase), Write::Own),
    long(0xc000_0102, "IA32_KERNEL_GS_BASE", Read::Own(Own::Syscall(KernelGsBase)), Write::Own),
    // What RDTSCP reads. Linux writes the processor's number, which is 0.
    long(0xc000_0103, "IA32_TSC_AUX", Read::Own(Own::Syscall(TscAux)), Write::Own),
];

/// The table by the low bits of the registers' numbers, which differ.
static PLACES: [Option<Msr>; 256] = {
    let mut places = [None; 256];
    let mut row = 0;
    while row < TABLE.len() {
        let place = TABLE[row].number as usize % places.len();
        assert!(places[place].is_none(), "two registers share a place");
        places[place] = Some(TABLE[row]);
        row += 1;
    }
    places
};

#[inline(always)]
fn find(processor: Processor, number: u32) -> Option<&'static Msr> {
    PLACES[number as usize % PLACES.len()].as_ref().filter(|msr| msr.number == number && msr.is_in(processor))
}

/// The register of this number, if its value is the vCPU's own.
pub fn own(processor: Processor, number: u32) -> Option<Own> {
    match find(processor, number)?.read {
        Read::Own(own) => Some(own),
        _ => None,
    }
}

/// RDMSR, of all but the local APIC's and the vCPU's own. `tsc` is what RDTSC gives now.
#[inline]
pub fn read(processor: Processor, number: u32, tsc: impl FnOnce() -> u64) -> Result<u64, Gp> {
    match find(processor, number).map(|msr| msr.read) {
        Some(Value(value)) => Ok(value),
        Some(Tsc) => Ok(tsc()),
        Some(Native | Read::Apic | Read::Own(_)) | None => Err(Gp),
    }
}

/// WRMSR, of all but the vCPU's own: whether the register takes the value.
pub fn write(processor: Processor, number: u32, value: u64) -> Result<(), Gp> {
    let msr = find(processor, number).ok_or(Gp)?;
    match msr.write {
        Write::Vanishes | Write::Apic => Ok(()),
        Write::Same if msr.read == Value(value) => Ok(()),
        Write::Same | Write::Refused | Write::Native | Write::Own => Err(Gp),
    }
}

/// The PAT after a reset (SDM volume 3, "IA32_PAT MSR").
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// Whether WRMSR takes this PAT: each byte is a memory type.
pub const fn pat_is_valid(pat: u64) -> bool {
    let bytes = pat.to_le_bytes();
    let mut n = 0;
    while n < bytes.len() {
        // Uncacheable, write-combining, write-through, write-protected, write-back, UC-.
        if !matches!(bytes[n], 0 | 1 | 4..=7) {
            return false;
        }
        n += 1;
    }
    true
}

/// IA32_MTRR_DEF_TYPE as firmware leaves it: enabled, write-back.
pub const MTRR_DEF_TYPE_RESET: u64 = 1 << 11 | 6;

/// Whether WRMSR takes this IA32_MTRR_DEF_TYPE: a memory type, and two bits that enable.
pub const fn mtrr_def_type_is_valid(value: u64) -> bool {
    const ENABLE: u64 = 1 << 10 | 1 << 11;
    matches!(value & !ENABLE, 0 | 1 | 4..=6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Processor::{Bits32, Bits64};

    fn read(number: u32, tsc: impl FnOnce() -> u64) -> Result<u64, Gp> {
        super::read(Bits32, number, tsc)
    }

    fn write(number: u32, value: u64) -> Result<(), Gp> {
        super::write(Bits32, number, value)
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.is_sorted_by(|a, b| a.number < b.number));
    }

    #[test]
    fn unknown_registers_fault() {
        for number in
            [0, 0x48, 0x122, 0x140, 0x186, 0xfe, 0x17b, 0x277, 0x400, 0x2ff, 0x4b56_4d01, 0xc000_0103, u32::MAX]
        {
            assert_eq!((read(number, || 7), write(number, 0)), (Err(Gp), Err(Gp)), "{number:#x}");
        }
    }

    #[test]
    fn the_tsc_is_read_and_keeps_its_value() {
        assert_eq!(read(0x10, || 0x1234_5678_9abc), Ok(0x1234_5678_9abc));
        assert_eq!(write(0x10, 0), Ok(()));
        assert_eq!(write(0x3b, 5), Ok(()));
        assert_eq!(read(0x3b, || 0), Ok(0), "it has not moved");
    }

    #[test]
    fn linux_finds_what_it_asks_for() {
        assert_eq!(own(Bits32, 0x1b), Some(Own::ApicBase));
        assert_eq!(read(0x3a, || 0), Ok(1));
        assert_eq!(write(0x8b, 0), Ok(()));
        assert_eq!(read(0x8b, || 0), Ok(0x1_0000_0000));
        assert_eq!(read(0x1a0, || 0), Ok(0x1801));
    }

    #[test]
    fn both_processors_have_an_efer_and_one_the_registers_of_long_mode() {
        assert_eq!([Bits32, Bits64].map(|processor| own(processor, 0xc000_0080)), [Some(Own::Efer); 2]);
        for (number, own) in [
            (0x277, Own::Pat),
            (0x2ff, Own::MtrrDefType),
            (0xc000_0082, Own::Syscall(Lstar)),
            (0xc000_0100, Own::FsBase),
            (0xc000_0103, Own::Syscall(TscAux)),
        ] {
            assert_eq!([Bits32, Bits64].map(|processor| super::own(processor, number)), [None, Some(own)]);
        }
        assert_eq!([Bits32, Bits64].map(|processor| super::read(processor, 0xfe, || 7)), [Err(Gp), Ok(0)]);
    }

    #[test]
    fn speculation_is_not_controlled() {
        for number in [0x48, 0x49, 0x10a, 0x10b] {
            for processor in [Bits32, Bits64] {
                assert_eq!(
                    (super::read(processor, number, || 7), super::write(processor, number, 1)),
                    (Err(Gp), Err(Gp))
                );
            }
        }
    }

    #[test]
    fn memory_types_are_those_of_the_sdm() {
        assert!(pat_is_valid(PAT_RESET) && pat_is_valid(0x0407_0506_0007_0106));
        assert!(!pat_is_valid(0x0007_0406_0007_0402) && !pat_is_valid(8 << 56) && !pat_is_valid(3));
        assert!([0, 0xc06, 0x800, 6, 0x401].map(mtrr_def_type_is_valid).iter().all(|&valid| valid));
        assert!(![2, 3, 7, 0x1000, 0x100, 0x1_0000_0006].map(mtrr_def_type_is_valid).iter().any(|&valid| valid));
    }

    #[test]
    fn a_deadline_is_the_local_apics() {
        assert_eq!((write(0x6e0, u64::MAX), read(0x6e0, || 7)), (Ok(()), Err(Gp)), "it is the APIC's to tell");
    }

    #[test]
    fn there_are_no_banks_of_machine_checks() {
        assert_eq!((read(0x179, || 0), write(0x179, 0)), (Ok(0), Err(Gp)), "no MCG_CTL, no bank");
        assert_eq!((read(0x17a, || 0), write(0x17a, 0), write(0x17a, 4)), (Ok(0), Ok(()), Err(Gp)));
        for bank in 0x400..0x480 {
            assert_eq!((read(bank, || 0), write(bank, 0)), (Err(Gp), Err(Gp)), "{bank:#x}");
        }
    }

    #[test]
    fn a_locked_register_faults_on_writing() {
        assert_eq!(write(0x3a, 5), Err(Gp));
    }
}
