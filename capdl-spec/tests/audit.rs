//! The audit: what flows in small systems, as a person derives it from their descriptions, and how it depends on single
//! capabilities and mappings of the compiled specification.

mod fixture;

use capdl_spec::{
    audit::{Audit, audit},
    compile::bundle::Bundle,
    host,
    spec::{CapEntry, Fill, Id, Kind, Mapping, Object, PageSize, Rights},
};
use fixture::{object, system};

const BOCHS: &str = "board = \"bochs\"\n";
const PC: &str = "board = \"pc\"\n";

fn vm(name: &str, rest: &str) -> String {
    format!("[[vm]]\nname = \"{name}\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n{rest}\n")
}

fn component(name: &str, rest: &str) -> String {
    format!("[[component]]\nname = \"{name}\"\nimage = \"components\"\n{rest}\n")
}

fn network(name: &str, members: &str) -> String {
    format!("[[network]]\nname = \"{name}\"\nmembers = [{members}]\n")
}

fn compiled(text: &str) -> Bundle {
    host::planned(&system(text)).expect("it compiles")
}

/// The rows of the matrix without names, and the lines of the flows.
fn said(audit: &Audit) -> (Vec<String>, Vec<String>) {
    let text = audit.text();
    let rows = text.lines().skip(3).take_while(|line| !line.is_empty());
    let letters = |row: &str| row.split_whitespace().skip(2).collect::<String>();
    let flows = text.lines().skip_while(|line| *line != "Direct").take_while(|line| !line.starts_with("If one"));
    let headings = ["Direct", "By the function", "Passed on"];
    let flows = flows.filter(|line| !line.is_empty() && !headings.iter().any(|heading| line.starts_with(heading)));
    let flows = flows.map(|line| line.trim().to_string()).filter(|line| line != "nothing");
    (rows.map(letters).collect(), flows.collect())
}

#[track_caller]
fn flows(text: &str, rows: &[&str], lines: &[&str]) {
    let (matrix, flows) = said(&audit(&compiled(text)).expect("it can be read"));
    assert_eq!(
        (matrix, flows),
        (rows.iter().map(|row| row.to_string()).collect(), lines.iter().map(|line| line.to_string()).collect())
    );
}

/// A network that `a` and `b` are in, and `c` is not.
fn lan() -> String {
    [BOCHS, &vm("a", ""), &vm("b", ""), &vm("c", ""), &network("lan", "\"a\", \"b\"")].concat()
}

#[test]
fn two_vms_have_servers_in_common() {
    flows(&[BOCHS, &vm("a", ""), &vm("b", "")].concat(), &["-s", "s-"], &[]);
}

#[test]
fn members_of_a_network() {
    flows(&lan(), &["-Fs", "F-s", "ss-"], &["a ↔ b: network lan (net-server)"]);
}

#[test]
fn a_vm_in_two_networks_may_pass_frames_on() {
    let networks = [network("one", "\"a\", \"b\""), network("two", "\"b\", \"c\"")].concat();
    flows(
        &[BOCHS, &vm("a", ""), &vm("b", ""), &vm("c", ""), &networks].concat(),
        &["-FR", "F-F", "RF-"],
        &[
            "a ↔ b: network one (net-server)",
            "b ↔ c: network two (net-server)",
            "a → c: network one (net-server) → b → network two (net-server)",
            "c → a: network two (net-server) → b → network one (net-server)",
        ],
    );
}

#[test]
fn members_of_a_network_of_sockets() {
    let vsock = "[[vsock]]\nname = \"streams\"\nmembers = [\"a\", \"c\"]\n";
    flows(
        &[BOCHS, &vm("a", ""), &vm("b", ""), &component("c", "services = [\"timer\"]"), vsock].concat(),
        &["-sF", "s-s", "Fs-"],
        &["a ↔ c: sockets streams (net-server)"],
    );
}

