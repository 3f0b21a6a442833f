//! A guest that moves its functions' base address registers: where its accesses go then.

use std::cell::RefCell;

use devices::{Effect, Width};
use layout::guest_board::Chipset;
use proptest::prelude::*;
use proto::pci::{self, Error, Target};
use vmm_server::{
    board::Board,
    passthrough::windows::{BarSpace, BarWindow},
    passthrough::{Passthrough, Server},
};

use crate::fake::{NOW, Ports};

/// pci-server, with the registers of one function that has memory, ports, and memory with a wide address. It keeps what is
/// written to them, and the last access that was to a device.
struct Card {
    registers: RefCell<[u32; 64]>,
    seen: RefCell<Option<(Target, Option<u32>)>>,
}

const BASES: [u64; 3] = [0xc000_0000, 0xc040, 0xd_0000_0000];
const SIZES: [u64; 3] = [0x2_0000, 0x40, 0x100_0000];
/// Which bits of the six base address registers can be written.
const MASKS: [u32; 6] = [0xfffe_0000, 0xffff_ffc0, 0xff00_0000, 0xffff_ffff, 0, 0];

impl Server for Card {
    fn read(&self, target: &Target, _: pci::Width) -> Result<u32, Error> {
        match *target {
            Target::Config { offset, .. } => Ok(self.registers.borrow()[usize::from(offset / 4)] >> (offset % 4 * 8)),
            other => {
                self.seen.replace(Some((other, None)));
                Ok(0x5a)
            }
        }
    }

    fn write(&self, target: &Target, _: pci::Width, value: u32) -> Result<(), Error> {
        match *target {
            Target::Config { offset, .. } => {
                let number = usize::from(offset / 4);
                let mask = number.checked_sub(4).and_then(|bar| MASKS.get(bar)).copied().unwrap_or(u32::MAX);
                let register = &mut self.registers.borrow_mut()[number];
                *register = *register & !mask | value & mask;
            }
            other => drop(self.seen.replace(Some((other, Some(value))))),
        }
        Ok(())
    }
}

fn plugged(direct: bool) -> (Board, &'static Card) {
    let mut registers = [0; 64];
    (registers[1], registers[4], registers[5]) = (3, BASES[0] as u32, BASES[1] as u32 | 1);
    (registers[6], registers[7]) = (BASES[2] as u32 | 0xc, (BASES[2] >> 32) as u32);
    let card: &'static Card = Box::leak(Box::new(Card { registers: registers.into(), seen: None.into() }));
    let mut devices = Passthrough::new(card);
    devices.functions = 1;
    let spaces = [BarSpace::Memory { wide: false }, BarSpace::Ports, BarSpace::Memory { wide: true }];
    for (bar, space) in (0..).zip(spaces) {
        let (base, size) = (BASES[usize::from(bar)], SIZES[usize::from(bar)]);
        devices
            .add(BarWindow { function: 0, bar, space, base, home: base, size, direct, kept: None, movable: true })
            .unwrap();
    }
    let mut machine = Board::new(Chipset::Pc1995, 1 << 20, 0);
    machine.plug(devices);
    (machine, card)
}

fn set(machine: &mut Board, register: u32, value: u32) {
    machine.output(0xcf8, Width::Dword, 0x8000_0800 | register, NOW);
    let effect = machine.output_for(0xcfc, Width::Dword, value, NOW);
    assert_eq!(effect.contains(Effect::REGIONS), machine.passthrough.has_moved());
}

/// The access that a read of this memory becomes.
fn at_memory(machine: &mut Board, card: &Card, gpa: u64) -> Option<Target> {
    machine.passthrough.read_memory(gpa, Width::Byte);
    card.seen.take().map(|(target, _)| target)
}

fn at_port(machine: &mut Board, card: &Card, port: u16) -> Option<Target> {
    machine.input(port, Width::Byte, NOW);
    card.seen.take().map(|(target, _)| target)
}

