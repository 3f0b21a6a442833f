//! Modelled PCI functions on the guest's bus, by the accesses of a driver. Registers are numbers from the PCI and the virtio
//! specifications.

use std::cell::RefCell;

use devices::{
    Device, Effect, Nanos, Width,
    pic::Pic,
    virtio::{console::Console, network::Network, vsock::Vsock},
};
use layout::limits::MAX_MODELLED_FUNCTIONS;
use mmio::{RecordRing, Ring, Window};
use proptest::prelude::*;
use vmm_server::{
    functions::{Absent, Doorbell, Functions},
    ram::Ram,
};

/// Behind those of 16 functions that are passed through.
const DEVICE: u32 = 17;
/// Where the driver puts the entropy device.
const PORTS: u16 = 0xc000;
const MEMORY: u64 = 0xe000_0000;
/// A ring of 8 entries, in the legacy layout, and a buffer.
const RING: u64 = 0x4000;
const USED: u64 = RING + 0x1000;
const BUFFER: u64 = 0x8000;
/// The input of the PIC.
const INPUT: u8 = 11;

/// Nine bytes at most.
fn random(into: &mut [u8]) -> usize {
    let len = into.len().min(9);
    into[..len].copy_from_slice(&b"entropic!"[..len]);
    len
}

fn nothing(_: &mut [u8]) -> usize {
    0
}

/// What of the board the functions know.
struct Board {
    functions: Functions,
    pic: Pic,
    ram: Ram,
}

impl Board {
    fn new() -> Self {
        let (mut functions, ram) = (Functions::new(0), Ram::flat(Window::leak(vec![0; 0x1_0000].leak())));
        functions.use_memory(ram);
        Self { functions, pic: Pic::new(), ram }
    }

    /// With an entropy device whose BARs are placed.
    fn with_entropy(source: fn(&mut [u8]) -> usize) -> Self {
        let mut board = Self::new();
        board.functions.add_entropy(source, INPUT, &mut board.pic).unwrap();
        board.place();
        board
    }

    fn place(&mut self) {
        for (register, value) in [(0x10, PORTS.into()), (0x20, MEMORY as u32), (0x04, 0x0007)] {
            assert_eq!(self.configure(register, value), Effect::QUIET, "regions are the functions' own");
        }
    }

    fn config(&mut self, register: u32) -> u32 {
        self.functions.set_config_address(1 << 31 | DEVICE << 11 | register);
        self.functions.read_config(4, Width::Dword, &mut self.pic).0
    }

    fn configure(&mut self, register: u32, value: u32) -> Effect {
        self.functions.set_config_address(1 << 31 | DEVICE << 11 | register);
        self.functions.write_config(4, Width::Dword, value, &mut self.pic)
    }

    /// Reads a port of the function, or ones if it has none there.
    fn inp(&mut self, at: u16, width: Width) -> u64 {
        let Some(hit) = self.functions.port(PORTS + at, width) else { return width.mask() };
        self.functions.read(hit, width, &mut self.pic).0
    }

    fn outp(&mut self, at: u16, width: Width, value: u64) -> Effect {
        let Some(hit) = self.functions.port(PORTS + at, width) else { return Effect::QUIET };
        self.functions.write(hit, width, value, &mut self.pic)
    }

    fn read(&mut self, at: u64, width: Width) -> u64 {
        let Some(hit) = self.functions.memory(MEMORY + at, width) else { return width.mask() };
        self.functions.read(hit, width, &mut self.pic).0
    }

    fn write(&mut self, at: u64, width: Width, value: u64) -> Effect {
        let Some(hit) = self.functions.memory(MEMORY + at, width) else { return Effect::QUIET };
        self.functions.write(hit, width, value, &mut self.pic)
    }

