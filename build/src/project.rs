//! Paths: the project's sources, and the places in the target directory where the tool puts its products.
//!
//! `CARGO_TARGET_DIR` moves all products, as it does for cargo.

use std::path::{Path, PathBuf};

use capdl_spec::host::mistake;
use miette::{Context, IntoDiagnostic, Result, miette};

/// The project's directories, all absolute.
#[derive(Debug, Clone)]
pub struct Project {
    /// The workspace: where Cargo.toml, systems/ and kernel-config/ are.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Project {
    /// Finds the project that this tool was started from (or, started by hand, the one that it was built from).
    pub fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest)
            .parent()
            .ok_or_else(|| miette::miette!("{} has no parent directory", Path::new(&manifest).display()))?
            .to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir).into_diagnostic()?,
            None => root.join("target"),
        };
        std::fs::create_dir_all(&target)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot create {}", target.display()))?;
        check_path(&root)?;
        check_path(&target)?;
        Ok(Self { root, target })
    }

    /// The default guest: its packages, its kernel and its initramfs.
    pub fn guest(&self) -> PathBuf {
        self.target.join("guest")
    }

    /// The products of `cargo xtask image SYSTEM`.
    pub fn images(&self, system: &str) -> PathBuf {
        self.target.join("images").join(system)
    }

    /// One run of the emulator: its configuration, its log, what the console printed.
    pub fn run(&self, name: &str) -> PathBuf {
        self.target.join("runs").join(name)
    }

    /// The description of a system: a name stands for systems/NAME.toml, anything with a slash or an extension is a file.
    pub fn system(&self, name: &str) -> Result<PathBuf> {
        let path = if name.contains('/') || name.ends_with(".toml") {
            std::path::absolute(name).into_diagnostic()?
        } else {
            self.root.join("systems").join(name).with_extension("toml")
        };
        // An existing file that is not a description is reported when it is read.
        if path.exists() {
            return Ok(path);
        }
        if name.is_empty() {
            return Err(miette::miette!("the name of the system is empty"));
        }
        let names = self.system_names();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        // A path to a description in systems/, without its extension.
        let name = Path::new(name).file_stem().and_then(|stem| stem.to_str()).unwrap_or(name);
        let help = match mistake::close(name, &known) {
            Some(close) => format!("did you mean `{close}`? Known systems: {}", known.join(", ")),
            None => format!("known systems: {}", known.join(", ")),
        };
        Err(miette::miette!(help = help, "there is no system description {}", path.display()))
    }

    /// The names of the descriptions in systems/, sorted.
    pub fn system_names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join("systems")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        names
    }
}

/// Characters in a path that one of the tools would interpret: the shell, make, CMake's lists, the dynamic linker's,
/// e2fsprogs, QEMU, Bochs' configuration. Spaces and letters of any alphabet are fine.
const SPECIAL: &[char] =
    &['"', '\'', '`', '$', '\\', ';', ':', '#', '%', '?', '*', '&', '|', '<', '>', '(', ')', ',', '='];

/// Refuses a path that some tool would misread.
fn check_path(path: &Path) -> Result<()> {
    let special = match path.to_str() {
        Some(text) => text.chars().find(|c| SPECIAL.contains(c) || c.is_control()).map(|c| format!("{c:?}")),
        None => Some("what is no UTF-8".to_owned()),
    };
    let Some(special) = special else { return Ok(()) };
    let help = "move the project, or let CARGO_TARGET_DIR name another directory for what is built";
    Err(miette!(
        help = help,
        "{} has {special} in its name, which the tools of the build would misread",
        path.display()
    ))
}

/// Reads a file, naming it in the error.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).into_diagnostic().wrap_err_with(|| format!("cannot read {}", path.display()))
}

