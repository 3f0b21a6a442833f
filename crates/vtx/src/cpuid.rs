//! The guest's CPUID (SDM volume 2, "CPUID"): the host's answer without the features that the guest does not have. A
//! feature is shown only if a table below passes it, and hidden if seL4, VT-x as seL4 configures it, or the VMM does
//! not support it. The guest has one processor, with a local APIC, and the FXSAVE state or, by the kernel, that of XSAVE.
//!
//! There are two processors: one of 32 bits, and, where the kernel supports 64-bit guests, one with long mode. Guests of both
//! widths see the latter there, as on a machine, where a 32-bit system finds the same processor. It has what such a system does
//! not use, but nothing less.

use core::arch::x86_64::CpuidResult;

pub use crate::processor::Processor;

use crate::cr::{Features, cr4, efer};

/// Signature of the hypervisor, leaf 0x4000_0000. Linux knows no such hypervisor and so uses no paravirtual interface.
pub const SIGNATURE: &[u8; 12] = b"PortcullisVM";
/// Highest basic leaf: the one of the processor's frequency, whatever the host's is.
pub const MAX_LEAF: u32 = 0x16;
/// Highest extended leaf.
pub const MAX_EXTENDED_LEAF: u32 = 0x8000_0008;
const HYPERVISOR_LEAF: u32 = 0x4000_0000;
const XSAVE_LEAF: u32 = 0xd;
/// In ECX of leaf 1: CR4.OSXSAVE, as a program sees it.
pub const OSXSAVE: u32 = 1 << 27;
/// The leaf whose answer depends on the mode of the code that asks: see [`outside_64_bit_mode`].
pub const EXTENDED_FEATURES: u32 = 0x8000_0001;

