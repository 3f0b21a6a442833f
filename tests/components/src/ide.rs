//! ide-driver in a process that faults after some writes, in each of its lives: the disk has ended the last one then, and
//! block-server does not know.

use disk::{Disk, Fault, Transfer, process};
use ide_driver::machine;
use layout::config::Component;

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

    fn transfer(&mut self, way: Transfer, sector: u64, sectors: u32) -> Result<(), Fault> {
        let ended = self.disk.transfer(way, sector, sectors);
        if way == Transfer::Write {
            let Some(left) = self.left.checked_sub(1) else { panic!("dies at sector {sector}") };
            self.left = left;
        }
        ended
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.disk.flush()
    }

    fn stray(&mut self) {
        self.disk.stray();
    }
}
