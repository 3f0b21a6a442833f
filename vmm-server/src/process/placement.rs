//! The ports and memory that were handed over, and where the guest has them: open in its VCPU, mapped in its EPT.

use core::{iter::Map, ops::Range};

use heapless::Vec;
use layout::{Slot, config::Vmm, scratch_cptr, slot};
use vmm_server::{
    passthrough::{
        Passthrough,
        windows::{BarSpace, BarWindow, MAX_WINDOWS},
    },
    vm::VCPUS,
};
use vtx::{enter::VcpuObject, ept::Ept};

/// Log lines, at most, for windows that a guest moves to an impossible address: it can do so any number of times.
const LINES: u32 = 16;

/// Addresses of the spare paging structures, slot by slot.
type Structures = Map<Range<u16>, fn(u16) -> u64>;

/// The capabilities that were handed over for one base address register.
struct Held {
    function: u8,
    bar: u8,
    /// Slot of the scratch CNode: of the ports, or of the first frame.
    slot: u16,
    /// log2 of the size of the frames, and how many.
    bits: u8,
    count: u16,
}

/// See the head of this file.
pub struct Placement {
    vcpus: [VcpuObject; VCPUS],
    ept: Ept<Structures>,
    held: Vec<Held, MAX_WINDOWS>,
    lost: u32,
}

impl Placement {
    /// Of a guest that has nothing yet.
    pub fn new(config: &Vmm, vcpus: [VcpuObject; VCPUS]) -> Self {
        let structure: fn(u16) -> u64 = |n| Slot(n).cptr();
        let directories = slot::PAGING.0;
        let tables = directories + u16::from(config.directories);
        let end = tables + u16::from(config.tables);
        let ept = Ept::new(slot::EPT.cptr(), (directories..tables).map(structure), (tables..end).map(structure));
        Self { vcpus, ept, held: Vec::new(), lost: 0 }
    }

    /// Lets the guest use ports without an exit, by the capability in `slot`.
    pub fn open(&self, slot: u16, first: u16, last: u16) -> Result<(), &'static str> {
        let opened = self.vcpus.iter().try_for_each(|vcpu| vcpu.allow_ports(scratch_cptr(slot), first, last));
        opened.map_err(|_| "the kernel refuses the ports")
    }

    /// Puts a window where it begins. Its capabilities are in the slots from `slot` on: that of the ports, or
    /// `count` frames of 2^`bits` bytes.
    pub fn hold(&mut self, window: BarWindow, slot: u16, bits: u8, count: u16) -> Result<(), &'static str> {
        let held = Held { function: window.function, bar: window.bar, slot, bits, count };
        self.held.push(held).map_err(|_| "there are too many ranges")?;
        self.put(window, window.home)
    }

    /// Unmaps the windows that the guest has moved, and maps them at their new addresses.
    #[cold]
    #[inline(never)]
    pub fn follow(&mut self, board: &mut Passthrough) {
        let moves = board.moves();
        // All windows go before the first comes back: one may take the place of another.
        for &(_, window, _) in &moves {
            self.take_away(window);
        }
        for (number, window, at) in moves {
            let Some(at) = at else { continue };
            if let Err(why) = self.put(window, at) {
                self.take_away(window);
                board.lose(number);
                self.lost = self.lost.saturating_add(1);
                if self.lost <= LINES {
                    let BarWindow { function, bar, .. } = window;
                    log::warn!("register {bar} of function {function} cannot be at {at:#x}: {why}");
                }
            }
        }
        board.moved();
    }

    fn put(&mut self, window: BarWindow, at: u64) -> Result<(), &'static str> {
        let Some(&Held { slot, bits, count, .. }) = self.held(window) else { return Err("it was not handed over") };
        if window.space == BarSpace::Ports {
            let (Some((first, last)), true) = (ports(window), at == window.base) else { return Ok(()) };
            return self.open(slot, first, last);
        }
        for page in (0..count).filter(|page| !window.keeps(*page)) {
            let gpa = at.saturating_add(u64::from(page) << (bits & 63));
            self.ept.map(scratch_cptr(slot + page), bits, gpa).map_err(|error| {
                log::debug!("{gpa:#x}: {error:?}");
                "it cannot be mapped there"
            })?;
        }
        Ok(())
    }

    fn take_away(&mut self, window: BarWindow) {
        let Some(&Held { slot, bits, count, .. }) = self.held(window) else { return };
        let taken = match ports(window) {
            Some((first, last)) => self.vcpus.iter().all(|vcpu| vcpu.deny_ports(first, last).is_ok()),
            None => {
                let mut pages = (0..count).filter(|page| !window.keeps(*page));
                pages.all(|page| self.ept.unmap(scratch_cptr(slot + page), bits).is_ok())
            }
        };
        if !taken {
            log::error!("register {} of function {} cannot be taken away", window.bar, window.function);
        }
    }

    fn held(&self, window: BarWindow) -> Option<&Held> {
        self.held.iter().find(|held| (held.function, held.bar) == (window.function, window.bar))
    }
}

/// First and last port of a window of ports.
pub fn ports(window: BarWindow) -> Option<(u16, u16)> {
    let ports = (u16::try_from(window.base).ok()?, u16::try_from(window.last()?).ok()?);
    (window.space == BarSpace::Ports).then_some(ports)
}
