//! What compiling makes of passthrough: whose configuration lists which function, port and interrupt, what pci-server may ask for,
//! and where memory that devices use lies.

mod fixture;

use capdl_spec::{
    compile::bundle::Bundle,
    host::{self, CompileError, Form, System},
    laws,
    spec::{DeviceRange, Fill, Kind, PageSize, Spec},
};
use fixture::{config, files, object, system};
use layout::{
    Bdf,
    config::{Component, VmLine, Vmm},
    event, slot, window,
};
use proptest::prelude::*;
use proto::{
    irq::Config as Irq,
    pci::{Config as Pci, Dma, Intx},
    timer::Config as Timer,
};

const MIB: u64 = 1 << 20;

fn vm(board: &str, name: &str, devices: &str) -> String {
    format!(
        "board = \"{board}\"\n[[vm]]\nname = \"{name}\"\nmemory = \"32 MiB\"\nkernel = \"debian-686\"\n\
         initrd = \"debian-busybox\"\n{devices}\n"
    )
}

fn compile(system: &System) -> Bundle {
    host::compile(system, &files(system)).expect("it compiles")
}

/// A VM of the second description without its board.
fn and(first: String, second: String) -> String {
    first + second.split_once('\n').expect("it has lines").1
}

/// Where frames are mapped in a space.
fn mapped(spec: &Spec, space: &str, frames: &str) -> Vec<u64> {
    let (space, frames) = (object(spec, space), object(spec, frames));
    let mappings = spec.mappings.iter().filter(|mapping| mapping.space == space && mapping.frames == frames);
    mappings.map(|mapping| mapping.at).collect()
}

#[test]
fn a_function_by_its_address_alone_is_found_and_routed_by_pci_server() {
    let bundle = compile(&system(&vm("bochs", "linux", "pci_devices = [\"00:03.0\"]")));
    let (pci, irq): (Pci, Irq) = (config(&bundle, "pci-server"), config(&bundle, "irq-server"));
    let function = &pci.functions[0];
    assert_eq!((function.name.as_str(), function.at), ("00:03.0", Bdf { bus: 0, device: 3, function: 0 }));
    assert_eq!((function.owner, function.direct, function.dma), (0, true, Dma::No));
    assert_eq!((&function.lines[..], &function.ports, &function.memory), (&[2u8, 3][..], &None, &None));
    let lines: Vec<_> = irq.lines[2..].iter().map(|line| (line.name.as_str(), line.owner, line.route)).collect();
    assert_eq!(lines, [("00:03.0", 3, None), ("00:03.0/2", 3, None)]);
    assert_eq!((irq.router, pci.intx), (Some(2), Intx::Swizzle { base: 16, add: 2 }));
    let vmm: Vmm = config(&bundle, "vmm-linux");
    let line = |line| VmLine { line, dest: None, level: true, limit: 100 };
    assert_eq!(vmm.lines[..], [line(2), line(3)]);
}

#[test]
fn listed_devices_are_configured_as_they_are_listed() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../systems/cma34cr-ethernet.toml");
    let bundle = compile(&host::load(&path).expect("it loads"));
    let pci: Pci = config(&bundle, "pci-server");
    let [disk, card] = &pci.functions[..] else { panic!("not two functions") };
    let ports =
        [(0x4080, 0x408f), (0x4090, 0x409f), (0x40b0, 0x40b7), (0x40b8, 0x40bf), (0x40c8, 0x40cb), (0x40cc, 0x40cf)];
    assert_eq!((disk.ports.as_deref(), disk.memory.as_deref()), (Some(&ports[..]), Some(&[][..])));
    assert_eq!((card.at, card.dma), (Bdf { bus: 5, device: 0, function: 0 }, Dma::Domain));
    assert_eq!(card.ports.as_deref(), Some(&[(0x3000, 0x301f)][..]));
    assert_eq!(card.memory.as_deref(), Some(&[(0xc050_0000, 0x2_0000), (0xc052_0000, 0x4000)][..]));
    assert_eq!((&disk.lines[..], &card.lines[..]), (&[2u8][..], &[3u8][..]));
    let irq: Irq = config(&bundle, "irq-server");
    let routes: Vec<_> = irq.lines[2..].iter().filter_map(|line| line.route).collect();
    assert_eq!(
        routes.iter().map(|r| (r.pin, r.level, r.active_low)).collect::<Vec<_>>(),
        [(19, true, true), (17, true, true)]
    );
    let vmm: Vmm = config(&bundle, "vmm-linux");
    assert_eq!(vmm.lines.iter().map(|line| line.dest).collect::<Vec<_>>(), [Some(11), Some(10)]);
    let windows: Vec<_> = bundle.spec.windows.iter().map(|window| window.range).collect();
    let ports = |first, last| DeviceRange::Ports { first, last };
    let exactly = [
        ports(0x3000, 0x301f),
        ports(0x4080, 0x409f),
        ports(0x40b0, 0x40bf),
        ports(0x40c8, 0x40cf),
        DeviceRange::Memory { first: 0xc050_0000, last: 0xc052_3fff },
    ];
    assert_eq!(windows, exactly);
}

