//! Nothing can be added to a specification, nor put in another's place, without a law that is broken: every object is given
//! to every process, as cleverly as can be, all frames are mapped in every space, and every field of a process names every
//! object. And the systems that there are break none.

mod fixture;

use std::path::{Path, PathBuf};

use capdl_spec::{
    host::{self, Source},
    laws,
    spec::{CapEntry, DeviceRange, Fill, Id, Kind, Mapping, Object, PageSize, Process, Rights, Spec},
};
use fixture::{object, system};
use layout::{Bdf, FAULT_BIT, client_badge, event, slot, window};
use proto::{file, irq, pci, serial, timer};

/// Two guests with functions, one of them behind an IOMMU, a driver, a process that reads files.
const DEVICES: &str = "board = \"pc\"\n\
    [[vm]]\nname = \"a\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\npci_devices = [\"00:1f.2\"]\npci_devices_iospace = 1\n\
    [[vm]]\nname = \"b\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n\
    pci_devices = [{ address = \"00:19.0\", dma = \"trusted\" }]\n\
    [[component]]\nname = \"driver\"\nimage = \"components\"\nservices = [\"timer\"]\n\
    pci_devices = [{ address = \"00:1a.0\", dma = \"trusted\" }]\ndma_memory = \"64 KiB\"\n\
    [[component]]\nname = \"reader\"\nimage = \"components\"\nservices = [\"file\"]\nfiles = [\"../Cargo.toml\"]\n";
/// Two drivers of disks, and a guest that has one.
const DISKS: &str = "board = \"bochs\"\n\
    [[vm]]\nname = \"a\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\ndisks = [{ name = \"main\" }]\n\
    [[component]]\nname = \"first\"\nimage = \"components\"\ndrives = \"main\"\n\
    [[component]]\nname = \"second\"\nimage = \"components\"\ndrives = \"other\"\n";
/// Two guests and a component at a switch, two of them with sockets.
const NETWORK: &str = "board = \"bochs\"\n\
    [[vm]]\nname = \"a\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n\
    [[vm]]\nname = \"b\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n\
    [[component]]\nname = \"c\"\nimage = \"components\"\n\
    [[network]]\nname = \"lan\"\nmembers = [\"a\", \"b\", \"c\"]\n\
    [[vsock]]\nname = \"streams\"\nmembers = [\"a\", \"b\"]\n";
/// A guest with two managers, another with one of them, and a component that is none.
const MANAGED: &str = "board = \"bochs\"\n\
    [[vm]]\nname = \"a\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\nmanagers = [\"console\", \"dog\"]\n\
    [[vm]]\nname = \"b\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\nmanagers = [\"console\"]\n\
    [[component]]\nname = \"dog\"\nimage = \"components\"\npriority = 110\nservices = [\"timer\"]\n\
    [[component]]\nname = \"cat\"\nimage = \"components\"\npriority = 110\nservices = [\"timer\"]\n";
/// Three without, of which one has debug ports; two have a pipe and a channel between them, and one a channel to a component.
const PLAIN: &str = "board = \"bochs\"\n\
    [[vm]]\nname = \"a\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\ndirect_ports = [0x402]\n\
    [[vm]]\nname = \"b\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\nhvc = true\n\
    [[vm]]\nname = \"c\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n\
    [[pipe]]\nname = \"bytes\"\nmembers = [\"a\", \"b\"]\n\
    [[component]]\nname = \"d\"\nimage = \"components\"\n\
    [[component]]\nname = \"e\"\nimage = \"components\"\n\
    [[channel]]\nname = \"strings\"\nmembers = [\"a\", \"d\"]\n\
    dataports = [{ size = \"4 KiB\", writer = \"d\" }]\n\
    [[channel]]\nname = \"both\"\nmembers = [\"b\", \"a\"]\n";

fn lawful(text: &str) -> Spec {
    let spec = host::plan(&system(text)).expect("it compiles");
    assert_eq!(laws::breaches(&spec), vec![]);
    spec
}

