//! The server's start: requests to root-task, comparison with the description, refusals.

use proto::irq::Route;
use proto::pci::{Access, Error, GrantedLine, Width};
use proto::pci::{Config, Dma, Intx, PciFunction};
use proto::supervisor::Request;

use crate::board::{AHCI, Board, DISPLAY, E1000, EXPRESS, HOST, IDE, NE2000, SMALL_A, SMALL_B, UHCI, at, board};
use crate::logged::logged;
use crate::{
    ALICE, BOB, CAROL, Gate, LISTER, config, entrusted, give, loose, mediated, name, on_lines, register, trusted,
};

fn named(function: PciFunction, called: &str) -> PciFunction {
    PciFunction { name: name(called), ..function }
}

/// Whether the only function is granted.
fn is_granted(board: Board, function: PciFunction) -> bool {
    let gate = Gate::open(board, config([function]));
    gate.client(ALICE).grant(0).unwrap().is_some()
}

#[test]
fn only_a_client_with_pci_enumerate_sees_the_functions() {
    let gate = Gate::open(board(), config([]));
    let lister = gate.client(LISTER);
    assert_eq!(lister.function(0).unwrap().unwrap().address, HOST);
    assert_eq!(lister.function(11), Ok(None));
    assert_eq!(lister.function(u16::MAX), Ok(None));
    for id in [ALICE, 4, u64::from(u32::MAX)] {
        assert_eq!(gate.client(id).function(0), Err(Error::NotAllowed));
    }
    assert_eq!(gate.refused(ALICE), 1);
}

#[test]
fn a_client_has_its_functions_in_the_order_of_the_description() {
    let gate = Gate::open(board(), config([give(ALICE, E1000), give(BOB, UHCI), give(ALICE, IDE)]));
    let address = |id, n| gate.client(id).grant(n).unwrap().map(|grant| grant.function.address);
    assert_eq!([address(ALICE, 0), address(ALICE, 1), address(ALICE, 2)], [Some(E1000), Some(IDE), None]);
    assert_eq!(
        [address(BOB, 0), address(BOB, 1), address(CAROL, 0), address(LISTER, 0)],
        [Some(UHCI), None, None, None]
    );
}

#[test]
fn ports_and_memory_are_asked_for_in_the_order_of_their_addresses() {
    let mut config = config([give(ALICE, E1000), mediated(give(BOB, SMALL_B)), give(ALICE, IDE), give(BOB, SMALL_A)]);
    config.ports.push(entrusted(BOB, 0x60, 0x64)).unwrap();
    let gate = Gate::open(board(), config);
    let ports = |first, last, slot| Request::Ports { first, last, slot };
    let memory = |paddr, pages, slot, map| Request::Memory { paddr, pages, bits: 12, slot, map };
    assert_eq!(
        gate.board.borrow().requests,
        [
            ports(0x60, 0x64, 1),
            ports(0x170, 0x177, 2),
            ports(0x1f0, 0x1f7, 3),
            ports(0x376, 0x376, 4),
            ports(0x3f6, 0x3f6, 5),
            ports(0xc000, 0xc00f, 6),
            ports(0xc040, 0xc07f, 7),
            // The first page has the registers for the card's reset.
            memory(0xc000_0000, 1, 8, Some(0)),
            memory(0xc000_1000, 31, 9, None),
            // Two functions in one page.
            memory(0xc004_0000, 1, 40, Some(0x1000)),
        ]
    );
}

#[test]
fn a_restarted_server_asks_for_the_same() {
    let config = || config([give(ALICE, EXPRESS), give(BOB, AHCI), give(ALICE, DISPLAY), mediated(give(BOB, E1000))]);
    let first = Gate::open(board(), config());
    let asked = first.board.borrow().requests.clone();
    let mut machine = first.board.take();
    machine.requests.clear();
    let again = Gate::open(machine, config());
    assert_eq!(again.board.borrow().requests, asked);
}

#[test]
fn large_memory_is_obtained_in_large_frames() {
    let gate = Gate::open(board(), config([give(ALICE, DISPLAY)]));
    let request = Request::Memory { paddr: 0x8_0000_0000, pages: 8, bits: 21, slot: 1, map: None };
    assert_eq!(gate.board.borrow().requests, [request]);
    let grant = gate.client(ALICE).grant(0).unwrap().unwrap();
    assert_eq!(grant.bars[..2], [Access::Direct { bits: 21, count: 8 }, Access::No]);
}

