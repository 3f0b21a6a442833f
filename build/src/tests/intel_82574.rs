//! e1000-driver with an 82574 on QEMU's Q35 board (tests/systems/q35-uplink.toml), behind an IOMMU. The test sends datagrams
//! through QEMU's user network to a component at the driver's switch, and gets them back.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use capdl_spec::host;
use miette::{IntoDiagnostic as _, Result, ensure};
use serde_json::json;

use super::q35::{self, LIMIT, until};
use crate::bochs::last_lines;
use crate::test::{Context, Group, Outcome, Test};

/// The tests of this file.
pub fn all() -> Vec<Test> {
    vec![Test::new(Group::Components, "datagrams-by-an-82574", datagrams)]
}

const MAC: &str = "52:54:00:12:34:56";
/// The component's port.
const ECHO: u16 = 7;
/// Bytes of the longest datagram that one frame has.
const LONGEST: usize = 1472;
/// Datagrams, more than the driver's rings have descriptors for; and how many may be on their way at a time, so that the
/// component has room for all of them.
const COUNT: usize = 1000;
const WINDOW: usize = 4;
/// How long a datagram may take before it is sent again.
const PATIENCE: Duration = Duration::from_secs(2);

fn datagrams(context: &Context) -> Result<Outcome> {
    if let Some(skipped) = q35::skipped()? {
        return Ok(skipped);
    }
    let system = host::load(&context.project.root.join("tests/systems/q35-uplink.toml"))?;
    let port = free_port()?;
    let mut machine = q35::boot(context, "q35-uplink", system, |_, options| {
        options.netdev = Some(format!("user,id=net,hostfwd=udp:127.0.0.1:{port}-10.0.2.15:{ECHO}"));
        options.devices = vec![format!("e1000e,addr=2,netdev=net,mac={MAC},romfile=")];
        Ok(())
    })?;
    let text = until(&mut machine, &format!("nic: {MAC}, link "))?;
    q35::sends_messages(&text, "82574", "00:02.0")?;
    until(&mut machine, &format!("echo: 10.0.2.15/24, port {ECHO}, "))?;
    let host = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).into_diagnostic()?;
    host.connect((Ipv4Addr::LOCALHOST, port)).into_diagnostic()?;
    host.set_read_timeout(Some(PATIENCE)).into_diagnostic()?;
    let exchanged = exchange(&host, COUNT).and_then(|again| {
        // The driver sees what the wire does, and goes on.
        for (up, said) in [(false, "nic: link down"), (true, "nic: link up, 1000 Mb/s, full duplex")] {
            machine.console.skip();
            machine.ask("set_link", json!({ "name": "net", "up": up }))?;
            until(&mut machine, said)?;
        }
        Ok(again + exchange(&host, WINDOW)?)
    });
    let said = String::from_utf8_lossy(&machine.console.transcript()).into_owned();
    let again = exchanged.map_err(|error| error.wrap_err(last_lines(said.as_bytes(), 25)))?;
    ensure!(!said.contains("IOMMU: DMA "), "the controller has aimed elsewhere:\n{said}");
    ensure!(!said.contains("frames dropped"), "the driver drops frames:\n{said}");
    Ok(Outcome::Passed(format!("{} datagrams there and back, {again} of them sent again", COUNT + WINDOW)))
}

/// A port of the host that nobody has at the moment.
fn free_port() -> Result<u16> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).into_diagnostic()?;
    Ok(socket.local_addr().into_diagnostic()?.port())
}

/// Sends that many datagrams of all lengths, some at a time, and gets each back as it was. Returns how many were sent again.
fn exchange(host: &UdpSocket, count: usize) -> Result<usize> {
    let deadline = Instant::now() + LIMIT;
    let mut again = 0;
    for first in (0..count).step_by(WINDOW) {
        let mut missing: Vec<Vec<u8>> = (first..count.min(first + WINDOW)).map(datagram).collect();
        let mut round = 0;
        while !missing.is_empty() {
            ensure!(Instant::now() < deadline, "datagrams from {first} on do not come back: {} of them", missing.len());
            again += if round > 0 { missing.len() } else { 0 };
            round += 1;
            for datagram in &missing {
                host.send(datagram).into_diagnostic()?;
            }
            let mut bytes = [0; 2 * LONGEST];
            while !missing.is_empty()
                && let Ok(len) = host.recv(&mut bytes)
            {
                let came = &bytes[..len];
                missing.retain(|sent| sent != came);
                let sent = number(came).is_some_and(|n| datagram(n) == came);
                ensure!(sent, "a datagram of {len} bytes comes back that was not sent so: {came:x?}");
            }
        }
    }
    Ok(again)
}

/// A datagram that no other is like: its number, and bytes up to a length that the number gives.
fn datagram(n: usize) -> Vec<u8> {
    let len = 4 + n * 37 % (LONGEST - 3);
    let mut bytes = (n as u32).to_le_bytes().to_vec();
    bytes.extend((4..len).map(|at| (at * 7 + n) as u8));
    bytes
}

fn number(datagram: &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(*datagram.first_chunk()?) as usize)
}