/// All objects; but of paging structures, which are many and alike, the first and the last of each owner.
fn ids(spec: &Spec) -> Vec<Id> {
    let is_paging = |object: &Object| matches!(object.kind, Kind::Paging { .. } | Kind::SparePaging { .. });
    let owner = |object: &Object| (object.name.split('.').next().unwrap_or_default().to_string(), is_paging(object));
    let all: Vec<_> = spec.objects.iter().map(owner).collect();
    let alike = |n: usize, m: Option<usize>| m.and_then(|m| all.get(m)).is_some_and(|other| *other == all[n]);
    let kept = (0..all.len()).filter(|&n| !(all[n].1 && alike(n, n.checked_sub(1)) && alike(n, Some(n + 1))));
    kept.map(|n| Id(n as u32)).collect()
}

/// Asserts that a changed specification breaks a law.
#[track_caller]
fn broken(changed: &Spec, what: impl FnOnce() -> String) {
    assert!(laws::first_breach(changed).is_some(), "no law is broken: {}", what());
}

const RIGHTS: [Rights; 8] = {
    let mut all = [Rights { read: false, write: false, grant: false }; 8];
    let mut n = 0;
    while n < 8 {
        all[n] = Rights { read: n & 1 != 0, write: n & 2 != 0, grant: n & 4 != 0 };
        n += 1;
    }
    all
};

/// A way to hold an object of some kind: where, with which rights and badge. Badges that nobody has yet are among them, and
/// slots that mean nothing.
fn ways(spec: &Spec, object: Id) -> Vec<(u32, Rights, u64)> {
    let next = client_badge(spec.caps.iter().filter(|cap| cap.object == object && cap.rights.write).count() as u64);
    let receive_and_grant = Rights { grant: true, ..Rights::READ };
    let plain = |slots: &[layout::Slot]| slots.iter().map(|slot| (*slot, Rights::ALL, 0)).collect();
    let ways: Vec<(layout::Slot, Rights, u64)> = match spec.kind(object).expect("it is there") {
        Kind::Endpoint => {
            let clients = [pci::SERVICE, irq::SERVICE, serial::SERVICE, timer::SERVICE, file::SERVICE]
                .map(|service| service.slot);
            let clients = clients
                .into_iter()
                .chain([slot::SERVICE])
                .flat_map(|slot| [0, next].map(|badge| (slot, Rights::CALL, badge)));
            let servers = [Rights::READ, receive_and_grant, Rights::ALL].map(|rights| (slot::SERVICE, rights, 0));
            let roots = [(slot::SUPERVISOR, Rights::WRITE, 1), (slot::FAULT, Rights::CALL, 1 | FAULT_BIT)];
            clients.chain(servers).chain(roots).collect()
        }
        Kind::Notification => {
            let bits =
                [event::TIMER, event::CONSOLE, event::INTERRUPT, event::line(0), event::line(15), event::ring(23)];
            let bits = bits.into_iter().chain([event::pipe(0), event::pipe(1)]);
            let bits = bits.chain([event::CHANNEL, event::MANAGED]);
            let slots = [slot::LOG, slot::CONSOLE, slot::SIGNALS, slot::SIGNALS.plus(60), slot::pipe(0), slot::pipe(3)];
            let slots = slots.into_iter().chain([
                slot::channel(1),
                slot::channel(7),
                slot::managed(0),
                slot::managed(1),
                slot::manager(0),
            ]);
            let signals = slots.flat_map(|slot| bits.clone().map(move |bit| (slot, Rights::WRITE, bit)));
            signals.chain([(slot::EVENTS, Rights::READ, 0), (slot::SIGNALS.plus(61), Rights::READ, 0)]).collect()
        }
        Kind::CNode { .. } => plain(&[slot::SCRATCH]),
        Kind::Vcpu => plain(&[slot::vcpu(0)]),
        Kind::Ept => plain(&[slot::EPT]),
        Kind::SparePaging { .. } => plain(&[slot::PAGING, slot::PAGING.plus(127)]),
        Kind::IoPorts { .. } => plain(&[slot::PORTS, slot::PORTS.plus(14)]),
        Kind::IrqControl => plain(&[slot::IRQ_CONTROL]),
        _ => plain(&[slot::vcpu(0)]),
    };
    let meant = ways.into_iter().map(|(slot, rights, badge)| (u32::from(slot.0), rights, badge));
    meant.chain([0, 7].map(|slot| (slot, Rights::ALL, 0))).collect()
}

