//! What a guest of 64 bits may cost at most, whatever the baseline says: the exits beside their floor and libvmm's, a boot
//! beside the native one, the exits of idling beside libvmm's. docs/performance.md says why rows are left out.

use super::exits::LONG;
use super::row::{Row, Rows};
use super::{peers, table};

/// An exit in percent of its floor.
const OF_THE_FLOOR: u64 = 112;
/// Exits whose answer is more than a register's value at hand: a count that runs, and an instruction that has to be found.
const NOT_AT_HAND: [&str; 3] = ["pit_running", "mmio_read", "mmio_write"];
/// An exit in percent of libvmm's.
const OF_LIBVMM: u64 = 60;
/// A boot in percent of the native one.
const OF_NATIVE: u64 = 110;
/// Exits of an idle guest in a second: half of libvmm's 137.
const IDLE_EXITS: u64 = 137 / 2;

/// The rows that exceed a limit, a line for each.
pub fn exceeded(rows: &Rows) -> Vec<String> {
    rows.0.iter().flat_map(|row| limits(rows, row).into_iter().filter_map(|limit| limit.exceeded(row))).collect()
}

struct Limit {
    most: u64,
    what: String,
}

impl Limit {
    fn exceeded(self, Row { name, median, unit, .. }: &Row) -> Option<String> {
        let Self { most, what } = self;
        (*median > most).then(|| format!("{name}: {median} {}, and {what} allows {most}", unit.name()))
    }
}

fn limits(rows: &Rows, row: &Row) -> Vec<Limit> {
    let median = |name: &str| rows.get(name).map(|row| row.median);
    let share = |percent: u64, of: Option<u64>, whose: &str| {
        of.map(|of| Limit { most: of * percent / 100, what: format!("{percent} % of {whose}") })
    };
    let limits = match row.name.as_str() {
        "boot_long_vm" => [share(OF_NATIVE, median("boot_long_native"), "the native boot"), None],
        "idle_long_exits_per_second" => [Some(Limit { most: IDLE_EXITS, what: "half of libvmm's".into() }), None],
        name => match name.strip_suffix(LONG) {
            Some(exit) => {
                let floor = table::floor(rows, name).filter(|_| !NOT_AT_HAND.contains(&exit));
                let libvmm = peers::of(exit).and_then(|peer| peer.libvmm);
                [
                    share(OF_THE_FLOOR, floor.map(|floor| floor.median), "the floor"),
                    share(OF_LIBVMM, libvmm, "libvmm's"),
                ]
            }
            None => [None, None],
        },
    };
    limits.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::row::Unit;
    use super::*;

    fn exceeded_by(name: &str, value: u64) -> usize {
        let rows = Rows(vec![
            Row::single("floor_long_write", 950, Unit::Ticks),
            Row::single("boot_long_native", 1000, Unit::Ticks),
            Row::single(name, value, Unit::Exits),
        ]);
        exceeded(&rows).len()
    }

    #[test]
    fn what_exceeds_a_limit_is_told() {
        // Twelve percent more than the floor, and 60 % of libvmm's 1,914; mmio_read has the second alone, of 3,012.
        for (name, most) in [
            ("in_unhandled_long", 1064),
            ("mmio_read_long", 1807),
            ("boot_long_vm", 1100),
            ("idle_long_exits_per_second", 68),
        ] {
            assert_eq!((exceeded_by(name, most), exceeded_by(name, most + 1)), (0, 1), "{name}");
        }
        assert_eq!(exceeded_by("in_unhandled", 9999), 0, "a guest of 32 bits has no limits");
        assert_eq!(exceeded_by("in_unhandled_long", 1149), 2);
    }
}
