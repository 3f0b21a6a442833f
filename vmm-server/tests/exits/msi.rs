//! A function that sends messages on the machine, and what the guest's writes to its virtual MSI capability and its command
//! register mean for its line.

use std::cell::RefCell;

use devices::{Effect, Nanos, Width, lapic::Lapic};
use layout::{config::VmLine, guest_board::Chipset};
use proptest::prelude::*;
use proto::pci::{self, Error, GrantedLine, Messages, Target};
use vmm_server::{
    board::Board,
    passthrough::{
        Passthrough, Sender, Server,
        lines::Lines,
        windows::{BarSpace, BarWindow},
    },
};

use crate::fake::{NOW, Ports};

const MSI: u8 = 0xd0;
/// Device control of PCI Express, in a guest's functions, and in it initiate function level reset.
const EXPRESS_CONTROL: u8 = 0x48;
const RESET: u32 = 1 << 15;

/// Configuration space of a function, all of it writable, as pci-server's clients see it. A function level reset clears it.
struct Registers(RefCell<[u8; 256]>);

impl Server for Registers {
    fn read(&self, target: &Target, width: pci::Width) -> Result<u32, Error> {
        let Target::Config { function: 1, offset } = *target else { return Err(Error::NotYours) };
        let bytes = self.0.borrow();
        let all = (0..width.bytes()).rev().map(|n| bytes[usize::from(offset + n)]);
        Ok(all.fold(0, |value, byte| value << 8 | u32::from(byte)))
    }

    fn write(&self, target: &Target, width: pci::Width, value: u32) -> Result<(), Error> {
        let Target::Config { function: 1, offset } = *target else { return Err(Error::NotYours) };
        let bytes = &mut *self.0.borrow_mut();
        if (offset, value) == (EXPRESS_CONTROL, RESET) {
            *bytes = [0; 256];
            return Ok(());
        }
        for n in 0..width.bytes() {
            bytes[usize::from(offset + n)] = value.to_le_bytes()[usize::from(n)];
        }
        Ok(())
    }
}

/// A board with two functions, of which the second sends messages on line 0; `wide` addresses.
fn board(wide: bool) -> Board {
    board_with(wide, 0)
}

/// The same; the line has a limit.
fn board_with(wide: bool, limit: u16) -> Board {
    let server: &'static Registers = Box::leak(Box::new(Registers(RefCell::new([0; 256]))));
    if wide {
        server.0.borrow_mut()[usize::from(MSI + 2)] = 1 << 7;
    }
    let mut devices = Passthrough::new(server);
    devices.functions = 2;
    devices.add_sender(Sender { function: 1, messages: Messages::Msi(MSI), line: 0 });
    let mut board = Board::new(Chipset::Pc, 1 << 20, 0);
    board.plug(devices);
    let line = VmLine { line: 7, dest: None, level: true, limit };
    let granted = GrantedLine { line: 7, isa: None, level: true, messages: Some(Messages::Msi(MSI)) };
    board.lines = Lines::new(Chipset::Pc, &[Some(line)], &[granted]);
    let _ = board.lines.reset(&mut board.controllers);
    board
}

fn write(board: &mut Board, device: u32, register: u8, width: Width, value: u32) {
    let _ = write_for(board, device, register, width, value);
}

fn write_for(board: &mut Board, device: u32, register: u8, width: Width, value: u32) -> Effect {
    board.output(0xcf8, Width::Dword, 0x8000_0000 | device << 11 | u32::from(register & !3), NOW);
    board.output_for(0xcfc + u16::from(register & 3), width, value, NOW)
}

/// The vector that an interrupt of the function raises in a local APIC.
fn interrupt(board: &mut Board) -> Option<u8> {
    let _ = board.raise_lines(1, Nanos::ZERO);
    delivered(board)
}

/// The vector that has come to a local APIC.
fn delivered(board: &mut Board) -> Option<u8> {
    let mut lapic = Lapic::new();
    lapic.write(0xf0, Width::Dword, 0x1ff, 0);
    board.functions.deliver(&mut lapic);
    lapic.acknowledge()
}

#[test]
fn the_message_in_the_capability_is_what_the_guest_gets_while_it_is_on() {
    for (wide, data) in [(false, MSI + 8), (true, MSI + 12)] {
        let mut board = board(wide);
        let control = u32::from(wide) << 7;
        assert_eq!(interrupt(&mut board), None, "on the pin");
        assert!(board.lines.in_flight());
        write(&mut board, 2, MSI + 4, Width::Dword, 0xfee0_0000);
        write(&mut board, 2, data, Width::Word, 0x4b);
        write(&mut board, 2, MSI + 2, Width::Word, control | 1);
        assert!(!board.lines.in_flight());
        assert_eq!(interrupt(&mut board), Some(0x4b));
        write(&mut board, 2, data, Width::Byte, 0x4c);
        assert_eq!(interrupt(&mut board), Some(0x4c), "it takes a new one at once");
        write(&mut board, 2, MSI + 2, Width::Word, control);
        assert_eq!(interrupt(&mut board), None);
        assert!(board.lines.in_flight());
    }
}

