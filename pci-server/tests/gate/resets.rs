//! Resets, register by register.

use layout::Bdf;
use proto::pci::Width::{Byte, Dword, Word};

use crate::board::{AHCI, Board, DISPLAY, E1000, EXPRESS, IDE, NE2000, UHCI, Wrote, board};
use crate::logged::logged;
use crate::{ALICE, Gate, config, give, register, trusted};

/// A server with one function that the guest made bus master, and the writes of its reset, without writes of
/// configuration space that change nothing.
fn reset(board: Board, at: Bdf, prepare: impl FnOnce(&mut Board)) -> (Gate, Vec<Wrote>) {
    let gate = Gate::open(board, config([trusted(give(ALICE, at))]));
    let alice = gate.client(ALICE);
    alice.write(register(0, 4), Word, 7).unwrap();
    gate.board.borrow_mut().take_writes();
    prepare(&mut gate.board.borrow_mut());
    alice.reset().unwrap();
    let writes = gate.board.borrow_mut().take_writes();
    drop(alice);
    (gate, writes)
}

/// The writes to device registers.
fn to_the_device(writes: &[Wrote]) -> Vec<Wrote> {
    writes.iter().filter(|wrote| !matches!(wrote, Wrote::Config(..))).copied().collect()
}

fn port(port: u16, value: u32) -> Wrote {
    Wrote::Port(port, Byte, value)
}

#[test]
fn a_disk_controllers_engines_stop_before_its_channels_are_reset() {
    let (gate, writes) = reset(board(), IDE, |board| {
        board.ports.extend([(0xc000, 9), (0xc002, 0x65), (0xc008, 1), (0xc00a, 0x20)]);
        board.ports.insert(0x376, 0xff);
    });
    assert_eq!(writes[0], Wrote::Config(IDE, 4, Word, 0x403), "bus mastering goes first");
    assert_eq!(
        to_the_device(&writes),
        [
            port(0xc000, 0),
            port(0xc002, 0x67),
            port(0x3f6, 4),
            port(0x3f6, 0),
            port(0xc008, 0),
            port(0xc00a, 0x26),
            port(0x376, 4),
            port(0x376, 0),
        ]
    );
    assert_eq!(gate.real(IDE, 4) & 7, 3);
}

#[test]
fn a_disk_that_stays_busy_times_out() {
    let mut board = board();
    board.ports.insert(0x3f6, 0x80);
    // As long as the test reads it: this device never clears the bit by itself.
    let (gate, _) = reset(board, IDE, |board| board.time = 0);
    assert!(gate.board.borrow().time < 1_000_000_000);
}

#[test]
fn an_ahci_controller_is_reset_as_a_whole() {
    let (_, writes) = reset(board(), AHCI, |_| {});
    let ghc = |value| Wrote::Memory(0xc003_0004, Dword, value);
    assert_eq!(to_the_device(&writes), [ghc(1 << 31), ghc(1 << 31 | 1)]);
}

#[test]
fn a_usb_controller_stops_and_is_reset() {
    let (_, writes) = reset(board(), UHCI, |_| {});
    assert_eq!(to_the_device(&writes), [port(0xc020, 0), port(0xc024, 0), port(0xc020, 2)]);
}

#[test]
fn a_network_card_stops_receiving_and_sending_before_it_is_reset() {
    let (gate, writes) = reset(board(), E1000, |board| {
        board.memory.insert(0xc000_0000, 0x0000_0241);
    });
    let memory = |at: u64, value| Wrote::Memory(0xc000_0000 + at, Dword, value);
    assert_eq!(
        to_the_device(&writes),
        [memory(0xd8, u32::MAX), memory(0x100, 0), memory(0x400, 0), memory(0, 0x0400_0241), memory(0xd8, u32::MAX),]
    );
    assert_eq!(gate.real(E1000, 4) & 7, 3);
}

#[test]
fn a_network_card_without_dma_stops() {
    let (_, writes) = reset(board(), NE2000, |_| {});
    assert_eq!(to_the_device(&writes), [port(0xc080, 0x21), port(0xc08f, 0), port(0xc087, 0xff)]);
}

