//! Hostile clients: whatever they send, the server does not panic, replies, and writes only to their own functions.

use layout::Bdf;
use pci_server::hardware::Clock;
use proptest::prelude::*;
use proto::pci::{Client, Error, Target, Width};
use proto::wire::{Message, Transport};

use crate::board::{AHCI, DISPLAY, E1000, EXPRESS, Hold, IDE, SMALL_A, SMALL_B, UHCI, Wrote, board};
use crate::logged::logged;
use crate::{ALICE, BOB, CAROL, Gate, config, give, mediated, register, trusted};

fn open() -> Gate {
    Gate::of([
        mediated(give(ALICE, IDE)),
        mediated(give(ALICE, SMALL_A)),
        give(ALICE, EXPRESS),
        give(BOB, SMALL_B),
        trusted(give(BOB, E1000)),
        mediated(give(BOB, AHCI)),
    ])
}

/// What each client may write to.
fn is_own(id: u64, wrote: &Wrote) -> bool {
    let functions: &[Bdf] = match id {
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

/// What a guest sees of the bits that its function's real registers keep: those that it wrote last.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shown {
    /// Decoding, parity error response, SERR# enable, INTx disable.
    command: u32,
    /// Power state.
    power: u32,
    /// Error reporting of PCI Express.
    express: u32,
}

const COMMAND: u32 = 0x0543;

impl Shown {
    const AT_FIRST: Self = Self { command: 3, power: 0, express: 0 };

    fn of(client: &Client<impl Transport>, function: u8, power: u8, express: Option<u8>) -> Self {
        let read = |at| client.read(register(function, at), Width::Word).unwrap();
        let express = express.map_or(0, |at| read(at) & 0xf);
        Self { command: read(4) & COMMAND, power: read(power) & 3, express }
    }

    /// Notes an access that was not refused for its alignment.
    fn write(&mut self, power: u8, express: Option<u8>, (offset, width, value): (u8, Width, u32)) {
        let shift = 8 * u32::from(offset % 4);
        let (lanes, value) = (width.mask() << shift, (value & width.mask()) << shift);
        let merge = |old: u32, bits: u32| old & !(lanes & bits) | value & lanes & bits;
        match offset & !3 {
            4 => self.command = merge(self.command, COMMAND),
            // Not by parts: the state is in one byte.
            at if at == power => self.power = merge(self.power, 3),
            at if Some(at) == express => {
                self.express = merge(self.express, 0xf);
                if value & lanes & 0x8000 != 0 {
                    // A function level reset.
                    *self = Self::AT_FIRST;
                }
            }
            _ => {}
        }
    }
}

/// What must stay as it is in a function's real registers.
fn kept(gate: &Gate, at: Bdf, power: u8, express: Option<u8>) -> Vec<u32> {
    let real = |offset| gate.real(at, offset);
    let mut kept = vec![real(4) & 0x0143, real(0x0c) & 0xffff_0000, real(0x30) & 1, real(power) & 3];
    kept.extend((0x10..0x28).step_by(4).map(real));
    // Of PCI Express, device control is 8 bytes in: what it keeps, and all other registers with those of the link.
    let registers = express.into_iter().flat_map(|at| (at - 8..at + 0x34).step_by(4).filter(move |other| *other != at));
    kept.extend(registers.map(real));
    kept.extend(express.map(|at| real(at) & 0x87ef));
    kept
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Decoding stays on, D0 and silence too, whatever is written in whatever width, by devices that let a write to registers of
    /// their own change them, too.
    #[test]
    fn no_write_of_a_guest_has_its_function_refuse_an_access_or_report_an_error(
        (at, power, express) in prop_oneof![Just((E1000, 0xe0, None)), Just((EXPRESS, 0x44, Some(0x58)))],
        flips in prop::collection::vec((prop_oneof![Just(4u8), Just(0x10), Just(0x30), Just(0)], any::<u32>()), 0..4),
        accesses in prop::collection::vec(
            (prop_oneof![Just(4u8), Just(5), Just(0x0c), Just(0x0f), Just(0x30), Just(0x44), Just(0x58), Just(0x59), Just(0xe0),
                0x10u8..0x28, any::<u8>()], width(), any::<u32>()),
            1..40,
        ),
    ) {
        let mut machine = board();
        // Register 0 stands for the power state; the masks leave what no device changes by itself.
        let flips = flips.into_iter().map(|(register, bits)| match register {
            4 => (4, bits & 0x0547),
            0x10 => (0x10, bits & 0xfffe_0000),
            0x30 => (0x30, bits & 1),
            _ => (power, bits & 3),
        });
        machine.treacherous = Some((at, 0x90, flips.collect()));
        let gate = Gate::open(machine, config([give(ALICE, at)]));
        let (client, before) = (gate.client(ALICE), kept(&gate, at, power, express));
        let mut shown = Shown::AT_FIRST;
        for access in accesses {
            let (offset, width, value) = access;
            let aligned = client.write(register(0, offset), width, value) != Err(Error::Straddles);
            if aligned {
                shown.write(power, express, access);
            }
            prop_assert_eq!(&kept(&gate, at, power, express), &before, "{:x?}", access);
            prop_assert_eq!(Shown::of(&client, 0, power, express), shown, "{:x?}", access);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_client_can_write_only_to_its_own_functions(
        accesses in prop::collection::vec((ALICE..=CAROL, target(), width(), any::<u32>()), 1..60),
    ) {
        let gate = open();
        for (id, target, width, value) in accesses {
            let client = gate.client(id);
            let _ = client.write(target, width, value);
            let _ = client.read(target, width);
            for wrote in gate.board.borrow_mut().take_writes() {
                prop_assert!(is_own(id, &wrote), "client {} reached {:x?} by {}", id, wrote, target);
            }
        }
        // No real BAR has moved, and no function without permission is bus master.
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

/// The parts of the time that the server spent in 20 s of a client that does nothing else, and how often it did that.
fn share(gate: &Gate, mut again: impl FnMut()) -> (u64, u32) {
    const SECOND: u64 = 4_000_000_000;
    /// Ticks between two calls, long enough that the time of a call itself does not matter.
    const CALL: u64 = 2_000_000;
    let clock = || Hold(gate.board.clone()).ticks();
    let (start, mut busy, mut calls) = (clock(), 0, 0);
    while clock() - start < 20 * SECOND {
        let before = clock();
        again();
        busy += clock() - before;
        gate.board.borrow_mut().time += CALL;
        calls += 1;
    }
    (20 * SECOND / busy, calls)
}

#[test]
fn a_client_that_resets_in_a_loop_takes_a_bounded_share_of_time() {
    for at in [EXPRESS, E1000, DISPLAY] {
        let mut machine = board();
        let display = machine.functions.get_mut(&DISPLAY).unwrap();
        display.values[1] |= 1 << 20;
        (display.values[13], display.values[0x10]) = (0x40, 0x0002_0001);
        let gate = Gate::open(machine, config([trusted(give(ALICE, at))]));
        let alice = gate.client(ALICE);
        let (parts, calls) = share(&gate, || alice.reset().unwrap());
        assert!(parts >= 5, "{at}: a {parts}th of the time");
        assert!(calls > 1000 && gate.refused(ALICE) > calls / 2, "{at}: {calls} resets");
    }
}

#[test]
fn a_guest_that_changes_a_dead_devices_power_state_in_a_loop_costs_no_wait() {
    let mut machine = board();
    machine.functions.get_mut(&EXPRESS).unwrap().values[0x44 / 4] = 0;
    let gate = Gate::open(machine, config([give(ALICE, EXPRESS)]));
    gate.board.borrow_mut().functions.get_mut(&EXPRESS).unwrap().values[0] = u32::MAX;
    let alice = gate.client(ALICE);
    let clock = || Hold(gate.board.clone()).ticks();
    let start = clock();
    for state in [3, 0, 3, 0] {
        alice.write(register(0, 0x44), Width::Word, state).unwrap();
    }
    assert!(clock() - start < 100_000, "looks at the clock, of which each takes 10,000 ticks");
}

#[test]
fn a_hurried_reset_still_stops_the_engines() {
    let gate = Gate::open(board(), config([trusted(give(ALICE, E1000)), trusted(give(ALICE, EXPRESS))]));
    let alice = gate.client(ALICE);
    while gate.refused(ALICE) < 4 {
        alice.reset().unwrap();
    }
    for function in [0, 1] {
        alice.write(register(function, 4), Width::Word, 7).unwrap();
        alice.write(register(function, 0x0c), Width::Word, 0x1234).unwrap();
    }
    gate.board.borrow_mut().take_writes();
    alice.release().unwrap();
    assert_eq!((gate.real(E1000, 4) & 7, gate.real(EXPRESS, 4) & 7), (3, 3));
    assert_eq!((gate.real(E1000, 0x0c) & 0xffff, gate.real(EXPRESS, 0x0c) & 0xffff), (0x4010, 0x4010));
    let writes = gate.board.borrow_mut().take_writes();
    assert!(writes.contains(&Wrote::Memory(0xc000_0100, Width::Dword, 0)), "the receiver is off");
    assert!(!writes.contains(&Wrote::Config(EXPRESS, 0x58, Width::Word, 0x8000)), "what needs a wait is left out");
    // Other clients have budgets of their own, and a reset after a stop has a full one.
    gate.stop(ALICE);
    assert!(gate.board.borrow_mut().take_writes().contains(&Wrote::Config(EXPRESS, 0x58, Width::Word, 0x8000)));
}

#[test]
fn refusals_in_the_log_are_rate_limited() {
    let gate = open();
    let log = logged("port 0xbeef", || {
        for _ in 0..1000 {
            assert!(gate.client(CAROL).read(Target::Port(0xbeef), Width::Byte).is_err());
        }
    });
    assert_eq!(gate.refused(CAROL), 1000);
    // 16, then 32, 64, … 512.
    assert_eq!(log.len(), 16 + 5);
    assert_eq!(log[0], "`carol`: reading port 0xbeef refused: NotYours (1 so far)");
}
