//! Fills an ext4 file system from a tar archive, without mounting it and without root: mke2fs makes it empty, and debugfs
//! follows a script with a few lines per file.
//!
//! mke2fs could copy a directory itself, but would take owners, order and times from the host's file system. Here the
//! script sets all three, identifiers are fixed, and E2FSPROGS_FAKE_TIME replaces the current time, so equal archives
//! make equal bytes. See mke2fs(8) and debugfs(8). A hard link becomes a second copy; extended attributes are left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use miette::{IntoDiagnostic, Result, WrapErr, miette};
use tar::EntryType;

use super::debootstrap::EPOCH;
use crate::process;
use crate::project;

/// Where the file system lies.
#[derive(Debug, Clone)]
pub struct Partition {
    /// The file that it is part of.
    pub file: PathBuf,
    /// Its first byte.
    pub offset: u64,
    /// Its size in bytes, a multiple of 4096.
    pub size: u64,
}

const UUID: &str = "706f7274-6375-4c6c-8973-000000000001";
const HASH_SEED: &str = "706f7274-6375-4c6c-8973-000000000002";

/// The kind of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file, with its contents.
    File(Vec<u8>),
    /// A symbolic link and where it points.
    Link(String),
    /// A character device, major and minor number.
    Device(u32, u32),
}

/// An entry of the file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u64, u64),
}

/// Everything by its path: without a slash at either end, the root itself left out. A directory sorts before its contents.
pub type Tree = BTreeMap<String, Node>;

/// Reads a tar archive.
pub fn tree(archive: &[u8]) -> Result<Tree> {
    let mut tree = Tree::new();
    for entry in tar::Archive::new(archive).entries().into_diagnostic()? {
        let mut entry = entry.into_diagnostic()?;
        let path = entry.path().into_diagnostic()?.to_string_lossy().into_owned();
        let path = path.trim_start_matches("./").trim_matches('/').to_owned();
        let header = entry.header();
        let number = |found: std::io::Result<Option<u32>>| found.ok().flatten().unwrap_or(0);
        let (major, minor) = (number(header.device_major()), number(header.device_minor()));
        let mode = header.mode().into_diagnostic()? & 0o7777;
        let owner = (header.uid().into_diagnostic()?, header.gid().into_diagnostic()?);
        let target = entry.link_name().into_diagnostic()?.map(|name| name.to_string_lossy().into_owned());
        let kind = match header.entry_type() {
            EntryType::Directory => NodeKind::Directory,
            EntryType::Symlink => NodeKind::Link(target.unwrap_or_default()),
            EntryType::Char => NodeKind::Device(major, minor),
            EntryType::Link => linked(&tree, &target.unwrap_or_default())?,
            EntryType::Regular => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).into_diagnostic()?;
                NodeKind::File(bytes)
            }
            // Sockets, pipes and block devices, which an installation without a running system does not have.
            _ => continue,
        };
        if !path.is_empty() && path != "." {
            tree.insert(path, Node { kind, mode, owner });
        }
    }
    Ok(tree)
}

/// A copy of a hard link's target.
fn linked(tree: &Tree, target: &str) -> Result<NodeKind> {
    let node = tree.get(target.trim_start_matches("./"));
    node.map(|node| node.kind.clone()).ok_or_else(|| miette!("the archive links to {target}, which is not in it"))
}

