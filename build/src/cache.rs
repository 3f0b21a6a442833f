//! Files and directories that are made once and used again: kernels, packages, decompressed kernels, disks.
//!
//! Each is made under a temporary name and renamed, and a note beside it (`NAME.made`) records its recipe and a hash of
//! its contents. A file that a full disk, a kill or a power cut left incomplete has no note, or one that does not
//! match, so it is made again. A lock beside it keeps two runs from making the same file at a time.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use sha2::{Digest, Sha256};

/// Ensures that the file or directory `path` is there, complete, and made by `recipe`. Otherwise it calls `make` with
/// the path to make it at.
///
/// # Errors
/// Those of `make` and of the file system. Nothing that could pass for complete is left at `path`.
pub fn keep(path: &Path, recipe: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = path.parent().ok_or_else(|| miette!("{} has no parent directory", path.display()))?;
    std::fs::create_dir_all(parent)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot create {}", parent.display()))?;
    let lock = path.with_added_extension("lock");
    let lock = File::create(&lock).into_diagnostic().wrap_err_with(|| format!("cannot create {}", lock.display()))?;
    lock.lock().into_diagnostic()?;
    let note = path.with_added_extension("made");
    let is_whole = |text: String| fingerprint(path).is_ok_and(|contents| text == noted(recipe, &contents));
    if std::fs::read_to_string(&note).is_ok_and(is_whole) {
        return Ok(());
    }
    let aside = path.with_added_extension("part");
    remove(&aside)?;
    let made = make(&aside).and_then(|()| put_in_place(&aside, path, &note, recipe));
    made.inspect_err(|_| drop(remove(&aside)))
}

fn put_in_place(aside: &Path, path: &Path, note: &Path, recipe: &str) -> Result<()> {
    for file in sources_below(aside)? {
        let synced = File::open(&file).and_then(|file| file.sync_all());
        synced.into_diagnostic().wrap_err_with(|| format!("cannot write {}", file.display()))?;
    }
    let contents = fingerprint(aside)?;
    remove(note)?;
    remove(path)?;
    std::fs::rename(aside, path).into_diagnostic().wrap_err_with(|| format!("cannot write {}", path.display()))?;
    let written = File::create(note).and_then(|mut file| {
        file.write_all(noted(recipe, &contents).as_bytes())?;
        file.sync_all()
    });
    written.into_diagnostic().wrap_err_with(|| format!("cannot write {}", note.display()))
}

