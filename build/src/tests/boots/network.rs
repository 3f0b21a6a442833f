//! Three guests at a switch, with Linux's own driver: everyone reaches everyone, bulk data arrive as they were sent, no
//! datagram is lost between guests that keep up, and the network survives a driver that leaves and comes back, a foreign
//! address, a closed window, a guest that reboots in the middle, and a vmm-server that faults there.
//!
//! All keys go to the first guest. The others have a shell at a TCP port, which the first one types at.

use std::path::PathBuf;

use capdl_spec::host::Debian;
use miette::{Result, ensure};

use super::{ask, recover, wait_for_shell};
use crate::bench::script;
use crate::bochs::Machine;
use crate::cache::sha256;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};
use crate::{
    guest::{self, debian},
    project,
};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "three-guests-at-a-switch", network)]
}

/// The first modelled function of a guest's bus, after all addresses for passed-through functions.
const PLACE: &str = "0000:00:11.0";
/// Bytes of a transfer.
const BULK: usize = 10_000_000;
/// Part of the symbol of what vmm-server does when its guest powers off: it faults there.
pub const BROKEN: &str = "9power_off";

fn network(context: &Context) -> Result<Outcome> {
    let path = described(context)?;
    let iso = recover::broken(context, &path, "vmm-server", BROKEN)?;
    let mut machine = context.boot_with(&path.to_string_lossy(), Build::Release, |options| options.iso = iso)?;
    wait_for_shell(&mut machine)?;
    let found =
        ask(&mut machine, &format!("cd /sys/bus/pci/devices/{PLACE}; cat vendor device subsystem_device; cd /"))?;
    ensure!(found == "0x1af4\n0x1000\n0x0001\n", "{PLACE}: {found}");
    // One character for each feature bit: both kinds of checksums, segments of TCP in both directions, merged buffers,
    // event indices, and the modern interface.
    let features = ask(&mut machine, "cat /sys/bus/virtio/devices/virtio0/features")?;
    for bit in [0, 1, 5, 7, 8, 11, 12, 15, 16, 17, 29, 32] {
        ensure!(features.as_bytes().get(bit) == Some(&b'1'), "feature {bit} is not used: {features}");
    }
    everyone_reaches_everyone(&mut machine)?;
    let address = at(&mut machine, 3, "cat /sys/class/net/eth0/address")?;
    ensure!(address == "02:00:00:00:00:0c\n", "the address of the description: {address}");

    bulk(context, &mut machine)?;
    at(&mut machine, 2, "/net serve > /dev/null 2>&1 & /net count > /dev/null 2>&1 &")?;
    for what in ["datagrams", "window"] {
        ask(&mut machine, &format!("/net 0a000002 {what}"))?;
    }
    no_complaints(&mut machine)?;

    // The switch takes no other address, and Linux says so at once.
    let own = ask(&mut machine, "cat /sys/class/net/eth0/address")?;
    ask(&mut machine, "! ip link set eth0 address 02:00:00:00:00:77")?;
    ensure!(ask(&mut machine, "cat /sys/class/net/eth0/address")? == own, "the guest has another address now");

    for command in [
        "cd /sys/bus/virtio/drivers/virtio_net; echo virtio0 > unbind; echo virtio0 > bind; cd /",
        "rmmod virtio_net; modprobe virtio_net",
        "rmmod virtio_net; rmmod virtio_pci; modprobe virtio_pci force_legacy=1; modprobe virtio_net",
    ] {
        ask(&mut machine, command)?;
        ask(&mut machine, "ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up")?;
        for guest in [2, 3] {
            ping(&mut machine, guest)?;
        }
    }
    let legacy = ask(&mut machine, "cut -c33 /sys/bus/virtio/devices/virtio0/features")?;
    ensure!(legacy == "0\n", "feature VERSION_1 of the legacy interface: {legacy}");

    // The second guest reboots while it is sent to, then its vmm-server faults there. The third is reached meanwhile, and
    // the second again when it is up.
    for (command, said) in [("reboot -f", "vmm-b: b: reset"), ("poweroff -f", "vmm-b faulted: processor exception 6")] {
        at(&mut machine, 2, "mkfifo /tmp/quiet; nc -l -p 5002 <> /tmp/quiet > /dev/null 2>&1 &")?;
        ask(&mut machine, "sleep 1; (nc 10.0.0.2 5002 < /dev/zero > /dev/null 2>&1 &) ; sleep 1")?;
        ask(&mut machine, &format!("(echo \"{command}\" | nc -w 5 10.0.0.2 99 > /dev/null 2>&1 &) ; sleep 2"))?;
        ping(&mut machine, 3)?;
        machine.console.rewind();
        super::expect(&mut machine, said)?;
        ping(&mut machine, 3)?;
        ask(&mut machine, "killall nc; :")?;
        ask(&mut machine, "until ping -c 1 -W 1 10.0.0.2 > /dev/null; do :; done")?;
        ask(&mut machine, "until echo exit | nc 10.0.0.2 99; do usleep 200000; done")?;
    }
    no_complaints(&mut machine)?;
    let transcript = super::transcript(&machine);
    for word in ["breaks queue", "breaks the rules"] {
        ensure!(!transcript.contains(word), "{word}:\n{transcript}");
    }
    Ok(Outcome::Passed(format!("{BULK} bytes each way")))
}

