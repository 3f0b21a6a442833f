//! The network card, passed through beside the disk: Debian gets an address and a large file.

use miette::{Result, ensure};

use super::ask;
use super::disk::{log_in, shut_down};
use crate::bochs::{TFTP_FILE, config, tftp_file};
use crate::cache::sha256;
use crate::kernel::Build;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "debian-on-the-network", network).long()]
}

/// The emulated network's server, and what it leases to its first client (Bochs's iodev/network/eth_vnet.cc).
pub(super) const SERVER: &str = "192.168.10.1";
pub(super) const LEASE: &str = "inet 192.168.10.15/24";

fn network(context: &Context) -> Result<Outcome> {
    let mut machine = context.boot("ethernet", Build::Release)?;
    log_in(&mut machine)?;
    let address = ask(&mut machine, "ip addr show eth0")?;
    ensure!(address.contains(&format!("link/ether {}", config::mac(0))), "another card's address:\n{address}");
    ensure!(address.contains(LEASE), "no lease:\n{address}");
    let ping = ask(&mut machine, &format!("ping -c 3 {SERVER}"))?;
    ensure!(ping.contains("3 received"), "ping:\n{ping}");
    let get = format!("cd /tmp && tftp -m binary {SERVER} -c get {}", TFTP_FILE.0);
    ask(&mut machine, &get)?;
    let sum = ask(&mut machine, &format!("sha256sum /tmp/{}", TFTP_FILE.0))?;
    let wanted = sha256(&tftp_file());
    ensure!(sum.starts_with(&wanted), "the file's sum is {sum}, and was {wanted}");
    let interrupts = ask(&mut machine, "grep eth0 /proc/interrupts")?;
    shut_down(&mut machine)?;
    let packets = std::fs::read_to_string(machine.dir().join("vnet.log")).unwrap_or_default();
    ensure!(packets.contains(&config::mac(0)), "the network saw nothing of the card");
    Ok(Outcome::Passed(format!(
        "{} bytes by TFTP; {}",
        TFTP_FILE.1,
        interrupts.split_whitespace().collect::<Vec<_>>().join(" ")
    )))
}
