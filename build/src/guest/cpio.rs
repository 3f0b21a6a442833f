//! Writes the "newc" cpio archives that Linux takes as an initramfs.
//!
//! Format: Linux's Documentation/driver-api/early-userspace/buffer-format.rst. Entries get numbered inodes, time 0 and
//! owner root, so the same entries make the same bytes anywhere; device nodes need no privilege. No hard links.

/// A file system entry's kind and contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A directory, mode 0755.
    Directory,
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
            Entry::Directory => (0o040_755, &[][..], (0, 0)),
            Entry::File { mode, bytes } => (0o100_000 | mode, bytes, (0, 0)),
            Entry::Link(target) => (0o120_777, target.as_bytes(), (0, 0)),
            Entry::Device { mode, major, minor } => (0o020_000 | mode, &[][..], (major, minor)),
        };
        self.entries += 1;
        let links = if *entry == Entry::Directory { 2 } else { 1 };
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
    fn file_contents_start_and_end_on_four_bytes() {
        let mut archive = Archive::default();
        archive.add("ab", &Entry::File { mode: 0o755, bytes: b"hello" });
        let bytes = archive.finish();
        assert_eq!(&bytes[116..121], b"hello");
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(&bytes[14..22], b"000081ed");
    }
}
