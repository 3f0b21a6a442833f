//! Linker arguments for images: static ELF executables at 4 MiB without a C library, for the same target triple as the
//! host's tools. A build script calls [`image`] or [`root_task`]. They affect only binaries, and only if the package is
//! built with its feature `image`.

#![forbid(unsafe_code)]

use std::env;

/// Links a process that the root task loads.
pub fn image() {
    link("server.ld");
}

/// Links the root task: like [`image`], with an additional last segment for the bundle (see `root-task.ld`).
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
    for argument in arguments(script) {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
}

/// What the compiler driver is told, to link a process that the root task loads: for crates outside of this repository, whose
/// build script does not know of this one.
pub fn process() -> Vec<String> {
    arguments("server.ld").into()
}

fn arguments(script: &str) -> [String; 7] {
    let folder = env!("CARGO_MANIFEST_DIR");
    [
        // For the compiler driver, whose default is a position-independent program with C start-up files.
        "-static".to_string(),
        "-no-pie".to_string(),
        "-nostartfiles".to_string(),
        "-nostdlib".to_string(),
        // For the linker. An unexpected section is an error: its place in the image would be arbitrary.
        "-Wl,--build-id=none,--gc-sections,--orphan-handling=error,--fatal-warnings,--no-undefined".to_string(),
        "-Wl,-z,max-page-size=0x1000,-z,norelro".to_string(),
        format!("-Wl,-L,{folder},-T,{folder}/{script}"),
    ]
}
