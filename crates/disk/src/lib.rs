//! What the drivers of disks share: what a disk does ([`Disk`]), the loop that carries out block-server's requests one
//! after the other ([`Driver`]), and the process around it. A driver adds its controller's registers.
//!
//! Left out: several requests at once. Only commands that the disk queues itself (NCQ) would gain by that.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod driver;
#[cfg(feature = "image")]
pub mod process;
#[cfg(test)]
mod tests;

pub use driver::Driver;

use mmio::{OutOfRange, Window};

/// Bytes of a sector.
pub const SECTOR: u64 = proto::block::SECTOR as u64;

/// Where in a driver's memory the data of a request may be; what is before is the controller's.
pub const BUFFER: u64 = 0x1000;

/// A disk, whose controller reaches the driver's memory.
pub trait Disk {
    /// How many sectors it has.
    fn sectors(&self) -> u64;
    /// Reads sectors; `take` gets their bytes, in one stretch after the other, perhaps while the disk reads the next one.
    fn read(
        &mut self,
        sector: u64,
        sectors: u32,
        take: impl FnMut(Window) -> Result<(), OutOfRange>,
    ) -> Result<(), Fault>;
    /// Writes sectors; `give` has to fill in their bytes, in one stretch after the other, perhaps while the disk writes the
    /// last one. It has ended when the disk says so.
    fn write(
        &mut self,
        sector: u64,
        sectors: u32,
        give: impl FnMut(Window) -> Result<(), OutOfRange>,
    ) -> Result<(), Fault>;
    /// Brings all that was written to the medium.
    fn flush(&mut self) -> Result<(), Fault>;
    /// An interrupt has come that no command waits for, for example a second one: lets the line interrupt again.
    fn stray(&mut self);
}

/// Which way a command moves sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transfer {
    /// From the disk.
    Read,
    /// To the disk.
    Write,
}

/// A command has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The disk reports an error.
    Disk,
    /// The controller does, or it has not transferred everything.
    Dma,
    /// There was no interrupt in time, or the disk stays busy.
    Silent,
    /// There is no disk, or no longer.
    Absent,
    /// The device is none that the driver knows.
    Foreign,
    /// The data do not fit the memory, or the controller does not reach it.
    Memory,
}

impl From<OutOfRange> for Fault {
    fn from(_: OutOfRange) -> Self {
        Fault::Memory
    }
}
