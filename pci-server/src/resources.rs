//! Ports and memory that have an owner: the slots of their capabilities, and who may access them how. A BAR of at least
//! a page can be handed over; a smaller one may share its page with another function's BAR, so it is mediated. (BARs
//! are aligned to their size: two that share a page are both smaller than a page.)
//!
//! Slots and addresses are allocated in the order of ports and physical addresses. They depend on the description and
//! the machine alone, so a restarted pci-server asks root-task for the same again.

use heapless::Vec;
use layout::limits::{MAX_PCI_FUNCTIONS, MAX_PCI_PORTS};
use proto::pci::{Access, Bar, BarKind};
use proto::supervisor::{Refused, Request};

use crate::hardware::Authority;

/// BARs of all owned functions.
const MAX_BARS: usize = 6 * MAX_PCI_FUNCTIONS;
/// Ranges of ports: I/O BARs, and ranges without a function.
const MAX_PORT_RANGES: usize = MAX_BARS + MAX_PCI_PORTS;

const PAGE: u64 = 1 << SMALL;
const SMALL: u8 = 12;
const LARGE: u8 = 21;
/// First free slot of the scratch CNode, and the end of it.
const SLOTS: (u16, u16) = (1, 1 << layout::SCRATCH_BITS);
/// Bytes of the window for mediated memory.
pub const WINDOW: u64 = 4 << 20;
/// Most pages of one request.
const MAX_BATCH: u16 = 512;

/// The entry of the configuration that a range belongs to: a function, or a range without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A base address register of a function.
    Bar {
        /// The function.
        function: u8,
        /// The register.
        bar: u8,
    },
    /// Ports without a function.
    Ports(u8),
}

/// A range of ports.
#[derive(Clone, Copy, Debug)]
pub struct PortRange {
    /// The client.
    pub owner: u8,
    /// What it belongs to.
    pub whose: Whose,
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// The capability may be handed over.
    pub direct: bool,
    /// Slot of the capability in the scratch CNode.
    pub slot: u16,
}

/// A range of memory.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRange {
    /// The client.
    pub owner: u8,
    /// What it belongs to.
    pub whose: Whose,
    /// First byte.
    pub first: u64,
    /// Last byte.
    pub last: u64,
    /// The frames may be handed over; else access is by calls.
    pub direct: bool,
    /// log2 of the size of its frames.
    pub bits: u8,
    /// Number of frames.
    pub frames: u16,
    /// Slot of the first frame's capability; the others follow.
    pub slot: u16,
    /// Offset in the window at which the first page, or all of mediated memory, is mapped. With a table, all of it is.
    pub mapped: Option<u64>,
    /// First and last byte of a table of MSI-X, as offsets. Its pages are not handed over.
    pub table: Option<(u64, u64)>,
}

impl MemoryRange {
    /// The pages that are not handed over: first and last.
    pub fn kept(&self) -> Option<(u16, u16)> {
        self.table.map(|(first, last)| ((first / PAGE) as u16, (last / PAGE) as u16))
    }

    /// Whether accesses at this offset are by calls.
    pub fn is_mediated(&self, offset: u64) -> bool {
        let page = (offset / PAGE) as u16;
        !self.direct || self.kept().is_some_and(|(first, last)| (first..=last).contains(&page))
    }
}

/// A range that root-task refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What it belongs to.
    pub whose: Whose,
    /// root-task's reason.
    pub why: Refused,
}

/// All ranges, in order; none overlaps another.
#[derive(Default)]
pub struct Resources {
    ports: Vec<PortRange, MAX_PORT_RANGES>,
    memory: Vec<MemoryRange, MAX_BARS>,
}

impl Resources {
    /// Adds a range of ports without a function.
    pub fn add_ports(&mut self, owner: u8, index: u8, first: u16, last: u16) {
        let range = PortRange { owner, whose: Whose::Ports(index), first, last, direct: true, slot: 0 };
        // There is room for all ranges of the configuration.
        let _ = self.ports.push(range);
    }

    /// Adds the range of a BAR.
    pub fn add_bar(&mut self, owner: u8, function: u8, bar: u8, what: &Bar, direct: bool, table: Option<(u64, u64)>) {
        let whose = Whose::Bar { function, bar };
        let last = what.base.saturating_add(what.size - 1);
        if what.kind == BarKind::Io {
            let (Ok(first), Ok(last)) = (u16::try_from(what.base), u16::try_from(last)) else { return };
            let _ = self.ports.push(PortRange { owner, whose, first, last, direct, slot: 0 });
            return;
        }
        let direct = direct && what.size >= PAGE;
        let bits = if direct && what.size >= 1 << LARGE { LARGE } else { SMALL };
        let frames = u16::try_from(what.size.div_ceil(1 << bits)).unwrap_or(u16::MAX);
        let (first, slot, mapped) = (what.base, 0, None);
        let range = MemoryRange { owner, whose, first, last, direct, bits, frames, slot, mapped, table };
        let _ = self.memory.push(range);
    }

    /// Allocates slots and addresses, and asks root-task for the capabilities. Calls `missing` for each refused range,
    /// and removes it.
    pub fn obtain(&mut self, authority: &mut impl Authority, mut missing: impl FnMut(Missing)) {
        self.ports.sort_unstable_by_key(|range| range.first);
        self.memory.sort_unstable_by_key(|range| range.first);
        let mut next = Next { slot: SLOTS.0, mapped: 0, page: None };
        self.ports.retain_mut(|range| {
            let had = next.ports(range).and_then(|request| authority.obtain(request));
            had.map_err(|why| missing(Missing { whose: range.whose, why })).is_ok()
        });
        self.memory.retain_mut(|range| {
            let had = next.memory(range).and_then(|fresh| if fresh { obtain(authority, range) } else { Ok(()) });
            had.map_err(|why| missing(Missing { whose: range.whose, why })).is_ok()
        });
    }

