//! From a checked description to everything that runs: objects, capabilities, mappings, badges, and the bundle that
//! root-task carries. Nothing here depends on anything but its arguments, so equal inputs give equal bytes.

use std::collections::BTreeMap;

use layout::{config::Serial, config::Window, window};
use miette::Diagnostic;
use serde::Serialize;

use crate::{
    board::PortRange,
    builder::Builder,
    bundle::{Bundle, PAGE},
    elf::{self, ElfError},
    laws, memory,
    parts::{Part, Role, Service},
    spec::{Console, Fill, Id, PowerOff, Process, Rights, Spec},
    system::System,
    windows,
    wire::Wiring,
};

/// What the build made or fetched.
pub trait Binaries {
    /// The ELF of a program: a package's name, or a component's path as its description has it.
    fn elf(&self, program: &str) -> Option<&[u8]>;
    /// The image of this name, see [`System::images`].
    fn image(&self, name: &str) -> Option<&[u8]>;
}

/// Binaries by name.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// ELFs by package or path.
    pub elfs: BTreeMap<String, Vec<u8>>,
    /// Images by name.
    pub images: BTreeMap<String, Vec<u8>>,
}

impl Binaries for Files {
    fn elf(&self, program: &str) -> Option<&[u8]> {
        self.elfs.get(program).map(Vec::as_slice)
    }
    fn image(&self, name: &str) -> Option<&[u8]> {
        self.images.get(name).map(Vec::as_slice)
    }
}

/// Why a description that is right in itself does not become a bundle.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum CompileError {
    /// The build has not made it.
    #[error("the program `{0}` is missing")]
    #[diagnostic(help("build the package, or name an ELF that exists"))]
    NoProgram(String),
    /// It cannot be loaded.
    #[error("the program `{program}` cannot be loaded: {error}")]
    #[diagnostic(help("link it as the project's images are, see crates/image-link"))]
    Program {
        /// Which.
        program: String,
        /// Why.
        error: ElfError,
    },
    /// The build has not fetched it.
    #[error("the image `{0}` is missing")]
    #[diagnostic(help("fetch or build it first"))]
    NoImage(String),
    /// Guest memory with a place of its own is where root-task would lie.
    #[error("programs and images have {bundle} bytes and reach into the memory at {at:#x} that devices use directly")]
    #[diagnostic(help("make the kernel or the initrd smaller, or put files on the disk"))]
    Crowded {
        /// Where the memory begins.
        at: u64,
        /// Bytes that root-task carries.
        bundle: u64,
    },
    /// `checks` refuses these in descriptions.
    #[error("`{0}` is too long")]
    TooLong(String),
    /// `checks` refuses these in descriptions.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// This crate is wrong: the specification breaks a law of [`crate::laws`].
    #[error("the compiled system breaks the law \"{law}\": {by}")]
    #[diagnostic(help("this is a defect of capdl-spec, not of the description"))]
    Unlawful {
        /// Which law.
        law: &'static str,
        /// Who breaks it.
        by: String,
    },
    /// A configuration or the specification cannot be encoded.
    #[error("encoding failed: {0}")]
    Encode(#[from] postcard::Error),
}

/// Compiles a system with its programs and images.
pub fn compile(system: &System, binaries: &dyn Binaries) -> Result<Bundle, CompileError> {
    let parts = system.parts();
    let mut wiring = Wiring { system, parts: &parts, binaries, build: Builder::default() };
    wiring.build.spec.name = system.name.clone();
    wiring.build.spec.when_off = system.policy.when_off;
    for part in &parts {
        wiring.build.process(part);
    }
    let processes = wire(&mut wiring)?;
    let mut build = wiring.build;
    load(system, &parts, binaries, &mut build, processes)?;
    board(system, &mut build);
    build.spec.windows = windows::windows(system, &build.spec);
    build.paging();
    if let Some((placed, bundle)) = memory::under_root_task(system, &build) {
        return Err(CompileError::Crowded { at: placed.paddr, bundle });
    }
    if let Some(breach) = laws::first_breach(&build.spec) {
        return Err(CompileError::Unlawful { law: breach.law, by: breach.by });
    }
    Ok(build.blobs.bundle(build.spec)?)
}

/// The specification alone, as it is with programs of no segments and images of no bytes: what maps and drawings show.
pub fn plan(system: &System) -> Result<Spec, CompileError> {
    struct Nothing;
    impl Binaries for Nothing {
        fn elf(&self, _: &str) -> Option<&[u8]> {
            Some(&[])
        }
        fn image(&self, _: &str) -> Option<&[u8]> {
            Some(&[])
        }
    }
    Ok(compile(system, &Nothing)?.spec)
}

/// What a process still lacks after wiring: its configuration, encoded, its guest, and who hears that it was stopped.
struct Wired {
    config: Vec<u8>,
    guest: Option<(Id, Id)>,
    on_stop: Option<(Id, u64)>,
}

