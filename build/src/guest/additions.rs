//! Initrds with more files: packages of Debian, programs and folders of the user's.
//!
//! The kernel unpacks all archives of an initrd in their order (Linux, Documentation/driver-api/early-userspace/
//! buffer-format.rst), so the files are an archive behind the initrd, whatever that is. They belong to root and keep their
//! permission bits; the same files make the same bytes.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use capdl_spec::host::Additions;
use miette::{IntoDiagnostic, Result, miette};

use super::cpio::{self, Archive, Entry};
use super::{bzimage, debian, programs};
use crate::project::{self, Project};

/// What no guest of this size reads.
const LEFT_OUT: [&str; 9] = [
    // Conversions between character sets, other than from and to UTF-8: most of libc6.
    "usr/lib/i386-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/bug",
    "usr/share/doc-base",
];

/// An initrd with files in addition.
pub fn extended(project: &Project, initrd: &Path, additions: &Additions) -> Result<PathBuf> {
    let mut bytes = project::read(initrd)?;
    let mut archive = Archive::default();
    // A directory of the archive would replace a link of the initrd's that stands for one.
    let mut known = cpio::directories(&bytes);
    if !additions.packages.is_empty() {
        add(&mut archive, &mut known, &debian::packages(project, additions.debian, &additions.packages)?, &LEFT_OUT)?;
    }
    for folder in &additions.programs {
        let built = programs::install(project, folder, additions)?;
        add(&mut archive, &mut known, &built, &[])?;
    }
    if let Some(folder) = &additions.overlay {
        add(&mut archive, &mut known, folder, &[])?;
    }
    // Each archive begins at a multiple of 4.
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(archive.finish());
    let name = initrd.file_stem().unwrap_or_default().to_string_lossy();
    let path = project.guest().join("additions").join(format!("{name}-{}.cpio", bzimage::fingerprint(&bytes)));
    project::write(&path, &bytes)?;
    Ok(path)
}

/// Adds everything below a folder.
fn add(archive: &mut Archive, known: &mut BTreeSet<String>, folder: &Path, left_out: &[&str]) -> Result<()> {
    let mut waiting = vec![String::new()];
    while let Some(below) = waiting.pop() {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder.join(&below)).into_diagnostic()? {
            let name = entry.into_diagnostic()?.file_name();
            names.push(
                name.into_string()
                    .map_err(|name| miette!("{}: the name {name:?} is not UTF-8", folder.join(&below).display()))?,
            );
        }
        names.sort();
        for name in names {
            let at = if below.is_empty() { name } else { format!("{below}/{name}") };
            if left_out.contains(&at.as_str()) {
                continue;
            }
            let path = folder.join(&at);
            let about = path.symlink_metadata().into_diagnostic()?;
            let (kind, mode) = (about.file_type(), about.permissions().mode() & 0o7777);
            if kind.is_dir() {
                if known.insert(at.clone()) {
                    archive.add(&at, &Entry::Directory { mode });
                }
                waiting.push(at);
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&path).into_diagnostic()?;
                let target = target.to_str().ok_or_else(|| miette!("{}: its target is not UTF-8", path.display()))?;
                archive.add(&at, &Entry::Link(target));
                known.insert(at);
            } else if kind.is_file() {
                archive.add(&at, &Entry::File { mode, bytes: &project::read(&path)? });
            } else {
                let help = "leave it out: a guest's initrd gets files, folders and symbolic links";
                return Err(miette!(help = help, "{} is a device, a FIFO or a socket", path.display()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask-additions-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn project(dir: &Path) -> Project {
        Project { root: dir.to_path_buf(), target: dir.join("target") }
    }

    /// The names and modes of an archive's entries.
    fn entries(bytes: &[u8]) -> Vec<(String, u32)> {
        let text: Vec<u8> = bytes.to_vec();
        let mut all = Vec::new();
        let mut at = 0;
        while let Some(header) = text.get(at..at + 110).filter(|header| header.starts_with(b"070701")) {
            let field =
                |n: usize| usize::from_str_radix(str::from_utf8(&header[6 + 8 * n..14 + 8 * n]).unwrap(), 16).unwrap();
            let name = str::from_utf8(&text[at + 110..at + 109 + field(11)]).unwrap().to_owned();
            all.push((name, field(1) as u32));
            at = ((at + 110 + field(11)).next_multiple_of(4) + field(6)).next_multiple_of(4);
        }
        all
    }

    #[test]
    fn files_come_behind_the_initrd_with_their_modes() {
        let dir = folder("modes");
        let mut first = Archive::default();
        first.add("bin", &Entry::Directory { mode: 0o755 });
        first.add("sbin", &Entry::Link("bin"));
        let mut first = first.finish();
        first.push(0);
        let initrd = dir.join("initrd");
        std::fs::write(&initrd, &first).unwrap();
        let overlay = dir.join("overlay");
        for (path, mode) in [("bin/tool", 0o755), ("sbin/other", 0o4711), ("etc/secret", 0o600)] {
            project::write(&overlay.join(path), b"contents").unwrap();
            std::fs::set_permissions(overlay.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::set_permissions(overlay.join("etc"), std::fs::Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("secret", overlay.join("etc/link")).unwrap();
        let additions = Additions { overlay: Some(overlay.clone()), ..Additions::default() };
        let made = project::read(&extended(&project(&dir), &initrd, &additions).unwrap()).unwrap();
        assert!(made.starts_with(&first));
        let second = &made[first.len().next_multiple_of(4)..];
        // `bin` is there, and `sbin` is a link that a directory would replace.
        let expected = [
            ("etc", 0o040_750),
            ("sbin/other", 0o104_711),
            ("etc/link", 0o120_777),
            ("etc/secret", 0o100_600),
            ("bin/tool", 0o100_755),
            ("TRAILER!!!", 0),
        ];
        let mut found = entries(second);
        found.sort();
        let mut expected: Vec<_> = expected.map(|(name, mode)| (name.to_owned(), mode)).into();
        expected.sort();
        assert_eq!(found, expected);
        // The same files, the same bytes.
        let again = extended(&project(&dir), &initrd, &additions).unwrap();
        assert_eq!(project::read(&again).unwrap(), made);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_no_file_is_named() {
        let dir = folder("fifo");
        let mut mkfifo = crate::process::tool("mkfifo");
        mkfifo.arg(dir.join("pipe"));
        crate::process::output(mkfifo).unwrap();
        let error = add(&mut Archive::default(), &mut BTreeSet::new(), &dir, &[]).unwrap_err().to_string();
        assert!(error.contains("pipe is a device, a FIFO or a socket"), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
