//! Ports and memory: by calls, and handed over.

use proto::pci::Width::{Byte, Dword, Word};
use proto::pci::{Error, TakeFrame, Target};

use crate::board::{AHCI, E1000, IDE, SMALL_A, SMALL_B, UHCI, Wrote};
use crate::{ALICE, BOB, CAROL, Gate, give, mediated, register};
use crate::{LISTER, trusted};

fn open() -> Gate {
    Gate::of([
        mediated(give(ALICE, IDE)),
        mediated(give(ALICE, SMALL_A)),
        give(BOB, SMALL_B),
        trusted(give(BOB, E1000)),
        mediated(give(BOB, AHCI)),
    ])
}

#[test]
fn an_access_reaches_the_device_in_its_width() {
    let gate = open();
    let alice = gate.client(ALICE);
    alice.write(Target::Port(0x1f0), Word, 0xabcd_1234).unwrap();
    alice.write(Target::Port(0xc004), Dword, 0x0010_0000).unwrap();
    alice.write(Target::Memory(0xc004_00fc), Dword, 7).unwrap();
    alice.write(Target::Memory(0xc004_0001), Byte, 9).unwrap();
    assert_eq!(
        gate.board.borrow_mut().take_writes(),
        [
            Wrote::Port(0x1f0, Word, 0x1234),
            Wrote::Port(0xc004, Dword, 0x0010_0000),
            Wrote::Memory(0xc004_00fc, Dword, 7),
            Wrote::Memory(0xc004_0001, Byte, 9),
        ]
    );
    assert_eq!(alice.read(Target::Port(0xc004), Dword), Ok(0x0010_0000));
    assert_eq!(alice.read(Target::Memory(0xc004_00fc), Word), Ok(7));
}

#[test]
fn two_functions_in_one_page_stay_apart() {
    let gate = open();
    let (alice, bob) = (gate.client(ALICE), gate.client(BOB));
    bob.write(Target::Memory(0xc004_0100), Dword, 1).unwrap();
    assert_eq!(gate.board.borrow_mut().take_writes(), [Wrote::Memory(0xc004_0100, Dword, 1)]);
    assert_eq!(alice.write(Target::Memory(0xc004_0100), Byte, 0), Err(Error::NotYours));
    assert_eq!(bob.read(Target::Memory(0xc004_00ff), Byte), Err(Error::NotYours));
    // An unowned register in the same page.
    assert_eq!(bob.read(Target::Memory(0xc004_0200), Byte), Err(Error::NotYours));
}

#[test]
fn an_access_across_the_end_or_misaligned_is_refused() {
    let gate = open();
    let alice = gate.client(ALICE);
    for (target, width) in [
        (Target::Port(0x3f6), Word),
        (Target::Port(0x1f1), Word),
        (Target::Port(0x1f6), Dword),
        (Target::Port(0xc00f), Word),
        (Target::Memory(0xc004_00ff), Word),
        (Target::Memory(0xc004_00fe), Dword),
        (Target::Memory(0xc004_0001), Dword),
    ] {
        assert_eq!(alice.read(target, width), Err(Error::Straddles), "{target}");
        assert_eq!(alice.write(target, width, 0), Err(Error::Straddles), "{target}");
    }
    assert_eq!(gate.refused(ALICE), 14);
    assert_eq!(gate.board.borrow_mut().take_writes(), []);
}

#[test]
fn an_access_to_anothers_range_is_refused_and_counted() {
    let gate = open();
    let bob = gate.client(BOB);
    let foreign = [
        Target::Port(0x1f0),
        Target::Port(0xc000),
        Target::Port(0xcf8),
        Target::Port(0xffff),
        Target::Port(0),
        Target::Memory(0xc004_0000),
        Target::Memory(0),
        Target::Memory(u64::MAX),
        register(3, 0),
        register(0xff, 0),
    ];
    for target in foreign {
        assert_eq!(bob.read(target, Byte), Err(Error::NotYours), "{target}");
        assert_eq!(bob.write(target, Byte, 0), Err(Error::NotYours), "{target}");
    }
    assert_eq!((gate.refused(BOB), gate.refused(ALICE)), (20, 0));
    for id in [LISTER, CAROL, 99] {
        assert_eq!(gate.client(id).read(register(0, 0), Byte), Err(Error::NotYours));
        assert_eq!(gate.client(id).read(Target::Port(0x1f0), Byte), Err(Error::NotYours));
    }
    assert_eq!(gate.board.borrow_mut().take_writes(), []);
}

