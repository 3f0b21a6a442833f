//! The driver against a model of a controller with two disks: registers, structures in memory, interrupt, time. Numbers are
//! written again from AHCI 1.3.1, Serial ATA and ACS-3.

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

#[test]
fn a_disk_says_what_it_is() {
    let (disk, machine, _) = found();
    assert_eq!((disk.port(), disk.sectors()), (2, SECTORS));
    assert_eq!(std::str::from_utf8(&disk.model()).map(str::trim_end), Ok("PORTCULLIS MODEL"));
    assert_eq!(machine.0.borrow().resets, 1);
    let (machine, memory) = self::machine();
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(0x0123_4567_89ab, b'1'));
    assert_eq!(finds(&machine, memory, None), Ok((2, 0x0123_4567_89ab)));
    // More than commands reach.
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(u64::MAX, b'1'));
    assert_eq!(finds(&machine, memory, None), Ok((2, 1 << 48)));
}

#[test]
fn the_first_disk_is_taken_or_the_one_that_is_asked_for() {
    let (machine, memory) = machine();
    machine.0.borrow_mut().ports[4] = fresh(Some(identity(77, b'4')), 0x101);
    // A CD-ROM drive is passed over.
    machine.0.borrow_mut().ports[1] = fresh(Some(identity(5, b'c')), 0xeb14_0101);
    assert_eq!(finds(&machine, memory, None), Ok((2, SECTORS)));
    assert_eq!(finds(&machine, memory, Some(4)), Ok((4, 77)));
    for port in [0, 1, 6, 31] {
        assert_eq!(finds(&machine, memory, Some(port)), Err(Fault::Absent), "port {port}");
    }
}

#[test]
fn a_disk_that_fails_is_not_passed_over() {
    let (machine, memory) = machine();
    machine.0.borrow_mut().ports[4] = fresh(Some(identity(77, b'4')), 0x101);
    for (ending, fault) in [(Ending::Status(1), Fault::Disk), (Ending::Never, Fault::Silent)] {
        machine.0.borrow_mut().ending = ending;
        assert_eq!(finds(&machine, memory, None), Err(fault));
    }
}

#[test]
fn disks_with_long_sectors_or_short_commands_are_refused() {
    for (word, value) in [(83, 0x4000), (83, 0x0400), (83, 0xc400), (106, 0x5000)] {
        let (machine, memory) = machine();
        machine.0.borrow_mut().ports[PORT].identity.as_mut().unwrap()[word] = value;
        assert_eq!(finds(&machine, memory, None), Err(Fault::Absent), "word {word}: {value:#x}");
    }
    // What the word says counts only if it is valid.
    let (machine, memory) = machine();
    machine.0.borrow_mut().ports[PORT].identity.as_mut().unwrap()[106] = 0x9000;
    assert_eq!(finds(&machine, memory, None), Ok((2, SECTORS)));
}

#[test]
fn the_firmware_hands_over_or_is_left() {
    for lets_go in [true, false] {
        let (machine, memory) = machine();
        machine.0.borrow_mut().handover = Some((1, lets_go));
        assert_eq!(finds(&machine, memory, None), Ok((2, SECTORS)));
        assert_eq!(machine.0.borrow().handover.unwrap().0 & 2, 2, "it was asked");
    }
}

#[test]
fn a_controller_that_stays_in_reset_is_given_up() {
    let (machine, memory) = machine();
    machine.0.borrow_mut().dead = true;
    assert_eq!(finds(&machine, memory, None), Err(Fault::Silent));
}

#[test]
fn memory_that_the_controller_does_not_reach_is_refused() {
    let (machine, memory) = machine();
    for bus in [512, u64::MAX - 4095, u64::MAX] {
        assert_eq!(Disk::find(machine.clone(), memory, bus, None).err(), Some(Fault::Memory), "{bus:#x}");
    }
    let small = memory.part(0, BUFFER + 511).unwrap();
    assert_eq!(Disk::find(machine.clone(), small, BUS, None).err(), Some(Fault::Memory));
    machine.0.borrow_mut().wide = false;
    for bus in [BUS, (1 << 32) - 4096] {
        assert_eq!(Disk::find(machine.clone(), memory, bus, None).err(), Some(Fault::Memory), "{bus:#x}");
    }
    assert_eq!(machine.0.borrow().resets, 0);
}

#[test]
fn sectors_arrive() {
    let (mut disk, machine, memory) = found();
    for (sector, sectors) in [(0u64, 1u32), (7, 128), (872, 128), (999, 1), (3, 248)] {
        disk.transfer(Transfer::Read, sector, sectors).unwrap();
        let mut bytes = vec![0; sectors as usize * 512];
        memory.read(BUFFER, &mut bytes).unwrap();
        let model = machine.0.borrow();
        assert!(bytes == model.medium[sector as usize * 512..][..bytes.len()], "{sector}+{sectors}");
        assert_eq!(model.log.last(), Some(&(0x25, sector, sectors)));
    }
    let written: Vec<u8> = (0..128 * 512).map(|at| (at / 3) as u8).collect();
    memory.write(BUFFER, &written).unwrap();
    let before = machine.0.borrow().medium.clone();
    disk.transfer(Transfer::Write, 100, 128).unwrap();
    disk.flush().unwrap();
    let model = machine.0.borrow();
    assert_eq!(model.log[model.log.len() - 2..], [(0x35, 100, 128), (0xea, 0, 0)]);
    assert!(model.medium[100 * 512..228 * 512] == written);
    assert!(model.medium[..100 * 512] == before[..100 * 512] && model.medium[228 * 512..] == before[228 * 512..]);
    assert_eq!(model.acknowledged as usize, model.log.len() + 1, "an interrupt for each, and for IDENTIFY");
}

