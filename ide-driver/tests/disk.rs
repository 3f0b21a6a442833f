//! The driver against a model of a disk behind a bus master: registers, table of regions, interrupt. Numbers are written
//! again from ATA-7 and the bus master's specification.

use std::{cell::RefCell, rc::Rc};

use disk::{Disk as _, Fault, SECTOR};
use ide_driver::{Controller, Disk};
use mmio::{OutOfRange, Ports, Window};

const MASTER: u16 = 0xc000;
/// The memory's address on the bus. The next multiple of 64 KiB is 36 KiB away.
const BUS: u64 = 0x0123_7000;
const MEMORY: usize = 192 << 10;
const SECTORS: u64 = 1000;

/// How commands end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    Well,
    /// The status has this bit.
    Status(u8),
    /// The bus master reports an error.
    BusError,
    /// No interrupt; the disk stays busy until it is reset.
    Never,
}

/// What the model has seen, and how it behaves.
struct Model {
    memory: Window,
    medium: Vec<u8>,
    sectors: u64,
    /// It has the longer commands.
    wide: bool,
    ending: Ending,
    /// An interrupt comes while the disk is still busy.
    stray: bool,
    /// Commands: number, sector, count.
    log: Vec<(u8, u64, u32)>,
    resets: u32,
    /// The sector count and the three LBA registers: each with what was in it before.
    registers: [[u8; 2]; 4],
    device: u8,
    status: u8,
    identity: Vec<u16>,
    table: u32,
    direction: u8,
    master_status: u8,
    command: u8,
    /// A command of DMA is under way.
    is_busy: bool,
}

impl Model {
    fn is_wide(&self) -> bool {
        matches!(self.command, 0x25 | 0x35)
    }

    fn sector(&self) -> u64 {
        let [_, low, mid, high] = self.registers;
        let bytes = match self.is_wide() {
            true => [low[0], mid[0], high[0], low[1], mid[1], high[1], 0, 0],
            false => [low[0], mid[0], high[0], self.device & 0xf, 0, 0, 0, 0],
        };
        u64::from_le_bytes(bytes)
    }

    fn count(&self) -> u32 {
        match self.registers[0] {
            [now, before] if self.is_wide() => u32::from(before) << 8 | u32::from(now),
            [0, _] => 256,
            [now, _] => now.into(),
        }
    }

    /// The regions of the table: where in the memory, how many bytes.
    fn regions(&self) -> Vec<(u64, u64)> {
        let mut regions = Vec::new();
        for entry in 0.. {
            let at = u64::from(self.table) - BUS + 8 * entry;
            let (address, flags) = (self.memory.read_u32(at).unwrap(), self.memory.read_u32(at + 4).unwrap());
            let len = if flags & 0xffff == 0 { 0x1_0000 } else { u64::from(flags & 0xffff) };
            let address = u64::from(address);
            assert_eq!(address / 0x1_0000, (address + len - 1) / 0x1_0000, "a region crosses 64 KiB");
            regions.push((address - BUS, len));
            if flags & 1 << 31 != 0 {
                break;
            }
        }
        regions
    }

    fn start(&mut self, command: u8) {
        self.command = command;
        match command {
            0xec => {
                self.identity = vec![0; 256];
                self.identity[60] = SECTORS as u16;
                if self.wide {
                    self.identity[83] = 1 << 10;
                    (0..4).for_each(|n| self.identity[100 + n] = (self.sectors >> (16 * n)) as u16);
                }
                self.status = 0x58;
            }
            0xe7 => {
                self.log.push((command, 0, 0));
                self.end();
            }
            // Waits for the bus master.
            _ => self.status = 0x80,
        }
    }

    fn end(&mut self) {
        self.status = match self.ending {
            Ending::Status(bit) => 0x50 | bit,
            Ending::Never => 0x80,
            Ending::Well | Ending::BusError => 0x50,
        };
        self.master_status |= match self.ending {
            Ending::Never => 0,
            Ending::BusError => 0b110,
            Ending::Well | Ending::Status(_) => 0b100,
        };
    }