/// Moves that are for the VMM to carry out: register, and where to.
fn moves(machine: &Board) -> Vec<(u8, Option<u64>)> {
    machine.passthrough.moves().into_iter().map(|(_, window, at)| (window.bar, at)).collect()
}

#[test]
fn a_function_that_does_not_answer_after_a_reset_keeps_its_windows() {
    let (mut machine, card) = plugged(false);
    let there = card.registers.replace([u32::MAX; 64]);
    set(&mut machine, 0x04, u32::MAX);
    card.registers.replace(there);
    assert!(!machine.passthrough.has_moved());
    assert_eq!(at_memory(&mut machine, card, BASES[0] + 8), Some(Target::Memory(BASES[0] + 8)));
}

#[test]
fn a_mediated_register_is_followed_and_its_device_stays() {
    let (mut machine, card) = plugged(false);
    set(&mut machine, 0x10, 0x1000_0000);
    set(&mut machine, 0x14, 0x1001);
    assert!(machine.passthrough.has_moved());
    assert_eq!(at_memory(&mut machine, card, 0x1000_0008), Some(Target::Memory(BASES[0] + 8)));
    assert_eq!(at_memory(&mut machine, card, 0x1001_ffff), Some(Target::Memory(BASES[0] + 0x1_ffff)));
    assert_eq!(at_memory(&mut machine, card, 0x1002_0000), None);
    assert_eq!(at_memory(&mut machine, card, BASES[0]), None, "nothing is left where it was");
    assert_eq!(at_port(&mut machine, card, 0x103f), Some(Target::Port(0xc07f)));
    assert_eq!((at_port(&mut machine, card, 0x1040), at_port(&mut machine, card, 0xc040)), (None, None));
    assert_eq!(moves(&machine), []);
    machine.passthrough.moved();
    machine.output(0x1000, Width::Byte, 7, NOW);
    assert_eq!(card.seen.take(), Some((Target::Port(0xc040), Some(7))));
}

#[test]
fn what_was_handed_over_is_mapped_elsewhere_and_ports_are_forwarded_until_they_are_at_home() {
    let (mut machine, card) = plugged(true);
    assert_eq!((at_port(&mut machine, card, 0xc040), at_memory(&mut machine, card, BASES[0])), (None, None));
    set(&mut machine, 0x10, 0x1000_0000);
    set(&mut machine, 0x14, 0x1001);
    assert_eq!(moves(&machine), [(0, Some(0x1000_0000)), (1, Some(0x1000))]);
    machine.passthrough.moved();
    assert_eq!(moves(&machine), []);
    assert_eq!(at_port(&mut machine, card, 0x1008), Some(Target::Port(0xc048)));
    assert_eq!(at_memory(&mut machine, card, 0x1000_0000), None, "the EPT has it");
    set(&mut machine, 0x14, 0xc041);
    assert_eq!(moves(&machine), [(1, Some(0xc040))]);
    assert_eq!((at_port(&mut machine, card, 0x1008), at_port(&mut machine, card, 0xc048)), (None, None));
}

#[test]
fn asking_for_the_size_moves_nothing() {
    for decodes in [0, 3] {
        let (mut machine, _) = plugged(true);
        set(&mut machine, 4, decodes);
        for register in [0x10, 0x14] {
            set(&mut machine, register, u32::MAX);
            set(&mut machine, register, [BASES[0] as u32, BASES[1] as u32 | 1][usize::from(register == 0x14)]);
        }
        set(&mut machine, 4, 0);
        for (register, value) in [(0x18, u32::MAX), (0x1c, u32::MAX), (0x18, BASES[2] as u32), (0x1c, 0xd)] {
            set(&mut machine, register, value);
        }
        set(&mut machine, 4, 3);
        assert!(!machine.passthrough.has_moved() && moves(&machine).is_empty());
    }
}

