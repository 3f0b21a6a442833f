//! Mechanism 1 as Linux's `pci_check_type1` probes it, and configuration space as the specification has it.

use super::*;

const NOW: Nanos = Nanos::ZERO;
const NIC: Place = Place { device: 3, function: 0 };

fn bus() -> VirtualBus {
    let mut bus = VirtualBus::new();
    bus.insert(Place { device: 0, function: 0 }, host_bridge()).unwrap();
    let nic = Identity { vendor: 0x10ec, device: 0x8029, class: 0x0200, interface: 0, revision: 1 };
    let nic = Function::new(nic)
        .with_window(0, Window::Ports(32))
        .and_then(|nic| nic.with_window(1, Window::Memory(0x2_0000)))
        .unwrap()
        .with_interrupt(1, 11);
    bus.insert(NIC, nic).unwrap();
    bus
}

fn outl(bus: &mut VirtualBus, port: u16, value: u32) {
    bus.write(port - 0xcf8, Width::Dword, value, NOW);
}

fn inl(bus: &mut VirtualBus, port: u16) -> u32 {
    bus.read(port - 0xcf8, Width::Dword, NOW)
}

fn config(bus: &mut VirtualBus, place: Place, register: u32) -> u32 {
    outl(bus, 0xcf8, address(place, register));
    inl(bus, 0xcfc)
}

fn configure(bus: &mut VirtualBus, place: Place, register: u32, value: u32) {
    outl(bus, 0xcf8, address(place, register));
    outl(bus, 0xcfc, value);
}

fn address(place: Place, register: u32) -> u32 {
    0x8000_0000 | u32::from(place.device) << 11 | u32::from(place.function) << 8 | register
}

#[test]
fn linux_finds_mechanism_1() {
    let mut bus = bus();
    outl(&mut bus, 0xcf8, 0x1234);
    bus.write(3, Width::Byte, 0x01, NOW); // outb(0x01, 0xcfb)
    let before = inl(&mut bus, 0xcf8);
    assert_eq!(before, 0x1234, "a byte passes the register by");
    outl(&mut bus, 0xcf8, 0x8000_0000);
    assert_eq!(inl(&mut bus, 0xcf8), 0x8000_0000);
    // pci_sanity_check: a host bridge, by its class.
    outl(&mut bus, 0xcf8, 0x8000_0008);
    assert_eq!(bus.read(6, Width::Word, NOW), 0x0600);
}

#[test]
fn a_function_that_is_served_elsewhere_is_named_with_its_register() {
    let mut bus = bus();
    bus.insert_elsewhere(4, 7).unwrap();
    outl(&mut bus, 0xcf8, address(Place { device: 4, function: 0 }, 0x3c));
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
    assert_eq!(bus.insert(Place { device: 4, function: 0 }, host_bridge()), Err(PlaceError::Taken));
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
        bus.write(offset, width, 0xffff_ffff, NOW);
        assert_eq!(bus.address().value(), 0, "{offset} {width:?}");
        assert_eq!(bus.read(offset, width, NOW), width.mask32());
    }
}

#[test]
fn the_host_bridge_is_a_440fx() {
    let mut bus = bus();
    let bridge = Place { device: 0, function: 0 };
    assert_eq!(config(&mut bus, bridge, 0x00), 0x1237_8086);
    assert_eq!(config(&mut bus, bridge, 0x08), 0x0600_0002);
    assert_eq!(config(&mut bus, bridge, 0x0c), 0, "header type 0, one function");
}

#[test]
fn what_is_not_there_reads_ones() {
    let mut bus = bus();
    for place in [Place { device: 1, function: 0 }, Place { device: 0, function: 1 }, Place { device: 31, function: 7 }]
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
    assert_eq!(bus.read(5, Width::Byte, NOW), 0x10);
    assert_eq!(bus.read(6, Width::Word, NOW), 0x8029);
    assert_eq!(bus.read(7, Width::Word, NOW), 0xff80, "beyond 0xcff nobody answers");
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
fn a_window_needs_a_register_and_a_power_of_two() {
    let new = || Function::new(Identity { vendor: 1, device: 1, class: 0, interface: 0, revision: 0 });
    assert_eq!(new().with_window(6, Window::Ports(32)).err(), Some(WindowError::Register));
    for window in [
        Window::Ports(0),
        Window::Ports(2),
        Window::Ports(24),
        Window::Ports(512),
        Window::Memory(0),
        Window::Memory(8),
        Window::Memory(0x1001),
    ] {
        assert_eq!(new().with_window(0, window).err(), Some(WindowError::Size), "{window:?}");
    }
}

#[test]
fn the_command_register_keeps_its_implemented_bits() {
    let mut bus = bus();
    configure(&mut bus, NIC, 0x04, 0x0000_ffff);
    assert_eq!(config(&mut bus, NIC, 0x04), 0x0000_0547);
    assert_eq!(bus.function(NIC).unwrap().command(), 0x0547);
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
    assert_eq!(bus.insert(Place { device: 32, function: 0 }, host_bridge()), Err(PlaceError::Range));
    assert_eq!(bus.insert(Place { device: 0, function: 8 }, host_bridge()), Err(PlaceError::Range));
    for i in 0..30 {
        bus.insert(Place { device: 4 + i / 8, function: i % 8 }, host_bridge()).unwrap();
    }
    assert_eq!(bus.insert(Place { device: 30, function: 0 }, host_bridge()), Err(PlaceError::Full));
}

#[test]
fn siblings_show_in_the_header_type() {
    let mut bus = VirtualBus::new();
    bus.insert(NIC, host_bridge().with_siblings()).unwrap();
    assert_eq!(config(&mut bus, NIC, 0x0c), 0x0080_0000);
}
