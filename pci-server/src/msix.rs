//! A function's MSI-X (PCI Local Bus Specification 3.0, section 6.8.2), for functions that have no MSI: one vector, whose
//! entry in the function's table only this server writes. The owner sees a table of one entry, which is virtual, as the
//! capability's enable and mask bits are; it never has the pages of the table. Unlike MSI, messages are on only while the
//! owner has them on: until then the function has its pin, since drivers name vectors in device registers.

use layout::Bdf;
use proto::irq::MsiMessage;
use proto::pci::{BarKind, Function, Width};

use crate::capabilities::{MSI, MSI_X};
use crate::config_space::{ConfigSpace, half};
use crate::hardware::Devices;

/// Message control, in the upper half of the first register: enable; all vectors masked; one less than there are.
const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;
const LAST: u16 = 0x7ff;
/// Bytes of an entry: address, data, control. In the latter: masked.
const ENTRY: u64 = 16;
const CONTROL: u64 = 12;
const MASKED: u32 = 1;
/// The largest BAR with a table: pci-server maps all of it.
const LARGEST: u64 = 256 << 10;

/// Where a function's table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Offset of the capability in configuration space.
    pub at: u8,
    /// The base address register.
    pub bar: u8,
    /// Offset in the BAR's memory.
    pub offset: u64,
    /// How many entries it has.
    pub entries: u64,
}

impl Table {
    /// The table of a function that has MSI-X and no MSI, if it lies within a BAR that is not too large.
    pub fn find(space: &mut impl ConfigSpace, function: &Function) -> Option<Self> {
        let has = |id| function.capabilities.iter().find(|capability| capability.id == id);
        let at = has(MSI_X).filter(|_| has(MSI).is_none())?.at;
        // Three registers, within configuration space.
        let second = at.checked_add(8)? - 4;
        let entries = u64::from(half(space.read(function.address, at), 2) & LAST) + 1;
        let place = space.read(function.address, second);
        let (bar, offset) = ((place & 0b111) as u8, u64::from(place & !0b111));
        let memory = function.bars.get(usize::from(bar)).copied().flatten().filter(|bar| bar.kind != BarKind::Io)?;
        let fits = memory.size <= LARGEST && offset + entries * ENTRY <= memory.size;
        fits.then_some(Self { at, bar, offset, entries })
    }

    /// First and last byte, as offsets in the BAR.
    pub fn bytes(&self) -> (u64, u64) {
        (self.offset, self.offset + self.entries * ENTRY - 1)
    }
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Msix {
    /// Where it is.
    pub table: Table,
    /// The table in the window.
    mapped: u64,
    host: MsiMessage,
    /// The owner cannot keep up with the messages.
    held: bool,
    /// Virtual registers: message control, and the entry.
    control: u16,
    entry: [u32; 4],
}

impl Msix {
    /// The function's MSI-X; its table is mapped at `mapped` in the window, and it is to send `host`.
    pub fn new(table: Table, mapped: u64, host: MsiMessage) -> Self {
        Self { table, mapped, host, held: false, control: 0, entry: [0, 0, 0, MASKED] }
    }

    /// Resets the virtual registers, and writes the host's message into the table, of which all other entries are masked.
    pub fn reset(&mut self, machine: &mut (impl ConfigSpace + Devices), at: Bdf) {
        (self.control, self.entry) = (0, [0, 0, 0, MASKED]);
        self.write_control(machine, at);
        for n in 0..self.table.entries {
            machine.store(self.mapped + n * ENTRY + CONTROL, Width::Dword, MASKED);
        }
        self.write_message(machine);
    }

    /// Writes the host's message into the entry.
    fn write_message(&self, machine: &mut impl Devices) {
        for (offset, value) in [(0, self.host.address), (4, 0), (8, self.host.data.into())] {
            machine.store(self.mapped + offset, Width::Dword, value);
        }
    }

    /// For the owner's next start: no message is masked from the next [`reset`](Self::reset) on.
    pub fn renew(&mut self) {
        self.held = false;
    }

    /// Has the function send messages, or not, as the owner wants it.
    fn write_control(&self, space: &mut impl ConfigSpace, at: Bdf) {
        space.write_part(at, self.table.at + 2, Width::Word, self.real().into());
    }

    fn real(&self) -> u16 {
        self.control | if self.held { MASK_ALL } else { 0 }
    }

    /// Restores the real message control if it has changed; returns whether it had.
    pub fn put_back(&self, space: &mut impl ConfigSpace, at: Bdf) -> bool {
        let changed = half(space.read(at, self.table.at), 2) & (ENABLE | MASK_ALL) != self.real();
        if changed {
            self.write_control(space, at);
        }
        changed
    }

    /// Masks or unmasks all messages.
    pub fn hold(&mut self, space: &mut impl ConfigSpace, at: Bdf, held: bool) {
        self.held = held;
        self.write_control(space, at);
    }

    /// The upper half of the capability's first register, as the owner sees it: one vector.
    pub fn control(&self) -> u16 {
        self.control
    }

    /// Takes the owner's write of the bytes in `lanes` of the capability's first register.
    pub fn write(&mut self, space: &mut impl ConfigSpace, at: Bdf, lanes: u32, value: u32) {
        let lanes = half(lanes, 2) & (ENABLE | MASK_ALL);
        self.control = self.control & !lanes | half(value, 2) & lanes;
        self.write_control(space, at);
    }

    /// Reads the virtual table.
    pub fn read_table(&self, offset: u64, width: Width) -> u32 {
        let word = match (offset / ENTRY, offset % ENTRY / 4) {
            (0, n) => self.entry.get(n as usize).copied().unwrap_or(0),
            (_, 3) => MASKED,
            _ => 0,
        };
        word >> (8 * (offset % 4)) & width.mask()
    }

    /// Writes the virtual table. Only double words count, as the specification wants it, and only the mask bit reaches the
    /// real one.
    pub fn write_table(&mut self, machine: &mut impl Devices, offset: u64, width: Width, value: u32) {
        let Some(word) = self.entry.get_mut((offset / 4) as usize).filter(|_| width == Width::Dword && offset < ENTRY)
        else {
            return;
        };
        *word = match offset {
            0 => value & !0b11,
            CONTROL => value & MASKED,
            _ => value,
        };
        if offset == CONTROL {
            // A reset of the device by its own registers may have cleared the table.
            if value & MASKED == 0 {
                self.write_message(machine);
            }
            machine.store(self.mapped + CONTROL, Width::Dword, value & MASKED);
        }
    }
}