/// A driver sees all of its disk, and is trusted to keep the sectors of its clients apart. It has no DMA here.
fn disk(a: &str, b: &str) -> String {
    let driver = component("ide", "drives = \"main\"\npci_devices = [\"00:01.1\"]");
    let disks = |part| format!("disks = [{{ name = \"main\", {part} }}]");
    [BOCHS, &vm("a", &disks(a)), &vm("b", &disks(b)), &driver].concat()
}

#[test]
fn partitions_of_one_disk() {
    let lines = ["ide ↔ a, b: disk main (block-server)"];
    flows(&disk("partition = 1", "partition = 2"), &["-sF", "s-F", "FF-"], &lines);
    flows(&disk("read_only = true", "read_only = true"), &["-sF", "s-F", "FF-"], &lines);
}

#[test]
fn a_bus_master_without_an_iommu_reaches_everybody() {
    let card = "pci_devices = [{ address = \"00:03.0\", dma = \"trusted\" }]";
    flows(
        &[BOCHS, &vm("a", card), &vm("b", ""), &vm("c", "")].concat(),
        &["-DD", "D-R", "DR-"],
        &[
            "a ↔ b, c: all memory, by DMA of 00:03.0",
            "b ↔ c: all memory, by DMA of 00:03.0 → a → all memory, by DMA of 00:03.0",
        ],
    );
}

#[test]
fn devices_whose_interrupt_lines_are_found_at_boot() {
    let device = |address| format!("pci_devices = [\"{address}\"]");
    flows(
        &[BOCHS, &vm("a", &device("00:03.0")), &vm("b", &device("00:04.0")), &vm("c", "")].concat(),
        &["-fs", "f-s", "ss-"],
        &["a ↔ b: interrupt line, perhaps one: where each arrives is found at boot (irq-server)"],
    );
}

/// A VM with a function that is no bus master, and an interrupt line at this input.
fn pinned(name: &str, address: &str, source: u8) -> String {
    let device = format!("pci_devices = [{{ address = \"{address}\", irq = \"card\" }}]");
    let irq = format!("irqs = [{{ name = \"card\", source = {source}, level_trig = 1, active_low = 1 }}]");
    vm(name, &format!("{device}\n{irq}"))
}

/// The same, but the function is bus master behind the IOMMU.
fn confined(name: &str, address: &str, source: u8) -> String {
    pinned(name, address, source) + "pci_devices_iospace = 1\n"
}

#[test]
fn an_iommu_and_lines_of_their_own_keep_devices_apart_but_for_interrupts() {
    flows(
        &[PC, &confined("a", "00:19.0", 17), &confined("b", "00:1a.0", 18)].concat(),
        &["-d", "d-"],
        &["a → b: interrupts, by DMA of 00:19.0", "b → a: interrupts, by DMA of 00:1a.0"],
    );
    // To those who have an interrupt, from those who have a bus master.
    flows(
        &[PC, &confined("a", "00:19.0", 17), &pinned("b", "00:1a.0", 18), &vm("c", "")].concat(),
        &["-ds", "s-s", "ss-"],
        &["a → b: interrupts, by DMA of 00:19.0"],
    );
}

#[test]
fn an_interrupt_line_of_two() {
    flows(
        &[PC, &pinned("a", "00:19.0", 17), &pinned("b", "00:1a.0", 17)].concat(),
        &["-f", "f-"],
        &["a ↔ b: interrupt line, I/O APIC 0 input 17 (irq-server)"],
    );
}