/// Makes the file system at `place`, which must read as zeros, and puts the tree into it. `scratch` is a directory for
/// files on their way.
pub fn make(tree: &Tree, place: &Partition, scratch: &Path) -> Result<()> {
    let mut mke2fs = tool("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "root", "-U", UUID, "-E"]);
    let lazy = "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0";
    mke2fs.arg(format!("{lazy},hash_seed={HASH_SEED},offset={}", place.offset));
    mke2fs.arg(&place.file).arg(format!("{}k", place.size / 1024));
    process::output(mke2fs)?;
    std::fs::create_dir_all(scratch).into_diagnostic().wrap_err_with(|| scratch.display().to_string())?;
    for (number, node) in tree.values().enumerate() {
        if let NodeKind::File(bytes) = &node.kind {
            project::write(&scratch.join(number.to_string()), bytes)?;
        }
    }
    let path = scratch.join("script");
    project::write(&path, script(tree, scratch).as_bytes())?;
    let mut debugfs = tool("debugfs");
    debugfs.args(["-w", "-f"]).arg(&path).arg(name(place));
    let said = process::output(debugfs)?;
    let _ = std::fs::remove_dir_all(scratch);
    // debugfs goes on after a failed command, and its exit code does not show it.
    match said.lines().find(|line| !is_expected(line)) {
        None => Ok(()),
        Some(line) => Err(miette!("debugfs, filling {}: {line}", place.file.display())),
    }
}

/// A file's contents, read without mounting.
pub fn read(place: &Partition, path: &str) -> Result<String> {
    let mut debugfs = tool("debugfs");
    debugfs.args(["-R", &format!("cat {path}")]).arg(name(place));
    let said = process::output(debugfs)?;
    // debugfs prints its version on standard error.
    Ok(said.lines().filter(|line| !line.starts_with("debugfs 1.")).map(|line| format!("{line}\n")).collect())
}

/// Checks the file system; the error lists its damage.
pub fn check(place: &Partition) -> Result<()> {
    let mut e2fsck = tool("e2fsck");
    e2fsck.args(["-f", "-n"]).arg(name(place));
    process::output(e2fsck).map(|_| ())
}

/// The file system's name for e2fsprogs, which find it inside a file by this suffix.
fn name(place: &Partition) -> String {
    format!("{}?offset={}", place.file.display(), place.offset)
}

fn tool(program: &str) -> Command {
    // They lie in /sbin, which an ordinary user's search path may not have.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = process::tool("env");
    command.arg(format!("PATH={path}:/usr/sbin:/sbin")).arg(format!("E2FSPROGS_FAKE_TIME={EPOCH}")).arg(program);
    command
}

fn is_expected(line: &str) -> bool {
    line.is_empty() || line.starts_with("debugfs") || line.starts_with("Allocated inode:")
}

/// The commands that make a tree whose files are in `scratch`, by their number.
fn script(tree: &Tree, scratch: &Path) -> String {
    let mut text = String::new();
    let mut current = "";
    for (number, (path, node)) in tree.iter().enumerate() {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        if dir != current {
            let _ = writeln!(text, "cd \"/{dir}\"");
            current = dir;
        }
        let name = quoted(name);
        let (command, kind) = match &node.kind {
            NodeKind::Directory => (format!("mkdir {name}"), 0o040_000),
            NodeKind::File(_) => {
                (format!("write \"{}\" {name}", scratch.join(number.to_string()).display()), 0o100_000)
            }
            NodeKind::Link(target) => (format!("symlink {name} {}", quoted(target)), 0o120_000),
            NodeKind::Device(major, minor) => (format!("mknod {name} c {major} {minor}"), 0o020_000),
        };
        let _ = writeln!(text, "{command}\nset_inode_field {name} mode 0{:o}", kind | node.mode);
        for (field, value) in [("uid", node.owner.0), ("gid", node.owner.1)] {
            if value != 0 {
                let _ = writeln!(text, "set_inode_field {name} {field} {value}");
            }
        }
    }
    text
}

/// As debugfs reads a word: in quotes, a quote written twice.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: NodeKind, mode: u32) -> Node {
        Node { kind, mode, owner: (0, 0) }
    }

    #[test]
    fn a_directory_is_made_before_what_is_in_it_and_names_are_relative() {
        let mut tree = Tree::new();
        tree.insert("etc/host name".into(), node(NodeKind::File(b"x".to_vec()), 0o644));
        tree.insert("etc".into(), node(NodeKind::Directory, 0o755));
        let mut link = node(NodeKind::Link("etc".into()), 0o777);
        link.owner = (0, 42);
        tree.insert("link".into(), link);
        let wanted = "mkdir \"etc\"\nset_inode_field \"etc\" mode 040755\n\
                      cd \"/etc\"\nwrite \"/s/1\" \"host name\"\nset_inode_field \"host name\" mode 0100644\n\
                      cd \"/\"\nsymlink \"link\" \"etc\"\nset_inode_field \"link\" mode 0120777\n\
                      set_inode_field \"link\" gid 42\n";
        assert_eq!(script(&tree, Path::new("/s")), wanted);
    }

    #[test]
    fn what_debugfs_complains_about_is_an_error() {
        assert!(is_expected("Allocated inode: 12") && is_expected("debugfs: cd /etc"));
        assert!(!is_expected("write: No such file or directory while opening x"));
    }

    #[test]
    fn a_tar_archive_becomes_a_tree() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o4755);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, "./bin/su", &b"abc"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(EntryType::Link);
        link.set_size(0);
        link.set_mode(0o4755);
        link.set_uid(0);
        link.set_gid(0);
        builder.append_link(&mut link, "./bin/also", "./bin/su").unwrap();
        let tree = tree(&builder.into_inner().unwrap()).unwrap();
        assert_eq!(tree["bin/su"], node(NodeKind::File(b"abc".to_vec()), 0o4755));
        assert_eq!(tree["bin/also"].kind, tree["bin/su"].kind);
    }
}
