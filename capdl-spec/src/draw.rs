//! The drawing of a compiled system: guests above, their vmm-servers and the components below them, then the servers,
//! seL4, and the board at the bottom. Every line is a capability or a mapping of the specification; the legend says
//! what all processes have alike (a log ring, faults to root-task).

pub(crate) mod canvas;
mod pins;
mod rails;

use canvas::{Anchor, Area, Canvas, Font, Heads, Stroke};
use pins::{Pin, natural_width, place, server_width};
use proto::{
    file, irq,
    pci::{self, Dma},
    serial, timer,
};

use crate::{
    compile::{
        lines::lines,
        part::{Part, ROOT_PRIORITY, Role},
        passthrough::{self, functions},
    },
    description::{board::PortRange, system::System},
    map::plural,
    services::{ALL, Server, channels, lifecycle, pipes, server},
    spec::{Id, Kind, Process, Spec},
};

const MARGIN: f64 = 40.0;
const ROOT_WIDTH: f64 = 170.0;
const GAP: f64 = 36.0;
const CLIENT_WIDTH: f64 = 250.0;
const RAIL_STEP: f64 = 17.0;

const GUEST_Y: f64 = 130.0;
const GUEST_H: f64 = 104.0;
const CLIENT_Y: f64 = GUEST_Y + GUEST_H + 78.0;
const BOX_H: f64 = 78.0;

const TITLE: Font = Font { size: 25.0, bold: true, fill: "#0f172a" };
const NAME: Font = Font { size: 15.0, bold: true, fill: "#0f172a" };
const PLAIN: Font = Font { size: 12.0, bold: false, fill: "#334155" };
const SMALL: Font = Font { size: 11.0, bold: false, fill: "#64748b" };
const LIGHT: Font = Font { size: 12.0, bold: false, fill: "#e2e8f0" };

const ROOT: (&str, &str) = ("#334155", "#e8edf3");
const GUEST: (&str, &str) = ("#15803d", "#e9f8ee");
const VMM: (&str, &str) = ("#475569", "#f8fafc");
const CHIP: (&str, &str) = ("#57534e", "#f5f5f4");

/// The servers of the row, left to right.
fn row(system: &System) -> impl Iterator<Item = &'static Server> {
    ALL.into_iter().rev().filter(|server| !server.look.aside && (server.is_wanted)(system))
}

/// Those beside it.
fn aside() -> impl Iterator<Item = &'static Server> {
    ALL.into_iter().filter(|server| server.look.aside)
}

struct Drawing<'a> {
    system: &'a System,
    spec: &'a Spec,
    parts: Vec<Part>,
    pins: Vec<Pin>,
    pin_count: usize,
    clients: Vec<usize>,
    /// The row of servers, without irq-server.
    row: Area,
    irq: Area,
    width: f64,
    canvas: Canvas,
}

/// Draws a system; `spec` is what [`crate::compile::compile`] or [`crate::compile::plan`] made of it.
pub fn svg(system: &System, spec: &Spec) -> String {
    let mut drawing = Drawing::new(system, spec);
    drawing.title();
    drawing.connections();
    drawing.guests();
    drawing.client_boxes();
    drawing.servers();
    drawing.irq_lines();
    drawing.serial_deadlines();
    drawing.root_task();
    let bottom = drawing.kernel_and_board();
    let height = drawing.legend(bottom + 34.0);
    let title = format!("{}: processes, authority and devices", system.name);
    drawing.canvas.finish(drawing.width, height, &title)
}

impl<'a> Drawing<'a> {
    fn new(system: &'a System, spec: &'a Spec) -> Self {
        let parts = system.parts();
        let clients: Vec<usize> = (0..parts.len()).filter(|&n| !parts[n].is_server()).collect();
        let none = Area { x: 0.0, y: 0.0, w: 0.0, h: 0.0 };
        let canvas = Canvas::default();
        let mut drawing = Drawing {
            system,
            spec,
            parts,
            pins: Vec::new(),
            pin_count: 0,
            clients,
            row: none,
            irq: none,
            width: 0.0,
            canvas,
        };
        drawing.lay_out();
        drawing
    }

