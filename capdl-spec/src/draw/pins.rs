//! Reads from the specification what connects clients with servers: the lines of the drawing, without their places.

use layout::{Service, slot};

use super::{Drawing, GAP, row};
use crate::{
    description::system::{Bytes, System},
    draw::canvas::Stroke,
    map::shared,
    services::Server,
};

/// A connection that clients have with a server: where its line meets the server, and what is written there.
pub(super) struct Pin {
    pub service: Service,
    /// Whether the server is below the row, on the right.
    pub aside: bool,
    /// The server's colour.
    pub colour: &'static str,
    pub stroke: Stroke,
    pub x: f64,
    pub up: bool,
    pub down: bool,
    pub label: Vec<String>,
    pub clients: Vec<usize>,
}

impl Drawing<'_> {
    /// How a server's clients are connected to it: by calls, by shared memory, by signals.
    pub(super) fn pins_of(&self, server: &Server) -> Vec<Pin> {
        let (service, aside, colour) = (server.service, server.look.aside, server.look.line);
        let clients: Vec<usize> = self.clients.iter().copied().filter(|&n| self.parts[n].calls(service)).collect();
        let pin = |stroke, label, (up, down), clients| Pin {
            service,
            aside,
            colour,
            stroke,
            x: 0.0,
            up,
            down,
            label,
            clients,
        };
        let mut pins = Vec::new();
        if !clients.is_empty() {
            pins.push(pin(Stroke::Call, vec!["calls".into()], (false, true), clients));
        }
        let (label, users) = self.memory_with(service);
        if !users.is_empty() {
            pins.push(pin(Stroke::Memory, label, (false, false), users));
        }
        let (up, down) = self.signals_with(server);
        if !up.is_empty() || !down.is_empty() {
            let heads = (!up.is_empty(), !down.is_empty());
            let users = if up.is_empty() { down } else { up };
            pins.push(pin(Stroke::Signal, vec![server.look.signals.into()], heads, users));
        }
        pins
    }

    /// Memory that clients share with a server, except logs: its use, and the clients.
    fn memory_with(&self, service: Service) -> (Vec<String>, Vec<usize>) {
        let (mut label, mut users) = (Vec::new(), Vec::new());
        for (partners, what, bytes) in shared(self.spec) {
            let user = self.clients.iter().copied().find(|&n| partners.contains(&self.parts[n].name.as_str()));
            let (Some(user), true) = (user, partners.contains(&service.server) && what != "log") else { continue };
            let line = format!("{what} {}", Bytes(bytes));
            if !label.contains(&line) {
                label.push(line);
            }
            if !users.contains(&user) {
                users.push(user);
            }
        }
        (label, users)
    }

    /// Clients that a server signals, and clients that signal it, except for logs.
    fn signals_with(&self, server: &Server) -> (Vec<usize>, Vec<usize>) {
        let mut processes = self.spec.processes.iter();
        let Some(server) = processes.position(|process| process.name == server.service.server) else {
            return (Vec::new(), Vec::new());
        };
        let signals = |from: usize, to: usize| {
            let Some(events) = self.spec.processes.get(to).and_then(|process| process.events()) else { return false };
            let cspace = self.spec.processes[from].cspace;
            let log = u32::from(slot::LOG.0);
            let mut caps = self.spec.caps.iter().filter(|cap| cap.cnode == cspace && cap.object == events);
            caps.any(|cap| cap.rights.write && cap.slot != log)
        };
        let up = self.clients.iter().copied().filter(|&n| signals(server, n)).collect();
        let down = self.clients.iter().copied().filter(|&n| signals(n, server)).collect();
        (up, down)
    }
}

/// A server is as wide as its pins' labels need.
pub(super) fn server_width(pins: &[Pin], server: &Server) -> f64 {
    let own = pins.iter().filter(|pin| pin.service == server.service);
    own.map(pin_width).sum::<f64>().max(server.look.width)
}

/// How wide the row of servers is at least.
pub(super) fn natural_width(pins: &[Pin], system: &System) -> f64 {
    let widths: Vec<f64> = row(system).map(|server| server_width(pins, server)).collect();
    widths.iter().sum::<f64>() + GAP * (widths.len() as f64 - 1.0)
}

fn pin_width(pin: &Pin) -> f64 {
    let longest = pin.label.iter().map(String::len).max().unwrap_or_default();
    30.0 + 6.4 * longest as f64
}

/// Spreads a server's pins over its width, each with room for its label.
pub(super) fn place(pins: &mut [Pin], service: Service, x: f64, w: f64) {
    let need: f64 = pins.iter().filter(|pin| pin.service == service).map(pin_width).sum();
    let scale = w / need.max(1.0);
    let mut at = x;
    for pin in pins.iter_mut().filter(|pin| pin.service == service) {
        pin.x = at + 16.0;
        at += pin_width(pin) * scale;
    }
}
