//! Writes the "newc" cpio archives that Linux takes as an initramfs.
//!
//! Format: Linux's Documentation/driver-api/early-userspace/buffer-format.rst. Entries get numbered inodes, time 0 and
//! owner root, so the same entries make the same bytes anywhere; device nodes need no privilege. No hard links.

use std::collections::BTreeSet;

/// Bytes of an entry's header: a magic number and thirteen fields.
const HEADER: usize = 110;

/// A file system entry's kind and contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A directory.
    Directory {
        /// Its permission bits.
        mode: u32,
    },
    /// A regular file.
    File {
        /// Its permission bits.
        mode: u32,
        /// Its contents.
        bytes: &'a [u8],
    },
    /// A symbolic link to the given path.
    Link(&'a str),
    /// A character device.
    Device {
        /// Its permission bits.
        mode: u32,
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
}

/// An archive under construction. Directories must be added before their contents.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds an entry under a path without a leading slash.
    pub fn add(&mut self, path: &str, entry: &Entry) {
        let (mode, data, device) = match *entry {
            Entry::Directory { mode } => (0o040_000 | mode, &[][..], (0, 0)),
            Entry::File { mode, bytes } => (0o100_000 | mode, bytes, (0, 0)),
            Entry::Link(target) => (0o120_777, target.as_bytes(), (0, 0)),
            Entry::Device { mode, major, minor } => (0o020_000 | mode, &[][..], (major, minor)),
        };
        self.entries += 1;
        let links = if matches!(entry, Entry::Directory { .. }) { 2 } else { 1 };
        self.put(path, [self.entries, mode, 0, 0, links, 0], data, device);
    }

    /// The finished archive, padded to whole 512-byte blocks as cpio does.
    pub fn finish(mut self) -> Vec<u8> {
        self.put("TRAILER!!!", [0, 0, 0, 0, 1, 0], &[], (0, 0));
        self.pad(512);
        self.bytes
    }

    /// Writes one header, name and data. `fields` are inode, mode, user, group, links and time.
    fn put(&mut self, name: &str, fields: [u32; 6], data: &[u8], device: (u32, u32)) {
        self.bytes.extend_from_slice(b"070701");
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let name_length = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // Then: size, the device that it lies on, the device that it is, the name's length, and no checksum.
        let rest = [length, 0, 0, device.0, device.1, name_length, 0];
        for field in fields.into_iter().chain(rest) {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad(4);
        self.bytes.extend_from_slice(data);
        self.pad(4);
    }

    fn pad(&mut self, alignment: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
    }
}

/// The directories of an archive, and what stands for one: symbolic links. Reads the archives at the beginning of `bytes` that
/// are not compressed.
pub fn directories(bytes: &[u8]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut at = 0;
    while let Some((name, mode, end)) = entry(bytes, at) {
        if matches!(mode & 0o170_000, 0o040_000 | 0o120_000) {
            all.insert(name.to_owned());
        }
        at = end;
        // Between archives there are zeros.
        if name == "TRAILER!!!" {
            at += bytes.get(at..).unwrap_or_default().iter().take_while(|byte| **byte == 0).count();
        }
    }
    all
}

/// The entry at `at`: name, mode, and where the next one is.
fn entry(bytes: &[u8], at: usize) -> Option<(&str, u32, usize)> {
    let header = std::str::from_utf8(bytes.get(at..at.checked_add(HEADER)?)?).ok()?;
    let field = |n: usize| u32::from_str_radix(header.get(6 + 8 * n..14 + 8 * n)?, 16).ok();
    if !header.starts_with("070701") && !header.starts_with("070702") {
        return None;
    }
    let (mode, size, name) = (field(1)?, field(6)? as usize, field(11)? as usize);
    let text = bytes.get(at + HEADER..(at + HEADER).checked_add(name)?.checked_sub(1)?)?;
    let data = (at + HEADER + name).next_multiple_of(4);
    let end = data.checked_add(size)?.checked_next_multiple_of(4)?;
    (end <= bytes.len()).then_some((std::str::from_utf8(text).ok()?, mode, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_archive_is_one_block_with_the_trailer() {
        let bytes = Archive::default().finish();
        assert_eq!(bytes.len(), 512);
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[110..121], b"TRAILER!!!\0");
    }

    #[test]
    fn a_device_node_is_written_as_the_format_says() {
        let mut archive = Archive::default();
        archive.add("dev/ttyS0", &Entry::Device { mode: 0o660, major: 4, minor: 64 });
        let bytes = archive.finish();
        let header = "07070100000001000021b000000000000000000000000100000000000000000000000000000000\
                      00000004000000400000000a00000000";
        assert_eq!(std::str::from_utf8(&bytes[..110]).unwrap(), header);
        assert_eq!(&bytes[110..120], b"dev/ttyS0\0");
        assert_eq!(&bytes[120..126], b"070701", "the name is padded so that the next header is aligned");
    }

    #[test]
    fn directories_are_found_in_archives_behind_each_other() {
        let archive = |entries: &[(&str, Entry)]| {
            let mut archive = Archive::default();
            entries.iter().for_each(|(path, entry)| archive.add(path, entry));
            archive.finish()
        };
        let first = archive(&[
            ("a", Entry::Directory { mode: 0o755 }),
            ("a/b", Entry::File { mode: 0o644, bytes: b"12345" }),
            ("usr", Entry::Link("a")),
        ]);
        let second = archive(&[("c", Entry::Directory { mode: 0o700 })]);
        let both = [&first[..], &[0; 1024], &second].concat();
        assert_eq!(directories(&both).into_iter().collect::<Vec<_>>(), ["a", "c", "usr"]);
        // Whatever the bytes are: a file of its own may be anything.
        assert_eq!(directories(b"\x1f\x8b compressed").len(), 0);
        for len in 0..both.len() {
            let mut wrong = both.clone();
            wrong[len] ^= 0xff;
            assert!(directories(&both[..len]).len() <= 3 && directories(&wrong).len() <= 3);
        }
        let huge = both.iter().map(|byte| if *byte == b'0' { b'F' } else { *byte }).collect::<Vec<_>>();
        assert_eq!(directories(&[&b"070701"[..], &huge[6..]].concat()).len(), 0);
    }

    #[test]
    fn file_contents_start_and_end_on_four_bytes() {
        let mut archive = Archive::default();
        archive.add("ab", &Entry::File { mode: 0o755, bytes: b"hello" });
        let bytes = archive.finish();
        assert_eq!(&bytes[116..121], b"hello");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(&bytes[14..22], b"000081ed");
    }
}
