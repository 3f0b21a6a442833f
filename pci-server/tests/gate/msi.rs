//! Functions that interrupt by messages: what is written into the machine's function, and what its owner sees.

use layout::Bdf;
use proptest::prelude::*;
use proto::pci::Width::{Byte, Dword, Word};
use proto::pci::{Dma, Error, GrantedLine, Messages, PciFunction};

use crate::board::{AHCI, Board, E1000, EXPRESS, NE2000, Wrote, board};
use crate::{ALICE, BOB, CAROL, Gate, config, give, register, trusted};

/// Offsets of the card's MSI capability, which has 64-bit addresses, and of the disk controller's.
const CARD: u8 = 0xf0;
const DISK: u8 = 0x80;

fn on_lines(function: PciFunction) -> PciFunction {
    PciFunction { lines: [5, 6].into_iter().collect(), ..function }
}

/// ALICE's only function, which may write to memory.
fn owner_of(at: Bdf, board: Board) -> Gate {
    Gate::open(board, config([on_lines(trusted(give(ALICE, at)))]))
}

fn lines(gate: &Gate) -> Vec<GrantedLine> {
    gate.client(ALICE).grant(0).unwrap().unwrap().lines.into_iter().collect()
}

#[test]
fn a_function_with_msi_sends_the_hosts_message_on_a_single_line() {
    let gate = owner_of(E1000, board());
    assert_eq!(lines(&gate), [GrantedLine { line: 5, isa: None, level: true, messages: Some(Messages::Msi(CARD)) }]);
    assert_eq!((&gate.board.borrow().messages[..], &gate.board.borrow().routes[..]), (&[(5, E1000)][..], &[][..]));
    assert_eq!([0, 4, 8, 12].map(|at| gate.real(E1000, CARD + at)), [0x0081_0005, 0xfee0_1000, 0, 0x35]);
    assert_eq!(gate.real(E1000, 0x04) & 1 << 10, 1 << 10, "and never its pin");
}

#[test]
fn vectors_and_masks_that_the_firmware_has_left_are_off() {
    let mut machine = board();
    let card = machine.functions.get_mut(&E1000).unwrap();
    // Four vectors of eight enabled, and masks, of which all are set.
    card.values[usize::from(CARD / 4)] |= 0x0126 << 16;
    let at = 0xe8;
    card.values[usize::from(at / 4)] = card.values[usize::from(CARD / 4)] & !0xff00;
    card.values[usize::from(0xe4_u8 / 4)] = 0xe807;
    card.values[usize::from(at / 4) + 4] = u32::MAX;
    let gate = owner_of(E1000, machine);
    assert_eq!([0, 4, 8, 12, 16].map(|n| gate.real(E1000, at + n)), [0x0187_0005, 0xfee0_1000, 0, 0x35, 0]);
}

#[test]
fn without_dma_without_msi_or_with_a_pin_in_the_description_it_has_its_pin() {
    let no_dma = PciFunction { dma: Dma::No, ..on_lines(give(ALICE, E1000)) };
    let pinned = Board { routed: vec![5], ..board() };
    for gate in [
        Gate::open(board(), config([no_dma])),
        owner_of(NE2000, board()),
        Gate::open(pinned, config([on_lines(trusted(give(ALICE, E1000)))])),
    ] {
        assert_eq!(gate.board.borrow().messages, []);
        assert_eq!(lines(&gate), [GrantedLine { line: 5, isa: None, level: true, messages: None }]);
        assert_eq!(gate.client(ALICE).read(register(0, CARD), Dword).unwrap() & 0xff, 0, "no capability");
    }
}

#[test]
fn a_capability_that_leaves_configuration_space_is_none() {
    let mut machine = board();
    let card = machine.functions.get_mut(&E1000).unwrap();
    card.values[usize::from(0xe4_u8 / 4)] = 0xf407;
    card.values[usize::from(0xf4_u8 / 4)] = 0x0081_0005;
    let gate = owner_of(E1000, machine);
    assert_eq!((gate.board.borrow().messages.len(), lines(&gate)[0].messages), (0, None));
}