#[test]
fn a_disk_in_compatibility_mode_needs_no_source_on_any_board() {
    let ports = "ioports = [{ start = 0x1f0, end = 0x1f8, pci_device = 1, name = \"IDE\" }]";
    let text = vm("pc", "linux", &format!("pci_devices = [{{ name = \"IDE\", address = \"00:01.1\" }}]\n{ports}"));
    assert_eq!(config::<Pci>(&compile(&system(&text)), "pci-server").functions[0].lines[..], [2, 3]);
}

/// Of each line of the VM's functions, whether pci-server may make it one of messages; and the lines of each function.
fn messages(devices: &str) -> (Vec<bool>, Vec<(Vec<u8>, bool)>) {
    let bundle = compile(&system(&vm("bochs", "linux", devices)));
    let (pci, irq): (Pci, Irq) = (config(&bundle, "pci-server"), config(&bundle, "irq-server"));
    let functions = pci.functions.iter().map(|function| (function.lines.to_vec(), function.has_route));
    (irq.lines[2..].iter().map(|line| line.messages).collect(), functions.collect())
}

#[test]
fn messages_take_the_place_of_a_pin_that_is_one_functions_alone() {
    const PIN: &str = "irqs = [{ name = \"pin\", source = 17 }]";
    let function = |address, keys: &str| format!("{{ address = \"{address}\", {keys} }}");
    let of = |list: &[String]| format!("pci_devices = [{}]\n", list.join(", "));
    let trusted = function("00:03.0", "dma = \"trusted\"");
    assert_eq!(messages(&of(std::slice::from_ref(&trusted))), (vec![true; 2], vec![(vec![2, 3], false)]));
    assert_eq!(messages("pci_devices = [\"00:03.0\"]"), (vec![false; 2], vec![(vec![2, 3], false)]));
    let named = function("00:03.0", "irq = \"pin\", dma = \"trusted\"");
    assert_eq!(messages(&(of(std::slice::from_ref(&named)) + PIN)), (vec![true], vec![(vec![2], true)]));
    for keys in ["irq = \"pin\"", "irq = \"pin\", dma = \"trusted\", interrupts = \"pin\""] {
        let pinned = of(&[function("00:03.0", keys)]) + PIN;
        assert_eq!(messages(&pinned), (vec![false], vec![(vec![2], true)]), "{keys}");
    }
    let both = of(&[named, function("00:04.0", "irq = \"pin\", dma = \"trusted\"")]) + PIN;
    assert_eq!(messages(&both), (vec![false], vec![(vec![2], true); 2]));
    let pin = of(&[function("00:03.0", "dma = \"trusted\", interrupts = \"pin\"")]);
    assert_eq!(messages(&pin), (vec![false; 2], vec![(vec![2, 3], false)]));
    let none = of(&[function("00:03.0", "dma = \"trusted\", interrupts = \"none\"")]);
    assert_eq!(messages(&none), (vec![], vec![(vec![], false)]));
}

#[test]
fn ports_without_a_function_go_to_their_owner_alone() {
    let devices = "ioports = [{ start = 0x300, end = 0x320, name = \"card\" }]\n\
                   irqs = [{ name = \"card\", source = 5, level_trig = 0, active_low = false, limit = 7 }]";
    let bundle = compile(&system(&vm("bochs", "linux", devices)));
    let pci: Pci = config(&bundle, "pci-server");
    assert_eq!((pci.ports[0].owner, pci.ports[0].first, pci.ports[0].last), (0, 0x300, 0x31f));
    let windows: Vec<_> = bundle.spec.windows.iter().map(|window| window.range).collect();
    assert_eq!(windows, [DeviceRange::Ports { first: 0x300, last: 0x31f }]);
    let irq: Irq = config(&bundle, "irq-server");
    let route = irq.lines[2].route.expect("it is listed");
    assert_eq!((route.pin, route.level, route.active_low, irq.lines[2].limit), (5, false, false, 7));
}

