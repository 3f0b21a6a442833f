//! A guest without a device of the machine reaches the outside by its network's uplink: it gets an address, answers, a file
//! and sends one. Everything that it sends is right on the wire, where the emulated network logs it. The driver faults, and
//! takes the card again.

use miette::{IntoDiagnostic, Result, ensure, miette};

use super::{ask, ethernet, expect, recover, transcript, wait_for_shell};
use crate::bochs::{Machine, TFTP_FILE, config, tftp_file};
use crate::cache::sha256;
use crate::kernel::Build;
use crate::project;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Boots, "a-guest-reaches-the-outside", outside)]
}

/// The emulated network's FTP server; it lets the user `bochs` write.
const FTP: &str = "192.168.10.3";
/// Bytes that the guest sends.
const BULK: usize = 1_000_000;
/// Most frames that a promiscuous guest sees in the meantime: those to groups.
const OF_GROUPS: u64 = 20;
/// Where the driver faults: at the first frame that is too long for the wire.
const BROKEN: &str = "6refuse";

fn outside(context: &Context) -> Result<Outcome> {
    let path = context.project.system("network")?;
    let iso = recover::broken(context, &path, "e1000-driver", BROKEN)?;
    let mut machine = context.boot_with("network", Build::Release, |options| options.iso = iso)?;
    wait_for_shell(&mut machine)?;
    lease(&mut machine)?;

    // The second guest wants to hear all, and hears nothing of the files.
    ask(&mut machine, "until echo 'ip link set eth0 promisc on; exit' | nc 10.0.0.2 99; do usleep 200000; done")?;
    let before = heard(&mut machine)?;
    let get = format!("ftpget {FTP} /tmp/file {} && sha256sum /tmp/file", TFTP_FILE.0);
    let sum = ask(&mut machine, &get)?;
    let wanted = sha256(&tftp_file());
    ensure!(sum.starts_with(&wanted), "the file's sum is {sum}, and was {wanted}");
    // Of a new name Bochs says that there is no such file, and then there is one.
    let put = format!("ftpput -u bochs -p bochs {FTP} part /tmp/part");
    ask(&mut machine, &format!("head -c {BULK} /tmp/file > /tmp/part; {put} || {put}"))?;
    let part = project::read(&machine.dir().join(config::TFTP).join("part"))?;
    ensure!(tftp_file().starts_with(&part) && part.len() == BULK, "{} bytes came, or others", part.len());
    let heard = heard(&mut machine)? - before;
    ensure!(heard <= OF_GROUPS, "a promiscuous guest has heard {heard} frames of others");

    // After a reboot of the guest the uplink goes on.
    machine.console.skip();
    machine.console.send(b"reboot -f\r").into_diagnostic()?;
    expect(&mut machine, "vmm-a: a: reset")?;
    wait_for_shell(&mut machine)?;
    lease(&mut machine)?;

    // A driver that faults begins anew.
    machine.console.skip();
    let ping =
        format!("ip link set eth0 mtu 9000; ping -c 1 -W 1 -s 8000 {}; ip link set eth0 mtu 1500\r", ethernet::SERVER);
    machine.console.send(ping.as_bytes()).into_diagnostic()?;
    expect(&mut machine, "nic restarted")?;
    lease(&mut machine)?;

    let said = transcript(&machine);
    let link = format!("nic: {}, link up, 1000 Mb/s, full duplex", config::mac(0));
    ensure!(said.matches(&link).count() == 2 && said.matches("\nnic: ").count() == 2, "the driver says:\n{said}");
    for word in ["breaks the rules", "rate-limited"] {
        ensure!(!said.contains(word), "{word}:\n{said}");
    }
    let packets = Packets::read(&machine)?;
    ensure!(packets.longest == 1514, "the longest frame has {} bytes", packets.longest);
    Ok(Outcome::Passed(format!("{} bytes in, {BULK} out, {} frames right on the wire", TFTP_FILE.1, packets.sent)))
}

/// An address from outside, and an answer. The client of DHCP removes the address that the network of the guests has.
fn lease(machine: &mut Machine) -> Result<()> {
    ask(machine, "udhcpc -q -n -i eth0 && ip addr add 10.0.0.1/24 dev eth0")?;
    let address = ask(machine, "ip addr show eth0")?;
    ensure!(address.contains(ethernet::LEASE), "no lease:\n{address}");
    let ping = ask(machine, &format!("ping -c 3 {}", ethernet::SERVER))?;
    ensure!(ping.contains("3 packets received"), "ping:\n{ping}");
    Ok(())
}

/// Frames that the second guest has got.
fn heard(machine: &mut Machine) -> Result<u64> {
    let count = "printf 'cat /sys/class/net/eth0/statistics/rx_packets; exit\\n' | nc 10.0.0.2 99";
    let said = ask(machine, count)?;
    said.trim().parse().map_err(|_| miette!("no number: {said}"))
}

/// What the emulated network has logged of the frames from our card.
struct Packets {
    sent: usize,
    longest: usize,
}

impl Packets {
    /// Reads the log: each frame has a heading, then sixteen bytes a line in hexadecimal, and as characters behind two spaces.
    fn read(machine: &Machine) -> Result<Self> {
        let log = project::read(&machine.dir().join(config::NETWORK_LOG))?;
        let log = String::from_utf8_lossy(&log).into_owned();
        let mut packets = Self { sent: 0, longest: 0 };
        for entry in log.split("a packet from guest to host, length ").skip(1) {
            let lines = entry.lines().skip(1).take_while(|line| *line != "--");
            let bytes = lines.flat_map(|line| line.split("  ").next().unwrap_or_default().split(' '));
            let frame: Vec<u8> = bytes.filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
            check(&frame)?;
            packets.sent += 1;
            packets.longest = packets.longest.max(frame.len());
        }
        Ok(packets)
    }
}

/// IP's checksum, and that of what it carries: a sum of everything that it covers is all ones.
fn check(frame: &[u8]) -> Result<()> {
    if frame.get(12..14).is_none_or(|kind| kind != [8, 0]) {
        return Ok(());
    }
    let ip = frame.get(14..).unwrap_or_default();
    let header = ip.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    let whole = ip.get(2..4).map_or(0, |len| usize::from(u16::from_be_bytes([len[0], len[1]])));
    let (Some(head), Some(carried)) = (ip.get(..header), ip.get(header..whole)) else {
        return Err(miette!("a frame of {} bytes has a packet of {whole}", frame.len()));
    };
    ensure!(sum(head) == 0xffff, "IP's checksum is wrong: {frame:x?}");
    let protocol = head[9];
    if [6, 17].contains(&protocol) {
        let [a, b] = (carried.len() as u16).to_be_bytes();
        let pseudo = [&head[12..20], &[0, protocol, a, b]].concat();
        ensure!(sum(&[&pseudo, carried].concat()) == 0xffff, "protocol {protocol}'s checksum is wrong: {frame:x?}");
    }
    Ok(())
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |byte| u32::from(*byte)));
    let sum: u32 = words.sum();
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum >> 16) + (sum & 0xffff)
}
