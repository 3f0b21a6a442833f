//! Two guests and a component with AF_VSOCK, by Linux's own driver: streams arrive as they were sent, a receiver that does not
//! read holds up nobody but its sender, and connections end when a guest reboots or its driver leaves.
//!
//! All keys go to the first guest. The second has a shell at a port of AF_VSOCK, which the first one types at.

use miette::{IntoDiagnostic, Result, ensure, miette};

use super::{LIMIT, ask, expect, wait_for_shell};
use crate::bochs::Machine;
use crate::bochs::log::Ending;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "two-guests-and-a-component-have-sockets", vsock)]
}

/// The first modelled function of a guest's bus, after all addresses for passed-through functions.
const PLACE: &str = "0000:00:11.0";
/// Bytes of a transfer: more than what is under way on a connection.
const BULK: usize = 1_000_000;

fn vsock(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("vsock", Build::Release)?;
    let machine = &mut machine;
    wait_for_shell(machine)?;
    let found = ask(machine, &format!("cat /sys/bus/pci/devices/{PLACE}/vendor /sys/bus/pci/devices/{PLACE}/device"))?;
    ensure!(found == "0x1af4\n0x1053\n", "{PLACE}: {found}");

    // The second guest may not be there yet.
    ask(machine, "until echo exit | vsock 4 99 2> /tmp/refused; do usleep 100000; done")?;
    ensure!(at_b(machine, "cat /proc/cmdline")?.contains("vshell=99"), "somebody else answers");
    nobody_answers(machine)?;
    let sum = ask(machine, &format!("head -c {BULK} /dev/urandom > /tmp/bulk; sha256sum < /tmp/bulk"))?;
    bulk(machine, &sum)?;
    echo(machine, &sum)?;
    closed_window(machine, &sum)?;
    no_complaints(machine)?;

    for command in [
        "cd /sys/bus/virtio/drivers/vmw_vsock_virtio_transport; echo virtio0 > unbind; echo virtio0 > bind; cd /",
        "rmmod vmw_vsock_virtio_transport; modprobe vmw_vsock_virtio_transport",
    ] {
        ask(machine, command)?;
        echo(machine, &sum)?;
    }
    reboot(machine, &sum)?;
    no_complaints(machine)?;
    power_off_both(machine)?;
    let transcript = super::transcript(machine);
    for word in ["breaks queue", "breaks the rules"] {
        ensure!(!transcript.contains(word), "{word}:\n{transcript}");
    }
    Ok(Outcome::Passed(format!("{BULK} bytes each way, and to a component")))
}

/// The output of a command in the second guest.
fn at_b(machine: &mut Machine, command: &str) -> Result<String> {
    ask(machine, &format!("printf '%s\\nexit\\n' '{command}' | vsock 4 99"))
}

/// Refused at once, whoever is missing: a socket there, or somebody at that address.
fn nobody_answers(machine: &mut Machine) -> Result<()> {
    for address in ["4 1234", "7 8", "9 7"] {
        // ECONNRESET.
        let said = ask(machine, &format!("! vsock {address} < /dev/null 2> /tmp/refused; cat /tmp/refused"))?;
        ensure!(said == "vsock: connect: error 104\n", "{address}: {said}");
    }
    Ok(())
}

/// From the first to the second guest, and back.
fn bulk(machine: &mut Machine, sum: &str) -> Result<()> {
    at_b(machine, "vsock -l 500 > /tmp/bulk < /dev/null 2> /dev/null &")?;
    ask(machine, "until vsock 4 500 < /tmp/bulk 2> /dev/null; do usleep 100000; done")?;
    let arrived = at_b(machine, "sha256sum < /tmp/bulk")?;
    ensure!(arrived == sum, "sent {sum}, arrived {arrived}");
    at_b(machine, "vsock -l 501 < /tmp/bulk > /dev/null 2>&1 &")?;
    let back = ask(machine, "sleep 1; vsock 4 501 < /dev/null | sha256sum")?;
    ensure!(back == sum, "sent {sum}, came back {back}");
    Ok(())
}