#[test]
fn nothing_outside_the_disk_is_asked_for() {
    const OUTSIDE: [(u64, u32); 9] = [
        (1000, 1),
        (999, 2),
        (873, 128),
        (0, 0),
        (1 << 28, 1),
        (1 << 32, 1),
        (1 << 48, 1),
        (1 << 63, 1),
        (u64::MAX, 1),
    ];
    let (mut disk, machine, _) = found();
    for (sector, sectors) in OUTSIDE {
        for way in [Transfer::Read, Transfer::Write] {
            assert_eq!(disk.transfer(way, sector, sectors), Err(Fault::Disk), "{sector:#x}+{sectors}");
        }
    }
    // Inside, but more than the memory has room for, or than a region.
    assert_eq!(disk.transfer(Transfer::Read, 0, 249), Err(Fault::Memory));
    assert_eq!(machine.0.borrow().log, []);
    let (machine, memory) = self::machine();
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(1 << 48, b'1'));
    let mut disk = Disk::find(machine.clone(), memory, BUS, None).expect("a disk");
    for sectors in [8193, 0xffff, 0x1_0000, u32::MAX] {
        assert_eq!(disk.transfer(Transfer::Read, 0, sectors), Err(Fault::Memory), "{sectors}");
    }
}

#[test]
fn all_48_bits_of_a_sector_s_number_arrive() {
    let (machine, memory) = machine();
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(1 << 48, b'1'));
    let mut disk = Disk::find(machine.clone(), memory, BUS, None).expect("a disk");
    for sector in [0x1234_5678_9abc, 1 << 32, (1 << 24) - 1, 1 << 24, (1 << 48) - 2] {
        disk.transfer(Transfer::Read, sector, 2).unwrap();
        assert_eq!(machine.0.borrow().log.last(), Some(&(0x25, sector, 2)));
    }
    assert_eq!(disk.transfer(Transfer::Read, (1 << 48) - 1, 2), Err(Fault::Disk));
}

#[test]
fn what_the_disk_reports_is_that_command_s() {
    let (mut disk, machine, _) = found();
    for bits in [0x01, 0x20, 0x21] {
        machine.0.borrow_mut().ending = Ending::Status(bits);
        assert_eq!(disk.transfer(Transfer::Write, 1, 1), Err(Fault::Disk));
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
        machine.0.borrow_mut().ending = Ending::Status(bits);
        assert_eq!(disk.flush(), Err(Fault::Disk));
        assert_eq!(disk.flush(), Ok(()));
    }
    assert_eq!(machine.0.borrow().ports[PORT].link_resets, 0, "the link is as it was");
    // Busy, or with data to transfer, it takes more than a restart of the port.
    for bits in [0x81, 0x09] {
        machine.0.borrow_mut().ending = Ending::Status(bits);
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Disk));
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
    }
    assert_eq!(machine.0.borrow().ports[PORT].link_resets, 2);
}

#[test]
fn errors_of_the_controller_reset_the_link() {
    let (mut disk, machine, _) = found();
    for (n, bit) in (1..).zip([24, 27, 28, 29]) {
        machine.0.borrow_mut().ending = Ending::Interrupt(1 << bit);
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Dma), "bit {bit}");
        assert_eq!(machine.0.borrow().ports[PORT].link_resets, n);
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
    }
    machine.0.borrow_mut().ending = Ending::Short;
    assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Dma), "not all bytes have come");
}

#[test]
fn a_disk_that_does_not_answer_is_reset() {
    let (mut disk, machine, _) = found();
    machine.0.borrow_mut().ending = Ending::Interrupt(0);
    assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Silent));
    assert_eq!(machine.0.borrow().ports[PORT].link_resets, 1);
    assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
    // A port that does not stop takes a reset of the controller.
    for resets in [2, 3] {
        machine.0.borrow_mut().ending = Ending::Never;
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Silent));
        assert_eq!(machine.0.borrow().resets, resets);
        assert_eq!(disk.flush(), Ok(()));
    }
}

#[test]
fn interrupts_from_elsewhere_end_no_command_and_not_for_ever() {
    let (mut disk, machine, memory) = found();
    // Another device on the line: nothing of the port's has changed when the driver looks.
    machine.0.borrow_mut().strays = 5;
    machine.0.borrow_mut().ending = Ending::Interrupt(0);
    assert_eq!(disk.transfer(Transfer::Read, 5, 1), Err(Fault::Silent), "and then nothing comes");
    machine.0.borrow_mut().strays = u32::MAX;
    machine.0.borrow_mut().ending = Ending::Interrupt(0);
    assert_eq!(disk.transfer(Transfer::Read, 5, 1), Err(Fault::Silent));
    machine.0.borrow_mut().strays = 0;
    disk.transfer(Transfer::Read, 5, 1).unwrap();
    let mut bytes = [0; 512];
    memory.read(BUFFER, &mut bytes).unwrap();
    assert_eq!(bytes[..], machine.0.borrow().medium[5 * 512..6 * 512]);
}

