//! Where a guest has the windows of its functions (PCI Local Bus Specification 3.0, section 6.2.5.1). Software may move
//! a window by its base address register; Linux does so when its user asks it to rescan for a device. The device keeps
//! its address on the machine (decision 0013); only the guest's address space changes. Memory that was handed over is
//! mapped elsewhere in the EPT. Ports cannot be mapped, so the guest's direct access ends, and pci-server makes the
//! accesses until the ports are back at their address on the machine.
//!
//! Windows that the machine has above 4 GiB begin below it in the guest, as firmware does for old systems: many guests reach no
//! others, and the board's ACPI tables name no others.
//!
//! A move counts when the function decodes addresses of that kind, and not while the register holds the all-ones value
//! that asks for its size. A window whose new address is impossible (over RAM, for example) has no address: reads there
//! give all ones. A window that found its address taken by another one tries again after each move.
//!
//! After small frames have been unmapped, the EPT keeps their page table, and the kernel maps no large frame over a
//! page table. Small windows therefore get no address where a large window has its own, so that the large one can
//! always return.

use heapless::Vec;
use layout::limits::MAX_PCI_FUNCTIONS;

/// Most windows: six registers a function.
pub const MAX_WINDOWS: usize = 6 * MAX_PCI_FUNCTIONS;
/// Guest-physical addresses from here on have no paging structures: the EPT has one page directory pointer table.
const MEMORY_END: u64 = 1 << 39;
const PAGE: u64 = 4096;
const PORTS_END: u64 = 1 << 16;
/// log2 of the size of a large frame. pci-server hands memory of at least that size over in large frames.
const LARGE: u32 = 21;
/// The addresses of a PC's I/O APIC and local APICs (Intel SDM volume 3, section 11.4.1), where no window can be.
const APICS: (u64, u64) = (0xfec0_0000, 0xfeef_ffff);

/// Where windows that the machine has above 4 GiB are in the guest, as far as there is room: both ends inclusive. No board's
/// guest has RAM there if it has functions (capdl-spec's `pci_memory`).
const PLACES: (u64, u64) = (0x8000_0000, 0xfebf_ffff);

/// The address space of a base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarSpace {
    /// I/O ports.
    Ports,
    /// Memory; a wide register takes two.
    Memory {
        /// The address has 64 bits.
        wide: bool,
    },
}

/// The resource of a base address register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarWindow {
    /// The function, by its number at pci-server.
    pub function: u8,
    /// The register, 0 to 5.
    pub bar: u8,
    /// Ports or memory.
    pub space: BarSpace,
    /// First port or physical address, on the machine.
    pub base: u64,
    /// First port or guest-physical address after a reset of the guest.
    pub home: u64,
    /// Ports or bytes, at least one.
    pub size: u64,
    /// It was handed over; else pci-server makes the accesses.
    pub direct: bool,
    /// Pages of 4 KiB that were not, first and last: those of a table of MSI-X.
    pub kept: Option<(u16, u16)>,
    /// The register shows the address, so the guest may change it. A disk controller in compatibility mode shows none.
    pub movable: bool,
}

/// A window and where it is in the guest.
#[derive(Clone, Copy, Debug)]
struct Placed {
    window: BarWindow,
    /// The address in its register, unless no such window can be there.
    wanted: Option<u64>,
    /// `wanted`, or none if mapping there failed.
    at: Option<u64>,
    moved: bool,
}

/// Guest addresses, both ends inclusive, whose accesses pci-server makes; `to` is the first one's on the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarded {
    pub first: u64,
    pub last: u64,
    pub to: u64,
}

/// There are too many windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// All windows of a guest.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    all: Vec<Placed, MAX_WINDOWS>,
    moved: bool,
}

impl Windows {
    pub const fn new() -> Self {
        Self { all: Vec::new(), moved: false }
    }

