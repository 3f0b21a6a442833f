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

impl Bdf {
    /// Function 0 of the device of a root bus that this function is in or behind. `bridge_to` finds the bridge that leads to
    /// a bus.
    pub fn root(self, bridge_to: impl Fn(u8) -> Option<Self>) -> Self {
        let mut at = self;
        // There are at most 256 buses, so a longer path is a loop of wrongly numbered bridges.
        for _ in 0..=u8::MAX {
            match bridge_to(at.bus) {
                Some(bridge) if at.bus != 0 => at = bridge,
                _ => break,
            }
        }
        Self { function: 0, ..at }
    }
}

/// As lspci prints it: `00:1f.2`.
impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}
