//! The processor's features, as CPUID says them (Intel SDM volume 2, "CPUID").

use heapless::Vec;

use crate::machine::Machine;

/// A leaf's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Leaf; the sub-leaf is always 0.
    pub leaf: u32,
    /// EAX, EBX, ECX, EDX.
    pub registers: [u32; 4],
}

/// The leaves that are read, where the processor has them.
const LEAVES: [u32; 15] = [
    0,
    1,
    6,
    7,
    0xa,
    0xd,
    0x15,
    0x16,
    0x8000_0000,
    0x8000_0001,
    0x8000_0002,
    0x8000_0003,
    0x8000_0004,
    0x8000_0007,
    0x8000_0008,
];

/// Room for [`LEAVES`].
pub const MOST_LEAVES: usize = 16;

/// All leaves that the processor has.
pub fn leaves(machine: &impl Machine) -> Vec<Leaf, MOST_LEAVES> {
    let mut leaves = Vec::new();
    for leaf in LEAVES {
        let [last, ..] = machine.cpuid(leaf & 0x8000_0000, 0);
        // The answer to a leaf that is not there is that of another one.
        if leaf <= last {
            let _ = leaves.push(Leaf { leaf, registers: machine.cpuid(leaf, 0) });
        }
    }
    leaves
}

/// A register of a leaf's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// A feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// As messages call it.
    pub name: &'static str,
    /// As Linux calls it in /proc/cpuinfo.
    pub linux: &'static str,
    /// Where CPUID says it.
    pub leaf: u32,
    /// Which register.
    pub register: Register,
    /// Which bit of it.
    pub bit: u8,
}

const fn feature(name: &'static str, linux: &'static str, leaf: u32, register: Register, bit: u8) -> Feature {
    Feature { name, linux, leaf, register, bit }
}

/// VT-x.
pub const VMX: Feature = feature("VT-x", "vmx", 1, Register::Ecx, 5);
/// Process-context identifiers.
pub const PCID: Feature = feature("PCID", "pcid", 1, Register::Ecx, 17);
/// x2APIC mode.
pub const X2APIC: Feature = feature("x2APIC", "x2apic", 1, Register::Ecx, 21);
/// The local APIC's timer by deadlines.
pub const TSC_DEADLINE: Feature = feature("TSC deadline", "tsc_deadline_timer", 1, Register::Ecx, 24);
/// Extended states.
pub const XSAVE: Feature = feature("XSAVE", "xsave", 1, Register::Ecx, 26);
/// Random numbers.
pub const RDRAND: Feature = feature("RDRAND", "rdrand", 1, Register::Ecx, 30);
/// Under a hypervisor.
pub const HYPERVISOR: Feature = feature("hypervisor", "hypervisor", 1, Register::Ecx, 31);
/// A local APIC.
pub const APIC: Feature = feature("local APIC", "apic", 1, Register::Edx, 9);
/// RDFSBASE and related instructions.
pub const FSGSBASE: Feature = feature("FSGSBASE", "fsgsbase", 7, Register::Ebx, 0);
/// Invalidation by PCID.
pub const INVPCID: Feature = feature("INVPCID", "invpcid", 7, Register::Ebx, 10);
/// IA32_ARCH_CAPABILITIES.
pub const ARCH_CAPABILITIES: Feature = feature("ARCH_CAPABILITIES", "arch_capabilities", 7, Register::Edx, 29);
/// No execution from data pages.
pub const NX: Feature = feature("execute disable", "nx", 0x8000_0001, Register::Edx, 20);
/// Pages of 1 GiB.
pub const GIANT_PAGES: Feature = feature("1 GiB pages", "pdpe1gb", 0x8000_0001, Register::Edx, 26);
/// 64-bit mode.
pub const LONG_MODE: Feature = feature("64-bit mode", "lm", 0x8000_0001, Register::Edx, 29);
/// A TSC that counts at one rate in all states.
pub const INVARIANT_TSC: Feature = feature("invariant TSC", "nonstop_tsc", 0x8000_0007, Register::Edx, 8);

/// All of them, for readers of /proc/cpuinfo.
pub const FEATURES: [Feature; 16] = [
    VMX,
    PCID,
    X2APIC,
    TSC_DEADLINE,
    XSAVE,
    RDRAND,
    HYPERVISOR,
    APIC,
    FSGSBASE,
    INVPCID,
    ARCH_CAPABILITIES,
    NX,
    GIANT_PAGES,
    LONG_MODE,
    INVARIANT_TSC,
    feature("SVM", "svm", 0x8000_0001, Register::Ecx, 2),
];

