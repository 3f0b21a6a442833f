//! The rows of whole boots: Debian's kernel in a VM and natively on the same board, to the first program of the user's; what
//! Linux's own work costs there (work.c), both ways; its disk and its network; what an idle guest costs; and memory.

use miette::{Result, ensure, miette};

use super::row::{Row, Rows, Unit};
use super::script::{self, Job, Needs, Place, Run};
use super::{memory, watch};
use crate::bochs::TFTP_FILE;
use crate::test::Context;

/// Emulated seconds that a guest sleeps, to see what that costs.
const IDLE: u64 = 10;

/// Reads from the disk; then fetches a file by TCP, again and again, from the FTP service of the emulated network.
///
/// The emulated IDE controller takes time for each stretch of 64 KiB that a command's pages touch. A read-ahead of 31 pages,
/// which share no factor with the 16 of a stretch, has its commands begin everywhere in one; with the usual 32 they all begin
/// at the same page, which chance chooses.
const DEVICES: &str = "\
modprobe sd_mod
until [ -b /dev/sda ]; do usleep 10000; done
echo 124 > /sys/block/sda/queue/read_ahead_kb
/work /dev/sda
{ ip link set eth0 up; sleep 3; udhcpc -q -n -i eth0; } >/dev/null 2>&1
for n in 1 2 3 4; do
\t/port 1026 fetch
\tftpget 192.168.10.3 /tmp/file ten-megabytes
\t/port 1026 fetched
done
stat -c 'fetched %s' /tmp/file";

/// Measures them.
pub fn measure(context: &Context) -> Result<Rows> {
    let job = |name, script, needs, place| Job { name, script, needs, place };
    let [devices, natively_devices, booted, natively, slept, worked] = script::run(
        context,
        [
            job("bench-devices", DEVICES, Needs::Devices, Place::Vm),
            job("bench-native-devices", DEVICES, Needs::Devices, Place::Native),
            job("bench-boot", "", Needs::Nothing, Place::Watched),
            job("bench-native", "/work", Needs::Nothing, Place::Native),
            job("bench-idle", "sleep 10", Needs::Nothing, Place::Vm),
            job("bench-work", "/work", Needs::Nothing, Place::Vm),
        ],
    )?;
    let mut rows = Rows::default();
    rows.0.push(Row::single("boot_vm", booted.to_the_shell()?, Unit::Ticks));
    rows.0.push(Row::single("boot_native", natively.to_the_shell()?, Unit::Ticks));
    rows.0.extend(watch::rows(&booted)?);
    rows.0.push(Row::single("power_on_to_guest", booted.entry, Unit::Ticks));
    let exits = slept.exits()?.saturating_sub(booted.exits()?);
    rows.0.push(Row::single("idle_exits_per_second", exits / IDLE, Unit::Exits));
    for (suffix, runs) in [("vm", [&worked, &devices]), ("native", [&natively, &natively_devices])] {
        let named = |row: Row| Row { name: format!("{}_{suffix}", row.name), ..row };
        for run in runs {
            rows.0.extend(Rows::printed(&run.console).0.into_iter().map(named));
        }
        rows.0.push(named(tcp(runs[1])?));
    }
    rows.0.extend(memory::rows(&booted)?);
    Ok(rows)
}

/// How long each fetching took.
fn tcp(run: &Run) -> Result<Row> {
    let whole = format!("fetched {}", TFTP_FILE.1);
    ensure!(run.console.lines().any(|line| line.trim() == whole), "the file did not arrive:\n{}", run.console);
    let all = |name: &'static str| run.marks.iter().filter(move |(_, mark)| mark == name).map(|(tick, _)| *tick);
    let mut ticks: Vec<u64> = all("fetch").zip(all("fetched")).map(|(from, to)| to.saturating_sub(from)).collect();
    ticks.sort_unstable();
    match ticks[..] {
        [min, _, median, p99] => Ok(Row { name: "tcp".to_owned(), min, median, p99, unit: Unit::Ticks }),
        _ => Err(miette!("not every fetch was marked")),
    }
}
