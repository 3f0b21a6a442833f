//! The entropy device with Linux's drivers: by the modern and the legacy interface, unbound and bound again, and across
//! a reset of the guest.

use miette::{IntoDiagnostic, Result, ensure};

use super::{ask, boot, field, power_off, wait_for_shell};
use crate::bochs::Machine;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "linux-has-random-bytes-by-virtio", entropy)]
}

/// Bytes read at a time.
const BYTES: usize = 4096;
/// The device's address on the guest's bus: after all addresses for passed-through functions.
const PLACE: &str = "0000:00:11.0";

fn entropy(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "rng")?;
    let found =
        ask(&mut machine, &format!("cd /sys/bus/pci/devices/{PLACE}; cat vendor device subsystem_device; cd /"))?;
    ensure!(found == "0x1af4\n0x1005\n0x0004\n", "{PLACE}: {found}");
    is_in_use(&mut machine, true)?;

    for command in [
        "cd /sys/bus/virtio/drivers/virtio_rng; echo virtio0 > unbind; echo virtio0 > bind; cd /",
        "rmmod virtio_rng; modprobe virtio_rng",
    ] {
        ask(&mut machine, command)?;
        is_in_use(&mut machine, true)?;
    }
    ask(&mut machine, "rmmod virtio_rng; rmmod virtio_pci; modprobe virtio_pci force_legacy=1; modprobe virtio_rng")?;
    is_in_use(&mut machine, false)?;
    let interrupts = field(&ask(&mut machine, "grep virtio0 /proc/interrupts")?, "", 1)?;
    no_complaints(&mut machine)?;

    // A reset in the middle of a read.
    machine.console.skip();
    machine.console.send(b"cat /dev/hwrng > /dev/null & usleep 300000; reboot -f\r").into_diagnostic()?;
    super::expect(&mut machine, "vmm-linux: linux: reset")?;
    wait_for_shell(&mut machine)?;
    is_in_use(&mut machine, true)?;
    no_complaints(&mut machine)?;
    power_off(&mut machine)?;
    let transcript = super::transcript(&machine);
    ensure!(!transcript.contains("breaks queue"), "a driver of Linux's breaks a queue:\n{transcript}");
    Ok(Outcome::Passed(format!("{interrupts} interrupts")))
}

/// The kernel uses the device, by the intended interface, and its bytes show no pattern.
fn is_in_use(machine: &mut Machine, modern: bool) -> Result<()> {
    let current = ask(machine, "cat /sys/class/misc/hw_random/rng_current")?;
    ensure!(current == "virtio_rng.0\n", "the current generator is {current}");
    // One character for each feature bit; the legacy interface has none from 32 on.
    let version_1 = ask(machine, "cut -c33 /sys/bus/virtio/devices/virtio0/features")?;
    ensure!(version_1 == if modern { "1\n" } else { "0\n" }, "feature VERSION_1: {version_1}");
    let read = ask(machine, &format!("head -c {BYTES} /dev/hwrng > /tmp/random; gzip -c /tmp/random | wc -c"))?;
    let packed: usize = read.trim().parse().into_diagnostic()?;
    ensure!(packed >= BYTES, "{BYTES} bytes of /dev/hwrng can be packed into {packed}");
    Ok(())
}

/// Linux logs no complaint about the device, its function or their interrupt.
fn no_complaints(machine: &mut Machine) -> Result<()> {
    let warnings = ask(machine, "dmesg -r | grep '^<[0-4]>' || true")?;
    let ours = |line: &&str| ["virtio", "rng", "irq", "IRQ", "00:11.0", "BAR"].iter().any(|word| line.contains(word));
    let complaints: Vec<&str> = warnings.lines().filter(ours).collect();
    ensure!(complaints.is_empty(), "Linux complains:\n{}", complaints.join("\n"));
    Ok(())
}
