//! The controller of the machine: its registers, through pci-server, and its interrupt.

use disk::{
    Fault,
    process::{Line, PCI, controller},
};
use layout::config::Component;
use mmio::Window;
use proto::pci::{Access, Target, Width};

use crate::{Controller, Disk};

/// Base class, subclass and programming interface: a SATA controller with AHCI registers.
const CLASS: [u8; 3] = [0x01, 0x06, 0x01];
/// In the command register: memory, bus master.
const MEMORY_AND_MASTER: u32 = 1 << 1 | 1 << 2;
/// The BAR of the registers (section 2.1.11).
const ABAR: usize = 5;

/// The machine's disk: that at the port of the description's `args`, or the first one.
pub fn find(config: &Component, memory: Window, bus: u64) -> Result<Disk<Machine>, Fault> {
    let port = match config.args.split_whitespace().collect::<heapless::Vec<_, 3>>().as_slice() {
        [] => None,
        ["port", number] if number.parse::<u8>().is_ok_and(|number| number < 32) => number.parse().ok(),
        _ => {
            log::error!("args = \"{}\" is no port: write \"port 0\" to \"port 31\", or leave it out", config.args);
            return Err(Fault::Absent);
        }
    };
    let (granted, line) = controller(config, |class| class == CLASS, MEMORY_AND_MASTER)?;
    let (Some(bar), Some(Access::Mediated)) = (granted.function.bars[ABAR], granted.bars.get(ABAR)) else {
        log::error!("the registers cannot be accessed: write access = \"mediated\"");
        return Err(Fault::Absent);
    };
    let disk = Disk::find(Machine { base: bar.base, line }, memory, bus, port)?;
    let model = disk.model();
    log::info!("port {}: {}", disk.port(), str::from_utf8(&model).unwrap_or_default().trim_end());
    Ok(disk)
}

/// Registers and interrupt.
#[derive(Debug)]
pub struct Machine {
    base: u64,
    line: Line,
}

/// What pci-server refuses reads as a controller that is not there does.
impl Controller for Machine {
    fn read(&mut self, at: u32) -> u32 {
        PCI.read(Target::Memory(self.base + u64::from(at)), Width::Dword).unwrap_or(u32::MAX)
    }

    fn write(&mut self, at: u32, value: u32) {
        let written = PCI.write(Target::Memory(self.base + u64::from(at)), Width::Dword, value);
        debug_assert!(written.is_ok());
    }

    fn wait(&mut self) -> bool {
        self.line.wait()
    }

    fn acknowledge(&mut self) {
        self.line.acknowledge();
    }

    fn sleep(&mut self, milliseconds: u64) {
        self.line.sleep(milliseconds);
    }
}