#[test]
fn a_bar_smaller_than_a_page_is_mediated_even_in_direct_mode() {
    let gate = Gate::open(board(), config([give(ALICE, SMALL_A), mediated(give(ALICE, E1000)), give(ALICE, E1000)]));
    let bars = |n| gate.client(ALICE).grant(n).unwrap().unwrap().bars;
    assert_eq!(bars(0)[0], Access::Mediated);
    assert_eq!(bars(1)[..3], [Access::Mediated, Access::Mediated, Access::No]);
    assert_eq!(gate.client(ALICE).grant(2), Ok(None), "the same function twice");
}

#[test]
fn memory_beyond_the_windows_size_is_refused() {
    assert!(!is_granted(board(), mediated(give(ALICE, DISPLAY))));
}

#[test]
fn what_the_description_lists_is_compared_with_the_machine() {
    let ide = [(0x1f0, 0x1f7), (0x170, 0x177), (0x376, 0x376), (0x3f6, 0x3f6), (0xc000, 0xc00f)];
    let listing = |ports: &[(u16, u16)], memory: &[(u64, u64)]| PciFunction {
        ports: Some(ports.iter().copied().collect()),
        memory: Some(memory.iter().copied().collect()),
        ..give(ALICE, IDE)
    };
    assert!(is_granted(board(), listing(&ide, &[])));
    assert!(!is_granted(board(), listing(&ide[1..], &[])));
    assert!(!is_granted(board(), listing(&ide, &[(0xc000_0000, 0x1000)])));
    let mut other = ide;
    other[4] = (0xc000, 0xc01f);
    let log = logged("`Disk`", || assert!(!is_granted(board(), named(listing(&other, &[]), "Disk"))));
    assert_eq!(
        log,
        [
            "`Disk` (00:01.1) is not passed through: other ports than the description lists",
            "`Disk`: listed 0x1f0-0x1f7, 0x170-0x177, 0x376-0x376, 0x3f6-0x3f6, 0xc000-0xc01f",
            "`Disk`: found 0x1f0-0x1f7, 0x3f6-0x3f6, 0x170-0x177, 0x376-0x376, 0xc000-0xc00f",
            "`Disk`: take the numbers of this machine with `cargo xtask import lspci`, or leave the list out",
        ]
    );
}

#[test]
fn memory_that_differs_is_shown() {
    let wrong = PciFunction { memory: Some([(0xc002_0000, 0x2_0000)].into_iter().collect()), ..give(ALICE, E1000) };
    let log = logged("`Net`", || assert!(!is_granted(board(), named(wrong, "Net"))));
    assert_eq!(log[1..3], ["`Net`: listed 0xc0020000-0xc003ffff", "`Net`: found 0xc0000000-0xc001ffff"]);
}

#[test]
fn an_absent_function_or_a_bridge_is_not_granted() {
    for address in [HOST, at(1, 0), at(9, 0), at(1, 7)] {
        assert!(!is_granted(board(), give(ALICE, address)), "{address}");
    }
}

#[test]
fn a_function_with_a_misplaced_bar_is_not_granted() {
    let moved = |value: u32| {
        let mut machine = board();
        machine.functions.get_mut(&E1000).unwrap().values[4] = value;
        is_granted(machine, give(ALICE, E1000))
    };
    assert!(moved(0xc000_0000));
    for (what, base) in [
        ("no address", 0),
        ("the BIOS", 0x000c_0000),
        ("another function", 0xc003_0000 & 0xfffe_0000),
        ("the I/O APIC", 0xfec0_0000),
        ("the local APIC", 0xfee0_0000),
    ] {
        assert!(!moved(base), "{what}");
    }
    // Only root-task knows which addresses are RAM.
    let mut machine = Board { not_there: vec![0x0200_0000], ..board() };
    machine.functions.get_mut(&E1000).unwrap().values[4] = 0x0200_0000;
    let gate = Gate::open(machine, config([give(ALICE, E1000), give(ALICE, IDE)]));
    assert_eq!(gate.client(ALICE).grant(0).unwrap().unwrap().function.address, IDE);
    assert_eq!(gate.client(ALICE).read(proto::pci::Target::Port(0xc040), Width::Byte), Err(Error::NotYours));
}