#[test]
fn a_disk_that_is_unplugged_is_an_error_at_once_and_comes_back() {
    let (mut disk, machine, _) = found();
    machine.0.borrow_mut().ending = Ending::Unplugged;
    machine.0.borrow_mut().slept = 0;
    for _ in 0..10 {
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Absent));
        assert_eq!(disk.flush(), Err(Fault::Absent));
    }
    assert!(machine.0.borrow().slept < 1000, "it waits {} ms", machine.0.borrow().slept);
    assert_eq!(machine.0.borrow().log.len(), 1, "a command goes to no disk");
    // Another disk is none of ours, and stays untouched.
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(SECTORS, b'2'));
    for _ in 0..2 {
        assert_eq!(disk.transfer(Transfer::Write, 1, 1), Err(Fault::Foreign));
    }
    assert_eq!(machine.0.borrow().log[1..], [(0xec, 0, 0)]);
    machine.0.borrow_mut().ports[PORT].identity = None;
    assert_eq!(disk.transfer(Transfer::Write, 1, 1), Err(Fault::Absent));
    machine.0.borrow_mut().ports[PORT].identity = Some(identity(SECTORS, b'1'));
    assert_eq!(disk.transfer(Transfer::Write, 1, 1), Ok(()));
}

#[test]
fn a_disk_that_is_unplugged_between_commands_interrupts_once() {
    let (mut disk, machine, _) = found();
    disk.transfer(Transfer::Write, 1, 1).unwrap();
    let identity = machine.0.borrow_mut().ports[PORT].identity.take();
    machine.0.borrow_mut().ports[PORT].is = 1 << 22;
    machine.0.borrow_mut().ports[PORT].serr = 1 << 16;
    disk.stray();
    assert_eq!((machine.0.borrow().ports[PORT].is, machine.0.borrow().ports[PORT].serr), (0, 0));
    assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Absent));
    machine.0.borrow_mut().ports[PORT].identity = identity;
    assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
    assert_eq!(disk.flush(), Err(Fault::Absent), "what was in its cache only may be lost");
}

#[test]
fn what_was_only_in_the_cache_of_a_disk_that_was_away_fails_the_next_flush() {
    let (mut disk, machine, _) = found();
    let away = |disk: &mut Disk<Machine>| {
        let identity = machine.0.borrow().ports[PORT].identity.clone();
        machine.0.borrow_mut().ending = Ending::Unplugged;
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Err(Fault::Absent));
        machine.0.borrow_mut().ports[PORT].identity = identity;
        assert_eq!(disk.transfer(Transfer::Read, 1, 1), Ok(()));
    };
    disk.transfer(Transfer::Write, 1, 1).unwrap();
    away(&mut disk);
    assert_eq!(disk.flush(), Err(Fault::Absent));
    assert_eq!(disk.flush(), Ok(()), "once");
    away(&mut disk);
    assert_eq!(disk.flush(), Ok(()), "nothing was in it");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// However commands end: those that end well have done what they say, and the disk comes back after all others.
    #[test]
    fn commands_end_as_the_disk_ends_them(work in prop::collection::vec((0..1100u64, 0..140u32, 0..3u8, 0..9u8), 1..30)) {
        let (mut disk, machine, memory) = found();
        let mut expected = machine.0.borrow().medium.clone();
        for (sector, sectors, what, ending) in work {
            machine.0.borrow_mut().slept = 0;
            machine.0.borrow_mut().ending = match ending {
                0 => Ending::Status(1),
                1 => Ending::Status(0x89),
                2 => Ending::Interrupt(1 << 29),
                3 => Ending::Never,
                _ => Ending::Well,
            };
            let inside = what == 2 || sector + u64::from(sectors) <= SECTORS && sectors > 0;
            let bytes = sector as usize * 512..(sector + u64::from(sectors)) as usize * 512;
            memory.fill(BUFFER, MEMORY - BUFFER, sector as u8).unwrap();
            let ended = match what {
                0 => disk.transfer(Transfer::Read, sector, sectors),
                1 => disk.transfer(Transfer::Write, sector, sectors),
                _ => disk.flush(),
            };
            prop_assert_eq!(ended.is_ok(), inside && ending > 3);
            if ended.is_ok() && what == 0 {
                let mut read = vec![0; bytes.len()];
                memory.read(BUFFER, &mut read).unwrap();
                prop_assert!(read == expected[bytes.clone()]);
            }
            if ended.is_ok() && what == 1 {
                expected[bytes].fill(sector as u8);
            }
            machine.0.borrow_mut().ending = Ending::Well;
        }
        prop_assert!(machine.0.borrow().medium == expected);
    }
}