#[test]
fn the_owner_sees_one_vector_without_masks_and_reads_back_what_it_has_written() {
    let mut machine = board();
    machine.functions.get_mut(&E1000).unwrap().values[usize::from(CARD / 4)] |= 0x000e << 16;
    let gate = owner_of(E1000, machine);
    let alice = gate.client(ALICE);
    let at = |offset| register(0, CARD + offset);
    assert_eq!([0, 4, 8, 12].map(|n| alice.read(at(n), Dword).unwrap()), [0x0080_0005, 0, 0, 0]);
    alice.write(at(4), Dword, 0xfee0_300f).unwrap();
    alice.write(at(8), Dword, 0x1234_5678).unwrap();
    alice.write(at(12), Word, 0x4a51).unwrap();
    alice.write(at(2), Word, 0xffff).unwrap();
    assert_eq!(
        [0, 4, 8, 12].map(|n| alice.read(at(n), Dword).unwrap()),
        [0x0081_0005, 0xfee0_300c, 0x1234_5678, 0x4a51]
    );
    alice.write(at(5), Byte, 0xee).unwrap();
    alice.write(at(2), Byte, 0).unwrap();
    assert_eq!([0, 4].map(|n| alice.read(at(n), Dword).unwrap()), [0x0080_0005, 0xfee0_ee0c]);
    assert_eq!(gate.real(E1000, CARD + 4), 0xfee0_1000);
}

#[test]
fn a_capability_with_32_bit_addresses_has_its_data_behind_them() {
    let mut machine = board();
    machine.functions.get_mut(&AHCI).unwrap().values[usize::from(DISK / 4)] &= 0x0000_ffff;
    let gate = owner_of(AHCI, machine);
    assert_eq!([0, 4, 8].map(|n| gate.real(AHCI, DISK + n)), [0x0001_a805, 0xfee0_1000, 0x35]);
    let alice = gate.client(ALICE);
    alice.write(register(0, DISK + 8), Dword, 0xffff_4152).unwrap();
    assert_eq!([8, 12].map(|n| alice.read(register(0, DISK + n), Dword).unwrap()), [0x4152, 0]);
}

#[test]
fn a_reset_forgets_the_owners_registers_and_has_the_function_send_the_message_again() {
    let gate = owner_of(E1000, board());
    let alice = gate.client(ALICE);
    let again: [fn(&Gate); 3] = [
        |gate| gate.client(ALICE).reset().unwrap(),
        |gate| gate.client(ALICE).release().unwrap(),
        |gate| gate.stop(ALICE),
    ];
    for again in again {
        alice.write(register(0, CARD + 4), Dword, 0xfee0_0000).unwrap();
        alice.write(register(0, CARD + 2), Word, 1).unwrap();
        // As a reset of the function leaves them.
        for at in [0, 4, 12] {
            let value = if at == 0 { 0x0080_0005 } else { 0 };
            gate.board.borrow_mut().functions.get_mut(&E1000).unwrap().values[usize::from((CARD + at) / 4)] = value;
        }
        again(&gate);
        assert_eq!([0, 4, 12].map(|at| gate.real(E1000, CARD + at)), [0x0081_0005, 0xfee0_1000, 0x35]);
        assert_eq!([0, 4].map(|at| alice.read(register(0, CARD + at), Dword).unwrap()), [0x0080_0005, 0]);
    }
}

#[test]
fn a_message_that_a_device_specific_register_has_changed_is_put_back() {
    let gate = owner_of(E1000, board());
    for (at, value) in [(0, 0x0080_0005), (0, 0x00a1_0005), (4, 0x0010_0000), (8, 1), (12, 0x40)] {
        gate.board.borrow_mut().functions.get_mut(&E1000).unwrap().values[usize::from((CARD + at) / 4)] = value;
        assert!(gate.client(ALICE).write(register(0, 0x40), Dword, 1).is_err());
        assert_eq!([0, 4, 8, 12].map(|at| gate.real(E1000, CARD + at)), [0x0081_0005, 0xfee0_1000, 0, 0x35]);
    }
    assert!(gate.client(ALICE).write(register(0, 0x40), Dword, 1).is_ok());
}

