//! Where a guest has the registers of its functions (PCI Local Bus Specification 3.0, section 6.2.5.1). Software may move
//! what a base address register stands for, and Linux does when it is told to look for a device again. The device itself
//! stays where the machine has it: the guest's address space follows. Memory that was handed over is mapped elsewhere in
//! the EPT; ports cannot be, so they are taken back, and pci-server makes the accesses until they are at home again.
//!
//! A register is followed when its function decodes addresses of its kind, and not while it holds the ones with which its
//! size is asked for. A place that cannot be had (over RAM, say) is nowhere: the guest finds nothing there. What has found
//! no place because another window was there tries again whenever something has moved.
//!
//! Where small frames have been, the EPT keeps a page table, and the kernel maps no large frame over one. So that a large
//! one can always go home, small ones are nowhere there.

use heapless::Vec;
use layout::limits::MAX_PCI_FUNCTIONS;

/// Most windows: six registers a function.
pub const MAX_WINDOWS: usize = 6 * MAX_PCI_FUNCTIONS;
/// Guest-physical addresses from here on have no paging structures: the EPT has one page directory pointer table.
const MEMORY_END: u64 = 1 << 39;
const PORTS_END: u64 = 1 << 16;
/// log2 of the size of a large frame: pci-server hands memory of at least that size over in such ones.
const LARGE: u32 = 21;
/// Where a PC has its I/O APIC and its processors' local ones (Intel SDM volume 3, section 11.4.1): they come first there.
const APICS: (u64, u64) = (0xfec0_0000, 0xfeef_ffff);

/// What a register stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
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
pub struct Window {
    /// The function, by its number at pci-server.
    pub function: u8,
    /// The register, 0 to 5.
    pub bar: u8,
    /// Of what kind.
    pub space: Space,
    /// First port or physical address, on the machine.
    pub base: u64,
    /// Ports or bytes, at least one.
    pub size: u64,
    /// Handed over; else pci-server makes the accesses.
    pub direct: bool,
    /// The register shows the address, so the guest may change it: not so for a disk controller in compatibility mode.
    pub movable: bool,
}

/// A window and where it is in the guest.
#[derive(Clone, Copy, Debug)]
struct Placed {
    window: Window,
    /// Where its register says, unless no window like it can be there.
    wanted: Option<u64>,
    /// The same, or nowhere.
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

/// There are too many.
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

    pub fn add(&mut self, window: Window) -> Result<(), Full> {
        let home = Some(window.base);
        self.all.push(Placed { window, wanted: home, at: home, moved: false }).map_err(|_| Full)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// The window of this number, if the guest may move it and it is of this function.
    pub fn movable(&self, number: usize, function: u8) -> Option<Window> {
        let window = self.all.get(number)?.window;
        (window.function == function && window.movable).then_some(window)
    }

    /// Takes note of the address that a window's register shows. Whether that moves it.
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

    /// Whether a window would leave page tables where large frames are at home.
    fn blocks(&self, window: Window, address: u64) -> bool {
        let overlaps = |home: Window| {
            address >> LARGE <= home.last_from(home.base) >> LARGE
                && home.base >> LARGE <= window.last_from(address) >> LARGE
        };
        window.in_frames(false) && self.all.iter().any(|other| other.window.in_frames(true) && overlaps(other.window))
    }

    /// What has found no place may find it free now.
    fn retry(&mut self) {
        for placed in self.all.iter_mut().filter(|placed| placed.at != placed.wanted) {
            (placed.at, placed.moved) = (placed.wanted, true);
        }
    }

    /// Everything is where the machine has it. Whether that moves anything.
    pub fn home(&mut self) -> bool {
        for placed in &mut self.all {
            placed.wanted = Some(placed.window.base);
            self.moved |= placed.at != placed.wanted;
        }
        self.retry();
        self.moved
    }

    /// Whether there are moves to carry out.
    pub const fn any_moved(&self) -> bool {
        self.moved
    }

    /// What was handed over and has moved, and where to, with its number.
    pub fn moves(&self) -> impl Iterator<Item = (usize, Window, Option<u64>)> {
        let moved = self.all.iter().enumerate().filter(|(_, placed)| placed.moved && placed.window.direct);
        moved.map(|(number, placed)| (number, placed.window, placed.at))
    }

    /// A window could not be had at its new place.
    pub fn lose(&mut self, number: usize) {
        if let Some(placed) = self.all.get_mut(number) {
            placed.at = None;
        }
    }

    /// The moves are carried out.
    pub fn done(&mut self) {
        for placed in &mut self.all {
            placed.moved = false;
        }
        self.moved = false;
    }

    /// Where pci-server makes the accesses: to ports, or else to memory.
    pub fn forwarded(&self, ports: bool) -> impl Iterator<Item = Forwarded> {
        let of_kind = self.all.iter().filter(move |placed| (placed.window.space == Space::Ports) == ports);
        of_kind.filter_map(|Placed { window, at, .. }| {
            let first = (*at)?;
            let mediated = !window.direct || window.space == Space::Ports && first != window.base;
            mediated.then_some(Forwarded { first, last: window.last_from(first), to: window.base })
        })
    }
}

impl Window {
    /// Its last port or address on the machine, if there is such a one.
    pub const fn last(self) -> Option<u64> {
        self.base.checked_add(self.size - 1)
    }

    /// The address in a register's value.
    pub const fn address(self, register: u64) -> u64 {
        match self.space {
            Space::Ports => register & !0b11,
            Space::Memory { .. } => register & !0xf,
        }
    }

    /// All bits of the address that can be set are.
    const fn asks_for_its_size(self, address: u64) -> bool {
        let all = match self.space {
            Space::Ports | Space::Memory { wide: false } => u32::MAX as u64,
            Space::Memory { wide: true } => u64::MAX,
        };
        address | (self.size - 1) == all
    }

    /// The last address when the first is `first`.
    const fn last_from(self, first: u64) -> u64 {
        first.saturating_add(self.size - 1)
    }

    /// It is mapped in the guest in large frames, or in small ones.
    const fn in_frames(self, large: bool) -> bool {
        self.direct && matches!(self.space, Space::Memory { .. }) && (self.size >= 1 << LARGE) == large
    }

    fn fits(self, address: u64) -> bool {
        let Some(last) = address.checked_add(self.size - 1) else { return false };
        match self.space {
            Space::Ports => last < PORTS_END,
            Space::Memory { .. } => last < MEMORY_END && (last < APICS.0 || APICS.1 < address),
        }
    }
}