#[test]
fn a_direct_range_is_handed_over_and_a_mediated_one_is_not() {
    let gate = open();
    let (alice, bob) = (gate.client(ALICE), gate.client(BOB));
    let page = |function, bar, page| TakeFrame { function, bar, page };
    // Slots: 0x60, five of IDE, 0xc040, 0xc0a0; then 32 pages of the network card.
    assert_eq!(bob.take_ports(0x60), Ok(0x1_0001));
    assert_eq!(bob.take_ports(0xc040), Ok(0x1_0007));
    assert_eq!(bob.take_frame(page(1, 0, 0)), Ok(0x1_0009));
    assert_eq!(bob.take_frame(page(1, 0, 31)), Ok(0x1_0009 + 31));
    for first in [0x1f0, 0x61, 0xc041, 0xc0a0, 0xcf8, 0] {
        assert_eq!(bob.take_ports(first), Err(Error::NotYours), "{first:#x}");
    }
    for (function, bar, n) in [(0, 0, 0), (1, 0, 32), (1, 0, u16::MAX), (1, 1, 0), (1, 6, 0), (2, 5, 0), (9, 0, 0)] {
        assert_eq!(bob.take_frame(page(function, bar, n)), Err(Error::NotYours));
    }
    assert_eq!(alice.take_ports(0x1f0), Err(Error::NotYours), "mediated");
    assert_eq!(alice.take_ports(0xc040), Err(Error::NotYours), "another's");
    assert_eq!((gate.refused(ALICE), gate.refused(BOB)), (2, 13));
}

#[test]
fn memory_that_is_handed_over_is_not_reached_by_calls() {
    let gate = open();
    assert_eq!(gate.client(BOB).read(Target::Memory(0xc000_0000), Dword), Err(Error::NotYours));
    // Ports are accessible by calls in either mode.
    assert_eq!(gate.client(BOB).read(Target::Port(0xc040), Dword), Ok(0));
}

#[test]
fn a_release_revokes_everything_and_a_reset_nothing() {
    let gate = open();
    let bob = gate.client(BOB);
    bob.take_ports(0x60).unwrap();
    bob.reset().unwrap();
    assert_eq!(gate.board.borrow().revoked, []);
    bob.release().unwrap();
    let all: Vec<u16> = [1, 7].into_iter().chain(9..41).collect();
    assert_eq!(gate.board.borrow().revoked, all);
    // The restarted client takes it again.
    assert_eq!(bob.take_ports(0x60), Ok(0x1_0001));
}

#[test]
fn a_stopped_clients_functions_are_reset_and_revoked_and_others_continue() {
    let gate = open();
    let (alice, bob) = (gate.client(ALICE), gate.client(BOB));
    bob.write(register(1, 4), Word, 7).unwrap();
    alice.write(register(0, 0x40), Word, 0x8000).unwrap();
    gate.stop(BOB);
    assert_eq!(gate.board.borrow().revoked.len(), 34);
    assert_eq!(gate.real(E1000, 4) & 7, 3);
    assert_eq!(alice.read(register(0, 0x40), Word), Ok(0x8000));
    assert_eq!(bob.take_ports(0xc040), Ok(0x1_0007));
    gate.stop(CAROL);
    gate.server.borrow_mut().on_signal(u64::MAX);
    assert!(alice.read(register(0, 0), Dword).is_ok());
}

#[test]
fn an_unowned_function_is_not_accessible() {
    let gate = open();
    let before = gate.board.borrow().functions[&UHCI].values;
    gate.stop(ALICE);
    gate.stop(BOB);
    assert_eq!(gate.board.borrow().functions[&UHCI].values, before);
}
