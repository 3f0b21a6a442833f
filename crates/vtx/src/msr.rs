//! RDMSR and WRMSR in the guest (SDM volume 4). The kernel makes every MSR exit but the three SYSENTER ones, and lets
//! no VMM read an MSR on the guest's behalf. The table has every MSR of the guest; any other is #GP, as on a processor
//! without it. It is consistent with [`crate::cpuid`]: an MSR whose feature is hidden does not exist.

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
}

const fn msr(number: u32, name: &'static str, read: Read, write: Write) -> Msr {
    Msr { number, name, read, write }
}

/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// Bit 8: the bootstrap processor. Bit 11: the local APIC is enabled, at its usual address.
const APIC_BASE: u64 = 0xfee0_0900;
/// Locked, VMX off: Linux then leaves it alone.
const LOCKED: u64 = 1;
/// Revision 1. Linux writes 0, executes CPUID and reads the revision from the upper half.
const MICROCODE: u64 = 1 << 32;
/// Fast strings work (Linux drops REP MOVSB otherwise); branch trace storage and precise sampling do not exist.
const MISC_ENABLE: u64 = 1 << 0 | 1 << 11 | 1 << 12;

use Read::{Native, Tsc, Value};

/// Every register that exists, by number.
pub const TABLE: &[Msr] = &[
    // A write would need the TSC offset, which the kernel lets no VMM set. Linux writes the TSC only to correct a
    // second processor's.
    msr(0x10, "IA32_TIME_STAMP_COUNTER", Tsc, Write::Vanishes),
    msr(0x17, "IA32_PLATFORM_ID", Value(0), Write::Refused),
    // The local APIC can be neither moved nor disabled here, and has no x2APIC mode.
    msr(0x1b, "IA32_APIC_BASE", Value(APIC_BASE), Write::Same),
    msr(0x3a, "IA32_FEATURE_CONTROL", Value(LOCKED), Write::Refused),
    // The TSC cannot be written (see 0x10), so its adjustment is always zero.
    msr(0x3b, "IA32_TSC_ADJUST", Value(0), Write::Vanishes),
    msr(0x8b, "IA32_BIOS_SIGN_ID", Value(MICROCODE), Write::Vanishes),
    msr(0x174, "IA32_SYSENTER_CS", Native, Write::Native),
    msr(0x175, "IA32_SYSENTER_ESP", Native, Write::Native),
    msr(0x176, "IA32_SYSENTER_EIP", Native, Write::Native),
    // No banks of machine-check registers, and so no checks.
    msr(0x179, "IA32_MCG_CAP", Value(0), Write::Refused),
    msr(0x17a, "IA32_MCG_STATUS", Value(0), Write::Same),
    msr(0x1a0, "IA32_MISC_ENABLE", Value(MISC_ENABLE), Write::Vanishes),
    // Linux writes it to step by branches; the guest then steps by instructions.
    msr(0x1d9, "IA32_DEBUGCTL", Value(0), Write::Vanishes),
    msr(TSC_DEADLINE, "IA32_TSC_DEADLINE", Read::Apic, Write::Apic),
    // The guest has none of the features that it enables. Saving and restoring it must still work.
    msr(0xc000_0080, "IA32_EFER", Value(0), Write::Same),
];

/// The table by the low bits of the registers' numbers, which differ.
static PLACES: [Option<Msr>; 128] = {
    let mut places = [None; 128];
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
fn find(number: u32) -> Option<&'static Msr> {
    PLACES[number as usize % PLACES.len()].as_ref().filter(|msr| msr.number == number)
}

/// RDMSR, of all but the local APIC's. `tsc` is what RDTSC gives now.
#[inline]
pub fn read(number: u32, tsc: impl FnOnce() -> u64) -> Result<u64, Gp> {
    match find(number).map(|msr| msr.read) {
        Some(Value(value)) => Ok(value),
        Some(Tsc) => Ok(tsc()),
        Some(Native | Read::Apic) | None => Err(Gp),
    }
}

/// WRMSR: whether the register takes the value.
pub fn write(number: u32, value: u64) -> Result<(), Gp> {
    let msr = find(number).ok_or(Gp)?;
    match msr.write {
        Write::Vanishes | Write::Apic => Ok(()),
        Write::Same if msr.read == Value(value) => Ok(()),
        Write::Same | Write::Refused | Write::Native => Err(Gp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(read(0x1b, || 0), Ok(0xfee0_0900));
        assert_eq!(read(0x3a, || 0), Ok(1));
        assert_eq!(write(0x8b, 0), Ok(()));
        assert_eq!(read(0x8b, || 0), Ok(0x1_0000_0000));
        assert_eq!(read(0x1a0, || 0), Ok(0x1801));
    }

    #[test]
    fn efer_can_be_restored_but_not_changed() {
        assert_eq!(read(0xc000_0080, || 0), Ok(0));
        assert_eq!(write(0xc000_0080, 0), Ok(()));
        assert_eq!(write(0xc000_0080, 1 << 11), Err(Gp));
    }

    #[test]
    fn the_local_apic_stays_where_and_what_it_is() {
        assert_eq!(write(0x1b, 0xfee0_0900), Ok(()));
        for value in [0, 0xfee0_0100, 0xfee0_0800, 0xfee0_0d00, 0xfed0_0900, 0x1_fee0_0900] {
            assert_eq!(write(0x1b, value), Err(Gp), "off, another processor's, an x2APIC, elsewhere: {value:#x}");
        }
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