#[test]
fn lines_raise_events_of_their_own_at_the_owner_and_at_irq_server() {
    let bundle = compile(&system(&vm("bochs", "linux", "pci_devices = [\"00:03.0\", \"00:04.0\"]")));
    let (spec, irq): (_, Irq) = (&bundle.spec, config(&bundle, "irq-server"));
    let said = |process: &str, slot: layout::Slot| {
        let cnode = object(spec, &format!("{process}.cspace"));
        let cap =
            spec.caps.iter().find(|cap| cap.cnode == cnode && cap.slot == u32::from(slot.0)).expect("it is there");
        (spec.name(cap.object), cap.badge)
    };
    for (n, line) in irq.lines.iter().enumerate().skip(2) {
        assert_eq!(said("irq-server", line.signal), ("vmm-linux.events", event::line(n - 2)));
        assert_eq!(said("irq-server", line.own.expect("it may be shared")), ("irq-server.events", event::ring(n)));
    }
    assert!(irq.lines[..2].iter().all(|line| line.own.is_none()));
    let timer: Timer = config(&bundle, "timer-server");
    assert_eq!(said("irq-server", irq.alarm.expect("it has one")), ("timer-server.events", event::ALARM));
    assert_eq!(said("timer-server", timer.alarm.expect("it has one")), ("irq-server.events", event::TIMER));
}

#[test]
fn pci_server_is_notified_of_stopped_clients_with_devices() {
    let text = and(vm("bochs", "plain", ""), vm("bochs", "linux", "pci_devices = [\"00:03.0\"]"));
    let spec = compile(&system(&text)).spec;
    let events = object(&spec, "pci-server.events");
    let heard: Vec<_> = spec.processes.iter().filter_map(|one| Some((one.name.as_str(), one.on_stop?))).collect();
    assert_eq!(heard, [("vmm-linux", (events, event::client(1)))]);
}

#[test]
fn without_devices_no_process_gets_anything_for_them() {
    let bundle = compile(&system(&vm("bochs", "linux", "")));
    let (irq, pci): (Irq, Pci) = (config(&bundle, "irq-server"), config(&bundle, "pci-server"));
    assert_eq!((irq.router, irq.alarm, pci.functions.len(), bundle.spec.windows.len()), (None, None, 0, 0));
    let vmm: Vmm = config(&bundle, "vmm-linux");
    assert_eq!((vmm.directories, vmm.tables, vmm.ram_at), (0, 0, 0));
    assert!(!bundle.spec.objects.iter().any(|object| matches!(object.kind, Kind::SparePaging { .. })));
}

#[test]
fn the_machines_switch_is_outside_the_windows_of_pci() {
    let spec = compile(&system(&vm("bochs", "linux", "pci_devices = [\"00:03.0\"]"))).spec;
    let holds = |port| {
        spec.windows
            .iter()
            .any(|window| matches!(window.range, DeviceRange::Ports { first, last } if (first..=last).contains(&port)))
    };
    assert!(holds(0x1f0) && holds(0x376) && holds(0xc040) && holds(0xffff));
    assert!(!holds(0x8900) && !holds(0x3f8) && !holds(0xcf8) && !holds(0x70));
}

#[test]
fn a_vmm_server_with_devices_can_map_in_its_guests_ept() {
    let bundle = compile(&system(&vm("bochs", "linux", "pci_devices = [\"00:03.0\"]")));
    let (spec, vmm): (_, Vmm) = (&bundle.spec, config(&bundle, "vmm-linux"));
    assert_eq!((vmm.directories, vmm.tables), (4, 16));
    let cnode = object(spec, "vmm-linux.cspace");
    let at = |slot: layout::Slot| {
        let cap = spec.caps.iter().find(|cap| cap.cnode == cnode && cap.slot == u32::from(slot.0));
        cap.map(|cap| spec.name(cap.object))
    };
    assert_eq!(at(slot::EPT), Some("vmm-linux.ept"));
    assert_eq!(
        (at(slot::PAGING), at(slot::PAGING.plus(3))),
        (Some("vmm-linux.spare-directory.0"), Some("vmm-linux.spare-directory.3"))
    );
    assert_eq!((at(slot::PAGING.plus(4)), at(slot::PAGING.plus(20))), (Some("vmm-linux.spare-table.0"), None));
    assert_eq!(spec.kind(object(spec, "vmm-linux.scratch")), Some(&Kind::CNode { bits: 10 }));
    assert_eq!(spec.kind(object(spec, "pci-server.scratch")), Some(&Kind::CNode { bits: 10 }));
}