#[test]
fn a_register_moves_when_its_function_answers() {
    let (mut machine, _) = plugged(true);
    set(&mut machine, 4, 0);
    set(&mut machine, 0x10, 0x1000_0000);
    set(&mut machine, 0x18, 0x2000_0000);
    set(&mut machine, 0x1c, 1);
    assert_eq!(moves(&machine), []);
    set(&mut machine, 4, 1);
    assert_eq!(moves(&machine), [], "only ports answer");
    set(&mut machine, 4, 2);
    assert_eq!(moves(&machine), [(0, Some(0x1000_0000)), (2, Some(0x1_2000_0000))]);
}

#[test]
fn a_place_that_cannot_be_had_is_nowhere_until_the_next_one() {
    let (mut machine, card) = plugged(false);
    // The local APIC, and ports behind the last.
    set(&mut machine, 0x10, 0xfee0_0000);
    set(&mut machine, 0x14, 0x1_0001);
    assert_eq!((at_memory(&mut machine, card, 0xfee0_0000), at_memory(&mut machine, card, BASES[0])), (None, None));
    assert_eq!((at_port(&mut machine, card, 0xc040), at_port(&mut machine, card, 0)), (None, None));
    set(&mut machine, 0x10, BASES[0] as u32);
    assert_eq!(at_memory(&mut machine, card, BASES[0]), Some(Target::Memory(BASES[0])));
    // And one that the EPT refuses.
    let (mut machine, _) = plugged(true);
    set(&mut machine, 0x10, 0x10_0000);
    let [(number, ..)] = machine.passthrough.moves()[..] else { panic!("one move") };
    machine.passthrough.lose(number);
    machine.passthrough.moved();
    set(&mut machine, 0x10, BASES[0] as u32);
    assert_eq!(moves(&machine), [(0, Some(BASES[0]))]);
}

#[test]
fn a_reset_brings_everything_home() {
    let (mut machine, card) = plugged(true);
    set(&mut machine, 0x10, 0x1000_0000);
    set(&mut machine, 0x14, 0x1001);
    machine.passthrough.moved();
    assert!(machine.reset().contains(Effect::REGIONS));
    assert_eq!(moves(&machine), [(0, Some(BASES[0])), (1, Some(BASES[1]))]);
    assert_eq!((at_port(&mut machine, card, 0x1008), at_port(&mut machine, card, 0xc048)), (None, None));
}

/// pci-server, with functions that have one base address register each, of memory.
struct Cards(RefCell<Vec<u32>>);

impl Server for Cards {
    fn read(&self, target: &Target, _: pci::Width) -> Result<u32, Error> {
        match *target {
            Target::Config { function, offset: 0x10 } => Ok(self.0.borrow()[usize::from(function)]),
            Target::Config { offset: 4, .. } => Ok(2),
            _ => Ok(0x5a),
        }
    }

    fn write(&self, target: &Target, _: pci::Width, value: u32) -> Result<(), Error> {
        if let Target::Config { function, offset: 0x10 } = *target {
            self.0.borrow_mut()[usize::from(function)] = value;
        }
        Ok(())
    }
}

/// Functions that have this memory, handed over: base and size.
fn cards(memory: &[(u64, u64)]) -> Passthrough {
    let registers = memory.iter().map(|&(base, _)| base as u32).collect();
    let mut devices = Passthrough::new(Box::leak(Box::new(Cards(RefCell::new(registers)))));
    for (function, &(base, size)) in (0..).zip(memory) {
        let space = BarSpace::Memory { wide: false };
        devices
            .add(BarWindow { function, bar: 0, space, base, home: base, size, direct: true, kept: None, movable: true })
            .unwrap();
        devices.functions = function + 1;
    }
    devices
}

/// Writes a function's register. What the VMM has to carry out then: function, and where to.
fn put(devices: &mut Passthrough, function: u8, at: u32) -> Vec<(u8, Option<u64>)> {
    devices.write_config(function, 0x10, Width::Dword, at);
    devices.moves().into_iter().map(|(_, window, at)| (window.function, at)).collect()
}