/// To the component and back, by two connections at a time.
fn echo(machine: &mut Machine, sum: &str) -> Result<()> {
    // A shell of their own: the caller may have other jobs, which `wait` would wait for.
    let both = "(vsock 7 7 < /tmp/bulk > /tmp/other & vsock 7 7 < /tmp/bulk | sha256sum; wait; sha256sum < /tmp/other)";
    let echoed = ask(machine, both)?;
    ensure!(echoed == format!("{sum}{sum}"), "sent {sum}, echoed {echoed}");
    Ok(())
}

/// The second guest does not read until it is told to. The sender waits, others do not, and nothing is lost.
fn closed_window(machine: &mut Machine, sum: &str) -> Result<()> {
    let reader = "until [ -e /tmp/go ]; do usleep 100000; done; sha256sum";
    at_b(machine, &format!("vsock -l 502 /bin/sh -c \"{reader}\" > /dev/null 2>&1 < /dev/null &"))?;
    ask(machine, "sleep 1; vsock 4 502 < /tmp/bulk > /tmp/late & sleep 2")?;
    echo(machine, sum)?;
    ensure!(at_b(machine, "echo here")? == "here\n", "the second guest does not answer");
    let early = ask(machine, "cat /tmp/late")?;
    ensure!(early.is_empty(), "the window was not closed: {early}");
    at_b(machine, "touch /tmp/go")?;
    let late = ask(machine, "wait; cat /tmp/late")?;
    ensure!(late == sum, "sent {sum}, arrived {late}");
    Ok(())
}

/// The second guest reboots while it is sent to, and while the first waits for what never comes.
fn reboot(machine: &mut Machine, sum: &str) -> Result<()> {
    at_b(machine, "vsock -l 503 > /dev/null 2>&1 < /dev/null &")?;
    at_b(machine, "vsock -l 504 /bin/sleep 1000 > /dev/null 2>&1 < /dev/null &")?;
    ask(machine, "sleep 1; (vsock 4 503 < /dev/zero > /dev/null 2>&1; echo sender >> /tmp/ended) & :")?;
    ask(machine, "(vsock 4 504 < /dev/null > /dev/null 2>&1; echo reader >> /tmp/ended) & sleep 1; ! cat /tmp/ended")?;
    ask(machine, "(echo 'reboot -f' | vsock 4 99 > /dev/null 2>&1 &) ; :")?;
    expect(machine, "vmm-b: b: reset")?;
    machine.console.rewind();
    let ended = ask(machine, "wait; sort /tmp/ended")?;
    ensure!(ended == "reader\nsender\n", "these have ended: {ended}");
    echo(machine, sum)?;
    ask(machine, "until echo exit | vsock 4 99 2> /dev/null; do usleep 100000; done")?;
    bulk(machine, sum)
}

/// A guest that powers itself off is gone for the other, too.
fn power_off_both(machine: &mut Machine) -> Result<()> {
    at_b(machine, "vsock -l 505 /bin/sleep 1000 > /dev/null 2>&1 < /dev/null &")?;
    ask(machine, "sleep 1; (vsock 4 505 < /dev/null > /dev/null 2>&1; echo off > /tmp/off) & sleep 1")?;
    ask(machine, "(echo 'poweroff -f' | vsock 4 99 > /dev/null 2>&1 &) ; wait; cat /tmp/off")?;
    let said = ask(machine, "! vsock 4 99 < /dev/null 2> /tmp/refused; cat /tmp/refused")?;
    ensure!(said == "vsock: connect: error 104\n", "{said}");
    machine.console.send(b"poweroff\r").into_diagnostic()?;
    match machine.wait(LIMIT)? {
        Some(Ending::PowerOff) => Ok(()),
        Some(other) => Err(machine.why(&other)),
        None => Err(miette!("the board does not go off")),
    }
}

/// Linux logs no complaint about the device, its function or their interrupt.
fn no_complaints(machine: &mut Machine) -> Result<()> {
    let warnings = ask(machine, "dmesg -r | grep '^<[0-4]>' || true")?;
    let words = ["virtio", "vsock", "VSOCK", "irq", "IRQ", "00:11.0", "BAR"];
    let complaints: Vec<&str> = warnings.lines().filter(|line| words.iter().any(|word| line.contains(word))).collect();
    ensure!(complaints.is_empty(), "Linux complains:\n{}", complaints.join("\n"));
    Ok(())
}