#[test]
fn trusted_functions_see_ram_where_the_guest_sees_it() {
    let trusted = |address| format!("pci_devices = [{{ address = \"{address}\", dma = \"trusted\" }}]");
    let first = vm("bochs", "one", &trusted("00:01.1")).replace("32 MiB", "34 MiB");
    let system = system(&and(first, vm("bochs", "two", &trusted("00:03.0"))));
    let bundle = compile(&system);
    for (name, at, pages) in [("vmm-one", 64 * MIB, 17), ("vmm-two", 112 * MIB, 16)] {
        let vmm: Vmm = config(&bundle, name);
        assert_eq!((vmm.ram_at, vmm.ram), (at, u64::from(pages) * 2 * MIB));
        let ram = Kind::Frames { size: PageSize::Large, pages, fill: Fill::Ram { paddr: at } };
        assert_eq!(bundle.spec.kind(object(&bundle.spec, &format!("{name}.guest-ram"))), Some(&ram));
        let low = Kind::Frames { size: PageSize::Large, pages: 1, fill: Fill::Zero };
        assert_eq!(bundle.spec.kind(object(&bundle.spec, &format!("{name}.guest-low"))), Some(&low));
        for (space, base) in [("ept", 0), ("vspace", window::GUEST_RAM)] {
            let (space, low, ram) =
                (format!("{name}.{space}"), format!("{name}.guest-low"), format!("{name}.guest-ram"));
            assert_eq!(mapped(&bundle.spec, &space, &low), [base]);
            assert_eq!(mapped(&bundle.spec, &space, &ram), [base + at]);
        }
    }
    let pci: Pci = config(&bundle, "pci-server");
    assert!(pci.functions.iter().all(|function| function.dma == Dma::Trusted));
    let forms: Vec<_> = system.images().into_iter().map(|image| (image.name, image.form)).collect();
    assert_eq!(forms[0], ("debian-686".into(), Form::Relocated { at: 64 * MIB }));
    assert_eq!(forms[2], ("debian-686-2".into(), Form::Relocated { at: 112 * MIB }));
}

#[test]
fn trusted_ram_is_moved_from_under_larger_images() {
    let mut system = system(&format!(
        "{}[[component]]\nname = \"reader\"\nimage = \"components\"\nservices = [\"file\"]\nfiles = [\"../Cargo.toml\"]\n",
        vm("bochs", "linux", "pci_devices = [{ address = \"00:01.1\", dma = \"trusted\" }]")
    ));
    let with = |system: &System| {
        let mut files = files(system);
        files.images.insert("Cargo.toml".into(), vec![0; 41 << 20]);
        host::compile(system, &files)
    };
    let Err(CompileError::Crowded { at, bundle }) = with(&system) else { panic!("there is no room") };
    assert!(at == 64 * MIB && bundle > 41 * MIB && bundle < 56 * MIB);
    let map = |system: &System| host::map::text(system, &host::plan(system).expect("it compiles"));
    assert!(map(&system).contains(", moved to 0x4000000, or further up if images need the room\n"));
    system.make_room(bundle);
    assert!(map(&system).contains(", moved to 0x5000000\n"));
    let moved = with(&system).expect("there is room");
    let (base, kernel) = (80 * MIB, Form::Relocated { at: 80 * MIB });
    assert_eq!(mapped(&moved.spec, "vmm-linux.ept", "vmm-linux.guest-ram"), [base]);
    assert!(system.images().iter().any(|image| image.form == kernel), "the kernel moves with the memory");
}