#[test]
fn the_owner_masks_messages_by_the_mask_bit_or_else_by_the_enable_bit() {
    let mut with_mask = board();
    let disk = with_mask.functions.get_mut(&AHCI).unwrap();
    disk.values[usize::from(DISK / 4)] |= 0x0100 << 16;
    let gate = owner_of(AHCI, with_mask);
    for masked in [true, false] {
        gate.client(ALICE).mask(0, masked).unwrap();
        assert_eq!((gate.real(AHCI, DISK), gate.real(AHCI, DISK + 16)), (0x0181_a805, masked.into()));
    }
    let gate = owner_of(E1000, board());
    for (masked, control) in [(true, 0x0080_0005), (true, 0x0080_0005), (false, 0x0081_0005)] {
        gate.client(ALICE).mask(0, masked).unwrap();
        assert_eq!((gate.real(E1000, CARD), gate.real(E1000, CARD + 4)), (control, 0xfee0_1000));
        assert!(gate.client(ALICE).write(register(0, 0x40), Dword, 1).is_ok(), "that is what it should be");
        assert_eq!(gate.real(E1000, CARD), control);
    }
    gate.client(ALICE).mask(0, true).unwrap();
    gate.client(ALICE).reset().unwrap();
    assert_eq!(gate.real(E1000, CARD), 0x0081_0005, "a reset unmasks");
}

/// The owner's VMM has masked them, and unmasks them when the storm is over.
#[test]
fn a_guests_function_level_reset_forgets_its_message_and_leaves_the_hosts_masked() {
    // The card with PCI Express has MSI instead of MSI-X.
    let at = 0xa0;
    let mut machine = board();
    machine.functions.get_mut(&EXPRESS).unwrap().values[usize::from(at / 4)] = 0x0080_0005;
    let gate = owner_of(EXPRESS, machine);
    let alice = gate.client(ALICE);
    alice.write(register(0, at + 2), Word, 1).unwrap();
    alice.mask(0, true).unwrap();
    alice.write(register(0, 0x58), Word, 0x8000).unwrap();
    assert_eq!((gate.real(EXPRESS, at), alice.read(register(0, at), Dword)), (0x0080_0005, Ok(0x0080_0005)));
    alice.mask(0, false).unwrap();
    assert_eq!((gate.real(EXPRESS, at), alice.read(register(0, at), Dword)), (0x0081_0005, Ok(0x0080_0005)));
}

#[test]
fn nobody_masks_the_messages_of_anothers_function_or_a_pin() {
    let gate = Gate::open(board(), config([on_lines(trusted(give(ALICE, E1000))), give(BOB, AHCI)]));
    gate.board.borrow_mut().take_writes();
    for (client, function) in [(BOB, 0), (BOB, 1), (ALICE, 1), (CAROL, 0), (77, 0)] {
        assert_eq!(gate.client(client).mask(function, true), Err(Error::NotYours));
    }
    assert_eq!((gate.board.borrow_mut().take_writes(), gate.refused(BOB)), (vec![], 2));
}

proptest! {
    #[test]
    fn no_write_of_the_owner_reaches_the_capability(
        writes in prop::collection::vec((0_u8..=255, 0_u8..3, any::<u32>()), 1..50)
    ) {
        for (function, capability) in [(E1000, CARD), (AHCI, DISK)] {
            let gate = owner_of(function, board());
            gate.board.borrow_mut().take_writes();
            for &(offset, width, value) in &writes {
                let width = [Byte, Word, Dword][usize::from(width)];
                let _ = gate.client(ALICE).write(register(0, offset), width, value);
            }
            let reached = |wrote: &Wrote| match *wrote {
                Wrote::Config(_, at, width, _) => {
                    at + (width.bytes() - 1) >= capability && at <= capability + 15
                }
                _ => false,
            };
            let wrote = gate.board.borrow_mut().take_writes();
            prop_assert_eq!(wrote.iter().find(|wrote| reached(wrote)), None);
            prop_assert_eq!(gate.real(function, 0x04) & 1 << 10, 1 << 10);
        }
    }
}
