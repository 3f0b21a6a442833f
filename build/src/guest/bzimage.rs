//! Extracts the kernel proper, an ELF, from a bzImage or from a compressed file.
//!
//! The header is that of Linux's Documentation/arch/x86/boot.rst (protocol 2.08 and later name the payload). A payload is
//! the compressed vmlinux, mostly with its length appended (see `compression`). A bzImage without one, as memtest86+ is,
//! is the program itself and stays as it is.

use sha2::{Digest, Sha256};

use super::compression::Compression;
use super::error::Error;
use super::relocation::without_notes;

/// An ELF's magic number.
pub const ELF: &[u8] = b"\x7fELF";

/// Offsets of fields in the setup header.
const SETUP_SECTS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The first protocol version that names the payload.
const FIRST_WITH_PAYLOAD: u32 = 0x208;
/// Levels of nested compression: vmlinux in bzImage in bzImage.gz.
const DEEPEST: usize = 2;

/// Whether a kernel has a compressed part. An ELF has none, nor has a bzImage without a payload.
pub fn is_packed(file: &[u8]) -> Result<bool, Error> {
    match (file.starts_with(ELF), Compression::of(file)) {
        (true, _) => elf_for_a_pc(file).map(|()| false),
        (false, Some(_)) => Ok(true),
        (false, None) => Ok(payload(file)?.is_some()),
    }
}

/// A kernel without compressed parts: an ELF, which relocations may follow (see [`super::relocation`]), or a bzImage
/// without a payload. The ELF of a bzImage starts by Linux's boot protocol, as the bzImage would, whatever its notes say.
pub fn unpack(file: &[u8]) -> Result<Vec<u8>, Error> {
    let mut kernel = file.to_vec();
    let mut of_bzimage = false;
    for depth in 0..=DEEPEST {
        let packed = is_packed(&kernel);
        // The error concerns the decompressed contents, not the file itself.
        let inside = |error| if error == Error::NotABzImage && depth > 0 { Error::NotAnElf } else { error };
        if !packed.map_err(inside)? {
            return Ok(if of_bzimage { without_notes(kernel) } else { kernel });
        }
        of_bzimage |= Compression::of(&kernel).is_none();
        let packed = if Compression::of(&kernel).is_some() { Some(kernel.as_slice()) } else { payload(&kernel)? };
        let packed = packed.unwrap_or_default();
        kernel = match Compression::of(packed) {
            Some(compression) => compression.decompress(packed)?,
            None => packed.to_vec(),
        };
    }
    Err(Error::NotAnElf)
}

/// Refuses an ELF that no PC runs: e_ident's class and byte order, and e_machine (System V ABI, chapter 4, and its supplements
/// for the i386 and x86-64).
fn elf_for_a_pc(elf: &[u8]) -> Result<(), Error> {
    let half = |at: usize| elf.get(at..at + 2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    match (elf.get(4), elf.get(5), half(18)) {
        (Some(1), Some(1), Some(3)) | (Some(2), Some(1), Some(62)) => Ok(()),
        // The guest's loader reports what is not all there.
        (.., None) => Ok(()),
        (.., Some(machine)) => Err(Error::OtherMachine(machine)),
    }
}

/// The compressed kernel inside the image, if its header names one.
fn payload(image: &[u8]) -> Result<Option<&[u8]>, Error> {
    if image.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
        return Err(Error::NotABzImage);
    }
    let length = match field(image, VERSION, 2)? {
        FIRST_WITH_PAYLOAD.. => field(image, PAYLOAD_LENGTH, 4)? as usize,
        _ => 0,
    };
    if length == 0 {
        return Ok(None);
    }
    // For historical reasons 0 means 4.
    let sectors = match field(image, SETUP_SECTS, 1)? {
        0 => 4,
        sectors => sectors as usize,
    };
    let start = (sectors + 1) * 512 + field(image, PAYLOAD_OFFSET, 4)? as usize;
    image.get(start..start + length).map(Some).ok_or(Error::Truncated)
}

