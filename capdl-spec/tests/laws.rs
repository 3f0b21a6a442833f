//! Every law is able to fail: a lawful specification with one thing changed breaks it.

mod fixture;

use capdl_spec::{
    host, laws,
    spec::{CapEntry, Id, Kind, Rights, Spec},
};
use fixture::{files, system};

fn lawful() -> Spec {
    let two = "board = \"bochs\"\n[[vm]]\nname = \"a\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n\
               [[vm]]\nname = \"b\"\nmemory = \"4 MiB\"\nkernel = \"debian-686\"\n";
    let system = system(two);
    host::compile(&system, &files(&system)).expect("it compiles").spec
}

fn object(spec: &Spec, name: &str) -> Id {
    Id(spec.objects.iter().position(|object| object.name == name).unwrap_or_else(|| panic!("no {name}")) as u32)
}

/// A process's capability to an object.
fn cap<'a>(spec: &'a mut Spec, process: &str, object_name: &str) -> &'a mut CapEntry {
    let (cnode, object) = (object(spec, &format!("{process}.cspace")), object(spec, object_name));
    spec.caps.iter_mut().find(|cap| cap.cnode == cnode && cap.object == object).expect("it has one")
}

fn give(spec: &mut Spec, process: &str, object_name: &str) {
    let (cnode, object) = (object(spec, &format!("{process}.cspace")), object(spec, object_name));
    spec.caps.push(CapEntry { cnode, slot: 200, object, rights: Rights::ALL, badge: 0 });
}

fn broken(change: impl FnOnce(&mut Spec)) -> Vec<&'static str> {
    let mut spec = lawful();
    assert_eq!(laws::breaches(&spec), vec![]);
    change(&mut spec);
    laws::breaches(&spec).into_iter().map(|breach| breach.law).collect()
}

/// Asserts that the change breaks this law, perhaps with others.
#[track_caller]
fn breaks(law: &str, change: impl FnOnce(&mut Spec)) {
    let broken = broken(change);
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
    breaks(law, |spec| spec.processes[5].vspace = object(spec, "vmm-b.vspace"));
}

#[test]
fn a_process_that_holds_its_own_cspace() {
    breaks("no process holds its own CSpace root", |spec| give(spec, "vmm-a", "vmm-a.cspace"));
}

#[test]
fn a_process_whose_faults_look_like_anothers() {
    let law = "root-task tells processes apart";
    breaks(law, |spec| cap(spec, "vmm-a", "root-task.supervisor").badge = 7);
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
    breaks("servers outrank their clients", |spec| spec.processes[5].priority = 201);
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
        let last = spec.objects.pop().expect("there are objects");
        assert!(matches!(last.kind, Kind::Paging { .. }));
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
