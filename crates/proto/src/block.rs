//! Blocks of a disk, by a pair of record rings (`mmio::RecordRing`) between two processes: requests one way, completions the
//! other. block-server is the requests' consumer for its clients, and their producer for the drivers of disks.
//!
//! A request is [`Request::BYTES`] bytes, and the data of a write behind them; a completion is [`Completion::BYTES`] bytes,
//! and the data of a read behind them. Completions come in any order, each with its request's tag. The first request is
//! [`Operation::Hello`], also of a process that begins again: its completion comes after those of all requests before it,
//! whoever made them, and says what the disk is.

use core::fmt;

use heapless::Vec;
use layout::{
    Service, Slot,
    config::{BlockRings, Name, Window},
    limits::{MAX_DISKS, MAX_EXPORTS},
};
use serde::{Deserialize, Serialize};

/// The server.
pub const SERVICE: Service = Service { word: "block", server: "block-server", slot: Slot(14) };

/// Bytes of a sector.
pub const SECTOR: u32 = 512;
/// Sectors of a request at most: what Linux reads ahead by default.
pub const MOST: u32 = 256;
/// Bytes of a ring in which a few of the longest records have room.
pub const RING_BYTES: u64 = (512 << 10) + 4096;
/// First sector of a partition that a client gets as a disk of its own, behind the table with only this partition.
pub const PARTITION_AT: u64 = 64;

/// What block-server finds at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The disks.
    pub disks: Vec<Disk, MAX_DISKS>,
    /// What clients get of them.
    pub exports: Vec<Export, MAX_EXPORTS>,
    /// The buffer shared with fileserver, if it is a client of that.
    pub files: Option<Window>,
}

/// A disk, and the process that drives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its name in the description.
    pub name: Name,
    /// The rings shared with the driver.
    pub rings: BlockRings,
    /// Signals the driver.
    pub signal: Slot,
}

/// A disk as a client has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The client.
    pub client: Name,
    /// Where its sectors are.
    pub source: Source,
    /// What of it.
    pub part: Part,
    /// Writes are refused.
    pub read_only: bool,
    /// The rings shared with the client.
    pub rings: BlockRings,
    /// Signals the client.
    pub signal: Slot,
}

/// Where the sectors of a client's disk are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// On a disk, by its position.
    Disk(u8),
    /// In a file of fileserver's. Nobody writes it.
    File {
        /// Its name.
        name: Name,
        /// Memory for what this client writes, if it may: zeros when block-server begins.
        layer: Option<Window>,
    },
}

/// What a client gets of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// All of it.
    Whole,
    /// A primary partition, 1 to 4, behind a table in which there is no other.
    Partition(u8),
    /// Some sectors, from the first one on.
    Slice {
        /// The first one.
        first: u64,
        /// How many.
        sectors: u64,
    },
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Whole => f.write_str("all"),
            Part::Partition(number) => write!(f, "partition {number}"),
            Part::Slice { first, sectors } => write!(f, "sectors from {first} on, {sectors} of them"),
        }
    }
}

/// Bytes of a client's writes to a file that are kept together.
pub const BLOCK: u64 = 4096;

/// Bytes of the table at the beginning of a layer, for a file of this length: a word for each block.
pub const fn layer_table(file: u64) -> u64 {
    (file.div_ceil(BLOCK) * 4).next_multiple_of(BLOCK)
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Say what the disk is, after the ends of all requests before.
    Hello,
    /// Read sectors.
    Read {
        /// The first one.
        sector: u64,
        /// How many: 1 to [`MOST`].
        sectors: u32,
    },
    /// Write sectors, whose bytes follow.
    Write {
        /// The first one.
        sector: u64,
        /// How many: 1 to [`MOST`].
        sectors: u32,
    },
    /// Bring all writes that have ended to the medium.
    Flush,
}

/// A request, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's name for it.
    pub tag: u64,
    /// What to do.
    pub operation: Operation,
}

impl Request {
    /// Bytes of its encoding: tag, kind, sectors, sector.
    pub const BYTES: usize = 24;

