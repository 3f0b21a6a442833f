//! The part of SVG that the drawing needs (SVG 1.1, sections 7 to 10). Coordinates are pixels.

use core::fmt::Write;

/// The background.
const PAPER: &str = "#ffffff";

/// A drawing under construction.
#[derive(Default)]
pub(crate) struct Canvas(String);

/// A rectangle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

impl Area {
    pub fn right(&self) -> f64 {
        self.x + self.w
    }
    pub fn bottom(&self) -> f64 {
        self.y + self.h
    }
    pub fn middle(&self) -> f64 {
        self.x + self.w / 2.0
    }
}

/// How a line looks: the kind of authority that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stroke {
    /// Calls by an endpoint.
    Call,
    /// Signals by a notification.
    Signal,
    /// Shared memory.
    Memory,
    /// Ports and interrupt lines.
    Wire,
}

/// Which ends of a line have arrowheads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub start: bool,
    pub end: bool,
}

impl Heads {
    pub const NONE: Heads = Heads { start: false, end: false };
    pub const START: Heads = Heads { start: true, end: false };
    pub const END: Heads = Heads { start: false, end: true };
    pub const BOTH: Heads = Heads { start: true, end: true };
}

/// Text's place relative to its point.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A style of text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Font {
    pub size: f64,
    pub bold: bool,
    pub fill: &'static str,
}

impl Canvas {
    pub fn rect(&mut self, area: Area, radius: f64, fill: &str, stroke: &str) {
        let Area { x, y, w, h } = area;
        self.line(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"{radius}\" fill=\"{fill}\" \
             stroke=\"{stroke}\" stroke-width=\"1.6\"/>"
        ));
    }

    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, font: Font, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if font.bold { 600 } else { 400 };
        let Font { size, fill, .. } = font;
        let text = escape(text);
        self.line(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" font-weight=\"{weight}\" \
             fill=\"{fill}\">{text}</text>"
        ));
    }

    /// Lines that join, on a halo of the background's colour, which makes crossings easy to follow.
    pub fn paths(&mut self, lines: &[(Vec<(f64, f64)>, Heads)], stroke: Stroke, colour: &str) {
        let (wide, width, dash) = match stroke {
            Stroke::Call => (7.0, 2.2, ""),
            Stroke::Signal => (7.0, 2.0, " stroke-dasharray=\"6 4\""),
            Stroke::Memory => (11.0, 6.0, ""),
            Stroke::Wire => (6.0, 1.6, ""),
        };
        self.stroke(lines, PAPER, wide, "");
        self.stroke(lines, colour, width, dash);
        if stroke == Stroke::Memory {
            self.stroke(lines, PAPER, 2.4, "");
        }
        for (line, heads) in lines {
            if let ([first, second, ..], true) = (line.as_slice(), heads.start) {
                self.head(*second, *first, colour);
            }
            if let ([.., before, last], true) = (line.as_slice(), heads.end) {
                self.head(*before, *last, colour);
            }
        }
    }

    /// One line.
    pub fn path(&mut self, points: &[(f64, f64)], stroke: Stroke, heads: Heads, colour: &str) {
        self.paths(&[(points.to_vec(), heads)], stroke, colour);
    }

    fn stroke(&mut self, lines: &[(Vec<(f64, f64)>, Heads)], colour: &str, width: f64, dash: &str) {
        for (line, _) in lines {
            let mut d = String::new();
            for (n, (x, y)) in line.iter().enumerate() {
                let _ = write!(d, "{}{x:.1} {y:.1}", if n == 0 { 'M' } else { 'L' });
            }
            self.line(format_args!(
                "<path d=\"{d}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
                 stroke-linejoin=\"round\"{dash}/>"
            ));
        }
    }

    /// An arrowhead at `to`, for a line that comes from `from` along an axis.
    fn head(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        let unit = |a: f64, b: f64| if (b - a).abs() < 0.01 { 0.0 } else { (b - a).signum() };
        let (dx, dy) = (unit(from.0, to.0), unit(from.1, to.1));
        let (x, y) = (to.0 - 9.0 * dx, to.1 - 9.0 * dy);
        let ((ax, ay), (bx, by)) = ((x - 4.5 * dy, y - 4.5 * dx), (x + 4.5 * dy, y + 4.5 * dx));
        let (tx, ty) = to;
        self.line(format_args!("<path d=\"M{tx:.1} {ty:.1}L{ax:.1} {ay:.1}L{bx:.1} {by:.1}Z\" fill=\"{colour}\"/>"));
    }

    /// A junction.
    pub fn dot(&mut self, x: f64, y: f64, colour: &str) {
        self.line(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.4\" fill=\"{colour}\"/>"));
    }

    /// The whole file.
    pub fn finish(self, width: f64, height: f64, title: &str) -> String {
        let (title, body) = (escape(title), self.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" font-family=\"Inter, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif\">\n\
             <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"{PAPER}\"/>\n{body}</svg>\n"
        )
    }

    fn line(&mut self, element: core::fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{element}");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
