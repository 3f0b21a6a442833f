//! VT-x, as the processor's MSRs say it (Intel SDM volume 3, appendix A, and volume 4), the local APIC's mode, and the
//! registers to read: only those that CPUID or another register announces.

use heapless::Vec;

use crate::cpu::{self, Leaf};
use crate::machine::Machine;

/// A register's value.
pub type Msr = (u32, u64);

/// Room for all registers.
pub const MOST_MSRS: usize = 32;

/// The local APIC's base address and mode.
pub const APIC_BASE: u32 = 0x1b;
/// What firmware allows, and whether that is locked.
pub const FEATURE_CONTROL: u32 = 0x3a;
/// Whether x2APIC mode is locked.
pub const XAPIC_DISABLE_STATUS: u32 = 0xbd;
/// Errata that the processor does not have, and some registers that it has.
pub const ARCH_CAPABILITIES: u32 = 0x10a;
/// VMX: revision, and whether the true controls exist.
pub const BASIC: u32 = 0x480;
/// Pin-based controls; the true ones 12 further on.
pub const PIN: u32 = 0x481;
/// Primary processor-based controls.
pub const PRIMARY: u32 = 0x482;
/// VM-exit controls.
pub const EXIT: u32 = 0x483;
/// Secondary processor-based controls.
pub const SECONDARY: u32 = 0x48b;
/// EPT and VPID.
pub const EPT_VPID: u32 = 0x48c;
/// From a control's register to that of the true control.
const TRUE: u32 = 0xc;

/// IA32_FEATURE_CONTROL: locked.
pub const LOCKED: u64 = 1 << 0;
/// IA32_FEATURE_CONTROL: VMXON is allowed outside of SMX.
pub const VMX_ALLOWED: u64 = 1 << 2;
/// IA32_APIC_BASE: switched on.
pub const APIC_ON: u64 = 1 << 11;
/// IA32_APIC_BASE: x2APIC mode.
pub const X2APIC_ON: u64 = 1 << 10;
/// IA32_ARCH_CAPABILITIES: a change of a page's size in the instruction TLB is no machine check (CVE-2018-12207).
pub const NO_MULTIHIT: u64 = 1 << 6;
/// IA32_ARCH_CAPABILITIES: there is IA32_XAPIC_DISABLE_STATUS.
pub const XAPIC_DISABLE: u64 = 1 << 21;

/// A control or capability of VT-x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// As messages call it.
    pub name: &'static str,
    /// As Linux calls it in /proc/cpuinfo, "vmx flags"; empty if it does not.
    pub linux: &'static str,
    /// The register.
    pub register: u32,
    /// The bit that says it: of a control, the upper half (what may be 1).
    pub bit: u8,
}

const fn control(name: &'static str, linux: &'static str, register: u32, bit: u8) -> Capability {
    Capability { name, linux, register, bit: bit + 32 }
}

/// What the kernel relies on (`init_vtx_fixed_values` in its vcpu.c), less EPT.
pub const NEEDED: [Capability; 10] = [
    control("external-interrupt exiting", "", PIN, 0),
    control("NMI exiting", "", PIN, 3),
    control("virtual NMIs", "vnmi", PIN, 5),
    control("I/O bitmaps", "", PRIMARY, 25),
    control("MSR bitmaps", "", PRIMARY, 28),
    control("secondary controls", "", PRIMARY, 31),
    control("64-bit host", "", EXIT, 9),
    control("IA32_PAT on exit", "", EXIT, 19),
    control("IA32_EFER on exit", "", EXIT, 21),
    control("save of debug registers", "", EXIT, 2),
];
/// EPT.
pub const EPT: Capability = control("EPT", "ept", SECONDARY, 1);
/// VPID.
pub const VPID: Capability = control("VPID", "vpid", SECONDARY, 5);
/// Guests in real mode.
pub const UNRESTRICTED: Capability = control("unrestricted guest", "unrestricted_guest", SECONDARY, 7);
/// The VMX-preemption timer.
pub const PREEMPTION_TIMER: Capability = control("preemption timer", "preemption_timer", PIN, 6);

