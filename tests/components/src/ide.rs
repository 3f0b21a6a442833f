//! ide-driver in a process that faults after some writes, in each of its lives: the disk has ended the last one then, and
//! block-server does not know.

use disk::{Disk, Fault, process};
use ide_driver::machine;
use layout::config::Component;
use mmio::{OutOfRange, Window};

/// Drives the disk, and faults at the write after `writes`.
pub fn drive(config: &Component, writes: &str) -> ! {
    let Ok(left) = writes.parse() else { panic!("{writes} is no number of writes") };
    process::run(config, |config, memory, bus| Ok(Mortal { disk: machine::find(config, memory, bus)?, left }))
}

struct Mortal<D> {
    disk: D,
    left: u32,
}

impl<D: Disk> Disk for Mortal<D> {
    fn sectors(&self) -> u64 {
        self.disk.sectors()
    }

    fn read(
        &mut self,
        sector: u64,
        sectors: u32,
        take: impl FnMut(Window) -> Result<(), OutOfRange>,
    ) -> Result<(), Fault> {
        self.disk.read(sector, sectors, take)
    }

    fn write(
        &mut self,
        sector: u64,
        sectors: u32,
        give: impl FnMut(Window) -> Result<(), OutOfRange>,
    ) -> Result<(), Fault> {
        let ended = self.disk.write(sector, sectors, give);
        let Some(left) = self.left.checked_sub(1) else { panic!("dies at sector {sector}") };
        self.left = left;
        ended
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.disk.flush()
    }

    fn stray(&mut self) {
        self.disk.stray();
    }
}