/// The system of the walkthrough, with the programs of the benchmark in the guests, and another life for a vmm-server.
fn described(context: &Context) -> Result<PathBuf> {
    let project = &context.project;
    let initrd = script::with_programs(project, &guest::disk_initramfs(project, Debian::I386)?)?;
    let text = String::from_utf8_lossy(&project::read(&project.root.join("systems/network.toml"))?).into_owned();
    let text = text.replace("\"debian-disk\"", &format!("\"{}\"", initrd.display()));
    let path = project.guest().join("network/network-and-programs.toml");
    project::write(&path, text.replace("[policy.on_fault]\n", "[policy.on_fault]\nvmm-b = \"restart\"\n").as_bytes())?;
    Ok(path)
}

/// The output of a command in guest `number`.
pub fn at(machine: &mut Machine, number: usize, command: &str) -> Result<String> {
    match number {
        1 => ask(machine, command),
        _ => ask(machine, &format!("printf '%s\\nexit\\n' '{command}' | nc 10.0.0.{number} 99")),
    }
}

fn ping(machine: &mut Machine, guest: usize) -> Result<()> {
    ask(machine, &format!("ping -c 2 -W 2 10.0.0.{guest}")).map(drop)
}

fn everyone_reaches_everyone(machine: &mut Machine) -> Result<()> {
    for guest in [2, 3] {
        // The first guest may be there before the others are.
        ask(machine, &format!("until ping -c 1 -W 1 10.0.0.{guest} > /dev/null; do :; done"))?;
    }
    ask(machine, "until echo exit | nc 10.0.0.2 99 && echo exit | nc 10.0.0.3 99; do usleep 200000; done")?;
    for from in 1..=3 {
        for to in (1..=3).filter(|to| *to != from) {
            let said = at(machine, from, &format!("ping -c 2 -W 2 10.0.0.{to}"))?;
            ensure!(said.contains("2 packets received, 0% packet loss"), "from {from} to {to}:\n{said}");
        }
    }
    // Of a frame of the largest IP packet, and of the smallest.
    for size in [65_507, 0] {
        let said = ask(machine, &format!("ping -c 2 -W 2 -s {size} 10.0.0.2"))?;
        ensure!(said.contains("0% packet loss"), "{size} bytes:\n{said}");
    }
    Ok(())
}

/// TCP between the first and the second guest, in both directions. The bytes are ones that the host has as well.
fn bulk(context: &Context, machine: &mut Machine) -> Result<()> {
    let busybox = project::read(&debian::busybox(&context.project, Debian::I386)?)?;
    let sent: Vec<u8> = busybox.iter().copied().cycle().take(BULK).collect();
    let copies = BULK.div_ceil(busybox.len());
    ask(machine, &format!("for n in $(seq {copies}); do cat /bin/busybox; done | head -c {BULK} > /tmp/bulk"))?;
    // busybox's nc ends when either side has no more to say, so the receiver reads from a FIFO that nobody closes.
    ask(machine, "mkfifo /tmp/quiet")?;
    at(machine, 2, "mkfifo /tmp/quiet; nc -l -p 5000 <> /tmp/quiet > /tmp/bulk 2>&1 &")?;
    ask(machine, "sleep 1; nc 10.0.0.2 5000 < /tmp/bulk")?;
    let arrived = at(machine, 2, "sleep 1; sha256sum < /tmp/bulk")?;
    let sum = sha256(&sent);
    ensure!(arrived == format!("{sum}  -\n"), "sent {sum}, arrived {arrived}");
    at(machine, 2, "nc -l -p 5001 < /tmp/bulk > /dev/null 2>&1 &")?;
    ask(machine, "sleep 1; nc 10.0.0.2 5001 <> /tmp/quiet | cmp - /tmp/bulk && rm /tmp/bulk")?;
    let lost = ask(machine, "cat /sys/class/net/eth0/statistics/rx_errors /sys/class/net/eth0/statistics/tx_errors")?;
    ensure!(lost == "0\n0\n", "errors: {lost}");
    Ok(())
}

/// Linux logs no complaint about the device, its function or their interrupt.
fn no_complaints(machine: &mut Machine) -> Result<()> {
    let warnings = ask(machine, "dmesg -r | grep '^<[0-4]>' || true")?;
    let ours = |line: &&str| ["virtio", "eth0", "irq", "IRQ", "00:11.0", "BAR"].iter().any(|word| line.contains(word));
    // The test asked for this one.
    let known = |line: &&str| line.contains("Failed to set mac address");
    let complaints: Vec<&str> = warnings.lines().filter(ours).filter(|line| !known(line)).collect();
    ensure!(complaints.is_empty(), "Linux complains:\n{}", complaints.join("\n"));
    Ok(())
}
