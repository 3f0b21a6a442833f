//! Wiring: who may call, signal and share memory with whom, and what each process's configuration says of it. One
//! function per server. Slots and addresses are those of `layout`; sizes of rings and buffers are decided here.

use core::num::NonZeroU16;

use layout::{
    FAULT_BIT, client_badge,
    config::{
        self, Component, FileClient, FileEntry, Irq, Line, Name, Pci, PciClient, PciFunction, PciPorts, Ports,
        RingKind, Serial, SerialRing, Signal, Timer, VmLine, Vmm, Window,
    },
    event, slot, window,
};

use crate::{
    board::PortRange,
    builder::Builder,
    bundle::PAGE,
    compile::{Binaries, CompileError},
    guest::Form,
    memory,
    parts::{Part, Role, Service},
    passthrough::{self, Of, lines},
    spec::{Fill, Id, Kind, Rights},
    system::{Policy, System},
};

/// Bytes of the ring from a guest's console.
const CONSOLE_OUT_BYTES: u64 = 16 * 1024;
/// Bytes of the ring to a guest's console.
const CONSOLE_IN_BYTES: u64 = 4096;
/// Bytes of the buffer that a client shares with fileserver.
const FILE_BYTES: u64 = 64 * 1024;
/// Speed of the console.
const BAUD: u32 = 115_200;

/// A system on its way from parts to objects.
pub(crate) struct Wiring<'a> {
    pub system: &'a System,
    pub parts: &'a [Part],
    pub binaries: &'a dyn Binaries,
    pub build: Builder,
}

pub(crate) fn name(text: &str) -> Result<Name, CompileError> {
    Name::try_from(text).map_err(|_| CompileError::TooLong(text.into()))
}

