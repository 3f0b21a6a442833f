//! Configuration space as a guest sees it.

use proto::pci::Width::{Byte, Dword, Word};
use proto::pci::{Client, Error, PciFunction, Target};
use proto::wire::Transport;

use crate::board::{AHCI, Board, DISPLAY, E1000, EXPRESS, IDE, Wrote, board};
use crate::{ALICE, BOB, Gate, config, give, on_lines, register, trusted};

fn open(board: Board) -> Gate {
    let gate = Gate::open(
        board,
        config([
            on_lines(trusted(give(ALICE, IDE)), &[1, 2]),
            on_lines(give(ALICE, E1000), &[3]),
            give(ALICE, DISPLAY),
            give(BOB, EXPRESS),
            give(BOB, AHCI),
        ]),
    );
    gate.board.borrow_mut().take_writes();
    gate
}

/// Capability IDs in the order of the list, by the guest's own walk.
fn list(client: &Client<impl Transport>, function: u8) -> Vec<u32> {
    let read = |offset| client.read(register(function, offset), Byte).unwrap();
    let mut at = read(0x34) as u8;
    let mut ids = Vec::new();
    while at != 0 {
        ids.push(read(at));
        at = read(at + 1) as u8;
    }
    ids
}

#[test]
fn identity_is_the_machines_and_the_multi_function_bit_is_gone() {
    let mut machine = board();
    machine.functions.get_mut(&IDE).unwrap().values[3] |= 0x0080_0000;
    let gate = open(machine);
    let alice = gate.client(ALICE);
    assert_eq!(alice.read(register(0, 0), Dword), Ok(0x7010_8086));
    assert_eq!(alice.read(register(0, 0x0a), Word), Ok(0x0101));
    assert_eq!(alice.read(register(0, 0x0e), Byte), Ok(0));
}

#[test]
fn a_bar_is_sized_in_every_width_and_the_real_one_stays() {
    let gate = open(board());
    let alice = gate.client(ALICE);
    assert_eq!(alice.read(register(1, 0x10), Dword), Ok(0xc000_0000));
    for (width, ones) in [(Byte, 0xff), (Word, 0xffff), (Dword, u32::MAX)] {
        for at in (0x10..0x14).step_by(width.bytes().into()) {
            alice.write(register(1, at), width, ones).unwrap();
        }
        assert_eq!(alice.read(register(1, 0x10), Dword), Ok(0xfffe_0000));
        assert_eq!(alice.read(register(1, 0x13), Byte), Ok(0xff));
        for at in (0x10..0x14).step_by(width.bytes().into()) {
            let shift = 8 * u32::from(at - 0x10);
            alice.write(register(1, at), width, 0xc000_0000 >> shift).unwrap();
        }
        assert_eq!(alice.read(register(1, 0x10), Dword), Ok(0xc000_0000));
    }
    // Ports.
    alice.write(register(1, 0x14), Dword, u32::MAX).unwrap();
    assert_eq!(alice.read(register(1, 0x14), Dword), Ok(0xffff_ffc1));
    alice.write(register(1, 0x14), Dword, 0xc041).unwrap();
    assert_eq!(alice.read(register(1, 0x14), Dword), Ok(0xc041));
    assert_eq!(gate.board.borrow_mut().take_writes(), []);
}

#[test]
fn a_64_bit_bar_is_sized() {
    let gate = open(board());
    let alice = gate.client(ALICE);
    assert_eq!(alice.read(register(2, 0x10), Dword), Ok(0x0000_000c));
    assert_eq!(alice.read(register(2, 0x14), Dword), Ok(8));
    for at in [0x10, 0x14] {
        alice.write(register(2, at), Dword, u32::MAX).unwrap();
    }
    assert_eq!(alice.read(register(2, 0x10), Dword), Ok(0xff00_000c));
    assert_eq!(alice.read(register(2, 0x14), Dword), Ok(u32::MAX));
    alice.write(register(2, 0x14), Dword, 9).unwrap();
    assert_eq!(alice.read(register(2, 0x14), Dword), Ok(9));
}

#[test]
fn a_moved_bar_reads_as_written_and_the_real_one_stays() {
    let gate = open(board());
    let alice = gate.client(ALICE);
    for (at, width, value, shown) in [
        (0x10, Dword, 0x0010_0000, 0x0010_0000),
        (0x10, Dword, 0xc005_ffff, 0xc004_0000),
        (0x12, Word, 0x0012, 0x0012_0000),
        (0x13, Byte, 0xd0, 0xd012_0000),
        (0x14, Dword, 0x01f1, 0x01c1),
    ] {
        alice.write(register(1, at), width, value).unwrap();
        assert_eq!(alice.read(register(1, at & !3), Dword), Ok(shown), "{value:#x}");
    }
    // Accesses use the real addresses, whatever the virtual BARs contain.
    assert!(alice.read(Target::Port(0xc041), Byte).is_ok());
    assert_eq!(alice.read(Target::Port(0x1c1), Byte), Err(Error::NotYours));
    assert_eq!(gate.board.borrow_mut().take_writes(), []);
    assert_eq!((gate.real(E1000, 0x10), gate.real(E1000, 0x14)), (0xc000_0000, 0xc041));
    alice.reset().unwrap();
    assert_eq!(alice.read(register(1, 0x10), Dword), Ok(0xc000_0000));
}