#[test]
fn a_message_that_is_a_write_to_memory_or_of_another_mode_is_none() {
    for (address, upper, data) in [(0x0010_0000, 0, 0x4b), (0xfee0_0000, 1, 0x4b), (0xfee0_0000, 0, 0x44b)] {
        let mut board = board(true);
        write(&mut board, 2, MSI + 4, Width::Dword, address);
        write(&mut board, 2, MSI + 8, Width::Dword, upper);
        write(&mut board, 2, MSI + 12, Width::Dword, data);
        write(&mut board, 2, MSI + 2, Width::Word, 0x81);
        assert_eq!(interrupt(&mut board), None);
        assert!(!board.lines.in_flight());
    }
}

#[test]
fn intx_disable_holds_the_pin_back() {
    let mut board = board(false);
    write(&mut board, 2, 0x04, Width::Word, 1 << 10);
    assert_eq!((interrupt(&mut board), board.lines.in_flight()), (None, false));
    write(&mut board, 2, 0x04, Width::Word, 0);
    assert!(board.lines.in_flight(), "it has been pending");
    // Of another function.
    write(&mut board, 1, 0x04, Width::Word, 1 << 10);
    assert!(board.lines.in_flight());
}

#[test]
fn after_a_function_level_reset_the_function_has_its_pin() {
    let mut board = board(false);
    write(&mut board, 2, MSI + 4, Width::Dword, 0xfee0_0000);
    write(&mut board, 2, MSI + 8, Width::Word, 0x4b);
    write(&mut board, 2, MSI + 2, Width::Word, 1);
    write(&mut board, 1, EXPRESS_CONTROL, Width::Word, RESET);
    assert_eq!(interrupt(&mut board), Some(0x4b), "another function's");
    write(&mut board, 2, EXPRESS_CONTROL, Width::Word, RESET);
    assert_eq!((interrupt(&mut board), board.lines.in_flight()), (None, true));
}

/// Whatever state the line was in, its messages are on again when the millisecond is over: the last one may have come in the next.
#[test]
fn what_is_masked_in_a_storm_is_unmasked_whatever_the_guest_does() {
    for off in [true, false] {
        let mut board = board_with(false, 1);
        write(&mut board, 2, 0x04, Width::Word, u32::from(off) << 10);
        for (now, masked) in [(0, 0), (999_999, 1), (1_000_000, 1)] {
            let _ = board.raise_lines(1, Nanos(now));
            assert_eq!((board.lines.masked, board.lines.in_flight()), (masked, !off));
        }
        assert_eq!(board.lines.next_event(), Some(Nanos(2_000_000)));
        let _ = board.expire_lines(Nanos(2_000_000));
        assert_eq!((board.lines.masked, board.lines.next_event(), board.lines.in_flight()), (0, None, !off));
        // What came meanwhile is not lost.
        write(&mut board, 2, MSI + 4, Width::Dword, 0xfee0_0000);
        write(&mut board, 2, MSI + 8, Width::Word, 0x4b);
        write(&mut board, 2, MSI + 2, Width::Word, 1);
        assert_eq!(delivered(&mut board), Some(0x4b));
    }
}

/// The run loop asks for the alarm only if the write says so, or an interrupt has.
#[test]
fn a_storm_before_the_function_is_set_up_comes_as_one_message_when_its_millisecond_is_over() {
    for late in [false, true] {
        let mut board = board_with(false, 1);
        write(&mut board, 2, 0x04, Width::Word, 1 << 10);
        write(&mut board, 2, MSI + 4, Width::Dword, 0xfee0_0000);
        write(&mut board, 2, MSI + 8, Width::Word, 0x4b);
        for _ in 0..3 {
            let _ = board.raise_lines(1, Nanos(10));
        }
        if late {
            let _ = board.expire_lines(Nanos(1_000_000));
        }
        let effect = write_for(&mut board, 2, MSI + 2, Width::Word, 1);
        assert_eq!(effect, Effect::LINES | Effect::TIMERS.when(!late));
        assert_eq!(delivered(&mut board), late.then_some(0x4b));
        let _ = board.expire_lines(Nanos(1_000_000));
        assert_eq!((delivered(&mut board), board.lines.next_event()), ((!late).then_some(0x4b), None));
    }
}

const MSIX: u8 = 0xa0;
/// The table's entry on the machine: in a page that is not handed over, of memory that is otherwise.
const BASE: u64 = 0xe000_0000;
const ENTRY: u64 = BASE + 0x2010;

/// A function with MSI-X as pci-server shows it: message control, and the entry.
#[derive(Default)]
struct Table(RefCell<(u32, [u32; 4])>);

