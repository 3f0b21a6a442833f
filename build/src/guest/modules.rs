//! Kernel modules for an initramfs: the named ones, their dependencies, and modprobe's index.
//!
//! Each module says in its section `.modinfo` what it depends on and which devices it drives, as `key=value` strings
//! parted by NULs (Linux's include/linux/moduleinfo.h); modules.dep and modules.alias are written from that.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use miette::{Result, miette};
use object::{Object as _, ObjectSection as _};

/// Modules by name, each an ELF.
pub type KernelModules = BTreeMap<String, Vec<u8>>;

/// The named modules and all their dependencies. `read` finds a module's file by name.
pub fn closure(names: &[&str], mut read: impl FnMut(&str) -> Result<Vec<u8>>) -> Result<KernelModules> {
    let mut modules = KernelModules::new();
    let mut wanted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    while let Some(name) = wanted.pop() {
        if modules.contains_key(&name) {
            continue;
        }
        let module = read(&name)?;
        wanted.extend(dependencies(&module)?);
        modules.insert(name, module);
    }
    Ok(modules)
}

/// The text of modules.dep: each module followed by all that it needs; the first to load comes last.
pub fn dependency_index(modules: &KernelModules) -> Result<String> {
    let mut text = String::new();
    for name in modules.keys() {
        let mut order = Vec::new();
        collect(modules, name, &mut order)?;
        // `collect` orders dependencies first; the file has them in reverse.
        let files: Vec<String> = order.iter().rev().map(|name| format!("{name}.ko")).collect();
        let _ = writeln!(text, "{}.ko: {}", name, files.get(1..).unwrap_or_default().join(" "));
    }
    Ok(text)
}

/// The text of modules.alias: which module drives which device.
pub fn alias_index(modules: &KernelModules) -> Result<String> {
    let mut text = String::new();
    for (name, module) in modules {
        for alias in values(module, "alias")? {
            let _ = writeln!(text, "alias {alias} {}", name.replace('-', "_"));
        }
    }
    Ok(text)
}

fn collect(modules: &KernelModules, name: &str, order: &mut Vec<String>) -> Result<()> {
    if order.iter().any(|known| known == name) {
        return Ok(());
    }
    let module = modules.get(name).ok_or_else(|| miette!("the module {name} is missing"))?;
    for needed in dependencies(module)? {
        collect(modules, &needed, order)?;
    }
    order.push(name.to_owned());
    Ok(())
}

fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let lists = values(module, "depends")?;
    Ok(lists.iter().flat_map(|list| list.split(',')).filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// All values of a key in `.modinfo`.
fn values(module: &[u8], key: &str) -> Result<Vec<String>> {
    let elf = object::File::parse(module).map_err(|error| miette!("a kernel module is no ELF: {error}"))?;
    let section = elf.section_by_name(".modinfo").ok_or_else(|| miette!("a kernel module has no .modinfo"))?;
    let info = section.data().map_err(|error| miette!("a kernel module's .modinfo: {error}"))?;
    let words = info.split(|byte| *byte == 0).filter_map(|word| std::str::from_utf8(word).ok());
    Ok(words.filter_map(|word| Some(word.strip_prefix(key)?.strip_prefix('=')?.to_owned())).collect())
}
