//! Writes one constant per option of the seL4 in `SEL4_PREFIX`.

use std::fmt::Write;
use std::{env, fs, path::Path};

use sel4_sys_gen::config::Setting;
use sel4_sys_gen::{Prefix, Release, Result, release};

/// Options that the project's crates use. In a kernel that does not have an option, it counts as off.
const ALWAYS: [&str; 11] = [
    "DEBUG_BUILD",
    "PRINTING",
    "VTX",
    "X86_64_VTX_64BIT_GUESTS",
    "X86_VTX_GUEST_DEBUG_REGISTERS",
    "IOMMU",
    "KERNEL_MCS",
    "HUGE_PAGE",
    "ENABLE_BENCHMARKS",
    "FSGSBASE_INST",
    "XSAVE",
];
/// The same for numbers, which count as zero.
const NUMBERS: [&str; 1] = ["XSAVE_FEATURE_SET"];

fn main() {
    println!("cargo::rerun-if-env-changed=SEL4_PREFIX");
    // A hash of the interface files: another prefix at the same path may have older files.
    println!("cargo::rerun-if-env-changed=SEL4_PREFIX_CONTENT");
    if let Err(why) = write_constants() {
        println!("cargo::error={why}");
    }
}

fn write_constants() -> Result<()> {
    let prefix = Prefix::from_env()?;
    println!("cargo::rerun-if-changed={}", prefix.include().display());
    let about = release::describe(Release::of(&prefix)?, &prefix.config);
    let mut out = format!("/// What this kernel is, in a sentence.\npub const ABOUT: &str = {about:?};\n");
    for (name, setting) in prefix.config.options() {
        writeln!(out, "/// `CONFIG_{name}`")?;
        match setting {
            Setting::Switch(on) => writeln!(out, "pub const {name}: bool = {on};")?,
            Setting::Number(number) => writeln!(out, "pub const {name}: u64 = {number};")?,
            Setting::Text(text) => writeln!(out, "pub const {name}: &str = {text:?};")?,
        }
    }
    let is_left_out = |name: &str| prefix.config.options().all(|(option, _)| option != name);
    for name in ALWAYS.into_iter().filter(|name| is_left_out(name)) {
        writeln!(out, "/// `CONFIG_{name}`, which this kernel does not have.\npub const {name}: bool = false;")?;
    }
    for name in NUMBERS.into_iter().filter(|name| is_left_out(name)) {
        writeln!(out, "/// `CONFIG_{name}`, which this kernel does not have.\npub const {name}: u64 = 0;")?;
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("config.rs"), out)?;
    Ok(())
}
