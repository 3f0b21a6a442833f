//! Commands to a disk (ACS-3), and the frame that tells one (Serial ATA).

use disk::{SECTOR, Transfer};

/// A command of ATA.
#[derive(Clone, Copy)]
pub enum Ata {
    Identify,
    Transfer { way: Transfer, sector: u64, sectors: u32 },
    Flush,
}

impl Ata {
    /// Its number.
    const fn code(self) -> u32 {
        match self {
            Ata::Identify => 0xec,
            // READ DMA EXT, WRITE DMA EXT, FLUSH CACHE EXT.
            Ata::Transfer { way: Transfer::Read, .. } => 0x25,
            Ata::Transfer { way: Transfer::Write, .. } => 0x35,
            Ata::Flush => 0xea,
        }
    }

    /// The bytes in the buffer.
    pub const fn bytes(self) -> u64 {
        match self {
            Ata::Identify => SECTOR,
            Ata::Transfer { sectors, .. } => sectors as u64 * SECTOR,
            Ata::Flush => 0,
        }
    }

    /// Whether it brings the buffer to the disk.
    pub const fn writes(self) -> bool {
        matches!(self, Ata::Transfer { way: Transfer::Write, .. })
    }

    /// The frame that tells it to the disk: Register, host to device, which updates the command register (Serial ATA, section
    /// 10.3.4).
    pub const fn frame(self) -> [u32; 5] {
        const REGISTER: u32 = 0x8027;
        const LBA: u32 = 0x40 << 24;
        let (sector, sectors, device) = match self {
            Ata::Transfer { sector, sectors, .. } => (sector, sectors, LBA),
            Ata::Identify | Ata::Flush => (0, 0, 0),
        };
        let (low, high) = (sector as u32 & 0xff_ffff, (sector >> 24) as u32 & 0xff_ffff);
        [REGISTER | self.code() << 16, low | device, high, sectors & 0xffff, 0]
    }
}
