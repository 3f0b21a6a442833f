//! Groups of functions that an IOMMU does not keep apart, by configuration space, by the rule of pci-server: all functions of a
//! device of a root bus, and all that is behind it.

use std::collections::BTreeMap;

use layout::{Bdf, Roots};
use probe::pci::Config;

/// The class of bridges.
const BRIDGE: u16 = 0x06;

/// Groups of several functions that are not bridges, by function 0 of the root bus' device.
pub fn of(functions: &[(Bdf, Config<'_>)]) -> BTreeMap<Bdf, Vec<Bdf>> {
    let bridges = functions.iter().filter_map(|(at, config)| Some((*at, config.secondary()?, config.subordinate()?)));
    let roots = Roots::new(bridges);
    let mut groups: BTreeMap<Bdf, Vec<Bdf>> = BTreeMap::new();
    for (at, _) in functions.iter().filter(|(_, config)| config.class() >> 8 != BRIDGE) {
        groups.entry(roots.of(*at)).or_default().push(*at);
    }
    groups.retain(|_, members| members.len() > 1);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(bus: u8, device: u8) -> Bdf {
        Bdf { bus, device, function: 0 }
    }

    /// A bridge's header: type 1, class 0604, secondary and subordinate bus.
    fn bridge(first: u8, last: u8) -> [u8; 64] {
        let mut header = [0; 64];
        (header[0x0b], header[0x0a], header[0x0e]) = (6, 4, 1);
        (header[0x19], header[0x1a]) = (first, last);
        header
    }

    /// The groups of these bridges with two cards on one bus.
    fn groups(bridges: &[(Bdf, [u8; 64])], bus: u8) -> Vec<(Bdf, Vec<Bdf>)> {
        let card = [0; 64];
        let cards = [(at(bus, 1), Config(&card)), (at(bus, 2), Config(&card))];
        let all: Vec<_> = bridges.iter().map(|(at, header)| (*at, Config(header))).chain(cards).collect();
        of(&all).into_iter().collect()
    }

    #[test]
    fn a_bridge_leads_to_a_bus_that_all_above_it_pass_on() {
        let cards = |bus| vec![at(bus, 1), at(bus, 2)];
        let switch = |last| [(at(0, 5), bridge(2, last)), (at(2, 0), bridge(3, 4)), (at(3, 0), bridge(4, 4))];
        assert_eq!(groups(&switch(4), 4), [(at(0, 5), cards(4))]);
        // The upper bridge does not pass bus 4 on, so the numbers of the lower one are stale.
        assert_eq!(groups(&switch(3), 4), []);
        // Of two that name the bus, the second one is reached; the first one passes nothing on.
        assert_eq!(groups(&[(at(0, 1), bridge(4, 3)), (at(0, 2), bridge(4, 4))], 4), [(at(0, 2), cards(4))]);
        // Another root bus.
        assert_eq!(groups(&[(at(0x80, 3), bridge(0x81, 0x81))], 0x81), [(at(0x80, 3), cards(0x81))]);
        // In a circle, and to a root bus.
        assert_eq!(groups(&[(at(1, 0), bridge(2, 9)), (at(2, 0), bridge(1, 9)), (at(3, 0), bridge(0, 9))], 0), []);
    }

    #[test]
    fn no_capture_takes_for_ever() {
        let numbers = || {
            (0..=u16::MAX).map(|number| Bdf {
                bus: (number >> 8) as u8,
                device: (number >> 3 & 31) as u8,
                function: (number & 7) as u8,
            })
        };
        for secondary in [|at: Bdf| at.bus.saturating_add(1), |_| 255] {
            let headers: Vec<_> = numbers().map(|at| bridge(secondary(at), 254)).collect();
            let mut all: Vec<_> = numbers().zip(headers.iter().map(|header| Config(header))).collect();
            of(&all);
            let card = [0; 64];
            all.extend(numbers().map(|at| (at, Config(&card))));
            of(&all);
        }
    }
}
