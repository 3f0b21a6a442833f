//! The audit as a drawing: a matrix of all pairs, coloured by what a flow takes.

use super::{Audit, Degree, Pair};
use crate::draw::canvas::{Anchor, Area, Canvas, Font};

const MARGIN: f64 = 40.0;
const CELL: f64 = 30.0;
const TOP: f64 = 124.0;

const TITLE: Font = Font { size: 25.0, bold: true, fill: "#0f172a" };
const NAME: Font = Font { size: 13.0, bold: false, fill: "#0f172a" };
const PLAIN: Font = Font { size: 12.0, bold: false, fill: "#334155" };
const LETTER: Font = Font { size: 13.0, bold: true, fill: "#0f172a" };

/// Letters, with the colours of their cells and what they say.
const LEGEND: [(char, &str, &str); 5] = [
    ('D', "#fca5a5", "direct"),
    ('F', "#fcd34d", "by the function of a server"),
    ('R', "#fdba74", "passed on by VMs and components in between"),
    ('s', "#e2e8f0", "only if a server or driver were taken over"),
    ('.', "#ffffff", "not at all"),
];

impl Audit {
    /// As a drawing.
    pub fn svg(&self) -> String {
        let all: Vec<usize> = self.clients().collect();
        let longest = all.iter().map(|&n| self.name(n).chars().count()).max().unwrap_or_default();
        let left = MARGIN + 36.0 + 7.5 * longest as f64;
        let mut canvas = Canvas::default();
        canvas.text(MARGIN, 52.0, Anchor::Start, TITLE, &self.system);
        canvas.text(MARGIN, 76.0, Anchor::Start, PLAIN, "what flows, from the row to the column");
        for (n, &from) in all.iter().enumerate() {
            let (x, y) = (left + CELL * n as f64, TOP + CELL * n as f64);
            let number = (n + 1).to_string();
            canvas.text(x + CELL / 2.0, TOP - 8.0, Anchor::Middle, PLAIN, &number);
            canvas.text(MARGIN + 20.0, y + 20.0, Anchor::End, PLAIN, &number);
            canvas.text(MARGIN + 28.0, y + 20.0, Anchor::Start, NAME, self.name(from));
            for (column, &to) in all.iter().enumerate() {
                let area = Area { x: left + CELL * column as f64, y, w: CELL, h: CELL };
                let pair = self.pair(from, to);
                let letter = pair.map_or('-', Pair::letter);
                canvas.rect(area, 0.0, colour(pair), "#94a3b8");
                canvas.text(area.middle(), area.y + 20.0, Anchor::Middle, LETTER, &letter.to_string());
            }
        }
        let mut y = TOP + CELL * all.len() as f64 + 24.0;
        for (letter, fill, words) in LEGEND {
            canvas.rect(Area { x: MARGIN, y, w: 22.0, h: 22.0 }, 0.0, fill, "#94a3b8");
            canvas.text(MARGIN + 11.0, y + 16.0, Anchor::Middle, LETTER, &letter.to_string());
            canvas.text(MARGIN + 34.0, y + 16.0, Anchor::Start, PLAIN, words);
            y += 28.0;
        }
        canvas.text(MARGIN, y + 14.0, Anchor::Start, PLAIN, "Small letters d, f, r: signals, no data.");
        let width = (left + CELL * all.len() as f64 + MARGIN).max(400.0);
        canvas.finish(width, y + 44.0, &format!("{}: what flows between VMs and components", self.system))
    }
}

fn colour(pair: Option<&Pair>) -> &'static str {
    let letter = match pair.map(|pair| pair.degree) {
        None => return "#f1f5f9",
        Some(Some(Degree::Direct)) => 'D',
        Some(Some(Degree::Function)) => 'F',
        Some(Some(Degree::Relayed)) => 'R',
        Some(Some(Degree::TakenOver)) => 's',
        Some(None) => '.',
    };
    LEGEND.iter().find(|(known, ..)| *known == letter).map_or("#ffffff", |(_, fill, _)| fill)
}
