//! The process: the rings and the memory of its configuration, and its controller's interrupt.

use layout::{config::Component, event, slot};
use mmio::Window;
use proto::{
    pci::{self, Grant, Target, Width},
    timer,
};
use rt::{Endpoint, Interrupt, tsc};

use crate::{Disk, Driver, Fault};

/// pci-server, which has the controller.
pub static PCI: pci::Client<Endpoint> = pci::Client(Endpoint::at(pci::SERVICE.slot));
static TIMER: timer::Client<Endpoint> = timer::Client(Endpoint::at(timer::SERVICE.slot));

/// The command register of configuration space, and in it that the function does not raise its line.
const COMMAND: u8 = 0x04;
const NO_INTERRUPTS: u32 = 1 << 10;
/// Scratch slot of the interrupt's handler.
const HANDLER: u16 = 1;
/// The first of the scratch slots that a driver may use.
pub const FREE: u16 = HANDLER + 1;
/// Seconds that a command may take: a disk that has to spin up takes several.
const TIMEOUT: u64 = 10;

/// Drives the disk that `find` finds, whose controller reaches the memory at an address of the bus.
pub fn run<D: Disk>(config: &Component, find: impl FnOnce(&Component, Window, u64) -> Result<D, Fault>) -> ! {
    let (Some(rings), Some((memory, bus))) = (config.disk, config.dma) else {
        panic!("the description gives `{}` no disk to drive, or no dma_memory", config.name);
    };
    let memory = rt::shared(memory);
    let disk = match find(config, memory, bus) {
        Ok(disk) => {
            log::info!("a disk of {} sectors", disk.sectors());
            Some(disk)
        }
        Err(fault) => {
            log::error!("no disk: {fault:?}");
            None
        }
    };
    let (requests, completions) = (rt::records(rings.requests).consumer(), rt::records(rings.completions).producer());
    let mut driver = Driver::new(disk, requests, completions);
    loop {
        driver.step(|| rt::signal(slot::BLOCK));
        if rt::wait() & event::line(0) != 0 {
            driver.stray();
        }
    }
}

/// The controller of the description, with these bits of its command register set, and its line. `knows` says for which
/// classes the driver is.
pub fn controller(config: &Component, knows: impl Fn([u8; 3]) -> bool, enable: u32) -> Result<(Grant, Line), Fault> {
    let granted = PCI.grant(0).ok().flatten().ok_or(Fault::Absent)?;
    let (address, class) = (granted.function.address, granted.function.class);
    if !knows(class) {
        let driver = match class {
            [0x01, 0x01, _] => "image = \"ide-driver\" drives it",
            [0x01, 0x06, 0x01] => "image = \"ahci-driver\" drives it",
            _ => "no driver of disks drives it",
        };
        log::error!("{address} has class {:02x}{:02x}{:02x}: {driver}", class[0], class[1], class[2]);
        return Err(Fault::Foreign);
    }
    let line = config.lines.first().ok_or(Fault::Absent)?;
    let interrupt = Interrupt::claim(line.line, HANDLER).map_err(|_| Fault::Absent)?;
    interrupt.acknowledge();
    let hz = TIMER.frequency().map_err(|_| Fault::Absent)?;
    let command = Target::Config { function: 0, offset: COMMAND };
    let enabled =
        PCI.read(command, Width::Word).and_then(|old| PCI.write(command, Width::Word, old & !NO_INTERRUPTS | enable));
    if let Err(error) = enabled {
        log::error!("the controller cannot be enabled: {error:?}");
        return Err(Fault::Absent);
    }
    Ok((granted, Line { interrupt, hz }))
}

/// The controller's interrupt line, and the time.
#[derive(Debug)]
pub struct Line {
    interrupt: Interrupt,
    hz: u64,
}

impl Line {
    /// Waits for an interrupt; false if none comes in time. Acknowledge it when the controller has taken it away.
    pub fn wait(&self) -> bool {
        self.wait_until(tsc() + TIMEOUT * self.hz)
    }

    /// Lets the line interrupt again.
    pub fn acknowledge(&self) {
        self.interrupt.acknowledge();
    }

    /// Lets some time pass. Interrupts in it are lost.
    pub fn sleep(&self, milliseconds: u64) {
        let deadline = tsc() + milliseconds * self.hz / 1000;
        while tsc() < deadline && self.wait_until(deadline) {
            self.acknowledge();
        }
    }

    fn wait_until(&self, deadline: u64) -> bool {
        if TIMER.arm(deadline).is_err() {
            return false;
        }
        loop {
            let bits = rt::wait();
            if bits & event::line(0) != 0 {
                return true;
            }
            if bits & event::TIMER != 0 && tsc() >= deadline {
                return false;
            }
        }
    }
}