impl Server for Table {
    fn read(&self, target: &Target, _: pci::Width) -> Result<u32, Error> {
        match *target {
            Target::Config { function: 0, offset } if offset == MSIX + 2 => Ok(self.0.borrow().0),
            Target::Memory(at @ ENTRY..) if at < ENTRY + 16 => Ok(self.0.borrow().1[((at - ENTRY) / 4) as usize]),
            _ => Err(Error::NotYours),
        }
    }

    fn write(&self, target: &Target, _: pci::Width, value: u32) -> Result<(), Error> {
        match *target {
            Target::Config { function: 0, offset } if offset == MSIX + 2 => self.0.borrow_mut().0 = value,
            Target::Config { function: 0, offset: EXPRESS_CONTROL } if value == RESET => {
                self.0.replace((0, [0, 0, 0, 1]));
            }
            Target::Memory(at @ ENTRY..) if at < ENTRY + 16 => {
                self.0.borrow_mut().1[((at - ENTRY) / 4) as usize] = value;
            }
            _ => return Err(Error::NotYours),
        }
        Ok(())
    }
}

#[test]
fn a_message_of_a_table_comes_while_it_is_on_and_not_masked_and_never_on_a_pin() {
    let messages = Messages::Msix { at: MSIX, entry: ENTRY };
    let mut devices = Passthrough::new(Box::leak(Box::new(Table::default())));
    devices.functions = 1;
    devices.add_sender(Sender { function: 0, messages, line: 0 });
    let space = BarSpace::Memory { wide: false };
    let (size, kept) = (0x4000, Some((2, 2)));
    let window =
        BarWindow { function: 0, bar: 0, space, base: BASE, home: BASE, size, direct: true, kept, movable: false };
    devices.add(window).unwrap();
    assert_eq!([0x1fff, 0x2000, 0x2fff, 0x3000].map(|at| devices.has_memory(BASE + at)), [false, true, true, false]);
    let mut board = Board::new(Chipset::Pc, 1 << 20, 0);
    board.plug(devices);
    let line = VmLine { line: 7, dest: None, level: true, limit: 0 };
    let granted = GrantedLine { line: 7, isa: None, level: false, messages: Some(messages) };
    board.lines = Lines::new(Chipset::Pc, &[Some(line)], &[granted]);
    assert_eq!((board.lines.input(0), board.lines.free_input()), (None, Some(11)));
    let _ = board.lines.reset(&mut board.controllers);
    assert_eq!((interrupt(&mut board), board.lines.in_flight()), (None, false), "off, as after a reset");
    write(&mut board, 1, MSIX + 2, Width::Word, 0x8000);
    for (word, value) in [(0, 0xfee0_0000), (1, 0), (2, 0x4b)] {
        let _ = board.write_memory_remote(ENTRY + 4 * word, Width::Dword, value);
        assert_eq!(interrupt(&mut board), (word == 2).then_some(0x4b));
    }
    let _ = board.write_memory_remote(ENTRY + 12, Width::Dword, 1);
    assert_eq!(interrupt(&mut board), None, "masked");
    let _ = board.write_memory_remote(ENTRY + 8, Width::Dword, 0x4c);
    let _ = board.write_memory_remote(ENTRY + 12, Width::Dword, 0);
    assert_eq!(interrupt(&mut board), Some(0x4c));
    for (control, vector) in [(0xc000, None), (0x8000, Some(0x4c)), (0, None)] {
        write(&mut board, 1, MSIX + 2, Width::Word, control);
        assert_eq!((interrupt(&mut board), board.lines.in_flight()), (vector, false));
    }
    write(&mut board, 1, MSIX + 2, Width::Word, 0x8000);
    assert_eq!(interrupt(&mut board), Some(0x4c));
    write(&mut board, 1, EXPRESS_CONTROL, Width::Word, RESET);
    assert_eq!(interrupt(&mut board), None, "a function level reset switches it off");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Any writes and interrupts: nothing panics, and a function that the guest sets up in the end interrupts.
    #[test]
    fn whatever_the_guest_writes_it_can_set_the_function_up_again(
        writes in prop::collection::vec((any::<u8>(), 0..3_usize, any::<u32>(), any::<bool>()), 0..60),
    ) {
        let mut board = board(false);
        for (register, width, value, interrupts) in writes {
            let width = [Width::Byte, Width::Word, Width::Dword][width];
            write(&mut board, 2, register, width, value);
            if interrupts {
                interrupt(&mut board);
            }
        }
        write(&mut board, 2, MSI + 2, Width::Word, 0);
        write(&mut board, 2, MSI + 4, Width::Dword, 0xfee0_0000);
        write(&mut board, 2, MSI + 8, Width::Dword, 0x4b);
        write(&mut board, 2, MSI + 2, Width::Word, 1);
        prop_assert_eq!(interrupt(&mut board), Some(0x4b));
    }
}