#[test]
fn functions_behind_an_iommu_see_their_owners_memory_and_no_other() {
    let confined = |address| format!("pci_devices = [\"{address}\"]\npci_devices_iospace = 1");
    let bundle = compile(&system(&and(vm("pc", "one", &confined("00:1f.2")), vm("pc", "two", &confined("05:00.0")))));
    let spec = &bundle.spec;
    for (name, address, domain, bus) in [("vmm-one", "00:1f.2", 1, 0), ("vmm-two", "05:00.0", 2, 5)] {
        let (space, ram) = (format!("{name}.iospace.{address}"), format!("{name}.guest-ram"));
        let Some(Kind::IoSpace { domain: of, function }) = spec.kind(object(spec, &space)) else { panic!("no space") };
        assert_eq!((*of, function.to_string().as_str(), function.bus), (domain, address, bus));
        assert_eq!(mapped(spec, &space, &ram), [0]);
        let frames = Kind::Frames { size: PageSize::Small, pages: 32 << 8, fill: Fill::Zero };
        assert_eq!(spec.kind(object(spec, &ram)), Some(&frames));
    }
    let spaces = spec.mappings.iter().filter(|mapping| spec.is_io_space(mapping.space)).count();
    assert_eq!(spaces, 2);
    assert!(!spec.caps.iter().any(|cap| spec.is_io_space(cap.object)), "no process holds one");
}

#[test]
fn a_component_has_memory_that_its_functions_reach() {
    let component = |board: &str, dma: &str| {
        format!(
            "board = \"{board}\"\n[[component]]\nname = \"driver\"\nimage = \"components\"\ndma_memory = \"64 KiB\"\n{dma}\n"
        )
    };
    let confined = compile(&system(&component("q35", "pci_devices = [\"00:02.0\"]\npci_devices_iospace = true")));
    let driver: Component = config(&confined, "driver");
    let (here, bus) = driver.dma.expect("it has memory");
    assert_eq!((here.len, bus, driver.lines.len()), (65536, MIB, 2));
    assert_eq!(mapped(&confined.spec, "driver.vspace", "driver.dma-memory"), [here.at]);
    assert_eq!(mapped(&confined.spec, "driver.iospace.00:02.0", "driver.dma-memory"), [bus]);

    let trusted = "pci_devices = [{ address = \"00:03.0\", dma = \"trusted\", access = \"mediated\" }]";
    let trusted = compile(&system(&component("bochs", trusted)));
    let driver: Component = config(&trusted, "driver");
    assert_eq!(driver.dma.map(|(_, bus)| bus), Some(64 * MIB));
    let frames = Kind::Frames { size: PageSize::Small, pages: 16, fill: Fill::Ram { paddr: 64 * MIB } };
    assert_eq!(trusted.spec.kind(object(&trusted.spec, "driver.dma-memory")), Some(&frames));
    let pci: Pci = config(&trusted, "pci-server");
    assert!(!pci.functions[0].direct);
}

/// A VM with some functions, on a board with an IOMMU.
fn owner(n: usize, functions: usize, how: u8) -> String {
    let address = |f: usize| format!("0{n}:0{f}.0");
    let function = |f: usize| match how {
        0 => format!("{{ address = \"{}\", dma = \"trusted\" }}", address(f)),
        2 => format!("{{ address = \"{}\", interrupts = \"none\" }}", address(f)),
        _ => format!("\"{}\"", address(f)),
    };
    let all: Vec<String> = (0..functions).map(function).collect();
    let confined = if how == 1 { "pci_devices_iospace = 1\n" } else { "" };
    format!(
        "[[vm]]\nname = \"vm{n}\"\nmemory = \"8 MiB\"\nkernel = \"debian-686\"\npci_devices = [{}]\n{confined}",
        all.join(", ")
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_right_description_with_devices_is_lawful(owners in prop::collection::vec((0usize..4, 0u8..3), 1..4)) {
        let vms = owners.iter().enumerate().map(|(n, &(functions, how))| owner(n, functions, how));
        let system = system(&format!("board = \"pc\"\n{}", vms.collect::<String>()));
        let bundle = compile(&system);
        prop_assert_eq!(laws::breaches(&bundle.spec), vec![]);
        prop_assert_eq!(&host::map::text(&system, &bundle.spec), &host::map::text(&system, &host::plan(&system).expect("it compiles")));
        prop_assert!(host::draw::svg(&system, &bundle.spec).ends_with("</svg>\n"));
    }
}
