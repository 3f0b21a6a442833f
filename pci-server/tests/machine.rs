//! The real scan against a simulated machine, whose functions have registers with read-only and writable bits, and
//! against machines with random registers.

use layout::Bdf;
use layout::config::{Name, Ports};
use std::collections::BTreeMap;

use pci_server::config_space::ConfigSpace;
use pci_server::{Scope, describe, scan, scan_for};
use proptest::prelude::*;
use proto::pci::{Bar, BarKind, Capability, Config, Dma, Header, Intx, PciClient, PciFunction, PciPorts, Width};

/// 64 registers, and the writable bits of each.
#[derive(Clone)]
struct Registers {
    values: [u32; 64],
    writable: [u32; 64],
}

#[derive(Default)]
struct Machine {
    functions: BTreeMap<Bdf, Registers>,
    /// Writes to a base address register while the function decoded its addresses.
    careless: u32,
    reads: u32,
}

impl ConfigSpace for Machine {
    fn read(&mut self, at: Bdf, offset: u8) -> u32 {
        self.reads += 1;
        self.functions.get(&at).map_or(u32::MAX, |f| f.values[usize::from(offset / 4)])
    }

    fn write(&mut self, at: Bdf, offset: u8, value: u32) {
        let Some(f) = self.functions.get_mut(&at) else { return };
        let n = usize::from(offset / 4);
        if (4..10).contains(&n) && f.values[1] & 0b11 != 0 {
            self.careless += 1;
        }
        f.values[n] = f.values[n] & !f.writable[n] | value & f.writable[n];
    }

    fn write_part(&mut self, _: Bdf, _: u8, _: Width, _: u32) {
        unreachable!("a scan writes whole registers");
    }
}

fn at(bus: u8, device: u8, function: u8) -> Bdf {
    Bdf { bus, device, function }
}

/// A type 0 function with memory and I/O decoding on.
fn device(id: u32, class: u32) -> Registers {
    let (mut values, mut writable) = ([0; 64], [0; 64]);
    values[0] = id;
    values[1] = 0x0007;
    writable[1] = 0x0447;
    values[2] = class << 8 | 3;
    values[0x0f] = 0x0000_010b;
    Registers { values, writable }
}

fn bridge(secondary: u32, subordinate: u32) -> Registers {
    let mut r = device(0x244e_8086, 0x06_04_00);
    r.values[3] = 0x0001_0000;
    r.values[6] = subordinate << 16 | secondary << 8;
    r
}

/// The network card of the emulated board: 128 KiB of memory, 64 ports.
fn e1000() -> Registers {
    let mut r = device(0x100e_8086, 0x02_00_00);
    (r.values[4], r.writable[4]) = (0xc000_0000, 0xfffe_0000);
    (r.values[5], r.writable[5]) = (0xe001, 0xffff_ffc0);
    r.values[1] |= 1 << 20;
    r.values[0x0d] = 0xdc;
    r.values[0xdc / 4] = 0x0000_e401;
    r.values[0xe4 / 4] = 0x0000_0007;
    r.values[0x0b] = 0x001e_8086;
    r
}

fn machine(functions: impl IntoIterator<Item = (Bdf, Registers)>) -> Machine {
    Machine { functions: functions.into_iter().collect(), careless: 0, reads: 0 }
}

#[test]
fn a_function_is_described() {
    let mut machine = machine([(at(0, 3, 0), e1000())]);
    let f = describe(&mut machine, at(0, 3, 0));
    assert_eq!((f.vendor, f.device, f.class, f.revision), (0x8086, 0x100e, [2, 0, 0], 3));
    assert_eq!((f.subsystem, f.header, f.pin, f.line), ((0x8086, 0x1e), Header::Device, 1, 11));
    let memory = Bar { kind: BarKind::Memory32 { prefetchable: false }, base: 0xc000_0000, size: 128 * 1024 };
    let ports = Bar { kind: BarKind::Io, base: 0xe000, size: 64 };
    assert_eq!(f.bars, [Some(memory), Some(ports), None, None, None, None]);
    assert_eq!(f.capabilities, [Capability { id: 1, at: 0xdc }, Capability { id: 7, at: 0xe4 }]);
}

