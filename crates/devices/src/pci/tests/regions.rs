//! Which function an access to a BAR is for.

use super::*;

const PORTS: [Range; 2] = [(0x3f8, 0x3ff), (0xc018, 0xc018)];
const MEMORY: [Range; 1] = [(0xfee0_0000, 0xfee0_0fff)];

fn regions(bus: &Bus) -> Regions {
    let mut regions = Regions::new(&PORTS, &MEMORY);
    regions.update(bus);
    regions
}

fn place(bus: &mut Bus, place: DevFn, ports: u32, memory: u32, command: u32) {
    configure(bus, place, 0x10, ports);
    configure(bus, place, 0x14, memory);
    configure(bus, place, 0x04, command);
}

#[test]
fn an_access_is_one_functions_with_all_its_bytes() {
    let mut bus = bus();
    place(&mut bus, NIC, 0xc000, 0xe000_0000, 3);
    let regions = regions(&bus);
    let hit = |bar, offset| Some(Hit { function: 1, bar, offset });
    assert_eq!(regions.port(0xc000, Width::Dword), hit(0, 0));
    assert_eq!(regions.port(0xc01f, Width::Byte), hit(0, 0x1f));
    assert_eq!(regions.port(0xc01f, Width::Word), None, "over its end");
    assert_eq!(regions.port(0xbfff, Width::Word), None, "from before it");
    assert_eq!(regions.port(0xc020, Width::Byte), None);
    assert_eq!(regions.memory(0xe000_0008, Width::Qword), hit(1, 8));
    assert_eq!(regions.memory(0xe001_fffc, Width::Qword), None);
    assert_eq!(regions.memory(0xe001_ffff, Width::Byte), hit(1, 0x1_ffff));
    assert_eq!(regions.memory(u64::MAX, Width::Qword), None);
    assert_eq!(regions.memory(0xc000, Width::Byte), None, "another space");
}

#[test]
fn the_boards_own_ports_come_first() {
    let mut bus = bus();
    place(&mut bus, NIC, 0xc000, 0xfee0_0000, 3);
    let regions = regions(&bus);
    assert_eq!(regions.port(0xc018, Width::Byte), None);
    assert_eq!(regions.port(0xc016, Width::Dword), None, "part of it is the board's");
    assert!(regions.port(0xc014, Width::Dword).is_some());
    assert_eq!(regions.memory(0xfee0_0ffc, Width::Dword), None);
    assert!(regions.memory(0xfee0_1000, Width::Dword).is_some());
}

#[test]
fn nothing_answers_that_is_off_or_has_no_address() {
    let mut bus = bus();
    for (command, ports, memory) in [(0, false, false), (1, true, false), (2, false, true), (4, false, false)] {
        place(&mut bus, NIC, 0xc000, 0xe000_0000, command);
        let regions = regions(&bus);
        assert_eq!(regions.port(0xc000, Width::Byte).is_some(), ports, "{command}");
        assert_eq!(regions.memory(0xe000_0000, Width::Byte).is_some(), memory, "{command}");
    }
    place(&mut bus, NIC, 0, 0, 3);
    assert_eq!(regions(&bus).port(4, Width::Byte), None);
    place(&mut bus, NIC, 0xffff_ffff, 0xffff_ffff, 3);
    assert_eq!(regions(&bus).port(0xffff, Width::Byte), None, "no port has an address of 32 bits");
    assert!(regions(&bus).memory(0xffff_ffff, Width::Byte).is_some());
}

#[test]
fn of_two_in_one_place_the_first_answers() {
    let mut bus = bus();
    let second = DevFn { device: 9, function: 0 };
    bus.insert(second, nic()).unwrap();
    place(&mut bus, NIC, 0xc000, 0, 1);
    place(&mut bus, second, 0xc000, 0, 1);
    assert_eq!(regions(&bus).port(0xc004, Width::Byte).map(|hit| hit.function), Some(1));
    place(&mut bus, NIC, 0xc000, 0, 0);
    assert_eq!(regions(&bus).port(0xc004, Width::Byte).map(|hit| hit.function), Some(2));
}

#[test]
fn unclaimed_addresses_read_ones() {
    let mut bus = bus();
    let hit = Hit { function: 1, bar: 0, offset: 0 };
    assert_eq!(bus.read_bar(hit, Width::Word, &NoMemory), (0xffff, Effect::QUIET));
    assert_eq!(bus.write_bar(hit, Width::Word, 0, &NoMemory), Effect::QUIET);
    assert_eq!(bus.read_bar(Hit { function: 99, ..hit }, Width::Qword, &NoMemory), (u64::MAX, Effect::QUIET));
}
