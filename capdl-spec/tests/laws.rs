//! Every law is able to fail: a lawful specification with one thing changed breaks it.

mod fixture;

use capdl_spec::{
    host, laws,
    spec::{CapEntry, DeviceRange, Fill, Id, Kind, Mapping, Object, Process, Rights, Spec},
};
use fixture::{files, object, system};
use layout::Bdf;

fn lawful() -> Spec {
    let two = "board = \"bochs\"\n[[vm]]\nname = \"a\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n\
               [[vm]]\nname = \"b\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n";
    let system = system(two);
    host::compile(&system, &files(&system)).expect("it compiles").spec
}

/// A process's capability to an object.
fn cap<'a>(spec: &'a mut Spec, process: &str, object_name: &str) -> &'a mut CapEntry {
    let (cnode, object) = (object(spec, &format!("{process}.cspace")), object(spec, object_name));
    spec.caps.iter_mut().find(|cap| cap.cnode == cnode && cap.object == object).expect("it has one")
}

/// A process by its name.
fn process<'a>(spec: &'a mut Spec, name: &str) -> &'a mut Process {
    spec.processes.iter_mut().find(|process| process.name == name).expect("it is there")
}

fn give(spec: &mut Spec, process: &str, object_name: &str) {
    let (cnode, object) = (object(spec, &format!("{process}.cspace")), object(spec, object_name));
    spec.caps.push(CapEntry { cnode, slot: 200, object, rights: Rights::ALL, badge: 0 });
}

/// Asserts that the change breaks this law, perhaps with others.
#[track_caller]
fn breaks(law: &str, change: impl FnOnce(&mut Spec)) {
    breaks_in(lawful(), law, change);
}

/// The same, in another specification.
#[track_caller]
fn breaks_in(mut spec: Spec, law: &str, change: impl FnOnce(&mut Spec)) {
    assert_eq!(laws::breaches(&spec), vec![]);
    change(&mut spec);
    let broken: Vec<_> = laws::breaches(&spec).into_iter().map(|breach| breach.law).collect();
    assert!(broken.contains(&law), "it breaks {broken:?}");
}

#[test]
fn two_objects_of_one_name() {
    breaks("names are unique", |spec| spec.objects[1].name = spec.objects[0].name.clone());
}

#[test]
fn an_id_without_an_object() {
    breaks("every id names an object", |spec| spec.caps[0].object = Id(9999));
}

#[test]
fn two_capabilities_in_a_slot() {
    breaks("a slot holds one capability", |spec| {
        let twice = spec.caps[0].clone();
        spec.caps.push(twice);
    });
}

#[test]
fn a_capability_beyond_the_cnode() {
    breaks("a slot holds one capability", |spec| spec.caps[0].slot = 256);
}

#[test]
fn a_process_that_holds_a_thread() {
    let law = "capabilities are of kinds that processes may hold";
    breaks(law, |spec| give(spec, "vmm-a", "vmm-b.tcb"));
}

#[test]
fn a_process_in_the_address_space_of_another() {
    let law = "a process names its own objects only";
    breaks(law, |spec| {
        let other = object(spec, "vmm-b.vspace");
        process(spec, "vmm-a").vspace = other;
    });
}

#[test]
fn a_process_that_holds_its_own_cspace() {
    breaks("no process holds its own CSpace root", |spec| give(spec, "vmm-a", "vmm-a.cspace"));
}

#[test]
fn a_process_whose_faults_look_like_anothers() {
    let law = "root-task tells processes apart";
    breaks(law, |spec| cap(spec, "vmm-a", "root-task.supervisor").badge += 1);
}

#[test]
fn a_process_that_listens_to_the_faults_of_others() {
    breaks("root-task tells processes apart", |spec| give(spec, "vmm-a", "root-task.supervisor"));
}

#[test]
fn a_client_that_receives_on_its_servers_endpoint() {
    let law = "an endpoint has one receiver";
    breaks(law, |spec| cap(spec, "vmm-a", "fileserver.service").rights = Rights::READ);
}

#[test]
fn a_client_above_its_server() {
    breaks("no client outranks its server", |spec| process(spec, "vmm-a").priority = 201);
}

#[test]
fn two_clients_of_one_badge() {
    breaks("badges are unique", |spec| {
        let badge = cap(spec, "vmm-a", "fileserver.service").badge;
        cap(spec, "vmm-b", "fileserver.service").badge = badge;
    });
}

#[test]
fn a_badge_that_old_kernels_cannot_hold() {
    breaks("badges are unique", |spec| cap(spec, "vmm-a", "fileserver.service").badge = 1 << 28);
}

#[test]
fn an_event_of_two_bits() {
    breaks("events are single bits", |spec| cap(spec, "timer-server", "vmm-a.events").badge = 3);
}

