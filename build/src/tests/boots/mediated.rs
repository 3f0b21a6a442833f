//! The same devices with every access mediated by pci-server, and the exits that direct access saves. Both ways the
//! guest removes its devices from the bus and rescans it, and Linux then gives them other addresses.

use miette::{Result, ensure, miette};

use super::{ask, boot, power_off, transcript};
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "devices-work-mediated-with-more-exits", mediated).long()]
}

const PREPARE: &str = "modprobe sd_mod; until [ -b /dev/sda ]; do usleep 10000; done; ip link set eth0 up; sleep 3";
const LEASE: &str = "udhcpc -q -n -i eth0 && ping -c 1 192.168.10.1";
/// The card is gone and comes back, and so does the disk.
const RESCAN: &str = "for at in 01 02; do echo 1 > /sys/bus/pci/devices/0000:00:$at.0/remove; done; \
                      [ ! -e /sys/block/sda ] && [ ! -e /sys/class/net/eth0 ] && echo 1 > /sys/bus/pci/rescan && \
                      until [ -b /dev/sda ]; do usleep 10000; done && ip link set eth0 up && sleep 3";
/// Where Linux has the card's memory and ports.
const RESOURCES: &str = "cat /sys/bus/pci/devices/0000:00:02.0/resource";
const READ: &str = "dd if=/dev/sda bs=64k count=64 skip=1024 2>/dev/null | sha256sum";

fn mediated(context: &Context) -> Result<Outcome> {
    let direct = use_devices(context, "devices")?;
    let mediated = use_devices(context, "mediated")?;
    let report = format!(
        "exits {} mediated, {} direct; of them accesses made by pci-server {} and {}",
        mediated.exits, direct.exits, mediated.accesses, direct.accesses
    );
    ensure!(mediated.sum == direct.sum, "the disk has {} and {}", mediated.sum, direct.sum);
    ensure!(mediated.accesses >= direct.accesses + 1000 && mediated.exits > direct.exits, "{report}");
    Ok(Outcome::Passed(report))
}

struct Use {
    sum: String,
    exits: u64,
    accesses: u64,
}

fn use_devices(context: &Context, system: &str) -> Result<Use> {
    let mut machine = boot(context, system)?;
    ask(&mut machine, PREPARE)?;
    ask(&mut machine, LEASE)?;
    let sum = ask(&mut machine, READ)?;
    let before = ask(&mut machine, RESOURCES)?;
    ask(&mut machine, RESCAN)?;
    let after = ask(&mut machine, RESOURCES)?;
    ensure!(before != after, "{system}: Linux did not move the card:\n{after}");
    ask(&mut machine, LEASE)?;
    let again = ask(&mut machine, READ)?;
    ensure!(again == sum, "{system}: after a rescan the disk has {again}, and had {sum}");
    power_off(&mut machine)?;
    let transcript = transcript(&machine);
    let tally = |behind: &str| {
        let line = transcript.lines().find(|line| line.starts_with("vmm-linux: ") && line.contains(behind));
        let number = line.and_then(|line| line.split(behind).next()?.split_whitespace().last()?.parse().ok());
        number.ok_or_else(|| miette!("{system}: vmm-server tells no number of{behind}"))
    };
    Ok(Use { sum, exits: tally(" exits,")?, accesses: tally(" accesses by pci-server")? })
}
