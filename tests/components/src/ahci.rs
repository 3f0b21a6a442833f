//! A minimal driver of an AHCI disk (Serial ATA AHCI Specification 1.3.1): one port, one command at a time, in the
//! component's DMA memory. Registers are accessed by calls to pci-server. The address for a command's data may be
//! any address on the bus, as for a hostile driver. It leaves out error recovery and power management.

use layout::event;
use mmio::Window;
use proto::pci::{Client, Error, Target, Width};
use proto::timer;
use rt::{Endpoint, Interrupt, tsc};

/// Registers of the controller: global control, interrupt status, ports implemented.
const CONTROL: u64 = 0x04;
const STATUS: u64 = 0x08;
const PORTS: u64 = 0x0c;
/// Bits of global control.
const RESET: u32 = 1 << 0;
const INTERRUPTS: u32 = 1 << 1;
const AHCI: u32 = 1 << 31;

/// Registers of a port, [`PORT_STEP`] apart: command list and received FIS (64 bits each), interrupt status and enable,
/// command, task file, SATA status and error, commands issued.
const FIRST_PORT: u64 = 0x100;
const PORT_STEP: u64 = 0x80;
const LIST: u64 = 0x00;
const RECEIVED: u64 = 0x08;
const PORT_STATUS: u64 = 0x10;
const PORT_ENABLE: u64 = 0x14;
const COMMAND: u64 = 0x18;
const TASK_FILE: u64 = 0x20;
const SATA_STATUS: u64 = 0x28;
const SATA_ERROR: u64 = 0x30;
const ISSUE: u64 = 0x38;
/// Bits of the port's command register: start, FIS receive enable, and their running bits.
const START: u32 = 1 << 0;
const RECEIVE: u32 = 1 << 4;
const RUNNING: u32 = 1 << 14 | 1 << 15;
/// Port interrupts: register FIS, PIO setup, and the errors.
const PORT_INTERRUPTS: u32 = 1 << 0 | 1 << 1 | 0xf << 27;
/// Task file: busy, data request.
const BUSY: u32 = 1 << 7 | 1 << 3;
/// A device is there and its link is up.
const PRESENT: u32 = 3;

/// Offsets of the controller's structures in the memory.
const LIST_AT: u64 = 0;
const RECEIVED_AT: u64 = 0x400;
const TABLE_AT: u64 = 0x800;
/// Offset of the PRDT in a command table.
const REGIONS: u64 = 0x80;
/// First byte of the memory that the driver does not need.
pub const FREE: u64 = 0x1000;

/// Host to device register FIS, which updates the command register (Serial ATA, section 10.3.4).
const REGISTER_FIS: u32 = 0x8027;
const FIS_DWORDS: u32 = 5;
/// The sector number is an LBA.
const LBA: u32 = 0x40 << 24;

/// Commands of ATA-8 that the driver knows.
#[derive(Clone, Copy)]
pub enum Ata {
    /// IDENTIFY DEVICE: 512 bytes to memory.
    Identify,
    /// READ DMA EXT of a sector: to memory.
    Read(u32),
    /// WRITE DMA EXT of a sector: from memory.
    Write(u32),
}

/// Errors of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// pci-server refuses a register.
    Refused(Error),
    /// The controller does not become idle, or has no disk.
    Silent,
    /// The DMA memory is too small.
    NoMemory,
    /// No interrupt within a second.
    NoInterrupt,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Refused(error)
    }
}

impl From<mmio::OutOfRange> for Fault {
    fn from(_: mmio::OutOfRange) -> Self {
        Fault::NoMemory
    }
}

/// A disk.
pub struct Disk {
    /// Physical address of the controller's registers.
    registers: u64,
    /// Physical address of the port's registers.
    port: u64,
    memory: Window,
    /// Bus address of the memory.
    bus: u64,
    interrupt: Interrupt,
    hz: u64,
    /// Interrupts so far.
    pub interrupts: u32,
}

fn load(at: u64) -> Result<u32, Fault> {
    Ok(Client(Endpoint::at(proto::pci::SERVICE.slot)).read(Target::Memory(at), Width::Dword)?)
}

fn store(at: u64, value: u32) -> Result<(), Fault> {
    Ok(Client(Endpoint::at(proto::pci::SERVICE.slot)).write(Target::Memory(at), Width::Dword, value)?)
}

/// Polls bits of a register for a value, with a timeout.
fn until(at: u64, mask: u32, value: u32) -> Result<(), Fault> {
    for _ in 0..100_000 {
        if load(at)? & mask == value {
            return Ok(());
        }
    }
    Err(Fault::Silent)
}

