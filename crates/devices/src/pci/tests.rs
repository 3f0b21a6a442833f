//! Mechanism 1 as Linux's `pci_check_type1` probes it, and configuration space as the specification has it.

use super::*;
use crate::NoMemory;

mod regions;

const NIC: DevFn = DevFn { device: 3, function: 0 };

type Bus = VirtualBus<ConfigSpace>;

fn nic() -> ConfigSpace {
    let nic = Identity { vendor: 0x10ec, device: 0x8029, class: 0x0200, revision: 1, ..Identity::default() };
    ConfigSpace::new(nic)
        .with_bar(0, Bar::Ports(32))
        .and_then(|nic| nic.with_bar(1, Bar::Memory(0x2_0000)))
        .unwrap()
        .with_interrupt(1, 11)
}

fn bus() -> Bus {
    let mut bus = VirtualBus::new();
    bus.insert(DevFn { device: 0, function: 0 }, host_bridge()).unwrap();
    bus.insert(NIC, nic()).unwrap();
    bus
}

fn read(bus: &mut Bus, offset: u16, width: Width) -> u32 {
    let (value, effect) = bus.read(offset, width, &NoMemory);
    assert_eq!(effect, Effect::QUIET, "a plain read has no effect");
    value
}

fn outl(bus: &mut Bus, port: u16, value: u32) {
    let _ = bus.write(port - 0xcf8, Width::Dword, value, &NoMemory);
}

fn inl(bus: &mut Bus, port: u16) -> u32 {
    read(bus, port - 0xcf8, Width::Dword)
}

fn config(bus: &mut Bus, place: DevFn, register: u32) -> u32 {
    outl(bus, 0xcf8, address(place, register));
    inl(bus, 0xcfc)
}

fn configure(bus: &mut Bus, place: DevFn, register: u32, value: u32) {
    outl(bus, 0xcf8, address(place, register));
    outl(bus, 0xcfc, value);
}

fn address(place: DevFn, register: u32) -> u32 {
    0x8000_0000 | u32::from(place.device) << 11 | u32::from(place.function) << 8 | register
}

#[test]
fn linux_finds_mechanism_1() {
    let mut bus = bus();
    outl(&mut bus, 0xcf8, 0x1234);
    let _ = bus.write(3, Width::Byte, 0x01, &NoMemory); // outb(0x01, 0xcfb)
    let before = inl(&mut bus, 0xcf8);
    assert_eq!(before, 0x1234, "a byte passes the register by");
    outl(&mut bus, 0xcf8, 0x8000_0000);
    assert_eq!(inl(&mut bus, 0xcf8), 0x8000_0000);
    // pci_sanity_check: a host bridge, by its class.
    outl(&mut bus, 0xcf8, 0x8000_0008);
    assert_eq!(read(&mut bus, 6, Width::Word), 0x0600);
}

#[test]
fn a_function_that_is_served_elsewhere_is_named_with_its_register() {
    let mut bus = bus();
    bus.insert_elsewhere(4, 7).unwrap();
    outl(&mut bus, 0xcf8, address(DevFn { device: 4, function: 0 }, 0x3c));
    assert_eq!(bus.elsewhere(4), Some(Elsewhere { number: 7, register: 0x3c }));
    assert_eq!(bus.elsewhere(7), Some(Elsewhere { number: 7, register: 0x3f }));
    assert_eq!([0, 3, 8, 0xffff].map(|offset| bus.elsewhere(offset)), [None; 4], "not the data port");
    assert_eq!(inl(&mut bus, 0xcfc), u32::MAX, "the bus itself has nothing there");
}

#[test]
fn other_functions_and_buses_are_not_served_elsewhere() {
    let mut bus = bus();
    bus.insert_elsewhere(4, 7).unwrap();
    for address in [0x8000_2100, 0x8001_2000, 0x0000_2000, 0x8000_1800, 0x8000_2800] {
        outl(&mut bus, 0xcf8, address);
        assert_eq!(bus.elsewhere(4), None, "{address:#x}");
    }
}

#[test]
fn a_place_has_one_function_wherever_it_is_served() {
    let mut bus = bus();
    assert_eq!(bus.insert_elsewhere(NIC.device, 0), Err(PlaceError::Taken));
    assert_eq!(bus.insert_elsewhere(32, 0), Err(PlaceError::Range));
    bus.insert_elsewhere(4, 0).unwrap();
    assert_eq!(bus.insert_elsewhere(4, 1), Err(PlaceError::Taken));
    assert_eq!(bus.insert(DevFn { device: 4, function: 1 }, host_bridge()), Err(PlaceError::Taken));
    assert_eq!(bus.insert(DevFn { device: 4, function: 0 }, host_bridge()), Err(PlaceError::Taken));
}

