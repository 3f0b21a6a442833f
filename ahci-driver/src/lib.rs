//! A disk behind an AHCI controller: commands, and nothing of rings or capabilities.
//!
//! Serial ATA AHCI 1.3.1 (registers, structures in memory; the sections named here are its own), and ACS-3 (commands, IDENTIFY
//! DEVICE). One disk, one command at a time, in slot 0. Left out: ATAPI, port multipliers, queued commands, power management
//! of the link, sectors of other sizes than 512 bytes, and disks without 48-bit commands.
#![no_std]
#![forbid(unsafe_code)]

mod ata;
#[cfg(feature = "image")]
pub mod machine;
mod registers;

use ata::Ata;
use disk::{BUFFER, Fault, SECTOR, Transfer};
use mmio::{OutOfRange, Window};
use registers::{
    ABSENT, AHCI, ALIGN, Bits, CAP, CAP2, CI, CLB, CMD, DET, DET_PRESENT, FB, GHC, HANDOVER, IS, PI, PORT, PORT_STEP,
    PX_IE, PX_IS, SCTL, SERR, SIG, SSTS, TFD,
};

// Where in the memory the controller's structures are (section 4.2): the command list, what the disk sends, and slot 0's
// command table with one region.
const LIST: u64 = 0;
const RECEIVED: u64 = 0x400;
const TABLE: u64 = 0x800;
const REGION: u64 = TABLE + 0x80;
/// Bytes of a region at most.
const REGION_BYTES: u64 = 4 << 20;

/// The signature of a disk (Serial ATA; section 3.3.9).
const DISK: u32 = 0x0000_0101;
/// Sectors that commands with 48 bits reach.
const END: u64 = 1 << 48;

// Words of what IDENTIFY DEVICE gives.
const SERIAL: usize = 10;
const MODEL: usize = 27;
const NAMES_END: usize = 47;
const SUPPORTED: usize = 83;
const SECTORS: usize = 100;
const SECTOR_SIZE: usize = 106;
/// Of the words of commands and sizes: the word is valid if its two highest bits are 01.
const VALID: (u16, u16) = (0xc000, 0x4000);
const LBA_48: u16 = 1 << 10;
const LONG_SECTORS: u16 = 1 << 12;

// Milliseconds.
const HANDOVER_TIME: u64 = 25;
const FIRMWARE_BUSY: u64 = 2000;
const RESET_TIME: u64 = 1000;
const STOP_TIME: u64 = 500;
/// In which a disk answers a reset of the link, if there is one (10 ms by Serial ATA).
const DETECTION: u64 = 100;
const LINK_TIME: u64 = 1000;
/// At least 1 ms (section 10.4.2).
const COMRESET_TIME: u64 = 2;
/// In which a disk is ready after a reset; one that has to spin up takes several seconds.
const READY_TIME: u64 = 10_000;
/// From the interrupt to the moment when the command is no longer issued.
const END_TIME: u64 = 10;
/// Interrupts in a row that end nothing.
const STRAYS: u32 = 1_000_000;

/// What is not the disk's own.
pub trait Controller {
    /// A register, by its offset.
    fn read(&mut self, at: u32) -> u32;
    /// See `read`.
    fn write(&mut self, at: u32, value: u32);
    /// Waits for an interrupt; false if none comes in time.
    fn wait(&mut self) -> bool;
    /// Lets the line interrupt again.
    fn acknowledge(&mut self);
    /// Lets some time pass.
    fn sleep(&mut self, milliseconds: u64);
}

/// What the link to the disk is good for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    /// The port takes commands.
    Up,
    /// It has to be started.
    Down,
    /// There is another disk now.
    Other,
}

/// Model, serial number and size: those of another disk differ.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Identity {
    names: [u16; NAMES_END - SERIAL],
    sectors: u64,
}

/// The disk.
#[derive(Debug)]
pub struct Disk<C> {
    controller: C,
    /// The port, and where its registers are.
    number: u8,
    port: u32,
    memory: Window,
    /// The memory's address on the bus.
    bus: u64,
    link: Link,
    identity: Option<Identity>,
    /// The disk has ended writes after the last flush, and so may have them in its cache only.
    dirty: bool,
    /// It was away since, perhaps without power.
    lost: bool,
}

impl<C: Controller> disk::Disk for Disk<C> {
    fn sectors(&self) -> u64 {
        self.identity.as_ref().map_or(0, |identity| identity.sectors)
    }

    fn read(
        &mut self,
        sector: u64,
        sectors: u32,
        mut take: impl FnMut(Window) -> Result<(), OutOfRange>,
    ) -> Result<(), Fault> {
        self.transfer(Transfer::Read, sector, sectors)?;
        Ok(take(self.buffer(sectors)?)?)
    }