    /// Begins with a command: a read has its data in memory at once, a write fetches them at its end, so that a driver which
    /// uses memory too early or too late shows.
    fn begin(&mut self) {
        let (command, sector, count) = (self.command, self.sector(), self.count());
        self.log.push((command, sector, count));
        let reads = matches!(command, 0x25 | 0xc8);
        assert_eq!(self.direction, if reads { 8 } else { 0 }, "direction");
        let lens: u64 = self.regions().iter().map(|(_, len)| len).sum();
        assert_eq!(lens, u64::from(count) * 512, "the table has other bytes than the command");
        self.is_busy = true;
        if reads {
            self.transfer(true);
        }
    }

    fn transfer(&mut self, reads: bool) {
        let mut at = self.sector() as usize * 512;
        if self.ending == Ending::Well && self.sector() < SECTORS {
            for (memory, len) in self.regions() {
                let place = at..at + len as usize;
                at = place.end;
                match reads {
                    true => self.memory.write(memory, &self.medium[place]).unwrap(),
                    false => self.memory.read(memory, &mut self.medium[place]).unwrap(),
                }
            }
        }
    }

    /// Ends the command, if it does not stay busy.
    fn end_transfer(&mut self) {
        if std::mem::take(&mut self.is_busy) {
            if matches!(self.command, 0x35 | 0xca) {
                self.transfer(false);
            }
            self.end();
        }
    }
}

#[derive(Clone)]
struct Machine(Rc<RefCell<Model>>);

impl Ports for Machine {
    fn in8(&mut self, port: u16) -> u8 {
        let model = self.0.borrow();
        match port {
            _ if model.sectors == 0 => 0xff,
            0x1f7 | 0x3f6 => model.status,
            port if port == MASTER + 2 => model.master_status,
            _ => panic!("reads {port:#x}"),
        }
    }
    fn out8(&mut self, port: u16, value: u8) {
        let mut model = self.0.borrow_mut();
        match port {
            0x1f2..=0x1f5 => {
                let register = &mut model.registers[usize::from(port - 0x1f2)];
                *register = [value, register[0]];
            }
            0x1f6 => {
                assert_eq!(value & 0xf0, 0xe0, "LBA, master");
                model.device = value;
            }
            0x1f7 => model.start(value),
            0x3f6 if value == 4 => {
                model.resets += 1;
                (model.status, model.ending) = (0x50, Ending::Well);
            }
            0x3f6 => assert_eq!(value, 0, "interrupts are on"),
            port if port == MASTER => {
                model.direction = value & 8;
                if value & 1 != 0 {
                    model.begin();
                }
            }
            port if port == MASTER + 2 => model.master_status &= !(value & 6),
            _ => panic!("writes {port:#x}"),
        }
    }
    fn in16(&mut self, port: u16) -> u16 {
        assert_eq!(port, 0x1f0);
        let mut model = self.0.borrow_mut();
        let word = model.identity.remove(0);
        if model.identity.is_empty() {
            model.status = 0x50;
        }
        word
    }
    fn out16(&mut self, port: u16, _: u16) {
        panic!("writes {port:#x}");
    }
    fn in32(&mut self, port: u16) -> u32 {
        panic!("reads {port:#x}");
    }
    fn out32(&mut self, port: u16, value: u32) {
        assert_eq!(port, MASTER + 4);
        self.0.borrow_mut().table = value;
    }
}

impl Controller for Machine {
    fn wait(&mut self) -> bool {
        let mut model = self.0.borrow_mut();
        if std::mem::take(&mut model.stray) {
            model.status |= 0x80;
        } else {
            model.status &= !0x80;
            model.end_transfer();
        }
        model.ending != Ending::Never
    }
    fn acknowledge(&mut self) {}
}

/// A disk of so many sectors, the model behind it, and the memory.
fn find(sectors: u64, wide: bool) -> (Result<Disk<Machine>, Fault>, Machine, Window) {
    let memory = Window::leak(vec![0; MEMORY].leak());
    let machine = Machine(Rc::new(RefCell::new(Model {
        memory,
        medium: (0..SECTORS * SECTOR).map(|at| (at / 512 + at % 7) as u8).collect(),
        sectors,
        wide,
        ending: Ending::Well,
        stray: false,
        log: vec![],
        resets: 0,
        registers: [[0; 2]; 4],
        device: 0,
        status: 0x50,
        identity: vec![],
        table: 0,
        direction: 0,
        master_status: 0,
        command: 0,
        is_busy: false,
    })));
    (Disk::find(machine.clone(), MASTER, memory, BUS), machine, memory)
}

