//! Groups of functions that an IOMMU does not keep apart: what one sends to another's registers, a bridge or the device
//! itself may deliver without asking the IOMMU (PCI Express Base Specification 5.0, section 6.12). A group has one owner,
//! as with Linux' VFIO (Documentation/driver-api/vfio.rst), unless the description trusts a function with the others.
//!
//! Access control services, by which bridges keep functions apart, are in the extended configuration space, which mechanism
//! 1 cannot access. So no bridge and no device counts as having them: all functions of a device of a root bus, and all
//! behind it, are one group.

use layout::{Bdf, Roots};
use proto::pci::{Config, Dma, Function, Header};

use crate::capabilities::EXPRESS;

/// Two functions of one group that have different owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other function: index in the configuration.
    pub other: usize,
    /// Function 0 of the device of a root bus that both are, or are behind.
    pub root: Bdf,
}

/// The first function of the configuration that is in the group of the `index`th and has another owner. Functions that are
/// not bus masters, or that the description trusts with all of memory, have none. `valid` is a bit set of those that
/// are to be passed through.
pub fn conflict(functions: &[Function], config: &Config, valid: u16, index: usize) -> Option<Conflict> {
    let one = config.functions.get(index).filter(|one| one.dma == Dma::Domain)?;
    let roots = roots(functions);
    let root = roots.of(one.at);
    let mut others = config.functions.iter().enumerate().filter(|(n, _)| valid & 1 << n != 0);
    let (other, _) = others.find(|(_, other)| other.owner != one.owner && roots.of(other.at) == root)?;
    Some(Conflict { other, root })
}

/// Whether a function is on a bus of conventional PCI behind a bridge, and does DMA under the bridge's number.
pub fn is_behind_conventional(functions: &[Function], at: Bdf) -> bool {
    let is_express = |found: &Function| found.capabilities.iter().any(|capability| capability.id == EXPRESS);
    let found = functions.iter().find(|found| found.address == at);
    found.is_some_and(|found| !is_express(found)) && roots(functions).of(at).bus != at.bus
}