/// Whether the leaves have a feature; `None` if they are not known.
pub fn has(leaves: &[Leaf], feature: Feature) -> Option<bool> {
    if leaves.is_empty() {
        return None;
    }
    let word = answer(leaves, feature.leaf).map_or(0, |registers| registers[feature.register as usize]);
    Some(word >> feature.bit & 1 != 0)
}

/// A leaf's answer, if the processor has it.
pub fn answer(leaves: &[Leaf], leaf: u32) -> Option<[u32; 4]> {
    leaves.iter().find(|known| known.leaf == leaf).map(|known| known.registers)
}

/// The vendor's twelve characters.
pub fn vendor(leaves: &[Leaf]) -> Option<[u8; 12]> {
    let [_, ebx, ecx, edx] = answer(leaves, 0)?;
    let mut text = [0; 12];
    for (place, word) in text.chunks_mut(4).zip([ebx, edx, ecx]) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    Some(text)
}

/// The processor's name, up to 48 characters, padded with zeros.
pub fn brand(leaves: &[Leaf]) -> [u8; 48] {
    let words = (0x8000_0002..=0x8000_0004).flat_map(|leaf| answer(leaves, leaf).unwrap_or_default());
    let mut text = [0; 48];
    for (place, word) in text.chunks_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    text
}

/// Family and model (with their extensions), and stepping.
pub fn signature(leaves: &[Leaf]) -> Option<(u32, u32, u32)> {
    let [eax, ..] = answer(leaves, 1)?;
    let base = eax >> 8 & 0xf;
    let family = if base == 0xf { base + (eax >> 20 & 0xff) } else { base };
    let model = eax >> 4 & 0xf | if base == 0xf || base == 6 { eax >> 12 & 0xf0 } else { 0 };
    Some((family, model, eax & 0xf))
}

/// The TSC's rate in Hz by leaves 0x15 and 0x16, where the processor says it.
pub fn told_tsc(leaves: &[Leaf]) -> Option<u64> {
    let [divisor, multiplier, crystal, _] = answer(leaves, 0x15)?.map(u64::from);
    if divisor == 0 || multiplier == 0 {
        return None;
    }
    match crystal {
        // Leaf 0x16 has the base frequency in MHz, which is the TSC's.
        0 => answer(leaves, 0x16).map(|[base, ..]| u64::from(base & 0xffff) * 1_000_000).filter(|hz| *hz != 0),
        hz => Some(hz * multiplier / divisor),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(leaf: u32, registers: [u32; 4]) -> Leaf {
        Leaf { leaf, registers }
    }

    #[test]
    fn a_feature_of_a_missing_leaf_is_missing_and_without_leaves_it_is_unknown() {
        let leaves = [leaf(1, [0, 0, 1 << 5, 0])];
        assert_eq!(has(&leaves, VMX), Some(true));
        assert_eq!(has(&leaves, INVPCID), Some(false));
        assert_eq!(has(&[], VMX), None);
    }

    #[test]
    fn family_and_model_have_their_extensions() {
        // An Ivy Bridge, 306a9, and a Pentium 4, f29.
        assert_eq!(signature(&[leaf(1, [0x306a9, 0, 0, 0])]), Some((6, 0x3a, 9)));
        assert_eq!(signature(&[leaf(1, [0xf29, 0, 0, 0])]), Some((15, 2, 9)));
    }

    #[test]
    fn the_tsc_is_a_multiple_of_the_crystal_or_the_base_frequency() {
        assert_eq!(told_tsc(&[leaf(0x15, [2, 188, 25_000_000, 0])]), Some(2_350_000_000));
        let skylake = [leaf(0x15, [2, 250, 0, 0]), leaf(0x16, [3000, 3500, 100, 0])];
        assert_eq!(told_tsc(&skylake), Some(3_000_000_000));
        assert_eq!(told_tsc(&[leaf(0x15, [0, 0, 0, 0])]), None);
        assert_eq!(told_tsc(&[]), None);
    }

    #[test]
    fn vendor_and_brand_are_text() {
        let leaves =
            [leaf(0, [0x16, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]), leaf(0x8000_0002, [0x6574_6e49, 0x6c, 0, 0])];
        assert_eq!(&vendor(&leaves).unwrap(), b"GenuineIntel");
        assert!(brand(&leaves).starts_with(b"Intel\0"));
    }
}