#[test]
fn ports_of_the_chipset_are_not_granted() {
    for base in [0x41, 0xce1, 0x401, 0x4c1, 0x881, 0xcc1] {
        let mut machine = board();
        let ne2000 = machine.functions.get_mut(&NE2000).unwrap();
        ne2000.values[4] = base;
        assert!(!is_granted(machine, give(ALICE, NE2000)), "{base:#x}");
    }
}

#[test]
fn ports_without_a_function_must_not_overlap_a_functions() {
    let mut config = config([]);
    for (first, last) in
        [(0xcf8, 0xcff), (0xcff, 0xd00), (0xc07f, 0xc080), (0x1f7, 0x1f7), (0x300, 0x2ff), (0x60, 0x64)]
    {
        config.ports.push(entrusted(ALICE, first, last)).unwrap();
    }
    let gate = Gate::open(board(), config);
    let alice = gate.client(ALICE);
    assert_eq!((alice.ports(0), alice.ports(1)), (Ok(Some((0x60, 0x64))), Ok(None)));
    assert_eq!(gate.client(BOB).ports(0), Ok(None));
}

#[test]
fn ports_of_the_mainboard_need_trust_and_the_kernels_are_never_granted() {
    let granted = |ports| {
        let mut config = config([]);
        config.ports.push(ports).unwrap();
        Gate::open(board(), config).client(ALICE).ports(0).unwrap().is_some()
    };
    for (first, last) in [
        (0, 0xf),
        (0x81, 0x8f),
        (0xb2, 0xb3),
        (0xc0, 0xdf),
        (0x64, 0x64),
        (0x92, 0x92),
        (0x4d6, 0x4d6),
        (0xb000, 0xb03f),
    ] {
        assert!(!granted(loose(ALICE, first, last)) && granted(entrusted(ALICE, first, last)), "{first:#x}");
    }
    for (first, last) in [(0x20, 0x21), (0xa0, 0xa1), (0x4d0, 0x4d1), (0, 0xff)] {
        assert!(!granted(loose(ALICE, first, last)) && !granted(entrusted(ALICE, first, last)), "{first:#x}");
    }
    assert!(granted(loose(ALICE, 0x300, 0x31f)));
}

fn routes(config: Config) -> (Vec<(u8, Route)>, Vec<GrantedLine>) {
    let gate = Gate::open(Board { routed: vec![9], refused: vec![7], ..board() }, config);
    let lines = gate.client(ALICE).grant(0).unwrap().unwrap().lines;
    let routes = gate.board.borrow().routes.clone();
    (routes, lines.into_iter().collect())
}

#[test]
fn a_disk_in_compatibility_mode_has_the_old_interrupts() {
    let edge = |pin| Route { ioapic: 0, pin, level: false, active_low: false };
    let (routes, lines) = routes(config([on_lines(give(ALICE, IDE), &[4, 5])]));
    assert_eq!(routes, [(4, edge(14)), (5, edge(15))]);
    let line = |line, isa| GrantedLine { line, isa: Some(isa), level: false, messages: None };
    assert_eq!(lines, [line(4, 14), line(5, 15)]);
}

const fn level(pin: u8) -> Route {
    Route { ioapic: 0, pin, level: true, active_low: true }
}

#[test]
fn other_functions_arrive_where_the_board_says() {
    // Device 2, INTA, as on the emulated board.
    assert_eq!(routes(config([on_lines(give(ALICE, E1000), &[3])])).0, [(3, level(17))]);
    // A line with a route of its own keeps it.
    let described = PciFunction { has_route: true, ..give(ALICE, E1000) };
    let (found, lines) = routes(config([on_lines(described, &[9])]));
    assert_eq!((found, lines), (vec![], vec![GrantedLine { line: 9, isa: None, level: true, messages: None }]));
    // A function without a pin has no interrupt.
    assert_eq!(routes(config([on_lines(give(ALICE, DISPLAY), &[3])])), (vec![], vec![]));
}

