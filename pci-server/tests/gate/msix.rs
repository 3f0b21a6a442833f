//! Functions that interrupt by messages of a table: what is written into the machine's function, and what its owner sees.

use proptest::prelude::*;
use proto::irq::Route;
use proto::pci::Width::{Byte, Dword, Word};
use proto::pci::{Error, GrantedLine, Messages, PciFunction, TakeFrame, Target};

use crate::board::{Board, E1000, EXPRESS, Wrote, board};
use crate::{ALICE, BOB, Gate, config, give, mediated, register, trusted};

/// The card's capability, its BAR 0, and its table there.
const AT: u8 = 0xa0;
const BASE: u64 = 0xc008_0000;
const TABLE: u64 = 0x2ff0;
const ENTRIES: u64 = 5;

/// The board, with a table of five entries that crosses the end of a page.
fn machine() -> Board {
    let mut machine = board();
    machine.functions.get_mut(&EXPRESS).unwrap().values[usize::from(AT / 4) + 1] = TABLE as u32;
    machine
}

fn on_lines(function: PciFunction) -> PciFunction {
    PciFunction { lines: [5, 6].into_iter().collect(), ..function }
}

fn open(function: PciFunction) -> Gate {
    Gate::open(machine(), config([on_lines(function)]))
}

fn entry(n: u64, word: u64) -> Target {
    Target::Memory(BASE + TABLE + 16 * n + 4 * word)
}

/// The real entry.
fn real(gate: &Gate, n: u64) -> [u32; 4] {
    let board = gate.board.borrow();
    [0, 4, 8, 12].map(|word| board.memory.get(&(BASE + TABLE + 16 * n + word)).copied().unwrap_or(0))
}

fn control(gate: &Gate) -> u32 {
    gate.real(EXPRESS, AT) >> 16
}

#[test]
fn the_table_has_the_hosts_message_and_the_function_its_pin_until_the_owner_wants_messages() {
    let gate = open(trusted(give(ALICE, EXPRESS)));
    let lines: Vec<_> = gate.client(ALICE).grant(0).unwrap().unwrap().lines.into_iter().collect();
    let messages = Some(Messages::Msix { at: AT, entry: BASE + TABLE });
    assert_eq!(lines[0], GrantedLine { line: 5, isa: None, level: true, messages: None });
    assert_eq!(lines[1..], [GrantedLine { line: 6, isa: None, level: false, messages }]);
    let pin = Route { ioapic: 0, pin: 18, level: true, active_low: true };
    assert_eq!(
        (&gate.board.borrow().routes[..], &gate.board.borrow().messages[..]),
        (&[(5, pin)][..], &[(6, EXPRESS)][..])
    );
    assert_eq!((real(&gate, 0)[..3].to_vec(), control(&gate) & 0xc000), (vec![0xfee0_1000, 0, 0x36], 0));
    assert!((0..ENTRIES).all(|n| real(&gate, n)[3] == 1), "all are masked");
}

#[test]
fn the_owner_sees_a_table_of_one_entry_and_switches_it_on_and_off() {
    let gate = open(trusted(give(ALICE, EXPRESS)));
    let alice = gate.client(ALICE);
    assert_eq!(alice.read(register(0, AT + 2), Word), Ok(0));
    assert_eq!(alice.read(register(0, AT + 4), Dword), Ok(TABLE as u32));
    assert_eq!([0, 1, 2, 3].map(|word| alice.read(entry(0, word), Dword).unwrap()), [0, 0, 0, 1]);
    for (word, value) in [(0, 0xfee0_4003), (1, 7), (2, 0x4b), (3, 0xffff_fffe)] {
        alice.write(entry(0, word), Dword, value).unwrap();
    }
    assert_eq!([0, 1, 2, 3].map(|word| alice.read(entry(0, word), Dword).unwrap()), [0xfee0_4000, 7, 0x4b, 0]);
    assert_eq!(alice.read(Target::Memory(BASE + TABLE + 1), Byte), Ok(0x40));
    assert_eq!(real(&gate, 0), [0xfee0_1000, 0, 0x36, 0], "the mask bit alone is the owner's");
    for (value, real) in [(0xffff, 0xc000), (0x8000, 0x8000), (0, 0)] {
        alice.write(register(0, AT + 2), Word, value).unwrap();
        assert_eq!((control(&gate) & 0xc000, alice.read(register(0, AT + 2), Word)), (real, Ok(real)));
    }
    // Beyond it there is nothing.
    assert_eq!((alice.write(entry(1, 0), Dword, 5), alice.read(entry(1, 0), Dword)), (Ok(()), Ok(0)));
    assert_eq!((alice.read(entry(4, 3), Dword), real(&gate, 1)), (Ok(1), [0, 0, 0, 1]));
}