#[test]
fn what_found_no_place_gets_it_when_another_has_gone_from_there() {
    let mut devices = cards(&[(0xc000_0000, 0x1000), (0xc010_0000, 0x1000)]);
    assert_eq!(put(&mut devices, 0, 0xc010_0000), [(0, Some(0xc010_0000))]);
    devices.lose(0);
    devices.moved();
    assert_eq!(put(&mut devices, 0, 0xc010_0000), [], "nothing has changed");
    assert_eq!(put(&mut devices, 1, 0xc020_0000), [(0, Some(0xc010_0000)), (1, Some(0xc020_0000))]);
    devices.moved();
    assert_eq!(put(&mut devices, 1, 0xc030_0000), [(1, Some(0xc030_0000))], "the other one has its place");
}

#[test]
fn small_frames_never_get_where_large_ones_are_at_home() {
    let (large, small) = (0xc000_0000, 0xc080_0000);
    let mut devices = cards(&[(large, 0x40_0000), (small, 0x1000), (0xc0a0_0000, 0x20_0000)]);
    assert_eq!(put(&mut devices, 0, 0xd000_0000), [(0, Some(0xd000_0000))]);
    devices.moved();
    for at in [large as u32, 0xc03f_f000] {
        assert_eq!(put(&mut devices, 1, at), [(1, None)]);
        devices.moved();
        assert_eq!(put(&mut devices, 1, at), [], "nowhere already");
        // Beside it is room, and another's move gives none there.
        assert_eq!(put(&mut devices, 1, 0xc040_0000), [(1, Some(0xc040_0000))]);
        devices.moved();
    }
    assert_eq!(put(&mut devices, 1, large as u32), [(1, None)]);
    devices.moved();
    // Large frames leave no page table behind.
    assert_eq!(put(&mut devices, 2, large as u32), [(2, Some(large))]);
    devices.moved();
    devices.reset();
    let home = [(0, Some(large)), (1, Some(small)), (2, Some(0xc0a0_0000))];
    assert_eq!(devices.moves().into_iter().map(|(_, window, at)| (window.function, at)).collect::<Vec<_>>(), home);
}

#[test]
fn what_is_not_mapped_may_be_where_large_frames_are_at_home() {
    let mut devices = Passthrough::new(Box::leak(Box::new(Cards(RefCell::new(vec![0xc000_0000, 0xc080_0000])))));
    let space = BarSpace::Memory { wide: false };
    let large = BarWindow {
        function: 0,
        bar: 0,
        space,
        base: 0xc000_0000,
        home: 0xc000_0000,
        size: 0x20_0000,
        direct: true,
        kept: None,
        movable: true,
    };
    devices.add(large).unwrap();
    devices
        .add(BarWindow { function: 1, base: 0xc080_0000, home: 0xc080_0000, size: 0x1000, direct: false, ..large })
        .unwrap();
    put(&mut devices, 0, 0xd000_0000);
    put(&mut devices, 1, 0xc000_0000);
    assert!(devices.has_memory(0xc000_0fff) && !devices.has_memory(0xc080_0000));
}