#[test]
fn a_stranger_who_waits_for_ones_events() {
    breaks("events are single bits", |spec| give(spec, "vmm-a", "vmm-b.events"));
}

#[test]
fn two_owners_of_a_port() {
    breaks("no port has two owners", |spec| give(spec, "vmm-a", "ports.0x3f8-0x3ff"));
}

#[test]
fn ranges_of_ports_that_overlap() {
    breaks("no port has two owners", |spec| {
        let gate = object(spec, "ports.0x61");
        spec.objects[gate.0 as usize].kind = Kind::IoPorts { first: 0x43, last: 0x61 };
    });
}

#[test]
fn two_owners_of_irq_control() {
    breaks("IRQControl has one owner", |spec| give(spec, "vmm-a", "irq-control"));
}

#[test]
fn windows_that_overlap() {
    breaks("windows do not overlap", |spec| {
        let stack = object(spec, "vmm-a.stack");
        let buffer = object(spec, "vmm-a.ipc-buffer");
        let at = spec.mappings.iter().find(|mapping| mapping.frames == stack).expect("it is mapped").at;
        spec.mappings.iter_mut().find(|mapping| mapping.frames == buffer).expect("it is mapped").at = at + 4096;
    });
}

#[test]
fn a_large_page_at_an_odd_address() {
    breaks("windows do not overlap", |spec| {
        let ram = object(spec, "vmm-a.guest-ram");
        spec.mappings.iter_mut().find(|mapping| mapping.frames == ram).expect("it is mapped").at += 4096;
    });
}

#[test]
fn a_vm_that_sees_the_memory_of_another() {
    breaks("frames are shared by name only", |spec| {
        let (ram, ept) = (object(spec, "vmm-b.guest-ram"), object(spec, "vmm-a.ept"));
        let mut mapping = spec.mappings.iter().find(|mapping| mapping.frames == ram).expect("it is mapped").clone();
        (mapping.space, mapping.at) = (ept, 1 << 30);
        spec.mappings.push(mapping);
    });
}

/// Three VMs, the first of which has two pipes to the second.
fn lawful_with_pipes() -> Spec {
    let vm = |name| format!("[[vm]]\nname = \"{name}\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n");
    let pipe = |name| format!("[[pipe]]\nname = \"{name}\"\nmembers = [\"a\", \"b\"]\n");
    let text = ["board = \"bochs\"\n".into(), vm("a"), vm("b"), vm("c"), pipe("one"), pipe("two")].concat();
    let system = system(&text);
    host::compile(&system, &files(&system)).expect("it compiles").spec
}

#[track_caller]
fn breaks_with_pipes(law: &str, change: impl FnOnce(&mut Spec)) {
    breaks_in(lawful_with_pipes(), law, change);
}

fn map_pipe(spec: &mut Spec, space: &str, name: &str) {
    let (pipe, space) = (object(spec, "vmm-a+vmm-b.pipe1"), object(spec, space));
    let mut mapping = spec.mappings.iter().find(|mapping| mapping.frames == pipe).expect("it is mapped").clone();
    mapping.space = space;
    spec.mappings.push(mapping);
    spec.objects[pipe.0 as usize].name = name.into();
}

#[test]
fn a_pipe_with_a_third_end() {
    breaks_with_pipes("a pipe has two ends", |spec| map_pipe(spec, "vmm-c.vspace", "vmm-a+vmm-b+vmm-c.pipe1"));
}

#[test]
fn a_pipe_with_one_end() {
    breaks_with_pipes("a pipe has two ends", |spec| {
        let (pipe, b) = (object(spec, "vmm-a+vmm-b.pipe1"), object(spec, "vmm-b.vspace"));
        spec.mappings.retain(|mapping| (mapping.frames, mapping.space) != (pipe, b));
        spec.objects[pipe.0 as usize].name = "vmm-a.pipe1".into();
    });
}

#[test]
fn a_pipe_that_a_guest_maps() {
    let law = "frames are mapped where their use is";
    breaks_with_pipes(law, |spec| map_pipe(spec, "vmm-c.ept", "vmm-a+vmm-b+vmm-c.pipe1"));
}

#[test]
fn a_pipe_that_ends_at_a_server() {
    let law = "frames are mapped where their use is";
    breaks_with_pipes(law, |spec| map_pipe(spec, "fileserver.vspace", "vmm-a+vmm-b+fileserver.pipe1"));
}

#[test]
fn a_signal_too_few_for_a_pipe() {
    breaks_with_pipes("a pipe has two ends", |spec| {
        let signal = cap(spec, "vmm-a", "vmm-b.events").clone();
        spec.caps.retain(|cap| *cap != signal);
    });
}