impl Wiring<'_> {
    /// Numbers of the processes that call a server; the position is the client's number there, hence its badge.
    fn clients(&self, service: Service) -> Vec<usize> {
        self.parts.iter().enumerate().filter(|(_, part)| part.calls(service)).map(|(n, _)| n).collect()
    }

    fn client_names(&self, service: Service) -> impl Iterator<Item = (usize, Result<Name, CompileError>)> {
        self.clients(service).into_iter().map(|n| (n, name(&self.parts[n].name)))
    }

    /// root-task's endpoint. Each process may send notices to it under the badge of its number + 1; the kernel sends
    /// the thread's faults there too, under the same badge with `layout::FAULT_BIT`.
    pub fn supervisor(&mut self) {
        let endpoint = self.build.object("root-task.supervisor", Kind::Endpoint);
        self.build.spec.supervisor = endpoint;
        for process in 0..self.parts.len() {
            let badge = process as u64 + 1;
            // Who asks for device memory and ports waits for the answer.
            let rights = if self.has_windows(process) { Rights::CALL } else { Rights::WRITE };
            self.build.cap(process, slot::SUPERVISOR, endpoint, rights, badge);
            self.build.cap(process, slot::FAULT, endpoint, Rights::CALL, badge | FAULT_BIT);
        }
    }

    /// May the process ask root-task for device memory and ports?
    fn has_windows(&self, process: usize) -> bool {
        self.parts[process].role == Role::Server(Service::Pci) && self.parts[process].devices
    }

    /// The number of a process among a server's clients.
    fn client(&self, service: Service, process: usize) -> Option<usize> {
        self.clients(service).iter().position(|&n| n == process)
    }

    /// The notification and badge that say that a process was stopped: pci-server hears it of those that have devices.
    pub fn on_stop(&self, process: usize) -> Option<(Id, u64)> {
        let has_devices = self.parts[process].devices && !matches!(self.parts[process].role, Role::Server(_));
        let client = self.client(Service::Pci, process).filter(|_| has_devices)?;
        let events = self.build.domains[Service::Pci as usize].events?;
        Some((events, event::client(client)))
    }

    /// A server's endpoint. A server that passes capabilities in its replies needs the grant right to do so.
    pub fn service(&mut self, service: Service) {
        let endpoint = self.build.object(format!("{}.service", service.server()), Kind::Endpoint);
        let grant = matches!(service, Service::Irq | Service::Pci);
        self.build.cap(service as usize, slot::SERVICE, endpoint, Rights { grant, ..Rights::READ }, 0);
        for (client, process) in self.clients(service).into_iter().enumerate() {
            self.build.cap(process, service.slot(), endpoint, Rights::CALL, client_badge(client as u64));
        }
    }

    pub fn irq(&mut self) -> Result<Irq, CompileError> {
        let server = Service::Irq as usize;
        let control = self.build.object("irq-control", Kind::IrqControl);
        self.build.cap(server, slot::IRQ_CONTROL, control, Rights::ALL, 0);
        let mut known = heapless::Vec::new();
        for (number, line) in lines(self.system).into_iter().enumerate() {
            let client = self.client(Service::Irq, line.process).unwrap_or_default();
            let signal = self.build.signal(server, line.process, line.event);
            let of_device = !matches!(line.of, Of::Server(_));
            let line = Line {
                name: name(&line.name)?,
                owner: client as u64,
                route: line.route,
                vector: number as u8,
                signal,
                own: of_device.then(|| self.build.signal(server, server, event::ring(number))),
                limit: line.limit,
            };
            known.push(line).map_err(|_| CompileError::TooMany("interrupt lines"))?;
        }
        let devices = self.parts[server].devices;
        let router = self.client(Service::Irq, Service::Pci as usize).map(|client| client as u64);
        let alarm = devices.then(|| self.build.signal(server, Service::Timer as usize, event::ALARM));
        Ok(Irq { lines: known, router, alarm })
    }

    pub fn timer(&mut self) -> Result<Timer, CompileError> {
        let server = Service::Timer as usize;
        let board = self.system.board();
        let [pit, gate, rtc] = [board.pit.ports, board.gate, board.rtc.ports].map(|r| self.build.ports(server, r));
        let mut clients = heapless::Vec::new();
        let named: Vec<_> = self.client_names(Service::Timer).collect();
        for (process, name) in named {
            let slot = self.build.signal(server, process, event::TIMER);
            clients.push(Signal { name: name?, slot }).map_err(|_| CompileError::TooMany("clients of timer-server"))?;
        }
        let alarm = self.parts[server].devices.then(|| self.build.signal(server, Service::Irq as usize, event::TIMER));
        Ok(Timer { pit, gate, rtc, line: line_of(self.system, Service::Timer), clients, alarm })
    }

    pub fn serial(&mut self) -> Result<Serial, CompileError> {
        let server = Service::Serial as usize;
        let uart = self.build.ports(server, self.system.board().uart.ports);
        let mut serial =
            Serial { uart, baud: BAUD, line: line_of(self.system, Service::Serial), rings: heapless::Vec::new() };
        for process in (0..self.parts.len()).filter(|&process| process != server) {
            let ring = self.log(process)?;
            let bell = event::ring(serial.rings.len());
            self.build.doorbell(process, slot::LOG, server, bell);
            serial.rings.push(ring).map_err(|_| CompileError::TooMany("streams to the console"))?;
        }
        Ok(serial)
    }

    fn log(&mut self, process: usize) -> Result<SerialRing, CompileError> {
        let output = self.build.window(Service::Serial as usize, window::LOG_BYTES);
        let here = Window { at: window::LOG, len: window::LOG_BYTES };
        self.build.share("log", (process, here), (Service::Serial as usize, output));
        Ok(SerialRing { name: name(&self.parts[process].name)?, kind: RingKind::Log, output, input: None })
    }

    /// A VM's console: adds its stream to serial-server's, gives the vmm-server's windows (out, in).
    fn console(&mut self, process: usize, vm: &str, serial: &mut Serial) -> Result<(Window, Window), CompileError> {
        let server = Service::Serial as usize;
        let [out, input] = [("console-out", CONSOLE_OUT_BYTES), ("console-in", CONSOLE_IN_BYTES)].map(|(what, len)| {
            let (here, there) = (self.build.window(process, len), self.build.window(server, len));
            self.build.share(what, (process, here), (server, there));
            (here, there)
        });
        self.build.doorbell(process, slot::CONSOLE, server, event::ring(serial.rings.len()));
        let signal = self.build.signal(server, process, event::CONSOLE);
        let ring =
            SerialRing { name: name(vm)?, kind: RingKind::Console, output: out.1, input: Some((input.1, signal)) };
        serial.rings.push(ring).map_err(|_| CompileError::TooMany("streams to the console"))?;
        Ok((out.0, input.0))
    }

    pub fn pci(&mut self) -> Result<Pci, CompileError> {
        let config = self.build.ports(Service::Pci as usize, self.system.board().pci);
        let mut clients = heapless::Vec::new();
        for (process, name) in self.client_names(Service::Pci) {
            let enumerate = match self.parts[process].role {
                Role::Vmm(n) => self.system.vms[n].pci_enumerate,
                Role::Component(n) => self.system.components[n].pci_enumerate,
                Role::Server(_) => false,
            };
            let client = PciClient { name: name?, enumerate };
            clients.push(client).map_err(|_| CompileError::TooMany("clients of pci-server"))?;
        }
        let intx = self.system.board().intx;
        Ok(Pci { config, clients, functions: self.functions()?, ports: self.lone_ports()?, intx })
    }

    /// The functions that are passed through.
    fn functions<const N: usize>(&self) -> Result<heapless::Vec<PciFunction, N>, CompileError> {
        let lines = lines(self.system);
        let mut functions = heapless::Vec::new();
        for function in passthrough::functions(self.system) {
            let address = function.device.address;
            let memory = function.device.memory.as_ref().map(|all| {
                all.iter().map(|memory| (memory.get_ref().paddr, memory.get_ref().size)).collect::<Vec<_>>()
            });
            let function = PciFunction {
                owner: self.client(Service::Pci, function.process).unwrap_or_default() as u8,
                name: name(&function.device.label())?,
                bus: address.bus,
                device: address.device,
                function: address.function,
                direct: function.direct(),
                dma: function.dma(),
                lines: bounded(function.lines(&lines), "interrupt lines of a function")?,
                ports: function.ports().map(|ports| bounded(ports, "ranges of ports of a function")).transpose()?,
                memory: memory.map(|memory| bounded(memory, "ranges of memory of a function")).transpose()?,
            };
            functions.push(function).map_err(|_| CompileError::TooMany("PCI functions"))?;
        }
        Ok(functions)
    }

    /// Ports that are passed through and belong to no function.
    fn lone_ports<const N: usize>(&self) -> Result<heapless::Vec<PciPorts, N>, CompileError> {
        let mut lone = heapless::Vec::new();
        for (process, owner) in passthrough::owners(self.system) {
            let client = self.client(Service::Pci, process).unwrap_or_default() as u8;
            for ports in owner.devices.ports_of(None) {
                let (first, last) = ports.range();
                let (name, trusted) = (name(ports.name.get_ref())?, ports.trusted());
                let ports = PciPorts { owner: client, name, first, last, trusted };
                lone.push(ports).map_err(|_| CompileError::TooMany("ranges of ports"))?;
            }
        }
        Ok(lone)
    }

    /// fileserver's configuration, and its clients' buffers by process.
    pub fn file(&mut self) -> Result<(config::File, Vec<(usize, Window)>), CompileError> {
        let mut file = config::File { files: heapless::Vec::new(), clients: heapless::Vec::new() };
        let mut at = window::FILES;
        for image in self.system.images() {
            let data = self.binaries.image(&image.name).ok_or_else(|| CompileError::NoImage(image.name.clone()))?;
            let data = self.image(&image.name, data, at);
            at += data.len.next_multiple_of(PAGE);
            let entry = FileEntry { name: name(&image.name)?, data };
            file.files.push(entry).map_err(|_| CompileError::TooMany("images"))?;
        }
        let mut buffers = Vec::new();
        let named: Vec<_> = self.client_names(Service::File).collect();
        for (process, name) in named {
            let server = Service::File as usize;
            let (here, buffer) = (self.build.window(process, FILE_BYTES), self.build.window(server, FILE_BYTES));
            self.build.share("files", (process, here), (server, buffer));
            buffers.push((process, here));
            let client = FileClient { name: name?, buffer, may_open: self.may_open(self.parts[process].role) };
            file.clients.push(client).map_err(|_| CompileError::TooMany("clients of fileserver"))?;
        }
        Ok((file, buffers))
    }

    /// An image as read-only pages of the bundle.
    fn image(&mut self, name: &str, data: &[u8], at: u64) -> Window {
        let window = Window { at, len: data.len() as u64 };
        if !data.is_empty() {
            let offset = self.build.blobs.add(data);
            let frames = self.build.frames(format!("fileserver.image.{name}"), window.len, Fill::Bundle { offset });
            self.build.map(self.build.domains[Service::File as usize].vspace, frames, at, Rights::READ);
        }
        window
    }

    fn may_open(&self, role: Role) -> u64 {
        let index = |key: (&_, Form)| self.system.image_index(key.0, key.1);
        let images: Vec<Option<usize>> = match role {
            Role::Vmm(n) => self.system.images_of(n).into_iter().map(index).collect(),
            Role::Component(n) => {
                self.system.components[n].files.iter().map(|file| index((file.get_ref(), Form::AsIs))).collect()
            }
            Role::Server(_) => Vec::new(),
        };
        images.into_iter().flatten().fold(0, |bits, image| bits | 1 << image)
    }

    pub fn vmm(&mut self, process: usize, vm: usize, files: Window, serial: &mut Serial) -> Result<Vmm, CompileError> {
        let (number, vm) = (vm, &self.system.vms[vm]);
        let (console_out, console_in) = self.console(process, vm.name.get_ref(), serial)?;
        let (kernel, initrd) = self.system.boots(number);
        let mut direct_ports = heapless::Vec::new();
        for port in &vm.direct_ports {
            let port = *port.get_ref();
            let ports: Ports = self.build.ports(process, PortRange { first: port, last: port });
            direct_ports.push(ports).map_err(|_| CompileError::TooMany("direct ports"))?;
        }
        let spare = memory::spare(self.system, number);
        Ok(Vmm {
            name: name(vm.name.get_ref())?,
            ram: vm.memory.get_ref().0,
            ram_at: self.system.ram_at(number),
            kernel: name(&kernel)?,
            initrd: initrd.as_deref().map(name).transpose()?,
            cmdline: vm.cmdline().try_into().map_err(|_| CompileError::TooLong(vm.cmdline().into()))?,
            files,
            console_out,
            console_in,
            direct_ports,
            lines: self.lines_of(process)?,
            directories: spare.directories,
            tables: spare.tables,
            resets: self.system.policy.resets.map_or(Policy::RESETS, NonZeroU16::get),
            rng: vm.rng,
        })
    }

    /// A process's interrupt lines as it is told of them.
    fn lines_of<const N: usize>(&self, process: usize) -> Result<heapless::Vec<VmLine, N>, CompileError> {
        bounded(passthrough::lines_of(self.system, process).collect(), "interrupt lines of a process")
    }

    pub fn component(
        &mut self,
        process: usize,
        component: usize,
        files: Option<Window>,
    ) -> Result<Component, CompileError> {
        let dma = self.dma_memory(process, component);
        let lines = self.lines_of(process)?;
        let component = &self.system.components[component];
        let args = component.args.as_ref().map_or("", |args| args.get_ref());
        let args = args.try_into().map_err(|_| CompileError::TooLong(args.into()))?;
        Ok(Component { name: name(component.name.get_ref())?, files, args, lines, dma })
    }
}

/// A list that `checks` keeps short enough.
fn bounded<T, const N: usize>(list: Vec<T>, what: &'static str) -> Result<heapless::Vec<T, N>, CompileError> {
    if list.len() > N { Err(CompileError::TooMany(what)) } else { Ok(list.into_iter().collect()) }
}

/// The line that a server owns.
fn line_of(system: &System, owner: Service) -> u8 {
    lines(system).iter().position(|line| line.of == Of::Server(owner)).unwrap_or_default() as u8
}