#[test]
fn a_window_beyond_the_last_address_reaches_nothing_there() {
    let space = BarSpace::Memory { wide: false };
    let mut devices = Passthrough::new(Box::leak(Box::new(Cards(RefCell::new(vec![0])))));
    let base = u64::MAX - 0xfff;
    let window = BarWindow {
        function: 0,
        bar: 0,
        space,
        base,
        home: base,
        size: 0x1000,
        direct: false,
        kept: None,
        movable: true,
    };
    assert_eq!((window.last(), BarWindow { size: 0x1001, ..window }.last()), (Some(u64::MAX), None));
    devices.add(BarWindow { size: 0x2000, ..window }).unwrap();
    put(&mut devices, 0, 0xc000_0000);
    assert_eq!(devices.read_memory(0xc000_0fff, Width::Byte), 0x5a);
    assert_eq!(devices.read_memory(0xc000_1000, Width::Byte), 0xff);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn wherever_the_registers_are_an_access_reaches_the_device_or_nothing(
        writes in prop::collection::vec(
            (prop_oneof![Just(4u32), Just(0x10), Just(0x14), Just(0x18), Just(0x1c)], any::<u32>(), any::<u64>(), any::<bool>()),
            0..40,
        ),
        direct: bool,
    ) {
        let (mut machine, card) = plugged(direct);
        for (register, value, at, lost) in writes {
            set(&mut machine, register, value);
            for (number, window, _) in machine.passthrough.moves() {
                prop_assert!(window.direct);
                if lost {
                    machine.passthrough.lose(number);
                }
            }
            machine.passthrough.moved();
            for at in [at, u64::from(value & !0xf), u64::from(value & !0xf) + 0x3f] {
                if let Some(target) = at_memory(&mut machine, card, at) {
                    let inside = |n: usize| (BASES[n]..BASES[n] + SIZES[n]).contains(&match target { Target::Memory(at) => at, _ => 0 });
                    prop_assert!(!direct && (inside(0) || inside(2)), "{:?}", target);
                }
                if let Some(target) = at_port(&mut machine, card, at as u16) {
                    prop_assert!(matches!(target, Target::Port(0xc040..=0xc07f)), "{:?}", target);
                }
            }
        }
    }
}

/// A window that the machine has above 4 GiB.
fn high(function: u8, size: u64) -> BarWindow {
    let (space, base) = (BarSpace::Memory { wide: true }, 0x40_0000_0000);
    BarWindow { function, bar: 2, space, base, home: base, size, direct: true, kept: None, movable: true }
}

#[test]
fn what_the_machine_has_above_4_gib_gets_a_place_below_it() {
    let mut devices = cards(&[(0xc000_0000, 0x1000), (0xfe80_0000, 0x40_0000), (0xfe00_0000, 0x1000)]);
    assert!(high(3, 0x1000).is_high() && !BarWindow { base: 0xffff_f000, ..high(3, 0x1000) }.is_high());
    // From the I/O APIC downwards, without a large page of another's; at a multiple of its size.
    for (function, size, at) in [
        (3, 0x1000, Some(0xfe7f_f000)),
        (4, 0x20_0000, Some(0xfe40_0000)),
        (5, 0x1000_0000, Some(0xe000_0000)),
        (6, 0x4000_0000, Some(0x8000_0000)),
        (7, 0x1000, Some(0xfe3f_f000)),
        (8, 0x4000_0000, None),
        (9, 0x2_0000_0000, None),
    ] {
        let window = high(function, size);
        assert_eq!(devices.room(window), at, "{size:#x}");
        if let Some(home) = at {
            devices.add(BarWindow { home, ..window }).unwrap();
        }
    }
}

#[test]
fn its_accesses_are_to_the_machines_address_and_a_reset_puts_it_there_again() {
    let mut registers = [0; 64];
    (registers[1], registers[6]) = (3, 0xe000_000c);
    let card: &'static Card = Box::leak(Box::new(Card { registers: registers.into(), seen: None.into() }));
    let mut devices = Passthrough::new(card);
    devices.add(BarWindow { home: 0xf000_0000, direct: false, ..high(0, 0x100_0000) }).unwrap();
    let to = |devices: &mut Passthrough, gpa| {
        devices.read_memory(gpa, Width::Byte);
        card.seen.take().map(|(target, _)| target)
    };
    assert_eq!(to(&mut devices, 0xf000_0123), Some(Target::Memory(0x40_0000_0123)));
    assert_eq!(to(&mut devices, 0x40_0000_0123), None);
    devices.write_config(0, 0x18, Width::Dword, 0xe000_000c);
    assert_eq!([0xe000_0123, 0xf000_0123].map(|gpa| to(&mut devices, gpa).is_some()), [true, false]);
    devices.reset();
    assert_eq!([0xe000_0123, 0xf000_0123].map(|gpa| to(&mut devices, gpa).is_some()), [false, true]);
}
