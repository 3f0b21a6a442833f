//! From a checked description to everything that runs: objects, capabilities, mappings, badges, and the bundle that
//! root-task carries. Nothing here depends on anything but its arguments, so equal inputs give equal bytes.

pub mod binaries;
pub(crate) mod builder;
pub mod bundle;
pub(crate) mod elf;
pub mod error;
pub(crate) mod guest_memory;
pub(crate) mod images;
pub(crate) mod lines;
pub(crate) mod memory;
pub mod part;
pub(crate) mod passthrough;
pub(crate) mod placement;
pub(crate) mod windows;
pub(crate) mod wire;

use std::collections::BTreeMap;

use binaries::Binaries;
use builder::Builder;
use bundle::{Bundle, PAGE};
use error::CompileError;
use layout::window;
use part::{Part, Role};
use wire::Wiring;

use crate::{
    description::{board::PortRange, system::System},
    laws,
    services::{
        block, channels, component, lifecycle, pci, pipes,
        vmm::{self, Guest},
    },
    spec::{Console, Fill, Id, PowerOff, Process, Rights, Spec},
};

/// Compiles a system with its programs and images.
pub fn compile(system: &System, binaries: &dyn Binaries) -> Result<Bundle, CompileError> {
    compile_parts(system, &system.parts(), binaries)
}

/// The same, of these parts.
fn compile_parts(system: &System, parts: &[Part], binaries: &dyn Binaries) -> Result<Bundle, CompileError> {
    let mut wiring = Wiring::new(system, parts, binaries);
    wiring.build.spec.name = system.name.clone();
    wiring.build.spec.when_off = system.policy.when_off;
    let processes = wire(&mut wiring)?;
    let mut build = wiring.build;
    load(system, parts, binaries, &mut build, processes)?;
    board(system, &mut build);
    build.spec.windows = windows::windows(system, parts, &build.spec);
    build.paging();
    let bundle = build.blobs.len();
    if let Some(placed) = placement::under_root_task(system, bundle) {
        return Err(CompileError::Crowded { at: placed.paddr, bundle });
    }
    if let Some(breach) = laws::first_breach(&build.spec) {
        return Err(CompileError::Unlawful { law: breach.law, by: breach.by });
    }
    Ok(build.blobs.bundle(build.spec)?)
}

/// Programs of no segments, and images of no bytes.
struct Nothing;

impl Binaries for Nothing {
    fn elf(&self, _: &str) -> Option<&[u8]> {
        Some(&[])
    }

    fn image(&self, _: &str) -> Option<&[u8]> {
        Some(&[])
    }
}

/// A system with programs of no segments and images of no bytes: its authority, without what a build has to make.
pub fn planned(system: &System) -> Result<Bundle, CompileError> {
    compile(system, &Nothing)
}

/// Its specification alone: what maps and drawings show.
pub fn plan(system: &System) -> Result<Spec, CompileError> {
    Ok(planned(system)?.spec)
}

/// What wiring leaves to be added to a process: its encoded configuration, its guest, and whom root-task signals when
/// it stops, or ends.
struct Wired {
    config: Vec<u8>,
    guest: Option<Guest>,
    on_stop: Option<(Id, u64)>,
    on_end: Option<(Id, u64)>,
}

