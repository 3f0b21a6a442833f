//! Whatever a client sends: no panic, an answer, and no write outside of what is its own.

use pci_server::hardware::Clock;
use proptest::prelude::*;
use proto::pci::{Address, Target, Width};
use proto::wire::{Message, Transport};

use crate::board::{AHCI, E1000, EXPRESS, Hold, IDE, SMALL_A, SMALL_B, UHCI, Wrote, board};
use crate::heard::heard;
use crate::{ALICE, BOB, CAROL, Gate, config, give, loose, mediated, register, trusted};

fn open() -> Gate {
    let mut config = config([
        mediated(give(ALICE, IDE)),
        mediated(give(ALICE, SMALL_A)),
        give(ALICE, EXPRESS),
        give(BOB, SMALL_B),
        trusted(give(BOB, E1000)),
        mediated(give(BOB, AHCI)),
    ]);
    config.ports.push(loose(BOB, 0x60, 0x64)).unwrap();
    let gate = Gate::open(board(), config);
    gate.board.borrow_mut().news();
    gate
}

/// What each client may write to.
fn is_own(id: u64, wrote: &Wrote) -> bool {
    let functions: &[Address] = match id {
        ALICE => &[IDE, SMALL_A, EXPRESS],
        BOB => &[SMALL_B, E1000, AHCI],
        _ => &[],
    };
    let first_and_last: &[(u64, u64)] = match id {
        ALICE => &[
            (0x1f0, 0x1f7),
            (0x170, 0x177),
            (0x3f6, 0x3f6),
            (0x376, 0x376),
            (0xc000, 0xc00f),
            (0xc004_0000, 0xc004_00ff),
        ],
        BOB => &[
            (0x60, 0x64),
            (0xc040, 0xc07f),
            (0xc0a0, 0xc0bf),
            (0xc004_0100, 0xc004_01ff),
            (0xc000_0000, 0xc001_ffff),
            (0xc003_0000, 0xc003_0fff),
        ],
        _ => &[],
    };
    let inside = |at: u64, width: Width| {
        first_and_last.iter().any(|&(first, last)| first <= at && at + u64::from(width.bytes()) - 1 <= last)
    };
    match *wrote {
        Wrote::Config(at, ..) => functions.contains(&at),
        Wrote::Port(port, width, _) => inside(port.into(), width),
        Wrote::Memory(at, width, _) => inside(at, width),
    }
}

/// Addresses that matter, and any others.
fn target() -> impl Strategy<Value = Target> {
    let port = prop_oneof![0x1eeu16..0x1fa, 0x3f0u16..0x3f9, 0xc000u16..0xc0c2, 0xcf8u16..0xd00, any::<u16>()];
    let memory = prop_oneof![
        0xc003_fffcu64..0xc004_0204,
        0xc000_0000u64..0xc000_0500,
        0xc002_fffcu64..0xc003_1004,
        any::<u64>()
    ];
    prop_oneof![
        4 => (0u8..5, any::<u8>()).prop_map(|(function, offset)| register(function, offset)),
        2 => port.prop_map(Target::Port),
        2 => memory.prop_map(Target::Memory),
    ]
}

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![Just(Width::Byte), Just(Width::Word), Just(Width::Dword)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_client_writes_to_its_own_and_to_nothing_else(
        accesses in prop::collection::vec((ALICE..=CAROL, target(), width(), any::<u32>()), 1..60),
    ) {
        let gate = open();
        for (id, target, width, value) in accesses {
            let client = gate.client(id);
            let _ = client.write(target, width, value);
            let _ = client.read(target, width);
            for wrote in gate.board.borrow_mut().news() {
                prop_assert!(is_own(id, &wrote), "client {} reached {:x?} by {}", id, wrote, target);
            }
        }
        // Not one has moved, nor reaches into memory without leave.
        let board = gate.board.borrow();
        for at in [IDE, SMALL_A, EXPRESS, SMALL_B, E1000, AHCI, UHCI] {
            let fresh = crate::board::board().functions[&at].values;
            prop_assert_eq!(&board.functions[&at].values[4..10], &fresh[4..10]);
            prop_assert!(at == E1000 || at == UHCI || board.functions[&at].values[1] & 4 == 0);
        }
        let msi = [(E1000, 0xf0), (AHCI, 0x80), (EXPRESS, 0xa0)];
        prop_assert!(msi.iter().all(|&(at, offset)| board.config(at, offset) & 0x8001_0000 == 0));
    }

    #[test]
    fn any_message_is_answered(
        id in 0u64..6,
        label in 0x4ffu64..0x50c,
        words in prop::collection::vec(prop_oneof![0u64..6, any::<u64>(), Just(0x104), Just(0x204)], 0..6),
    ) {
        let gate = open();
        let mut message = Message::EMPTY;
        message.receive(label, words.len()).copy_from_slice(&words);
        gate.client(id).0.exchange(&mut message);
        prop_assert!(message.label <= 3);
    }
}

#[test]
fn no_call_takes_longer_than_a_second() {
    let gate = open();
    gate.board.borrow_mut().ports.extend([(0x3f6, 0x80), (0x376, 0x80)]);
    let clock = || Hold(gate.board.clone()).ticks();
    for id in [ALICE, BOB] {
        let start = clock();
        gate.client(id).release().unwrap();
        assert!(clock() - start < 4_000_000_000);
    }
}

#[test]
fn the_log_bears_a_client_that_is_refused_again_and_again() {
    let gate = open();
    let log = heard("port 0xbeef", || {
        for _ in 0..1000 {
            assert!(gate.client(CAROL).read(Target::Port(0xbeef), Width::Byte).is_err());
        }
    });
    assert_eq!(gate.refused(CAROL), 1000);
    // 16, then 32, 64, … 512.
    assert_eq!(log.len(), 16 + 5);
    assert_eq!(log[0], "`carol`: reading port 0xbeef refused: NotYours (1 so far)");
}