    /// A legacy driver's start, with one buffer of 64 bytes in its ring, which is not notified of yet.
    fn start(&mut self) {
        for status in [0, 1, 3] {
            let _ = self.outp(18, Width::Byte, status);
        }
        self.ram.fill(RING, 0x2000, 0).unwrap();
        let _ = self.outp(8, Width::Dword, RING / 4096);
        let _ = self.outp(18, Width::Byte, 7);
        self.ram.write_u64(RING, BUFFER).unwrap();
        self.ram.write_u64(RING + 8, 0x0000_0002_0000_0040).unwrap(); // 64 bytes, for the device to write
        self.ram.write_u16(RING + 128 + 2, 1).unwrap();
    }

    fn kick(&mut self) -> Effect {
        self.outp(16, Width::Word, 0)
    }

    fn interrupts(&self) -> bool {
        self.pic.requested(INPUT)
    }

    fn levels(&mut self) -> u32 {
        self.pic.elcr().read(0, Width::Word, Nanos::ZERO)
    }
}

#[test]
fn a_guest_finds_it_with_no_address_and_a_line() {
    let mut board = Board::new();
    assert_eq!(board.config(0), u32::MAX, "no device unless it is asked for");
    board.functions.add_entropy(random, INPUT, &mut board.pic).unwrap();
    assert_eq!(board.config(0x00), 0x1005_1af4);
    assert_eq!([0x10, 0x20, 0x04].map(|register| board.config(register)), [1, 0, 0x0010_0000]);
    assert_eq!(board.config(0x3c), 0x0000_010b);
    assert_eq!(board.levels(), 1 << 11);
}

#[test]
fn a_legacy_driver_gets_bytes_and_an_interrupt() {
    let mut board = Board::with_entropy(random);
    board.start();
    assert_eq!(board.kick(), Effect::LINES);
    let mut bytes = [0; 10];
    board.ram.read(BUFFER, &mut bytes).unwrap();
    assert_eq!(&bytes, b"entropic!\0");
    assert_eq!(board.ram.read_u32(USED + 8), Ok(9));
    assert!(board.interrupts());
    assert_eq!(board.inp(19, Width::Byte), 1);
    assert!(!board.interrupts());
}

#[test]
fn its_memory_has_the_modern_interface() {
    let mut board = Board::with_entropy(random);
    for (at, width, value) in
        [(0x14, Width::Byte, 3), (0x08, Width::Dword, 1), (0x0c, Width::Dword, 1), (0x14, Width::Byte, 0x0b)]
    {
        assert_eq!(board.write(at, width, value), Effect::QUIET);
    }
    assert_eq!(board.read(0x14, Width::Byte), 0x0b);
    assert_eq!(board.read(0x18, Width::Word), 8);
    assert_eq!(board.read(0x4000, Width::Dword), 0xffff_ffff, "behind it");
    assert_eq!(board.read(0x3ffe, Width::Dword), 0xffff_ffff, "over its end");
}

#[test]
fn it_answers_where_it_was_put_last() {
    let mut board = Board::with_entropy(random);
    let _ = board.outp(18, Width::Byte, 1);
    let _ = board.configure(0x10, 0xd000);
    assert_eq!(board.inp(18, Width::Byte), 0xff);
    let hit = board.functions.port(0xd012, Width::Byte).unwrap();
    assert_eq!(board.functions.read(hit, Width::Byte, &mut board.pic), (1, Effect::QUIET));
    let _ = board.configure(0x04, 0x0006);
    assert_eq!(board.functions.port(0xd012, Width::Byte), None, "its ports are off");
    assert_eq!(board.read(0x14, Width::Byte), 1, "its memory is not");
}

#[test]
fn without_bytes_the_request_waits_for_the_next_look() {
    let mut board = Board::with_entropy(nothing);
    board.start();
    assert_eq!(board.kick(), Effect::OUTPUT);
    for _ in 0..3 {
        assert!(board.functions.is_waiting());
        assert_eq!(board.functions.serve(&mut board.pic), Effect::OUTPUT);
    }
    board.functions.reset(&mut board.pic);
    assert!(!board.functions.is_waiting());
}

