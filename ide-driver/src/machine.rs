//! The controller of the machine: its ports, which pci-server hands over, and its interrupt.

use disk::{
    Fault,
    process::{FREE, Line, PCI, controller},
};
use layout::config::Component;
use mmio::{Ports, Window};
use proto::pci::{self, Bar};
use rt::{Endpoint, IoPorts};

use crate::{BLOCK, COMMAND, CONTROL, Controller, Disk};

/// Base class and subclass.
const CLASS: [u8; 2] = [0x01, 0x01];
/// In the command register: ports, bus master.
const PORTS_AND_MASTER: u32 = 1 << 0 | 1 << 2;
/// The BAR of the bus master's ports.
const MASTER_BAR: usize = 4;

/// The machine's disk.
pub fn find(config: &Component, memory: Window, bus: u64) -> Result<Disk<Machine>, Fault> {
    let (granted, line) = controller(config, |class| class[..2] == CLASS, PORTS_AND_MASTER)?;
    let Some(Bar { base: master, .. }) = granted.function.bars[MASTER_BAR] else { return Err(Fault::Foreign) };
    let mut slots = FREE..;
    let firsts = [BLOCK, CONTROL, master as u16];
    let [Ok(block), Ok(control), Ok(ports)] = firsts.map(|first| take_ports(first, slots.next().unwrap_or(FREE)))
    else {
        return Err(Fault::Absent);
    };
    Disk::find(Machine { ports: [block, control, ports], line }, master as u16, memory, bus)
}

/// The ports, and the interrupt.
#[derive(Debug)]
pub struct Machine {
    /// Of the command block, of device control, and of the bus master.
    ports: [IoPorts; 3],
    line: Line,
}

/// Takes the ports from `first` on from pci-server, to slot `index` of the scratch CNode.
fn take_ports(first: u16, index: u16) -> Result<IoPorts, Fault> {
    // In a restarted process, the slot has the capability of before. Deleting an empty slot is no error.
    let _ = rt::scratch(index).delete();
    let pci = pci::Client(Endpoint::at(pci::SERVICE.slot).receive_into(index));
    match pci.take_ports(first) {
        Ok(ports) => Ok(IoPorts::at(ports)),
        Err(error) => {
            log::error!("ports from {first:#x}: {error:?}");
            Err(Fault::Absent)
        }
    }
}

impl Controller for Machine {
    fn wait(&mut self) -> bool {
        let came = self.line.wait();
        if came {
            // An edge that comes while the line is masked is lost, so before the disk can raise the next one.
            self.line.acknowledge();
        }
        came
    }

    fn acknowledge(&mut self) {
        self.line.acknowledge();
    }
}

impl Machine {
    fn of(&mut self, port: u16) -> &mut IoPorts {
        let [block, control, master] = &mut self.ports;
        match port {
            CONTROL => control,
            BLOCK..=COMMAND => block,
            _ => master,
        }
    }
}

impl Ports for Machine {
    fn in8(&mut self, port: u16) -> u8 {
        self.of(port).in8(port)
    }
    fn out8(&mut self, port: u16, value: u8) {
        self.of(port).out8(port, value);
    }
    fn in16(&mut self, port: u16) -> u16 {
        self.of(port).in16(port)
    }
    fn out16(&mut self, port: u16, value: u16) {
        self.of(port).out16(port, value);
    }
    fn in32(&mut self, port: u16) -> u32 {
        self.of(port).in32(port)
    }
    fn out32(&mut self, port: u16, value: u32) {
        self.of(port).out32(port, value);
    }
}
