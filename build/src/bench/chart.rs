//! A bar chart (SVG 1.1): for each exit of a 32-bit guest, bars for the floor and for us, on the pinned kernel and on a
//! current one, and for the peers.

use std::fmt::Write as _;

use super::exits::LONG;
use super::peers::{self, Peer};
use super::row::{Row, Rows};
use super::table;

/// The meanings of the bars, from the top, with their colours.
const SERIES: [(&str, &str); 6] = [
    ("floor", "#9aa5b1"),
    ("Portcullis", "#1f6feb"),
    ("floor on 16.0.0", "#c8ced6"),
    ("Portcullis on 16.0.0", "#79b0ff"),
    ("libvmm 0.2.0", "#e0a030"),
    ("CAmkES VM 3.12", "#c0504d"),
];

const BACKGROUND: &str = "#ffffff";
/// Pixels.
const LEFT: f64 = 130.0;
const SCALE_WIDTH: f64 = 620.0;
const BAR: f64 = 9.0;
const GROUP: f64 = SERIES.len() as f64 * BAR + 12.0;
const TOP: f64 = 66.0;
/// Ticks that the scale ends at. A longer bar is broken, and its number stands beside it.
const END: u64 = 3_500;

/// The drawing, of the rows on the pinned kernel and on a current one.
pub fn svg(pinned: &Rows, current: &Rows) -> String {
    let drawn = |row: &&Row| table::floor(pinned, &row.name).is_some() && !row.name.ends_with(LONG);
    let exits: Vec<_> = pinned.0.iter().filter(drawn).collect();
    let (width, height) = (LEFT + SCALE_WIDTH + 90.0, TOP + GROUP * exits.len() as f64 + 16.0);
    let mut body = String::new();
    text(
        &mut body,
        (16.0, 26.0),
        15,
        "start",
        "Ticks (emulated instructions) per VM exit, median; Bochs, release builds",
    );
    for (index, (name, colour)) in SERIES.iter().enumerate() {
        let x = 16.0 + (LEFT + SCALE_WIDTH + 74.0) * index as f64 / SERIES.len() as f64;
        rect(&mut body, (x, 40.0), 12.0, colour);
        text(&mut body, (x + 18.0, 49.0), 12, "start", name);
    }
    for (index, row) in exits.iter().enumerate() {
        let top = TOP + GROUP * index as f64;
        let middle = top + (SERIES.len() as f64 + 1.0) / 2.0 * BAR;
        text(&mut body, (LEFT - 10.0, middle), 12, "end", &row.name);
        let peer = peers::of(&row.name).copied().unwrap_or(Peer { row: "", camkes: None, libvmm: None });
        let median = |row: Option<&Row>| row.map(|row| row.median);
        let floor = |rows| median(table::floor(rows, &row.name));
        let values =
            [floor(pinned), Some(row.median), floor(current), median(current.get(&row.name)), peer.libvmm, peer.camkes];
        for (bar, (value, (_, colour))) in values.into_iter().zip(SERIES).enumerate() {
            let Some(value) = value else { continue };
            let (y, length) = (top + BAR * bar as f64, SCALE_WIDTH * value.min(END) as f64 / END as f64);
            rect(&mut body, (LEFT, y), length, colour);
            if value > END {
                // A gap near the end shows that the bar goes on.
                rect(&mut body, (LEFT + length - 24.0, y), 6.0, BACKGROUND);
            }
            text(&mut body, (LEFT + length + 5.0, y + BAR - 1.0), 9, "start", &value.to_string());
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"Inter, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif\">\n\
         <title>What a VM exit costs</title>\n<rect width=\"100%\" height=\"100%\" fill=\"{BACKGROUND}\"/>\n{body}</svg>\n"
    )
}

fn rect(body: &mut String, (x, y): (f64, f64), length: f64, colour: &str) {
    let height = BAR - 1.0;
    // Writing to a String cannot fail.
    let _ =
        writeln!(body, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{height}\" fill=\"{colour}\"/>");
}

fn text(body: &mut String, (x, y): (f64, f64), size: u32, anchor: &str, text: &str) {
    let _ = writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"#24292f\">{text}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::row::Unit;

    #[test]
    fn an_exit_has_a_bar_for_each_that_was_measured() {
        let rows = [("floor", 500), ("floor_write", 1000), ("cpuid", 1100), ("ipc_call", 400)];
        let rows = Rows(rows.map(|(name, value)| Row::single(name, value, Unit::Ticks)).to_vec());
        let current = Rows(
            [("floor_write", 1111), ("cpuid", 1222)]
                .map(|(name, value)| Row::single(name, value, Unit::Ticks))
                .to_vec(),
        );
        let svg = svg(&rows, &current);
        for bar in ["cpuid", "1000", "1100", "1111", "1222", "1761", "1771"] {
            assert!(svg.contains(&format!(">{bar}<")), "{bar}: {svg}");
        }
        assert!(!svg.contains("ipc_call"), "a call is no exit");
    }
}