    fn write(
        &mut self,
        sector: u64,
        sectors: u32,
        mut give: impl FnMut(Window) -> Result<(), OutOfRange>,
    ) -> Result<(), Fault> {
        give(self.buffer(sectors)?)?;
        self.transfer(Transfer::Write, sector, sectors)
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let ended = self.command(Ata::Flush);
        // What it had only in its cache is gone, and whoever has written it learns that now, once.
        if core::mem::take(&mut self.lost) {
            return ended.and(Err(Fault::Absent));
        }
        self.dirty &= ended.is_err();
        ended
    }

    fn stray(&mut self) {
        let status = self.get(PX_IS);
        self.set(PX_IS, status);
        self.controller.write(IS, 1 << self.number);
        if status & Bits::LINK != 0 {
            // Otherwise it interrupts again and again. The next command finds the link as it is.
            self.set(SERR, u32::MAX);
            self.lost |= self.dirty;
            self.link = Link::Down;
        }
        self.controller.acknowledge();
    }
}

impl<C: Controller> Disk<C> {
    /// Transfers sectors to or from the buffer; a write has ended when the disk says so.
    pub fn transfer(&mut self, way: Transfer, sector: u64, sectors: u32) -> Result<(), Fault> {
        let end = sector.checked_add(sectors.into()).filter(|&end| end <= disk::Disk::sectors(self));
        if end.is_none() || sectors == 0 {
            return Err(Fault::Disk);
        }
        let command = Ata::Transfer { way, sector, sectors };
        if command.bytes() > REGION_BYTES {
            return Err(Fault::Memory);
        }
        self.memory.part(BUFFER, command.bytes())?;
        // It may have begun to write when it fails.
        self.dirty |= way == Transfer::Write;
        self.command(command)
    }

    /// Where the bytes of a transfer are.
    fn buffer(&self, sectors: u32) -> Result<Window, OutOfRange> {
        self.memory.part(BUFFER, u64::from(sectors) * SECTOR)
    }

    /// Takes the controller from the firmware, resets it, and finds the disk: at `port`, or the one at the first port that has
    /// one. The controller's structures and the data go to `memory`, which has the address `bus` for it.
    pub fn find(mut controller: C, memory: Window, bus: u64, port: Option<u8>) -> Result<Self, Fault> {
        let capabilities = controller.read(CAP);
        if capabilities == ABSENT {
            return Err(Fault::Absent);
        }
        let end = bus.checked_add(memory.len()).ok_or(Fault::Memory)?;
        let reached = capabilities & Bits::S64A != 0 || end <= 1 << 32;
        if !reached || !bus.is_multiple_of(ALIGN) || memory.len() < BUFFER + SECTOR {
            return Err(Fault::Memory);
        }
        let (link, identity) = (Link::Down, None);
        let mut disk =
            Self { controller, number: 0, port: PORT, memory, bus, link, identity, dirty: false, lost: false };
        disk.take_over();
        disk.reset()?;
        disk.choose(port)?;
        Ok(disk)
    }

    /// Which port the disk is at.
    pub const fn port(&self) -> u8 {
        self.number
    }

    /// What the disk calls itself: bytes of ASCII, filled up with spaces.
    pub fn model(&self) -> [u8; 40] {
        let mut model = [b' '; 40];
        let words = self.identity.iter().flat_map(|identity| identity.names.iter().skip(MODEL - SERIAL));
        for (to, word) in model.as_chunks_mut::<2>().0.iter_mut().zip(words) {
            *to = word.to_be_bytes();
        }
        model
    }

    /// Asks the firmware for the controller (section 10.6). A firmware that does not answer has no say in it.
    fn take_over(&mut self) {
        let c = &mut self.controller;
        if c.read(CAP2) & Bits::BOH == 0 || c.read(HANDOVER) & Bits::BOS == 0 {
            return;
        }
        let old = c.read(HANDOVER);
        c.write(HANDOVER, old | Bits::OOS);
        c.sleep(HANDOVER_TIME);
        if c.read(HANDOVER) & Bits::BB != 0 {
            self.until(FIRMWARE_BUSY, |c| c.read(HANDOVER) & (Bits::BOS | Bits::BB) == 0);
        }
    }

    /// Resets the controller (section 10.4.3).
    fn reset(&mut self) -> Result<(), Fault> {
        self.controller.write(GHC, AHCI);
        self.controller.write(GHC, AHCI | Bits::HR);
        if !self.until(RESET_TIME, |c| c.read(GHC) & Bits::HR == 0) {
            return Err(Fault::Silent);
        }
        self.controller.write(GHC, AHCI);
        Ok(())
    }

