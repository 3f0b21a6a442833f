//! Bounds the disk space of images and runs: the newest of each stay.
//!
//! A directory `NAME` in use has a lock on `NAME.lock` beside it, held by the process that uses it; it is never removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use miette::{IntoDiagnostic, Result, WrapErr};

use crate::progress::say;

/// Bytes of images to keep, and of runs. A system's image has some 40 MB; a run's copy of a disk has 300 MB.
pub const MOST: u64 = 1 << 30;

/// The lock of a directory, not yet taken.
pub fn lock_file(dir: &Path) -> Result<File> {
    let path = dir.with_added_extension("lock");
    File::create(&path).into_diagnostic().wrap_err_with(|| format!("cannot create {}", path.display()))
}

/// Marks a directory as in use by this process, beside others that may use it too, as long as the result is kept.
pub fn share(dir: &Path) -> Result<File> {
    let lock = lock_file(dir)?;
    lock.lock_shared().into_diagnostic().wrap_err_with(|| format!("cannot lock {}", dir.display()))?;
    Ok(lock)
}

/// Removes the oldest unused directories in `parent`, until the others have at most `most` bytes. A directory that
/// cannot be removed stays until the next time.
pub fn keep_newest(parent: &Path, most: u64) {
    let mut all = directories(parent);
    all.sort_by_key(|one| std::cmp::Reverse(one.changed));
    let (mut kept, mut removed, mut freed) = (0, 0, 0);
    for one in all {
        if kept + one.bytes > most && remove_unused(&one.path) {
            removed += 1;
            freed += one.bytes;
        } else {
            kept += one.bytes;
        }
    }
    if removed > 0 {
        say(&format!("removed the {removed} oldest of {}: {} MiB", parent.display(), freed >> 20));
    }
}

struct Directory {
    path: PathBuf,
    bytes: u64,
    changed: SystemTime,
}

fn directories(parent: &Path) -> Vec<Directory> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink());
    paths
        .map(|path| {
            let (bytes, changed) = measure(&path);
            Directory { path, bytes, changed }
        })
        .collect()
}

/// Bytes on the disk below a directory, and when the newest file there was changed.
fn measure(dir: &Path) -> (u64, SystemTime) {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = (0, SystemTime::UNIX_EPOCH);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(data) = entry.metadata() else { continue };
        let (bytes, changed) = match data.is_dir() {
            true => measure(&entry.path()),
            false => (data.blocks() * 512, data.modified().unwrap_or(SystemTime::UNIX_EPOCH)),
        };
        sum = (sum.0 + bytes, sum.1.max(changed));
    }
    sum
}

/// Removes a directory unless a process uses it; returns whether it is gone. The lock file stays, since another process
/// may be about to lock it.
fn remove_unused(dir: &Path) -> bool {
    let Ok(lock) = lock_file(dir) else { return false };
    lock.try_lock().is_ok() && fs::remove_dir_all(dir).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A directory of `kib` KiB that was changed that many seconds after the others.
    fn dir(parent: &Path, name: &str, kib: usize, age: u64) -> PathBuf {
        let dir = parent.join(name);
        fs::create_dir_all(dir.join("deep")).unwrap();
        let path = dir.join("deep/file");
        fs::write(&path, vec![1; kib << 10]).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + age)).unwrap();
        dir
    }

    #[test]
    fn the_oldest_that_nobody_uses_go_and_the_newest_stay() {
        let parent = std::env::temp_dir().join(format!("portcullis-room-{}", std::process::id()));
        let _ = fs::remove_dir_all(&parent);
        let names = ["a", "b", "c", "d"];
        let [a, b, c, d] = [0, 1, 2, 3].map(|n| dir(&parent, names[n], 64, n as u64));
        let used = share(&a).unwrap();
        keep_newest(&parent, 1 << 20);
        assert!([&a, &b, &c, &d].iter().all(|dir| dir.is_dir()), "there was room for all");
        keep_newest(&parent, 150 << 10);
        assert_eq!(
            [&a, &b, &c, &d].map(|dir| dir.is_dir()),
            [true, false, true, true],
            "a is in use, b is the oldest other"
        );
        drop(used);
        keep_newest(&parent, 150 << 10);
        assert_eq!([&a, &c, &d].map(|dir| dir.is_dir()), [false, true, true]);
        fs::remove_dir_all(&parent).unwrap();
    }
}
