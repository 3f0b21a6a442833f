//! Wiring: who may call, signal and share memory with whom, and what each process's configuration says of it. One
//! function per server. Slots and addresses are those of `layout`; sizes of rings and buffers are decided here.

use layout::{
    FAULT_BIT, client_badge,
    config::{
        self, Component, FileClient, FileEntry, Irq, Line, Name, Pci, PciClient, Ports, RingKind, Route, Serial,
        SerialRing, Signal, Timer, Vmm, Window,
    },
    event, slot, window,
};

use crate::{
    board::{PortRange, Source},
    builder::Builder,
    bundle::PAGE,
    compile::{Binaries, CompileError},
    guest::Form,
    parts::{Part, Role, Service},
    spec::{Fill, Kind, PageSize, Rights},
    system::System,
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

/// An interrupt line: its name, who owns it, where it arrives.
pub(crate) type OwnedLine = (&'static str, Service, Source);

/// All interrupt lines of a system; irq-server and its clients name a line by its position here.
pub(crate) fn lines(system: &System) -> [OwnedLine; 2] {
    let board = system.board();
    [(board.pit.name, Service::Timer, board.pit.line), (board.uart.name, Service::Serial, board.uart.line)]
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
            self.build.cap(process, slot::SUPERVISOR, endpoint, Rights::WRITE, badge);
            self.build.cap(process, slot::FAULT, endpoint, Rights::CALL, badge | FAULT_BIT);
        }
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
        let clients = self.clients(Service::Irq);
        let mut lines = heapless::Vec::new();
        for (number, (line, owner, source)) in lines_of(self.system) {
            let client = clients.iter().position(|&n| n == owner as usize).unwrap_or_default();
            let signal = self.build.signal(server, owner as usize, event::INTERRUPT);
            let line = Line {
                name: name(line)?,
                owner: client as u64,
                route: Some(Route { ioapic: source.ioapic, pin: source.pin, level: false, active_low: false }),
                vector: number,
                signal,
                own: None,
                limit: 0,
            };
            lines.push(line).map_err(|_| CompileError::TooMany("interrupt lines"))?;
        }
        Ok(Irq { lines, router: None, alarm: None })
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
        Ok(Timer { pit, gate, rtc, line: line_of(self.system, Service::Timer), clients, alarm: None })
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
        Ok(Pci {
            config,
            clients,
            functions: heapless::Vec::new(),
            ports: heapless::Vec::new(),
            intx: config::Intx::FirmwareLine,
        })
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
            Role::Vmm(n) => self.system.vms[n].images().map(index).collect(),
            Role::Component(n) => {
                self.system.components[n].files.iter().map(|file| index((file.get_ref(), Form::AsIs))).collect()
            }
            Role::Server(_) => Vec::new(),
        };
        images.into_iter().flatten().fold(0, |bits, image| bits | 1 << image)
    }

    pub fn vmm(&mut self, process: usize, vm: usize, files: Window, serial: &mut Serial) -> Result<Vmm, CompileError> {
        let vm = &self.system.vms[vm];
        let (console_out, console_in) = self.console(process, vm.name.get_ref(), serial)?;
        let names: Vec<Name> = {
            let images = self.system.images();
            let index = vm.images().filter_map(|key| self.system.image_index(key.0, key.1));
            index.map(|n| name(&images[n].name)).collect::<Result<_, _>>()?
        };
        let mut direct_ports = heapless::Vec::new();
        for port in &vm.direct_ports {
            let port = *port.get_ref();
            let ports: Ports = self.build.ports(process, PortRange { first: port, last: port });
            direct_ports.push(ports).map_err(|_| CompileError::TooMany("direct ports"))?;
        }
        Ok(Vmm {
            name: name(vm.name.get_ref())?,
            ram: vm.memory.get_ref().0,
            ram_at: 0,
            kernel: names.first().cloned().unwrap_or_default(),
            initrd: names.get(1).cloned(),
            cmdline: vm.cmdline().try_into().map_err(|_| CompileError::TooLong(vm.cmdline().into()))?,
            files,
            console_out,
            console_in,
            direct_ports,
            lines: heapless::Vec::new(),
            directories: 0,
            tables: 0,
        })
    }

    /// The guest itself: its virtual CPU, and RAM that only it and its vmm-server see.
    pub fn guest(&mut self, process: usize, ram: u64) -> (crate::spec::Id, crate::spec::Id) {
        let (owner, vspace) = (self.build.domains[process].name.clone(), self.build.domains[process].vspace);
        let vcpu = self.build.object(format!("{owner}.vcpu"), Kind::Vcpu);
        self.build.cap(process, slot::VCPU, vcpu, Rights::ALL, 0);
        let ept = self.build.object(format!("{owner}.ept"), Kind::Ept);
        let pages = (ram >> PageSize::Large.bits()) as u32;
        let frames = Kind::Frames { size: PageSize::Large, pages, fill: Fill::Zero };
        let frames = self.build.object(format!("{owner}.guest-ram"), frames);
        self.build.map(vspace, frames, window::GUEST_RAM, Rights::READ_WRITE);
        self.build.map(ept, frames, 0, Rights::ALL);
        (vcpu, ept)
    }

    pub fn component(&self, component: usize, files: Option<Window>) -> Result<Component, CompileError> {
        let component = &self.system.components[component];
        let args = component.args.as_ref().map_or("", |args| args.get_ref());
        let args = args.try_into().map_err(|_| CompileError::TooLong(args.into()))?;
        Ok(Component { name: name(component.name.get_ref())?, files, args, lines: heapless::Vec::new(), dma: None })
    }
}

fn lines_of(system: &System) -> impl Iterator<Item = (u8, OwnedLine)> {
    (0..).zip(lines(system))
}

/// The line that a server owns.
fn line_of(system: &System, owner: Service) -> u8 {
    lines_of(system).find(|(_, line)| line.1 == owner).map_or(0, |(number, _)| number)
}
