//! Enumerates the machine's functions: on bus 0, and on every bus behind a PCI-to-PCI bridge (PCI-to-PCI Bridge
//! Architecture Specification 1.2, chapter 3). The firmware has numbered the buses. The scan follows bridges to higher
//! numbers only, so one pass from bus 0 on finds all functions and ends, whatever numbers the bridges have.
//! It leaves out further host bridges, whose buses are not behind a bridge on bus 0.

use heapless::Vec;
use layout::Bdf;
use proto::pci::{Function, Header};

use crate::config_space::{ConfigSpace, byte, half};
use crate::function::describe;

/// Most functions listed.
pub const MAX_FUNCTIONS: usize = 64;

/// The result of a scan.
pub struct Listing {
    /// The functions, in the order of their addresses.
    pub functions: Vec<Function, MAX_FUNCTIONS>,
    /// Functions for which the list had no room.
    pub left_out: u32,
}

/// Lists the machine's functions, in the order of their addresses.
pub fn scan(space: &mut impl ConfigSpace) -> Listing {
    let mut listing = Listing { functions: Vec::new(), left_out: 0 };
    let mut buses = Buses::default();
    buses.add(0);
    for bus in 0..=u8::MAX {
        if !buses.has(bus) {
            continue;
        }
        for device in 0..32 {
            for function in functions(space, Bdf { bus, device, function: 0 }) {
                let function = describe(space, function);
                // Only to higher numbers: a broken bridge that leads back must not make the scan endless.
                if let Header::Bridge { secondary, .. } = function.header
                    && secondary > bus
                {
                    buses.add(secondary);
                }
                listing.left_out += u32::from(listing.functions.push(function).is_err());
            }
        }
    }
    listing
}

/// The functions of a device: none without function 0, and only that unless its multi-function bit is set.
fn functions(space: &mut impl ConfigSpace, first: Bdf) -> Vec<Bdf, 8> {
    if !is_there(space, first) {
        return Vec::new();
    }
    // Single-function devices may decode accesses to functions 1 to 7 as well, and would be listed eight times.
    let count = if byte(space.read(first, 0x0c), 0x0e) & 0x80 != 0 { 8 } else { 1 };
    let all = (0..count).map(|function| Bdf { function, ..first });
    all.filter(|&at| at.function == 0 || is_there(space, at)).collect()
}

fn is_there(space: &mut impl ConfigSpace, at: Bdf) -> bool {
    half(space.read(at, 0), 0) != 0xffff
}

/// A set of bus numbers.
#[derive(Default)]
struct Buses([u64; 4]);

impl Buses {
    fn add(&mut self, bus: u8) {
        self.0[usize::from(bus >> 6)] |= 1 << (bus & 63);
    }

    fn has(&self, bus: u8) -> bool {
        self.0[usize::from(bus >> 6)] & 1 << (bus & 63) != 0
    }
}
