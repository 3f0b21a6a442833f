//! The lines between clients and servers: down from the clients to the connection's rail, along it, and on to the server.

use super::{
    BOX_H, CLIENT_Y, Drawing, Font, RAIL_STEP, SMALL,
    canvas::{Anchor, Heads, Stroke},
    pins::Pin,
};

impl Drawing<'_> {
    /// Where a client's end of a connection is.
    fn client_x(&self, client: usize, number: usize, pin: &Pin) -> f64 {
        let area = self.client_area(client);
        if self.clients.len() == 1 { pin.x } else { area.x + area.w * (number as f64 + 0.5) / self.pin_count as f64 }
    }

    /// Lines between clients and servers: down from the clients to the connection's rail, and on to the server.
    pub(super) fn connections(&mut self) {
        let pins = core::mem::take(&mut self.pins);
        for (number, pin) in pins.iter().enumerate() {
            let top = if pin.aside { self.irq.y } else { self.row.y };
            let (rail, starts) = self.rail(number, pin);
            let colour = pin.colour;
            self.canvas.paths(&lines(pin, &starts, rail, top), pin.stroke, colour);
            if starts.len() > 1 && pin.stroke != Stroke::Memory {
                starts.iter().for_each(|&x| self.canvas.dot(x, rail, colour));
            }
            self.labels(pin, top, &starts);
        }
        self.pins = pins;
    }

    /// Where a connection runs sideways, and where it leaves its clients. The lines of a single client run straight,
    /// except those to irq-server, which is beside the row: they leave on the right, the outer one higher.
    fn rail(&self, number: usize, pin: &Pin) -> (f64, Vec<f64>) {
        if let ([client], true) = (&self.clients[..], pin.aside) {
            let (right, inner) = (self.client_area(*client).right(), pin.stroke == Stroke::Call);
            return if inner {
                (CLIENT_Y + BOX_H + 38.0, vec![right - 38.0])
            } else {
                (CLIENT_Y + BOX_H + 22.0, vec![right - 18.0])
            };
        }
        let rail = CLIENT_Y + BOX_H + 40.0 + RAIL_STEP * number as f64;
        (rail, pin.clients.iter().map(|&client| self.client_x(client, number, pin)).collect())
    }

    /// Labels the server's end with the connection's use, and the client's end with the client's number.
    fn labels(&mut self, pin: &Pin, top: f64, starts: &[f64]) {
        let font = Font { fill: pin.colour, ..SMALL };
        let first = top - 14.0 - 13.0 * (pin.label.len() as f64 - 1.0);
        for (line, text) in pin.label.iter().enumerate() {
            self.canvas.text(pin.x + 9.0, first + 13.0 * line as f64, Anchor::Start, font, text);
        }
        if pin.stroke == Stroke::Call {
            // irq-server's first clients are servers.
            let before = self.parts.iter().filter(|part| part.is_server() && part.calls(pin.service)).count();
            for (number, x) in (before..).zip(starts) {
                self.canvas.text(x + 6.0, CLIENT_Y + BOX_H + 16.0, Anchor::Start, font, &number.to_string());
            }
        }
    }
}

/// A connection's lines: a straight line or an elbow for one client; stubs, a rail and a trunk for several.
fn lines(pin: &Pin, starts: &[f64], rail: f64, top: f64) -> Vec<(Vec<(f64, f64)>, Heads)> {
    let (bottom, heads) = (CLIENT_Y + BOX_H, Heads { start: pin.up, end: pin.down });
    if let [x] = *starts {
        let straight = (x - pin.x).abs() < 0.5;
        let elbow = vec![(x, bottom), (x, rail), (pin.x, rail), (pin.x, top)];
        return vec![(if straight { vec![(x, bottom), (x, top)] } else { elbow }, heads)];
    }
    let mut lines: Vec<_> =
        starts.iter().map(|&x| (vec![(x, bottom), (x, rail)], Heads { end: false, ..heads })).collect();
    let (left, right) = starts.iter().fold((pin.x, pin.x), |(left, right), &x| (left.min(x), right.max(x)));
    lines.push((vec![(left, rail), (right, rail)], Heads::NONE));
    lines.push((vec![(pin.x, rail), (pin.x, top)], Heads { start: false, ..heads }));
    lines
}
