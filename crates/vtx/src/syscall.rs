//! The MSRs of SYSCALL, SWAPGS and RDTSCP (SDM volume 4), which no VMCS has: a kernel with 64-bit guests switches them, and gives a
//! VMM access to the guest's. The guest's own accesses exit, but for KERNEL_GS_BASE in long mode.

/// One of these registers, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SyscallMsr {
    /// IA32_STAR: the selectors.
    Star = 0xc000_0081,
    /// IA32_LSTAR: where SYSCALL continues in 64-bit mode.
    Lstar = 0xc000_0082,
    /// IA32_CSTAR: the same in compatibility mode, in which Intel's processors do not have the instruction.
    Cstar = 0xc000_0083,
    /// IA32_FMASK: the flags that SYSCALL clears.
    Fmask = 0xc000_0084,
    /// IA32_KERNEL_GS_BASE: what SWAPGS exchanges the base of GS for.
    KernelGsBase = 0xc000_0102,
    /// IA32_TSC_AUX: what RDTSCP reads into ECX.
    TscAux = 0xc000_0103,
}

impl SyscallMsr {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Star, Self::Lstar, Self::Cstar, Self::Fmask, Self::KernelGsBase, Self::TscAux];

    /// The register with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&msr| msr as u32 == number)
    }

    /// Whether every kernel with 64-bit guests gives a VMM access to it. seL4 16.0.0 does so to the first four: there, a guest
    /// in long mode writes KERNEL_GS_BASE itself, which a reset does not clear, and RDTSCP reads the host's TSC_AUX, which is 0.
    pub const fn is_everywhere(self) -> bool {
        !matches!(self, Self::KernelGsBase | Self::TscAux)
    }

    /// Whether WRMSR takes this value: addresses are canonical, with 48 bits, and flags and TSC_AUX have 32 bits.
    pub const fn takes(self, value: u64) -> bool {
        match self {
            Self::Star => true,
            Self::Lstar | Self::Cstar | Self::KernelGsBase => is_canonical(value),
            Self::Fmask | Self::TscAux => value >> 32 == 0,
        }
    }
}

/// Whether this is an address of 48 bits.
const fn is_canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_register_takes_what_the_processor_takes() {
        assert_eq!(SyscallMsr::from_number(0xc000_0080), None, "EFER is a field of the VMCS");
        for (number, value, taken) in [
            (0xc000_0081, u64::MAX, true),
            (0xc000_0082, 0x7fff_ffff_ffff, true),
            (0xc000_0082, 0x8000_0000_0000, false),
            (0xc000_0082, 0xffff_8000_0000_0000, true),
            (0xc000_0083, 0xffff_7fff_ffff_ffff, false),
            (0xc000_0084, 0xffff_ffff, true),
            (0xc000_0084, 0x1_0000_0000, false),
            (0xc000_0102, 0x8000_0000_0000, false),
            (0xc000_0103, 0xffff_ffff, true),
            (0xc000_0103, 0x1_0000_0000, false),
        ] {
            let msr = SyscallMsr::from_number(number);
            assert_eq!(msr.map(|msr| msr.takes(value)), Some(taken), "{msr:?} {value:#x}");
        }
    }
}
