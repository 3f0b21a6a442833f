//! Forwarded devices: a server that remembers in the place of pci-server's.

use std::cell::RefCell;

use devices::{Nanos, Width};
use layout::guest_board::Chipset;
use proptest::prelude::*;
use proto::pci::{self, Error, Target};
use vmm_server::{
    answer::Next,
    board::{self, Board},
    passthrough::windows::{BarSpace, BarWindow},
    passthrough::{Passthrough, Server},
};
use vtx::{exit::RawExit, gpr::Gprs};

use crate::fake::{NOW, Ports, RIP, answer, guest, raw, reason};

type Access = (Target, u8, Option<u32>);

/// Answers every access with the same, and remembers it.
struct Recorder {
    answer: Result<u32, Error>,
    seen: RefCell<Vec<Access>>,
}

impl Server for Recorder {
    fn read(&self, target: &Target, width: pci::Width) -> Result<u32, Error> {
        self.seen.borrow_mut().push((*target, width.bytes(), None));
        self.answer
    }

    fn write(&self, target: &Target, width: pci::Width, value: u32) -> Result<(), Error> {
        self.seen.borrow_mut().push((*target, width.bytes(), Some(value)));
        self.answer.map(|_| ())
    }
}

pub const MEMORY: BarSpace = BarSpace::Memory { wide: false };

/// What pci-server makes the accesses to, wherever the guest would have it.
pub fn fixed(space: BarSpace, base: u64, size: u64) -> BarWindow {
    BarWindow { function: 0, bar: 0, space, base, home: base, size, direct: false, kept: None, movable: false }
}

/// Two functions, ports 0x1f0 to 0x1f7 and 0xc000 to 0xc00f, a page at 0xe0000000.
fn plugged(machine: &mut Board, answer: Result<u32, Error>) -> &'static Recorder {
    let server: &'static Recorder = Box::leak(Box::new(Recorder { answer, seen: RefCell::default() }));
    let mut devices = Passthrough::new(server);
    devices.functions = 2;
    devices.add(fixed(BarSpace::Ports, 0x1f0, 8)).unwrap();
    devices.add(fixed(BarSpace::Ports, 0xc000, 16)).unwrap();
    devices.add(fixed(MEMORY, 0xe000_0000, 0x1000)).unwrap();
    machine.plug(devices);
    server
}

fn machine(answer: Result<u32, Error>) -> (Board, &'static Recorder) {
    let mut machine = Board::new(Chipset::Pc1995, 1 << 20, 0);
    let server = plugged(&mut machine, answer);
    (machine, server)
}

fn select(machine: &mut Board, device: u32, register: u32) {
    machine.output(0xcf8, Width::Dword, 0x8000_0000 | device << 11 | register, NOW);
}

fn seen(server: &Recorder) -> Vec<Access> {
    server.seen.take()
}

#[test]
fn configuration_space_of_each_function_is_forwarded_by_its_number() {
    let (mut machine, server) = machine(Ok(0x1234_5678));
    for device in 1..=2 {
        select(&mut machine, device, 0x10);
        assert_eq!(machine.input(0xcfc, Width::Dword, NOW), 0x1234_5678);
        machine.output(0xcfe, Width::Word, 0xffff_0123, NOW);
        let target = |offset| Target::Config { function: device as u8 - 1, offset };
        assert_eq!(seen(server), [(target(0x10), 4, None), (target(0x12), 2, Some(0x123))]);
    }
}

#[test]
fn an_unaligned_access_to_configuration_space_is_one_to_each_byte() {
    let (mut machine, server) = machine(Ok(0x5a));
    select(&mut machine, 1, 0x40);
    let target = |offset| Target::Config { function: 0, offset };
    assert_eq!(machine.input(0xcfd, Width::Word, NOW), 0x5a5a);
    assert_eq!(seen(server), [(target(0x41), 1, None), (target(0x42), 1, None)]);
    assert_eq!(machine.input(0xcfe, Width::Dword, NOW), 0xffff_5a5a, "two bytes are behind the port");
    machine.output(0xcff, Width::Word, 0x1122, NOW);
    assert_eq!(seen(server)[2..], [(target(0x43), 1, Some(0x22))]);
}

#[test]
fn the_host_bridge_and_the_rest_of_the_bus_are_not_forwarded() {
    let (mut machine, server) = machine(Ok(0));
    for (device, found) in [(0, 0x1237_8086), (3, u32::MAX), (31, u32::MAX)] {
        select(&mut machine, device, 0);
        assert_eq!(machine.input(0xcfc, Width::Dword, NOW), found);
    }
    select(&mut machine, 1, 0x100);
    assert_eq!(machine.input(0xcfc, Width::Dword, NOW), u32::MAX, "function 1");
    machine.output(0xcf8, Width::Dword, 0x8001_0800, NOW);
    assert_eq!(machine.input(0xcfc, Width::Dword, NOW), u32::MAX, "bus 1");
    assert_eq!(seen(server), []);
}

