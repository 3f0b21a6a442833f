//! The driver against a model of a controller with two disks: registers, structures in memory, interrupt, time. Numbers are
//! written again from AHCI 1.3.1, Serial ATA and ACS-3.

mod away;
mod commands;
mod finding;

use std::{cell::RefCell, rc::Rc};

use ahci_driver::{Controller, Disk};
use disk::{BUFFER, Disk as _, Fault, SECTOR, Transfer};
use mmio::Window;
use proptest::prelude::*;

/// The memory's address on the bus.
const BUS: u64 = 0x1_2345_6000;
const MEMORY: u64 = 128 << 10;
const SECTORS: u64 = 1000;
/// Ports with a disk; the model has ports 0 to 5.
const PORT: usize = 2;

/// How the next command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Well,
    /// The status has these bits, and the interrupt status TFES.
    Status(u32),
    /// Interrupt status, without an error of the disk; the command stays issued.
    Interrupt(u32),
    /// Fewer bytes than asked for.
    Short,
    /// No interrupt, ever; the port does not stop either.
    Never,
    /// The link goes.
    Unplugged,
}

/// A port, and the disk at it.
#[derive(Clone)]
struct Port {
    /// `None` is no disk. The words of IDENTIFY DEVICE.
    identity: Option<Vec<u16>>,
    signature: u32,
    clb: u64,
    fb: u64,
    is: u32,
    ie: u32,
    cmd: u32,
    tfd: u32,
    sctl: u32,
    serr: u32,
    ci: u32,
    /// It does not stop before the link is reset.
    stuck: bool,
    link_resets: u32,
}

struct Model {
    memory: Window,
    medium: Vec<u8>,
    wide: bool,
    ports: Vec<Port>,
    ghc: u32,
    is: u32,
    /// BOHC, and whether the firmware lets go.
    handover: Option<(u32, bool)>,
    ending: Ending,
    /// Interrupts that end nothing come before the end.
    strays: u32,
    /// Commands: number, sector, count.
    log: Vec<(u8, u64, u32)>,
    resets: u32,
    acknowledged: u32,
    slept: u64,
    /// The controller stays in reset.
    dead: bool,
}

fn identity(sectors: u64, serial: u8) -> Vec<u16> {
    let mut words = vec![0; 256];
    words[10..20].fill(u16::from_be_bytes([serial, serial]));
    let model: Vec<u8> = format!("{:40}", "PORTCULLIS MODEL").into_bytes();
    (0..20).for_each(|n| words[27 + n] = u16::from_be_bytes([model[2 * n], model[2 * n + 1]]));
    words[83] = 0x4000 | 1 << 10;
    (0..4).for_each(|n| words[100 + n] = (sectors >> (16 * n)) as u16);
    words
}

impl Model {
    fn bytes(&self, at: u64, into: &mut [u8]) {
        self.memory.read(at.checked_sub(BUS).expect("below the memory"), into).expect("beyond the memory");
    }

    fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.bytes(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn read(&self, at: u32) -> u32 {
        match at {
            0x00 => 5 | u32::from(self.wide) << 31,
            0x04 => self.ghc,
            0x08 => self.is,
            0x0c => 0x3f,
            0x24 => self.handover.is_some().into(),
            0x28 => self.handover.expect("it has no BOHC").0,
            0x100.. => {
                let port = &self.ports[(at as usize - 0x100) / 0x80];
                match at & 0x7f {
                    0x10 => port.is,
                    0x14 => port.ie,
                    0x18 => {
                        let running = (port.cmd & 1) << 15 | (port.cmd & 1 << 4) << 10;
                        port.cmd | running | if port.stuck { 1 << 15 } else { 0 }
                    }
                    0x20 => port.tfd,
                    0x24 => port.signature,
                    0x28 => {
                        if port.identity.is_some() && port.sctl & 0xf == 0 {
                            0x123
                        } else {
                            0
                        }
                    }
                    0x30 => port.serr,
                    0x38 => port.ci,
                    _ => panic!("reads {at:#x}"),
                }
            }
            _ => panic!("reads {at:#x}"),
        }
    }

    fn write(&mut self, at: u32, value: u32) {
        match at {
            0x04 if value & 1 != 0 => {
                assert!(self.ghc & 1 << 31 != 0, "reset before AHCI is enabled");
                self.resets += 1;
                self.ghc = if self.dead { 1 } else { 0 };
                for port in &mut self.ports {
                    *port = fresh(port.identity.take(), port.signature);
                }
            }
            0x04 => self.ghc = value | u32::from(self.dead),
            0x08 => self.is &= !value,
            0x28 => {
                let (bohc, lets_go) = self.handover.expect("it has no BOHC");
                assert!(bohc & 1 != 0 && value & 2 != 0);
                self.handover = Some((if lets_go { 2 } else { 3 }, lets_go));
            }
            0x100.. => {
                let n = (at as usize - 0x100) / 0x80;
                let port = &mut self.ports[n];
                let running = port.cmd & 1 != 0;
                match at & 0x7f {
                    0x00 | 0x04 | 0x08 | 0x0c => {
                        assert!(!running && port.cmd & 1 << 4 == 0, "an address changes while the port runs");
                        let (register, high) = (if at & 8 == 0 { &mut port.clb } else { &mut port.fb }, at & 4 != 0);
                        let (shift, keep) = if high { (32, 0xffff_ffff) } else { (0, 0xffff_ffff << 32) };
                        *register = *register & keep | u64::from(value) << shift;
                    }
                    0x10 => port.is &= !value,
                    0x14 => port.ie = value,
                    0x18 => {
                        assert!(value & 1 == 0 || value & 1 << 4 != 0, "started without receiving");
                        assert!(value & 1 == 0 || port.tfd & 0x88 == 0, "started while busy");
                        assert!(running || value & 1 == 0 || port.serr == 0, "started with errors");
                        if value & 1 == 0 {
                            port.ci = 0;
                        }
                        port.cmd = value & !(1 << 14 | 1 << 15);
                        if value & 1 << 4 != 0 && port.identity.is_some() && port.tfd == 0x7f {
                            port.tfd = 0x50;
                        }
                    }
                    0x2c => {
                        assert!(!running || port.stuck, "the link is reset while the port runs");
                        if port.sctl & 0xf == 1 && value & 0xf == 0 {
                            (port.stuck, port.tfd, port.serr) = (false, 0x7f, 1 << 26);
                            port.link_resets += 1;
                        }
                        port.sctl = value;
                    }
                    0x30 => {
                        port.serr &= !value;
                        port.is &= !(1 << 22);
                    }
                    0x38 => {
                        assert!(running && value == 1);
                        port.ci = 1;
                        self.start(n);
                    }
                    _ => panic!("writes {at:#x}"),
                }
            }
            _ => panic!("writes {at:#x}"),
        }
    }

    fn start(&mut self, n: usize) {
        let (clb, fb) = (self.ports[n].clb, self.ports[n].fb);
        assert!(clb.is_multiple_of(1024) && fb.is_multiple_of(256));
        self.bytes(fb, &mut [0; 256]);
        let header: Vec<u32> = (0..4).map(|word| self.word(clb + 4 * word)).collect();
        assert_eq!(header[0] & 0x1f, 5, "dwords of the frame");
        let table = u64::from(header[3]) << 32 | u64::from(header[2]);
        assert!(table.is_multiple_of(128));
        let mut frame = [0; 20];
        self.bytes(table, &mut frame);
        let [0x27, 0x80, command, 0, l0, l1, l2, device, l3, l4, l5, 0, c0, c1, 0, 0, 0, 0, 0, 0] = frame else {
            panic!("no frame of a command: {frame:x?}")
        };
        let sector = u64::from_le_bytes([l0, l1, l2, l3, l4, l5, 0, 0]);
        let count = u32::from(u16::from_le_bytes([c0, c1]));
        self.log.push((command, sector, count));
        let bytes = match command {
            0xec => 512,
            0x25 | 0x35 => {
                assert_eq!(device, 0x40, "LBA");
                u64::from(count) * 512
            }
            0xea => 0,
            _ => panic!("command {command:#x}"),
        };
        assert_eq!(header[0] & 1 << 6 != 0, command == 0x35, "direction");
        let mut regions = vec![];
        for region in 0..header[0] >> 16 {
            let at = table + 0x80 + 16 * u64::from(region);
            let len = u64::from(self.word(at + 12) & 0x3f_ffff) + 1;
            let to = u64::from(self.word(at + 4)) << 32 | u64::from(self.word(at));
            assert!(to.is_multiple_of(2) && len.is_multiple_of(2));
            regions.push((to, len));
        }
        assert_eq!(
            regions.iter().map(|(_, len)| len).sum::<u64>(),
            bytes,
            "the table has other bytes than the command"
        );
        if matches!(self.ending, Ending::Well | Ending::Short) {
            let identity = self.ports[n].identity.clone().expect("a disk");
            let mut at = sector as usize * 512;
            for (to, len) in regions {
                let (to, len) = (to - BUS, len as usize);
                match command {
                    0xec => {
                        let bytes: Vec<u8> = identity.iter().flat_map(|word| word.to_le_bytes()).collect();
                        self.memory.write(to, &bytes).unwrap();
                    }
                    _ if at + len > self.medium.len() => {}
                    0x25 => self.memory.write(to, &self.medium[at..at + len]).unwrap(),
                    _ => self.memory.read(to, &mut self.medium[at..at + len]).unwrap(),
                }
                at += len;
            }
            let done = if self.ending == Ending::Short { bytes.saturating_sub(2) } else { bytes };
            self.memory.write_u32(clb - BUS + 4, done as u32).unwrap();
        }
        let is = if command == 0xec { 1 << 1 } else { 1 << 0 };
        let port = &mut self.ports[n];
        match std::mem::replace(&mut self.ending, Ending::Well) {
            Ending::Well | Ending::Short => (port.is, port.ci, port.tfd) = (port.is | is, 0, 0x50),
            Ending::Status(bits) => (port.is, port.tfd) = (port.is | 1 << 30 | 1, 0x40 | bits),
            Ending::Interrupt(bits) => (port.is, port.tfd) = (port.is | bits, 0xd0),
            Ending::Never => (port.stuck, port.tfd) = (true, 0xd0),
            Ending::Unplugged => (port.identity, port.is, port.serr) = (None, port.is | 1 << 22, 1 << 16),
        }
    }
}

fn fresh(identity: Option<Vec<u16>>, signature: u32) -> Port {
    Port {
        identity,
        signature,
        clb: 0,
        fb: 0,
        is: 0,
        ie: 0,
        cmd: 0,
        tfd: 0x7f,
        sctl: 0,
        serr: 1 << 26,
        ci: 0,
        stuck: false,
        link_resets: 0,
    }
}

#[derive(Clone)]
struct Machine(Rc<RefCell<Model>>);

impl Controller for Machine {
    fn read(&mut self, at: u32) -> u32 {
        self.0.borrow().read(at)
    }
    fn write(&mut self, at: u32, value: u32) {
        self.0.borrow_mut().write(at, value);
    }
    fn wait(&mut self) -> bool {
        let mut model = self.0.borrow_mut();
        if model.strays > 0 {
            model.strays -= 1;
            return true;
        }
        assert!(model.ghc & 2 != 0, "interrupts are off");
        model.ports.iter().any(|port| port.is & port.ie != 0)
    }
    fn acknowledge(&mut self) {
        let mut model = self.0.borrow_mut();
        assert!(model.strays > 0 || model.ports.iter().all(|port| port.is & port.ie & !(1 << 22) == 0), "still raised");
        model.acknowledged += 1;
    }
    fn sleep(&mut self, milliseconds: u64) {
        let mut model = self.0.borrow_mut();
        model.slept += milliseconds;
        assert!(model.slept < 60_000, "waits for ever");
    }
}

/// A controller with a disk at port 2.
fn machine() -> (Machine, Window) {
    let memory = Window::leak(vec![0; MEMORY as usize].leak());
    let mut ports = vec![fresh(None, 0xffff_ffff); 6];
    ports[PORT] = fresh(Some(identity(SECTORS, b'1')), 0x101);
    let model = Model {
        memory,
        medium: (0..SECTORS * SECTOR).map(|at| (at / 512 + at % 7) as u8).collect(),
        wide: true,
        ports,
        ghc: 0,
        is: 0,
        handover: None,
        ending: Ending::Well,
        strays: 0,
        log: vec![],
        resets: 0,
        acknowledged: 0,
        slept: 0,
        dead: false,
    };
    (Machine(Rc::new(RefCell::new(model))), memory)
}

fn found() -> (Disk<Machine>, Machine, Window) {
    let (machine, memory) = machine();
    let disk = Disk::find(machine.clone(), memory, BUS, None).expect("a disk");
    machine.0.borrow_mut().log.clear();
    (disk, machine, memory)
}

fn finds(machine: &Machine, memory: Window, port: Option<u8>) -> Result<(u8, u64), Fault> {
    machine.0.borrow_mut().slept = 0;
    Disk::find(machine.clone(), memory, BUS, port).map(|disk| (disk.port(), disk.sectors()))
}
