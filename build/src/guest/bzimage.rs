//! Takes the kernel proper, an ELF, out of a bzImage.
//!
//! The header is that of Linux's Documentation/arch/x86/boot.rst (protocol 2.08 and later name the payload). A payload is
//! the compressed vmlinux, mostly with its length appended. Read here: gzip, xz (with the x86 filter) and zstd. The
//! others (bzip2, lzma, lzo, lz4) are named in the error; the guest can still decompress those itself.

use std::fmt;
use std::io::Read;

use sha2::{Digest, Sha256};

/// How an ELF begins.
pub const ELF: &[u8] = b"\x7fELF";

/// Where the setup header keeps what is needed here.
const SETUP_SECTS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The first protocol version that names the payload.
const FIRST_WITH_PAYLOAD: u32 = 0x208;
/// No 32- or 64-bit kernel comes near this; a larger result is a broken file.
const LARGEST: u64 = 512 << 20;

/// Why a bzImage cannot be unpacked.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The magic "HdrS" is missing.
    NotABzImage,
    /// The boot protocol (given) is older than 2.08.
    TooOld(u32),
    /// The header points behind the end of the file.
    Truncated,
    /// A compression that is not read here; its name.
    Compression(&'static str),
    /// The decompressor's complaint.
    Corrupt(String),
    /// It decompressed to something that is not an ELF.
    NotAnElf,
    /// It has no relocations.
    NotRelocatable,
    /// A relocation names a virtual address (given) outside the kernel.
    BadRelocation(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABzImage => write!(f, "it is neither an ELF nor a bzImage (no \"HdrS\" at 0x202)"),
            Self::TooOld(version) => write!(f, "boot protocol {:#x} is older than 2.08 (Linux 2.6.26)", version),
            Self::Truncated => write!(f, "its header points behind the end of the file"),
            Self::Compression(name) => {
                write!(f, "its payload is {name}; gzip, xz and zstd are read here: let the guest decompress it")
            }
            Self::Corrupt(reason) => write!(f, "its payload is damaged: {reason}"),
            Self::NotAnElf => write!(f, "its payload is no ELF"),
            Self::NotRelocatable => write!(
                f,
                "it cannot be moved in memory: it has no relocations (Linux: CONFIG_RELOCATABLE; a bzImage keeps them, a \
                 vmlinux does not)"
            ),
            Self::BadRelocation(address) => write!(f, "it has a relocation at {address:#x}, outside the kernel"),
        }
    }
}

impl std::error::Error for Error {}
impl miette::Diagnostic for Error {}

/// The vmlinux ELF in a bzImage. Relocations may follow the ELF, see [`super::relocation`].
pub fn decompress_bzimage(image: &[u8]) -> Result<Vec<u8>, Error> {
    let payload = payload(image)?;
    let elf = match payload {
        [0x1f, 0x8b, ..] => drain(flate2::read::GzDecoder::new(payload))?,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => drain(lzma_rust2::XzReader::new(payload, false))?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(payload);
            drain(decoder.map_err(|error| Error::Corrupt(error.to_string()))?)?
        }
        [b'B', b'Z', b'h', ..] => return Err(Error::Compression("bzip2")),
        [0x5d, 0, ..] => return Err(Error::Compression("lzma")),
        [0x89, b'L', b'Z', b'O', ..] => return Err(Error::Compression("lzo")),
        [0x02, 0x21, 0x4c, 0x18, ..] => return Err(Error::Compression("lz4")),
        [0x7f, b'E', b'L', b'F', ..] => payload.to_vec(),
        _ => return Err(Error::Compression("compressed in an unknown way")),
    };
    if elf.starts_with(ELF) { Ok(elf) } else { Err(Error::NotAnElf) }
}