fn wire(wiring: &mut Wiring) -> Result<Vec<Wired>, CompileError> {
    wiring.supervisor();
    for service in Service::ALL {
        wiring.service(service);
    }
    let (irq, timer, pci) = (wiring.irq()?, wiring.timer()?, wiring.pci()?);
    let (file, buffers) = wiring.file()?;
    let mut serial = wiring.serial()?;
    let buffer = |process| buffers.iter().find(|(n, _)| *n == process).map(|(_, window)| *window);
    let mut wired = Vec::new();
    for (number, part) in wiring.parts.iter().enumerate() {
        wired.push(match part.role {
            Role::Server(Service::Irq) => plain(&irq)?,
            Role::Server(Service::Timer) => plain(&timer)?,
            Role::Server(Service::Serial) => plain(&())?,
            Role::Server(Service::Pci) => plain(&pci)?,
            Role::Server(Service::File) => plain(&file)?,
            Role::Component(n) => plain(&wiring.component(number, n, buffer(number))?)?,
            Role::Vmm(n) => vmm(wiring, number, n, buffer(number), &mut serial)?,
        });
    }
    for (number, one) in wired.iter_mut().enumerate() {
        one.on_stop = wiring.on_stop(number);
    }
    // Last, because every VM adds its console to it.
    wired[Service::Serial as usize].config = encode(&serial)?;
    Ok(wired)
}

fn plain(config: &impl Serialize) -> Result<Wired, CompileError> {
    Ok(Wired { config: encode(config)?, guest: None, on_stop: None })
}

fn vmm(
    wiring: &mut Wiring,
    process: usize,
    vm: usize,
    buffer: Option<Window>,
    serial: &mut Serial,
) -> Result<Wired, CompileError> {
    let files = buffer.unwrap_or(Window { at: 0, len: 0 });
    let config = wiring.vmm(process, vm, files, serial)?;
    let guest = wiring.guest(process, vm);
    Ok(Wired { config: encode(&config)?, guest: Some(guest), on_stop: None })
}

/// A configuration as its process finds it: length, then postcard.
fn encode(config: &impl Serialize) -> Result<Vec<u8>, CompileError> {
    let body = postcard::to_allocvec(config)?;
    let mut page = (body.len() as u32).to_le_bytes().to_vec();
    page.extend(body);
    Ok(page)
}

/// Where a program's segments ended up.
struct Loaded {
    entry: u64,
    segments: Vec<(u64, u64, bool, Fill)>,
}

/// Programs and configurations. A program that several processes run is in the bundle once.
fn load(
    system: &System,
    parts: &[Part],
    binaries: &dyn Binaries,
    build: &mut Builder,
    wired: Vec<Wired>,
) -> Result<(), CompileError> {
    let mut programs: BTreeMap<&str, Loaded> = BTreeMap::new();
    for (number, (part, wired)) in parts.iter().zip(wired).enumerate() {
        let name = system.program(part);
        if !programs.contains_key(name) {
            programs.insert(name, program(name, binaries, build)?);
        }
        let entry = programs.get(name).map_or(0, |loaded| place(number, loaded, build));
        let len = wired.config.len() as u64;
        let fill = Fill::Copy { offset: build.blobs.add(&wired.config), len, skip: 0 };
        let config = build.frames(format!("{}.config", part.name), len, fill);
        build.map(build.domains[number].vspace, config, window::CONFIG, Rights::READ);
        let process = process(system, part, number, build, entry, wired);
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

/// Maps a program's segments into a process and gives its entry.
fn place(number: usize, loaded: &Loaded, build: &mut Builder) -> u64 {
    let (vspace, name) = (build.domains[number].vspace, build.domains[number].name.clone());
    for (index, &(at, bytes, writable, fill)) in loaded.segments.iter().enumerate() {
        let frames = build.frames(format!("{name}.segment{index}"), bytes, fill);
        build.map(vspace, frames, at, if writable { Rights::READ_WRITE } else { Rights::READ });
    }
    loaded.entry
}

fn process(system: &System, part: &Part, number: usize, build: &Builder, entry: u64, wired: Wired) -> Process {
    let domain = &build.domains[number];
    let calls = part.calls.iter().filter_map(|service| build.spec.endpoint_of(service.server())).collect();
    let ports = system.ports_of(part).into_iter().filter_map(|range| build.spec.ports(range)).collect();
    let on_fault = system.policy.on_fault.iter().find(|(name, _)| *name.get_ref() == part.name);
    Process {
        name: part.name.clone(),
        tcb: domain.tcb,
        cspace: domain.cspace,
        guard_bits: layout::GUARD_BITS,
        vspace: domain.vspace,
        ipc_buffer: domain.ipc_buffer,
        ipc_buffer_at: window::IPC_BUFFER,
        events: domain.events,
        guest: wired.guest,
        entry,
        stack: window::STACK_TOP,
        priority: part.priority,
        calls,
        ports,
        on_fault: on_fault.map(|(_, policy)| *policy).unwrap_or_default(),
        on_stop: wired.on_stop,
    }
}

/// What root-task itself keeps of the board: the console for its own words, and the switch.
fn board(system: &System, build: &mut Builder) {
    let board = system.board();
    let ports = build.port_object(board.uart.ports);
    build.spec.console = Some(Console { ports, port: board.uart.ports.first });
    build.spec.power_off = board.power_off.map(|switch| {
        let ports = build.port_object(PortRange { first: switch.port, last: switch.port });
        PowerOff { ports, port: switch.port, bytes: switch.off.to_vec(), failed: switch.failed.to_vec() }
    });
}