/// Writes a file and the directories above it, naming it in the error. An unchanged file keeps its time. Readers never
/// see a partial file: it is written under a temporary name and renamed.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot create {}", parent.display()))?;
    }
    // Two processes may write the same file at a time.
    let aside = path.with_added_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
    let written = std::fs::write(&aside, bytes).and_then(|()| std::fs::rename(&aside, path));
    let written = written.inspect_err(|_| drop(std::fs::remove_file(&aside)));
    written.into_diagnostic().wrap_err_with(|| format!("cannot write {}", path.display()))
}

/// Writes a file that a user has named, into an existing folder only: making folders would hide a mistyped path.
pub fn write_named(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(missing) = folder.filter(|folder| !folder.is_dir()) {
        return Err(miette::miette!("cannot write {}: there is no folder {}", path.display(), missing.display()));
    }
    write(path, bytes)
}

/// Copies a folder without cargo's results and git's files.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).into_diagnostic()?;
    for entry in std::fs::read_dir(from).into_diagnostic()? {
        let entry = entry.into_diagnostic()?;
        let (path, there) = (entry.path(), to.join(entry.file_name()));
        if ["target", ".git"].iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if entry.file_type().into_diagnostic()?.is_dir() {
            copy_tree(&path, &there)?;
        } else {
            std::fs::copy(&path, &there).into_diagnostic().wrap_err_with(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// All files and links below a folder, sorted. For folders of sources there is `cache::sources_below`.
pub fn entries_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let listed = listed.into_diagnostic().wrap_err_with(|| format!("cannot list {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in listed {
        match entry.file_type().into_diagnostic()?.is_dir() {
            true => paths.extend(entries_below(&entry.path())?),
            false => paths.push(entry.path()),
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_entries_and_folders_named_target_too() {
        let folder = std::env::temp_dir().join(format!("xtask-entries-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("empty")).unwrap();
        assert!(entries_below(&folder).unwrap().is_empty());
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        std::os::unix::fs::symlink("/bin/nowhere", folder.join("bin/link")).unwrap();
        assert_eq!(entries_below(&folder).unwrap(), [folder.join("bin/link")]);
        write(&folder.join("bin/target/module.ko"), b"").unwrap();
        assert_eq!(entries_below(&folder).unwrap(), ["bin/link", "bin/target/module.ko"].map(|name| folder.join(name)));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(entries_below(&folder).is_err());
    }

    #[test]
    fn spaces_and_letters_are_fine_in_a_path_and_what_tools_would_misread_is_named() {
        for good in ["/home/a/portcullis", "/home/Jörg Müller/my projects", "/srv/проект_2+x@y"] {
            check_path(Path::new(good)).unwrap();
        }
        for (bad, named) in [("/a:b", "':'"), ("/a;b", "';'"), ("/a$b", "'$'"), ("/a\nb", "'\\n'"), ("/a,b", "','")] {
            let error = check_path(Path::new(bad)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn who_reads_a_file_that_is_written_anew_keeps_the_old_one() {
        let dir = std::env::temp_dir().join(format!("xtask-write-{}", std::process::id()));
        let (file, reader) = (dir.join("file"), dir.join("reader"));
        write(&file, b"old").unwrap();
        std::fs::hard_link(&file, &reader).unwrap();
        write(&file, b"new").unwrap();
        assert_eq!((read(&reader).unwrap(), read(&file).unwrap()), (b"old".to_vec(), b"new".to_vec()));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_folder_that_a_user_mistyped_is_not_made() {
        let missing = std::env::temp_dir().join(format!("portcullis-no-such-folder-{}", std::process::id()));
        let error = write_named(&missing.join("x.svg"), b"x").unwrap_err().to_string();
        assert!(error.contains("there is no folder") && !missing.exists(), "{error}");
    }

    #[test]
    fn a_path_to_a_system_that_has_a_name_leads_to_the_name() {
        let project = Project::find().unwrap();
        for name in ["systems/minimal", "../systems/minimal", "minmal"] {
            let help = project.system(name).unwrap_err().help().map(|help| help.to_string()).unwrap_or_default();
            assert!(help.starts_with("did you mean `minimal`?"), "{name}: {help}");
        }
        assert!(project.system("").unwrap_err().to_string().contains("is empty"));
    }
}
