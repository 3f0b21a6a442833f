//! Wrong descriptions, one mistake each: `tests/spec/NAME.toml` earns exactly what `NAME.expected` says.
//! With `BLESS` in the environment the expected files are written anew; read the difference before committing it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use capdl_spec::host::{self, Source};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/spec")
}

fn wrong_descriptions() -> Vec<PathBuf> {
    let files = fs::read_dir(folder()).expect("tests/spec exists").map(|file| file.expect("is readable").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

fn verdict(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("is readable");
    let verdict = host::parse(Source { path: path.to_path_buf(), text });
    let said = verdict.map_or_else(|mistakes| mistakes.plain(), |_| "nothing\n".into());
    said.replace(&format!("{}/", folder().display()), "")
}

#[test]
fn every_wrong_description_earns_its_message() {
    let mut different = Vec::new();
    for path in wrong_descriptions() {
        let (said, file) = (verdict(&path), path.with_extension("expected"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &said).expect("is writable");
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if said != expected {
            different.push(format!("{}\nexpected: {expected}but it says: {said}", path.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn there_are_wrong_descriptions() {
    assert!(wrong_descriptions().len() >= 20);
}