#[test]
fn a_reset_leaves_the_devices_where_they_are() {
    let (mut machine, server) = machine(Ok(7));
    let _ = machine.reset();
    select(&mut machine, 2, 0);
    assert_eq!(machine.input(0xcfc, Width::Dword, NOW), 7);
    assert_eq!(machine.input(0x1f7, Width::Byte, NOW), 7);
    assert_eq!(seen(server).len(), 2);
}

#[test]
fn ports_in_a_range_are_forwarded_and_their_neighbours_are_not() {
    let (mut machine, server) = machine(Ok(0xabcd_ef01));
    assert_eq!(machine.input(0x1f0, Width::Word, NOW), 0xef01);
    machine.output(0xc00f, Width::Byte, 0x1ff, NOW);
    for port in [0x1ef, 0x1f8, 0xbfff, 0xc010] {
        machine.output(port, Width::Byte, 0, NOW);
        assert_eq!(machine.input(port, Width::Byte, NOW), 0xff);
    }
    assert_eq!(seen(server), [(Target::Port(0x1f0), 2, None), (Target::Port(0xc00f), 1, Some(0xff))]);
    assert_eq!(machine.passthrough.accesses, 2);
}

#[test]
fn what_is_refused_reads_ones() {
    let (mut machine, _) = machine(Err(Error::Straddles));
    assert_eq!(machine.input(0x1f7, Width::Word, NOW), 0xffff);
    machine.output(0x1f7, Width::Dword, 0, NOW);
    select(&mut machine, 1, 0);
    assert_eq!(machine.input(0xcfc, Width::Byte, NOW), 0xff);
}

#[test]
fn the_boards_own_ports_are_known() {
    for (first, last) in [(0x3f8, 0x3f8), (0x3f0, 0x3ff), (0x3ff, 0x400), (0xcf8, 0xcff), (0, 0xffff)] {
        assert!(board::models_port(first, last), "{first:#x}");
    }
    for (first, last) in [(0x1f0, 0x1f7), (0x3f6, 0x3f6), (0xd00, 0xffff), (0xcff + 1, 0xcff)] {
        assert!(!board::models_port(first, last), "{first:#x}");
    }
}

/// A guest that runs `code` with EAX 0x12345678 and ESI at the device's memory.
fn execute(code: &[u8], gpa: u64, answered: Result<u32, Error>) -> (u64, Vec<Access>) {
    let mut guest = guest();
    let server = plugged(&mut guest.vm.board, answered);
    guest.vm.ram.write(RIP, code).unwrap();
    let gprs = Gprs { rax: 0x1234_5678, rsi: gpa, ..Gprs::default() };
    let violation = 1 << 0 | 1 << 7 | 1 << 8;
    let exit = RawExit { guest_physical: gpa, ..raw(reason::EPT, violation, gprs) };
    assert_eq!(answer(&mut guest, exit), Next::Skip);
    (guest.cpu.exit.gprs.rax, seen(server))
}

#[test]
fn loads_and_stores_to_device_memory_are_forwarded() {
    // mov (%esi), %eax; mov (%esi), %al; mov %ax, (%esi)
    let target = Target::Memory(0xe000_0ffc);
    assert_eq!(execute(&[0x8b, 0x06], 0xe000_0ffc, Ok(0xcafe)), (0xcafe, vec![(target, 4, None)]));
    assert_eq!(execute(&[0x8a, 0x06], 0xe000_0ffc, Ok(0xcafe)), (0x1234_56fe, vec![(target, 1, None)]));
    assert_eq!(execute(&[0x66, 0x89, 0x06], 0xe000_0ffc, Ok(0)), (0x1234_5678, vec![(target, 2, Some(0x5678))]));
}

#[test]
fn memory_beside_it_is_unmapped_and_refused_reads_return_ones() {
    assert_eq!(execute(&[0x8b, 0x06], 0xe000_1000, Ok(0)), (0xffff_ffff, vec![]));
    assert_eq!(execute(&[0x8b, 0x06], 0xe000_0001, Err(Error::Straddles)).0, 0xffff_ffff);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn no_access_panics_or_reaches_what_was_not_granted(
        accesses in prop::collection::vec(
            (prop_oneof![0xcf8..0xd00u16, 0x1e8..0x200u16, 0xbff8..0xc018u16, any::<u16>()], 0..3usize, any::<u32>(), any::<bool>()),
            0..200,
        ),
        fails: bool,
    ) {
        let (mut machine, server) = machine(if fails { Err(Error::NotYours) } else { Ok(u32::MAX) });
        for (port, width, value, read) in accesses {
            let width = [Width::Byte, Width::Word, Width::Dword][width];
            if read {
                prop_assert_eq!(machine.input(port, width, Nanos(0)) & !width.mask32(), 0);
            } else {
                machine.output(port, width, value & 0x8000_ffff, Nanos(0));
            }
        }
        for (target, width, value) in seen(server) {
            match target {
                Target::Config { function, offset } => prop_assert!(function < 2 && offset % width == 0),
                Target::Port(port) => prop_assert!((0x1f0..=0x1f7).contains(&port) || (0xc000..=0xc00f).contains(&port)),
                Target::Memory(_) => prop_assert!(false, "by a port"),
            }
            prop_assert!(value.is_none_or(|value| width == 4 || value >> (8 * width) == 0));
        }
    }
}
