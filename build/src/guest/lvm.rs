//! A physical volume of LVM: with one volume group, `debian`, and in it one logical volume, `root`, that fills it.
//!
//! Device-mapper and root would be needed to have lvm2 make it, so this writes the format, version 2 of LVM's metadata, as
//! lvm2's lib/format_text/layout.h and lib/label/label.h define it. In the second sector is the label, and behind it the volume's
//! header, which says where the data are, and where the metadata are: a header of a sector, and the group as text. Nothing else is
//! written. What is optional is left out: a second copy of the metadata, and an area for boot loaders.

/// The logical volume, as device-mapper names it.
pub const DEVICE: &str = "/dev/mapper/debian-root";

const SECTOR: usize = 512;
/// Where the metadata begin, and where the data do.
const METADATA: usize = 4096;
const DATA: usize = 1 << 20;
/// lvm2's default.
const EXTENT: u64 = 4 << 20;

const VOLUME_ID: &str = "PORTCU-LLIS-disk-pvol-0000-0000-000001";
const GROUP_ID: &str = "PORTCU-LLIS-disk-vgrp-0000-0000-000002";
const ROOT_ID: &str = "PORTCU-LLIS-disk-root-0000-0000-000003";

/// What a physical volume of `size` bytes begins with.
pub fn head(size: u64) -> Vec<u8> {
    let mut head = vec![0; DATA];
    let text = text(size);
    head[METADATA + SECTOR..][..text.len()].copy_from_slice(&text);
    head[METADATA..][..SECTOR].copy_from_slice(&metadata_header(&text));
    head[SECTOR..][..SECTOR].copy_from_slice(&label(size));
    head
}

/// Where the logical volume lies in such a physical volume, and how long it is.
pub fn root(size: u64) -> (u64, u64) {
    (DATA as u64, extents(size) * EXTENT)
}

fn extents(size: u64) -> u64 {
    size.saturating_sub(DATA as u64) / EXTENT
}

/// `struct label_header` and, behind it, `struct pv_header`.
fn label(size: u64) -> [u8; SECTOR] {
    let mut sector = Fields::new();
    sector.bytes(b"LABELONE").u64(1);
    // The checksum, over all behind it.
    sector.u32(0);
    let header = 32;
    sector.u32(header).bytes(b"LVM2 001");
    sector.bytes(VOLUME_ID.replace('-', "").as_bytes()).u64(size);
    // Areas of data, then those of metadata, by offset and length; zeros end either list. This area of data goes to the end.
    sector.u64(DATA as u64).u64(0).u64(0).u64(0);
    sector.u64(METADATA as u64).u64((DATA - METADATA) as u64).u64(0).u64(0);
    sector.checked(16, 20)
}

/// `struct mda_header`, with the place of the text.
fn metadata_header(text: &[u8]) -> [u8; SECTOR] {
    let mut sector = Fields::new();
    sector.u32(0).bytes(b" LVM2 x[5A%r0N*>").u32(1);
    sector.u64(METADATA as u64).u64((DATA - METADATA) as u64);
    sector.u64(SECTOR as u64).u64(text.len() as u64).u32(checksum(text)).u32(0);
    sector.checked(0, 4)
}

/// The volume group, as vgcfgbackup(8) prints it. The zero at the end belongs to it.
fn text(size: u64) -> Vec<u8> {
    let sectors = |bytes: u64| bytes / SECTOR as u64;
    let (extents, extent) = (extents(size), sectors(EXTENT));
    let (size, start) = (sectors(size), sectors(DATA as u64));
    format!(
        "debian {{
id = \"{GROUP_ID}\"
seqno = 1
format = \"lvm2\"
status = [\"RESIZEABLE\", \"READ\", \"WRITE\"]
flags = []
extent_size = {extent}
max_lv = 0
max_pv = 0
metadata_copies = 0
physical_volumes {{
pv0 {{
id = \"{VOLUME_ID}\"
status = [\"ALLOCATABLE\"]
flags = []
dev_size = {size}
pe_start = {start}
pe_count = {extents}
}}
}}
logical_volumes {{
root {{
id = \"{ROOT_ID}\"
status = [\"READ\", \"WRITE\", \"VISIBLE\"]
flags = []
segment_count = 1
segment1 {{
start_extent = 0
extent_count = {extents}
type = \"striped\"
stripe_count = 1
stripes = [
\"pv0\", 0
]
}}
}}
}}
}}
contents = \"Text Format Volume Group\"
version = 1
description = \"\"
creation_host = \"portcullis\"
creation_time = 946684800
\0"
    )
    .into_bytes()
}

/// A sector that is filled from its beginning, little endian.
struct Fields {
    sector: [u8; SECTOR],
    at: usize,
}

impl Fields {
    const fn new() -> Self {
        Self { sector: [0; SECTOR], at: 0 }
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.sector[self.at..][..bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// The sector with its checksum, which lies at `at` and is over what begins at `from`.
    fn checked(mut self, at: usize, from: usize) -> [u8; SECTOR] {
        let sum = checksum(&self.sector[from..]);
        self.sector[at..][..4].copy_from_slice(&sum.to_le_bytes());
        self.sector
    }
}

/// lvm2's checksum: CRC-32 with another beginning, and without the inversion at the end.
fn checksum(bytes: &[u8]) -> u32 {
    crc(0xf597_a6cf, bytes)
}

fn crc(beginning: u32, bytes: &[u8]) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0xedb8_8320;
    bytes.iter().fold(beginning, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { REVERSED_POLYNOMIAL } else { 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 255 << 20;

    #[test]
    fn the_checksum_is_a_crc_32() {
        assert_eq!(!crc(!0, b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_areas_do_not_overlap_and_the_volume_ends_with_the_disk() {
        let (start, length) = root(SIZE);
        assert!(start + length <= SIZE && SIZE - (start + length) < EXTENT);
        assert!(METADATA + SECTOR + text(SIZE).len() < DATA);
        assert_eq!(root(0), (DATA as u64, 0));
    }

    #[test]
    fn each_header_leads_to_the_next() {
        let head = head(SIZE);
        let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap()) as usize;
        let half = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        assert_eq!((&head[512..520], &head[536..544]), (&b"LABELONE"[..], &b"LVM2 001"[..]));
        assert_eq!(half(512 + 16), checksum(&head[512 + 20..1024]));
        let volume = 512 + half(512 + 20) as usize;
        assert_eq!(word(volume + 32), SIZE as usize);
        // The list of areas of data has one, and the list behind its end one area of metadata.
        assert_eq!((word(volume + 40), word(volume + 56)), (DATA, 0));
        let metadata = word(volume + 72);
        assert_eq!(word(metadata + 24), metadata);
        assert_eq!(half(metadata), checksum(&head[metadata + 4..metadata + 512]));
        let (text, length) = (metadata + word(metadata + 40), word(metadata + 48));
        assert_eq!(half(metadata + 56), checksum(&head[text..text + length]));
        assert!(head[text..].starts_with(b"debian {\n") && head[text + length - 1] == 0);
    }
}