    /// Puts the servers side by side, each as wide as its pins need, and the clients above them.
    fn lay_out(&mut self) {
        let left = MARGIN + ROOT_WIDTH + GAP;
        let mut pins: Vec<Pin> = row(self.system).chain(aside()).flat_map(|server| self.pins_of(server)).collect();
        let natural = natural_width(&pins, self.system);
        let clients = self.clients.len().max(1) as f64;
        let width = natural.max(clients * CLIENT_WIDTH + (clients - 1.0) * GAP);
        let stretch = width / natural;
        let y = CLIENT_Y + BOX_H + 96.0 + if clients > 1.0 { RAIL_STEP * pins.len() as f64 } else { 0.0 };
        self.row = Area { x: left, y, w: width, h: BOX_H };
        let mut x = left;
        for server in row(self.system) {
            let w = server_width(&pins, server) * stretch;
            place(&mut pins, server.service, x, w);
            x += w + GAP * stretch;
        }
        let h = if self.devices_are_passed_through() { 130.0 } else { 112.0 };
        self.irq = Area { x: self.row.right() + GAP, y: y + BOX_H + 52.0, w: 190.0, h };
        for server in aside() {
            place(&mut pins, server.service, self.irq.x, self.irq.w);
        }
        self.pin_count = pins.len();
        self.pins = pins;
        self.width = self.irq.right() + MARGIN;
    }

    /// Whether any process has passed-through devices.
    fn devices_are_passed_through(&self) -> bool {
        self.parts.iter().any(|part| part.devices)
    }

    fn title(&mut self) {
        let counts = (plural(self.system.vms.len(), "VM"), plural(self.parts.len(), "process"));
        self.canvas.text(MARGIN, 52.0, Anchor::Start, TITLE, &self.system.name);
        let about = format!("{}, {} and root-task, on {}", counts.0, counts.1, self.system.board().about);
        self.canvas.text(MARGIN, 76.0, Anchor::Start, PLAIN, &about);
    }

    /// The box of a client. A single client is as wide as the row of servers, so that its lines run straight.
    fn client_area(&self, client: usize) -> Area {
        let count = self.clients.len() as f64;
        let w = (self.row.w - GAP * (count - 1.0)) / count;
        let place = self.clients.iter().position(|&n| n == client).unwrap_or_default() as f64;
        Area { x: self.row.x + place * (w + GAP), y: CLIENT_Y, w, h: BOX_H }
    }

    fn guests(&mut self) {
        for &client in &self.clients.clone() {
            let Role::Vmm(n) = self.parts[client].role else { continue };
            let (below, vm) = (self.client_area(client), &self.system.vms[n]);
            let w = below.w.min(320.0);
            let area = Area { x: below.middle() - w / 2.0, y: GUEST_Y, w, h: GUEST_H };
            let (exits, ram) = (area.middle() - 50.0, area.middle() + 50.0);
            self.canvas.path(&[(exits, area.bottom()), (exits, below.y)], Stroke::Call, Heads::BOTH, GUEST.0);
            self.canvas.path(&[(ram, area.bottom()), (ram, below.y)], Stroke::Memory, Heads::NONE, GUEST.0);
            let green = Font { fill: GUEST.0, ..SMALL };
            let y = (area.bottom() + below.y) / 2.0 + 4.0;
            self.canvas.text(exits - 9.0, y, Anchor::End, green, "VM exits");
            self.canvas.text(ram + 10.0, y, Anchor::Start, green, &format!("RAM {}", vm.memory.get_ref()));
            self.canvas.rect(area, 14.0, GUEST.1, GUEST.0);
            let names: Vec<String> = self.system.images_of(n).iter().map(|(origin, _)| origin.base_name()).collect();
            self.canvas.text(area.middle(), area.y + 28.0, Anchor::Middle, NAME, vm.name.get_ref());
            self.canvas.text(area.middle(), area.y + 48.0, Anchor::Middle, SMALL, "virtual machine, behind an EPT");
            for (line, (word, name)) in ["kernel", "initrd"].iter().zip(&names).enumerate() {
                let y = area.y + 70.0 + 17.0 * line as f64;
                self.canvas.text(area.middle(), y, Anchor::Middle, PLAIN, &format!("{word} {}", shorten(name, 30)));
            }
        }
    }

