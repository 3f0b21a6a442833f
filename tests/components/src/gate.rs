//! Attempts to access another client's resources (tests/systems/gate.toml): an intruder in a VMM's place asks
//! pci-server, irq-server and root-task for everything that it must not get, while an owner uses its own devices.
//!
//! The addresses are those that the Bochs BIOS gives to the cards of the description, in the order of their slots.

mod intruder;
mod ne2000;
mod owner;

use layout::config::Component;
use proto::pci::{Bar, BarKind, Client, Grant};
use rt::Endpoint;

use crate::verdict::Verdict;

/// Ports of the owner's NE2000, 00:02.0.
const OWNERS_CARD: u16 = 0xc040;
/// Memory and ports of the guest's card, 00:03.0.
const GUESTS_MEMORY: u64 = 0xc000_0000;
const GUESTS_PORTS: u16 = 0xc080;
/// Memory and ports of the owner's other card, 00:04.0.
const OWNERS_MEMORY: u64 = 0xc002_0000;
const OWNERS_PORTS: u16 = 0xc0c0;
/// Memory and ports of the intruder's card 00:05.0.
const INTRUDERS_MEMORY: u64 = 0xc004_0000;
const INTRUDERS_PORTS: u16 = 0xc100;
/// Ports of its NE2000, 00:06.0.
const INTRUDERS_CARD: u16 = 0xc140;

/// Rate of the emulated TSC, in Hz (build/src/bochs/config.rs).
const HZ: u64 = 50_000_000;

/// Runs the part `part`.
pub fn play(part: &str, config: &Component) {
    match part {
        "intruder" => intruder::intrude(),
        "owner" => owner::work(config),
        _ => panic!("no such part: {part}"),
    }
}

fn pci() -> Client<Endpoint> {
    Client(Endpoint::at(proto::pci::SERVICE.slot))
}

/// The grant of an own function; checks the addresses of its first BARs.
fn grant(verdict: &mut Verdict, index: u8, memory: Option<u64>, ports: u16) -> Option<Grant> {
    let Ok(Some(grant)) = pci().grant(index) else {
        verdict.holds("a function of its own", false);
        return None;
    };
    let at = |bar: Option<Bar>| bar.map(|bar| (bar.kind == BarKind::Io, bar.base));
    let bars = grant.function.bars.map(at);
    let expected = match memory {
        Some(memory) => [Some((false, memory)), Some((true, ports.into()))],
        None => [Some((true, ports.into())), None],
    };
    verdict.equal("its registers", [bars[0], bars[1]], expected);
    Some(grant)
}