#[test]
fn functions_that_reach_each_other_without_passing_the_iommu() {
    let trusted =
        |name, address, source| confined(name, address, source).replacen("irq =", "group = \"trusted\", irq =", 1);
    flows(
        &[PC, &trusted("a", "00:1a.0", 17), &trusted("b", "00:1a.1", 18)].concat(),
        &["-D", "D-"],
        &[
            "a ↔ b: PCI 00:1a.0 and 00:1a.1, functions of one device",
            "a → b: interrupts, by DMA of 00:1a.0",
            "b → a: interrupts, by DMA of 00:1a.1",
        ],
    );
    flows(
        &[PC, &confined("a", "05:00.0", 17), &confined("b", "05:01.0", 18)].concat(),
        &["-D", "D-"],
        &[
            "a ↔ b: PCI 05:00.0 and 05:01.0, functions of one bus",
            "a → b: interrupts, by DMA of 05:00.0",
            "b → a: interrupts, by DMA of 05:01.0",
        ],
    );
    flows(
        &[PC, &trusted("a", "05:00.0", 17), &confined("b", "06:00.0", 18)].concat(),
        &["-D", "D-"],
        &[
            "a ↔ b: PCI 05:00.0 and 06:00.0, functions of what may be one group",
            "a → b: interrupts, by DMA of 05:00.0",
            "b → a: interrupts, by DMA of 06:00.0",
        ],
    );
}

#[test]
fn an_uplink_is_a_member_of_its_network_alone() {
    let uplink = "uplink = \"lan\"\npci_devices = [{ address = \"00:19.0\", access = \"mediated\", irq = \"card\" }]\n\
                  irqs = [{ name = \"card\", source = 17, level_trig = 1, active_low = 1 }]";
    flows(
        &[PC, &vm("a", ""), &vm("b", ""), &network("lan", "\"a\""), &component("nic", uplink)].concat(),
        &["-sF", "s-s", "Fs-"],
        &["a ↔ nic: network lan (net-server)"],
    );
}

#[test]
fn ports_of_a_dma_controller_reach_everybody() {
    let ports = "services = [\"pci\"]\nioports = [{ start = 0x0, end = 0x10, name = \"8237\", trusted = true }]";
    flows(
        &[BOCHS, &vm("a", ""), &component("old", ports)].concat(),
        &["-D", "D-"],
        &["a ↔ old: all memory, by trusted ports 0x0-0xf"],
    );
}

/// The flows of a system with something changed in its specification.
fn changed(text: &str, change: impl FnOnce(&mut Bundle)) -> Vec<String> {
    let mut bundle = compiled(text);
    change(&mut bundle);
    said(&audit(&bundle).expect("it can be read")).1
}

fn unmap(bundle: &mut Bundle, space: &str, frames: &str) {
    let (space, frames) = (object(&bundle.spec, space), object(&bundle.spec, frames));
    let before = bundle.spec.mappings.len();
    bundle.spec.mappings.retain(|mapping| (mapping.space, mapping.frames) != (space, frames));
    assert_eq!(bundle.spec.mappings.len() + 1, before);
}

fn take(bundle: &mut Bundle, holder: &str, of: &str) {
    let (cnode, object) = (object(&bundle.spec, &format!("{holder}.cspace")), object(&bundle.spec, of));
    let before = bundle.spec.caps.len();
    bundle.spec.caps.retain(|cap| (cap.cnode, cap.object) != (cnode, object));
    assert!(bundle.spec.caps.len() < before);
}

fn give(bundle: &mut Bundle, holder: &str, object: Id, rights: Rights) {
    let cnode = fixture::object(&bundle.spec, &format!("{holder}.cspace"));
    bundle.spec.caps.push(CapEntry { cnode, slot: 200, object, rights, badge: 1 });
}

#[test]
fn without_a_mapping_of_its_ring_a_member_gives_or_gets_nothing() {
    let without = |space, ring| changed(&lan(), |bundle| unmap(bundle, space, ring));
    let b_to_a = ["b → a: network lan (net-server)"];
    assert_eq!(without("vmm-a.vspace", "vmm-a+net-server.net0-out"), b_to_a);
    assert_eq!(without("net-server.vspace", "vmm-a+net-server.net0-out"), b_to_a);
    assert_eq!(without("vmm-b.vspace", "vmm-b+net-server.net0-in"), b_to_a);
    assert_eq!(without("vmm-a.vspace", "vmm-a+net-server.net0-in"), ["a → b: network lan (net-server)"]);
}

