//! The rows as a table: each beside its floor, the faster peer, the same natively, and the baseline.

use std::fmt::Write as _;

use super::exits::LONG;
use super::peers;
use super::row::{Row, Rows, Unit};

/// Rows of exits that change no general register of the guest: their floor has no WriteRegisters.
const WITHOUT_WRITE: [&str; 3] = ["out_unhandled", "pci_addr", "mmio_write"];
/// Rows of exits that change one: their floor has it.
const WITH_WRITE: [&str; 10] = [
    "cpuid",
    "in_unhandled",
    "uart_lsr",
    "rtc",
    "pit_read",
    "pit_running",
    "pic_mask",
    "pci_data",
    "rdmsr",
    "mmio_read",
];

/// The floor under a row: one exit of a guest of the same width, with or without WriteRegisters.
pub fn floor<'a>(rows: &'a Rows, name: &str) -> Option<&'a Row> {
    let (exit, long) = width(name);
    let floor = match (exit, long) {
        (exit, false) if WITHOUT_WRITE.contains(&exit) => "floor",
        (exit, false) if WITH_WRITE.contains(&exit) => "floor_write",
        (exit, true) if WITHOUT_WRITE.contains(&exit) => "floor_long",
        (exit, true) if WITH_WRITE.contains(&exit) => "floor_long_write",
        _ => return None,
    };
    rows.get(floor)
}

/// The exit that a row is about, and whether the guest is in long mode.
fn width(name: &str) -> (&str, bool) {
    name.strip_suffix(LONG).map_or((name, false), |exit| (exit, true))
}

/// The table.
pub fn text(rows: &Rows, baseline: &Rows) -> String {
    let mut text = format!(
        "{:<22} {:>13} {:>13} {:>13}  {:<5} {:>8} {:>8} {:>8} {:>9}\n",
        "row", "min", "median", "p99", "unit", "x floor", "x peer", "x native", "baseline"
    );
    for row in &rows.0 {
        let floor = floor(rows, &row.name).map(|floor| floor.median);
        let peer = peers::of(width(&row.name).0).and_then(|peer| peer.better());
        let same = |place: &str| row.name.strip_suffix("_vm").and_then(|name| rows.get(&format!("{name}_{place}")));
        let native = same("native").or_else(|| same("loopback"));
        let before = baseline.get(&row.name).map(|before| before.median);
        let Row { name, min, median, p99, unit } = row;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name:<22} {min:>13} {median:>13} {p99:>13}  {:<5} {:>8} {:>8} {:>8} {:>9}",
            Unit::name(*unit),
            ratio(*median, floor),
            ratio(*median, peer),
            ratio(*median, native.map(|native| native.median)),
            change(*median, before)
        );
    }
    text
}

fn ratio(value: u64, to: Option<u64>) -> String {
    to.filter(|to| *to > 0).map_or_else(|| "-".to_owned(), |to| format!("{:.2}", value as f64 / to as f64))
}

fn change(value: u64, before: Option<u64>) -> String {
    match before {
        None => "new".to_owned(),
        Some(before) if before == value => "same".to_owned(),
        Some(before) => format!("{:+.1} %", 100.0 * (value as f64 / before.max(1) as f64 - 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_compared_with_its_own_floor_and_with_the_same_natively() {
        let rows = Rows(vec![
            Row::single("floor", 500, Unit::Ticks),
            Row::single("floor_write", 1000, Unit::Ticks),
            Row::single("floor_long_write", 1250, Unit::Ticks),
            Row::single("cpuid_long", 1500, Unit::Ticks),
            Row::single("out_unhandled", 600, Unit::Ticks),
            Row::single("cpuid", 1100, Unit::Ticks),
            Row::single("spin_vm", 900, Unit::Ticks),
            Row::single("spin_native", 1000, Unit::Ticks),
        ]);
        let baseline = Rows(vec![Row::single("cpuid", 1000, Unit::Ticks)]);
        let text = text(&rows, &baseline);
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("out_unhandled").contains(" 1.20 "), "{text}");
        assert!(line("cpuid_long").contains(" 1.20 ") && line("cpuid_long").contains(" 0.85 "), "{text}");
        assert!(line("cpuid ").contains(" 1.10 ") && line("cpuid ").ends_with("+10.0 %"), "{text}");
        assert!(line("spin_vm").contains(" 0.90 ") && !line("spin_native").contains(" 0.90 "), "{text}");
    }
}
