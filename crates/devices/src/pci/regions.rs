//! Which BAR has a port or an address. The guest chooses the addresses of BARs; the board's own devices have fixed
//! ones.
//!
//! On a real bus, two targets that answer for overlapping regions drive the bus against each other. Here the first
//! wins: fixed devices, then functions in the order in which they were put on the bus, then the lower register. A
//! function answers an access only if it has all bytes of it, since a PCI cycle has one target.

use super::{BARS, Function, Region, Space, VirtualBus};
use crate::Width;
use heapless::Vec;

/// Regions of one address space, at most. Further ones do not answer.
pub const REGIONS: usize = 64;

/// The target of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The function's number on the bus.
    pub function: u8,
    /// The register of its BAR.
    pub bar: u8,
    /// Where in the BAR.
    pub offset: u64,
}

/// First and last address of a range, both inclusive.
pub type Range = (u64, u64);

/// An address space.
#[derive(Clone, Debug)]
struct Map {
    /// The ranges of the board's own devices, where no BAR answers.
    claims: &'static [Range],
    regions: Vec<(Range, u8, u8), REGIONS>,
    /// First and last byte of all regions. Most accesses lie outside, and need no search.
    span: Range,
}

const NOWHERE: Range = (u64::MAX, 0);

impl Map {
    const fn new(claims: &'static [Range]) -> Self {
        Self { claims, regions: Vec::new(), span: NOWHERE }
    }

    fn clear(&mut self) {
        self.regions.clear();
        self.span = NOWHERE;
    }

    fn add(&mut self, Region { first, last, .. }: Region, function: u8, bar: u8) {
        if self.regions.push(((first, last), function, bar)).is_ok() {
            self.span = (self.span.0.min(first), self.span.1.max(last));
        }
    }

    #[inline]
    fn find(&self, first: u64, width: Width) -> Option<Hit> {
        if first < self.span.0 || first > self.span.1 {
            return None;
        }
        self.search(first, first.checked_add(width.bytes() as u64 - 1)?)
    }

    fn search(&self, first: u64, last: u64) -> Option<Hit> {
        let touches = |&(from, to): &Range| from <= last && first <= to;
        if self.claims.iter().any(touches) {
            return None;
        }
        let &((from, to), function, bar) = self.regions.iter().find(|(range, ..)| touches(range))?;
        (from <= first && last <= to).then(|| Hit { function, bar, offset: first - from })
    }
}

/// The BARs of a bus that are enabled. Stale after an access with [`crate::Effect::REGIONS`], until the next
/// [`update`](Self::update).
#[derive(Clone, Debug)]
pub struct Regions {
    ports: Map,
    memory: Map,
}

impl Regions {
    /// No BARs yet, beside what the board's own devices have of either space.
    pub const fn new(ports: &'static [Range], memory: &'static [Range]) -> Self {
        Self { ports: Map::new(ports), memory: Map::new(memory) }
    }

    /// Reads the addresses of the functions' BARs.
    pub fn update<F: Function, const N: usize>(&mut self, bus: &VirtualBus<F, N>) {
        self.ports.clear();
        self.memory.clear();
        for (number, function) in bus.functions() {
            for bar in 0..BARS {
                let Some(region) = function.config().region(bar) else { continue };
                let map = match region.space {
                    Space::Ports => &mut self.ports,
                    Space::Memory => &mut self.memory,
                };
                map.add(region, number, bar as u8);
            }
        }
    }

    /// The target of an access to ports.
    #[inline]
    pub fn port(&self, port: u16, width: Width) -> Option<Hit> {
        self.ports.find(port.into(), width)
    }

    /// The target of an access to memory.
    #[inline]
    pub fn memory(&self, gpa: u64, width: Width) -> Option<Hit> {
        self.memory.find(gpa, width)
    }

    /// Whether a BAR has one of the addresses `first` to `last`.
    pub fn has_memory(&self, first: u64, last: u64) -> bool {
        self.memory.regions.iter().any(|&((from, to), ..)| from <= last && first <= to)
    }
}