/// Puts a capability in, in the place of another if there is one, and asserts that a law is broken.
fn try_cap(spec: &mut Spec, cap: &CapEntry) {
    let place = spec.caps.iter().position(|other| (other.cnode, other.slot) == (cap.cnode, cap.slot));
    let place = place.unwrap_or(spec.caps.len());
    let before = spec.caps.get(place).cloned();
    if before.as_ref() == Some(cap) {
        return;
    }
    spec.caps.splice(place..(place + 1).min(spec.caps.len()), [cap.clone()]);
    broken(spec, || format!("{} in {} {cap:x?}", spec.name(cap.object), spec.name(cap.cnode)));
    spec.caps.splice(place..place + 1, before);
}

fn every_object_to_every_process(text: &str) {
    let mut spec = lawful(text);
    let mut tried = 0;
    for object in ids(&spec) {
        for (slot, rights, badge) in ways(&spec, object) {
            for cnode in ids(&spec) {
                let Some(&Kind::CNode { bits }) = spec.kind(cnode) else { continue };
                if slot < 1 << bits {
                    try_cap(&mut spec, &CapEntry { cnode, slot, object, rights, badge });
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 2_000, "{tried}");
}

#[test]
fn no_object_can_be_given_to_another_process() {
    every_object_to_every_process(PLAIN);
}

#[test]
fn no_object_of_a_managed_vm_can_be_given_to_another_process() {
    every_object_to_every_process(MANAGED);
}

#[test]
fn no_object_of_a_system_with_devices_can_be_given_to_another_process() {
    every_object_to_every_process(DEVICES);
}

#[test]
fn no_capability_can_have_other_rights_or_another_badge() {
    for mut spec in [lawful(PLAIN), lawful(DEVICES), lawful(DISKS), lawful(NETWORK), lawful(MANAGED)] {
        for cap in spec.caps.clone() {
            for badge in [0, 1, cap.badge << 1, cap.badge | 1 << 3, client_badge(23), event::ring(12), event::ring(23)]
            {
                try_cap(&mut spec, &CapEntry { badge, ..cap.clone() });
            }
            for rights in RIGHTS {
                try_cap(&mut spec, &CapEntry { rights, ..cap.clone() });
            }
        }
    }
}

#[test]
fn no_frames_can_be_mapped_elsewhere_or_otherwise() {
    for spec in [lawful(PLAIN), lawful(DEVICES), lawful(MANAGED)] {
        let is_space = |id: &Id| matches!(spec.kind(*id), Some(Kind::VSpace | Kind::Ept | Kind::IoSpace { .. }));
        let spaces: Vec<Id> = ids(&spec).into_iter().filter(is_space).chain([spec.supervisor]).collect();
        for known in &spec.mappings {
            for at in [0, window::DEVICES, 1 << 38].into_iter().filter(|at| *at != known.at) {
                let changed = moved(&spec, Mapping { at, ..known.clone() });
                broken(&changed, || format!("{} at {at:#x}", spec.name(known.frames)));
            }
            for &space in spaces.iter().filter(|space| **space != known.space) {
                let at = if spec.kind(space) == Some(&Kind::Ept) { known.at & 0xfff_ffff } else { known.at };
                let mapping = Mapping { space, at, ..known.clone() };
                if !spec.mappings.contains(&mapping) {
                    broken(&more(&spec, mapping), || format!("{} in {}", spec.name(known.frames), spec.name(space)));
                }
            }
        }
        for n in 0..spec.mappings.len() {
            let other = RIGHTS.map(|rights| Mapping { rights, ..spec.mappings[n].clone() });
            for mapping in other.into_iter().chain([Mapping { cached: false, ..spec.mappings[n].clone() }]) {
                let mut changed = spec.clone();
                if changed.mappings[n] != mapping {
                    changed.mappings[n] = mapping;
                    broken(&changed, || format!("{} {:?}", spec.name(spec.mappings[n].frames), changed.mappings[n]));
                }
            }
        }
    }
}

/// With one mapping more, and the paging structures that it needs: those of large areas are shared.
fn more(spec: &Spec, mapping: Mapping) -> Spec {
    let mut changed = spec.clone();
    changed.mappings.push(mapping);
    paged(changed)
}

/// With the first mapping of the frames in that space moved, if there is one.
fn moved(spec: &Spec, mapping: Mapping) -> Spec {
    let mut changed = spec.clone();
    let there =
        changed.mappings.iter_mut().find(|other| (other.space, other.frames) == (mapping.space, mapping.frames));
    match there {
        Some(other) => *other = mapping,
        None => return more(spec, mapping),
    }
    paged(changed)
}

/// Paging structures as the mappings need them, so that nothing is found out by those that are missing.
fn paged(mut spec: Spec) -> Spec {
    spec.objects.retain(|object| !matches!(object.kind, Kind::Paging { .. }));
    let mut needed = std::collections::BTreeSet::new();
    for mapping in &spec.mappings {
        let Some(Kind::Frames { size, pages, .. }) = spec.kind(mapping.frames) else { continue };
        if spec.is_io_space(mapping.space) {
            continue;
        }
        for page in 0..u64::from(*pages) {
            let at = mapping.at + (page << size.bits());
            needed.extend(
                mapping.pages.levels().iter().map(|&level| (mapping.space, level, at >> level.bits() << level.bits())),
            );
        }
    }
    for (space, level, at) in needed {
        let name = format!("{}.{level:?}.{at:#x}", spec.name(space));
        spec.objects.push(Object { name, kind: Kind::Paging { space, level, at, count: 1 } });
    }
    spec
}

#[test]
fn no_process_can_be_made_of_anothers_parts() {
    type Set = fn(&mut Process, Id);
    const FIELDS: [Set; 11] = [
        |process, id| process.threads[0].tcb = id,
        |process, id| process.cspace = id,
        |process, id| process.vspace = id,
        |process, id| process.threads[0].ipc_buffer = id,
        |process, id| process.threads[0].events = Some(id),
        |process, id| process.threads[0].vcpu = Some(id),
        |process, id| process.ept = Some(id),
        |process, id| process.on_stop = Some((id, process.on_stop.map_or(1, |(_, badge)| badge))),
        |process, id| process.on_end = Some((id, process.on_end.map_or(event::ended(0), |(_, badge)| badge))),
        |process, id| process.calls.push(id),
        |process, id| process.ports.push(id),
    ];
    const NUMBERS: [fn(&mut Process); 11] = [
        |process| process.threads.push(process.threads[0].clone()),
        |process| process.threads.clear(),
        |process| process.guard_bits += 1,
        |process| process.threads[0].ipc_buffer_at += 4096,
        |process| process.entry = window::STACK_TOP,
        |process| process.threads[0].stack += 4096,
        |process| process.priority = 255,
        |process| process.priority = 0,
        |process| process.threads[0].events = None,
        |process| process.on_stop = process.on_stop.map(|(events, badge)| (events, badge << 1)),
        |process| process.on_end = process.on_end.map(|(events, badge)| (events, badge << 1)),
    ];
    for spec in [lawful(PLAIN), lawful(DEVICES), lawful(DISKS)] {
        let mut changed = spec.clone();
        for n in 0..spec.processes.len() {
            let mut check = |set: &dyn Fn(&mut Process), what: &dyn Fn() -> String| {
                set(&mut changed.processes[n]);
                if changed.processes[n] != spec.processes[n] {
                    broken(&changed, || format!("{}: {}", spec.processes[n].name, what()));
                }
                changed.processes[n] = spec.processes[n].clone();
            };
            for (field, set) in FIELDS.iter().enumerate() {
                for id in ids(&spec) {
                    check(&|process| set(process, id), &|| format!("field {field} {}", spec.name(id)));
                }
            }
            for (number, set) in NUMBERS.iter().enumerate() {
                check(set, &|| format!("number {number}"));
            }
        }
    }
}

#[test]
fn no_object_can_be_of_another_kind_or_hold_something_else() {
    for spec in [lawful(PLAIN), lawful(DEVICES), lawful(MANAGED)] {
        let frames = |fill| Kind::Frames { size: PageSize::Small, pages: 1, fill };
        let kinds = [
            Kind::Endpoint,
            Kind::Notification,
            Kind::CNode { bits: 12 },
            Kind::Tcb,
            Kind::VSpace,
            Kind::Vcpu,
            Kind::Ept,
            Kind::IoPorts { first: 0xcf8, last: 0xcff },
            Kind::IoPorts { first: 0, last: 0xffff },
            Kind::IrqControl,
            Kind::IoSpace { domain: 9, function: Bdf { bus: 0, device: 2, function: 0 } },
            frames(Fill::Device { paddr: 0xfee0_0000 }),
            frames(Fill::Ram { paddr: 0x10_0000 }),
        ];
        for (id, kind) in ids(&spec).into_iter().flat_map(|id| kinds.iter().map(move |kind| (id, kind))) {
            let mut changed = spec.clone();
            changed.objects[id.0 as usize].kind = kind.clone();
            if changed != spec {
                broken(&changed, || format!("{} as {kind:?}", spec.name(id)));
            }
        }
        for id in ids(&spec) {
            let mut changed = spec.clone();
            let Kind::Frames { fill, size, .. } = &mut changed.objects[id.0 as usize].kind else { continue };
            *fill = Fill::Device { paddr: 0xc000_0000 >> size.bits() << size.bits() };
            broken(&changed, || format!("{} of a device", spec.name(id)));
        }
    }
}

#[test]
fn device_memory_has_no_place_in_a_specification() {
    let spec = lawful(DEVICES);
    for process in &spec.processes {
        let mut changed = spec.clone();
        let kind = Kind::Frames { size: PageSize::Small, pages: 1, fill: Fill::Device { paddr: 0xfed9_0000 } };
        changed.objects.push(Object { name: format!("{}.registers", process.name), kind });
        let frames = Id(changed.objects.len() as u32 - 1);
        let at = window::DEVICES;
        let mapping = Mapping {
            space: process.vspace,
            frames,
            at,
            rights: Rights::READ_WRITE,
            cached: true,
            pages: PageSize::Small,
        };
        broken(&more(&changed, mapping), || format!("registers of {}", process.name));
        broken(&changed, || format!("registers of {}, unmapped", process.name));
    }
}

#[test]
fn windows_of_devices_are_pci_servers_and_hold_what_no_other_has() {
    let spec = lawful(DEVICES);
    for n in 0..spec.windows.len() {
        for process in (0..spec.processes.len() as u32 + 1).filter(|&process| process != spec.windows[n].process) {
            let mut changed = spec.clone();
            changed.windows[n].process = process;
            broken(&changed, || format!("window {n} of process {process}"));
        }
        let ports = [(0x20, 0x21), (0xa0, 0xa1), (0x4d0, 0x4d1), (0xcf8, 0xcff), (0x3f8, 0x3ff), (0x1f0, 0x41f0)];
        let ports = ports.map(|(first, last)| DeviceRange::Ports { first, last });
        // The first guest-visible RAM of trusted devices.
        let ram = DeviceRange::Memory { first: 64 << 20, last: (64 << 20) + 4095 };
        for range in ports.into_iter().chain([ram]) {
            let mut changed = spec.clone();
            changed.windows[n].range = range;
            broken(&changed, || format!("window {n} as {range:x?}"));
        }
    }
}

/// Descriptions in a folder. What tests put beside them (tiny guests) is not needed to plan a system.
fn descriptions(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(folder).expect("it exists").map(|file| file.expect("is readable").path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

#[test]
fn the_systems_that_there_are_break_no_law() {
    let all = [descriptions("../systems"), descriptions("../tests/systems")].concat();
    assert!(all.len() > 20);
    for path in all {
        let text = std::fs::read_to_string(&path).expect("is readable");
        let own_kernel = |line: &str| line.trim_start().starts_with("kernel = \"./");
        let lines = text.lines().map(|line| if own_kernel(line) { "kernel = \"debian-686\"" } else { line });
        let text = lines.collect::<Vec<_>>().join("\n");
        let system =
            host::parse(Source { path: path.clone(), text }).unwrap_or_else(|wrong| panic!("{}", wrong.plain()));
        let spec = host::plan(&system).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(laws::breaches(&spec), vec![], "{}", path.display());
        // Names are what a reader of the map goes by.
        assert_eq!(spec.kind(object(&spec, "root-task.supervisor")), Some(&Kind::Endpoint));
    }
}
