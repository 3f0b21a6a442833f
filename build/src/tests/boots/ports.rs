//! Two guests with second consoles and a pipe between them, by Linux's own driver: a shell on hvc0, bytes that arrive as they
//! were sent, both ways at once, and ends that close when a program, a driver or a guest is gone.

use miette::{IntoDiagnostic, Result, ensure, miette};

use super::{LIMIT, ask, at, expect, wait_for_shell};
use crate::bochs::Machine;
use crate::bochs::log::Ending;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "two-guests-have-second-consoles-and-a-pipe", ports)]
}

/// The first modelled function of a guest's bus, after all addresses for passed-through functions.
const PLACE: &str = "0000:00:11.0";
/// Bytes of a transfer: many times what is under way in a pipe and in the drivers at its ends.
const BULK: usize = 1_000_000;
/// Has the shell at the other end send back what comes, and waits until it does.
const ECHO: &str = "echo \"echo ready; exec cat\"; read ready";

fn ports(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("console", Build::Release)?;
    let machine = &mut machine;
    wait_for_shell(machine)?;
    let found = ask(machine, &format!("cat /sys/bus/pci/devices/{PLACE}/vendor /sys/bus/pci/devices/{PLACE}/device"))?;
    ensure!(found == "0x1af4\n0x1003\n", "{PLACE}: {found}");
    let names = ask(machine, "cat /sys/class/virtio-ports/vport0p1/name; echo /dev/vport*")?;
    ensure!(names == "bytes\n/dev/vport0p0 /dev/vport0p1\n", "the ports are:\n{names}");
    second_console(machine, "a.hvc0", 4000)?;
    second_console(machine, "b.hvc0", 1)?;
    window(machine)?;

    at(machine, "a", &format!("head -c {BULK} /dev/urandom > /tmp/bulk"))?;
    bulk(machine)?;
    the_end(machine)?;
    for command in [
        "cd /sys/bus/virtio/drivers/virtio_console; echo virtio0 > unbind; echo virtio0 > bind; cd /",
        "cd /sys/bus/virtio/drivers/virtio_console; echo virtio0 > unbind; cd /; \
         rmmod virtio_console; modprobe virtio_console",
    ] {
        at(machine, "a", command)?;
        bulk(machine)?;
        second_console(machine, "a.hvc0", 1)?;
    }
    reboot(machine)?;
    for vm in ["a", "b"] {
        no_complaints(machine, vm)?;
    }
    power_off_both(machine)?;
    let transcript = super::transcript(machine);
    ensure!(!transcript.contains("breaks queue"), "a queue is broken:\n{transcript}");
    Ok(Outcome::Passed(format!("{BULK} bytes each way")))
}

/// A shell that answers with that many lines. 4000 are more than all buffers on the way hold.
fn second_console(machine: &mut Machine, name: &str, lines: u32) -> Result<()> {
    let answer = at(machine, name, &format!("tty; seq 1 {lines}"))?;
    let expected: String = (1..=lines).map(|n| format!("{n}\n")).collect();
    ensure!(answer == format!("/dev/hvc0\n{expected}"), "{name} says:\n{answer}");
    Ok(())
}

/// The size of the window that serial-server is told is that of both terminals.
fn window(machine: &mut Machine) -> Result<()> {
    at(machine, "a.hvc0", ":")?;
    machine.console.send(b"@w 50 132\r").into_diagnostic()?;
    expect(machine, "second consoles have 50 rows and 132 columns")?;
    for console in ["a.hvc0", "b.hvc0"] {
        let size = at(machine, console, "stty size")?;
        ensure!(size == "50 132\n", "{console} has a window of {size}");
    }
    Ok(())
}

/// From the first guest to the second and back, in both directions at once.
fn bulk(machine: &mut Machine) -> Result<()> {
    let both = format!("{ECHO}; cat /tmp/bulk & head -c {BULK} > /tmp/back; wait");
    at(machine, "a", &format!("rm -f /tmp/back; port bytes /bin/sh -c '{both}'; cmp /tmp/bulk /tmp/back")).map(|_| ())
}

/// A reader gets what was sent and then the end, and again in the next session.
fn the_end(machine: &mut Machine) -> Result<()> {
    for n in 1..=2 {
        let asks = format!("echo \"echo session {n}; exit\"; cat > /tmp/said");
        let said = at(machine, "a", &format!("port bytes /bin/sh -c '{asks}'; cat /tmp/said"))?;
        ensure!(said == format!("session {n}\n"), "session {n}: {said}");
    }
    Ok(())
}

/// The second guest reboots while it is sent to; the first one goes on, and the port comes back.
fn reboot(machine: &mut Machine) -> Result<()> {
    let sender = "echo \"exec cat > /dev/null\"; cat /dev/zero";
    at(machine, "a", &format!("(port bytes /bin/sh -c '{sender}') > /dev/null 2>&1 < /dev/null & sleep 1"))?;
    machine.console.move_input("b", LIMIT).into_diagnostic()?;
    machine.console.send(b"\rreboot -f\r").into_diagnostic()?;
    expect(machine, "vmm-b: b: reset")?;
    ensure!(at(machine, "a", "echo here")? == "here\n", "the first guest does not answer");
    at(machine, "b", "echo here")?;
    at(machine, "a", "killall cat; wait")?;
    bulk(machine)?;
    second_console(machine, "b.hvc0", 1)
}

/// Linux logs no complaint about the device, its function or their interrupt.
fn no_complaints(machine: &mut Machine, vm: &str) -> Result<()> {
    let warnings = at(machine, vm, "dmesg -r | grep '^<[0-4]>' || true")?;
    let words = ["virtio", "console", "hvc", "vport", "irq", "IRQ", "00:11.0", "BAR", "WARNING", "Call Trace"];
    let ours = |line: &&str| words.iter().any(|word| line.contains(word));
    let complaints: Vec<&str> = warnings.lines().filter(ours).collect();
    ensure!(complaints.is_empty(), "Linux complains:\n{}", complaints.join("\n"));
    Ok(())
}

fn power_off_both(machine: &mut Machine) -> Result<()> {
    machine.console.move_input("b", LIMIT).into_diagnostic()?;
    machine.console.send(b"\rpoweroff -f\r").into_diagnostic()?;
    expect(machine, "b has powered off")?;
    machine.console.move_input("a", LIMIT).into_diagnostic()?;
    machine.console.send(b"\rpoweroff -f\r").into_diagnostic()?;
    match machine.wait(LIMIT)? {
        Some(Ending::PowerOff) => Ok(()),
        Some(other) => Err(machine.why(&other)),
        None => Err(miette!("the board does not go off")),
    }
}
