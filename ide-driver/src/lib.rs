//! A disk behind an IDE controller with bus-master DMA: commands, and nothing of rings or capabilities.
//!
//! ATA-7 (registers, commands) and "Programming Interface for Bus Master IDE Controller", revision 1.0. One disk: the master
//! of the primary channel, at its ISA ports. Left out: ATAPI, PIO transfers, queued commands, choosing a transfer mode,
//! which firmware has done.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "image")]
pub mod machine;

use disk::{BUFFER, Fault, SECTOR, Transfer};
use mmio::{Ports, Window};

/// The command block's ports, and that of device control.
pub const BLOCK: u16 = 0x1f0;
/// See [`BLOCK`].
pub const CONTROL: u16 = 0x3f6;
// Registers of the command block.
const DATA: u16 = BLOCK;
const COUNT: u16 = BLOCK + 2;
const LBA_LOW: u16 = BLOCK + 3;
const LBA_MID: u16 = BLOCK + 4;
const LBA_HIGH: u16 = BLOCK + 5;
const DEVICE: u16 = BLOCK + 6;
/// The last one.
pub const COMMAND: u16 = BLOCK + 7;
/// The device register: LBA, master.
const MASTER: u8 = 0xe0;
// Bits of the status, which reads at the command register's port.
const ERR: u8 = 1 << 0;
const DRQ: u8 = 1 << 3;
const DF: u8 = 1 << 5;
const BSY: u8 = 1 << 7;
/// What a channel without a disk reads as.
const NOTHING: u8 = 0xff;
/// Device control: software reset.
const SRST: u8 = 1 << 2;

// Commands.
const READ_DMA: u8 = 0xc8;
const READ_DMA_EXT: u8 = 0x25;
const WRITE_DMA: u8 = 0xca;
const WRITE_DMA_EXT: u8 = 0x35;
const FLUSH_CACHE: u8 = 0xe7;
const IDENTIFY: u8 = 0xec;

// Words of what IDENTIFY DEVICE gives.
const SECTORS_28: usize = 60;
const SUPPORTED: usize = 83;
const LBA_48: u16 = 1 << 10;
const SECTORS_48: usize = 100;
/// Sectors that commands with 28 bits reach.
const END_28: u64 = 1 << 28;

// Registers of the bus master, of the primary channel.
const BM_COMMAND: u16 = 0;
const BM_STATUS: u16 = 2;
const BM_TABLE: u16 = 4;
/// Bits of its command: start, and that it writes to memory.
const BM_START: u8 = 1 << 0;
const BM_TO_MEMORY: u8 = 1 << 3;
/// Bits of its status, which writing ones clears: error, and interrupt.
const BM_ERROR: u8 = 1 << 1;
const BM_INTERRUPT: u8 = 1 << 2;

/// Where in the memory the table of regions is.
const TABLE: u64 = 0;
/// No region crosses a multiple of this.
const REGION: u64 = 1 << 16;
/// The last entry of the table.
const LAST: u32 = 1 << 31;

/// Looks at a register that is to change soon.
const LOOKS: u32 = 100_000;

/// What is not the disk's own.
pub trait Controller: Ports {
    /// Waits for an interrupt of the channel, and lets it interrupt again; false if none comes in time.
    fn wait(&mut self) -> bool;
    /// Lets the channel interrupt again.
    fn acknowledge(&mut self);
}

/// The disk.
#[derive(Debug)]
pub struct Disk<C> {
    controller: C,
    /// The bus master's first port.
    master: u16,
    memory: Window,
    /// The memory's address on the bus.
    bus: u64,
    /// How many sectors it has.
    sectors: u64,
}

impl<C: Controller> disk::Disk for Disk<C> {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn transfer(&mut self, way: Transfer, sector: u64, sectors: u32) -> Result<(), Fault> {
        let bytes = u64::from(sectors) * SECTOR;
        let end = sector.checked_add(sectors.into()).filter(|&end| end <= self.sectors);
        if end.is_none() || sectors == 0 || sectors > 256 {
            return Err(Fault::Disk);
        }
        self.memory.part(BUFFER, bytes)?;
        self.describe(bytes)?;
        let direction = if way == Transfer::Read { BM_TO_MEMORY } else { 0 };
        let wide = end.is_some_and(|end| end > END_28);
        let command = match (way, wide) {
            (Transfer::Read, false) => READ_DMA,
            (Transfer::Read, true) => READ_DMA_EXT,
            (Transfer::Write, false) => WRITE_DMA,
            (Transfer::Write, true) => WRITE_DMA_EXT,
        };
        self.ready()?;
        let (master, c) = (self.master, &mut self.controller);
        c.out32(master + BM_TABLE, (self.bus + TABLE) as u32);
        c.out8(master + BM_COMMAND, direction);
        c.out8(master + BM_STATUS, BM_ERROR | BM_INTERRUPT);
        self.address(sector, sectors, wide);
        let c = &mut self.controller;
        c.out8(COMMAND, command);
        c.out8(master + BM_COMMAND, direction | BM_START);
        let ended = self.end(true);
        self.controller.out8(master + BM_COMMAND, direction);
        self.after(ended)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.ready()?;
        self.controller.out8(DEVICE, MASTER);
        self.controller.out8(self.master + BM_STATUS, BM_ERROR | BM_INTERRUPT);
        self.controller.out8(COMMAND, FLUSH_CACHE);
        let ended = self.end(false);
        self.after(ended)
    }

