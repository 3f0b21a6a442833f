//! Checks whether the files that a description names can be read.

use std::{fs::File, io::ErrorKind, os::unix::fs::FileTypeExt as _, path::Path};

/// Checks that a file exists, is not empty, and is readable. The error continues a sentence that begins with the file.
/// Only regular files are opened: opening a FIFO waits for its other end.
pub(crate) fn examine(path: &Path) -> Result<(), String> {
    let about = match path.metadata() {
        Ok(about) => about,
        Err(error) if error.kind() == ErrorKind::NotFound && path.is_symlink() => {
            return Err("is a link to a file that does not exist".into());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Err("does not exist".into()),
        Err(error) => return Err(format!("cannot be looked at: {error}")),
    };
    let kind = about.file_type();
    let what = match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_fifo() => Some("a FIFO"),
        () if kind.is_block_device() || kind.is_char_device() => Some("a device"),
        () => Some("a socket"),
    };
    match what {
        Some(what) => Err(format!("is {what}, not a file")),
        None if about.len() == 0 => Err("is empty".into()),
        None => File::open(path).map(|_| ()).map_err(|error| format!("cannot be read: {error}")),
    }
}

/// Checks that a folder exists and can be listed. The error continues a sentence, as that of `examine` does.
pub(crate) fn examine_folder(path: &Path) -> Result<(), String> {
    match path.metadata() {
        Ok(about) if about.is_dir() => {
            std::fs::read_dir(path).map(|_| ()).map_err(|error| format!("cannot be read: {error}"))
        }
        Ok(_) => Err("is not a folder".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err("does not exist".into()),
        Err(error) => Err(format!("cannot be looked at: {error}")),
    }
}

/// What to do about a file that cannot be used, by what `examine` says.
/// `path` is as the description has it; `~`, `$HOME` and `*`, which a shell would replace, are literal.
pub(crate) fn remedy(path: &Path, why: &str) -> String {
    let path = path.to_string_lossy();
    let home = |user: &str, rest: &str| {
        format!("~ stands for no folder here: write the whole path, like \"/home/{user}/{rest}\"")
    };
    match path.strip_prefix('~').map(|home| home.split_once('/').unwrap_or((home, ""))) {
        Some(("", rest)) => return home("NAME", rest),
        Some((user, rest)) => return home(user, rest),
        None => {}
    }
    let remedy = match () {
        () if why == "is not a folder" => "name a folder: what is below it goes to the same place in the guest",
        () if why != "does not exist" => "name a file that has something in it and that you may read",
        () if path.contains('$') => "variables are not replaced here: write the whole path, like \"/home/NAME/…\"",
        () if path.contains("://") => "nothing is fetched here: download it, and write the path of the file",
        () if path.contains(['*', '?']) => "patterns are not replaced here: write the file's whole name",
        () if path.contains('\\') => "between the folders of a path there is a /",
        () if path.starts_with('/') => {
            "this is the whole path: without a / at its beginning it starts at the description's folder"
        }
        () => "paths are relative to the description's folder",
    };
    remedy.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_named() {
        for (path, said) in [
            ("/", "is a directory, not a file"),
            ("/dev/null", "is a device, not a file"),
            ("/no/such/file", "does not exist"),
            ("a\0b", "cannot be looked at"),
            ("Cargo.toml/x", "cannot be looked at: Not a directory"),
        ] {
            let error = examine(Path::new(path)).expect_err(path);
            assert!(error.starts_with(said), "{path}: {error}");
        }
    }

    /// Opening it would block.
    #[test]
    fn a_fifo_is_named_and_not_opened() {
        let fifo = std::env::temp_dir().join(format!("capdl-spec-fifo-{}", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs");
        assert!(made.success());
        let said = examine(&fifo);
        std::fs::remove_file(&fifo).expect("is removed");
        assert_eq!(said.err().as_deref(), Some("is a FIFO, not a file"));
    }

    #[test]
    fn links_are_followed_and_loops_are_not() {
        let folder = std::env::temp_dir().join(format!("capdl-spec-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("is writable");
        let link = |to: &str, from: &str| std::os::unix::fs::symlink(to, folder.join(from)).expect("is made");
        link("loop", "loop");
        link("nothing", "dangling");
        std::fs::write(folder.join("empty"), "").expect("is writable");
        std::fs::write(folder.join("full"), "x").expect("is writable");
        link("full", "link");
        let said = |name: &str| examine(&folder.join(name)).err();
        assert!(said("loop").is_some_and(|said| said.starts_with("cannot be looked at: ")));
        assert_eq!(said("dangling").as_deref(), Some("is a link to a file that does not exist"));
        assert_eq!(said("empty").as_deref(), Some("is empty"));
        assert_eq!(said("link"), None);
        std::fs::remove_dir_all(&folder).expect("is removed");
    }
}