#[test]
fn a_ring_that_may_only_be_read_gives_nothing() {
    let flows = changed(&lan(), |bundle| {
        let (space, ring) = (object(&bundle.spec, "vmm-a.vspace"), object(&bundle.spec, "vmm-a+net-server.net0-out"));
        let mut mappings = bundle.spec.mappings.iter_mut();
        let mapping = mappings.find(|mapping| (mapping.space, mapping.frames) == (space, ring)).expect("it is there");
        mapping.rights = Rights::READ;
    });
    assert_eq!(flows, ["b → a: network lan (net-server)"]);
}

#[test]
fn without_its_rings_a_client_has_no_disk() {
    let text = disk("partition = 1", "partition = 2");
    let without = |space, ring| changed(&text, |bundle| unmap(bundle, space, ring));
    assert_eq!(
        without("vmm-a.vspace", "vmm-a+block-server.disk0-out"),
        ["ide ↔ b: disk main (block-server)", "ide → a: disk main (block-server)"]
    );
    assert_eq!(without("ide.vspace", "ide+block-server.disk0-in"), ["ide → a, b: disk main (block-server)"]);
}

#[test]
fn without_pci_server_a_function_is_nobodys() {
    let card = "pci_devices = [{ address = \"00:03.0\", dma = \"trusted\" }]";
    let text = [BOCHS, &vm("a", card), &vm("b", "")].concat();
    assert_eq!(changed(&text, |bundle| take(bundle, "vmm-a", "pci-server.service")), [""; 0]);
}

#[test]
fn without_irq_servers_signal_a_line_tells_nothing() {
    let text = [PC, &pinned("a", "00:19.0", 17), &pinned("b", "00:1a.0", 17)].concat();
    let flows = changed(&text, |bundle| take(bundle, "irq-server", "vmm-b.events"));
    assert_eq!(flows, ["b → a: interrupt line, I/O APIC 0 input 17 (irq-server)"]);
    let text = [PC, &confined("a", "00:19.0", 17), &confined("b", "00:1a.0", 18)].concat();
    let flows = changed(&text, |bundle| take(bundle, "irq-server", "vmm-b.events"));
    assert_eq!(flows, ["b → a: interrupts, by DMA of 00:1a.0"]);
}

