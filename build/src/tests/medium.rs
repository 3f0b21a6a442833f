//! A disk on which every sector has its number in each of its words, so that one in the wrong place shows.

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Whole cylinders of 16 heads and 63 sectors.
pub const SECTORS: usize = 40 * 16 * 63;
/// The first sector of the first of two partitions, and how many each has: 8 MiB. There is something behind them.
pub const FIRST: usize = 2048;
/// See [`FIRST`].
pub const LENGTH: usize = 16384;

/// The disk's bytes. The first sector has the table.
pub fn medium() -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..SECTORS * SECTOR / 4).flat_map(|word| ((word * 4 / SECTOR) as u32).to_le_bytes()).collect();
    for n in 0..2 {
        let entry = &mut bytes[446 + 16 * n..][..16];
        entry[..8].copy_from_slice(&[0, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
        entry[8..12].copy_from_slice(&((FIRST + n * LENGTH) as u32).to_le_bytes());
        entry[12..].copy_from_slice(&(LENGTH as u32).to_le_bytes());
    }
    bytes[446 + 32..510].fill(0);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}
