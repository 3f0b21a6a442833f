//! Writes `bindings.rs` for the seL4 in `SEL4_PREFIX`.

use std::{env, fs, path::Path};

use sel4_sys_gen::{Prefix, Result, generate};

fn main() {
    println!("cargo::rerun-if-env-changed=SEL4_PREFIX");
    // A hash of the interface files: another prefix at the same path may have older files.
    println!("cargo::rerun-if-env-changed=SEL4_PREFIX_CONTENT");
    println!("cargo::rerun-if-env-changed=CC");
    if let Err(why) = write_bindings() {
        for line in why.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

fn write_bindings() -> Result<()> {
    let prefix = Prefix::from_env()?;
    println!("cargo::rerun-if-changed={}", prefix.include().display());
    let bindings = generate(&prefix)?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("bindings.rs"), bindings.source)?;
    // Read by dependent build scripts as DEP_SEL4_FACTS and DEP_SEL4_PREFIX.
    println!("cargo::metadata=facts={}", bindings.facts.join(" "));
    println!("cargo::metadata=prefix={}", prefix.root().display());
    Ok(())
}