/// No capability and no mapping keeps anybody from anything: without any one of them, no flow is new.
#[test]
fn whatever_is_removed_no_flow_is_added() {
    let text = [&lan(), "[[vsock]]\nname = \"streams\"\nmembers = [\"a\", \"c\"]\n"].concat();
    let bundle = compiled(&text);
    let all = |bundle: &Bundle| -> Vec<(usize, usize, bool)> {
        let audit = audit(bundle).expect("it can be read");
        let open = audit.pairs.iter().map(|pair| (pair.from, pair.to, pair.path.is_some()));
        open.filter(|(.., open)| *open).collect()
    };
    let before = all(&bundle);
    // A server's configuration is no wiring: without it, nothing can be said.
    let config = |bundle: &Bundle, n: usize| bundle.spec.name(bundle.spec.mappings[n].frames).ends_with(".config");
    for n in (0..bundle.spec.mappings.len()).filter(|&n| !config(&bundle, n)) {
        let mut less = bundle.clone();
        less.spec.mappings.remove(n);
        assert!(all(&less).iter().all(|pair| before.contains(pair)), "mapping {n}");
    }
    for n in 0..bundle.spec.caps.len() {
        let mut less = bundle.clone();
        less.spec.caps.remove(n);
        assert!(all(&less).iter().all(|pair| before.contains(pair)), "capability {n}");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_no_configuration_without_flows() {
    let mut bundle = compiled(&lan());
    unmap(&mut bundle, "net-server.vspace", "net-server.config");
    assert!(audit(&bundle).expect_err("it is missing").to_string().contains("configuration of `net-server`"));
}

/// Two VMs, alone.
fn two() -> String {
    [BOCHS, &vm("a", ""), &vm("b", ""), &vm("c", "")].concat()
}

/// What a channel between two processes is made of: the audit knows it by its mappings and notifications.
#[test]
fn memory_flows_from_who_writes_to_who_reads() {
    let share = |a: Rights, b: Rights| {
        changed(&two(), |bundle| {
            let frames = Id(bundle.spec.objects.len() as u32);
            let kind = Kind::Frames { size: PageSize::Small, pages: 1, fill: Fill::Zero };
            bundle.spec.objects.push(Object { name: "vmm-a+vmm-b.dataport".into(), kind });
            for (name, rights) in [("vmm-a.vspace", a), ("vmm-b.ept", b)] {
                let space = object(&bundle.spec, name);
                bundle.spec.mappings.push(Mapping {
                    space,
                    frames,
                    at: 1 << 33,
                    rights,
                    cached: true,
                    pages: PageSize::Small,
                });
            }
        })
    };
    assert_eq!(share(Rights::READ_WRITE, Rights::READ), ["a → b: memory dataport"]);
    assert_eq!(share(Rights::READ_WRITE, Rights::READ_WRITE), ["a ↔ b: memory dataport"]);
    assert_eq!(share(Rights::READ, Rights::READ), [""; 0]);
}

#[test]
fn two_objects_at_one_place_are_one_memory() {
    let flows = changed(&two(), |bundle| {
        for name in ["vmm-a.guest-ram", "vmm-b.guest-ram"] {
            let id = object(&bundle.spec, name);
            let Kind::Frames { fill, .. } = &mut bundle.spec.objects[id.0 as usize].kind else { panic!("frames") };
            *fill = Fill::Ram { paddr: if name.contains('a') { 0x200_0000 } else { 0x220_0000 } };
        }
    });
    assert_eq!(flows, ["a ↔ b: memory guest-ram"]);
}

#[test]
fn a_signal_flows_one_way_and_carries_no_data() {
    let mut bundle = compiled(&two());
    let events = object(&bundle.spec, "vmm-b.events");
    give(&mut bundle, "vmm-a", events, Rights::WRITE);
    let (rows, flows) = said(&audit(&bundle).expect("it can be read"));
    assert_eq!((rows[0].as_str(), rows[1].as_str()), ("-ds", "s-s"));
    assert_eq!(flows, ["a → b: signals"]);
}

/// Who receives from somebody with the grant right may have all that this one holds; here, the right to signal.
#[test]
fn capabilities_that_may_be_granted_are_held() {
    let through = |rights: Rights| {
        changed(&two(), |bundle| {
            let endpoint = Id(bundle.spec.objects.len() as u32);
            bundle.spec.objects.push(Object { name: "a-to-b".into(), kind: Kind::Endpoint });
            let events = object(&bundle.spec, "vmm-c.events");
            give(bundle, "vmm-a", events, Rights::WRITE);
            give(bundle, "vmm-a", endpoint, rights);
            give(bundle, "vmm-b", endpoint, Rights::READ);
        })
    };
    assert_eq!(through(Rights::WRITE), ["a → b: calls", "a → c: signals"]);
    let granted = through(Rights::CALL);
    assert!(granted.contains(&"a, b → c: signals".to_string()), "{granted:?}");
}

#[test]
fn who_holds_anothers_cnode_controls_it() {
    let flows = changed(&two(), |bundle| {
        let cspace = object(&bundle.spec, "vmm-b.cspace");
        give(bundle, "vmm-a", cspace, Rights::ALL);
    });
    assert!(flows.contains(&"a ↔ b: control of vmm-b.cspace".to_string()), "{flows:?}");
}

fn verdict(text: &str) -> String {
    let source = host::Source { path: "x.toml".into(), text: text.into() };
    host::parse(source).map_or_else(|mistakes| mistakes.plain(), |_| String::new())
}

fn never(from: &str, to: &str, rest: &str) -> String {
    format!("[[policy.never]]\nfrom = \"{from}\"\nto = \"{to}\"\n{rest}\n")
}

#[test]
fn a_policy_is_broken_by_what_flows_and_kept_by_what_does_not() {
    for (text, from, to, kept) in [
        (lan(), "a", "b", false),
        (lan(), "a", "c", true),
        (two(), "a", "b", true),
        (disk("partition = 1", "partition = 2"), "a", "b", true),
        (disk("partition = 1", "partition = 2"), "a", "ide", false),
    ] {
        let said = verdict(&[&text, never(from, to, "").as_str()].concat());
        assert_eq!(said.is_empty(), kept, "{from} to {to}: {said}");
    }
}

/// A violation only through a shared server is found when the description asks for it, with the path.
#[test]
fn a_policy_may_distrust_servers_and_drivers() {
    let with = |text: &str, servers: &str| {
        verdict(&[text, &never("a", "b", &format!("even_if_taken_over = [{servers}]"))].concat())
    };
    let said = with(&two(), "\"fileserver\"");
    assert!(said.contains("`a` gives information to `b`: a → memory files → fileserver → memory files → b"), "{said}");
    let said = with(&disk("partition = 1", "partition = 2"), "\"ide\"");
    assert!(said.contains("a → disk main (block-server) → ide → disk main (block-server) → b"), "{said}");
    // irq-server has no client that is a VM here, and both are no clients of net-server.
    assert_eq!(with(&two(), "\"irq-server\""), "");
    let text = [BOCHS, &vm("a", ""), &vm("b", ""), &vm("c", ""), &network("lan", "\"a\", \"c\"")].concat();
    assert_eq!(with(&text, "\"net-server\""), "");
}

#[test]
fn a_policy_may_trust_who_is_in_between() {
    let networks = [network("one", "\"a\", \"b\""), network("two", "\"b\", \"c\"")].concat();
    let text = [BOCHS, &vm("a", ""), &vm("b", ""), &vm("c", ""), &networks].concat();
    let said = verdict(&[&text, never("a", "c", "").as_str()].concat());
    assert!(said.contains("a → network one (net-server) → b → network two (net-server) → c"), "{said}");
    assert_eq!(verdict(&[&text, never("a", "c", "except_through = [\"b\"]").as_str()].concat()), "");
}

#[test]
fn a_policy_may_allow_signals() {
    for (text, flow) in [
        ([PC, &pinned("a", "00:19.0", 17), &pinned("b", "00:1a.0", 17)].concat(), "interrupt line"),
        ([PC, &confined("a", "00:19.0", 17), &pinned("b", "00:1a.0", 18)].concat(), "interrupts, by DMA of 00:19.0"),
    ] {
        assert!(verdict(&[&text, never("a", "b", "").as_str()].concat()).contains(flow));
        assert_eq!(verdict(&[&text, never("a", "b", "except_signals = true").as_str()].concat()), "");
    }
}

#[test]
fn the_text_fits_100_columns_and_the_drawing_is_one() {
    let many = [BOCHS, &vm("web", "count = 40")].concat();
    for text in [lan(), disk("partition = 1", "partition = 2"), many] {
        let audit = audit(&compiled(&text)).expect("it can be read");
        let rows =
            audit.text().lines().filter(|line| line.chars().count() > 100).map(str::to_string).collect::<Vec<_>>();
        assert!(text.contains("count") || rows.is_empty(), "{rows:#?}");
        assert!(audit.svg().starts_with("<svg ") && audit.svg().ends_with("</svg>\n"));
    }
}