    pub fn add(&mut self, window: BarWindow) -> Result<(), Full> {
        let home = Some(window.home);
        self.all.push(Placed { window, wanted: home, at: home, moved: false }).map_err(|_| Full)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The window of this number, if the guest may move it and it is of this function.
    pub fn movable(&self, number: usize, function: u8) -> Option<BarWindow> {
        let window = self.all.get(number)?.window;
        (window.function == function && window.movable).then_some(window)
    }

    /// Takes the address that a window's register shows; returns whether that moves the window.
    pub fn note(&mut self, number: usize, address: u64) -> bool {
        let Some(&Placed { window, wanted, .. }) = self.all.get(number) else { return false };
        let place = (window.fits(address) && !self.blocks(window, address)).then_some(address);
        if window.asks_for_its_size(address) || wanted == place {
            return false;
        }
        self.all[number] = Placed { window, wanted: place, at: place, moved: true };
        self.moved = true;
        self.retry();
        true
    }

    /// The highest address below 4 GiB with room for `window`, which is not among the others yet. They do not share 2 MiB, as
    /// large and small frames cannot.
    pub fn room(&self, window: BarWindow) -> Option<u64> {
        let (first, last) = PLACES;
        let down = |end: u64| Some(end.checked_sub(window.size)? & !(window.size - 1)).filter(|at| *at >= first);
        let mut at = down(last + 1)?;
        // Each round passes another window, or ends.
        for _ in 0..=self.all.len() {
            let near = |other: &BarWindow| {
                at >> LARGE <= other.last_from(other.home) >> LARGE
                    && other.home >> LARGE <= window.last_from(at) >> LARGE
            };
            let memory = self.all.iter().map(|other| other.window).filter(|other| other.space != BarSpace::Ports);
            match memory.filter(near).map(|other| other.home).min() {
                None => return Some(at),
                Some(taken) => at = down(taken & !((1 << LARGE) - 1))?,
            }
        }
        None
    }

    /// Whether a window at `address` would leave page tables where the machine has large frames.
    fn blocks(&self, window: BarWindow, address: u64) -> bool {
        let overlaps = |home: BarWindow| {
            address >> LARGE <= home.last_from(home.home) >> LARGE
                && home.home >> LARGE <= window.last_from(address) >> LARGE
        };
        window.in_frames(false) && self.all.iter().any(|other| other.window.in_frames(true) && overlaps(other.window))
    }

    /// Has windows without an address try again: the move of another one may have freed it.
    fn retry(&mut self) {
        for placed in self.all.iter_mut().filter(|placed| placed.at != placed.wanted) {
            (placed.at, placed.moved) = (placed.wanted, true);
        }
    }

    /// Puts every window where it begins; returns whether that moves any.
    pub fn home(&mut self) -> bool {
        for placed in &mut self.all {
            placed.wanted = Some(placed.window.home);
            self.moved |= placed.at != placed.wanted;
        }
        self.retry();
        self.moved
    }

    /// Whether there are moves to carry out.
    pub const fn any_moved(&self) -> bool {
        self.moved
    }

    /// The windows that were handed over and have moved: number, window, new address.
    pub fn moves(&self) -> impl Iterator<Item = (usize, BarWindow, Option<u64>)> {
        let moved = self.all.iter().enumerate().filter(|(_, placed)| placed.moved && placed.window.direct);
        moved.map(|(number, placed)| (number, placed.window, placed.at))
    }

    /// Notes that window `number` could not be mapped at its new address.
    pub fn lose(&mut self, number: usize) {
        if let Some(placed) = self.all.get_mut(number) {
            placed.at = None;
        }
    }

    /// Notes that the moves are carried out.
    pub fn done(&mut self) {
        for placed in &mut self.all {
            placed.moved = false;
        }
        self.moved = false;
    }

    /// The ranges whose accesses pci-server makes: of ports, or else of memory.
    pub fn forwarded(&self, ports: bool) -> impl Iterator<Item = Forwarded> {
        let of_kind = self.all.iter().filter(move |placed| (placed.window.space == BarSpace::Ports) == ports);
        of_kind.filter_map(|Placed { window, at, .. }| {
            let first = (*at)?;
            if !window.direct || window.space == BarSpace::Ports && first != window.base {
                return Some(Forwarded { first, last: window.last_from(first), to: window.base });
            }
            let (from, to) =
                window.kept.map(|(from, to)| (u64::from(from) * PAGE, u64::from(to) * PAGE + (PAGE - 1)))?;
            Some(Forwarded {
                first: first.saturating_add(from),
                last: first.saturating_add(to),
                to: window.base.saturating_add(from),
            })
        })
    }
}

impl BarWindow {
    /// Its last port or address on the machine, if there is such a one.
    pub const fn last(self) -> Option<u64> {
        self.base.checked_add(self.size - 1)
    }

    /// Whether this page was not handed over, though others were.
    pub fn keeps(self, page: u16) -> bool {
        self.kept.is_some_and(|(first, last)| (first..=last).contains(&page))
    }

    /// Whether a guest that knows 32-bit addresses only cannot reach it on the machine.
    pub const fn is_high(self) -> bool {
        self.base > u32::MAX as u64
    }

    /// The address in a register's value.
    pub const fn address(self, register: u64) -> u64 {
        match self.space {
            BarSpace::Ports => register & !0b11,
            BarSpace::Memory { .. } => register & !0xf,
        }
    }

    /// All address bits that can be set are set: software has written all ones to ask for the size.
    const fn asks_for_its_size(self, address: u64) -> bool {
        let all = match self.space {
            BarSpace::Ports | BarSpace::Memory { wide: false } => u32::MAX as u64,
            BarSpace::Memory { wide: true } => u64::MAX,
        };
        address | (self.size - 1) == all
    }

    /// The last address when the first is `first`.
    const fn last_from(self, first: u64) -> u64 {
        first.saturating_add(self.size - 1)
    }

    /// Whether it is mapped in the guest in frames of that size, `large` or small.
    const fn in_frames(self, large: bool) -> bool {
        self.direct && matches!(self.space, BarSpace::Memory { .. }) && (self.size >= 1 << LARGE) == large
    }

    fn fits(self, address: u64) -> bool {
        let Some(last) = address.checked_add(self.size - 1) else { return false };
        match self.space {
            BarSpace::Ports => last < PORTS_END,
            BarSpace::Memory { .. } => last < MEMORY_END && (last < APICS.0 || APICS.1 < address),
        }
    }
}