#[test]
fn reserved_address_bits_read_zero() {
    let mut bus = bus();
    outl(&mut bus, 0xcf8, 0xffff_ffff);
    assert_eq!(inl(&mut bus, 0xcf8), 0x80ff_fffc);
}

#[test]
fn only_double_words_reach_the_address_register() {
    let mut bus = bus();
    for (offset, width) in [(0, Width::Byte), (0, Width::Word), (1, Width::Byte), (1, Width::Dword), (2, Width::Word)] {
        let _ = bus.write(offset, width, 0xffff_ffff, &NoMemory);
        assert_eq!(bus.address().value(), 0, "{offset} {width:?}");
        assert_eq!(read(&mut bus, offset, width), width.mask32());
    }
}

#[test]
fn the_host_bridge_is_a_440fx() {
    let mut bus = bus();
    let bridge = DevFn { device: 0, function: 0 };
    assert_eq!(config(&mut bus, bridge, 0x00), 0x1237_8086);
    assert_eq!(config(&mut bus, bridge, 0x08), 0x0600_0002);
    assert_eq!(config(&mut bus, bridge, 0x0c), 0, "header type 0, one function");
}

#[test]
fn what_is_not_there_reads_ones() {
    let mut bus = bus();
    for place in [DevFn { device: 1, function: 0 }, DevFn { device: 0, function: 1 }, DevFn { device: 31, function: 7 }]
    {
        configure(&mut bus, place, 0x04, 0xffff_ffff);
        assert_eq!(config(&mut bus, place, 0x00), 0xffff_ffff);
    }
    outl(&mut bus, 0xcf8, 0x8001_0000); // Bus 1.
    assert_eq!(inl(&mut bus, 0xcfc), 0xffff_ffff);
    outl(&mut bus, 0xcf8, 0x0000_0000); // Not enabled.
    assert_eq!(inl(&mut bus, 0xcfc), 0xffff_ffff);
}

#[test]
fn bytes_and_words_come_from_their_places() {
    let mut bus = bus();
    outl(&mut bus, 0xcf8, address(NIC, 0));
    assert_eq!(read(&mut bus, 5, Width::Byte), 0x10);
    assert_eq!(read(&mut bus, 6, Width::Word), 0x8029);
    assert_eq!(read(&mut bus, 7, Width::Word), 0xff80, "beyond 0xcff no device answers");
}

#[test]
fn windows_tell_their_size_and_keep_their_base() {
    let mut bus = bus();
    configure(&mut bus, NIC, 0x10, 0xffff_ffff);
    configure(&mut bus, NIC, 0x14, 0xffff_ffff);
    configure(&mut bus, NIC, 0x18, 0xffff_ffff);
    assert_eq!(config(&mut bus, NIC, 0x10), 0xffff_ffe1);
    assert_eq!(config(&mut bus, NIC, 0x14), 0xfffe_0000);
    assert_eq!(config(&mut bus, NIC, 0x18), 0);
    configure(&mut bus, NIC, 0x10, 0x0000_c00f);
    configure(&mut bus, NIC, 0x14, 0xe001_2345);
    let nic = bus.function(NIC).unwrap();
    assert_eq!(nic.base(0), Some(0xc000));
    assert_eq!(nic.base(1), Some(0xe000_0000));
    assert_eq!([2, 5, 6, 7, usize::MAX].map(|register| nic.base(register)), [None; 5]);
}