#[test]
fn no_route_is_guessed_and_the_log_says_what_to_do() {
    let unknown = |function, called| {
        let config = config([on_lines(named(function, called), &[3, 4])]);
        Config { intx: Intx::Unknown, ..config }
    };
    let said = |config: Config| {
        let called = format!("`{}`", config.functions[0].name);
        logged(&called, || {
            let (routes, lines) = routes(config);
            assert_eq!((routes.len(), lines.len()), (0, 1));
        })
    };
    let why = "and only this machine's firmware knows where its pin is wired";
    let card = said(unknown(give(ALICE, E1000), "no master"));
    let no_dma = "it may send no messages, since it is no bus master";
    assert_eq!(card[0], format!("`no master` (00:02.0) cannot interrupt: {no_dma}, {why}"));
    assert!(card[1].contains("pci=nomsi") && card[2].contains("`lspci -vs 00:02.0`"), "{card:?}");
    let card = said(unknown(trusted(give(ALICE, NE2000)), "no MSI"));
    assert_eq!(card[0], format!("`no MSI` (00:03.0) cannot interrupt: it has no MSI, {why}"));
    // irq-server refuses the message of line 7.
    let refused = Config {
        functions: [on_lines(named(trusted(give(ALICE, E1000)), "refused"), &[7])].into_iter().collect(),
        ..unknown(give(ALICE, E1000), "")
    };
    let card = said(refused);
    assert_eq!(card[1], format!("`refused` (00:02.0) cannot interrupt: its MSI is not used, {why}"));
    // Its table's offset is zero, but the line for messages is one more than it has.
    let one_line = Config {
        functions: [on_lines(named(trusted(give(ALICE, EXPRESS)), "no table"), &[3])].into_iter().collect(),
        ..unknown(give(ALICE, E1000), "")
    };
    let card = said(one_line);
    assert_eq!(card[0], format!("`no table` (00:07.0) cannot interrupt: its MSI-X is not used, {why}"));
    // The description says where the pin is.
    let described = PciFunction { has_route: true, ..give(ALICE, E1000) };
    assert_eq!(said(unknown(described, "described")), ["`described`: 00:02.0 8086:100e of `alice`, direct"]);
    // The old interrupts of a disk are wired alike on every board.
    assert_eq!(routes(unknown(give(ALICE, IDE), "disk")).0.len(), 2);
}

/// Another guest's device may share the input, and a level there would keep that from interrupting.
#[test]
fn a_pin_that_arrives_at_no_line_of_the_owners_is_off_whatever_the_guest_writes() {
    let on = |function, lines: &[u8], intx| Config { intx, ..config([on_lines(function, lines)]) };
    let known = || config([]).intx;
    let described = PciFunction { has_route: true, ..give(ALICE, E1000) };
    let cases = [
        (on(give(ALICE, E1000), &[3], known()), E1000, true),
        (on(described, &[9], Intx::Unknown), E1000, true),
        (on(give(ALICE, IDE), &[3, 4], Intx::Unknown), IDE, true),
        (on(give(ALICE, E1000), &[], known()), E1000, false),
        (on(give(ALICE, E1000), &[3], Intx::Unknown), E1000, false),
        (on(trusted(give(ALICE, EXPRESS)), &[3, 4], Intx::Unknown), EXPRESS, false),
        (on(give(ALICE, E1000), &[7], known()), E1000, false),
        // The input is another's alone.
        (on(give(ALICE, E1000), &[9], known()), E1000, false),
    ];
    for (case, (config, at, is_on)) in cases.into_iter().enumerate() {
        let gate = Gate::open(Board { routed: vec![9], refused: vec![7], ..board() }, config);
        let alice = gate.client(ALICE);
        let off = || gate.real(at, 4) & 0x400 != 0;
        assert_eq!((off(), alice.read(register(0, 4), Width::Word)), (!is_on, Ok(3)), "{case}");
        for (value, off_if_on) in [(0x0403, true), (0x0003, false)] {
            alice.write(register(0, 4), Width::Word, value).unwrap();
            assert_eq!((off(), alice.read(register(0, 4), Width::Word)), (off_if_on || !is_on, Ok(value)), "{case}");
        }
        alice.write(register(0, 5), Width::Byte, 0).unwrap();
        alice.reset().unwrap();
        assert_eq!(off(), !is_on, "{case}: after a reset");
    }
}

/// Where the card's INTA at `there` arrives on QEMU's board whose host bridge is `host`, whatever the description says.
fn on_qemu(host: u32, there: layout::Bdf) -> Option<u8> {
    let mut machine = board();
    let bridge = machine.functions.get_mut(&HOST).unwrap();
    (bridge.values[0], bridge.values[11]) = (host << 16 | 0x8086, 0x1100_1af4);
    // PIRQA to PIRQD of the PIIX3, the last of which is off.
    machine.functions.get_mut(&at(1, 0)).unwrap().values[0x60 / 4] = 0x800b_0a05;
    let card = machine.functions[&SMALL_A].clone();
    machine.functions.remove(&SMALL_A);
    machine.functions.insert(there, card);
    let gate = Gate::open(machine, config([on_lines(give(ALICE, there), &[3])]));
    gate.board.borrow().routes.first().map(|&(_, route)| {
        assert_eq!(route, level(route.pin));
        route.pin
    })
}