/// The text of a note. A recipe may be long, so it is hashed as well.
fn noted(recipe: &str, contents: &str) -> String {
    format!("made of {}\ncontents {contents}\n", sha256(recipe.as_bytes()))
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).into_diagnostic().wrap_err_with(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A hash over the contents of a file, or over the names and contents of all files in a directory.
pub fn fingerprint(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for file in sources_below(path)? {
        let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
        let read = |error| miette!("cannot read {}: {error}", file.display());
        let mut open = File::open(&file).map_err(read)?;
        hash.update(format!("{name}\0{}\0", open.metadata().map_err(read)?.len()));
        loop {
            let count = open.read(&mut buffer).map_err(read)?;
            if count == 0 {
                break;
            }
            hash.update(buffer.get(..count).unwrap_or_default());
        }
    }
    Ok(hex(hash))
}

/// The SHA-256 of some bytes, in hexadecimal, as `sha256sum` prints it.
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new().chain_update(bytes))
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The regular files in a directory that its contents are made of, sorted; the file itself if it is one.
pub fn sources_below(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| miette!("cannot list {}: {error}", path.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        // Files that tools leave beside sources (python's __pycache__, cargo's target) do not count, and neither do
        // links, which may point anywhere.
        let skip = path.file_name().is_some_and(|name| name == "target" || name == "__pycache__") || path.is_symlink();
        if !skip {
            files.extend(sources_below(&path)?);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project;

    fn directory(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-cache-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        dir
    }

    /// Keeps a directory of two files; returns whether it was made.
    fn keep_two(path: &Path, recipe: &str) -> bool {
        let mut made = false;
        keep(path, recipe, |aside| {
            made = true;
            project::write(&aside.join("kernel.elf"), b"a kernel")?;
            project::write(&aside.join("include/config.h"), b"#define X")
        })
        .unwrap();
        made
    }

    #[test]
    fn what_is_whole_is_used_again_and_what_is_made_of_something_else_is_not() {
        let dir = directory("whole");
        let path = dir.join("prefix");
        assert!(keep_two(&path, "one"));
        assert!(!keep_two(&path, "one"));
        assert!(keep_two(&path, "two"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_member_that_is_truncated_changed_or_missing_has_everything_made_again() {
        let dir = directory("truncated");
        let path = dir.join("prefix");
        keep_two(&path, "one");
        let member = path.join("kernel.elf");
        let damages: [&dyn Fn(); 4] = [
            &|| std::fs::write(&member, b"a ker").unwrap(),
            &|| std::fs::write(&member, b"a kernal").unwrap(),
            &|| std::fs::remove_file(path.join("include/config.h")).unwrap(),
            &|| std::fs::write(path.join("more"), b"").unwrap(),
        ];
        for (number, damage) in damages.iter().enumerate() {
            damage();
            assert!(keep_two(&path, "one"), "damage {number}");
            assert!(!keep_two(&path, "one"), "damage {number}");
        }
        assert_eq!(std::fs::read(member).unwrap(), b"a kernel");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_truncated_file_is_made_again() {
        let dir = directory("file");
        let path = dir.join("vmlinux");
        let make = |aside: &Path| project::write(aside, b"a long kernel");
        keep(&path, "r", make).unwrap();
        std::fs::write(&path, b"a long").unwrap();
        keep(&path, "r", make).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"a long kernel");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_maker_that_fails_or_is_killed_leaves_nothing_to_believe() {
        let dir = directory("killed");
        let path = dir.join("disk.img");
        let half = |aside: &Path| {
            project::write(aside, b"half")?;
            Err(miette!("no space left on device"))
        };
        assert!(keep(&path, "r", half).is_err());
        assert!(!path.exists() && !path.with_added_extension("part").exists());
        // As after a kill during `make`, and after a kill between the rename and the note.
        project::write(&path.with_added_extension("part"), b"half").unwrap();
        project::write(&path, b"whole, but nobody says so").unwrap();
        keep(&path, "r", |aside| project::write(aside, b"whole")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_kept_thing_of_a_failed_remake_is_not_taken_for_the_new_one() {
        let dir = directory("remake");
        let path = dir.join("prefix");
        keep_two(&path, "one");
        assert!(keep(&path, "two", |_| Err(miette!("the compiler is missing"))).is_err());
        assert!(keep_two(&path, "two"));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_there_stays_until_its_successor_is_whole() {
        let dir = directory("aside");
        let path = dir.join("file");
        keep(&path, "old", |aside| project::write(aside, b"old")).unwrap();
        let look = |aside: &Path| {
            assert_ne!(aside, path);
            assert_eq!(project::read(&path).unwrap(), b"old");
        };
        keep(&path, "new", |aside| {
            look(aside);
            std::fs::write(aside, b"ne").unwrap();
            Err(miette!("the disk is full"))
        })
        .unwrap_err();
        keep(&path, "new", |aside| {
            look(aside);
            project::write(aside, b"new")
        })
        .unwrap();
        assert_eq!(project::read(&path).unwrap(), b"new");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_renamed_file_changes_the_fingerprint() {
        let dir = directory("print");
        project::write(&dir.join("a"), b"x").unwrap();
        let before = fingerprint(&dir).unwrap();
        std::fs::rename(dir.join("a"), dir.join("b")).unwrap();
        assert_ne!(before, fingerprint(&dir).unwrap());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