#[test]
fn a_signal_to_a_vm_without_a_pipe() {
    breaks_with_pipes("a process holds its own and what it was given", |spec| {
        let other = object(spec, "vmm-c.events");
        cap(spec, "vmm-a", "vmm-b.events").object = other;
    });
}

#[test]
fn an_image_that_can_be_written() {
    breaks("the bundle's own pages are read-only", |spec| {
        let image = object(spec, "fileserver.image.debian-686");
        spec.mappings.iter_mut().find(|mapping| mapping.frames == image).expect("it is mapped").rights = Rights::ALL;
    });
}

#[test]
fn a_page_table_too_few() {
    breaks("paging structures are those that the mappings need", |spec| {
        let Some(Kind::Paging { count, .. }) = spec.objects.last_mut().map(|last| &mut last.kind) else {
            panic!("no paging structures at the end")
        };
        *count -= 1;
    });
}

#[test]
fn a_page_table_that_nothing_needs() {
    breaks("paging structures are those that the mappings need", |spec| {
        let mut last = spec.objects.last().expect("there are objects").clone();
        last.name.push_str(".again");
        if let Kind::Paging { at, .. } = &mut last.kind {
            *at += 1 << 39;
        }
        spec.objects.push(last);
    });
}

/// Two VMs with functions of their own: one behind an IOMMU, one trusted without.
fn lawful_with_devices() -> Spec {
    let two = "board = \"pc\"\n[[vm]]\nname = \"a\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n\
               pci_devices = [\"00:1f.2\", \"05:00.0\"]\npci_devices_iospace = 1\n\
               [[vm]]\nname = \"b\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n\
               pci_devices = [{ address = \"00:19.0\", dma = \"trusted\" }]\n";
    let system = system(two);
    host::compile(&system, &files(&system)).expect("it compiles").spec
}

#[track_caller]
fn breaks_with_devices(law: &str, change: impl FnOnce(&mut Spec)) {
    breaks_in(lawful_with_devices(), law, change);
}

#[test]
fn a_window_with_a_servers_ports() {
    breaks_with_devices("device windows are apart from what others own", |spec| {
        spec.windows[0].range = DeviceRange::Ports { first: 0x3f0, last: 0x3f8 };
    });
}

#[test]
fn windows_of_devices_that_overlap() {
    breaks_with_devices("device windows are apart from what others own", |spec| {
        let last = *spec.windows.last().expect("there are windows");
        spec.windows.push(last);
    });
}

#[test]
fn a_window_without_an_owner() {
    breaks_with_devices("device windows are apart from what others own", |spec| spec.windows[0].process = 99);
}

#[test]
fn a_window_for_one_who_cannot_ask() {
    breaks_with_devices("root-task tells processes apart", |spec| {
        let other = spec.processes.iter().position(|process| process.name == "vmm-a").expect("it is there");
        spec.windows[0].process = other as u32;
    });
}

#[test]
fn a_window_of_a_vmm() {
    breaks_with_devices("device windows are pci-server's", |spec| {
        let other = spec.processes.iter().position(|process| process.name == "vmm-a").expect("it is there");
        spec.windows[0].process = other as u32;
    });
}

#[test]
fn an_ept_of_another_guest() {
    let law = "an EPT is held with spare paging structures only";
    breaks_with_devices(law, |spec| cap(spec, "vmm-a", "vmm-a.ept").object = object(spec, "vmm-b.ept"));
}

#[test]
fn an_ept_without_anything_to_map_with() {
    breaks("an EPT is held with spare paging structures only", |spec| give(spec, "vmm-a", "vmm-a.ept"));
}

#[test]
fn ram_at_one_place_twice() {
    breaks_with_devices("RAM at physical addresses does not overlap", |spec| {
        let low = object(spec, "vmm-b.guest-low");
        if let Kind::Frames { fill, .. } = &mut spec.objects[low.0 as usize].kind {
            *fill = Fill::Ram { paddr: 66 << 20 };
        }
    });
}

#[test]
fn two_address_spaces_of_a_function() {
    breaks_with_devices("a function has one I/O address space", |spec| {
        let [from, to] = ["00:1f.2", "05:00.0"].map(|at| object(spec, &format!("vmm-a.iospace.{at}")));
        spec.objects[to.0 as usize].kind = spec.objects[from.0 as usize].kind.clone();
    });
}

#[test]
fn a_domain_of_two_functions() {
    breaks_with_devices("a function has one I/O address space", |spec| {
        let kind = Kind::IoSpace { domain: 1, function: Bdf { bus: 0, device: 0x19, function: 0 } };
        spec.objects.push(Object { name: "vmm-b.iospace.00:19.0".into(), kind });
    });
}