#[test]
fn a_function_level_reset_is_used_where_there_is_one() {
    let (gate, writes) = reset(board(), EXPRESS, |_| {});
    let at = writes.iter().position(|wrote| *wrote == Wrote::Config(EXPRESS, 0x58, Word, 0x8000)).unwrap();
    assert!(at > 0 && writes[0] == Wrote::Config(EXPRESS, 4, Word, 0x403));
    assert_eq!(gate.real(EXPRESS, 0x58) & 0x8000, 0);
}

#[test]
fn a_guests_function_level_reset_is_performed_by_the_server() {
    let gate = Gate::open(board(), config([trusted(give(ALICE, EXPRESS))]));
    let alice = gate.client(ALICE);
    alice.write(register(0, 4), Word, 7).unwrap();
    alice.write(register(0, 0x58), Word, 0x8000).unwrap();
    assert_eq!(gate.real(EXPRESS, 4) & 7, 3);
    assert_eq!(alice.read(register(0, 0x10), Dword), Ok(0xc008_0000));
}

/// Its VMM has mapped them there, and would not notice.
#[test]
fn a_guests_function_level_reset_leaves_the_windows_where_the_guest_has_them() {
    let gate = Gate::open(board(), config([trusted(give(ALICE, EXPRESS))]));
    let alice = gate.client(ALICE);
    alice.write(register(0, 0x10), Dword, 0xd000_0000).unwrap();
    alice.write(register(0, 0x3c), Byte, 11).unwrap();
    alice.write(register(0, 0x58), Word, 0x8000).unwrap();
    assert_eq!(alice.read(register(0, 0x10), Dword), Ok(0xd000_0000));
    assert_eq!(alice.read(register(0, 0x3c), Byte), Ok(11));
    assert_eq!(gate.real(EXPRESS, 0x10), 0xc008_0000);
    alice.reset().unwrap();
    assert_eq!(alice.read(register(0, 0x10), Dword), Ok(0xc008_0000), "a reset of the guest does not");
}

#[test]
fn advanced_features_reset_a_function() {
    let mut machine = board();
    let display = machine.functions.get_mut(&DISPLAY).unwrap();
    display.values[1] |= 1 << 20;
    display.values[13] = 0x40;
    display.values[0x10] = 0x0306_0013;
    let (_, writes) = reset(machine, DISPLAY, |_| {});
    assert!(writes.contains(&Wrote::Config(DISPLAY, 0x44, Byte, 1)));
}

#[test]
fn a_function_without_other_resets_goes_through_d3() {
    let mut machine = board();
    let display = machine.functions.get_mut(&DISPLAY).unwrap();
    display.values[1] |= 1 << 20;
    display.values[13] = 0x40;
    display.values[0x10] = 0x0002_0001;
    display.values[0x11] = 0x0000_8100;
    let (_, writes) = reset(machine, DISPLAY, |_| {});
    let power: Vec<_> = writes.iter().filter(|w| matches!(w, Wrote::Config(_, 0x44, ..))).collect();
    assert_eq!(power, [&Wrote::Config(DISPLAY, 0x44, Word, 0x103), &Wrote::Config(DISPLAY, 0x44, Word, 0x100)]);
}

#[test]
fn a_function_in_d3_is_set_to_d0_first() {
    let (gate, writes) = reset(board(), E1000, |board| {
        let e1000 = board.functions.get_mut(&E1000).unwrap();
        e1000.values[0xe0 / 4] = 3;
        e1000.values[4] = 0;
    });
    let woken = writes.iter().position(|wrote| *wrote == Wrote::Config(E1000, 0xe0, Word, 0)).unwrap();
    let first = writes.iter().position(|wrote| matches!(wrote, Wrote::Memory(..))).unwrap();
    assert!(woken < first);
    assert_eq!(gate.real(E1000, 0x10), 0xc000_0000);
}

#[test]
fn a_reset_restores_what_the_guest_changed() {
    let gate = Gate::open(board(), config([trusted(give(ALICE, IDE))]));
    let alice = gate.client(ALICE);
    let before = gate.board.borrow().functions[&IDE].values;
    for (offset, value) in [(4, 0x0547), (0x0c, 0xffff), (0x40, 0xa307), (0x44, 0x1234), (0xf8, 7)] {
        alice.write(register(0, offset), Word, value).unwrap();
    }
    alice.write(register(0, 0x20), Dword, u32::MAX).unwrap();
    alice.reset().unwrap();
    assert_eq!(gate.board.borrow().functions[&IDE].values, before);
    assert_eq!(alice.read(register(0, 0x20), Dword), Ok(0xc001));
}