fn roots(functions: &[Function]) -> Roots {
    Roots::new(functions.iter().filter_map(|function| match function.header {
        Header::Bridge { secondary, subordinate } => Some((function.address, secondary, subordinate)),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use layout::config::{Name, Ports};
    use proto::pci::{Intx, PciFunction};
    use std::vec::Vec;

    const fn at(bus: u8, device: u8, function: u8) -> Bdf {
        Bdf { bus, device, function }
    }

    fn function(address: Bdf, header: Header) -> Function {
        Function {
            address,
            vendor: 0x8086,
            device: 0,
            subsystem: (0, 0),
            class: [0; 3],
            revision: 0,
            header,
            bars: [None; 6],
            pin: 0,
            line: 0,
            capabilities: Default::default(),
        }
    }

    /// Bridges, each with the first and last bus behind it.
    fn board(bridges: &[(Bdf, u8, u8)]) -> Vec<Function> {
        let bridge = |&(at, secondary, subordinate)| function(at, Header::Bridge { secondary, subordinate });
        bridges.iter().map(bridge).collect()
    }

    fn config(functions: &[(u8, Bdf, Dma)]) -> Config {
        let function = |&(owner, at, dma)| PciFunction {
            owner,
            name: Name::try_from("function").unwrap(),
            at,
            direct: true,
            dma,
            group_trusted: false,
            has_route: false,
            lines: Default::default(),
            ports: None,
            memory: None,
        };
        Config {
            config: Ports { slot: layout::slot::PORTS, first: 0xcf8, last: 0xcff },
            clients: Default::default(),
            functions: functions.iter().map(function).collect(),
            ports: Default::default(),
            intx: Intx::Unknown,
        }
    }

    /// Whether two functions with different owners are in one group.
    fn together(bridges: &[(Bdf, u8, u8)], one: Bdf, other: Bdf) -> bool {
        let (board, config) = (board(bridges), config(&[(1, one, Dma::Domain), (2, other, Dma::No)]));
        conflict(&board, &config, 0b11, 0).is_some_and(|found| found.other == 1)
    }

    #[test]
    fn functions_of_one_device_are_a_group() {
        assert!(together(&[], at(0, 0x1f, 2), at(0, 0x1f, 3)));
        assert!(!together(&[], at(0, 0x1f, 2), at(0, 0x19, 0)));
    }

    #[test]
    fn all_that_is_behind_a_bridge_is_a_group() {
        let pci_bridge = [(at(0, 0x1e, 0), 5, 5)];
        assert!(together(&pci_bridge, at(5, 1, 0), at(5, 4, 0)));
        // A switch: its upstream port, and two downstream ports.
        let switch = [(at(0, 1, 0), 1, 4), (at(1, 0, 0), 2, 4), (at(2, 0, 0), 3, 3), (at(2, 1, 0), 4, 4)];
        assert!(together(&switch, at(3, 0, 0), at(4, 0, 0)));
        assert!(!together(&switch, at(3, 0, 0), at(0, 2, 0)));
    }

    #[test]
    fn root_ports_are_a_group_if_they_are_functions_of_one_device() {
        let ports = [(at(0, 0x1c, 0), 1, 1), (at(0, 0x1c, 4), 2, 2), (at(0, 1, 0), 3, 3)];
        assert!(together(&ports, at(1, 0, 0), at(2, 0, 0)));
        assert!(!together(&ports, at(1, 0, 0), at(3, 0, 0)));
    }

    #[test]
    fn another_host_bridges_devices_are_not_those_of_the_first() {
        let bridges = [(at(0x80, 3, 0), 0x81, 0x81), (at(0, 3, 0), 1, 1)];
        assert!(!together(&bridges, at(0x81, 0, 0), at(1, 0, 0)));
        assert!(!together(&bridges, at(0x80, 5, 0), at(0, 5, 0)));
        assert!(together(&bridges, at(0x81, 0, 0), at(0x81, 0, 1)));
    }

    #[test]
    fn a_card_that_says_it_is_a_bridge_moves_nobody() {
        // A switch with two cards, and elsewhere a card that says it led to the second one's bus, to others, or to itself.
        let board = |secondary, subordinate| {
            let liar = (at(1, 0, 0), secondary, subordinate);
            [
                liar,
                (at(0, 0x1c, 0), 2, 6),
                (at(2, 0, 0), 3, 6),
                (at(3, 0, 0), 5, 5),
                (at(3, 1, 0), 6, 6),
                (at(0, 1, 0), 1, 1),
            ]
        };
        for (secondary, subordinate) in [(6, 6), (2, 6), (0, 255), (1, 255), (255, 0), (0x80, 0x80)] {
            let bridges = board(secondary, subordinate);
            assert!(together(&bridges, at(5, 0, 0), at(6, 0, 0)), "{secondary} to {subordinate}");
            assert!(!together(&bridges, at(1, 0, 0), at(6, 0, 0)), "{secondary} to {subordinate}");
            assert!(!together(&bridges, at(1, 0, 0), at(0x80, 0, 0)), "{secondary} to {subordinate}");
        }
        // Behind the same bridge, it stays in the group of those that it hides.
        let same = [(at(0, 0x1e, 0), 5, 6), (at(5, 0, 0), 5, 7), (at(5, 1, 0), 6, 6)];
        assert!(together(&same, at(5, 0, 0), at(6, 0, 0)));
    }

    #[test]
    fn bridges_that_lead_in_a_circle_end() {
        let circle = [(at(1, 0, 0), 2, 2), (at(2, 0, 0), 1, 1), (at(3, 0, 0), 0, 0)];
        together(&circle, at(1, 3, 0), at(2, 3, 0));
        together(&circle, at(0, 3, 0), at(2, 3, 0));
    }

    #[test]
    fn only_a_bus_master_with_a_neighbour_of_another_owner_is_in_conflict() {
        let neighbours = |dma, valid, owner| {
            conflict(&[], &config(&[(1, at(0, 2, 0), dma), (owner, at(0, 2, 1), Dma::Domain)]), valid, 0)
        };
        assert_eq!(neighbours(Dma::Domain, 0b11, 2), Some(Conflict { other: 1, root: at(0, 2, 0) }));
        assert_eq!(neighbours(Dma::No, 0b11, 2), None);
        assert_eq!(neighbours(Dma::Trusted, 0b11, 2), None);
        assert_eq!(neighbours(Dma::Domain, 0b01, 2), None, "the other is not passed through");
        assert_eq!(neighbours(Dma::Domain, 0b11, 1), None, "it has the same owner");
    }
}