fn disk() -> (Disk<Machine>, Machine, Window) {
    let (disk, machine, memory) = find(SECTORS, false);
    (disk.expect("a disk"), machine, memory)
}

#[test]
fn a_disk_says_how_many_sectors_it_has() {
    assert_eq!(disk().0.sectors(), SECTORS);
    assert_eq!(find(0x0123_4567_89ab, true).0.expect("a disk").sectors(), 0x0123_4567_89ab);
    assert_eq!(find(0, false).0.err(), Some(Fault::Absent));
}

#[test]
fn memory_that_the_controller_does_not_reach_is_refused() {
    let (_, machine, memory) = disk();
    for bus in [1 << 32, (1 << 32) - 4096, u64::MAX - 4096] {
        assert_eq!(Disk::find(machine.clone(), MASTER, memory, bus).err(), Some(Fault::Memory), "{bus:#x}");
    }
}

/// Sectors, as the driver takes them from memory.
fn read(disk: &mut Disk<Machine>, sector: u64, sectors: u32) -> Result<Vec<u8>, Fault> {
    let mut found = vec![];
    disk.read(sector, sectors, |bytes| {
        let at = found.len();
        found.resize(at + bytes.len() as usize, 0);
        bytes.read(0, &mut found[at..])
    })?;
    Ok(found)
}

fn write(disk: &mut Disk<Machine>, sector: u64, sectors: u32, data: &[u8]) -> Result<(), Fault> {
    let mut at = 0;
    disk.write(sector, sectors, |bytes| {
        let from = at;
        at += bytes.len() as usize;
        bytes.write(0, &data[from..at])
    })
}

#[test]
fn sectors_arrive_by_commands_of_64_kib() {
    let (mut disk, machine, _) = disk();
    for (sector, sectors) in [(0u64, 1u32), (7, 128), (872, 128), (999, 1), (3, 129), (3, 256), (1, 999)] {
        machine.0.borrow_mut().log.clear();
        let bytes = read(&mut disk, sector, sectors).unwrap();
        let model = machine.0.borrow();
        assert!(bytes == model.medium[sector as usize * 512..][..sectors as usize * 512], "{sector}+{sectors}");
        let first = (0xc8, sector, sectors.min(128));
        assert_eq!((model.log[0], model.log.len() as u32), (first, sectors.div_ceil(128)));
    }
    for sectors in [128, 300] {
        let data: Vec<u8> = (0..sectors * 512).map(|at| (at / 3) as u8).collect();
        let before = machine.0.borrow().medium.clone();
        write(&mut disk, 100, sectors as u32, &data).unwrap();
        let model = machine.0.borrow();
        let (first, end) = (100 * 512, (100 + sectors) * 512);
        assert!(model.medium[first..end] == data, "{sectors}");
        assert!(model.medium[..first] == before[..first] && model.medium[end..] == before[end..]);
    }
    assert_eq!(machine.0.borrow().log[8..], [(0xca, 100, 128), (0xca, 100, 128), (0xca, 228, 128), (0xca, 356, 44)]);
}

/// Two regions and a table, wherever the memory begins.
#[test]
fn memory_of_192_kib_is_enough() {
    for bus in [0, 0x1000, 0xf000, 0x1_0000] {
        let (_, machine, memory) = disk();
        let disk = |len| Disk::find(machine.clone(), MASTER, memory.part(0, len).unwrap(), bus).map(drop);
        assert_eq!(disk(192 << 10), Ok(()), "{bus:#x}");
        assert_eq!(disk(128 << 10), Err(Fault::Memory), "{bus:#x}");
    }
}

#[test]
fn nothing_outside_the_disk_is_asked_for() {
    const OUTSIDE: [(u64, u32); 8] =
        [(1000, 1), (999, 2), (873, 128), (0, 0), (1 << 28, 1), (1 << 32, 1), (1 << 63, 1), (u64::MAX, 1)];
    let (mut disk, machine, _) = disk();
    for (sector, sectors) in OUTSIDE {
        let nothing = |_| panic!("{sector:#x}+{sectors}");
        assert_eq!(disk.read(sector, sectors, nothing), Err(Fault::Disk), "{sector:#x}+{sectors}");
        assert_eq!(disk.write(sector, sectors, nothing), Err(Fault::Disk), "{sector:#x}+{sectors}");
    }
    assert_eq!(machine.0.borrow().log, []);
}

