//! The systems that a user starts from: each loads, compiles and keeps every law.

use std::path::{Path, PathBuf};

use capdl_spec::host;

fn systems() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systems");
    let files = std::fs::read_dir(folder).expect("systems/ exists").map(|file| file.expect("is readable").path());
    let mut systems: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    systems.sort();
    systems
}

#[test]
fn every_system_loads_and_compiles() {
    for path in systems() {
        let system = host::load(&path).unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
        let spec = host::plan(&system).expect("it compiles");
        assert_eq!(spec.processes.len(), system.parts().len());
    }
}

/// With `BLESS` in the environment maps, drawings and audits are written anew.
#[test]
fn every_system_has_a_current_map_drawing_and_audit() {
    for path in systems() {
        let system = host::load(&path).expect("it loads");
        let bundle = host::planned(&system).expect("it compiles");
        let spec = &bundle.spec;
        current(&path.with_extension("map"), &host::map::text(&system, spec));
        current(&path.with_extension("svg"), &host::draw::svg(&system, spec));
        current(&path.with_extension("audit"), &host::audit::audit(&bundle).expect("it can be read").text());
    }
}

fn current(file: &Path, text: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(file, text).expect("is writable");
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    assert!(committed == text, "{} is not current: write it anew with BLESS=1", file.display());
}
