//! Enumerates the machine's functions: on bus 0, and on every bus behind a PCI-to-PCI bridge (PCI-to-PCI Bridge
//! Architecture Specification 1.2, chapter 3). The firmware has numbered the buses. The scan follows bridges to higher
//! numbers only, so one pass from bus 0 on finds all functions and ends, whatever numbers the bridges have.
//!
//! The bus of another host bridge is behind no bridge. Only ACPI names it, by a method in AML, which nothing here
//! interprets. Such buses are found by trying all 256 with all 32 devices: 8,192 reads, which take some 20 milliseconds.
//! Therefore that is done only where a function of theirs can matter.

use heapless::Vec;
use layout::Bdf;
use proto::pci::{Config, Function, Header};

use crate::config_space::{ConfigSpace, byte, half};
use crate::function::describe;

/// Most functions listed.
pub const MAX_FUNCTIONS: usize = 256;

/// The result of a scan.
pub struct Listing {
    /// The functions, in the order of their addresses.
    pub functions: Vec<Function, MAX_FUNCTIONS>,
    /// Functions for which the list had no room.
    pub left_out: u32,
}

/// Which buses a scan visits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Bus 0, and those behind its bridges.
    FirstHostBridge,
    /// All 256.
    AllBuses,
}

/// Lists the functions that matter for `config`. Those of other host bridges do if a client may list all, if ports
/// without a function are passed through, which must not be any function's, and if a function of the configuration is
/// not behind the first host bridge.
pub fn scan_for(space: &mut impl ConfigSpace, config: &Config) -> Listing {
    let listing = scan(space, Scope::FirstHostBridge);
    let is_found = |at| listing.functions.iter().any(|function| function.address == at);
    let all_found = config.functions.iter().all(|wanted| is_found(wanted.at));
    let lists = config.clients.iter().any(|client| client.enumerate);
    if all_found && !lists && config.ports.is_empty() { listing } else { scan(space, Scope::AllBuses) }
}

/// Lists the machine's functions, in the order of their addresses.
pub fn scan(space: &mut impl ConfigSpace, scope: Scope) -> Listing {
    let mut listing = Listing { functions: Vec::new(), left_out: 0 };
    let mut buses = Buses::default();
    buses.add(0);
    for bus in 0..=u8::MAX {
        if scope == Scope::FirstHostBridge && !buses.has(bus) {
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

/// Vendor ID 0 is no vendor's: broken bridges answer so for devices that do not exist.
fn is_there(space: &mut impl ConfigSpace, at: Bdf) -> bool {
    !matches!(half(space.read(at, 0), 0), 0 | 0xffff)
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