#[test]
fn sizing_restores_all_registers_and_happens_with_decoding_off() {
    let mut machine = machine([(at(0, 3, 0), e1000())]);
    let before = machine.functions[&at(0, 3, 0)].values;
    scan(&mut machine, Scope::FirstHostBridge);
    assert_eq!(machine.functions[&at(0, 3, 0)].values, before);
    assert_eq!(machine.careless, 0);
}

#[test]
fn a_host_bridge_is_not_touched() {
    let mut host = device(0x1237_8086, 0x06_00_00);
    host.writable = [u32::MAX; 64];
    host.values[4] = 0xe000_0000;
    let mut machine = machine([(at(0, 0, 0), host)]);
    assert_eq!(describe(&mut machine, at(0, 0, 0)).bars, [None; 6]);
    assert_eq!(machine.careless, 0);
}

#[test]
fn a_64_bit_bar_takes_two_registers() {
    let mut r = device(0x1234_8086, 0x01_08_02);
    (r.values[4], r.writable[4]) = (0x0000_400c, 0xffff_c000);
    (r.values[5], r.writable[5]) = (0x0000_0008, 0xffff_ffff);
    (r.values[6], r.writable[6]) = (0x0001, 0x0000_fff0);
    let bars = describe(&mut machine([(at(0, 1, 0), r)]), at(0, 1, 0)).bars;
    let wide = Bar { kind: BarKind::Memory64 { prefetchable: true }, base: 0x8_0000_4000, size: 16 * 1024 };
    assert_eq!(bars[..3], [Some(wide), None, Some(Bar { kind: BarKind::Io, base: 0, size: 16 })]);
}

#[test]
fn an_ide_controller_in_compatibility_mode_has_the_isa_ports() {
    let mut r = device(0x7010_8086, 0x01_01_80);
    (r.values[8], r.writable[8]) = (0xc001, 0xffff_fff0);
    let bars = describe(&mut machine([(at(0, 1, 1), r)]), at(0, 1, 1)).bars;
    let ports: Vec<_> = bars.into_iter().flatten().map(|bar| (bar.base, bar.size)).collect();
    assert_eq!(ports, [(0x1f0, 8), (0x3f6, 1), (0x170, 8), (0x376, 1), (0xc000, 16)]);
}

#[test]
fn buses_behind_bridges_are_found_in_order() {
    let mut multi = device(1, 0);
    multi.values[3] = 0x0080_0000;
    let mut machine = machine([
        (at(0, 0, 0), device(0x1237_8086, 0x06_00_00)),
        (at(0, 30, 0), bridge(1, 2)),
        (at(1, 0, 0), bridge(2, 2)),
        (at(2, 4, 0), multi),
        (at(2, 4, 5), device(2, 0)),
        (at(2, 6, 3), device(3, 0)),
        (at(3, 0, 0), device(4, 0)),
    ]);
    let found: Vec<_> = scan(&mut machine, Scope::FirstHostBridge).functions.iter().map(|f| f.address).collect();
    // Function 3 without a function 0, and a bus without a bridge to it, are not found.
    assert_eq!(found, [at(0, 0, 0), at(0, 30, 0), at(1, 0, 0), at(2, 4, 0), at(2, 4, 5)]);
}

#[test]
fn a_bridge_that_leads_back_is_not_followed() {
    let mut machine = machine([(at(0, 1, 0), bridge(1, 1)), (at(1, 0, 0), bridge(0, 0)), (at(1, 1, 0), bridge(1, 9))]);
    assert_eq!(scan(&mut machine, Scope::FirstHostBridge).functions.len(), 3);
    assert_eq!(scan(&mut machine, Scope::AllBuses).functions.len(), 3);
}

/// A server's board: a root port on bus 0, and two host bridges more. Nothing on bus 0x80 is device 0.
fn server_board() -> Machine {
    machine([
        (at(0, 0, 0), device(0x2020_8086, 0x06_00_00)),
        (at(0, 28, 0), bridge(1, 1)),
        (at(1, 0, 0), device(1, 0x02_00_00)),
        (at(0x80, 5, 0), bridge(0x81, 0x82)),
        (at(0x81, 0, 0), device(2, 0x01_08_02)),
        (at(0xff, 31, 0), device(3, 0x08_80_00)),
    ])
}