    /// Removes the ranges of a function that is not passed through after all.
    pub fn forget(&mut self, gone: u8) {
        let stays = |whose| !matches!(whose, Whose::Bar { function, .. } if function == gone);
        self.ports.retain(|range| stays(range.whose));
        self.memory.retain(|range| stays(range.whose));
    }

    /// The range that a port lies in.
    pub fn port(&self, port: u16) -> Option<&PortRange> {
        let behind = self.ports.partition_point(|range| range.first <= port);
        self.ports.get(behind.checked_sub(1)?).filter(|range| port <= range.last)
    }

    /// The range that an address lies in.
    pub fn memory(&self, at: u64) -> Option<&MemoryRange> {
        let behind = self.memory.partition_point(|range| range.first <= at);
        self.memory.get(behind.checked_sub(1)?).filter(|range| at <= range.last)
    }

    /// The memory of a BAR.
    pub fn memory_of(&self, function: u8, bar: u8) -> Option<&MemoryRange> {
        self.memory.iter().find(|range| range.whose == Whose::Bar { function, bar })
    }

    /// How the owner accesses a BAR.
    pub fn access(&self, function: u8, bar: u8) -> Access {
        let whose = Whose::Bar { function, bar };
        let ports = self.ports.iter().find(|range| range.whose == whose);
        match (ports, self.memory_of(function, bar)) {
            (Some(PortRange { direct: true, .. }), _) => Access::Direct { bits: 0, count: 1 },
            (_, Some(range)) if range.direct => Access::Direct { bits: range.bits, count: range.frames },
            (None, None) => Access::No,
            _ => Access::Mediated,
        }
    }

    /// The ranges without a function of one client.
    pub fn loose_ports(&self, owner: usize) -> impl Iterator<Item = &PortRange> {
        let loose = self.ports.iter().filter(|range| matches!(range.whose, Whose::Ports(_)));
        loose.filter(move |range| usize::from(range.owner) == owner)
    }

    /// The slots of everything that may have been handed over to a client.
    pub fn slots(&self, owner: usize) -> impl Iterator<Item = u16> {
        let ports = self.ports.iter().filter(|range| range.direct).map(|range| (range.owner, range.slot, 1));
        let memory = self.memory.iter().filter(|range| range.direct);
        let all = ports.chain(memory.map(|range| (range.owner, range.slot, range.frames)));
        all.filter(move |&(of, ..)| usize::from(of) == owner).flat_map(|(_, slot, count)| slot..slot + count)
    }
}

/// The next free slot and offset of the window.
struct Next {
    slot: u16,
    mapped: u64,
    /// The page mapped last (address, slot, offset in the window): the next small BAR may be in the same page.
    page: Option<(u64, u16, u64)>,
}

impl Next {
    fn slots(&mut self, count: u16) -> Result<u16, Refused> {
        let first = self.slot;
        let end = first.checked_add(count).filter(|&end| end <= SLOTS.1).ok_or(Refused::NoRoom)?;
        self.slot = end;
        Ok(first)
    }

    fn ports(&mut self, range: &mut PortRange) -> Result<Request, Refused> {
        range.slot = self.slots(1)?;
        Ok(Request::Ports { first: range.first, last: range.last, slot: range.slot })
    }

    /// Assigns slots and window; returns whether the memory has to be obtained, i.e. is not in the page mapped last.
    fn memory(&mut self, range: &mut MemoryRange) -> Result<bool, Refused> {
        let page = range.first & !(PAGE - 1);
        let within = range.first - page;
        // The kernel makes only one frame of a page of device memory, so BARs in one page share its capability.
        if let Some((known, slot, mapped)) = self.page
            && known == page
        {
            (range.slot, range.mapped) = (slot, Some(mapped + within));
            return Ok(false);
        }
        range.slot = self.slots(range.frames)?;
        let bytes = match (range.direct, range.bits) {
            // A frame of 2 MiB would take half of the window, so it is not mapped: a reset cannot use registers there.
            (true, LARGE) => return Ok(true),
            (true, _) if range.table.is_none() => PAGE,
            _ => u64::from(range.frames) * PAGE,
        };
        if self.mapped + bytes > WINDOW {
            return Err(Refused::NoRoom);
        }
        range.mapped = Some(self.mapped + within);
        self.page = (!range.direct).then_some((page, range.slot, self.mapped));
        self.mapped += bytes;
        Ok(true)
    }
}

/// Asks for the frames of a range. The first frame of a direct range is mapped too: it has the registers for a reset.
fn obtain(authority: &mut impl Authority, range: &MemoryRange) -> Result<(), Refused> {
    let mut done = 0;
    while done < range.frames {
        let left = range.frames - done;
        let only_first = range.direct && range.table.is_none();
        let pages = if only_first && range.mapped.is_some() && done == 0 { 1 } else { left.min(MAX_BATCH) };
        let at = u64::from(done) << range.bits;
        let map = range.mapped.filter(|_| !only_first || done == 0).map(|mapped| (mapped & !(PAGE - 1)) + at);
        let paddr = (range.first & !(PAGE - 1)) + at;
        authority.obtain(Request::Memory { paddr, pages, bits: range.bits, slot: range.slot + done, map })?;
        done += pages;
    }
    Ok(())
}
