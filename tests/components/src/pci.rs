//! pci-server: the list of functions equals the emulated board's (Intel 82440FX and 82371SB/AB data sheets; the
//! addresses are those that the Bochs BIOS assigns), and only clients with `pci_enumerate` get it.

use layout::Bdf;
use proto::pci::{Bar, BarKind, Client, Error};
use rt::Endpoint;

use crate::verdict::Verdict;

/// A function: device and function number on bus 0, vendor and device ID, class, ports by base address register.
type Row = ((u8, u8), (u16, u16), [u8; 3], [Option<(u64, u64)>; 6]);

const NO_PORTS: [Option<(u64, u64)>; 6] = [None; 6];
const BOARD: [Row; 5] = [
    ((0, 0), (0x8086, 0x1237), [0x06, 0x00, 0x00], NO_PORTS),
    ((1, 0), (0x8086, 0x7000), [0x06, 0x01, 0x00], NO_PORTS),
    (
        (1, 1),
        (0x8086, 0x7010),
        [0x01, 0x01, 0x80],
        [Some((0x1f0, 8)), Some((0x3f6, 1)), Some((0x170, 8)), Some((0x376, 1)), Some((0xc000, 16)), None],
    ),
    ((1, 2), (0x8086, 0x7020), [0x0c, 0x03, 0x00], [None, None, None, None, Some((0xc020, 32)), None]),
    ((1, 3), (0x8086, 0x7113), [0x06, 0x80, 0x00], NO_PORTS),
];

fn server() -> Client<Endpoint> {
    Client(Endpoint::at(proto::pci::SERVICE.slot))
}

/// Lists the bus.
pub fn granted(verdict: &mut Verdict) {
    for (index, ((device, function), id, class, ports)) in (0..).zip(BOARD) {
        let Ok(Some(found)) = server().function(index) else {
            verdict.holds("as many functions as the board has", false);
            return;
        };
        verdict.equal("address", found.address, Bdf { bus: 0, device, function });
        verdict.equal("vendor and device", (found.vendor, found.device), id);
        verdict.equal("class", found.class, class);
        let bars = ports.map(|ports| ports.map(|(base, size)| Bar { kind: BarKind::Io, base, size }));
        verdict.equal("base address registers", found.bars, bars);
    }
    for index in [BOARD.len() as u16, 63, 64, u16::MAX] {
        verdict.equal("behind the last function", server().function(index), Ok(None));
    }
}

/// Tries to list the bus without permission.
pub fn not_granted(verdict: &mut Verdict) {
    for index in [0, 1, u16::MAX] {
        verdict.equal("a listing without leave", server().function(index), Err(Error::NotAllowed));
    }
}