/// The policy for a feature bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// As the host has it: the feature works in a guest as on the bare processor.
    Pass,
    /// Always clear, with the reason.
    Hide(&'static str),
    /// Always set, with the reason.
    Show(&'static str),
    /// As the host has it in [`Processor::Bits64`]. Clear in the other, with the reason.
    Long(&'static str),
    /// Set in [`Processor::Bits64`], with the reason, and clear in the other.
    ShowLong(&'static str),
    /// As the host has it where the kernel keeps these components of XSAVE's state for each guest, else clear.
    State(u64),
}
use Policy::{Hide, Long, Pass, Show, ShowLong, State};

/// A feature: bit, name in the SDM, policy. A bit without a row is hidden.
pub type Feature = (u8, &'static str, Policy);

/// XSAVE itself: the components of FXSAVE. Components of XCR0: 0 is x87, 1 SSE, 2 the upper halves of AVX's registers.
const XSAVE: Policy = State(0b011);
const AVX: Policy = State(0b111);
const NO_COMPONENT: Policy = Hide("a component of XSAVE's state that no kernel here keeps");
const APIC: Policy = Show("modelled, whatever the host has");
const NO_BANKS: Policy =
    Show("machine checks are the host's: no banks, and none comes; without the two, Linux reports an error");
const NO_MSR: Policy = Hide("works through MSRs that the VMM does not have");
const LONG_MODE: Policy = Long("64-bit mode only");
const NO_CONTROL: Policy = Hide("#UD unless a secondary control allows it, which is off");
const CONTROL: Policy =
    Long("#UD unless a secondary control allows it, which is off on a kernel without 64-bit guests");
const NO_SPECULATION_CONTROL: Policy = Hide(
    "seL4 does not switch SPEC_CTRL, and issues no barrier for a VMM; a guest protects itself by retpolines and VERW",
);

/// Leaf 1, ECX.
pub const LEAF_1_ECX: &[Feature] = &[
    (0, "SSE3", Pass),
    (1, "PCLMULQDQ", Pass),
    (2, "DTES64", Hide("debug store")),
    (3, "MONITOR", Hide("MONITOR and MWAIT exit, and HLT is how a guest idles")),
    (4, "DS-CPL", Hide("debug store")),
    (5, "VMX", Hide("no VM inside the VM")),
    (6, "SMX", Hide("GETSEC exits, and there is nothing to launch")),
    (7, "EIST", NO_MSR),
    (8, "TM2", NO_MSR),
    (9, "SSSE3", Pass),
    (10, "CNXT-ID", NO_MSR),
    (11, "SDBG", NO_MSR),
    (12, "FMA", AVX),
    (13, "CMPXCHG16B", LONG_MODE),
    (14, "xTPR", NO_MSR),
    (15, "PDCM", Hide("no performance counters")),
    (17, "PCID", LONG_MODE),
    (18, "DCA", NO_MSR),
    (19, "SSE4.1", Pass),
    (20, "SSE4.2", Pass),
    (21, "x2APIC", APIC),
    (22, "MOVBE", Pass),
    (23, "POPCNT", Pass),
    (24, "TSC-Deadline", APIC),
    (25, "AES", Pass),
    (26, "XSAVE", XSAVE),
    (27, "OSXSAVE", Hide("CR4.OSXSAVE, which the caller adds")),
    (28, "AVX", AVX),
    (29, "F16C", AVX),
    (30, "RDRAND", Pass),
    (
        31,
        "hypervisor",
        Show("reserved for just this; Linux then asks for no microcode update and trusts the TSC's rate"),
    ),
];

/// Leaf 1, EDX.
pub const LEAF_1_EDX: &[Feature] = &[
    (0, "FPU", Pass),
    (1, "VME", Pass),
    (2, "DE", Pass),
    (3, "PSE", Pass),
    (4, "TSC", Pass),
    (5, "MSR", Pass),
    (6, "PAE", Pass),
    (7, "MCE", NO_BANKS),
    (8, "CX8", Pass),
    (9, "APIC", APIC),
    (11, "SEP", Pass), // the kernel's MSR bitmap leaves the guest its three MSRs
    (12, "MTRR", ShowLong("no ranges, all memory write-back; without MTRRs Linux does not use its PAT")),
    (13, "PGE", Pass),
    (14, "MCA", NO_BANKS),
    (15, "CMOV", Pass),
    (
        16,
        "PAT",
        ShowLong(
            "an entry loads the guest's PAT; on a kernel without 64-bit guests it does not, and the host's differs",
        ),
    ),
    (17, "PSE-36", Pass),
    (18, "PSN", Hide("the host's serial number")),
    (19, "CLFSH", Pass),
    (21, "DS", Hide("debug store")),
    (22, "ACPI", NO_MSR),
    (23, "MMX", Pass),
    (24, "FXSR", Pass),
    (25, "SSE", Pass),
    (26, "SSE2", Pass),
    (27, "SS", Pass),
    (28, "HTT", Hide("one processor")),
    (29, "TM", NO_MSR),
    (31, "PBE", Hide("no thermal monitor to signal by it")),
];

/// Leaf 7, subleaf 0, EBX.
pub const LEAF_7_EBX: &[Feature] = &[
    (0, "FSGSBASE", LONG_MODE),
    (1, "TSC_ADJUST", Show("with an invariant TSC, Linux then does not check it by the PIT, which sets that up anew")),
    (2, "SGX", Hide("no enclaves")),
    (3, "BMI1", Pass), // VEX-encoded, but on general registers, so without XSAVE
    (4, "HLE", Hide("microcode takes it away, or makes it unsafe")),
    (5, "AVX2", AVX),
    (6, "FDP_EXCPTN_ONLY", Pass),
    (7, "SMEP", Pass),
    (8, "BMI2", Pass),
    (9, "ERMS", Pass),
    (10, "INVPCID", CONTROL),
    (11, "RTM", Hide("microcode takes it away, or makes it unsafe")),
    (12, "RDT-M", NO_MSR),
    (13, "FCS/FDS deprecated", Pass),
    (14, "MPX", NO_COMPONENT),
    (15, "RDT-A", NO_MSR),
    (18, "RDSEED", Pass),
    (19, "ADX", Pass),
    (20, "SMAP", Pass),
    (23, "CLFLUSHOPT", Pass),
    (24, "CLWB", Pass),
    (25, "PT", NO_MSR),
    (29, "SHA", Pass),
];

/// Leaf 7, subleaf 0, ECX.
pub const LEAF_7_ECX: &[Feature] = &[
    (0, "PREFETCHWT1", Pass),
    (2, "UMIP", Pass),
    (3, "PKU", NO_COMPONENT),
    (5, "WAITPKG", NO_CONTROL),
    (7, "CET_SS", NO_MSR),
    (8, "GFNI", Pass),
    (9, "VAES", AVX),
    (10, "VPCLMULQDQ", AVX),
    (22, "RDPID", NO_CONTROL),
    (27, "MOVDIRI", Pass),
];

/// Leaf 7, subleaf 0, EDX.
pub const LEAF_7_EDX: &[Feature] = &[
    (4, "FSRM", Pass),
    (10, "MD_CLEAR", Pass), // VERW clears buffers in the guest as well
    (14, "SERIALIZE", Pass),
    (26, "IBRS and IBPB", NO_SPECULATION_CONTROL),
    (27, "STIBP", NO_SPECULATION_CONTROL),
    (28, "L1D_FLUSH", NO_SPECULATION_CONTROL),
    (29, "ARCH_CAPABILITIES", Hide("seL4 lets no VMM read it; without it, a guest takes the processor as vulnerable")),
    (31, "SSBD", NO_SPECULATION_CONTROL),
];

/// Leaf 0x8000_0001, ECX.
pub const LEAF_EXT_1_ECX: &[Feature] = &[(0, "LAHF", Pass), (5, "LZCNT", Pass), (8, "PREFETCHW", Pass)];

/// Leaf 0x8000_0001, EDX.
pub const LEAF_EXT_1_EDX: &[Feature] = &[
    (11, "SYSCALL", LONG_MODE),
    (20, "NX", Long("seL4 leaves EFER.NXE clear, and the guest runs with the host's EFER")),
    (26, "1 GiB pages", LONG_MODE),
    (27, "RDTSCP", CONTROL),
    (29, "LM", LONG_MODE),
];

/// Leaf 0x8000_0007, EDX.
pub const LEAF_EXT_7_EDX: &[Feature] = &[(8, "invariant TSC", Pass)];

const fn apply(processor: Processor, xcr0: u64, host: u32, table: &[Feature]) -> u32 {
    let is_long = matches!(processor, Processor::Bits64);
    let (mut mask, mut set, mut i) = (0, 0, 0);
    while i < table.len() {
        let (bit, _, policy) = table[i];
        match policy {
            Pass => mask |= 1 << bit,
            Long(_) if is_long => mask |= 1 << bit,
            Show(_) => set |= 1 << bit,
            ShowLong(_) if is_long => set |= 1 << bit,
            State(components) if xcr0 & components == components => mask |= 1 << bit,
            Hide(_) | Long(_) | ShowLong(_) | State(_) => {}
        }
        i += 1;
    }
    host & mask | set
}

/// Leaf 6, EAX: the APIC timer always runs.
const ARAT: u32 = 1 << 2;

const ZERO: CpuidResult = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/// The guest's answer for `leaf` and `subleaf`, given the host's answer `host`: zeros if the guest has no such leaf.
/// `xcr0` is the kernel's, and so the guest's, or zero without XSAVE; `tsc_hz` is the measured rate of the TSC.
pub fn leaf(processor: Processor, xcr0: u64, leaf: u32, subleaf: u32, host: CpuidResult, tsc_hz: u64) -> CpuidResult {
    let apply = |host, table| apply(processor, xcr0, host, table);
    match (leaf, subleaf) {
        (0, _) => CpuidResult { eax: MAX_LEAF, ..host },
        (0x15, _) => tsc_ratio(tsc_hz),
        (0x16, _) => frequency(tsc_hz),
        (1, _) => CpuidResult {
            eax: host.eax,
            ebx: host.ebx & 0xff00 | 1 << 16, // CLFLUSH line; one logical processor, with APIC ID 0
            ecx: apply(host.ecx, LEAF_1_ECX),
            edx: apply(host.edx, LEAF_1_EDX),
        },
        // Caches and TLBs, in descriptors.
        (2, _) => host,
        // Caches: one thread shares each, and there is one core.
        (4, _) => CpuidResult { eax: host.eax & 0x3fff, ..host },
        // Thermal and power management: of it, a local APIC's timer that does not stop while the processor sleeps.
        (6, _) => CpuidResult { eax: ARAT, ..ZERO },
        (7, 0) => CpuidResult {
            eax: 0, // no further subleaf
            ebx: apply(host.ebx, LEAF_7_EBX),
            ecx: apply(host.ecx, LEAF_7_ECX),
            edx: apply(host.edx, LEAF_7_EDX),
        },
        (XSAVE_LEAF, _) if xcr0 != 0 => xsave(xcr0, subleaf, host),
        (HYPERVISOR_LEAF, _) => hypervisor(),
        (0x8000_0000, _) => CpuidResult { eax: host.eax.min(MAX_EXTENDED_LEAF), ..ZERO },
        (EXTENDED_FEATURES, _) => {
            CpuidResult { ecx: apply(host.ecx, LEAF_EXT_1_ECX), edx: apply(host.edx, LEAF_EXT_1_EDX), ..ZERO }
        }
        // Brand string, and the second-level cache.
        (0x8000_0002..=0x8000_0004 | 0x8000_0006, _) => host,
        (0x8000_0007, _) => CpuidResult { edx: apply(host.edx, LEAF_EXT_7_EDX), ..ZERO },
        // Address widths: the host's physical one, by which the processor checks reserved bits; 32 linear bits, or 48.
        (0x8000_0008, _) => {
            let linear = if processor == Processor::Bits64 { 48 } else { 32 };
            CpuidResult { eax: host.eax & 0xff | linear << 8, ..ZERO }
        }
        // All other leaves are hidden, among them MWAIT (5), performance counters (0xa), topology (0xb), and XSAVE (0xd) without it.
        _ => ZERO,
    }
}

/// The answer for [`EXTENDED_FEATURES`] in code that is not 64-bit code: an Intel processor has SYSCALL in 64-bit mode only, and says
/// so nowhere else (SDM volume 2, "CPUID").
pub const fn outside_64_bit_mode(answer: CpuidResult) -> CpuidResult {
    const SYSCALL: u32 = 1 << 11;
    CpuidResult { edx: answer.edx & !SYSCALL, ..answer }
}

/// Leaf 0xd. The host's XCR0 is the guest's, so the sizes are right, and the highest size is that of all there is. XSAVES and the
/// state of supervisors are hidden: they need an MSR and a control that are not there.
fn xsave(xcr0: u64, subleaf: u32, host: CpuidResult) -> CpuidResult {
    /// XSAVEOPT, XSAVEC, and XGETBV with ECX = 1.
    const INSTRUCTIONS: u32 = 0b111;
    match subleaf {
        0 => CpuidResult { eax: xcr0 as u32, ebx: host.ebx, ecx: host.ebx, edx: (xcr0 >> 32) as u32 },
        1 => CpuidResult { eax: host.eax & INSTRUCTIONS, ebx: host.ebx, ..ZERO },
        component if xcr0.unbounded_shr(component) & 1 != 0 => CpuidResult { edx: 0, ..host },
        _ => ZERO,
    }
}

/// Leaf 0x15: TSC and crystal. It has the measured rate, since an emulated processor does not keep to the host's leaf.
/// With it, Linux need not calibrate the TSC against the PIT: where an exit takes 30 us of the TSC's time, no guest can
/// measure to 1 % that way.
fn tsc_ratio(tsc_hz: u64) -> CpuidResult {
    /// Ticks of the TSC to one of the crystal, whose rate has to fit 32 bits.
    const RATIO: u32 = 2;
    let crystal_hz = u32::try_from(tsc_hz / u64::from(RATIO)).unwrap_or(u32::MAX);
    CpuidResult { eax: 1, ebx: RATIO, ecx: crystal_hz, edx: 0 }
}

/// Leaf 0x16: base and highest frequency, in MHz. Both are the TSC's, as on a processor without frequency scaling.
fn frequency(tsc_hz: u64) -> CpuidResult {
    let mhz = (tsc_hz.saturating_add(500_000) / 1_000_000).clamp(1, 0xffff) as u32;
    CpuidResult { eax: mhz, ebx: mhz, ecx: 0, edx: 0 }
}

fn hypervisor() -> CpuidResult {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *SIGNATURE;
    CpuidResult {
        eax: HYPERVISOR_LEAF,
        ebx: u32::from_le_bytes([a, b, c, d]),
        ecx: u32::from_le_bytes([e, f, g, h]),
        edx: u32::from_le_bytes([i, j, k, l]),
    }
}

/// Bits of XCR0 that a kernel may keep for each guest; with others, guests have no XSAVE at all.
pub const COMPONENTS: u64 = 0b111;

/// The bits of control registers that go with features, by the guest's leaf 1, leaf 7 and leaf 0x8000_0001.
pub const fn features(leaf_1: CpuidResult, leaf_7: CpuidResult, extended: CpuidResult) -> Features {
    const fn when(register: u32, bit: u32, set: u64) -> u64 {
        if register >> bit & 1 != 0 { set } else { 0 }
    }
    Features {
        cr4: when(leaf_1.ecx, 17, cr4::PCIDE)
            | when(leaf_1.ecx, 26, cr4::OSXSAVE)
            | when(leaf_7.ebx, 0, cr4::FSGSBASE)
            | when(leaf_7.ebx, 7, cr4::SMEP)
            | when(leaf_7.ebx, 20, cr4::SMAP)
            | when(leaf_7.ecx, 2, cr4::UMIP),
        xcr0: 0,
        efer: when(extended.edx, 11, efer::SCE) | when(extended.edx, 20, efer::NXE) | when(extended.edx, 29, efer::LME),
    }
}