/// The compressed kernel inside the image.
fn payload(image: &[u8]) -> Result<&[u8], Error> {
    if image.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
        return Err(Error::NotABzImage);
    }
    let version = field(image, VERSION, 2)?;
    if version < FIRST_WITH_PAYLOAD {
        return Err(Error::TooOld(version));
    }
    // For historical reasons 0 means 4.
    let sectors = match field(image, SETUP_SECTS, 1)? {
        0 => 4,
        sectors => sectors as usize,
    };
    let start = (sectors + 1) * 512 + field(image, PAYLOAD_OFFSET, 4)? as usize;
    let length = field(image, PAYLOAD_LENGTH, 4)? as usize;
    image.get(start..start + length).ok_or(Error::Truncated)
}

/// A little-endian field of the header.
fn field(image: &[u8], at: usize, width: usize) -> Result<u32, Error> {
    let bytes = image.get(at..at + width).ok_or(Error::Truncated)?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

fn drain(reader: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.take(LARGEST).read_to_end(&mut bytes).map_err(|error| Error::Corrupt(error.to_string()))?;
    Ok(bytes)
}

/// A name for some contents, for use in a cache.
pub fn fingerprint(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A bzImage with one setup sector and the payload 16 bytes into the protected-mode part.
    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 1024 + 16];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&[0x0f, 0x02]);
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_gzip_payload_is_unpacked() {
        assert_eq!(decompress_bzimage(&bzimage(&gzip(b"\x7fELF and so on"))).unwrap(), b"\x7fELF and so on");
    }

    #[test]
    fn the_length_appended_to_an_xz_payload_is_not_part_of_it() {
        // `printf '\x7fELF xz' | xz --check=crc32 --x86 --lzma2`, then the length as the kernel's build appends it.
        let mut payload = XZ.to_vec();
        payload.extend_from_slice(&7u32.to_le_bytes());
        assert_eq!(decompress_bzimage(&bzimage(&payload)).unwrap(), b"\x7fELF xz");
    }

    #[test]
    fn the_length_appended_to_a_zstd_payload_is_not_part_of_it() {
        // A frame with one raw block (RFC 8878): magic, single segment of 7 bytes, last block raw of 7 bytes.
        let mut payload = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, 7, 0x39, 0, 0];
        payload.extend_from_slice(b"\x7fELF zs");
        payload.extend_from_slice(&7u32.to_le_bytes());
        assert_eq!(decompress_bzimage(&bzimage(&payload)).unwrap(), b"\x7fELF zs");
    }

    #[test]
    fn an_unreadable_compression_is_named() {
        assert_eq!(decompress_bzimage(&bzimage(b"BZh9")), Err(Error::Compression("bzip2")));
    }

    #[test]
    fn a_file_that_is_no_kernel_is_named_so() {
        assert_eq!(decompress_bzimage(b"#!/bin/sh\n"), Err(Error::NotABzImage));
        assert_eq!(decompress_bzimage(&bzimage(&gzip(b"text"))), Err(Error::NotAnElf));
    }

    #[test]
    fn a_truncated_file_is_an_error_at_every_length() {
        let image = bzimage(&gzip(b"\x7fELF and so on"));
        for length in 0..image.len() {
            assert!(decompress_bzimage(&image[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_damaged_payload_is_an_error() {
        let mut image = bzimage(&gzip(b"\x7fELF and so on"));
        let last = image.len() - 6;
        image[last] ^= 0xff;
        assert!(matches!(decompress_bzimage(&image), Err(Error::Corrupt(_))));
    }

    #[test]
    fn a_protocol_without_payload_fields_is_refused() {
        let mut image = bzimage(b"");
        image[0x206] = 0x07;
        assert_eq!(decompress_bzimage(&image), Err(Error::TooOld(0x207)));
    }

    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x01, 0x04, 0x00, 0x21, 0x01,
        0x16, 0x00, 0x0d, 0x86, 0x35, 0x1f, 0x01, 0x00, 0x06, 0x7f, 0x45, 0x4c, 0x46, 0x20, 0x78, 0x7a, 0x00, 0x00,
        0xf6, 0x7b, 0xde, 0x94, 0x00, 0x01, 0x1b, 0x07, 0x12, 0xeb, 0xd4, 0x17, 0x90, 0x42, 0x99, 0x0d, 0x01, 0x00,
        0x00, 0x00, 0x00, 0x01, 0x59, 0x5a,
    ];
}
