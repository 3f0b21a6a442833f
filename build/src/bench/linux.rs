//! The rows of whole boots: Debian's kernel in a VM and natively on the same board, up to the first user program; the
//! costs of Linux's own work (work.c), its disk and its network, both ways; the cost of an idle guest; and memory.

use miette::{Result, ensure, miette};

use super::row::{Row, Rows, Unit};
use super::script::{self, DEBIAN, DEBIAN_LONG, Hardware, Job, Platform, Run};
use super::{memory, watch};
use crate::bochs::TFTP_FILE;
use crate::test::Context;

/// The script of a guest that sleeps, to measure the cost of idling.
const IDLING: &str = "/port 1026 asleep; sleep 10; /port 1026 awake";

/// Reads from the disk; asks the emulated network for an address and for an answer; then fetches a file from its FTP
/// service, by TCP, again and again.
///
/// The emulated IDE controller takes time for each stretch of 64 KiB that a command's pages touch. A read-ahead of 31
/// pages, which share no factor with the 16 of a stretch, has its commands begin everywhere in one; with the usual 32 they
/// all begin at the same page, which chance chooses.
const DEVICES: &str = "\
modprobe sd_mod
until [ -b /dev/sda ]; do usleep 10000; done
echo 124 > /sys/block/sda/queue/read_ahead_kb
/work /dev/sda
ip link set eth0 up
sleep 3
/port 1026 ask
{ udhcpc -q -n -i eth0 && ping -c 1 192.168.10.1; } >/tmp/said 2>&1 && /port 1026 answered
for n in 1 2 3 4; do
\t/port 1026 fetch
\tftpget 192.168.10.3 /tmp/file ten-megabytes
\t/port 1026 fetched
done
stat -c 'fetched %s' /tmp/file";

/// The same disk as a virtio disk.
const VIRTIO_DISK: Job = Job {
    name: "bench-virtio-disk",
    debian: DEBIAN,
    script: "until [ -b /dev/vda ]; do usleep 10000; done; echo 124 > /sys/block/vda/queue/read_ahead_kb; /work /dev/vda",
    needs: Hardware::VirtioDisk,
    place: Platform::Vm,
};

/// Its disk and its network, both ways.
const DEVICES_BOTH_WAYS: [Job; 2] = [
    Job { name: "bench-devices", debian: DEBIAN, script: DEVICES, needs: Hardware::Devices, place: Platform::Vm },
    Job {
        name: "bench-native-devices",
        debian: DEBIAN,
        script: DEVICES,
        needs: Hardware::Devices,
        place: Platform::Native,
    },
];

/// Measures them.
pub fn measure(context: &Context) -> Result<Rows> {
    let job = |name, script, place| Job { name, debian: DEBIAN, script, needs: Hardware::Nothing, place };
    let [in_vm, on_board] = DEVICES_BOTH_WAYS;
    // The longest first: two run at a time, and a long one at the end would run alone.
    let jobs = [
        in_vm,
        on_board,
        VIRTIO_DISK,
        job("bench-boot", IDLING, Platform::Watched),
        job("bench-native", "/work", Platform::Native),
        job("bench-work", "/work", Platform::Vm),
    ];
    let [devices, devices_natively, virtio_disk, booted, natively, worked] = script::run(context, jobs)?;
    let mut rows = Rows(boots("", &booted, &natively)?);
    rows.0.push(Row::single("power_on_to_guest", booted.entry, Unit::Ticks));
    rows.0.extend(named(Rows::printed(&worked.console).0, "vm"));
    rows.0.extend(named(Rows::printed(&natively.console).0, "native"));
    rows.0.extend(named(device_rows(&devices)?, "vm"));
    rows.0.extend(named(device_rows(&devices_natively)?, "native"));
    rows.0.extend(named(Rows::printed(&virtio_disk.console).0, "virtio"));
    rows.0.extend(memory::rows(&booted)?);
    Ok(rows)
}

/// Measures a 64-bit kernel's boot and its idling.
pub fn long(context: &Context) -> Result<Rows> {
    let job = |name, script, place| Job { name, debian: DEBIAN_LONG, script, needs: Hardware::Nothing, place };
    let jobs = [job("bench-long-boot", IDLING, Platform::Watched), job("bench-long-native", "", Platform::Native)];
    let [booted, natively] = script::run(context, jobs)?;
    Ok(Rows(boots("_long", &booted, &natively)?))
}

/// The rows of a kernel's boot, both ways, and of its idling.
fn boots(width: &str, booted: &Run, natively: &Run) -> Result<Vec<Row>> {
    let mut rows = vec![
        Row::single(&format!("boot{width}_vm"), booted.to_the_shell()?, Unit::Ticks),
        Row::single(&format!("boot{width}_native"), natively.to_the_shell()?, Unit::Ticks),
    ];
    rows.extend(watch::rows(booted, width)?);
    Ok(rows)
}

/// Measures the rows of the disk and the network alone.
pub fn devices(context: &Context) -> Result<Rows> {
    let [devices, natively] = script::run(context, DEVICES_BOTH_WAYS)?;
    let mut rows = named(device_rows(&devices)?, "vm");
    rows.extend(named(device_rows(&natively)?, "native"));
    Ok(Rows(rows))
}

/// Adds the place to the rows' names.
fn named(rows: Vec<Row>, place: &str) -> Vec<Row> {
    rows.into_iter().map(|row| Row { name: format!("{}_{place}", row.name), ..row }).collect()
}

fn device_rows(run: &Run) -> Result<Vec<Row>> {
    let mut rows = Rows::printed(&run.console).0;
    rows.push(Row::single("dhcp_ping", run.mark("answered")?.saturating_sub(run.mark("ask")?), Unit::Ticks));
    rows.push(tcp(run)?);
    Ok(rows)
}

/// How long each transfer took.
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