#[test]
fn a_bar_needs_a_register_and_a_power_of_two() {
    let new = || ConfigSpace::new(Identity::default());
    assert_eq!(new().with_bar(6, Bar::Ports(32)).err(), Some(ConfigError::Register));
    assert_eq!(new().with_bar(usize::MAX, Bar::Ports(32)).err(), Some(ConfigError::Register));
    assert_eq!(new().with_bar(5, Bar::Memory64(32)).err(), Some(ConfigError::Register), "it takes two");
    for (taken, other) in [(2, 2), (2, 3)] {
        let space = new().with_bar(taken, Bar::Memory64(64)).unwrap();
        assert_eq!(space.with_bar(other, Bar::Ports(8)).err(), Some(ConfigError::Register), "{other}");
    }
    let space = new().with_bar(3, Bar::Ports(8)).unwrap();
    assert_eq!(space.with_bar(2, Bar::Memory64(64)).err(), Some(ConfigError::Register));
    for bar in [
        Bar::Ports(0),
        Bar::Ports(2),
        Bar::Ports(24),
        Bar::Ports(512),
        Bar::Memory(0),
        Bar::Memory(8),
        Bar::Memory(0x1001),
        Bar::Memory64(0),
        Bar::Memory64(3 << 32),
    ] {
        assert_eq!(new().with_bar(0, bar).err(), Some(ConfigError::Size), "{bar:?}");
    }
}

#[test]
fn the_command_register_keeps_its_implemented_bits() {
    let mut bus = bus();
    configure(&mut bus, NIC, 0x04, 0x0000_ffff);
    assert_eq!(config(&mut bus, NIC, 0x04), 0x0000_0547);
    assert_eq!(bus.function(NIC).unwrap().command(), Command::all());
}

#[test]
fn error_bits_clear_when_written_as_one() {
    let mut bus = bus();
    bus.function_mut(NIC).unwrap().report(0xffff);
    assert_eq!(config(&mut bus, NIC, 0x04) >> 16, 0b1111_1001_0000_0000);
    configure(&mut bus, NIC, 0x04, 0x2000_0000);
    assert_eq!(config(&mut bus, NIC, 0x04) >> 16, 0b1101_1001_0000_0000);
}

#[test]
fn the_interrupt_line_is_scratch_and_the_pin_is_fixed() {
    let mut bus = bus();
    assert_eq!(config(&mut bus, NIC, 0x3c), 0x0000_010b);
    configure(&mut bus, NIC, 0x3c, 0xffff_ff05);
    assert_eq!(config(&mut bus, NIC, 0x3c), 0x0000_0105);
}

#[test]
fn identity_cannot_be_written() {
    let mut bus = bus();
    for register in [0x00, 0x08, 0x0c, 0x2c, 0x34, 0x40, 0xfc] {
        let before = config(&mut bus, NIC, register);
        configure(&mut bus, NIC, register, !before);
        assert_eq!(config(&mut bus, NIC, register), before);
    }
}

#[test]
fn a_place_holds_one_function() {
    let mut bus = bus();
    assert_eq!(bus.insert(NIC, host_bridge()), Err(PlaceError::Taken));
    assert_eq!(bus.insert(DevFn { device: 32, function: 0 }, host_bridge()), Err(PlaceError::Range));
    assert_eq!(bus.insert(DevFn { device: 0, function: 8 }, host_bridge()), Err(PlaceError::Range));
    for i in 0..30 {
        bus.insert(DevFn { device: 4 + i / 8, function: i % 8 }, host_bridge().with_multi_function()).unwrap();
    }
    assert_eq!(bus.insert(DevFn { device: 30, function: 0 }, host_bridge()), Err(PlaceError::Full));
}

#[test]
fn a_device_with_several_functions_says_so() {
    let mut bus = bus();
    let place = |function| DevFn { device: 6, function };
    bus.insert(place(0), nic().with_multi_function()).unwrap();
    for function in [1, 7] {
        bus.insert(place(function), nic()).unwrap();
    }
    assert_eq!(config(&mut bus, place(0), 0x0c), 0x0080_0000);
    assert_eq!(bus.data(), Some(0x0080_0000));
    assert_eq!(read(&mut bus, 6, Width::Byte), 0x80);
    assert_eq!(read(&mut bus, 6, Width::Word), 0x0080);
    configure(&mut bus, place(0), 0x0c, 0);
    bus.reset();
    assert_eq!(config(&mut bus, place(0), 0x0c), 0x0080_0000, "neither a write nor a reset changes it");
    assert_eq!(config(&mut bus, place(7), 0x00), 0x8029_10ec);
    assert_eq!(config(&mut bus, place(2), 0x00), 0xffff_ffff);
    assert_eq!(config(&mut bus, NIC, 0x0c), 0, "another device");
}

#[test]
fn a_function_that_software_would_not_look_for_is_refused() {
    let mut bus = bus();
    let orphan = DevFn { device: 9, function: 1 };
    assert_eq!(bus.insert(orphan, nic()), Err(PlaceError::NoFunction0));
    let unannounced = DevFn { function: 1, ..NIC };
    assert_eq!(bus.insert(unannounced, nic()), Err(PlaceError::NoFunction0));
}