impl Disk {
    /// Resets the controller at `registers` and starts the port that has a disk. Its structures go to `memory`.
    pub fn start(registers: u64, (memory, bus): (Window, u64), interrupt: Interrupt) -> Result<Self, Fault> {
        store(registers + CONTROL, AHCI | RESET)?;
        until(registers + CONTROL, RESET, 0)?;
        store(registers + CONTROL, AHCI)?;
        let ports = load(registers + PORTS)?;
        let mut found = None;
        for n in (0..32).filter(|n| ports & 1 << n != 0) {
            let port = registers + FIRST_PORT + n * PORT_STEP;
            if load(port + SATA_STATUS)? & 0xf == PRESENT {
                found = found.or(Some(port));
            }
        }
        let port = found.ok_or(Fault::Silent)?;
        let hz = timer::Client(Endpoint::at(timer::SERVICE.slot)).frequency().map_err(|_| Fault::Silent)?;
        let disk = Self { registers, port, memory, bus, interrupt, hz, interrupts: 0 };
        disk.start_port()?;
        Ok(disk)
    }

    /// Stops the port and starts it again: at the start, and after a command that timed out.
    pub fn start_port(&self) -> Result<(), Fault> {
        let port = self.port;
        store(port + COMMAND, load(port + COMMAND)? & !(START | RECEIVE))?;
        until(port + COMMAND, RUNNING, 0)?;
        self.memory.fill(0, FREE, 0)?;
        for (register, at) in [(LIST, LIST_AT), (RECEIVED, RECEIVED_AT)] {
            store(port + register, (self.bus + at) as u32)?;
            store(port + register + 4, ((self.bus + at) >> 32) as u32)?;
        }
        store(port + SATA_ERROR, u32::MAX)?;
        store(port + PORT_STATUS, u32::MAX)?;
        store(port + COMMAND, load(port + COMMAND)? | RECEIVE)?;
        until(port + TASK_FILE, BUSY, 0)?;
        store(port + COMMAND, load(port + COMMAND)? | START)?;
        store(self.registers + STATUS, u32::MAX)?;
        store(port + PORT_ENABLE, PORT_INTERRUPTS)?;
        store(self.registers + CONTROL, AHCI | INTERRUPTS)
    }

    /// Executes a command. Its 512 bytes are transferred to or from the bus address `to`.
    pub fn command(&mut self, command: Ata, to: u64) -> Result<(), Fault> {
        let (code, sector, count, write) = match command {
            Ata::Identify => (0xec, 0, 0, 0),
            Ata::Read(sector) => (0x25, sector, 1, 0),
            Ata::Write(sector) => (0x35, sector, 1, 1),
        };
        let lba = if count == 0 { 0 } else { LBA };
        let fis = [REGISTER_FIS | code << 16, sector & 0xff_ffff | lba, sector >> 24, count, 0];
        let table = self.bus + TABLE_AT;
        let header = [FIS_DWORDS | write << 6 | 1 << 16, 0, table as u32, (table >> 32) as u32];
        let region = [to as u32, (to >> 32) as u32, 0, 512 - 1];
        self.put(TABLE_AT, &fis)?;
        self.put(TABLE_AT + REGIONS, &region)?;
        self.put(LIST_AT, &header)?;
        store(self.port + ISSUE, 1)?;
        let deadline = tsc() + self.hz;
        loop {
            self.wait(deadline)?;
            // In this order, or the controller still sees the port's (section 5.5.3).
            store(self.port + PORT_STATUS, load(self.port + PORT_STATUS)?)?;
            store(self.registers + STATUS, load(self.registers + STATUS)?)?;
            let done = load(self.port + ISSUE)? & 1 == 0;
            self.interrupt.acknowledge();
            if done {
                return Ok(());
            }
        }
    }

    /// Waits for the disk's line.
    fn wait(&mut self, deadline: u64) -> Result<(), Fault> {
        let timer = timer::Client(Endpoint::at(timer::SERVICE.slot));
        timer.arm(deadline).map_err(|_| Fault::Silent)?;
        loop {
            let bits = rt::wait();
            if bits & event::line(0) != 0 {
                self.interrupts += 1;
                return Ok(());
            }
            if bits & event::TIMER != 0 && tsc() >= deadline {
                return Err(Fault::NoInterrupt);
            }
        }
    }

    fn put(&self, at: u64, words: &[u32]) -> Result<(), Fault> {
        for (at, &word) in (at..).step_by(4).zip(words) {
            self.memory.write_u32(at, word)?;
        }
        Ok(())
    }
}
