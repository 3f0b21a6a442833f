//! A guest on the board with ACPI: what its system finds by the tables, its buttons, and how it ends.

use miette::{IntoDiagnostic, Result, ensure};

use super::{LIMIT, ask, boot, expect, wait_for_shell};
use crate::bochs::{Machine, log::Ending};
use crate::test::{Context, Group, Outcome, Test};

pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "a-board-with-acpi-has-its-buttons", buttons)]
}

fn buttons(context: &Context) -> Result<Outcome> {
    let mut machine = boot(context, "acpi")?;
    let machine = &mut machine;
    let dmesg = ask(machine, "dmesg")?;
    for said in [
        "IOAPIC[0]: apic_id 1, version 17, address 0xfec00000, GSI 0-23",
        "ACPI: 1 ACPI AML tables successfully acquired and loaded",
        "ACPI: PM: (supports S0 S5)",
        "ACPI: Using IOAPIC for interrupt routing",
        "pci_bus 0000:00: root bus resource [mem 0x04000000-0xfebfffff window]",
        "00:00: ttyS0 at I/O 0x3f8 (irq = 4, base_baud = 115200) is a 16550A",
        "rtc_cmos 00:01: registered as rtc0",
    ] {
        ensure!(dmesg.contains(said), "dmesg does not say `{said}`:\n{dmesg}");
    }
    // What Linux begins such lines with.
    for word in ["ACPI BIOS", "ACPI Error", "ACPI Warning", "[Firmware", "..MP-BIOS", "WARNING:", "can't claim"] {
        ensure!(!dmesg.contains(word), "dmesg says `{word}`:\n{dmesg}");
    }
    let interrupts = ask(machine, "cat /proc/interrupts")?;
    for line in ["IO-APIC   4-edge      ttyS0", "IO-APIC   9-fasteoi   acpi", "PCI-MSI"] {
        ensure!(interrupts.contains(line), "/proc/interrupts without `{line}`:\n{interrupts}");
    }
    pin(machine)?;
    // By the reset register.
    machine.console.send(b"reboot -f\r").into_diagnostic()?;
    expect(machine, "reset by the guest")?;
    wait_for_shell(machine)?;
    // The initramfs has no action for the sleep button.
    press(machine, "sleep")?;
    let taken = ask(machine, "sleep 1; grep acpi /proc/interrupts")?;
    ensure!(taken.contains("  1   IO-APIC   9-fasteoi   acpi"), "the sleep button has not interrupted once:\n{taken}");
    press(machine, "shutdown")?;
    expect(machine, "linux has powered off")?;
    ensure!(machine.wait(LIMIT)? == Some(Ending::PowerOff), "the machine is still on");
    Ok(Outcome::Passed("found by tables; rebooted, and shut down by its button".into()))
}

/// Presses a button of the only VM. Lines of the console's own have no label then.
fn press(machine: &mut Machine, button: &str) -> Result<()> {
    machine.console.skip();
    machine.console.send(format!("@linux {button}\r").as_bytes()).into_diagnostic()?;
    expect(machine, "linux is running\r\n").map(|_| ())
}

/// A virtio function whose driver has no messages interrupts by its pin, a level at the I/O APIC.
fn pin(machine: &mut Machine) -> Result<()> {
    let script = "modprobe -r virtio_rng virtio_pci; echo 0 > /sys/bus/pci/devices/0000:00:11.0/msi_bus; modprobe virtio_pci; modprobe virtio_rng; \
                  head -c 640 /dev/hwrng | wc -c; grep virtio /proc/interrupts";
    let said = ask(machine, script)?;
    ensure!(said.starts_with("640\n") && said.contains("IO-APIC  11-fasteoi   virtio0"), "by the pin:\n{said}");
    Ok(())
}