    fn client_boxes(&mut self) {
        for &client in &self.clients.clone() {
            let (area, part) = (self.client_area(client), self.parts[client].clone());
            self.canvas.rect(area, 9.0, VMM.1, VMM.0);
            let about = match part.role {
                Role::Component(_) => format!("component, priority {}", part.priority),
                _ => format!("vmm-server, priority {}", part.priority),
            };
            let reach = self.reach(client);
            if !reach.is_empty() {
                self.canvas.text(area.middle(), area.y + 69.0, Anchor::Middle, SMALL, &reach);
            }
            self.canvas.text(area.middle(), area.y + 34.0, Anchor::Middle, NAME, &part.name);
            self.canvas.text(area.middle(), area.y + 54.0, Anchor::Middle, SMALL, &about);
        }
    }

    /// The devices that a client reaches: ports by capability, and functions with their access to memory.
    fn reach(&self, client: usize) -> String {
        let ports = self.ports_of(self.spec.processes[client].cspace);
        let mut reach: Vec<String> = ports.iter().map(|range| format!("direct port {range}")).collect();
        let role = self.parts[client].role;
        let owner = passthrough::owners(self.system).find(|owner| owner.role == role);
        for ports in owner.iter().flat_map(|owner| owner.devices.ports_of(None)) {
            let (first, last) = ports.range();
            reach.push(format!("port {}", PortRange { first, last }));
        }
        if let Role::Vmm(vm) = role {
            let vm = &self.system.vms[vm];
            let pipes = pipes::of_vm(self.system, vm.name.get_ref());
            reach.extend(pipes.map(|name| format!("pipe {}", name.get_ref())));
            reach.extend(vm.managers.iter().map(|manager| format!("managed by {}", manager.get_ref().name)));
        }
        let name = match role {
            Role::Vmm(vm) => self.system.vms.get(vm).map(|vm| &vm.name),
            Role::Component(number) => self.system.components.get(number).map(|component| &component.name),
            Role::Server(_) => None,
        };
        let channels = name.into_iter().flat_map(|name| channels::of(self.system, name.get_ref()));
        reach.extend(channels.map(|channel| format!("channel {}", channel.name.get_ref())));
        reach.extend(lifecycle::managed(self.system, role).map(|vm| format!("manages {}", vm.name.get_ref())));
        reach.extend(functions(self.system).filter(|function| function.owner.role == role).map(|function| {
            let dma = match function.dma() {
                Dma::No => "no DMA",
                Dma::Trusted => "DMA trusted",
                Dma::Domain => "DMA by IOMMU",
            };
            format!("{} ({dma})", function.device.address)
        }));
        reach.join(", ")
    }

    fn server_area(&self, server: &Server) -> Area {
        if server.look.aside {
            return self.irq;
        }
        let stretch = self.row.w / natural_width(&self.pins, self.system);
        let before = row(self.system).take_while(|one| one.service != server.service);
        let x = before.map(|one| (server_width(&self.pins, one) + GAP) * stretch).sum::<f64>() + self.row.x;
        Area { x, w: server_width(&self.pins, server) * stretch, ..self.row }
    }

    fn servers(&mut self) {
        for server in self.system.servers() {
            let (area, look) = (self.server_area(server), &server.look);
            self.canvas.rect(area, 9.0, look.fill, look.line);
            let y = area.y + area.h / 2.0;
            self.canvas.text(area.middle(), y - 4.0, Anchor::Middle, NAME, server.service.server);
            let about = format!("priority {}", server.priority);
            self.canvas.text(area.middle(), y + 16.0, Anchor::Middle, SMALL, &about);
        }
        let Some(file) = server(file::SERVICE) else { return };
        let area = self.server_area(file);
        let images: Vec<String> = self.system.images().into_iter().map(|image| shorten(&image.name, 24)).collect();
        for (line, name) in images.iter().take(5).enumerate() {
            let y = area.bottom() + 22.0 + 16.0 * line as f64;
            self.canvas.text(area.middle(), y, Anchor::Middle, Font { fill: file.look.line, ..SMALL }, name);
        }
    }

