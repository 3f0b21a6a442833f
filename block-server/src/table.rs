//! The partition table of a PC: reading one, and making one in which there is a single partition.
//!
//! The classical layout, as "Master boot record" in the UEFI Specification, section 5.2.1, has it. Left out: logical
//! partitions, and GPT.

use proto::block::{PARTITION_AT, SECTOR};

/// Bytes of a sector.
pub const BYTES: usize = SECTOR as usize;

/// Where the four entries are, and how long each is.
const ENTRIES: usize = 446;
const ENTRY: usize = 16;
/// The sector's last two bytes.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// Type of the entry that protects a GPT: it is the whole disk.
const PROTECTIVE: u8 = 0xee;
/// Types of entries that hold further tables.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Cylinder, head and sector of an address that these cannot express.
const NO_CHS: [u8; 3] = [0xfe, 0xff, 0xff];

/// A primary partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partition {
    /// What is in it, as the table has it.
    pub kind: u8,
    /// Its first sector.
    pub first: u64,
    /// How many sectors it has.
    pub sectors: u64,
}

/// Why there is no such partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoPartition {
    /// The disk has no partition table.
    NoTable,
    /// The entry is empty.
    Empty,
    /// The disk has a GPT.
    Gpt,
    /// It is one that holds others.
    Extended,
    /// It is not all on the disk, or has the table in it.
    Outside,
}

/// Partition `number`, from 1 on, of a disk with this first sector and this many sectors.
pub fn partition(sector: &[u8; BYTES], number: u8, sectors: u64) -> Result<Partition, NoPartition> {
    if !sector.ends_with(&SIGNATURE) {
        return Err(NoPartition::NoTable);
    }
    let mut entries = sector.get(ENTRIES..).unwrap_or_default().chunks_exact(ENTRY).take(4);
    let entry: Option<&[u8; ENTRY]> = match number {
        0 => None,
        number => entries.nth(usize::from(number) - 1).and_then(|entry| entry.try_into().ok()),
    };
    let Some(&[_, _, _, _, kind, _, _, _, a, b, c, d, e, f, g, h]) = entry else { return Err(NoPartition::Empty) };
    let (first, len) = (u64::from(u32::from_le_bytes([a, b, c, d])), u64::from(u32::from_le_bytes([e, f, g, h])));
    match kind {
        0 => Err(NoPartition::Empty),
        PROTECTIVE => Err(NoPartition::Gpt),
        kind if EXTENDED.contains(&kind) => Err(NoPartition::Extended),
        _ if first == 0 || len == 0 || first + len > sectors => Err(NoPartition::Outside),
        kind => Ok(Partition { kind, first, sectors: len }),
    }
}

/// The first sector of a disk of which this partition, from sector [`PARTITION_AT`] on, is the only one.
pub fn alone(partition: Partition) -> [u8; BYTES] {
    let mut sector = [0; BYTES];
    let mut entry = [0; ENTRY];
    entry[1..4].copy_from_slice(&NO_CHS);
    entry[4] = partition.kind;
    entry[5..8].copy_from_slice(&NO_CHS);
    entry[8..12].copy_from_slice(&(PARTITION_AT as u32).to_le_bytes());
    // It came from a table, so it fits one.
    entry[12..].copy_from_slice(&(partition.sectors as u32).to_le_bytes());
    sector[ENTRIES..ENTRIES + ENTRY].copy_from_slice(&entry);
    sector[BYTES - 2..].copy_from_slice(&SIGNATURE);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with these entries: type, first sector, sectors.
    fn table(entries: &[(u8, u32, u32)]) -> [u8; 512] {
        let mut sector = [0; 512];
        for (n, &(kind, first, sectors)) in entries.iter().enumerate() {
            let at = 0x1be + 16 * n;
            sector[at + 4] = kind;
            sector[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
            sector[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        }
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    #[test]
    fn partitions_are_those_of_the_table() {
        let sector = table(&[(0x83, 2048, 1000), (0x07, 4096, 904), (0x05, 1, 1), (0, 1, 1)]);
        assert_eq!(partition(&sector, 1, 5000), Ok(Partition { kind: 0x83, first: 2048, sectors: 1000 }));
        assert_eq!(partition(&sector, 2, 5000), Ok(Partition { kind: 0x07, first: 4096, sectors: 904 }));
        assert_eq!(partition(&sector, 2, 4999), Err(NoPartition::Outside));
        assert_eq!(partition(&sector, 3, 5000), Err(NoPartition::Extended));
        for number in [0, 4, 5, 255] {
            assert_eq!(partition(&sector, number, 5000), Err(NoPartition::Empty));
        }
        assert_eq!(partition(&[0; 512], 1, 5000), Err(NoPartition::NoTable));
        assert_eq!(partition(&table(&[(0xee, 1, 4999)]), 1, 5000), Err(NoPartition::Gpt));
        for (first, sectors) in [(0, 10), (10, 0), (u32::MAX, u32::MAX)] {
            assert_eq!(partition(&table(&[(0x83, first, sectors)]), 1, 5000), Err(NoPartition::Outside));
        }
    }

    #[test]
    fn a_table_of_its_own_has_only_the_one_partition() {
        let one = Partition { kind: 0x83, first: 2048, sectors: 1000 };
        let sector = alone(one);
        assert_eq!(partition(&sector, 1, 1064), Ok(Partition { first: 64, ..one }));
        assert_eq!(sector[..446], [0; 446]);
        assert_eq!(sector[462..510], [0; 48]);
    }
}