const fn of_ept(name: &'static str, linux: &'static str, bit: u8) -> Capability {
    Capability { name, linux, register: EPT_VPID, bit }
}

/// What the kernel's EPT relies on.
pub const NEEDED_OF_EPT: [Capability; 3] =
    [of_ept("write-back EPT tables", "", 14), of_ept("EPT pages of 2 MiB", "", 16), of_ept("INVEPT", "", 20)];
/// How the kernel uses INVEPT, and INVVPID.
pub const INVALIDATIONS: [Capability; 4] = [
    of_ept("INVEPT by context", "", 25),
    of_ept("INVEPT for all", "", 26),
    of_ept("INVVPID", "invvpid", 32),
    of_ept("EPT pages of 1 GiB", "ept_1gb", 17),
];

/// What of VT-x Linux has always named.
const ALWAYS_NAMED: [&str; 3] = ["vnmi", "ept", "vpid"];

impl Capability {
    /// Whether Linux names it only since version 5.6, in the line "vmx flags" of /proc/cpuinfo.
    pub fn is_named_late(&self) -> bool {
        !self.linux.is_empty() && !ALWAYS_NAMED.contains(&self.linux)
    }
}

/// The value of a register.
pub fn value(msrs: &[Msr], register: u32) -> Option<u64> {
    msrs.iter().find(|(known, _)| *known == register).map(|(_, value)| *value)
}

/// Whether VT-x can do something; `None` if that is not known.
pub fn can(msrs: &[Msr], capability: Capability) -> Option<bool> {
    let value = match capability.register {
        // EPT and VPID have a register only if there is one of the two.
        EPT_VPID => value(msrs, EPT_VPID).or_else(|| value(msrs, PIN).map(|_| 0)),
        SECONDARY => value(msrs, SECONDARY).or_else(|| value(msrs, PRIMARY).map(|_| 0)),
        register => value(msrs, register + TRUE).or_else(|| value(msrs, register)),
    };
    value.map(|value| value >> capability.bit & 1 != 0)
}

/// Reads all registers that the processor has.
pub fn registers(machine: &impl Machine, leaves: &[Leaf]) -> Vec<Msr, MOST_MSRS> {
    let mut msrs = Vec::new();
    let mut read = |register| {
        let value = machine.msr(register);
        if let Some(value) = value {
            let _ = msrs.push((register, value));
        }
        value.unwrap_or(0)
    };
    let has = |feature| cpu::has(leaves, feature) == Some(true);
    if has(cpu::APIC) {
        read(APIC_BASE);
    }
    if has(cpu::ARCH_CAPABILITIES) && read(ARCH_CAPABILITIES) & XAPIC_DISABLE != 0 {
        read(XAPIC_DISABLE_STATUS);
    }
    if has(cpu::VMX) {
        read(FEATURE_CONTROL);
        let true_controls = read(BASIC) >> 55 & 1 != 0;
        let [_, primary, _] = [PIN, PRIMARY, EXIT].map(|register| {
            let first = read(register);
            if true_controls { read(register + TRUE) } else { first }
        });
        if primary >> 63 & 1 != 0 {
            let secondary = read(SECONDARY);
            if secondary >> EPT.bit & 1 != 0 || secondary >> VPID.bit & 1 != 0 {
                read(EPT_VPID);
            }
        }
    }
    msrs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_true_control_counts_before_the_other() {
        let msrs = [(PIN, 0), (PIN + TRUE, 1 << 38)];
        assert_eq!(can(&msrs, PREEMPTION_TIMER), Some(true));
        assert_eq!(can(&msrs[..1], PREEMPTION_TIMER), Some(false));
        assert_eq!(can(&[], PREEMPTION_TIMER), None);
    }

    #[test]
    fn without_secondary_controls_there_is_no_ept() {
        assert_eq!(can(&[(PRIMARY, 0)], EPT), Some(false));
        assert_eq!(can(&[(PIN, 0)], NEEDED_OF_EPT[1]), Some(false));
        assert_eq!(can(&[], EPT), None);
    }
}