#[test]
fn a_broken_queue_is_the_devices_trouble_alone() {
    let mut board = Board::with_entropy(random);
    board.start();
    board.ram.write_u16(RING + 128 + 2, 0x1234).unwrap();
    assert_eq!(board.kick(), Effect::LINES | Effect::OUTPUT);
    assert!(board.functions.is_waiting(), "for a line of the log");
    assert_eq!(board.functions.serve(&mut board.pic), Effect::QUIET);
    assert!(!board.functions.is_waiting());
    assert_eq!(board.inp(18, Width::Byte), 0x47);
    board.start();
    assert_eq!(board.kick(), Effect::LINES);
    assert_eq!(board.ram.read_u16(USED + 2), Ok(1), "a reset has mended it");
}

#[test]
fn a_reset_of_the_guest_takes_everything_back() {
    let mut board = Board::with_entropy(random);
    board.start();
    let _ = board.kick();
    board.pic = Pic::new();
    board.functions.reset(&mut board.pic);
    assert!(!board.interrupts());
    assert_eq!(board.levels(), 1 << 11);
    assert_eq!(board.inp(18, Width::Byte), 0xff, "it is nowhere");
    assert_eq!([0x10, 0x20, 0x04].map(|register| board.config(register)), [1, 0, 0x0010_0000]);
    board.place();
    assert_eq!(board.inp(18, Width::Byte), 0);
}

#[test]
fn what_the_board_has_is_no_bars() {
    let mut board = Board::with_entropy(random);
    let _ = board.configure(0x10, 0x0040);
    let _ = board.configure(0x20, 0xfee0_0000);
    assert_eq!(board.functions.port(0x43, Width::Byte), None, "the timer");
    assert!(board.functions.port(0x50, Width::Word).is_some());
    assert_eq!(board.functions.memory(0xfee0_0ff0, Width::Dword), None, "the local APIC");
    assert!(board.functions.memory(0xfee0_1000, Width::Dword).is_some());
}

#[test]
fn the_bus_has_room_for_so_many() {
    let mut board = Board::new();
    for _ in 0..MAX_MODELLED_FUNCTIONS {
        board.functions.add_entropy(random, INPUT, &mut board.pic).unwrap();
    }
    assert_eq!(board.functions.add_entropy(random, INPUT, &mut board.pic), Err(Absent::Bus));
}

#[test]
fn functions_on_one_input_do_not_take_each_others_interrupt_away() {
    let mut board = Board::with_entropy(random);
    board.functions.add_entropy(random, INPUT, &mut board.pic).unwrap();
    board.start();
    let _ = board.kick();
    // The second one's bus master bit and INTx disable: its own pin is low, before and after.
    board.functions.set_config_address(1 << 31 | (DEVICE + 1) << 11 | 4);
    assert_eq!(board.functions.write_config(4, Width::Dword, 0x0404, &mut board.pic), Effect::LINES);
    assert!(board.interrupts());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Registers at every width, in whatever order: no byte of memory changes where there is no request.
    #[test]
    fn registers_take_whatever_is_written(
        accesses in prop::collection::vec((any::<bool>(), any::<bool>(), 0..0x4000u64, 0..4u8, any::<u64>()), 1..100),
    ) {
        let mut board = Board::with_entropy(random);
        for (memory, write, at, width, value) in accesses {
            let width = Width::from_bytes(1 << width).unwrap();
            // Half of them near the registers of the modern interface.
            let at = if value & 1 == 0 { at % 0x40 } else { at };
            match (memory, write) {
                (true, true) => {
                    let _ = board.write(at, width, value);
                },
                (true, false) => prop_assert_eq!(board.read(at, width) & !width.mask(), 0),
                (false, true) => {
                    let _ = board.outp(at as u16 % 40, width, value);
                },
                (false, false) => prop_assert_eq!(board.inp(at as u16 % 40, width) & !width.mask(), 0),
            }
            if board.functions.is_waiting() {
                let _ = board.functions.serve(&mut board.pic);
            }
        }
        let mut bytes = vec![0; 0x1_0000];
        board.ram.read(0, &mut bytes).unwrap();
        // A ring that has come to lie there is one of zeros: it has no request, and its event index is 0.
        prop_assert!(bytes.iter().all(|byte| *byte == 0));
    }
}

