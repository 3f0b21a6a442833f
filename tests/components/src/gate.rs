//! Attempts to access another client's resources (tests/systems/gate.toml): an intruder in a VMM's place asks
//! pci-server, irq-server and root-task for everything that it must not get, while an owner uses its own devices.
//!
//! The Bochs BIOS gives memory and ports to the cards of the description in the order of their slots.

mod intruder;
mod ne2000;
mod owner;

use layout::config::Component;
use proto::pci::{Bar, BarKind, Client, Grant};
use rt::Endpoint;

use crate::verdict::Verdict;

/// Memory of the guest's card, 00:03.0.
const GUESTS_MEMORY: u64 = 0xc000_0000;
/// Memory of the owner's other card, 00:04.0.
const OWNERS_MEMORY: u64 = 0xc002_0000;
/// Memory of the intruder's card 00:05.0.
const INTRUDERS_MEMORY: u64 = 0xc004_0000;

/// Where the five cards have their ports: an 82540EM's number apart, which differs between versions of the emulator. An
/// NE2000 has no more.
#[derive(Clone, Copy)]
struct Places {
    /// First port of the owner's NE2000, 00:02.0, which comes first.
    owners_card: u16,
    /// The ports of an 82540EM.
    each: u16,
}

impl Places {
    /// From own function `index`, an 82540EM that is the card at this place.
    fn find(verdict: &mut Verdict, index: u8, place: u16) -> Option<Self> {
        let bar = pci().grant(index).ok().flatten().and_then(|grant| grant.function.bars[1]);
        verdict.holds("ports of its 82540EM", bar.is_some());
        let (base, each) = (bar?.base as u16, bar?.size as u16);
        Some(Self { owners_card: base - place * each, each })
    }

    /// Of the guest's card, 00:03.0.
    fn guests(self) -> u16 {
        self.owners_card + self.each
    }

    /// Of the owner's other card, 00:04.0.
    fn owners(self) -> u16 {
        self.owners_card + 2 * self.each
    }

    /// Of the intruder's card 00:05.0.
    fn intruders(self) -> u16 {
        self.owners_card + 3 * self.each
    }

    /// Of the intruder's NE2000, 00:06.0.
    fn intruders_card(self) -> u16 {
        self.owners_card + 4 * self.each
    }
}

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