fn wire(wiring: &mut Wiring) -> Result<Vec<Wired>, CompileError> {
    wiring.supervisor();
    for server in wiring.system.servers() {
        wiring.service(server.service, server.grants)?;
    }
    let mut configs = BTreeMap::new();
    // The last process first: it then gets the first of the shared windows, and the committed maps show it there.
    let servers: Vec<_> = wiring.system.servers().collect();
    for server in servers.into_iter().rev() {
        configs.insert(wiring.server(server.service)?, (server.configure)(wiring)?);
    }
    let mut pipes = pipes::configure(wiring)?;
    let mut channels = channels::configure(wiring)?;
    let mut managing = lifecycle::configure(wiring)?;
    let mut wired = Vec::new();
    for (process, part) in wiring.parts.iter().enumerate() {
        let channels = channels.remove(&process).unwrap_or_default();
        let (config, guest) = match part.role {
            Role::Server(service) => {
                let config = configs.remove(&process);
                (config.ok_or_else(|| CompileError::unwired("configuration", service.server))?, None)
            }
            Role::Component(number) => {
                let managed = managing.managed.remove(&number).unwrap_or_default();
                (component::configure(wiring, number, channels, managed)?, None)
            }
            Role::Vmm(number) => {
                let pipes = pipes.remove(&number).unwrap_or_default();
                let managers = managing.managers.remove(&number).unwrap_or_default();
                let (config, guest) = vmm::configure(wiring, number, pipes, channels, managers)?;
                (config, Some(guest))
            }
        };
        let (on_stop, on_end) = (pci::on_stop(wiring, process)?, block::on_end(wiring, part.role)?);
        wired.push(Wired { config, guest, on_stop, on_end });
    }
    Ok(wired)
}

/// Where a program's segments ended up.
struct Loaded {
    entry: u64,
    segments: Vec<(u64, u64, bool, Fill)>,
}

/// Programs and configurations. The bundle has one copy of a program that several processes run.
fn load(
    system: &System,
    parts: &[Part],
    binaries: &dyn Binaries,
    build: &mut Builder,
    wired: Vec<Wired>,
) -> Result<(), CompileError> {
    let mut programs: BTreeMap<&str, Loaded> = BTreeMap::new();
    for (number, (part, wired)) in parts.iter().zip(wired).enumerate() {
        let name = part.program.as_str();
        let loaded = match programs.remove(name) {
            Some(loaded) => loaded,
            None => program(name, binaries, build)?,
        };
        place(number, &loaded, build);
        let entry = loaded.entry;
        programs.insert(name, loaded);
        let len = wired.config.len() as u64;
        let fill = Fill::Copy { offset: build.blobs.add(&wired.config), len, skip: 0 };
        let config = build.frames(format!("{}.config", part.name), len, fill);
        build.map(build.domains[number].vspace, config, window::CONFIG, Rights::READ);
        let process = process(system, part, number, build, entry, wired)?;
        build.spec.processes.push(process);
    }
    Ok(())
}

fn program(name: &str, binaries: &dyn Binaries, build: &mut Builder) -> Result<Loaded, CompileError> {
    let file = binaries.elf(name).ok_or_else(|| CompileError::NoProgram(name.to_string()))?;
    if file.is_empty() {
        return Ok(Loaded { entry: window::IMAGE, segments: Vec::new() });
    }
    let program = elf::parse(file).map_err(|error| CompileError::Program { program: name.to_string(), error })?;
    let segments = program.segments.iter().map(|segment| {
        let (start, skip) = (segment.at / PAGE * PAGE, segment.at % PAGE);
        let fill = match segment.data {
            [] => Fill::Zero,
            data => Fill::Copy { offset: build.blobs.add(data), len: data.len() as u64, skip: skip as u16 },
        };
        (start, skip + segment.memory, segment.writable, fill)
    });
    Ok(Loaded { entry: program.entry, segments: segments.collect() })
}

/// Maps a program's segments into a process.
fn place(number: usize, loaded: &Loaded, build: &mut Builder) {
    let (vspace, name) = (build.domains[number].vspace, build.domains[number].name.clone());
    for (index, &(at, bytes, writable, fill)) in loaded.segments.iter().enumerate() {
        let frames = build.frames(format!("{name}.segment{index}"), bytes, fill);
        build.map(vspace, frames, at, if writable { Rights::READ_WRITE } else { Rights::READ });
    }
}

