//! Linker arguments for images: static ELF executables at 4 MiB without a C library, from the same target triple
//! as the host's tools. A build script calls [`image`] or [`root_task`]; nothing happens unless the package is
//! built with its feature `image`, and then only its binaries are concerned.

#![forbid(unsafe_code)]

use std::env;

/// Links a process that the root task loads.
pub fn image() {
    link("server.ld");
}

/// Links the root task: like [`image`], with an empty segment behind everything else for the bundle (see
/// `root-task.ld`).
pub fn root_task() {
    link("root-task.ld");
}

fn link(script: &str) {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_IMAGE").is_none() {
        return;
    }
    let folder = env!("CARGO_MANIFEST_DIR");
    for file in [script, "sections.ld", "debug.ld"] {
        println!("cargo::rerun-if-changed={folder}/{file}");
    }
    let arguments = [
        // To the compiler driver. Its default is a position-independent program with C start-up files.
        "-static".to_string(),
        "-no-pie".to_string(),
        "-nostartfiles".to_string(),
        "-nostdlib".to_string(),
        // To the linker. An unexpected section is an error: nothing is placed by accident.
        "-Wl,--build-id=none,--gc-sections,--orphan-handling=error,--fatal-warnings,--no-undefined".to_string(),
        "-Wl,-z,max-page-size=0x1000,-z,norelro".to_string(),
        format!("-Wl,-L,{folder},-T,{folder}/{script}"),
    ];
    for argument in arguments {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}