    fn stray(&mut self) {
        // Reading the status takes the interrupt away.
        self.controller.in8(COMMAND);
        self.controller.acknowledge();
    }
}

impl<C: Controller> Disk<C> {
    /// Resets the channel and asks its first disk what it is. The controller's addresses have 32 bits.
    pub fn find(controller: C, master: u16, memory: Window, bus: u64) -> Result<Self, Fault> {
        if bus.checked_add(memory.len()).is_none_or(|end| end > 1 << 32) {
            return Err(Fault::Memory);
        }
        let mut disk = Self { controller, master, memory, bus, sectors: 0 };
        disk.reset()?;
        disk.sectors = disk.identify()?;
        Ok(disk)
    }

    /// Writes the table of the regions that the buffer's first bytes are.
    fn describe(&self, bytes: u64) -> Result<(), Fault> {
        let (mut at, end) = (self.bus + BUFFER, self.bus + BUFFER + bytes);
        let mut entry = TABLE;
        while at < end {
            let next = (at + 1).next_multiple_of(REGION).min(end);
            // 64 KiB are 0.
            let len = (next - at) as u32 & 0xffff;
            self.memory.write_u32(entry, at as u32)?;
            self.memory.write_u32(entry + 4, len | if next == end { LAST } else { 0 })?;
            (at, entry) = (next, entry + 8);
        }
        Ok(())
    }

    /// Writes the numbers of the sectors.
    fn address(&mut self, sector: u64, sectors: u32, wide: bool) {
        let byte = |n: u32| (sector >> (8 * n)) as u8;
        let c = &mut self.controller;
        c.out8(DEVICE, if wide { MASTER } else { MASTER | byte(3) & 0xf });
        if wide {
            // The registers are two deep: the upper bytes first.
            c.out8(COUNT, (sectors >> 8) as u8);
            c.out8(LBA_LOW, byte(3));
            c.out8(LBA_MID, byte(4));
            c.out8(LBA_HIGH, byte(5));
        }
        // 256 are 0 of eight bits.
        c.out8(COUNT, sectors as u8);
        c.out8(LBA_LOW, byte(0));
        c.out8(LBA_MID, byte(1));
        c.out8(LBA_HIGH, byte(2));
    }

    /// Waits for the end of a command.
    fn end(&mut self, dma: bool) -> Result<(), Fault> {
        loop {
            if !self.controller.wait() {
                return Err(Fault::Silent);
            }
            // Reading it takes the interrupt away.
            let status = self.controller.in8(COMMAND);
            if status & BSY != 0 {
                continue; // one from before
            }
            if status & (ERR | DF) != 0 {
                return Err(Fault::Disk);
            }
            // The bus master says that it has seen the interrupt when all data are in memory.
            let (master, c) = (self.master + BM_STATUS, &mut self.controller);
            let done = |master: &u8| !dma || master & (BM_INTERRUPT | BM_ERROR) != 0;
            let master = (0..LOOKS).map(|_| c.in8(master)).find(done).ok_or(Fault::Silent)?;
            return if dma && master & BM_ERROR != 0 { Err(Fault::Dma) } else { Ok(()) };
        }
    }

    /// After a command that has no end, the channel begins again.
    fn after(&mut self, ended: Result<(), Fault>) -> Result<(), Fault> {
        if ended == Err(Fault::Silent) {
            self.reset()?;
        }
        ended
    }

    /// Waits until the disk takes a command. One that does not begins again, since its last command may have failed halfway.
    fn ready(&mut self) -> Result<(), Fault> {
        if self.idle().is_ok() { Ok(()) } else { self.reset() }
    }

    /// Waits for the end of the last command.
    fn idle(&mut self) -> Result<(), Fault> {
        match (0..LOOKS).any(|_| self.controller.in8(COMMAND) & (BSY | DRQ) == 0) {
            true => Ok(()),
            false => Err(Fault::Silent),
        }
    }

    fn reset(&mut self) -> Result<(), Fault> {
        self.controller.out8(self.master + BM_COMMAND, 0);
        self.controller.out8(CONTROL, SRST);
        // 5 µs: reads of the status take longer.
        for _ in 0..16 {
            self.controller.in8(CONTROL);
        }
        self.controller.out8(CONTROL, 0);
        if self.controller.in8(COMMAND) == NOTHING {
            return Err(Fault::Absent);
        }
        self.idle()
    }

    /// Asks for the number of sectors.
    fn identify(&mut self) -> Result<u64, Fault> {
        self.controller.out8(DEVICE, MASTER);
        self.idle()?;
        self.controller.out8(COMMAND, IDENTIFY);
        let c = &mut self.controller;
        let status = (0..LOOKS).map(|_| c.in8(COMMAND)).find(|status| status & BSY == 0).ok_or(Fault::Silent)?;
        if status & ERR != 0 || status & DRQ == 0 {
            return Err(Fault::Absent);
        }
        let mut words = [0; 256];
        for word in &mut words {
            *word = c.in16(DATA);
        }
        let number =
            |at: usize, len| words.iter().skip(at).take(len).rev().fold(0, |sum, &word| sum << 16 | u64::from(word));
        let wide = words.get(SUPPORTED).is_some_and(|word| word & LBA_48 != 0);
        Ok(if wide { number(SECTORS_48, 4) } else { number(SECTORS_28, 2) })
    }
}
