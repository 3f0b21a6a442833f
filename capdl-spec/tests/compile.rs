//! What compiling makes of descriptions, and that it keeps every law whatever the description.

mod fixture;

use std::ops::Range;

use capdl_spec::{
    compile::bundle::Bundle,
    host::{self, CompileError, System},
    laws,
    spec::{Fill, HEADER_LEN, Kind, Level, MAGIC, PageSize, Rights, Spec},
};
use fixture::{ENTRY, SEGMENTS, config, files, object, system};
use layout::{config, event, limits::MAX_GUESTS, slot};
use proptest::prelude::*;
use proto::{file, irq, net, serial, timer};

const MINIMAL: &str = "board = \"bochs\"\n[[vm]]\nname = \"linux\"\nmemory = \"128 MiB\"\nkernel = \"debian-686\"\n\
                       initrd = \"debian-busybox\"\n";

fn compile(system: &System) -> Bundle {
    host::compile(system, &files(system)).expect("it compiles")
}

fn fill(spec: &Spec, name: &str) -> Fill {
    match spec.kind(object(spec, name)) {
        Some(Kind::Frames { fill, .. }) => *fill,
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn the_bundle_begins_with_its_specification() {
    let bundle = compile(&system(MINIMAL));
    assert_eq!(bundle.bytes[..8], MAGIC);
    let number = |at: Range<usize>| u64::from_le_bytes(bundle.bytes[at].try_into().expect("eight bytes")) as usize;
    assert_eq!(number(16..24), bundle.bytes.len());
    let spec: Spec = postcard::from_bytes(&bundle.bytes[HEADER_LEN..][..number(8..16)]).expect("it decodes");
    assert_eq!(spec, bundle.spec);
}

#[test]
fn a_guest_has_an_entropy_device_if_its_description_says_so() {
    for (line, rng) in [("", false), ("rng = false\n", false), ("rng = true\n", true)] {
        let bundle = compile(&system(&format!("{MINIMAL}{line}")));
        let vmm: config::Vmm = config(&bundle, "vmm-linux");
        assert_eq!(vmm.rng, rng, "{line}");
    }
}

#[test]
fn a_guests_memory_is_in_small_pages_where_large_ones_could_stop_the_machine() {
    for (board, line, pages) in [
        ("bochs", "", PageSize::Large),
        ("pc", "", PageSize::Small),
        ("cma34cr", "", PageSize::Small),
        ("pc-modern", "large_pages = true\n", PageSize::Large),
    ] {
        let spec = compile(&system(&format!("{}{line}", MINIMAL.replace("bochs", board)))).spec;
        let (ept, ram) = (object(&spec, "vmm-linux.ept"), object(&spec, "vmm-linux.guest-ram"));
        let found: Vec<_> = spec.mappings.iter().filter(|one| one.space == ept && one.frames == ram).collect();
        assert!(matches!(spec.kind(ram), Some(Kind::Frames { size: PageSize::Large, pages: 64, .. })), "{board}");
        assert_eq!(found.iter().map(|one| one.pages).collect::<Vec<_>>(), [pages], "{board}");
        let tables = spec.objects.iter().filter_map(|object| match object.kind {
            Kind::Paging { space, level: Level::Table, count, .. } if space == ept => Some(count),
            _ => None,
        });
        assert_eq!(tables.sum::<u32>(), if pages == PageSize::Small { 64 } else { 0 }, "{board}");
    }
}

#[test]
fn members_of_networks_have_rings_that_nobody_else_maps() {
    let vm = |name| format!("[[vm]]\nname = \"{name}\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n");
    let networks = "[[network]]\nname = \"lan\"\nmembers = [\"a\", { name = \"b\", mac = \"02:00:00:00:00:0b\" }]\n\
                    [[network]]\nname = \"dmz\"\nmembers = [\"b\", { name = \"c\", bridge = true }]\n";
    let bundle = compile(&system(&format!("board = \"bochs\"\n{}{}{}{networks}", vm("a"), vm("b"), vm("c"))));
    let net: net::Config = config(&bundle, "net-server");
    let ports: Vec<_> = net.ports.iter().map(|port| (port.name.as_str(), port.network, port.bridge)).collect();
    assert_eq!(ports, [("lan.a", 0, false), ("lan.b", 0, false), ("dmz.b", 1, false), ("dmz.c", 1, true)]);
    let b: config::Vmm = config(&bundle, "vmm-b");
    assert_eq!(b.nics.len(), 2);
    assert_eq!(b.nics[0].mac, [2, 0, 0, 0, 0, 11]);
    for (nic, (port, what)) in b.nics.iter().zip([(&net.ports[1], "net0"), (&net.ports[2], "net1")]) {
        assert_eq!(nic.mac, port.mac.0);
        for (here, there, way) in [(nic.output, port.input, "out"), (nic.input, port.output, "in")] {
            let frames = object(&bundle.spec, &format!("vmm-b+net-server.{what}-{way}"));
            let mapped = bundle.spec.mappings.iter().filter(|mapping| mapping.frames == frames);
            assert_eq!(mapped.map(|mapping| mapping.at).collect::<Vec<_>>(), [here.at, there.at]);
            assert_eq!(here.len, there.len);
        }
    }
    let minimal = compile(&system(MINIMAL)).spec;
    assert!(minimal.processes.iter().all(|process| process.name != "net-server"));
}

#[test]
fn a_component_has_the_devices_of_its_networks_in_their_order() {
    let vm = "[[vm]]\nname = \"a\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n";
    let component = "[[component]]\nname = \"c\"\nimage = \"firewall\"\n";
    let networks = "[[network]]\nname = \"in\"\nmembers = [\"a\", { name = \"c\", bridge = true }]\n\
                    [[network]]\nname = \"out\"\nmembers = [{ name = \"c\", mac = \"02:00:00:00:00:0c\" }, \"a\"]\n";
    let bundle = compile(&system(&format!("board = \"bochs\"\n{vm}{component}{networks}")));
    let net: net::Config = config(&bundle, "net-server");
    let c: config::Component = config(&bundle, "c");
    let own: Vec<_> = net.ports.iter().filter(|port| port.name.ends_with(".c")).collect();
    assert_eq!(
        own.iter().map(|port| (port.name.as_str(), port.bridge)).collect::<Vec<_>>(),
        [("in.c", true), ("out.c", false)]
    );
    assert_eq!(
        c.nics.iter().map(|nic| nic.mac).collect::<Vec<_>>(),
        own.iter().map(|port| port.mac.0).collect::<Vec<_>>()
    );
    assert_eq!(c.nics[1].mac, [2, 0, 0, 0, 0, 12]);
}

#[test]
fn members_of_sockets_are_vms_and_components_with_addresses() {
    let vm = "[[vm]]\nname = \"a\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n";
    let component = |name| format!("[[component]]\nname = \"{name}\"\nimage = \"components\"\n");
    let vsock = "[[vsock]]\nname = \"streams\"\nmembers = [\"a\", { name = \"c\", cid = 9 }, \"d\"]\n";
    let text = format!("board = \"bochs\"\n{vm}{}{}{}{vsock}", component("c"), component("d"), component("e"));
    let bundle = compile(&system(&text));
    let net: net::Config = config(&bundle, "net-server");
    let members: Vec<_> = net.sockets.iter().map(|port| (port.name.as_str(), port.cid)).collect();
    assert_eq!(members, [("streams.a", 3), ("streams.c", 9), ("streams.d", 5)]);
    let a: config::Vmm = config(&bundle, "vmm-a");
    let [c, d, e] = ["c", "d", "e"].map(|name| config::<config::Component>(&bundle, name).vsock);
    assert_eq!(e, None);
    for (process, own, port) in [("vmm-a", a.vsock, 0), ("c", c, 1), ("d", d, 2)] {
        let own = own.expect("it is a member");
        let port = &net.sockets[port];
        for (here, there, way) in [(own.output, port.input, "out"), (own.input, port.output, "in")] {
            let frames = object(&bundle.spec, &format!("{process}+net-server.vsock-{way}"));
            let mapped = bundle.spec.mappings.iter().filter(|mapping| mapping.frames == frames);
            assert_eq!(mapped.map(|mapping| mapping.at).collect::<Vec<_>>(), [here.at, there.at]);
        }
    }
    let spec = &bundle.spec;
    let called = spec.processes.iter().filter(|process| process.calls.len() == 1).map(|process| process.name.as_str());
    assert!(["c", "d"].iter().all(|name| called.clone().any(|process| process == *name)), "they may call net-server");
}

#[test]
fn a_pipe_is_two_rings_that_its_ends_map_crosswise() {
    let vm = |name| format!("[[vm]]\nname = \"{name}\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n");
    let pipe = |name, a, b| format!("[[pipe]]\nname = \"{name}\"\nmembers = [\"{a}\", \"{b}\"]\n");
    let pipes = [pipe("first", "a", "b"), pipe("second", "c", "a")].concat();
    let bundle = compile(&system(&format!("board = \"bochs\"\n{}{}{}{pipes}", vm("a"), vm("b"), vm("c"))));
    let [a, b, c] = ["vmm-a", "vmm-b", "vmm-c"].map(|name| config::<config::Vmm>(&bundle, name).pipes);
    assert_eq!(a.iter().map(|pipe| pipe.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    for (frames, ends) in [("vmm-a+vmm-b.pipe0", [&a[0], &b[0]]), ("vmm-c+vmm-a.pipe1", [&c[0], &a[1]])] {
        let frames = object(&bundle.spec, frames);
        let mapped: Vec<u64> =
            bundle.spec.mappings.iter().filter(|mapping| mapping.frames == frames).map(|mapping| mapping.at).collect();
        let [[out, into], [other_into, other_out]] =
            [[ends[0].rings.output, ends[0].rings.input], [ends[1].rings.input, ends[1].rings.output]];
        assert_eq!((vec![out.at, other_into.at], out.len), (mapped, other_into.len), "one end's output");
        assert_eq!(into.at - out.at, other_out.at - other_into.at, "and the other's");
        assert_eq!((into.len, other_out.len, into.at - out.at), (out.len, out.len, out.len));
    }
    // Each end signals the other by the bit of the pipe's number there.
    let signal = |from: &str, n, to: &str, m| {
        let (cnode, events) = (object(&bundle.spec, from), object(&bundle.spec, to));
        let cap = bundle.spec.caps.iter().find(|cap| (cap.cnode, cap.object) == (cnode, events)).expect("it has one");
        assert_eq!((cap.slot, cap.badge), (u32::from(slot::pipe(n).0), event::pipe(m)), "{from} to {to}");
    };
    signal("vmm-a.cspace", 0, "vmm-b.events", 0);
    signal("vmm-a.cspace", 1, "vmm-c.events", 0);
    signal("vmm-c.cspace", 0, "vmm-a.events", 1);
}

#[test]
fn a_channel_is_memory_that_its_ends_and_their_guests_map() {
    let vm = |name, memory| format!("[[vm]]\nname = \"{name}\"\nmemory = \"{memory} MiB\"\nkernel = \"debian-686\"\n");
    let component = "[[component]]\nname = \"c\"\nimage = \"components\"\n";
    let channels = "[[channel]]\nname = \"first\"\nmembers = [\"c\", \"a\"]\n\
                    dataports = [\"8 KiB\", { size = \"64 KiB\", writer = \"c\" }]\n\
                    [[channel]]\nname = \"second\"\nmembers = [\"a\", \"b\"]\n";
    let bundle = compile(&system(&format!("board = \"bochs\"\n{}{}{component}{channels}", vm("a", 64), vm("b", 66))));
    let [a, b] = ["vmm-a", "vmm-b"].map(|name| config::<config::Vmm>(&bundle, name).channels);
    let c = config::<config::Component>(&bundle, "c").channels;
    let names = |ends: &[config::Channel]| ends.iter().map(|end| end.name.to_string()).collect::<Vec<_>>();
    assert_eq!(
        (names(&a), names(&b), names(&c)),
        (vec!["first".into(), "second".into()], vec!["second".into()], vec!["first".into()])
    );
    assert_eq!((a[0].first, c[0].first, a[1].first, b[0].first), (false, true, true, false));
    // Behind the RAM, at multiples of 64 MiB, each at a multiple of its size.
    let homes = |end: &config::Channel| end.dataports.iter().map(|one| one.gpa).collect::<Vec<_>>();
    assert_eq!(homes(&a[0]), [Some(64 << 20), Some((64 << 20) + 0x1_0000)]);
    assert_eq!(
        (homes(&a[1]), homes(&b[0]), homes(&c[0])),
        (vec![Some((64 << 20) + 0x2_0000)], vec![Some(128 << 20)], vec![None; 2])
    );
    let writable = |end: &config::Channel| end.dataports.iter().map(|one| one.writable).collect::<Vec<_>>();
    assert_eq!((writable(&a[0]), writable(&c[0])), (vec![true, false], vec![true, true]));
    let (mapped, ept) = (object(&bundle.spec, "c+vmm-a.dataport01"), object(&bundle.spec, "vmm-a.ept"));
    let guests = bundle.spec.mappings.iter().find(|mapping| (mapping.frames, mapping.space) == (mapped, ept));
    let guests = guests.expect("the guest maps it");
    assert_eq!((Some(guests.at), guests.rights), (a[0].dataports[1].gpa, Rights::READ));
    let signal = |from: &str, n, to: &str| {
        let (cnode, events) = (object(&bundle.spec, from), object(&bundle.spec, to));
        let cap = bundle.spec.caps.iter().find(|cap| (cap.cnode, cap.object) == (cnode, events)).expect("it has one");
        assert_eq!((cap.slot, cap.badge), (u32::from(slot::channel(n).0), event::CHANNEL), "{from} to {to}");
    };
    signal("c.cspace", 0, "vmm-a.events");
    signal("vmm-a.cspace", 0, "c.events");
    signal("vmm-a.cspace", 1, "vmm-b.events");
    signal("vmm-b.cspace", 0, "vmm-a.events");
}

#[test]
fn a_second_console_is_a_stream_more_and_no_capability() {
    let first = compile(&system(MINIMAL));
    let second = compile(&system(&format!("{MINIMAL}hvc = true\n")));
    let caps = |spec: &Spec| -> Vec<_> {
        let named =
            spec.caps.iter().map(|cap| (spec.name(cap.cnode).to_string(), cap.slot, spec.name(cap.object).to_string()));
        named.collect()
    };
    assert_eq!(caps(&first.spec), caps(&second.spec));
    let serial: serial::Config = config(&second, "serial-server");
    let [.., console, hvc] = serial.rings.as_slice() else { panic!("there are two consoles") };
    assert_eq!((console.name.as_str(), hvc.name.as_str()), ("linux", "linux.hvc0"));
    assert_eq!(console.input.map(|(_, signal)| signal), hvc.input.map(|(_, signal)| signal));
    let vmm: config::Vmm = config(&second, "vmm-linux");
    assert_eq!(vmm.hvc.map(|rings| rings.output.len), Some(hvc.output.len));
    assert_eq!(config::<config::Vmm>(&first, "vmm-linux").hvc, None);
}

#[test]
fn equal_descriptions_give_equal_bytes() {
    assert_eq!(compile(&system(MINIMAL)), compile(&system(MINIMAL)));
}

#[test]
fn the_plan_shows_what_programs_and_images_do_not_change() {
    let system = system(MINIMAL);
    let (plan, full) = (host::plan(&system).expect("it compiles"), compile(&system).spec);
    assert_eq!(host::map::text(&system, &plan), host::map::text(&system, &full));
    assert_eq!(plan.caps.len(), full.caps.len());
}

#[test]
fn segments_become_pages_with_their_bytes_in_place() {
    let bundle = compile(&system(MINIMAL));
    let process = &bundle.spec.processes[0];
    assert_eq!(process.entry, ENTRY);
    for (n, (at, memory, flags, data)) in SEGMENTS.into_iter().enumerate() {
        let frames = object(&bundle.spec, &format!("irq-server.segment{n}"));
        let mapping = bundle.spec.mappings.iter().find(|mapping| mapping.frames == frames).expect("it is mapped");
        assert_eq!((mapping.space, mapping.at), (process.vspace, at & !0xfff));
        assert_eq!((mapping.rights.read, mapping.rights.write), (true, flags & 2 != 0));
        let Some(Kind::Frames { pages, fill: Fill::Copy { offset, len, skip }, .. }) = bundle.spec.kind(frames) else {
            panic!("not a copy")
        };
        assert_eq!(u64::from(*skip), at & 0xfff);
        assert_eq!(u64::from(*pages), ((at & 0xfff) + memory).div_ceil(4096));
        assert_eq!(&bundle.bytes[*offset as usize..][..*len as usize], data);
    }
}

#[test]
fn images_are_mapped_where_fileservers_configuration_says_and_hold_the_file() {
    let system = system(MINIMAL);
    let (bundle, files) = (compile(&system), files(&system));
    let config: file::Config = config(&bundle, "fileserver");
    assert_eq!(
        config.files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
        ["debian-686", "debian-busybox"]
    );
    for file in &config.files {
        let frames = object(&bundle.spec, &format!("fileserver.image.{}", file.name));
        let mapping = bundle.spec.mappings.iter().find(|mapping| mapping.frames == frames).expect("it is mapped");
        assert_eq!((mapping.at, mapping.rights.write), (file.data.at, false));
        let Fill::Bundle { offset } = fill(&bundle.spec, &format!("fileserver.image.{}", file.name)) else {
            panic!("a copy")
        };
        assert_eq!(offset % 4096, 0);
        let image = &files.images[file.name.as_str()];
        assert_eq!(&bundle.bytes[offset as usize..][..file.data.len as usize], &image[..]);
    }
    assert_eq!(config.clients[0].may_open, 0b11);
}

#[test]
fn two_vms_with_one_kernel_share_its_image_and_nothing_else() {
    let two = format!("{MINIMAL}[[vm]]\nname = \"other\"\nmemory = \"64 MiB\"\nkernel = \"debian-686\"\n");
    let bundle = compile(&system(&two));
    let config: file::Config = config(&bundle, "fileserver");
    assert_eq!(config.files.len(), 2);
    assert_eq!(config.clients.iter().map(|client| client.may_open).collect::<Vec<_>>(), [0b11, 0b01]);
    for object in bundle.spec.objects.iter().filter(|object| object.name.contains('+')) {
        assert!(!object.name.starts_with("vmm-linux+vmm-other"), "{}", object.name);
    }
}

#[test]
fn the_vmm_servers_configuration_describes_its_guest() {
    let bundle = compile(&system(MINIMAL));
    let vmm: config::Vmm = config(&bundle, "vmm-linux");
    assert_eq!((vmm.name.as_str(), vmm.ram), ("linux", 128 << 20));
    assert_eq!((vmm.kernel.as_str(), vmm.initrd.as_deref()), ("debian-686", Some("debian-busybox")));
    assert!(vmm.cmdline.starts_with("earlyprintk=ttyS0,115200 console=ttyS0,115200 "));
}

#[test]
fn rings_are_where_both_sides_are_told() {
    let bundle = compile(&system(MINIMAL));
    let (serial, vmm): (serial::Config, config::Vmm) = (config(&bundle, "serial-server"), config(&bundle, "vmm-linux"));
    let console = serial.rings.last().expect("there is one");
    let (input, _) = console.input.expect("it is a console");
    for (what, here, there) in [("console-out", vmm.console_out, console.output), ("console-in", vmm.console_in, input)]
    {
        let frames = object(&bundle.spec, &format!("vmm-linux+serial-server.{what}"));
        let mapped = bundle.spec.mappings.iter().filter(|mapping| mapping.frames == frames).map(|mapping| mapping.at);
        assert_eq!(mapped.collect::<Vec<_>>(), [here.at, there.at]);
        assert_eq!(here.len, there.len);
    }
}

#[test]
fn the_console_is_where_the_description_has_it_for_all_who_use_it() {
    const COM: (bool, bool) = (false, false);
    const PCI: (bool, bool) = (true, true);
    for (console, port, pin, trigger, divisor) in [
        ("", 0x3f8, 4, COM, 1),
        ("console = { port = \"COM2\" }\n", 0x2f8, 3, COM, 1),
        ("console = { port = \"COM3\", baud = 9600 }\n", 0x3e8, 4, COM, 12),
        ("console = { port = 0x2e8, irq = 10, baud = 57600 }\n", 0x2e8, 10, COM, 2),
        ("console = { port = 0xe000, irq = 17 }\n", 0xe000, 17, PCI, 1),
    ] {
        // Functions of unknown ports: pci-server may ask for those that nobody has.
        let text = MINIMAL.replace("\"bochs\"", "\"pc\"").replacen('\n', &format!("\n{console}"), 1);
        let bundle =
            compile(&system(&format!("{text}pci_devices = [{{ address = \"00:03.0\", interrupts = \"none\" }}]\n")));
        let (serial, irq): (serial::Config, irq::Config) =
            (config(&bundle, "serial-server"), config(&bundle, "irq-server"));
        let line = (serial.uart.first, serial.uart.last, serial.baud);
        assert_eq!(line, (port, port + 7, 115_200 / u32::from(divisor)), "{console}");
        let uart = irq.lines[usize::from(serial.line)].route.expect("it is known");
        assert_eq!((uart.ioapic, uart.pin, (uart.level, uart.active_low)), (0, pin, trigger), "{console}");
        let own = bundle.spec.console.as_ref().expect("there is one");
        assert_eq!((own.port, own.divisor), (port, divisor), "{console}");
        let holder = bundle.spec.processes.iter().find(|process| process.name == "serial-server").expect("it runs");
        let ports = |cnode| bundle.spec.caps.iter().filter(move |cap| cap.cnode == cnode).map(|cap| cap.object);
        let ports: Vec<_> =
            ports(holder.cspace).filter(|id| matches!(bundle.spec.kind(*id), Some(Kind::IoPorts { .. }))).collect();
        assert_eq!(ports, [own.ports], "{console}");
        assert_eq!(bundle.spec.kind(own.ports), Some(&Kind::IoPorts { first: port, last: port + 7 }), "{console}");
    }
}

#[test]
fn lines_belong_to_the_clients_that_irq_server_knows_them_by() {
    let bundle = compile(&system(MINIMAL));
    let irq: irq::Config = config(&bundle, "irq-server");
    let lines: Vec<_> = irq.lines.iter().map(|line| (line.name.as_str(), line.owner, line.route)).collect();
    let edge = |pin| Some(irq::Route { ioapic: 0, pin, level: false, active_low: false });
    assert_eq!(lines, [("timer", 0, edge(2)), ("uart", 1, edge(4))]);
    let (timer, serial): (timer::Config, serial::Config) =
        (config(&bundle, "timer-server"), config(&bundle, "serial-server"));
    assert_eq!((timer.line, serial.line), (0, 1));
}

#[test]
fn a_missing_program_or_image_is_named() {
    let system = system(MINIMAL);
    let mut files = files(&system);
    files.images.remove("debian-busybox");
    let error = host::compile(&system, &files).expect_err("an image is missing");
    assert!(matches!(error, CompileError::NoImage(name) if name == "debian-busybox"));
    files.elfs.remove("fileserver");
    files.images.insert("debian-busybox".into(), vec![1]);
    let error = host::compile(&system, &files).expect_err("a program is missing");
    assert!(matches!(error, CompileError::NoProgram(name) if name == "fileserver"));
}

#[test]
fn a_program_that_cannot_be_loaded_is_named_with_the_reason() {
    let system = system(MINIMAL);
    let mut files = files(&system);
    files.elfs.insert("fileserver".into(), b"#!/bin/sh".to_vec());
    let error = host::compile(&system, &files).expect_err("it is no ELF");
    assert_eq!(error.to_string(), "the program `fileserver` cannot be loaded: it is not a whole 64-bit ELF file");
}

#[test]
fn as_many_guests_as_there_is_room_for_compile_to_a_lawful_specification() {
    let vms = MAX_GUESTS - 1;
    let text = "[[vm]]\nname = \"a-name-as-long-as-any\"\nmemory = \"2 MiB\"\nkernel = \"debian-686\"\n";
    let part = component(0, &["irq", "timer", "serial", "pci", "file"], 50);
    let system = system(&format!("board = \"bochs\"\n{text}count = {vms}\n{part}"));
    let bundle = compile(&system);
    assert_eq!(laws::breaches(&bundle.spec), vec![]);
    let console: serial::Config = config(&bundle, "serial-server");
    assert_eq!(console.rings.len(), bundle.spec.processes.len() - 1 + vms);
}

/// A VM of a random description.
fn vm(n: usize, large_pages: u64, initrd: bool, guest_decompresses: bool) -> String {
    let initrd = if initrd { "initrd = \"debian-busybox\"\n" } else { "" };
    let decompress = if guest_decompresses { "decompress = \"guest\"\n" } else { "" };
    let memory = 2 * large_pages;
    format!("[[vm]]\nname = \"vm{n}\"\nmemory = \"{memory} MiB\"\nkernel = \"debian-686\"\n{initrd}{decompress}")
}

fn component(n: usize, services: &[&str], priority: u8) -> String {
    let words: Vec<String> = services.iter().map(|service| format!("\"{service}\"")).collect();
    let files = if services.contains(&"file") { "files = [\"debian-busybox\"]\n" } else { "" };
    let head = format!("[[component]]\nname = \"part{n}\"\nimage = \"components\"\npriority = {priority}\n");
    format!("{head}services = [{}]\n{files}", words.join(", "))
}

fn descriptions() -> impl Strategy<Value = String> {
    let vms = prop::collection::vec((1u64..192, any::<bool>(), any::<bool>()), 1..5);
    let services = prop::sample::subsequence(vec!["irq", "timer", "serial", "pci", "file"], 0..=5);
    let components = prop::collection::vec((services, 1u8..100), 0..4);
    (vms, components).prop_map(|(vms, components)| {
        let vms = vms.iter().enumerate().map(|(n, &(pages, initrd, guest))| vm(n, pages, initrd, guest));
        let components =
            components.iter().enumerate().map(|(n, (services, priority))| component(n, services, *priority));
        format!("board = \"bochs\"\n{}", vms.chain(components).collect::<String>())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_right_description_compiles_to_a_lawful_specification(text in descriptions()) {
        let system = system(&text);
        let bundle = compile(&system);
        prop_assert_eq!(laws::breaches(&bundle.spec), vec![]);
        prop_assert_eq!(bundle.spec.processes.len(), system.parts().len());
        for object in &bundle.spec.objects {
            if let Kind::Frames { fill: Fill::Copy { offset, len, .. }, .. } = object.kind {
                prop_assert!(offset + len <= bundle.bytes.len() as u64);
            }
        }
        prop_assert!(host::draw::svg(&system, &bundle.spec).ends_with("</svg>\n"));
    }
}