#[test]
fn a_wide_bar_has_two_registers() {
    let mut bus = bus();
    let place = DevFn { device: 5, function: 0 };
    bus.insert(place, ConfigSpace::new(Identity::default()).with_bar(2, Bar::Memory64(1 << 34)).unwrap()).unwrap();
    configure(&mut bus, place, 0x18, 0xffff_ffff);
    configure(&mut bus, place, 0x1c, 0xffff_ffff);
    assert_eq!(config(&mut bus, place, 0x18), 0x0000_0004);
    assert_eq!(config(&mut bus, place, 0x1c), 0xffff_fffc);
    configure(&mut bus, place, 0x1c, 0x0000_0013);
    assert_eq!(bus.function(place).unwrap().base(2), Some(0x10_0000_0000));
    assert_eq!(bus.function(place).unwrap().base(3), None, "the upper half is no BAR of its own");
}

#[test]
fn what_moves_or_switches_a_region_has_the_effect() {
    let mut nic = nic();
    let mut write = |at, value| nic.write(at, Width::Dword, value);
    assert_eq!(write(0x10, 0xc000), Effect::QUIET, "it answers nowhere yet");
    assert_eq!(write(0x04, 0x0001), Effect::REGIONS);
    assert_eq!(write(0x04, 0x0005), Effect::QUIET, "bus mastering moves nothing");
    assert_eq!(write(0x10, 0xc100), Effect::REGIONS);
    assert_eq!(write(0x10, 0xc100), Effect::QUIET, "where it was");
    assert_eq!(write(0x04, 0x0405), Effect::LINES);
    assert_eq!(write(0x3c, 0x00ff), Effect::QUIET);
}

#[test]
fn the_pin_follows_what_is_pending_unless_it_is_disabled() {
    let mut nic = nic();
    nic.set_interrupt(true);
    assert!(nic.intx());
    assert_eq!(nic.read(0x06, Width::Word), 0x0008);
    let _ = nic.write(0x04, Width::Word, 0x0400);
    assert!(!nic.intx());
    assert_eq!(nic.read(0x06, Width::Word), 0x0008, "pending all the same");
    let mut without = ConfigSpace::new(Identity::default());
    without.set_interrupt(true);
    assert!(!without.intx(), "no pin");
}

#[test]
fn capabilities_are_a_list() {
    let mut nic = nic();
    assert_eq!((nic.read(0x06, Width::Word), nic.read(0x34, Width::Byte)), (0, 0));
    assert_eq!(nic.add_capability(0x09, &[5, 1, 2], &[]), Ok(0x40));
    assert_eq!(nic.add_capability(0x11, &[0xaa; 10], &[0, 0x0f]), Ok(0x48), "aligned to double words");
    assert_eq!(nic.read(0x06, Width::Word), 0x0010);
    assert_eq!(nic.read(0x34, Width::Byte), 0x40);
    assert_eq!(nic.read(0x40, Width::Dword), 0x0105_4809);
    assert_eq!(nic.read(0x48, Width::Dword), 0xaaaa_0011);
    let _ = nic.write(0x48, Width::Dword, 0xffff_ffff);
    assert_eq!(nic.read(0x48, Width::Dword), 0xafaa_0011, "where it may be written");
    nic.reset();
    assert_eq!(nic.add_capability(0x09, &[0; 200], &[]), Err(ConfigError::Full));
}

#[test]
fn a_reset_leaves_what_firmware_has_set() {
    let mut bus = bus();
    configure(&mut bus, NIC, 0x10, 0xc000);
    configure(&mut bus, NIC, 0x04, 0x0007);
    configure(&mut bus, NIC, 0x3c, 0x0005);
    bus.function_mut(NIC).unwrap().report(0xffff);
    bus.function_mut(NIC).unwrap().set_interrupt(true);
    bus.reset();
    assert_eq!(bus.address().value(), 0);
    assert_eq!(config(&mut bus, NIC, 0x04), 0);
    assert_eq!(config(&mut bus, NIC, 0x10), 1);
    assert_eq!(config(&mut bus, NIC, 0x3c), 0x010b);
    assert_eq!(config(&mut bus, NIC, 0x00), 0x8029_10ec);
}