#[test]
fn all_buses_have_the_functions_of_other_host_bridges() {
    let mut machine = server_board();
    let found: Vec<_> = scan(&mut machine, Scope::AllBuses).functions.iter().map(|f| f.address).collect();
    assert_eq!(found, [at(0, 0, 0), at(0, 28, 0), at(1, 0, 0), at(0x80, 5, 0), at(0x81, 0, 0), at(0xff, 31, 0)]);
    // One for each device of each bus; and few for each function.
    assert!((8192..8192 + 6 * 40).contains(&machine.reads), "{} reads", machine.reads);
    let found: Vec<_> = scan(&mut machine, Scope::FirstHostBridge).functions.iter().map(|f| f.address).collect();
    assert_eq!(found, [at(0, 0, 0), at(0, 28, 0), at(1, 0, 0)]);
}

#[test]
fn all_buses_are_tried_only_where_their_functions_matter() {
    let name = |name| Name::try_from(name).unwrap();
    let config = |functions: &[Bdf], enumerate, ports: bool| Config {
        config: Ports { slot: layout::slot::PORTS, first: 0xcf8, last: 0xcff },
        clients: [PciClient { name: name("client"), enumerate }].into_iter().collect(),
        functions: functions
            .iter()
            .map(|&at| PciFunction {
                owner: 0,
                name: name("function"),
                at,
                direct: false,
                dma: Dma::No,
                group_trusted: false,
                has_route: false,
                lines: Default::default(),
                ports: None,
                memory: None,
            })
            .collect(),
        ports: ports
            .then(|| PciPorts { owner: 0, name: name("loose"), first: 0x300, last: 0x31f, trusted: false })
            .into_iter()
            .collect(),
        intx: Intx::Unknown,
    };
    let listed = |config| scan_for(&mut server_board(), &config).functions.len();
    assert_eq!(listed(config(&[], false, false)), 3);
    assert_eq!(listed(config(&[at(1, 0, 0)], false, false)), 3);
    assert_eq!(listed(config(&[at(1, 0, 0), at(0x81, 0, 0)], false, false)), 6);
    assert_eq!(listed(config(&[at(1, 0, 0)], true, false)), 6);
    assert_eq!(listed(config(&[at(1, 0, 0)], false, true)), 6);
}

#[test]
fn a_vendor_id_of_0_is_no_function() {
    let mut machine = machine([(at(0, 3, 0), device(0x1234_0000, 0)), (at(0, 4, 0), device(0x1234_8086, 0))]);
    assert_eq!(scan(&mut machine, Scope::FirstHostBridge).functions.len(), 1);
}

#[test]
fn a_looping_capability_list_ends() {
    let mut r = e1000();
    r.values[0xe4 / 4] = 0x0000_dc07;
    let f = describe(&mut machine([(at(0, 3, 0), r)]), at(0, 3, 0));
    assert_eq!(f.capabilities.len(), 16);
}

#[test]
fn more_functions_than_the_list_holds_are_counted() {
    let on = |bus, devices| {
        (0..devices).flat_map(move |d| (0..8).map(move |f| (at(bus, d, f), device(0x1234_8086, 0xff_00_00))))
    };
    let all = on(0, 32).chain(on(5, 8));
    let mut machine = machine(all.map(|(at, mut r)| {
        r.values[3] = 0x0080_0000;
        (at, r)
    }));
    let listing = scan(&mut machine, Scope::AllBuses);
    assert_eq!((listing.functions.len(), listing.left_out), (256, 64));
}

/// All registers have pseudo-random contents.
struct Noise(u32);

impl ConfigSpace for Noise {
    fn read(&mut self, at: Bdf, offset: u8) -> u32 {
        let key =
            u32::from(at.bus) << 16 | u32::from(at.device) << 11 | u32::from(at.function) << 8 | u32::from(offset);
        (key ^ self.0).wrapping_mul(0x9e37_79b1).rotate_left(15).wrapping_mul(0x85eb_ca6b)
    }
    fn write(&mut self, _: Bdf, _: u8, _: u32) {}
    fn write_part(&mut self, _: Bdf, _: u8, _: Width, _: u32) {}
}

proptest! {
    #[test]
    fn no_machine_breaks_the_scan(seed: u32) {
        let listing = scan(&mut Noise(seed), Scope::AllBuses);
        prop_assert!(listing.functions.iter().flat_map(|f| f.bars).flatten().all(|bar| bar.size.is_power_of_two()));
    }
}
