//! Rust bindings for one installed seL4, generated from its installed files only.
//!
//! | from | module | what |
//! |---|---|---|
//! | `kernel/gen_config.json` | [`config`] | the configuration, and the conditions written against it |
//! | `api/syscall.xml` | [`syscalls`] | system call numbers |
//! | `interfaces/object-api*.xml` | [`interfaces`], [`stubs`] | invocation labels, one function per method |
//! | `*.pbf` | [`bitfields`] | packed words: message tags, rights, cap data, faults |
//! | the C headers | [`headers`] | constants, object types, errors, sizes and offsets, as the C compiler sees them |
//!
//! Kernel releases differ in all of these, so the generator contains no numbers and names of the kernel.
//! Only x86_64 without the mixed-criticality API is generated.

#![forbid(unsafe_code)]

pub mod bitfields;
pub mod config;
pub mod headers;
pub mod interfaces;
pub mod prefix;
pub mod release;
pub mod stubs;
pub mod syscalls;

use std::fmt::Write;

pub use config::Config;
pub use prefix::Prefix;
pub use release::Release;

/// Why bindings could not be generated, as a sentence for the build's output.
pub type Error = Box<dyn std::error::Error>;
/// The result of every step of the generator.
pub type Result<T> = std::result::Result<T, Error>;

/// The generated bindings.
pub struct Bindings {
    /// The Rust source.
    pub source: String,
    /// The kernel's features, from which dependent crates derive `cfg`s where kernels differ: the name of every system
    /// call, `Interface_Method(parameter:type,…)` for every method, `Type_new(field,…)` for every packed word,
    /// `Type(member,…)` for every union of them, the name of every constant.
    pub facts: Vec<String>,
}

/// Generates the bindings of the kernel installed at `prefix`.
pub fn generate(prefix: &Prefix) -> Result<Bindings> {
    let calls = syscalls::read(prefix)?;
    let mut api = interfaces::read(prefix)?;
    let fields = bitfields::read(prefix)?;
    let mut types = api.type_names();
    types.extend(api.structs.iter().map(|s| s.name.clone()));
    let headers = headers::Headers::probe(prefix, &types)?;
    // Only the compiler knows where the configuration cuts a structure short.
    api.trim_structs(|name| headers.sizes.get(name).copied());

    let mut source = String::from("// Generated from the installed seL4; not to be edited.\n\n");
    for call in &calls {
        writeln!(source, "pub const seL4_Sys{}: seL4_Word = {}_i64 as seL4_Word;", call.name, call.number)?;
    }
    for label in api.labels() {
        writeln!(source, "pub const {}: seL4_Word = {};", label.name, label.number)?;
    }
    // The headers have the numbers of system calls and labels as well, as enumerators.
    source +=
        &headers.emit(|name| name.starts_with("seL4_Sys") || api.methods.iter().any(|method| method.id == name))?;
    source += &bitfields::emit(&fields)?;
    source += &stubs::emit(&api, &fields, &headers)?;

    let mut facts: Vec<String> = calls.iter().map(|call| format!("seL4_Sys{}", call.name)).collect();
    facts.extend(api.methods.iter().filter(|method| method.enabled).map(|method| method.signature()));
    facts.extend(fields.signatures());
    // System calls are above; a header may number more than the kernel has.
    facts.extend(headers.constants.keys().filter(|name| !name.starts_with("seL4_Sys")).cloned());
    Ok(Bindings { source, facts })
}