    /// Finds the port with the disk. A disk that does not answer is an error, and not one to be passed over: the next one is
    /// another disk.
    fn choose(&mut self, wanted: Option<u8>) -> Result<(), Fault> {
        let implemented = self.controller.read(PI);
        let ports = (0..32u8).filter(|n| implemented & 1 << n != 0 && wanted.is_none_or(|wanted| wanted == *n));
        for n in ports.clone() {
            let at = port(n) + CMD;
            let old = self.controller.read(at);
            self.controller.write(at, old | Bits::SUD | Bits::POD);
        }
        self.controller.sleep(DETECTION);
        for n in ports {
            (self.number, self.port) = (n, port(n));
            let present = self.get(SSTS) & DET != 0 || wanted.is_some();
            match if present { self.start().and_then(|()| self.identify()) } else { Err(Fault::Absent) } {
                Ok(identity) => {
                    self.identity = Some(identity);
                    return Ok(());
                }
                Err(Fault::Absent) => {}
                Err(Fault::Foreign) => {
                    log::info!("port {n}: the device there is no disk that this driver knows");
                    self.stop()?;
                }
                Err(fault) => {
                    log::error!("port {n}: {fault:?}");
                    return Err(fault);
                }
            }
        }
        Err(Fault::Absent)
    }

    /// Starts the port (section 10.1.2), when its link is up.
    fn start(&mut self) -> Result<(), Fault> {
        self.link = Link::Down;
        self.stop()?;
        self.memory.fill(0, BUFFER, 0)?;
        for (register, at) in [(CLB, LIST), (FB, RECEIVED)] {
            let at = self.bus + at;
            self.set(register, at as u32);
            self.set(register + 4, (at >> 32) as u32);
        }
        self.set(SCTL, Bits::NO_SLUMBER);
        let at = self.port + SSTS;
        if !self.until(LINK_TIME, |c| c.read(at) & DET == DET_PRESENT) {
            let nothing = self.get(SSTS) & DET == 0;
            return Err(if nothing { Fault::Absent } else { Fault::Silent });
        }
        self.set(SERR, u32::MAX);
        self.set(CMD, Bits::POWERED | Bits::FRE);
        let at = self.port + TFD;
        if !self.until(READY_TIME, |c| c.read(at) & (Bits::BSY | Bits::DRQ) == 0) {
            return Err(Fault::Silent);
        }
        if self.get(SIG) != DISK {
            return Err(Fault::Foreign);
        }
        self.set(SERR, u32::MAX);
        self.run();
        Ok(())
    }

    /// Has the port carry out commands.
    fn run(&mut self) {
        self.set(PX_IS, u32::MAX);
        self.controller.write(IS, 1 << self.number);
        self.set(CMD, Bits::POWERED | Bits::FRE | Bits::ST);
        self.set(PX_IE, Bits::INTERRUPTS);
        self.controller.write(GHC, AHCI | Bits::IE);
        self.link = Link::Up;
    }

    /// Stops the port (section 10.4.2), whose registers then may be changed.
    fn stop(&mut self) -> Result<(), Fault> {
        self.set(PX_IE, 0);
        let at = self.port + CMD;
        for (bit, running) in [(Bits::ST, Bits::CR), (Bits::FRE, Bits::FR)] {
            let old = self.get(CMD);
            self.set(CMD, old & !bit);
            if !self.until(STOP_TIME, |c| c.read(at) & running == 0) {
                return Err(Fault::Silent);
            }
        }
        Ok(())
    }

    /// Asks the disk what it is.
    fn identify(&mut self) -> Result<Identity, Fault> {
        self.carry_out(Ata::Identify)?;
        let word = |at: usize| {
            let mut bytes = [0; 2];
            self.memory.read(BUFFER + 2 * at as u64, &mut bytes).map(|()| u16::from_le_bytes(bytes))
        };
        let has = |at: usize, bit| word(at).map(|word| word & VALID.0 == VALID.1 && word & bit != 0);
        if !has(SUPPORTED, LBA_48)? || has(SECTOR_SIZE, LONG_SECTORS)? {
            return Err(Fault::Foreign);
        }
        let mut names = [0; NAMES_END - SERIAL];
        for (at, name) in (SERIAL..).zip(&mut names) {
            *name = word(at)?;
        }
        let mut sectors = 0;
        for at in (SECTORS..SECTORS + 4).rev() {
            sectors = sectors << 16 | u64::from(word(at)?);
        }
        Ok(Identity { names, sectors: sectors.min(END) })
    }

    /// Carries out a command; after one that has failed, the port is started anew.
    fn command(&mut self, command: Ata) -> Result<(), Fault> {
        if self.link != Link::Up {
            self.come_back()?;
        }
        let ended = self.carry_out(command);
        if let Err(fault) = ended {
            let resumed = fault == Fault::Disk && self.resume();
            if !resumed {
                self.link = Link::Down;
                if fault == Fault::Absent {
                    self.lost |= self.dirty;
                }
                // If it does not come back now, the next command finds out.
                let _ = self.come_back();
            }
        }
        ended
    }

