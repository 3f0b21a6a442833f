//! The settings for a current seL4 have the values of the pinned kernel's, option by option.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Options that have a value in both, by their names in the current release's CMake and in the pinned kernel's settings.
const SAME: [(&str, &str); 23] = [
    ("KernelPlatform", "PLAT"),
    ("KernelSel4Arch", "SEL4_ARCH"),
    ("KernelVerificationBuild", "VERIFICATION_BUILD"),
    ("KernelIsMCS", "KERNEL_MCS"),
    ("KernelVTX", "VTX"),
    ("KernelX86_64VTX64BitGuests", "X86_64_VTX_64BIT_GUESTS"),
    ("KernelMaxVPIDs", "MAX_VPIDS"),
    ("KernelIOMMU", "IOMMU"),
    ("KernelMaxRMRREntries", "MAX_RMRR_ENTRIES"),
    ("KernelMaxNumNodes", "MAX_NUM_NODES"),
    ("KernelNumDomains", "NUM_DOMAINS"),
    ("KernelNumPriorities", "NUM_PRIORITIES"),
    ("KernelTimerTickMS", "TIMER_TICK_MS"),
    ("KernelTimeSlice", "TIME_SLICE"),
    ("KernelFastpath", "FASTPATH"),
    ("KernelMaxNumWorkUnitsPerPreemption", "MAX_NUM_WORK_UNITS_PER_PREEMPTION"),
    ("KernelRootCNodeSizeBits", "ROOT_CNODE_SIZE_BITS"),
    ("KernelMaxNumBootinfoUntypedCaps", "MAX_NUM_BOOTINFO_UNTYPED_CAPS"),
    ("KernelRetypeFanOutLimit", "RETYPE_FAN_OUT_LIMIT"),
    ("KernelResetChunkBits", "RESET_CHUNK_BITS"),
    ("KernelMaxNumIOAPIC", "MAX_NUM_IOAPIC"),
    ("KernelHugePage", "HUGE_PAGE"),
    ("KernelSupportPCID", "SUPPORT_PCID"),
];

/// Choices by name there, and the pinned kernel's option that is on for this choice.
const CHOICES: [(&str, &str, &str); 4] = [
    ("KernelFPU", "FXSAVE", "FXSAVE"),
    ("KernelFSGSBase", "inst", "FSGSBASE_INST"),
    ("KernelLAPICMode", "XAPIC", "XAPIC"),
    ("KernelIRQController", "IOAPIC", "IRQ_IOAPIC"),
];

/// Options of the current release alone, or with a value that each half chooses: debug or release. The compiler's flags
/// have a test of their own.
const ELSEWHERE: [&str; 4] = ["KernelX86MicroArch", "KernelDebugBuild", "KernelPrinting", FLAGS];
const FLAGS: &str = "CMAKE_C_FLAGS";

fn settings(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel-config/settings")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names and values of the calls of a CMake function.
fn calls(text: &str, function: &str) -> BTreeMap<String, String> {
    let calls = text.lines().filter_map(|line| line.strip_prefix(function)?.strip_prefix('(')?.split_once(' '));
    let value = |rest: &str| rest.split([' ', ')']).next().unwrap_or_default().trim_matches('"').to_owned();
    calls.map(|(name, rest)| (name.to_owned(), value(rest))).collect()
}

#[test]
fn the_current_kernels_settings_are_those_of_the_pinned_one() {
    let current = calls(&settings("sel4-current-x86_64-vtx.cmake"), "set");
    let pinned: String = ["pc99.cmake", "vtx.cmake", "pc99-vtx.cmake"].map(settings).join("\n");
    let pinned = calls(&pinned, "kernel_config");
    for (there, here) in SAME {
        assert_eq!(current.get(there), pinned.get(here), "{there} and {here}");
        assert!(current.contains_key(there), "{there} has no value");
    }
    for (there, choice, here) in CHOICES {
        assert_eq!(current.get(there).map(String::as_str), Some(choice), "{there}");
        assert_eq!(pinned.get(here).map(String::as_str), Some("ON"), "{here}");
    }
    let known = SAME.iter().map(|pair| pair.0).chain(CHOICES.iter().map(|choice| choice.0)).chain(ELSEWHERE);
    let known: Vec<&str> = known.collect();
    let unknown: Vec<&String> = current.keys().filter(|name| !known.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?} are not compared");
}

#[test]
fn both_kernels_have_the_same_flags_for_copying_and_clearing() {
    let current = settings("sel4-current-x86_64-vtx.cmake");
    let flags = current.split_once(&format!("set({FLAGS} \"")).and_then(|(_, rest)| rest.split_once('"'));
    let flags = flags.map(|(flags, _)| flags).expect("it has flags");
    assert!(settings("../cmake/kernel.cmake").contains(&format!("list(APPEND flags {flags})")), "{flags}");
}