    /// Claims of interrupt lines at irq-server, and the interrupts that come from it.
    fn irq_lines(&mut self) {
        let Some(irq) = server(irq::SERVICE) else { return };
        let colour = irq.look.line;
        for (n, owner) in ALL.into_iter().filter(|server| server.line.is_some()).enumerate() {
            let (area, place) = (self.server_area(owner), self.irq.y + 22.0 + 48.0 * n as f64);
            for (k, (stroke, heads)) in
                [(Stroke::Call, Heads::END), (Stroke::Signal, Heads::START)].into_iter().enumerate()
            {
                let (x, y) = (area.right() - 22.0 - 22.0 * k as f64, place + 24.0 * k as f64);
                self.canvas.path(&[(x, area.bottom()), (x, y), (self.irq.x, y)], stroke, heads, colour);
            }
        }
        if let Some(pci) = server(pci::SERVICE).filter(|_| self.devices_are_passed_through()) {
            let (pci, y) = (self.server_area(pci), self.irq.bottom() - 10.0);
            let x = pci.right() - 22.0;
            self.canvas.path(&[(x, pci.bottom()), (x, y), (self.irq.x, y)], Stroke::Call, Heads::END, colour);
        }
        // Beside serial-server's there is room for words.
        if let Some(serial) = server(serial::SERVICE) {
            let (x, y) = (self.server_area(serial).right() + 14.0, self.irq.y + 70.0);
            let font = Font { fill: colour, ..SMALL };
            self.canvas.text(x, y - 6.0, Anchor::Start, font, "calls");
            self.canvas.text(x - 46.0, y + 39.0, Anchor::Start, font, "interrupts");
        }
    }

    /// serial-server's deadlines at timer-server, its neighbour: the call to the right, the signal to the left.
    fn serial_deadlines(&mut self) {
        let (Some(serial), Some(timer)) = (server(serial::SERVICE), server(timer::SERVICE)) else { return };
        let (from, colour) = (self.server_area(serial), timer.look.line);
        let (left, right) = (from.right(), self.server_area(timer).x);
        let [call, signal] = [from.y + 20.0, from.bottom() - 20.0];
        self.canvas.path(&[(left, call), (right, call)], Stroke::Call, Heads::END, colour);
        self.canvas.path(&[(left, signal), (right, signal)], Stroke::Signal, Heads::START, colour);
    }

    fn root_task(&mut self) {
        let area = Area { x: MARGIN, y: CLIENT_Y, w: ROOT_WIDTH, h: self.irq.bottom() - CLIENT_Y };
        self.canvas.rect(area, 9.0, ROOT.1, ROOT.0);
        let x = area.middle();
        self.canvas.text(x, area.y + 34.0, Anchor::Middle, NAME, "root-task");
        self.canvas.text(x, area.y + 54.0, Anchor::Middle, SMALL, &format!("priority {ROOT_PRIORITY}"));
        let lines = ["builds all of this,", "starts every process,", "then receives faults", "and notices from all"];
        for (n, line) in lines.iter().enumerate() {
            self.canvas.text(x, area.y + 92.0 + 18.0 * n as f64, Anchor::Middle, PLAIN, line);
        }
    }

    /// seL4 as a band; below it the board's devices, each under the server that has its ports.
    fn kernel_and_board(&mut self) -> f64 {
        let band = Area { x: MARGIN, y: self.irq.bottom() + 40.0, w: self.width - 2.0 * MARGIN, h: 46.0 };
        let chips = band.bottom() + 46.0;
        self.canvas.rect(band, 9.0, "#1e293b", "#1e293b");
        let font = Font { fill: "#f8fafc", ..NAME };
        self.canvas.text(band.x + 20.0, band.y + 29.0, Anchor::Start, font, "seL4");
        let about = format!("{} capabilities in {}", self.spec.caps.len(), plural(self.parts.len(), "CSpace"));
        self.canvas.text(self.row.x, band.y + 28.0, Anchor::Start, LIGHT, &about);
        for server in ALL {
            self.devices(server, chips);
        }
        self.root_devices(chips);
        let apic = Area { x: self.irq.x, y: chips, w: self.irq.w, h: 74.0 };
        let x = apic.middle();
        for server in aside() {
            let line = [(x, self.irq.bottom()), (x, apic.y)];
            self.canvas.path(&line, Stroke::Wire, Heads::START, server.look.line);
        }
        let mut pins: Vec<String> = Vec::new();
        for line in lines(self.system, &self.parts) {
            let pin = line.route.map(|route| format!("{} pin {}", line.name, route.pin));
            pins.extend(pin.filter(|pin| !pins.contains(pin)));
        }
        self.chip(apic, "I/O APIC", &pins.join(", "));
        chips + 74.0
    }