#[test]
fn the_chipsets_of_qemu_are_known_by_their_host_bridge() {
    // As Linux has it by the tables of QEMU's firmware.
    for (device, pin) in [(3, 23), (5, 21), (25, 16), (28, 16), (30, 20)] {
        assert_eq!(on_qemu(0x29c0, at(device, 0)), Some(pin), "{device}");
    }
    for (device, pin) in [(9, Some(5)), (10, Some(10)), (11, Some(11)), (12, None)] {
        assert_eq!(on_qemu(0x1237, at(device, 0)), pin, "{device}");
    }
}

#[test]
fn a_bridge_turns_the_pins_of_what_is_behind() {
    let mut machine = board();
    let mut bridge = machine.functions[&HOST].clone();
    (bridge.values[2], bridge.values[3], bridge.values[6]) = (0x0604_0000, 0x0001_0000, 0x0001_0100);
    machine.functions.insert(at(30, 0), bridge);
    let mut behind = machine.functions[&SMALL_A].clone();
    behind.values[4] = 0xd000_0000;
    let there = layout::Bdf { bus: 1, device: 5, function: 0 };
    machine.functions.insert(there, behind);
    let gate = Gate::open(machine, config([on_lines(give(ALICE, there), &[0])]));
    // INTA of device 5 is the bridge's INTB: 16 + (30 + 2 + 2) % 4.
    assert_eq!(gate.board.borrow().routes[0].1.pin, 18);
    assert!(gate.client(ALICE).read(register(0, 0), Width::Dword).is_ok());
}

#[test]
fn a_card_behind_a_bridge_to_conventional_pci_is_told_from_one_of_pci_express() {
    for (card, name, expected) in [(SMALL_A, "OldCard", 1), (EXPRESS, "NewCard", 0)] {
        let mut machine = board();
        let mut bridge = machine.functions[&HOST].clone();
        (bridge.values[2], bridge.values[3], bridge.values[6]) = (0x0604_0000, 0x0001_0000, 0x0001_0100);
        machine.functions.insert(at(30, 0), bridge);
        let behind = machine.functions.remove(&card).unwrap();
        let there = layout::Bdf { bus: 1, device: 5, function: 0 };
        machine.functions.insert(there, behind);
        let card = PciFunction { dma: Dma::Domain, ..named(give(ALICE, there), name) };
        let said = format!("`{name}` (01:05.0) is on conventional PCI");
        let log = logged(&said, || drop(Gate::open(machine, config([card]))));
        assert_eq!(log.len(), expected);
    }
}

#[test]
fn a_bus_master_has_its_group_to_itself_or_is_trusted_with_it() {
    let confined = |owner, at, called| PciFunction { dma: Dma::Domain, ..named(give(owner, at), called) };
    let becomes_master = |disk: PciFunction, neighbour: PciFunction| {
        let gate = Gate::open(board(), config([disk, neighbour]));
        gate.client(ALICE).write(register(0, 4), Width::Word, 0x0004)
    };
    let disk = || confined(ALICE, IDE, "GroupDisk");
    assert_eq!(becomes_master(disk(), give(ALICE, UHCI)), Ok(()));
    assert_eq!(becomes_master(disk(), give(BOB, E1000)), Ok(()));
    let trusted = PciFunction { group_trusted: true, ..disk() };
    let log = logged("`GroupDisk` reaches", || assert_eq!(becomes_master(trusted, give(BOB, UHCI)), Ok(())));
    assert_eq!(log, ["`GroupDisk` reaches `00:01.2` of `bob` past the IOMMU: the description trusts it"]);
    let log = logged("`GroupDisk` (", || {
        assert_eq!(becomes_master(disk(), give(BOB, UHCI)), Err(Error::NoDma));
    });
    let group = "does not become bus master: `00:01.2` (00:01.2) of `bob` is in the same group, at 00:01.0";
    assert_eq!(log, [format!("`GroupDisk` (00:01.1) {group}")]);
    // What is not passed through has no owner.
    let gone = PciFunction { ports: Some([(0x300, 0x31f)].into_iter().collect()), ..give(BOB, UHCI) };
    assert_eq!(becomes_master(disk(), gone), Ok(()));
}
