//! A row: a name, with the minimum, the median and the 99th percentile of its cost. In JSON: `{"rows": [{"name",
//! "median", "min", "p99", "unit"}, ...]}`.

use miette::{IntoDiagnostic, Result, miette};
use serde_json::{Value, json};

/// What a row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Emulated instructions; while the processor waits, those that it would have executed.
    Ticks,
    /// VM exits.
    Exits,
    /// Bytes.
    Bytes,
}

impl Unit {
    const ALL: [Self; 3] = [Self::Ticks, Self::Exits, Self::Bytes];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ticks => "ticks",
            Self::Exits => "exits",
            Self::Bytes => "bytes",
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Unique.
    pub name: String,
    /// The median.
    pub median: u64,
    /// The minimum.
    pub min: u64,
    /// The 99th percentile.
    pub p99: u64,
    /// What the numbers are.
    pub unit: Unit,
}

impl Row {
    /// A row of one sample.
    pub fn single(name: &str, value: u64, unit: Unit) -> Self {
        Self { name: name.to_owned(), median: value, min: value, p99: value, unit }
    }

    /// Reads `= NAME MIN MEDIAN P99`, the numbers in hexadecimal, as the measuring programs print it.
    fn printed(line: &str) -> Option<Self> {
        let mut words = line.split("= ").nth(1)?.split_whitespace();
        let name = words.next()?.to_owned();
        let mut number = || u64::from_str_radix(words.next()?, 16).ok();
        let (min, median, p99) = (number()?, number()?, number()?);
        Some(Self { name, median, min, p99, unit: Unit::Ticks })
    }

    fn from_value(value: &Value) -> Option<Self> {
        let number = |key: &str| value.get(key)?.as_u64();
        let unit = value.get("unit")?.as_str()?;
        Some(Self {
            name: value.get("name")?.as_str()?.to_owned(),
            median: number("median")?,
            min: number("min")?,
            p99: number("p99")?,
            unit: Unit::ALL.into_iter().find(|known| known.name() == unit)?,
        })
    }
}

/// A difference of exits up to which counts are considered equal.
const FEW: u64 = 25;
/// The exits of two VMs for a MiB from one to the other.
pub const BULK_EXITS: &str = "bulk_exits_per_mib";
/// Counts that follow a phase, which any changed instruction shifts, so that no baseline holds for them. Exits for the host's own
/// interrupts: its tick is twice as fast as Linux's, and every other one may coincide with an exit of the guest's tick, and then
/// cause none of its own. Exits of two VMs in bulk: how many frames a notification and an interrupt are for depends on whether
/// the VMs' turns coincide; the test of a network has their limit.
const BY_CHANCE: [&str; 3] = ["boot_exits_interrupt", "boot_long_exits_interrupt", BULK_EXITS];

/// Rows in the order in which they were measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows(pub Vec<Row>);

impl Rows {
    /// The rows that were printed on a console.
    pub fn printed(console: &str) -> Self {
        Self(console.lines().filter_map(Row::printed).collect())
    }

    /// A row by its name.
    pub fn get(&self, name: &str) -> Option<&Row> {
        self.0.iter().find(|row| row.name == name)
    }

    /// The file's text: a line for each row, so that a diff shows each change.
    pub fn to_json(&self) -> String {
        let rows = self.0.iter().map(|Row { name, median, min, p99, unit }| {
            json!({ "name": name, "median": median, "min": min, "p99": p99, "unit": unit.name() }).to_string()
        });
        format!("{{\"rows\": [\n{}\n]}}\n", rows.collect::<Vec<_>>().join(",\n"))
    }

    /// The rows of such a file.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).into_diagnostic()?;
        let rows = value.get("rows").and_then(Value::as_array).ok_or_else(|| miette!("the file has no `rows`"))?;
        let rows: Option<Vec<Row>> = rows.iter().map(Row::from_value).collect();
        Ok(Self(rows.ok_or_else(|| miette!("a row lacks its name, a number or its unit"))?))
    }

    /// The rows whose median is more than `percent` above `baseline`'s, a line for each. Small differences in counts of
    /// exits are left out, since they depend on when a timer ticks, and so are the rows of [`BY_CHANCE`].
    pub fn worse(&self, baseline: &Self, percent: u64) -> Vec<String> {
        let worse = |row: &&Row| {
            if BY_CHANCE.contains(&row.name.as_str()) {
                return None;
            }
            let before = baseline.get(&row.name)?.median;
            let few = row.unit == Unit::Exits && row.median <= before + FEW;
            (row.median * 100 > before * (100 + percent) && !few)
                .then(|| format!("{}: {} {}, was {before}", row.name, row.median, row.unit.name()))
        };
        self.0.iter().filter_map(|row| worse(&row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(median: u64) -> Rows {
        Rows(vec![Row::single("cpuid", median, Unit::Ticks)])
    }

    #[test]
    fn rows_are_read_from_among_other_lines_whoever_logs_them() {
        let rows = Rows::printed("= cpuid a b c\nhello = 1\n= odd x\ncaller: = ipc_call 10 20 30\n");
        assert_eq!(rows.0.len(), 2);
        assert_eq!((rows.0[0].min, rows.0[0].median, rows.0[0].p99), (10, 11, 12));
        assert_eq!(rows.get("ipc_call").map(|row| row.median), Some(32));
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let rows =
            Rows(vec![Row::single("a", 1, Unit::Ticks), Row { min: 0, p99: 9, ..Row::single("b", 5, Unit::Exits) }]);
        assert_eq!(Rows::from_json(&rows.to_json()).unwrap(), rows);
    }

    #[test]
    fn a_file_without_rows_is_refused() {
        for text in ["", "{}", "{\"rows\": [{}]}", "{\"rows\": 1}"] {
            assert!(Rows::from_json(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_more_than_two_percent_is_worse() {
        assert_eq!(rows(1020).worse(&rows(1000), 2), [""; 0]);
        assert_eq!(rows(1021).worse(&rows(1000), 2), ["cpuid: 1021 ticks, was 1000"]);
        let exits = |count| Rows(vec![Row::single("boot_port_0x70", count, Unit::Exits)]);
        assert_eq!(exits(95).worse(&exits(70), 2), [""; 0]);
        assert_eq!(exits(96).worse(&exits(70), 2).len(), 1);
        assert_eq!(rows(9999).worse(&Rows::default(), 2), [""; 0], "a new row has nothing to be compared with");
        for name in BY_CHANCE {
            let rows = |median| Rows(vec![Row::single(name, median, Unit::Exits)]);
            assert_eq!(rows(2500).worse(&rows(1800), 2), [""; 0]);
        }
    }
}
