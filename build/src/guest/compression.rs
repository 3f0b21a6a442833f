//! Compressed kernels: the payload of a bzImage, or a file such as vmlinux.gz.
//!
//! Read here: gzip (RFC 1952), xz with the x86 filter, lzma, zstd (RFC 8878), and lz4, both as a frame and in the legacy
//! format that Linux uses (lz4's doc/lz4_Frame_format.md, "Legacy frame"). Linux's build appends the uncompressed
//! length, which all decoders ignore.

use std::io::Read;

use super::error::Error;

/// No kernel is nearly as large as this, so a larger result means a broken file.
const LARGEST: u64 = 512 << 20;
/// Most bytes in a block of lz4's legacy format.
const LEGACY_BLOCK: usize = 8 << 20;
/// Memory that a dictionary may take, in KiB: the largest of xz's presets takes half of it.
const DICTIONARY_KIB: u32 = 128 << 10;

/// A compression, recognized by the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// zstd.
    Zstd,
    /// lz4, in frames.
    Lz4,
    /// lz4, in the legacy format.
    Lz4Legacy,
    /// lzma, as `xz --format=lzma` writes it.
    Lzma,
    /// bzip2, not read here.
    Bzip2,
    /// lzop, not read here.
    Lzo,
}

impl Compression {
    /// The compression of some bytes, if they are compressed.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let kind = match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            [0x02, 0x21, 0x4c, 0x18, ..] => Self::Lz4Legacy,
            [0x5d, 0, 0, ..] => Self::Lzma,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0x89, b'L', b'Z', b'O', ..] => Self::Lzo,
            _ => return None,
        };
        Some(kind)
    }

    /// The decompressed bytes.
    pub fn decompress(self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Self::Gzip => drain(flate2::read::GzDecoder::new(bytes)),
            Self::Xz => drain(lzma_rust2::XzReader::new(bytes, false)),
            Self::Zstd => drain(ruzstd::decoding::StreamingDecoder::new(bytes).map_err(corrupt)?),
            Self::Lz4 => drain(lz4_flex::frame::FrameDecoder::new(bytes)),
            Self::Lz4Legacy => lz4_legacy(bytes),
            Self::Lzma => drain(lzma_rust2::LzmaReader::new_mem_limit(bytes, DICTIONARY_KIB, None).map_err(corrupt)?),
            Self::Bzip2 => Err(Error::Compression("bzip2")),
            Self::Lzo => Err(Error::Compression("lzo")),
        }
    }
}

/// Decodes blocks, each after its length, as long as they are complete: the appended length follows the last.
fn lz4_legacy(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let (mut rest, mut out, mut block) = (bytes.get(4..).unwrap_or_default(), Vec::new(), vec![0; LEGACY_BLOCK]);
    while let Some((length, behind)) =
        rest.split_first_chunk().map(|(length, rest)| (u32::from_le_bytes(*length), rest))
    {
        let Some((packed, next)) = behind.split_at_checked(length as usize) else {
            if behind.is_empty() {
                break;
            }
            return Err(Error::Corrupt("it ends within a block".into()));
        };
        let filled = lz4_flex::block::decompress_into(packed, &mut block).map_err(corrupt)?;
        out.extend_from_slice(block.get(..filled).unwrap_or_default());
        if out.len() as u64 > LARGEST {
            return Err(Error::Corrupt("it has no end".into()));
        }
        rest = next;
    }
    Ok(out)
}

fn drain(reader: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.take(LARGEST).read_to_end(&mut bytes).map_err(corrupt)?;
    Ok(bytes)
}

fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::Corrupt(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Error> {
        Compression::of(bytes).unwrap().decompress(bytes)
    }

    /// A block that is all literals (lz4's doc/lz4_Block_format.md): a token with their number, and they.
    fn literals(text: &[u8]) -> Vec<u8> {
        let mut block = vec![(text.len() as u8) << 4];
        block.extend_from_slice(text);
        block
    }

    fn legacy(blocks: &[&[u8]]) -> Vec<u8> {
        let mut file = vec![0x02, 0x21, 0x4c, 0x18];
        for text in blocks {
            let block = literals(text);
            file.extend((block.len() as u32).to_le_bytes());
            file.extend(block);
        }
        file
    }

    #[test]
    fn blocks_of_the_legacy_format_follow_each_other() {
        assert_eq!(unpack(&legacy(&[b"\x7fELF", b" and more"])).unwrap(), b"\x7fELF and more");
    }

    #[test]
    fn the_length_appended_to_the_legacy_format_is_no_block() {
        let mut file = legacy(&[b"\x7fELF lz4"]);
        file.extend(8u32.to_le_bytes());
        assert_eq!(unpack(&file).unwrap(), b"\x7fELF lz4");
    }

    #[test]
    fn a_legacy_file_that_ends_within_a_block_is_damaged() {
        let whole = legacy(&[b"\x7fELF lz4"]);
        for end in 9..whole.len() {
            assert!(matches!(unpack(&whole[..end]), Err(Error::Corrupt(_))), "{end}");
        }
    }

    #[test]
    fn lz4_frames_are_read() {
        // Version 1, blocks independent; 64 KiB; the header's checksum; a block stored as it is; the end mark.
        let mut file = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
        file.extend((0x8000_0000u32 | 5).to_le_bytes());
        file.extend(b"\x7fELF!");
        file.extend(0u32.to_le_bytes());
        assert_eq!(unpack(&file).unwrap(), b"\x7fELF!");
    }

    #[test]
    fn zstd_is_read_with_the_largest_window_that_kernels_have() {
        // A frame (RFC 8878): no content size, a window of 1 << (10 + 17) bytes, as `zstd -22 --ultra` has it of a pipe; a last
        // block of 5 bytes as they are; and the length that Linux's build appends.
        let mut file = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x29, 0, 0];
        file.extend(b"\x7fELF!");
        file.extend(5u32.to_le_bytes());
        assert_eq!(unpack(&file).unwrap(), b"\x7fELF!");
    }

    #[test]
    fn lzma_is_read() {
        assert_eq!(unpack(LZMA).unwrap(), b"\x7fELF lzma");
    }

    #[test]
    fn what_is_not_read_is_named() {
        assert_eq!(unpack(b"BZh91AY"), Err(Error::Compression("bzip2")));
        assert_eq!(unpack(b"\x89LZO\0"), Err(Error::Compression("lzo")));
    }

    /// `printf '\x7fELF lzma' | xz --format=lzma`
    const LZMA: &[u8] = &[
        0x5d, 0x00, 0x00, 0x80, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, 0x3f, 0x91, 0x45, 0x84,
        0x69, 0x4d, 0x92, 0x93, 0xc0, 0x41, 0xdf, 0x81, 0x2f, 0xff, 0xff, 0xcb, 0x4c, 0x00, 0x00,
    ];
}