#[test]
fn unimplemented_bars_read_as_zero() {
    let gate = open(board());
    let alice = gate.client(ALICE);
    // IDE in compatibility mode: the resources of its first four BARs are fixed. The ROM is hidden.
    for at in [0x10, 0x14, 0x18, 0x1c, 0x24, 0x30] {
        alice.write(register(0, at), Dword, u32::MAX).unwrap();
        assert_eq!(alice.read(register(0, at), Dword), Ok(0), "{at:#x}");
    }
    assert_eq!(alice.read(register(0, 0x20), Dword), Ok(0xc001));
    assert_eq!(gate.real(IDE, 0x30) & 1, 0);
}

#[test]
fn bus_mastering_needs_permission() {
    let gate = open(board());
    let alice = gate.client(ALICE);
    assert_eq!((gate.real(IDE, 4) & 7, gate.real(E1000, 4) & 7), (3, 3));
    assert_eq!(alice.write(register(1, 4), Word, 0x0006), Err(Error::NoDma));
    // The guest reads back the other bits as written.
    assert_eq!((alice.read(register(1, 4), Word), gate.real(E1000, 4) & 0xffff), (Ok(0x0002), 0x0003));
    assert_eq!(alice.write(register(1, 4), Byte, 0x04), Err(Error::NoDma));
    assert_eq!(gate.refused(ALICE), 2);
    alice.write(register(0, 4), Word, 0xffff).unwrap();
    // Decode, master, write and invalidate, parity, SERR#, INTx disable; the machine has no parity and SERR#.
    assert_eq!((alice.read(register(0, 4), Word), gate.real(IDE, 4) & 0xffff), (Ok(0x0557), 0x0417));
}

#[test]
fn whatever_the_guest_writes_its_functions_decode_and_report_no_errors() {
    let mut machine = board();
    // Firmware may leave decoding off, and error reporting on.
    machine.functions.get_mut(&E1000).unwrap().values[1] = 0x0140;
    machine.functions.get_mut(&EXPRESS).unwrap().values[1] |= 0x0140;
    machine.functions.get_mut(&EXPRESS).unwrap().values[0x58 / 4] = 0x000f;
    let gate = open(machine);
    let (alice, bob) = (gate.client(ALICE), gate.client(BOB));
    assert_eq!((gate.real(E1000, 4) & 0xffff, gate.real(EXPRESS, 4) & 0x0143), (3, 3));
    assert_eq!(gate.real(EXPRESS, 0x58) & 0xf, 0);
    for command in [0, 0x0140, 0x0157, 0xffff] {
        let _ = alice.write(register(1, 4), Word, command);
        let _ = bob.write(register(0, 4), Word, command);
        bob.write(register(0, 0x58), Word, 0x000f).unwrap();
        assert_eq!((gate.real(E1000, 4) & 0x0147, gate.real(EXPRESS, 4) & 0x0147), (3, 3), "{command:#x}");
        assert_eq!(gate.real(EXPRESS, 0x58) & 0xf, 0);
        assert_eq!(alice.read(register(1, 4), Word), Ok(command & 0x0543));
        assert_eq!(bob.read(register(0, 0x58), Word).unwrap() & 0xf, 0xf);
    }
    // A reset does not change that.
    bob.reset().unwrap();
    assert_eq!((gate.real(EXPRESS, 4) & 0x0147, gate.real(EXPRESS, 0x58) & 0xf), (3, 0));
    assert_eq!(bob.read(register(0, 0x58), Word).unwrap() & 0xf, 0);
}