fn process(
    system: &System,
    part: &Part,
    number: usize,
    build: &Builder,
    entry: u64,
    wired: Wired,
) -> Result<Process, CompileError> {
    let domain = &build.domains[number];
    let unwired = |what: String| CompileError::unwired(what, &part.name);
    let endpoint = |server| build.spec.endpoint_of(server).ok_or_else(|| unwired(format!("endpoint of {server}")));
    let calls = part.calls.iter().map(|service| endpoint(service.server)).collect::<Result<_, _>>()?;
    let object = |range| build.spec.ports(range).ok_or_else(|| unwired(format!("object for the ports {range}")));
    let ports = part.ports.iter().map(|range| object(*range)).collect::<Result<_, _>>()?;
    let mut threads = domain.threads.clone();
    let ept = wired.guest.map(|guest| {
        threads.iter_mut().zip(guest.vcpus).for_each(|(thread, vcpu)| thread.vcpu = Some(vcpu));
        guest.ept
    });
    let on_fault = system.policy.on_fault.iter().find(|(name, _)| *name.get_ref() == part.name);
    Ok(Process {
        name: part.name.clone(),
        threads,
        cspace: domain.cspace,
        guard_bits: layout::GUARD_BITS,
        vspace: domain.vspace,
        ept,
        entry,
        priority: part.priority,
        calls,
        ports,
        on_fault: on_fault.map(|(_, policy)| *policy).unwrap_or_default(),
        on_stop: wired.on_stop,
        on_end: wired.on_end,
    })
}

/// What root-task itself keeps of the board: the console, for its own messages, and the power-off port.
fn board(system: &System, build: &mut Builder) {
    let board = system.board();
    let ports = build.port_object(board.uart.ports);
    build.spec.console = Some(Console { ports, port: board.uart.ports.first, divisor: board.divisor() });
    build.spec.power_off = board.power_off.map(|switch| {
        let ports = build.port_object(PortRange { first: switch.port, last: switch.port });
        PowerOff { ports, port: switch.port, bytes: switch.off.to_vec(), failed: switch.failed.to_vec() }
    });
}

#[cfg(test)]
mod tests {
    use layout::Service;
    use proto::{file, irq, pci};

    use super::*;
    use crate::{description::text::Source, host};

    /// A VM and a component with a function each, after a VM without.
    fn system() -> System {
        let text = "board = \"pc\"\n[[vm]]\nname = \"plain\"\nmemory = \"2 MiB\"\nkernel = \"debian-686\"\n\
                    [[vm]]\nname = \"a\"\nmemory = \"2 MiB\"\nkernel = \"debian-686\"\npci_devices = [{ address = \"00:1f.2\", dma = \"trusted\" }]\n\
                    [[component]]\nname = \"driver\"\nimage = \"components\"\nservices = [\"file\"]\n\
                    dma_memory = \"64 KiB\"\npci_devices = [{ address = \"00:03.0\", dma = \"trusted\" }]\n";
        host::parse(Source { path: "made-up.toml".into(), text: text.into() }).expect("it is right")
    }

    /// What is said of the system when its parts have a hole.
    fn with_a_hole(make: impl FnOnce(&mut Vec<Part>)) -> String {
        let (system, mut parts) = (system(), system().parts());
        assert!(compile_parts(&system, &parts, &Nothing).is_ok());
        make(&mut parts);
        compile_parts(&system, &parts, &Nothing).map_or_else(|error| error.to_string(), |_| "nothing".into())
    }

    fn without_call(of: &str, service: Service) -> String {
        with_a_hole(|parts| {
            let part = parts.iter_mut().find(|part| part.name == of).expect("there is such a part");
            part.calls.retain(|called| *called != service);
        })
    }

    #[test]
    fn whoever_is_no_client_gets_no_other_clients_authority() {
        let hole = "the wiring has no number at";
        assert_eq!(without_call("vmm-a", irq::SERVICE), format!("{hole} irq-server of `vmm-a`"));
        assert_eq!(without_call("driver", irq::SERVICE), format!("{hole} irq-server of `driver`"));
        assert_eq!(without_call("vmm-a", pci::SERVICE), format!("{hole} pci-server of `vmm-a`"));
        assert_eq!(without_call("driver", pci::SERVICE), format!("{hole} pci-server of `driver`"));
        assert_eq!(without_call("timer-server", irq::SERVICE), format!("{hole} irq-server of `timer-server`"));
        assert_eq!(without_call("pci-server", irq::SERVICE), format!("{hole} irq-server of `pci-server`"));
        assert_eq!(without_call("vmm-plain", file::SERVICE), "the wiring has no window `files` of `vmm-plain`");
    }

