//! Where a PCI function is.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Bus, device and function (PCI Local Bus Specification 3.0, section 3.2.2.3.2), in the machine's one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bdf {
    /// Bus.
    pub bus: u8,
    /// Device, 0 to 31.
    pub device: u8,
    /// Function, 0 to 7.
    pub function: u8,
}

/// Which device of a root bus leads to each bus.
pub struct Roots([Option<Bdf>; 256]);

impl Roots {
    /// From all bridges, each with its secondary and subordinate bus. Those on root buses decide, as they do for a
    /// configuration cycle (PCI-to-PCI Bridge Architecture Specification 1.2, section 3.1.2.1): what is behind one, and says it
    /// led to a bus elsewhere, counts for nothing. A root bus is one that none on a root bus before it leads to.
    pub fn new(bridges: impl Iterator<Item = (Bdf, u8, u8)> + Clone) -> Self {
        let mut roots = [None; 256];
        for bus in 0..=u8::MAX {
            if roots[usize::from(bus)].is_some() {
                continue;
            }
            for (at, secondary, subordinate) in bridges.clone().filter(|(at, ..)| at.bus == bus) {
                for bus in (secondary..=subordinate).filter(|behind| *behind > bus) {
                    roots[usize::from(bus)].get_or_insert(at);
                }
            }
        }
        Self(roots)
    }

    /// Function 0 of the device of a root bus that a function is in or behind.
    pub fn of(&self, at: Bdf) -> Bdf {
        Bdf { function: 0, ..self.0[usize::from(at.bus)].unwrap_or(at) }
    }
}

/// As lspci prints it: `00:1f.2`.
impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}