    /// Encodes it.
    pub fn bytes(&self) -> [u8; Self::BYTES] {
        let (kind, sector, sectors) = match self.operation {
            Operation::Hello => (0u32, 0, 0),
            Operation::Read { sector, sectors } => (1, sector, sectors),
            Operation::Write { sector, sectors } => (2, sector, sectors),
            Operation::Flush => (3, 0, 0),
        };
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.tag.to_le_bytes());
        bytes[8..12].copy_from_slice(&kind.to_le_bytes());
        bytes[12..16].copy_from_slice(&sectors.to_le_bytes());
        bytes[16..].copy_from_slice(&sector.to_le_bytes());
        bytes
    }

    /// Decodes one of which `data` bytes follow; `None` if there is no such request, or these are not its data.
    pub fn of(bytes: &[u8; Self::BYTES], data: u32) -> Option<Self> {
        let [tag, how, sector] = words(bytes);
        let (kind, sectors) = (how as u32, (how >> 32) as u32);
        let whole = (1..=MOST).contains(&sectors);
        let operation = match kind {
            0 if data == 0 => Operation::Hello,
            1 if whole && data == 0 => Operation::Read { sector, sectors },
            2 if whole && data == sectors * SECTOR => Operation::Write { sector, sectors },
            3 if data == 0 => Operation::Flush,
            _ => return None,
        };
        Some(Self { tag, operation })
    }

    /// Bytes of data in the completion, if it is carried out.
    pub const fn answer(&self) -> u32 {
        match self.operation {
            Operation::Hello => Geometry::BYTES as u32,
            Operation::Read { sectors, .. } => sectors * SECTOR,
            Operation::Write { .. } | Operation::Flush => 0,
        }
    }
}

/// How a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was carried out.
    Done,
    /// The disk has failed.
    Failed,
    /// It was not one that this client may make.
    Refused,
}

/// The end of a request, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The request's tag.
    pub tag: u64,
    /// How it has ended.
    pub status: Status,
}

impl Completion {
    /// Bytes of its encoding: tag, status.
    pub const BYTES: usize = 16;

    /// Encodes it.
    pub fn bytes(&self) -> [u8; Self::BYTES] {
        let status: u64 = match self.status {
            Status::Done => 0,
            Status::Failed => 1,
            Status::Refused => 2,
        };
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.tag.to_le_bytes());
        bytes[8..].copy_from_slice(&status.to_le_bytes());
        bytes
    }

    /// Decodes one. What is no status is a failure.
    pub fn of(bytes: &[u8; Self::BYTES]) -> Self {
        let [tag, status] = words(bytes);
        let status = match status {
            0 => Status::Done,
            2 => Status::Refused,
            _ => Status::Failed,
        };
        Self { tag, status }
    }
}

/// What a disk is: the data of the completion of [`Operation::Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// How many sectors it has.
    pub sectors: u64,
    /// Writes are refused.
    pub read_only: bool,
}

impl Geometry {
    /// Bytes of its encoding.
    pub const BYTES: usize = 16;

    /// Encodes it.
    pub fn bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.sectors.to_le_bytes());
        bytes[8] = self.read_only.into();
        bytes
    }

    /// Decodes it.
    pub fn of(bytes: &[u8; Self::BYTES]) -> Self {
        let [sectors, flags] = words(bytes);
        Self { sectors, read_only: flags & 1 != 0 }
    }
}

/// Little-endian words.
fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATIONS: [Operation; 4] = [
        Operation::Hello,
        Operation::Read { sector: u64::MAX, sectors: MOST },
        Operation::Write { sector: 7, sectors: 1 },
        Operation::Flush,
    ];

    #[test]
    fn what_is_sent_arrives() {
        for operation in OPERATIONS {
            let request = Request { tag: 0x0123_4567_89ab_cdef, operation };
            let data = if let Operation::Write { sectors, .. } = operation { sectors * SECTOR } else { 0 };
            assert_eq!(Request::of(&request.bytes(), data), Some(request));
            assert_eq!(Request::of(&request.bytes(), data + 1), None, "{operation:?} with other data");
        }
        for status in [Status::Done, Status::Failed, Status::Refused] {
            let completion = Completion { tag: 9, status };
            assert_eq!(Completion::of(&completion.bytes()), completion);
        }
        let geometry = Geometry { sectors: 1 << 40, read_only: true };
        assert_eq!(Geometry::of(&geometry.bytes()), geometry);
    }

    #[test]
    fn what_is_no_request_is_none() {
        for sectors in [0, MOST + 1, u32::MAX] {
            let request = Request { tag: 1, operation: Operation::Read { sector: 0, sectors } };
            assert_eq!(Request::of(&request.bytes(), 0), None, "{sectors}");
            let request = Request { tag: 1, operation: Operation::Write { sector: 0, sectors } };
            assert_eq!(Request::of(&request.bytes(), sectors.wrapping_mul(SECTOR)), None, "{sectors}");
        }
        let mut bytes = Request { tag: 1, operation: Operation::Flush }.bytes();
        bytes[8] = 4;
        assert_eq!(Request::of(&bytes, 0), None);
        assert_eq!(Completion::of(&[0xff; 16]).status, Status::Failed);
    }
}