#[test]
fn the_pages_of_the_table_are_not_handed_over_and_the_registers_beside_it_are_mediated() {
    let gate = open(trusted(give(ALICE, EXPRESS)));
    let alice = gate.client(ALICE);
    assert_eq!(alice.grant(0).unwrap().unwrap().kept, [Some((2, 3)), None, None, None, None, None]);
    let taken: Vec<u16> =
        (0..32).filter(|&page| alice.take_frame(TakeFrame { function: 0, bar: 0, page }).is_ok()).collect();
    assert_eq!(taken, [vec![0, 1], (4..32).collect()].concat());
    for (at, done) in
        [(0x1ffc, Err(Error::NotYours)), (0x2000, Ok(())), (0x3ffc, Ok(())), (0x4000, Err(Error::NotYours))]
    {
        assert_eq!(alice.write(Target::Memory(BASE + at), Dword, 9), done, "{at:#x}");
    }
    assert_eq!(gate.board.borrow().memory[&(BASE + 0x3ffc)], 9);
    assert_eq!(gate.client(BOB).read(entry(0, 0), Dword), Err(Error::NotYours));
    // Without DMA there are no messages, and the table is registers like others.
    let gate = open(give(ALICE, EXPRESS));
    assert_eq!(gate.client(ALICE).grant(0).unwrap().unwrap().kept, [None; 6]);
    assert_eq!(gate.board.borrow().messages, []);
}

#[test]
fn a_table_that_does_not_fit_its_memory_is_none() {
    for (place, control) in [(0x1_ffc0, 4), (0x2000 | 1, 4), (0x2000 | 6, 4), (0x1_8010, 0x7ff)] {
        let mut machine = machine();
        let values = &mut machine.functions.get_mut(&EXPRESS).unwrap().values;
        values[usize::from(AT / 4) + 1] = place;
        values[usize::from(AT / 4)] = values[usize::from(AT / 4)] & 0xffff | control << 16;
        let gate = Gate::open(machine, config([on_lines(trusted(give(ALICE, EXPRESS)))]));
        assert_eq!(gate.board.borrow().messages, [], "{place:#x}");
        assert_eq!(gate.client(ALICE).read(register(0, AT), Dword), Ok(0));
    }
}

#[test]
fn a_reset_switches_it_off_and_a_function_with_msi_uses_that() {
    let gate = open(trusted(mediated(give(ALICE, EXPRESS))));
    let alice = gate.client(ALICE);
    alice.write(register(0, AT + 2), Word, 0x8000).unwrap();
    alice.write(entry(0, 3), Dword, 0).unwrap();
    alice.mask(0, true).unwrap();
    assert_eq!((control(&gate) & 0xc000, alice.read(register(0, AT + 2), Word)), (0xc000, Ok(0x8000)));
    alice.mask(0, false).unwrap();
    assert_eq!(control(&gate) & 0xc000, 0x8000);
    gate.board.borrow_mut().functions.get_mut(&EXPRESS).unwrap().values[usize::from(AT / 4)] &= 0xffff;
    assert_eq!(alice.write(register(0, 0xf8), Dword, 1), Err(Error::ReadOnly), "a device-specific register changed it");
    assert_eq!(control(&gate) & 0xc000, 0x8000);
    alice.reset().unwrap();
    assert_eq!((control(&gate) & 0xc000, alice.read(register(0, AT + 2), Word)), (0, Ok(0)));
    assert_eq!((real(&gate, 0), alice.read(entry(0, 3), Dword)), ([0xfee0_1000, 0, 0x36, 1], Ok(1)));
    let gate = Gate::open(machine(), config([on_lines(trusted(give(ALICE, E1000)))]));
    assert_eq!(gate.board.borrow().messages, [(5, E1000)]);
}

