//! Hostile drivers of the virtio devices and of a channel, each beside a guest that keeps time.

use miette::{Result, ensure};

use super::run::{WITHOUT_ACPI, run_all, run_described, widths};
use crate::bochs::config;
use crate::guest::tiny;
use crate::project;
use crate::test::{Context, Group, Outcome, Test, passed};
use crate::tests::medium::{FIRST, SECTOR, medium};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    let test = |name, run| Test::new(Group::Guests, name, run);
    vec![
        test("a-queue-that-is-broken-breaks-nothing-else", virtio),
        test("a-network-device-takes-anything", virtio_net),
        test("a-socket-device-takes-anything", virtio_vsock),
        test("a-console-device-takes-anything", virtio_console),
        test("a-disk-takes-anything", virtio_blk),
        test("a-channel-takes-anything", channel),
    ]
}

/// A hostile driver of the entropy device, beside a guest that keeps time. The log has only the first 16 of the queues
/// that it breaks.
fn virtio(context: &Context) -> Result<Outcome> {
    let drivers = widths(context, "virtio")?;
    let guests: Vec<&str> = drivers.iter().map(String::as_str).chain(["ticking"]).collect();
    let report = run_all(context, &guests, &format!("rng = true\n{WITHOUT_ACPI}"), "")?;
    let logged = report.lines("entropy device: the driver breaks queue 0");
    ensure!(logged == 16 * drivers.len(), "{logged} broken queues are in the log:\n{}", report.console);
    passed()
}

/// A hostile driver of a network device, beside a guest at the same switch that keeps time and takes no frames.
fn virtio_net(context: &Context) -> Result<Outcome> {
    let network = "\n[[network]]\nname = \"lan\"\nmembers = [\"virtio-net\", \"ticking\"]\n";
    let report = run_all(context, &["virtio-net", "ticking"], "", network)?;
    let logged = report.lines("network device: the driver breaks queue");
    ensure!(logged == 16, "{logged} broken queues are in the log:\n{}", report.console);
    ensure!(report.lines("= frames ffff") == 1, "frames of others' addresses:\n{}", report.console);
    // The first eight, and then whenever their number has doubled.
    let logged = report.lines("lan.virtio-net sends from another's address");
    ensure!(logged == 8 + 12, "{logged} frames of others' addresses are in the log:\n{}", report.console);
    let logged = report.lines("lan.virtio-net sends too much to groups");
    ensure!(logged >= 8, "{logged} frames beyond the limit are in the log:\n{}", report.console);
    passed()
}

/// A hostile driver of a socket device, beside a member that keeps time and has no driver.
fn virtio_vsock(context: &Context) -> Result<Outcome> {
    let sockets = "\n[[vsock]]\nname = \"streams\"\nmembers = [\"virtio-vsock\", \"ticking\"]\n";
    let report = run_all(context, &["virtio-vsock", "ticking"], "", sockets)?;
    let logged = report.lines("socket device: the driver breaks queue");
    ensure!(logged == 16, "{logged} broken queues are in the log:\n{}", report.console);
    let logged = report.lines("streams.virtio-vsock sends from another's address");
    ensure!((8..40).contains(&logged), "{logged} packets of others' addresses are in the log:\n{}", report.console);
    passed()
}

/// A hostile driver of a console device, beside a guest at the other end of its pipe that keeps time.
fn virtio_console(context: &Context) -> Result<Outcome> {
    let pipe = "\n[[pipe]]\nname = \"bytes\"\nmembers = [\"virtio-console\", \"ticking\"]\n";
    let report = run_all(context, &["virtio-console", "ticking"], "hvc = true\n", pipe)?;
    let logged = report.lines("console device: the driver breaks queue");
    ensure!(logged == 16, "{logged} broken queues are in the log:\n{}", report.console);
    ensure!(report.lines("= messages 1fa") == 1, "messages:\n{}", report.console);
    passed()
}

/// A hostile driver of a channel, beside the guest at its other end, which keeps time.
fn channel(context: &Context) -> Result<Outcome> {
    let channel = "\n[[channel]]\nname = \"shared\"\nmembers = [\"channel\", \"ticking\"]\n\
                   dataports = [{ size = \"4 KiB\", writer = \"channel\" }, { size = \"8 KiB\", writer = \"ticking\" }, \"64 KiB\"]\n";
    let report = run_all(context, &["channel", "ticking"], "", channel)?;
    let logged = report.lines("channel 0: the guest writes dataport 1, which it may only read");
    ensure!(logged == 16, "{logged} refused writes are in the log:\n{}", report.console);
    ensure!(report.lines("= events 3e8") == 1, "events:\n{}", report.console);
    passed()
}

/// Two hostile drivers of a disk's parts, one of them read-only, beside a guest that keeps time. On the disk, nothing changes
/// but what the first one may write.
fn virtio_blk(context: &Context) -> Result<Outcome> {
    const DRIVER: &str = "
[[component]]
name = \"ide\"
image = \"ide-driver\"
priority = 100
services = [\"timer\"]
drives = \"main\"
pci_devices = [{ address = \"00:01.1\", dma = \"trusted\" }]
dma_memory = \"192 KiB\"

[[vm]]
name = \"reader\"
memory = \"4 MiB\"
kernel = \"./virtio-blk\"
disks = [{ name = \"main\", first = 36864, sectors = 1000, read_only = true }]

[emulator]
disk = \"debian-sysv\"
";
    let kernel = "kernel = \"./virtio-blk\"\n";
    let description = tiny::system(&context.project, &["virtio-blk", "ticking"], "", DRIVER)?;
    let text = String::from_utf8_lossy(&project::read(&description)?).into_owned();
    let text = text.replacen(kernel, &format!("{kernel}disks = [{{ name = \"main\", partition = 1 }}]\n"), 1);
    project::write(&description, text.as_bytes())?;
    let before = medium();
    let path = context.project.guest().join("tiny/virtio-blk.img");
    project::write(&path, &before)?;
    let (report, machine) = run_described(context, &description, 3, Some(path))?;
    for name in ["virtio-blk", "reader"] {
        let logged = report.lines(&format!("vmm-{name}: warning: disk: the driver breaks queue 0"));
        ensure!(logged == 16, "{logged} broken queues of {name} are in the log:\n{}", report.console);
    }
    let after = project::read(&machine.dir().join(config::DISK))?;
    let written = (FIRST + 100) * SECTOR..(FIRST + 228) * SECTOR;
    ensure!(after.len() == before.len(), "the disk has another size");
    for at in (0..after.len()).step_by(4) {
        let expected = if written.contains(&at) { &0x0bad_f00d_u32.to_le_bytes() } else { &before[at..at + 4] };
        let found = &after[at..at + 4];
        ensure!(found == expected, "byte {at} of the disk begins {found:x?} in place of {expected:x?}");
    }
    passed()
}