thread_local! {
    /// The doorbells that were rung.
    static RUNG: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A legacy network driver sends a frame and gets one: the doorbell is rung when the loop serves, not during the access.
#[test]
fn a_network_device_has_its_doorbell_rung_after_the_access() {
    const TABLE: u64 = 0x8000;
    let mut board = Board::new();
    let rings = [(); 2].map(|()| RecordRing::new(Window::leak(vec![0; 4096].leak())).unwrap());
    let device = Network::new([2, 0, 0, 0, 0, 1], rings[0].producer(), rings[1].consumer());
    let (mut from, mut to) = (rings[0].consumer(), rings[1].producer());
    let doorbell = Doorbell { ring: |number| RUNG.with_borrow_mut(|rung| rung.push(number)), number: 3 };
    board.functions.add_network(device, doorbell, INPUT, &mut board.pic).unwrap();
    board.place();
    for status in [0, 1, 3] {
        let _ = board.outp(18, Width::Byte, status);
    }
    // A queue of 256 entries takes three pages: 16 bytes for each descriptor, then the available ring, then the used one.
    for (queue, page) in [(0, RING / 4096), (1, TABLE / 4096)] {
        let _ = board.outp(14, Width::Word, queue);
        let _ = board.outp(8, Width::Dword, page);
    }
    let _ = board.outp(18, Width::Byte, 7);
    let queue = |board: &Board, table: u64, gpa: u64, len: u64| {
        board.ram.write_u64(table, gpa).unwrap();
        board.ram.write_u64(table + 8, len).unwrap();
        board.ram.write_u16(table + 4096 + 2, 1).unwrap();
    };
    queue(&board, TABLE, 0xf000, 70);
    assert!(board.outp(16, Width::Word, 1).contains(Effect::OUTPUT));
    assert_eq!(from.peek().unwrap().map(|record| record.len()), Some(12 + 60));
    assert!(board.functions.is_waiting() && RUNG.take().is_empty());
    let _ = board.functions.serve(&mut board.pic);
    assert_eq!(RUNG.take(), [3]);
    assert!(!board.functions.is_waiting());
    assert_eq!(board.inp(19, Width::Byte), 1, "the driver has its buffer back");

    queue(&board, RING, 0xe000, 0x0000_0002_0000_0100);
    let mut record = to.reserve(72).unwrap();
    record.write(&[7; 72]).unwrap();
    record.publish();
    board.functions.wake();
    let _ = board.functions.serve(&mut board.pic);
    assert_eq!(board.ram.read_u32(RING + 0x2000 + 2).unwrap() & 0xffff, 0, "no driver takes such a header");
    let mut record = to.reserve(72).unwrap();
    record.write(&[0; 72]).unwrap();
    record.publish();
    board.functions.wake();
    let effect = board.functions.serve(&mut board.pic);
    assert_eq!(board.ram.read_u16(RING + 0x2000 + 2), Ok(1));
    assert_eq!(board.ram.read_u32(RING + 0x2000 + 8), Ok(70));
    assert!(effect.contains(Effect::LINES));
}

/// Whoever is connected to the guest learns of its reset, also if it has no driver any more.
#[test]
fn a_socket_device_tells_of_the_guests_reset() {
    let mut board = Board::new();
    let rings = [(); 2].map(|()| RecordRing::new(Window::leak(vec![0; 4096].leak())).unwrap());
    let mut from = rings[0].consumer();
    let mut notice = move || {
        let Some(record) = from.peek().unwrap() else {
            from.park();
            return None;
        };
        let mut bytes = [9; 1];
        record.read(0, &mut bytes).unwrap();
        record.release();
        Some(bytes[0])
    };
    let device = Vsock::new(3, rings[0].producer(), rings[1].consumer());
    let doorbell = Doorbell { ring: |number| RUNG.with_borrow_mut(|rung| rung.push(number)), number: 5 };
    board.functions.add_vsock(device, doorbell, INPUT, &mut board.pic).unwrap();
    board.place();
    // The modern interface's status, VERSION_1 and queue 0, of which only the used ring's place is not that of zeros.
    for (at, width, value) in [
        (0x14, Width::Byte, 0),
        (0x14, Width::Byte, 3),
        (0x08, Width::Dword, 1),
        (0x0c, Width::Dword, 1),
        (0x14, Width::Byte, 0x0b),
        (0x16, Width::Word, 0),
        (0x20, Width::Dword, RING),
        (0x28, Width::Dword, RING + 0x1000),
        (0x30, Width::Dword, RING + 0x2000),
        (0x1c, Width::Word, 1),
        (0x14, Width::Byte, 0x0f),
    ] {
        let _ = board.write(at, width, value);
    }
    let _ = board.functions.serve(&mut board.pic);
    assert_eq!([notice(), notice(), notice()], [Some(0), Some(1), None]);
    RUNG.take();
    board.functions.reset(&mut board.pic);
    assert!(board.functions.is_waiting());
    let _ = board.functions.serve(&mut board.pic);
    assert_eq!((notice(), RUNG.take()), (Some(0), vec![5]));
}

/// A legacy driver prints on port 0, a byte of the configuration does too, and the window's size comes with an interrupt.
#[test]
fn a_console_device_signals_the_other_ends_of_its_ports() {
    let mut board = Board::new();
    let rings = [(); 4].map(|()| Ring::new(Window::leak(vec![0; 128].leak())).unwrap());
    let mut device = Console::default();
    device.add_terminal(rings[0].producer(), rings[1].consumer());
    // An earlier process of this VM has left its end open.
    rings[2].producer().set_word(1);
    assert_eq!(device.add("bytes", rings[2].producer(), rings[3].consumer()), Some(1));
    let (mut printed, mut typed) = (rings[0].consumer(), rings[1].producer());
    printed.park();
    let signal = |port| RUNG.with_borrow_mut(|rung| rung.push(port));
    board.functions.add_console(device, signal, INPUT, &mut board.pic).unwrap();
    assert!(board.functions.is_waiting());
    let _ = board.functions.serve(&mut board.pic);
    assert_eq!((RUNG.take(), rings[2].consumer().word()), (vec![1], 2));
    board.place();
    for status in [0, 1, 3] {
        let _ = board.outp(18, Width::Byte, status);
    }
    // Queue 1, of 32 entries: 16 bytes for each descriptor, then the available ring, then the used one on a page of its own.
    let _ = board.outp(14, Width::Word, 1);
    let _ = board.outp(8, Width::Dword, RING / 4096);
    let _ = board.outp(18, Width::Byte, 7);
    board.ram.write(BUFFER, b"prompt").unwrap();
    board.ram.write_u64(RING, BUFFER).unwrap();
    board.ram.write_u64(RING + 8, 6).unwrap();
    board.ram.write_u16(RING + 512 + 2, 1).unwrap();
    assert_eq!(board.outp(16, Width::Word, 1), Effect::LINES | Effect::OUTPUT);
    let _ = board.functions.serve(&mut board.pic);
    let mut bytes = [0; 10];
    assert_eq!((RUNG.take(), printed.pop(&mut bytes), &bytes[..6]), (vec![0], 6, &b"prompt"[..]));
    assert_eq!(board.inp(19, Width::Byte), 1);
    typed.set_word(24 << 16 | 80);
    board.functions.wake();
    assert_eq!(board.functions.serve(&mut board.pic), Effect::LINES);
    assert_eq!((board.inp(19, Width::Byte), board.inp(20, Width::Dword)), (2, 24 << 16 | 80));
    board.functions.wake();
    assert_eq!(board.functions.serve(&mut board.pic), Effect::QUIET);
    assert!(!board.functions.is_waiting());
}