/// The owner's VMM has masked them, and unmasks them when the storm is over.
#[test]
fn a_guests_function_level_reset_switches_it_off_and_leaves_it_masked() {
    let gate = open(trusted(give(ALICE, EXPRESS)));
    let alice = gate.client(ALICE);
    alice.write(register(0, AT + 2), Word, 0x8000).unwrap();
    alice.mask(0, true).unwrap();
    alice.write(register(0, 0x58), Word, 0x8000).unwrap();
    assert_eq!((control(&gate) & 0xc000, alice.read(register(0, AT + 2), Word)), (0x4000, Ok(0)));
    alice.mask(0, false).unwrap();
    assert_eq!(control(&gate) & 0xc000, 0);
    alice.mask(0, true).unwrap();
    alice.reset().unwrap();
    assert_eq!(control(&gate) & 0xc000, 0, "a reset of the guest unmasks");
}

/// A driver may reset its device by the device's own registers, and sets its table up again then.
#[test]
fn an_entry_that_the_device_has_lost_has_the_hosts_message_before_it_is_unmasked() {
    let gate = open(trusted(give(ALICE, EXPRESS)));
    for (word, value) in [(0, 0), (4, 0), (8, 0), (12, 1)] {
        gate.board.borrow_mut().memory.insert(BASE + TABLE + word, value);
    }
    gate.board.borrow_mut().take_writes();
    gate.client(ALICE).write(entry(0, 3), Dword, 1).unwrap();
    assert_eq!(real(&gate, 0), [0, 0, 0, 1]);
    gate.client(ALICE).write(entry(0, 3), Dword, 0).unwrap();
    let wrote = |word: u64, value| Wrote::Memory(BASE + TABLE + 4 * word, Dword, value);
    assert_eq!(
        gate.board.borrow_mut().take_writes(),
        [wrote(3, 1), wrote(0, 0xfee0_1000), wrote(1, 0), wrote(2, 0x36), wrote(3, 0)]
    );
}

proptest! {
    #[test]
    fn of_what_the_owner_writes_the_table_gets_the_mask_bit_alone_and_else_the_hosts_message(
        writes in prop::collection::vec((TABLE - 16..TABLE + 16 * ENTRIES + 16, 0_u8..3, any::<u32>()), 1..60)
    ) {
        let gate = open(trusted(give(ALICE, EXPRESS)));
        gate.board.borrow_mut().take_writes();
        for (offset, width, value) in writes {
            let width = [Byte, Word, Dword][usize::from(width)];
            let _ = gate.client(ALICE).write(Target::Memory(BASE + offset), width, value);
        }
        for wrote in gate.board.borrow_mut().take_writes() {
            let Wrote::Memory(at, width, value) = wrote else { panic!("{wrote:?}") };
            let table = BASE + TABLE..BASE + TABLE + 16 * ENTRIES;
            let reaches = at < table.end && at + u64::from(width.bytes()) > table.start;
            let hosts = [0xfee0_1000, 0, 0x36].get((at.wrapping_sub(table.start) / 4) as usize) == Some(&value);
            let masks = at == table.start + 12 && value <= 1;
            prop_assert!(!reaches || width == Dword && (hosts || masks), "{wrote:?}");
        }
    }
}