    #[test]
    fn a_process_or_line_that_is_not_there_stops_the_build() {
        for server in system().servers() {
            let name = server.service.server;
            let said = with_a_hole(|parts| parts.retain(|part| part.name != name));
            assert!(said.starts_with("the wiring has no process of `Server"), "{name}: {said}");
            if server.line.is_some() {
                let line = |part: &mut Part| part.line = part.line.filter(|_| part.name != name);
                let said = with_a_hole(|parts| parts.iter_mut().for_each(line));
                assert_eq!(said, format!("the wiring has no interrupt line of `{name}`"));
            }
        }
        let said = with_a_hole(|parts| parts.retain(|part| part.name != "vmm-a"));
        assert_eq!(said, "the wiring has no process of `Vmm(1)`");
    }

    #[test]
    fn a_process_that_cannot_be_signalled_is_signalled_by_no_other() {
        for name in ["timer-server", "serial-server", "irq-server", "vmm-plain", "driver"] {
            let deaf = |part: &mut Part| part.is_signalled &= part.name != name;
            let said = with_a_hole(|parts| parts.iter_mut().for_each(deaf));
            assert_eq!(said, format!("the wiring has no notification of `{name}`"));
        }
    }

    #[test]
    fn the_order_of_parts_is_no_servers_number() {
        let (system, mut parts) = (system(), system().parts());
        parts.swap(0, 4);
        let spec = compile_parts(&system, &parts, &Nothing).expect("it compiles").spec;
        let server = |name| spec.processes.iter().find(|process| process.name == name).expect("it is there");
        let control = spec.caps.iter().find(|cap| spec.kind(cap.object) == Some(&crate::spec::Kind::IrqControl));
        assert_eq!(control.map(|cap| cap.cnode), Some(server("irq-server").cspace));
    }

    /// `checks` refuses two virtual CPUs; everything after it handles them.
    #[test]
    fn a_virtual_cpu_more_is_a_thread_more() {
        let mut system = system();
        system.vms[1].cpus = Some(toml::Spanned::new(0..0, 3));
        let spec = compile_parts(&system, &system.parts(), &Nothing).expect("it compiles").spec;
        let process = spec.processes.iter().find(|process| process.name == "vmm-a").expect("it is there");
        let names = |ids: &dyn Fn(&crate::spec::Thread) -> Option<Id>| {
            process.threads.iter().map(|thread| spec.name(ids(thread).expect("it has one"))).collect::<Vec<_>>()
        };
        assert_eq!(names(&|thread| Some(thread.tcb)), ["vmm-a.tcb", "vmm-a.tcb1", "vmm-a.tcb2"]);
        assert_eq!(names(&|thread| thread.vcpu), ["vmm-a.vcpu", "vmm-a.vcpu1", "vmm-a.vcpu2"]);
        assert_eq!(names(&|thread| thread.events), ["vmm-a.events", "vmm-a.events1", "vmm-a.events2"]);
        let slot_of = |object: Id| {
            let cap = spec.caps.iter().find(|cap| cap.cnode == process.cspace && cap.object == object);
            cap.map(|cap| cap.slot)
        };
        for (n, thread) in process.threads.iter().enumerate() {
            let slots = [thread.vcpu, thread.events].map(|object| object.and_then(slot_of));
            assert_eq!(slots, [layout::slot::vcpu(n), layout::slot::events(n)].map(|slot| Some(u32::from(slot.0))));
        }
        // And the laws find a missing thread, and a thread without its virtual CPU.
        const CHANGES: [fn(&mut Process); 2] =
            [|process| process.threads.truncate(2), |process| process.threads[2].vcpu = None];
        for change in CHANGES {
            let mut broken = spec.clone();
            broken.processes.iter_mut().filter(|process| process.name == "vmm-a").for_each(change);
            assert!(laws::first_breach(&broken).is_some());
        }
    }
}
