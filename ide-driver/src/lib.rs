//! A disk behind an IDE controller with bus-master DMA: commands, and nothing of rings or capabilities.
//!
//! ATA-7 (registers, commands) and "Programming Interface for Bus Master IDE Controller", revision 1.0. One disk: the master
//! of the primary channel, at its ISA ports. Left out: ATAPI, PIO transfers, queued commands, choosing a transfer mode,
//! which firmware has done.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "image")]
pub mod machine;

use disk::{Fault, SECTOR, Transfer};
use mmio::{OutOfRange, Ports, Window};

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

/// Sectors of a command at most. One region of the bus master, which does not cross a multiple of 64 KiB, has room for them.
const STRETCH: u32 = 128;
const REGION: u64 = STRETCH as u64 * SECTOR;
/// Bytes of an entry of the bus master's table, and the mark of the last one.
const ENTRY: u64 = 8;
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

/// A direction, as the bus master's command has it.
const fn direction(way: Transfer) -> u8 {
    match way {
        Transfer::Read => BM_TO_MEMORY,
        Transfer::Write => 0,
    }
}

/// The sectors of a request in stretches of one command each.
fn stretches(sector: u64, sectors: u32) -> impl Iterator<Item = (u64, u32)> {
    (0..sectors).step_by(STRETCH as usize).map(move |at| (sector + u64::from(at), STRETCH.min(sectors - at)))
}

/// The disk.
#[derive(Debug)]
pub struct Disk<C> {
    controller: C,
    /// The bus master's first port.
    master: u16,
    /// The bus master's table, and its address on the bus.
    table: (Window, u64),
    /// Two regions, and their addresses: the disk is at one while the other's bytes are copied.
    buffers: [(Window, u64); 2],
    /// How many sectors it has.
    sectors: u64,
}

impl<C: Controller> disk::Disk for Disk<C> {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(
        &mut self,
        sector: u64,
        sectors: u32,
        mut take: impl FnMut(Window) -> Result<(), OutOfRange>,
    ) -> Result<(), Fault> {
        self.check(sector, sectors)?;
        let mut taken = Ok(());
        let mut last = None;
        for (n, (sector, sectors)) in stretches(sector, sectors).enumerate() {
            let buffer = self.start(Transfer::Read, n, sector, sectors)?;
            if let Some(last) = last.replace(buffer) {
                taken = taken.and_then(|()| take(last));
            }
            self.finish(Transfer::Read)?;
        }
        taken.and_then(|()| last.map_or(Ok(()), take)).map_err(Fault::from)
    }

    fn write(
        &mut self,
        sector: u64,
        sectors: u32,
        mut give: impl FnMut(Window) -> Result<(), OutOfRange>,
    ) -> Result<(), Fault> {
        self.check(sector, sectors)?;
        let mut busy = false;
        for (n, (sector, sectors)) in stretches(sector, sectors).enumerate() {
            let given = self.buffer(n, sectors).and_then(&mut give);
            if busy {
                self.finish(Transfer::Write)?;
            }
            given?;
            self.start(Transfer::Write, n, sector, sectors)?;
            busy = true;
        }
        self.finish(Transfer::Write)
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
    /// Resets the channel and asks its first disk what it is. `memory` is at `bus` for the controller, whose addresses have
    /// 32 bits.
    pub fn find(controller: C, master: u16, memory: Window, bus: u64) -> Result<Self, Fault> {
        if bus.checked_add(memory.len()).is_none_or(|end| end > 1 << 32) {
            return Err(Fault::Memory);
        }
        // Regions begin at multiples of their length. The table, of one entry, is in front of them or behind.
        let first = bus.next_multiple_of(REGION) - bus;
        let part = |at, len| Ok::<_, Fault>((memory.part(at, len)?, bus + at));
        let buffers = [part(first, REGION)?, part(first + REGION, REGION)?];
        let table = part(if first > 0 { 0 } else { 2 * REGION }, ENTRY)?;
        let mut disk = Self { controller, master, table, buffers, sectors: 0 };
        disk.reset()?;
        disk.sectors = disk.identify()?;
        Ok(disk)
    }

    /// Whether there are such sectors.
    fn check(&self, sector: u64, sectors: u32) -> Result<(), Fault> {
        let end = sector.checked_add(sectors.into()).filter(|&end| end <= self.sectors);
        if end.is_some() && sectors > 0 { Ok(()) } else { Err(Fault::Disk) }
    }

    /// The bytes of the `n`th stretch.
    fn buffer(&self, n: usize, sectors: u32) -> Result<Window, OutOfRange> {
        let [(even, _), (odd, _)] = &self.buffers;
        if n.is_multiple_of(2) { even } else { odd }.part(0, u64::from(sectors) * SECTOR)
    }

    /// Has the disk begin with the `n`th stretch of a request; returns where its bytes are.
    fn start(&mut self, way: Transfer, n: usize, sector: u64, sectors: u32) -> Result<Window, Fault> {
        let buffer = self.buffer(n, sectors)?;
        let [(_, even), (_, odd)] = self.buffers;
        let (table, at) = self.table;
        table.write_u32(0, if n.is_multiple_of(2) { even } else { odd } as u32)?;
        // 64 KiB are 0.
        table.write_u32(4, buffer.len() as u32 & 0xffff | LAST)?;
        let direction = direction(way);
        let wide = sector + u64::from(sectors) > END_28;
        let command = match (way, wide) {
            (Transfer::Read, false) => READ_DMA,
            (Transfer::Read, true) => READ_DMA_EXT,
            (Transfer::Write, false) => WRITE_DMA,
            (Transfer::Write, true) => WRITE_DMA_EXT,
        };
        self.ready()?;
        let (master, c) = (self.master, &mut self.controller);
        c.out32(master + BM_TABLE, at as u32);
        c.out8(master + BM_COMMAND, direction);
        c.out8(master + BM_STATUS, BM_ERROR | BM_INTERRUPT);
        self.address(sector, sectors, wide);
        let c = &mut self.controller;
        c.out8(COMMAND, command);
        c.out8(master + BM_COMMAND, direction | BM_START);
        Ok(buffer)
    }

    /// Waits for the end of the command that was started.
    fn finish(&mut self, way: Transfer) -> Result<(), Fault> {
        let ended = self.end(true);
        self.controller.out8(self.master + BM_COMMAND, direction(way));
        self.after(ended)
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
