//! Turns differences between kernels into `cfg`s, from the features of the installed kernel that `sel4-sys` reports.

use std::env;

/// A `cfg`, the beginning of the reported feature that sets it, and another part of that feature.
const DIFFERENCES: [(&str, &str, &str); 10] = [
    ("capdata_union", "seL4_CapData(", ""),
    ("grant_reply", "seL4_CapRights_new(", "capAllowGrantReply"),
    ("ioport_control", "seL4_X86_IOPortControl_Issue(", ""),
    ("priority_authority", "seL4_TCB_SetPriority(", "authority:"),
    ("ept_attributes", "seL4_X86_EPT_WriteBack", ""),
    ("printing", "seL4_SysDebugPutChar", ""),
    ("dump_scheduler", "seL4_SysDebugDumpScheduler", ""),
    ("debug_build", "seL4_SysDebugCapIdentify", ""),
    ("vtx", "seL4_SysVMEnter", ""),
    ("guests_of_64_bits", "seL4_X86_VCPU_ReadMSR(", ""),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let facts = env::var("DEP_SEL4_FACTS").unwrap_or_default();
    for (name, start, within) in DIFFERENCES {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if facts.split(' ').any(|fact| fact.starts_with(start) && fact.contains(within)) {
            println!("cargo::rustc-cfg={name}");
        }
    }
}