/// A little-endian field of the header.
fn field(image: &[u8], at: usize, width: usize) -> Result<u32, Error> {
    let bytes = image.get(at..at + width).ok_or(Error::Truncated)?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
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

    fn unpacked(image: &[u8]) -> Vec<u8> {
        assert_eq!(is_packed(image), Ok(true));
        unpack(image).unwrap()
    }

    #[test]
    fn a_gzip_payload_is_unpacked() {
        assert_eq!(unpacked(&bzimage(&gzip(b"\x7fELF and so on"))), b"\x7fELF and so on");
    }

    #[test]
    fn the_length_appended_to_an_xz_payload_is_not_part_of_it() {
        // `printf '\x7fELF xz' | xz --check=crc32 --x86 --lzma2`, then the length as the kernel's build appends it.
        let mut payload = XZ.to_vec();
        payload.extend_from_slice(&7u32.to_le_bytes());
        assert_eq!(unpacked(&bzimage(&payload)), b"\x7fELF xz");
    }

    #[test]
    fn the_length_appended_to_a_zstd_payload_is_not_part_of_it() {
        // A frame with one raw block (RFC 8878): magic, single segment of 7 bytes, last block raw of 7 bytes.
        let mut payload = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, 7, 0x39, 0, 0];
        payload.extend_from_slice(b"\x7fELF zs");
        payload.extend_from_slice(&7u32.to_le_bytes());
        assert_eq!(unpacked(&bzimage(&payload)), b"\x7fELF zs");
    }

    #[test]
    fn an_unreadable_compression_is_named() {
        assert_eq!(unpack(&bzimage(b"BZh9")), Err(Error::Compression("bzip2")));
        assert!(Error::Compression("bzip2").remedy().contains("decompress = \"guest\""));
    }

    #[test]
    fn a_file_that_is_no_kernel_is_named_so() {
        assert_eq!(unpack(b"#!/bin/sh\n"), Err(Error::NotABzImage));
        assert_eq!(unpack(&bzimage(&gzip(b"text"))), Err(Error::NotAnElf));
        assert_eq!(unpack(&gzip(b"text")), Err(Error::NotAnElf));
        assert_eq!(unpack(&gzip(&gzip(&gzip(&gzip(b"\x7fELF"))))), Err(Error::NotAnElf));
    }

    #[test]
    fn a_compressed_file_is_unpacked_whatever_is_in_it() {
        assert_eq!(unpacked(&gzip(b"\x7fELF and so on")), b"\x7fELF and so on");
        assert_eq!(unpacked(&gzip(&bzimage(&gzip(b"\x7fELF and so on")))), b"\x7fELF and so on");
        assert_eq!(unpacked(XZ), b"\x7fELF xz");
    }

    #[test]
    fn what_holds_nothing_compressed_stays_as_it_is() {
        assert_eq!(is_packed(b"\x7fELF and so on"), Ok(false));
        assert_eq!(is_packed(&bzimage(b"")), Ok(false), "a bzImage that is the program itself");
        assert_eq!(unpack(&bzimage(b"")), Ok(bzimage(b"")));
        let mut old = bzimage(b"");
        old[0x206] = 0x07;
        assert_eq!(is_packed(&old), Ok(false), "of a protocol without payload fields");
    }

    #[test]
    fn kernels_of_both_widths_are_taken_and_no_others_in_whatever_they_come() {
        let elf = |class, order, machine| {
            let mut elf = [b"\x7fELF".as_slice(), &[class, order, 1]].concat();
            elf.resize(64, 0);
            elf[18] = machine;
            elf
        };
        for kernel in [elf(1, 1, 3), elf(2, 1, 62)] {
            for file in [kernel.clone(), gzip(&kernel), bzimage(&gzip(&kernel))] {
                assert_eq!(unpack(&file), Ok(kernel.clone()));
            }
        }
        // 64-bit ARM, x86-64's ABI with 32-bit addresses, and a big-endian one.
        for (kernel, machine) in [(elf(2, 1, 183), 183), (elf(1, 1, 62), 62), (elf(2, 2, 62), 62)] {
            for file in [kernel.clone(), gzip(&kernel), bzimage(&gzip(&kernel))] {
                assert_eq!(unpack(&file), Err(Error::OtherMachine(machine)));
            }
        }
        assert!(Error::OtherMachine(183).to_string().contains("ARM"));
    }

    #[test]
    fn a_truncated_file_is_an_error_at_every_length() {
        let image = bzimage(&gzip(b"\x7fELF and so on"));
        for length in 0..image.len() {
            assert!(unpack(&image[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_damaged_payload_is_an_error() {
        let mut image = bzimage(&gzip(b"\x7fELF and so on"));
        let last = image.len() - 6;
        image[last] ^= 0xff;
        assert!(matches!(unpack(&image), Err(Error::Corrupt(_))));
    }

    const XZ: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x01, 0x04, 0x00, 0x21, 0x01,
        0x16, 0x00, 0x0d, 0x86, 0x35, 0x1f, 0x01, 0x00, 0x06, 0x7f, 0x45, 0x4c, 0x46, 0x20, 0x78, 0x7a, 0x00, 0x00,
        0xf6, 0x7b, 0xde, 0x94, 0x00, 0x01, 0x1b, 0x07, 0x12, 0xeb, 0xd4, 0x17, 0x90, 0x42, 0x99, 0x0d, 0x01, 0x00,
        0x00, 0x00, 0x00, 0x01, 0x59, 0x5a,
    ];
}