#[test]
fn a_function_in_virtual_d3_stays_in_d0_without_dma_and_interrupts() {
    // By its pin, as the description has it.
    let function = PciFunction { has_route: true, ..on_lines(trusted(give(ALICE, E1000)), &[9]) };
    let gate = Gate::open(Board { routed: vec![9], ..board() }, config([function]));
    let alice = gate.client(ALICE);
    alice.write(register(0, 4), Word, 0x0007).unwrap();
    for state in [1, 2, 3] {
        gate.board.borrow_mut().take_writes();
        alice.write(register(0, 0xe0), Word, state).unwrap();
        assert_eq!(alice.read(register(0, 0xe0), Word).unwrap() & 3, state);
        assert_eq!((gate.real(E1000, 0xe0) & 3, gate.real(E1000, 4) & 0x0407), (0, 0x0403));
        assert_eq!(alice.read(register(0, 4), Word), Ok(0x0007));
        // Not even temporarily.
        let slept = |wrote: &Wrote| matches!(wrote, Wrote::Config(_, 0xe0, ..));
        assert!(!gate.board.borrow_mut().take_writes().iter().any(slept));
        alice.write(register(0, 0xe0), Word, 0).unwrap();
        assert_eq!(gate.real(E1000, 4) & 0x0407, 7, "awake again");
    }
    // Bus mastering that is set in D3 takes effect in D0.
    alice.write(register(0, 0xe0), Byte, 3).unwrap();
    alice.write(register(0, 4), Word, 0x0003).unwrap();
    alice.write(register(0, 4), Word, 0x0007).unwrap();
    assert_eq!(gate.real(E1000, 4) & 4, 0);
    alice.write(register(0, 0xe0), Byte, 0).unwrap();
    assert_eq!(gate.real(E1000, 4) & 4, 4);
}

#[test]
fn status_bits_are_cleared_only_by_writing_ones() {
    let gate = open(board());
    let alice = gate.client(ALICE);
    alice.write(register(0, 4), Word, 0x0003).unwrap();
    assert_eq!(gate.real(IDE, 4) >> 16, 0x2800);
    alice.write(register(0, 7), Byte, 0x20).unwrap();
    assert_eq!(gate.real(IDE, 4), 0x0800_0003);
    alice.write(register(0, 4), Dword, 0x0800_0001).unwrap();
    assert_eq!((gate.real(IDE, 4), alice.read(register(0, 4), Dword)), (3, Ok(1)));
}

#[test]
fn message_signalled_interrupts_are_hidden_and_cannot_be_written() {
    let gate = open(board());
    let (alice, bob) = (gate.client(ALICE), gate.client(BOB));
    // The firmware enabled it; the server disabled it at the start.
    assert_eq!((gate.real(E1000, 0xf0) >> 16 & 1, gate.real(EXPRESS, 0xa0) >> 31), (0, 0));
    assert_eq!(list(&alice, 1), [0x01]);
    assert_eq!(list(&bob, 0), [0x01, 0x10]);
    assert_eq!(list(&bob, 1), [0x12]);
    for at in (0xf0..=0xfc).step_by(4) {
        assert_eq!(alice.read(register(1, at), Dword), Ok(0));
        assert_eq!(alice.write(register(1, at), Dword, 0xfee0_0000), Err(Error::ReadOnly));
    }
    assert_eq!(bob.write(register(0, 0xa2), Word, 0x8000), Err(Error::ReadOnly));
    // Vital product data, and something unknown, to its end.
    assert_eq!(bob.write(register(0, 0xb2), Word, 0x8000), Err(Error::ReadOnly));
    assert_eq!(bob.write(register(0, 0xfc), Byte, 1), Err(Error::ReadOnly));
    assert_eq!(gate.board.borrow_mut().take_writes(), []);
    assert_eq!((gate.refused(ALICE), gate.refused(BOB)), (4, 3));
}

#[test]
fn without_a_visible_capability_the_status_has_no_capability_list() {
    let mut machine = board();
    machine.functions.get_mut(&E1000).unwrap().values[13] = 0xf0;
    let gate = open(machine);
    let alice = gate.client(ALICE);
    assert_eq!(alice.read(register(1, 6), Word).unwrap() & 0x10, 0);
    assert_eq!(alice.read(register(1, 0x34), Byte), Ok(0));
}

#[test]
fn a_looping_capability_list_ends() {
    let mut machine = board();
    machine.functions.get_mut(&E1000).unwrap().values[0xf0 / 4] |= 0xdc00;
    let gate = open(machine);
    assert_eq!(list(&gate.client(ALICE), 1), [0x01]);
}

#[test]
fn where_capabilities_overlap_the_registers_are_hidden() {
    let mut machine = board();
    let e1000 = machine.functions.get_mut(&E1000).unwrap();
    // A vendor specific entry over message signalled interrupts.
    e1000.values[0xdc / 4] = 0x0020_e409;
    let gate = open(machine);
    assert_eq!(gate.client(ALICE).write(register(1, 0xf4), Dword, 0xfee0_0000), Err(Error::ReadOnly));
}

#[test]
fn only_the_power_state_can_be_written_in_power_management() {
    let gate = open(board());
    let alice = gate.client(ALICE);
    gate.board.borrow_mut().functions.get_mut(&E1000).unwrap().values[0xe0 / 4] = 0x0000_8008;
    alice.write(register(1, 0xe0), Dword, 0xffff_ffff).unwrap();
    assert_eq!(alice.read(register(1, 0xe0), Dword), Ok(0x0000_800b));
    assert_eq!(gate.real(E1000, 0xe0), 0x0000_8008);
    alice.write(register(1, 0xdc), Dword, 0).unwrap();
    assert_eq!(gate.real(E1000, 0xdc), 0xe221_e401);
}

