//! The process: takes requests of block-server from a ring, one after the other, and answers them into the other one.
//!
//! A request is released after it was answered. A process that begins again does what its predecessor has not finished once
//! more, which changes nothing: requests name sectors and what is to be in them.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use ide_driver::{BUFFER, Controller, Disk, Fault, Transfer};
use layout::{config::Component, event, slot};
use mmio::{Ports, RecordConsumer, RecordProducer, RecordRing, Window};
use proto::{
    block::{Completion, Geometry, Operation, Request, SECTOR, Status},
    pci::{self, Target, Width},
    timer,
};
use rt::{Endpoint, Interrupt, IoPorts, tsc};

rt::main!(main);

/// The command register of configuration space: ports, bus master.
const COMMAND: u8 = 0x04;
const PORTS_AND_MASTER: u32 = 1 << 0 | 1 << 2;
/// The BAR of the bus master's ports.
const MASTER_BAR: usize = 4;
/// Scratch slot of the interrupt's handler.
const HANDLER: u16 = 1;
/// Seconds that a command may take: a disk that has to spin up takes several.
const TIMEOUT: u64 = 10;

static PCI: pci::Client<Endpoint> = pci::Client(Endpoint::at(pci::SERVICE.slot));
static TIMER: timer::Client<Endpoint> = timer::Client(Endpoint::at(timer::SERVICE.slot));

fn main(config: Component) -> ! {
    let (Some(rings), Some((memory, bus))) = (config.disk, config.dma) else {
        panic!("the description gives `{}` no disk to drive, or no dma_memory", config.name);
    };
    let ring = |window| match RecordRing::new(rt::shared(window)) {
        Ok(ring) => ring,
        Err(error) => panic!("rings: {error:?}"),
    };
    let memory = rt::shared(memory);
    let disk = match find(&config, memory, bus) {
        Ok(disk) => {
            log::info!("a disk of {} sectors", disk.sectors());
            Some(disk)
        }
        Err(fault) => {
            log::error!("no disk: {fault:?}");
            None
        }
    };
    let (requests, completions) = (ring(rings.requests).consumer(), ring(rings.completions).producer());
    Driver { disk, memory, requests, completions }.run()
}

/// The machine's disk.
fn find(config: &Component, memory: Window, bus: u64) -> Result<Disk<Machine>, Fault> {
    let granted = PCI.grant(0).ok().flatten().ok_or(Fault::Absent)?;
    let master = granted.function.bars.get(MASTER_BAR).copied().flatten().ok_or(Fault::Absent)?;
    let command = Target::Config { function: 0, offset: COMMAND };
    let line = config.lines.first().ok_or(Fault::Absent)?;
    let interrupt = Interrupt::claim(line.line, HANDLER).map_err(|_| Fault::Absent)?;
    interrupt.acknowledge();
    let hz = TIMER.frequency().map_err(|_| Fault::Absent)?;
    let old = PCI.read(command, Width::Word).map_err(|_| Fault::Absent)?;
    PCI.write(command, Width::Word, old | PORTS_AND_MASTER).map_err(|_| Fault::Absent)?;
    let mut slots = HANDLER + 1..;
    let firsts = [ide_driver::BLOCK, ide_driver::CONTROL, master.base as u16];
    let [Ok(block), Ok(control), Ok(ports)] = firsts.map(|first| take_ports(first, slots.next().unwrap_or(HANDLER)))
    else {
        return Err(Fault::Absent);
    };
    Disk::find(Machine { ports: [block, control, ports], interrupt, hz }, master.base as u16, memory, bus)
}

/// The ports, and the interrupt.
#[derive(Debug)]
struct Machine {
    /// Of the command block, of device control, and of the bus master.
    ports: [IoPorts; 3],
    interrupt: Interrupt,
    hz: u64,
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
        let deadline = tsc() + TIMEOUT * self.hz;
        if TIMER.arm(deadline).is_err() {
            return false;
        }
        loop {
            let bits = rt::wait();
            if bits & event::line(0) != 0 {
                self.interrupt.acknowledge();
                return true;
            }
            if bits & event::TIMER != 0 && tsc() >= deadline {
                return false;
            }
        }
    }
}

impl Machine {
    fn of(&mut self, port: u16) -> &mut IoPorts {
        let [block, control, master] = &mut self.ports;
        match port {
            ide_driver::CONTROL => control,
            ide_driver::BLOCK..=ide_driver::COMMAND => block,
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

/// The driver.
struct Driver {
    disk: Option<Disk<Machine>>,
    memory: Window,
    requests: RecordConsumer,
    completions: RecordProducer,
}

/// Nothing more can be done now.
struct Idle;

impl Driver {
    fn run(&mut self) -> ! {
        loop {
            if self.serve().is_err() {
                rt::wait();
            }
        }
    }

    /// Serves one request, or parks.
    fn serve(&mut self) -> Result<(), Idle> {
        let mut bytes = [0; Request::BYTES];
        let request = match self.requests.peek() {
            Ok(Some(record)) => match record.read(0, &mut bytes) {
                Ok(()) => Request::of(&bytes, record.len() - Request::BYTES as u32),
                Err(_) => None,
            },
            Ok(None) => {
                self.tell();
                return if self.requests.park() { Ok(()) } else { Err(Idle) };
            }
            Err(_) => return Err(Idle),
        };
        if let Some(request) = request {
            let room = Completion::BYTES as u32 + request.answer();
            if self.completions.reserve(room).is_err() {
                self.tell();
                return if self.completions.park(room) { Ok(()) } else { Err(Idle) };
            }
            let done = self.carry_out(&request);
            if let Err(fault) = done {
                log::debug!("{:?}: {fault:?}", request.operation);
            }
            self.answer(&request, done.is_ok());
        }
        if let Ok(Some(record)) = self.requests.peek() {
            record.release();
        }
        self.tell();
        Ok(())
    }

    fn carry_out(&mut self, request: &Request) -> Result<(), Fault> {
        let disk = self.disk.as_mut().ok_or(Fault::Absent)?;
        match request.operation {
            Operation::Hello => Ok(()),
            Operation::Flush => disk.flush(),
            Operation::Read { sector, sectors } => disk.transfer(Transfer::Read, sector, sectors),
            Operation::Write { sector, sectors } => {
                let Ok(Some(record)) = self.requests.peek() else { return Err(Fault::Memory) };
                record.copy_to(Request::BYTES as u32, &self.memory, BUFFER, sectors * SECTOR)?;
                disk.transfer(Transfer::Write, sector, sectors)
            }
        }
    }

    fn answer(&mut self, request: &Request, done: bool) {
        let status = if done { Status::Done } else { Status::Failed };
        let sectors = self.disk.as_ref().map_or(0, Disk::sectors);
        let Ok(mut record) = self.completions.reserve(Completion::BYTES as u32 + request.answer()) else { return };
        let mut written = record.write(&Completion { tag: request.tag, status }.bytes());
        if done {
            written = written.and_then(|()| match request.operation {
                Operation::Hello => record.write(&Geometry { sectors, read_only: false }.bytes()),
                Operation::Read { sectors, .. } => record.copy_from(&self.memory, BUFFER, sectors * SECTOR),
                Operation::Write { .. } | Operation::Flush => Ok(()),
            });
        }
        if written.is_ok() {
            record.publish();
        }
    }

    /// Signals block-server, if it waits for what has changed.
    fn tell(&mut self) {
        if self.requests.must_signal() | self.completions.must_signal() {
            rt::signal(slot::BLOCK);
        }
    }
}