    /// The devices whose ports a server holds, side by side below it.
    fn devices(&mut self, server: &Server, y: f64) {
        let Some(process) = self.process(server) else { return };
        let ranges = self.ports_of(process.cspace);
        let (area, colour) = (self.server_area(server), server.look.line);
        let count = ranges.len() as f64;
        let w = (area.w - 10.0 * (count - 1.0)) / count;
        for (n, range) in ranges.into_iter().enumerate() {
            let chip = Area { x: area.x + n as f64 * (w + 10.0), y, w, h: 74.0 };
            // Interrupt lines leave on the right.
            let x = if server.line.is_some() { chip.x + w / 4.0 } else { chip.middle() };
            self.canvas.path(&[(x, area.bottom()), (x, y)], Stroke::Wire, Heads::END, colour);
            let name = self.device_name(range);
            self.chip(chip, name, &range.to_string());
        }
        let functions = functions(self.system).count();
        if server.service == pci::SERVICE && functions > 0 {
            let text = format!("and {} on the bus", plural(functions, "function"));
            self.canvas.text(area.middle(), y + 92.0, Anchor::Middle, SMALL, &text);
        }
    }

    fn root_devices(&mut self, y: f64) {
        let Some(switch) = &self.spec.power_off else { return };
        let chip = Area { x: MARGIN, y, w: ROOT_WIDTH, h: 74.0 };
        let x = chip.middle();
        let (port, bottom) = (format!("{:#x}", switch.port), self.irq.bottom());
        self.canvas.path(&[(x, bottom), (x, y)], Stroke::Wire, Heads::END, ROOT.0);
        self.chip(chip, "power switch", &port);
    }

    fn chip(&mut self, area: Area, name: &str, detail: &str) {
        self.canvas.rect(area, 3.0, CHIP.1, CHIP.0);
        let font = Font { size: 13.0, ..NAME };
        self.canvas.text(area.middle(), area.y + 31.0, Anchor::Middle, font, name);
        self.canvas.text(area.middle(), area.y + 51.0, Anchor::Middle, SMALL, detail);
    }

    /// A server's process.
    fn process(&self, server: &Server) -> Option<&'a Process> {
        self.spec.processes.iter().find(|process| process.name == server.service.server)
    }

    fn ports_of(&self, cspace: Id) -> Vec<PortRange> {
        let held = self.spec.caps.iter().filter(|cap| cap.cnode == cspace);
        held.filter_map(|cap| match self.spec.kind(cap.object) {
            Some(&Kind::IoPorts { first, last }) => Some(PortRange { first, last }),
            _ => None,
        })
        .collect()
    }

    fn device_name(&self, range: PortRange) -> &'static str {
        let board = self.system.board();
        let names = [
            (board.uart.ports, "UART"),
            (board.pit.ports, "8254"),
            (board.gate, "gate"),
            (board.rtc.ports, "RTC"),
            (board.pci, "PCI config"),
        ];
        names.iter().find(|(ports, _)| *ports == range).map_or("port", |(_, name)| name)
    }

    /// The legend. Returns the height of the drawing.
    fn legend(&mut self, y: f64) -> f64 {
        let grey = "#475569";
        let samples = [
            (Stroke::Call, "call by an endpoint; the number is the client's badge"),
            (Stroke::Signal, "signal by a notification"),
            (Stroke::Memory, "shared memory"),
            (Stroke::Wire, "I/O ports, interrupt lines"),
        ];
        let mut x = MARGIN;
        for (stroke, text) in samples {
            let heads = Heads { start: false, end: stroke != Stroke::Memory };
            self.canvas.path(&[(x, y + 10.0), (x + 44.0, y + 10.0)], stroke, heads, grey);
            self.canvas.text(x + 54.0, y + 14.0, Anchor::Start, PLAIN, text);
            x += 54.0 + 6.6 * text.len() as f64 + 26.0;
        }
        let all = "Not drawn, because every process has it: an endpoint of root-task for faults and notices; and a 4 KiB log \
                   ring with a doorbell, shared with serial-server.";
        let alarms = " Nor the alarms of irq-server at timer-server, and the notices of root-task to pci-server.";
        let all = format!("{all}{}", if self.devices_are_passed_through() { alarms } else { "" });
        self.canvas.text(MARGIN, y + 40.0, Anchor::Start, SMALL, &all);
        y + 66.0
    }
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