#[test]
fn only_harmless_bits_of_express_can_be_written() {
    let gate = open(board());
    let bob = gate.client(BOB);
    gate.board.borrow_mut().functions.get_mut(&EXPRESS).unwrap().values[0x58 / 4] = 0x000f_0020;
    bob.write(register(0, 0x58), Word, 0x7fff).unwrap();
    assert_eq!((gate.real(EXPRESS, 0x58), bob.read(register(0, 0x58), Dword)), (0x000f_7830, Ok(0x000f_783f)));
    bob.write(register(0, 0x5a), Word, 0x0005).unwrap();
    assert_eq!(gate.real(EXPRESS, 0x58) >> 16, 0x000a);
    bob.write(register(0, 0x60), Dword, u32::MAX).unwrap();
    assert_eq!(gate.real(EXPRESS, 0x60), 0);
}

#[test]
fn device_specific_registers_are_passed_on_in_their_width() {
    let gate = open(board());
    let alice = gate.client(ALICE);
    alice.write(register(0, 0x41), Byte, 0x80).unwrap();
    alice.write(register(0, 0x42), Word, 0xa307).unwrap();
    assert_eq!(alice.read(register(0, 0x40), Dword), Ok(0xa307_8000));
    assert_eq!(
        gate.board.borrow_mut().take_writes(),
        [Wrote::Config(IDE, 0x41, Byte, 0x80), Wrote::Config(IDE, 0x42, Word, 0xa307)]
    );
}

#[test]
fn a_device_specific_write_that_changes_what_the_server_keeps_is_undone() {
    // A BAR and bus mastering; decoding; error reporting; the ROM; the power state; reports of PCI Express.
    for (at, bits) in [(0x10, 0x0100_0000), (0x04, 0x4), (0x04, 0x3), (0x04, 0x140), (0x30, 1), (0xe0, 3)] {
        let gate = open(Board { treacherous: Some((E1000, 0x50, vec![(at, bits)])), ..board() });
        let (alice, before) = (gate.client(ALICE), gate.real(E1000, at));
        assert_eq!(alice.write(register(1, 0x50), Dword, 1), Err(Error::ReadOnly), "{at:#x}");
        assert_eq!((gate.real(E1000, at), gate.real(E1000, 0x50)), (before, 0), "{at:#x}");
    }
    let gate = open(Board { treacherous: Some((EXPRESS, 0x98, vec![(0x58, 0xf)])), ..board() });
    assert_eq!(gate.client(BOB).write(register(0, 0x98), Byte, 1), Err(Error::ReadOnly));
    assert_eq!((gate.real(EXPRESS, 0x58) & 0xf, gate.real(EXPRESS, 0x98)), (0, 0));
    // Others are as the guest has written them.
    gate.client(BOB).write(register(0, 0x9c), Word, 0x1234).unwrap();
    assert_eq!(gate.real(EXPRESS, 0x9c), 0x1234);
}

#[test]
fn the_interrupt_line_is_virtual() {
    let gate = open(board());
    let alice = gate.client(ALICE);
    assert_eq!(alice.read(register(0, 0x3c), Byte), Ok(14));
    assert_eq!(alice.read(register(1, 0x3c), Word), Ok(0x01ff));
    alice.write(register(1, 0x3c), Byte, 11).unwrap();
    alice.write(register(1, 0x3d), Byte, 4).unwrap();
    assert_eq!(alice.read(register(1, 0x3c), Word), Ok(0x010b));
    assert_eq!(gate.board.borrow_mut().take_writes(), []);
    alice.reset().unwrap();
    assert_eq!(alice.read(register(1, 0x3c), Byte), Ok(0xff));
}

#[test]
fn cache_line_and_latency_are_passed_on_and_the_self_test_is_not() {
    let gate = open(board());
    gate.client(ALICE).write(register(0, 0x0c), Dword, 0x4080_2008).unwrap();
    assert_eq!(gate.board.borrow_mut().take_writes(), [Wrote::Config(IDE, 0x0c, Word, 0x2008)]);
}

#[test]
fn an_access_that_is_not_aligned_is_refused() {
    let gate = open(board());
    let alice = gate.client(ALICE);
    for (offset, width) in [(1, Word), (3, Word), (0xff, Word), (2, Dword), (0xfe, Dword)] {
        assert_eq!(alice.read(register(0, offset), width), Err(Error::Straddles));
        assert_eq!(alice.write(register(0, offset), width, 0), Err(Error::Straddles));
    }
    assert!(alice.read(register(0, 0xff), Byte).is_ok());
}