#[test]
fn a_device_that_reaches_another_guest() {
    breaks_with_devices("an I/O address space is no other owner's", |spec| {
        let (ram, space) = (object(spec, "vmm-b.guest-ram"), object(spec, "vmm-a.iospace.00:1f.2"));
        let mut mapping = spec.mappings.iter().find(|mapping| mapping.frames == ram).expect("it is mapped").clone();
        (mapping.space, mapping.at) = (space, 1 << 30);
        spec.mappings.push(mapping);
    });
}

#[test]
fn no_object_has_the_kernels_ports() {
    breaks("device windows are apart from what others own", |spec| {
        let ports = spec.objects.iter_mut().find(|object| matches!(object.kind, Kind::IoPorts { .. })).unwrap();
        ports.kind = Kind::IoPorts { first: 0x20, last: 0x21 };
    });
}

/// Two VMs and two components: a channel from the first VM to a component, which only the component may write, and one to the
/// other VM.
fn lawful_with_channels() -> Spec {
    let vm = |name| format!("[[vm]]\nname = \"{name}\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n");
    let component = |name| format!("[[component]]\nname = \"{name}\"\nimage = \"components\"\n");
    let channels = "[[channel]]\nname = \"one\"\nmembers = [\"a\", \"c\"]\n\
                    dataports = [{ size = \"4 KiB\", writer = \"c\" }]\n\
                    [[channel]]\nname = \"two\"\nmembers = [\"a\", \"b\"]\n";
    let text =
        ["board = \"bochs\"\n".into(), vm("a"), vm("b"), component("c"), component("d"), channels.into()].concat();
    let system = system(&text);
    host::compile(&system, &files(&system)).expect("it compiles").spec
}

#[track_caller]
fn breaks_with_channels(change: impl FnOnce(&mut Spec)) {
    breaks_in(lawful_with_channels(), "a channel has two ends", change);
}

/// The mapping of frames in a space.
fn mapping<'a>(spec: &'a mut Spec, frames: &str, space: &str) -> &'a mut Mapping {
    let (frames, space) = (object(spec, frames), object(spec, space));
    let mut mappings = spec.mappings.iter_mut();
    mappings.find(|mapping| (mapping.frames, mapping.space) == (frames, space)).expect("it is mapped")
}

#[test]
fn a_dataport_that_a_third_process_maps() {
    breaks_with_channels(|spec| {
        let mut third = mapping(spec, "vmm-a+c.dataport00", "c.vspace").clone();
        third.space = object(spec, "d.vspace");
        spec.mappings.push(third);
        let frames = object(spec, "vmm-a+c.dataport00");
        spec.objects[frames.0 as usize].name = "vmm-a+c+d.dataport00".into();
    });
}

#[test]
fn a_dataport_that_a_guest_may_write_and_its_vmm_may_not() {
    breaks_with_channels(|spec| mapping(spec, "vmm-a+c.dataport00", "vmm-a.ept").rights = Rights::READ_WRITE);
}

#[test]
fn a_dataport_that_nobody_may_write() {
    breaks_with_channels(|spec| mapping(spec, "vmm-a+c.dataport00", "c.vspace").rights = Rights::READ);
}

#[test]
fn a_dataport_that_its_guest_does_not_have() {
    breaks_with_channels(|spec| {
        let missing = mapping(spec, "vmm-a+vmm-b.dataport10", "vmm-b.ept").clone();
        spec.mappings.retain(|mapping| *mapping != missing);
    });
}

#[test]
fn a_dataport_that_a_guest_has_elsewhere() {
    breaks_in(lawful_with_channels(), "dataports are at home", |spec| {
        mapping(spec, "vmm-a+c.dataport00", "vmm-a.ept").at += 4096;
    });
}

#[test]
fn a_dataport_of_a_channel_that_is_not_there() {
    breaks_with_channels(|spec| {
        let frames = object(spec, "vmm-a+c.dataport00");
        spec.objects[frames.0 as usize].name = "vmm-a+c.dataport20".into();
    });
}

#[test]
fn a_signal_too_few_for_a_channel() {
    breaks_with_channels(|spec| {
        let signal = cap(spec, "c", "vmm-a.events").clone();
        spec.caps.retain(|cap| *cap != signal);
    });
}

#[test]
fn a_signal_to_a_component_without_a_channel() {
    let law = "a process holds its own and what it was given";
    breaks_in(lawful_with_channels(), law, |spec| {
        let mut signal = cap(spec, "c", "vmm-a.events").clone();
        (signal.cnode, signal.object) = (object(spec, "d.cspace"), object(spec, "vmm-a.events"));
        spec.caps.push(signal);
    });
}
