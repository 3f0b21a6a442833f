//! A passed-through disk and network card: compared with native speed, their remaining exits, and a reset while the
//! disk is busy.

use miette::{IntoDiagnostic, Result, ensure, miette};

use super::{ask, power_off, wait_for_shell};
use crate::bench::linux;
use crate::test::{Context, Group, Outcome, Test, passed};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Boots, name, run);
    vec![
        test("devices-as-fast-as-natively", speed),
        test("a-disk-read-does-not-exit", exits),
        test("a-reset-while-the-disk-is-busy", reset_while_busy),
    ]
}

/// Loads drivers that are not loaded automatically, and sets the link up.
const PREPARE: &str = "modprobe sd_mod; until [ -b /dev/sda ]; do usleep 10000; done; ip link set eth0 up; sleep 3; \
                       dd if=/dev/sda of=/dev/null bs=64k count=16 skip=1024 2>/dev/null";

/// The largest allowed ratio to the native time.
const DISK_LIMIT: f64 = 1.10;
const NETWORK_LIMIT: f64 = 1.15;

/// The rows of `cargo xtask bench`: 16 MB from the disk, and from DHCP to an answer.
fn speed(context: &Context) -> Result<Outcome> {
    let rows = linux::devices(context)?;
    let ticks = |name: &str| rows.get(name).map(|row| row.median as f64).ok_or_else(|| miette!("no row {name}"));
    let ratio =
        |name: &str| Ok::<f64, miette::Report>(ticks(&format!("{name}_vm"))? / ticks(&format!("{name}_native"))?);
    let (disk, network, tcp) = (ratio("disk_read")?, ratio("dhcp_ping")?, ratio("tcp")?);
    let report =
        format!("16 MB in {disk:.3}, DHCP to ping in {network:.3}, 10 MB by TCP in {tcp:.3} times the native ticks");
    ensure!(disk <= DISK_LIMIT && network <= NETWORK_LIMIT, "{report}");
    Ok(Outcome::Passed(report))
}

/// The guest resets itself while it reads from the disk. Afterwards it boots again, and no DMA has written to its
/// memory.
fn reset_while_busy(context: &Context) -> Result<Outcome> {
    let mut machine = super::boot(context, "devices")?;
    ask(&mut machine, PREPARE)?;
    machine.console.skip();
    machine.console.send(b"dd if=/dev/sda of=/dev/null bs=1M & usleep 500000; reboot -f\r").into_diagnostic()?;
    super::expect(&mut machine, "vmm-linux: linux: reset")?;
    wait_for_shell(&mut machine)?;
    let dmesg = ask(&mut machine, "dmesg")?;
    ensure!(dmesg.contains("early_memtest: # of tests: 1"), "memory was not tested:\n{dmesg}");
    ensure!(!dmesg.contains("bad mem addr"), "something wrote to the guest's memory:\n{dmesg}");
    ask(&mut machine, PREPARE)?;
    power_off(&mut machine)?;
    passed()
}

/// Reads much from the disk, page by page, in one run, and nothing in another, and compares their exits. A command is two
/// dozen accesses to the controller's ports and an interrupt; only the interrupt causes exits, at the PIC.
fn exits(context: &Context) -> Result<Outcome> {
    let mut counts = Vec::new();
    for pages in [0, 2000] {
        let mut machine = super::boot(context, "devices")?;
        ask(&mut machine, PREPARE)?;
        ask(&mut machine, "echo 0 > /sys/block/sda/queue/read_ahead_kb")?;
        ask(&mut machine, &format!("dd if=/dev/sda of=/dev/null bs=4k count={pages}"))?;
        let interrupts = ask(&mut machine, "cat /proc/interrupts")?;
        power_off(&mut machine)?;
        counts.push((super::field(&interrupts, "14:", 1)?, io_exits(&super::transcript(&machine))?));
    }
    let [(few, before), (many, after)] = counts[..] else { return Err(miette!("two runs")) };
    let commands = many.saturating_sub(few);
    let each = after.saturating_sub(before) as f64 / commands.max(1) as f64;
    let report = format!("{before} I/O exits without and {after} with {commands} commands more: {each:.2} for each");
    ensure!(commands >= 1500 && each <= MOST_EXITS, "{report}");
    Ok(Outcome::Passed(report))
}

/// Mask, end of interrupt and unmask at two PICs.
const MOST_EXITS: f64 = 6.0;

/// The count that the guest's vmm-server prints at power-off.
fn io_exits(transcript: &str) -> Result<u64> {
    let line = transcript.lines().find_map(|line| line.strip_suffix(" I/O instruction"));
    let count = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
    count.ok_or_else(|| miette!("vmm-server tells no I/O exits"))
}