#[test]
fn functions_are_reset_at_the_start_too() {
    let mut machine = board();
    machine.ports.insert(0xc000, 9);
    let gate = Gate::open(machine, config([give(ALICE, IDE)]));
    assert!(gate.board.borrow().wrote.contains(&port(0xc000, 0)));
    assert_eq!(gate.real(IDE, 4) & 7, 3);
}

#[test]
fn a_function_that_answers_late_after_its_reset_is_restored_when_it_does() {
    let gate = Gate::open(board(), config([trusted(give(ALICE, EXPRESS))]));
    let alice = gate.client(ALICE);
    let there = gate.board.borrow().functions[&EXPRESS].clone();
    gate.board.borrow_mut().functions.remove(&EXPRESS);
    alice.write(register(0, 0x58), Word, 0x8000).unwrap();
    // Its driver polls.
    assert_eq!(alice.read(register(0, 6), Word), Ok(0xffff));
    let mut back = there.clone();
    (back.values[1], back.values[4], back.values[0x58 / 4]) = (0x0010_0000, 0, 0);
    gate.board.borrow_mut().functions.insert(EXPRESS, back);
    assert_eq!(alice.read(register(0, 6), Word).unwrap() & 0x10, 0x10);
    assert_eq!((gate.real(EXPRESS, 4) & 7, gate.real(EXPRESS, 0x10)), (3, there.values[4]));
    // From then on the guest's registers hold.
    alice.write(register(0, 4), Word, 7).unwrap();
    assert_eq!((alice.read(register(0, 4), Word), gate.real(EXPRESS, 4) & 7), (Ok(7), 7));
}

/// Linux polls the double word at the command register, or the vendor ID, until that is not all ones, and then restores all it had.
#[test]
fn a_function_that_does_not_answer_after_its_reset_reads_all_ones_and_loses_writes() {
    for (polled, ready) in [(4, 0x0010_0003), (0, 0x10d3_9999)] {
        let gate = Gate::open(board(), config([trusted(give(ALICE, EXPRESS))]));
        let alice = gate.client(ALICE);
        let mut back = gate.board.borrow_mut().functions.remove(&EXPRESS).unwrap();
        back.values[1] = 0x0010_0000;
        alice.write(register(0, 0x58), Word, 0x8000).unwrap();
        for offset in (0..=0xfc).step_by(4) {
            assert_eq!(alice.read(register(0, offset), Dword), Ok(u32::MAX), "{offset:#x}");
        }
        gate.board.borrow_mut().take_writes();
        for (offset, value) in [(4, 7), (0x3c, 5), (0x58, 0x8000), (0xf8, 1)] {
            assert_eq!(alice.write(register(0, offset), Word, value), Ok(()));
        }
        assert_eq!(gate.board.borrow_mut().take_writes(), []);
        gate.board.borrow_mut().functions.insert(EXPRESS, back);
        assert_eq!(alice.read(register(0, polled), Dword), Ok(ready));
        assert_eq!((gate.real(EXPRESS, 4) & 7, alice.read(register(0, 0x3c), Byte)), (3, Ok(0xff)));
        alice.write(register(0, 4), Word, 7).unwrap();
        assert_eq!(gate.real(EXPRESS, 4) & 7, 7);
    }
}

#[test]
fn a_guest_that_resets_a_slow_function_in_a_loop_does_not_fill_the_log() {
    let gate = Gate::open(board(), config([trusted(give(ALICE, DISPLAY))]));
    let alice = gate.client(ALICE);
    let mut log = logged("00:04.0: does not answer", || {
        for _ in 0..100 {
            let away = gate.board.borrow_mut().functions.remove(&DISPLAY).unwrap();
            alice.reset().unwrap();
            gate.board.borrow_mut().functions.insert(DISPLAY, away);
            assert_ne!(alice.read(register(0, 0), Dword), Ok(u32::MAX));
        }
    });
    log.extend(logged("00:04.0: answers again", || {}));
    // 16, then 32 and 64.
    assert_eq!(log.len(), 2 * 18);
}