    /// After an error that the disk has reported (section 6.2.2.1). False if it takes more than that.
    fn resume(&mut self) -> bool {
        if self.stop().is_err() || self.get(TFD) & (Bits::BSY | Bits::DRQ) != 0 {
            return false;
        }
        self.set(SERR, u32::MAX);
        self.run();
        true
    }

    /// Resets the link, or the controller, and looks whether the disk is still there.
    fn come_back(&mut self) -> Result<(), Fault> {
        if self.get(SSTS) & DET == 0 {
            self.lost |= self.dirty;
            self.link = Link::Down;
            return Err(Fault::Absent);
        }
        if self.link == Link::Other {
            return Err(Fault::Foreign);
        }
        // The link may be reset while the port is stopped. What does not stop is reset as a whole (section 10.4.2).
        if self.stop().is_ok() {
            self.set(SCTL, Bits::NO_SLUMBER | Bits::COMRESET);
            self.controller.sleep(COMRESET_TIME);
            self.set(SCTL, Bits::NO_SLUMBER);
        } else {
            self.reset()?;
            self.set(CMD, Bits::POWERED);
        }
        self.controller.sleep(DETECTION);
        self.start()?;
        let identity = self.identify().inspect_err(|_| self.link = Link::Down)?;
        if self.identity.as_ref() != Some(&identity) {
            log::error!("port {}: there is another disk, or none that this driver knows", self.number);
            let _ = self.stop();
            self.link = Link::Other;
            return Err(Fault::Foreign);
        }
        Ok(())
    }

    /// Writes a command to slot 0, issues it, and waits for its end.
    fn carry_out(&mut self, command: Ata) -> Result<(), Fault> {
        let bytes = command.bytes();
        let regions = u32::from(bytes > 0);
        let header = [
            command.frame().len() as u32 | u32::from(command.writes()) << 6 | regions << 16,
            0,
            (self.bus + TABLE) as u32,
            ((self.bus + TABLE) >> 32) as u32,
        ];
        let buffer = self.bus + BUFFER;
        self.put(TABLE, &command.frame())?;
        self.put(REGION, &[buffer as u32, (buffer >> 32) as u32, 0, (bytes.max(2) - 1) as u32])?;
        self.put(LIST, &header)?;
        self.set(CI, 1);
        self.end()?;
        // How many bytes were transferred (section 4.2.2).
        if bytes != u64::from(self.memory.read_u32(LIST + 4)?) { Err(Fault::Dma) } else { Ok(()) }
    }

    /// Waits for the end of the command.
    fn end(&mut self) -> Result<(), Fault> {
        for _ in 0..STRAYS {
            let came = self.controller.wait();
            // Also without an interrupt: it may be lost.
            let status = self.get(PX_IS);
            self.set(PX_IS, status);
            self.controller.write(IS, 1 << self.number);
            self.controller.acknowledge();
            if status == ABSENT || status & Bits::LINK != 0 || self.get(SSTS) & DET != DET_PRESENT {
                self.set(SERR, u32::MAX);
                return Err(Fault::Absent);
            }
            if status & Bits::DISK_ERROR != 0 {
                return Err(Fault::Disk);
            }
            if status & Bits::ERRORS != 0 {
                return Err(Fault::Dma);
            }
            let at = self.port + CI;
            if status & Bits::ENDS != 0 && self.until(END_TIME, |c| c.read(at) & 1 == 0) {
                let failed = self.get(TFD) & (Bits::ERR | Bits::DF) != 0;
                return if failed { Err(Fault::Disk) } else { Ok(()) };
            }
            if !came {
                break;
            }
        }
        Err(Fault::Silent)
    }

    /// Looks once a millisecond; false if it is not so in time.
    fn until(&mut self, milliseconds: u64, is: impl Fn(&mut C) -> bool) -> bool {
        for _ in 0..milliseconds {
            if is(&mut self.controller) {
                return true;
            }
            self.controller.sleep(1);
        }
        is(&mut self.controller)
    }

    fn get(&mut self, register: u32) -> u32 {
        self.controller.read(self.port + register)
    }

    fn set(&mut self, register: u32, value: u32) {
        self.controller.write(self.port + register, value);
    }

    fn put(&self, at: u64, words: &[u32]) -> Result<(), Fault> {
        for (at, &word) in (at..).step_by(4).zip(words) {
            self.memory.write_u32(at, word)?;
        }
        Ok(())
    }
}

/// Where a port's registers are.
const fn port(n: u8) -> u32 {
    PORT + n as u32 * PORT_STEP
}