/// What cannot be copied fails its request, and the disk is not left in the middle of a command.
#[test]
fn a_copy_that_fails_is_the_request_s_fault() {
    let (mut disk, machine, _) = disk();
    for fails in 0..3 {
        let copy = |n: &mut u32| {
            *n += 1;
            if *n == fails + 1 { Err(OutOfRange) } else { Ok(()) }
        };
        let (mut reads, mut writes) = (0, 0);
        assert_eq!(disk.read(0, 300, |_| copy(&mut reads)), Err(Fault::Memory), "{fails}");
        assert_eq!(disk.write(0, 300, |_| copy(&mut writes)), Err(Fault::Memory), "{fails}");
        assert_eq!((reads, writes), (fails + 1, fails + 1));
        assert!(!machine.0.borrow().is_busy, "{fails}");
    }
}

#[test]
fn sectors_that_28_bits_do_not_reach_go_by_the_longer_commands() {
    let (disk, machine, _) = find(1 << 40, true);
    let mut disk = disk.expect("a disk");
    let nothing = |_| Ok(());
    disk.read((1 << 28) - 1, 1, nothing).unwrap();
    disk.read((1 << 28) - 1, 2, nothing).unwrap();
    disk.write(0x12_3456_789a, 128, nothing).unwrap();
    let expected = [(0xc8, 0x0fff_ffff, 1), (0x25, 0x0fff_ffff, 2), (0x35, 0x12_3456_789a, 128)];
    assert_eq!(machine.0.borrow().log, expected);
}

#[test]
fn a_flush_ends_when_the_disk_says_so() {
    let (mut disk, machine, _) = disk();
    disk.flush().unwrap();
    assert_eq!(machine.0.borrow().log, [(0xe7, 0, 0)]);
    machine.0.borrow_mut().ending = Ending::Status(1);
    assert_eq!(disk.flush(), Err(Fault::Disk));
}

#[test]
fn what_the_disk_reports_is_that_command_s() {
    const FAULTS: [(Ending, Fault); 3] =
        [(Ending::Status(0x01), Fault::Disk), (Ending::Status(0x20), Fault::Disk), (Ending::BusError, Fault::Dma)];
    let (mut disk, machine, _) = disk();
    for (ending, fault) in FAULTS {
        machine.0.borrow_mut().ending = ending;
        assert_eq!(write(&mut disk, 1, 1, &[1; 512]), Err(fault));
        machine.0.borrow_mut().ending = Ending::Well;
        assert_eq!(read(&mut disk, 1, 1).map(drop), Ok(()));
    }
    assert_eq!(machine.0.borrow().resets, 1, "only the first one");
}

#[test]
fn a_disk_that_does_not_answer_is_reset() {
    let (mut disk, machine, _) = disk();
    machine.0.borrow_mut().ending = Ending::Never;
    assert_eq!(read(&mut disk, 1, 1).map(drop), Err(Fault::Silent));
    assert_eq!(machine.0.borrow().resets, 2);
    assert_eq!(read(&mut disk, 1, 1).map(drop), Ok(()));
    machine.0.borrow_mut().ending = Ending::Never;
    assert_eq!(disk.flush(), Err(Fault::Silent));
    assert_eq!(disk.flush(), Ok(()));
    // It still wants to transfer something.
    for n in 3..5 {
        machine.0.borrow_mut().status = 0x58;
        assert_eq!(if n == 3 { disk.flush() } else { write(&mut disk, 1, 1, &[1; 512]) }, Ok(()));
        assert_eq!(machine.0.borrow().resets, n + 1);
    }
}

#[test]
fn an_interrupt_from_before_ends_no_command() {
    let (mut disk, machine, _) = disk();
    machine.0.borrow_mut().stray = true;
    let bytes = read(&mut disk, 5, 1).unwrap();
    assert_eq!(bytes[..], machine.0.borrow().medium[5 * 512..6 * 512]);
}
