//! The I/O APIC: 24 inputs, each with an entry of the redirection table that says which interrupt message it sends.
//!
//! Intel 82093AA data sheet (290566). The board wires the 8259 pair's lines to its inputs as well, so the model samples
//! them there. Left out: delivery modes but fixed and lowest priority, destinations (there is one processor), and the
//! polarity, since a line's level says whether its device asks.

#[cfg(test)]
mod tests;

use crate::{
    Width,
    lapic::{Lapic, Vectors},
};

/// Guest-physical address of the registers.
pub const BASE: u64 = 0xfec0_0000;
/// Bytes of the registers' page.
pub const SIZE: u64 = 0x1000;
/// Inputs.
pub const INPUTS: usize = 24;

/// Its APIC ID at the start, which the MADT has as well.
pub const ID: u8 = 1;

/// Input to which the board wires the timer's line. Input 0 would be for the 8259 pair, and is not connected.
pub const TIMER: u8 = 2;

/// Offsets in memory: which register the window shows, and the window.
const SELECT: u16 = 0x00;
const WINDOW: u16 = 0x10;
/// Registers: ID, version, arbitration ID, and two for each entry.
const REGISTER_ID: u8 = 0;
const REGISTER_VERSION: u8 = 1;
const REGISTER_ARBITRATION: u8 = 2;
const TABLE: u8 = 0x10;
/// Version 0x11, and the number of the last entry.
const VERSION: u32 = (INPUTS as u32 - 1) << 16 | 0x11;

/// Bits of an entry.
const DELIVERY: u64 = 7 << 8;
const PENDING: u64 = 1 << 12;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// Vector, delivery and destination mode, polarity, trigger mode, mask; destination.
const WRITABLE: u64 = 0xff << 56 | 0x1_afff;

/// The I/O APIC.
#[derive(Clone, Debug)]
pub struct IoApic {
    select: u8,
    id: u8,
    table: [u64; INPUTS],
    /// Levels of the inputs, by the last sample.
    levels: u32,
    /// Edges that are not sent yet.
    edges: u32,
    /// Inputs whose entry is not masked.
    open: u32,
    /// Inputs whose entry is one of a level.
    level: u32,
    /// Inputs with a message to send.
    ready: u32,
    /// Inputs whose service has ended since [`IoApic::take_ended`]: for an edge, when it was sent.
    ended: u32,
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl IoApic {
    /// After a reset: everything masked.
    pub const fn new() -> Self {
        Self { select: 0, id: ID, table: [MASKED; INPUTS], levels: 0, edges: 0, open: 0, level: 0, ready: 0, ended: 0 }
    }

    /// Whether its registers are at `gpa`.
    #[inline(always)]
    pub const fn has(gpa: u64) -> bool {
        gpa / SIZE == BASE / SIZE
    }

    /// Reads at `offset` of its page. Both registers are 32 bits wide; the bytes beside them read zero.
    pub fn read(&self, offset: u16, width: Width) -> u32 {
        let within = usize::from(offset % 16);
        if within + width.bytes() > 4 {
            return 0;
        }
        let value = match offset - offset % 16 {
            SELECT => self.select.into(),
            WINDOW => self.register(self.select),
            _ => 0,
        };
        value >> (8 * within) & width.mask32()
    }

    /// Writes at `offset` of its page. Writes of another width than 32 bits are ignored.
    pub fn write(&mut self, offset: u16, width: Width, value: u32) {
        if width != Width::Dword {
            return;
        }
        match offset {
            SELECT => self.select = value as u8,
            WINDOW => self.set_register(self.select, value),
            _ => {}
        }
    }

    /// Whether the entry of an input is masked.
    pub const fn masked(&self, input: u8) -> bool {
        self.open >> (input % 32) & 1 == 0
    }

    /// Whether an entry is not masked.
    #[inline(always)]
    pub const fn is_used(&self) -> bool {
        self.open != 0
    }

    /// Samples the inputs: their levels, and which have risen since the last sample. An edge at a masked entry is lost.
    pub fn sample(&mut self, levels: u32, risen: u32) {
        self.levels = levels;
        self.edges |= risen & self.open & !self.level;
        self.look();
    }

    /// Whether there is a message to send.
    #[inline(always)]
    pub const fn is_ready(&self) -> bool {
        self.ready != 0
    }

    /// Sends the messages that are due. An edge waits while the one before it is still requested, so that none is lost.
    pub fn send(&mut self, lapic: &mut Lapic) {
        if !lapic.accepts() {
            return;
        }
        for input in (0..INPUTS).filter(|input| self.ready & 1 << input != 0) {
            let Some(entry) = self.table.get_mut(input) else { continue };
            let vector = *entry as u8;
            if *entry & LEVEL != 0 {
                *entry |= REMOTE_IRR;
                lapic.receive_level(vector);
            } else if !lapic.is_requested(vector) {
                self.edges &= !(1 << input);
                // No end of interrupt comes back for an edge.
                self.ended |= 1 << input;
                lapic.receive(vector);
            }
        }
        self.look();
    }

    /// The processor has ended the service of these level-triggered vectors.
    pub fn end(&mut self, vectors: &Vectors) {
        for (input, entry) in (0..).zip(&mut self.table) {
            if *entry & REMOTE_IRR != 0 && vectors.contains(*entry as u8) {
                *entry &= !REMOTE_IRR;
                self.ended |= 1 << input;
            }
        }
        self.look();
    }

    /// The inputs, one bit each, whose service has ended since the last call.
    pub const fn take_ended(&mut self) -> u32 {
        core::mem::replace(&mut self.ended, 0)
    }

    /// Whether an edge of an input waits to be sent.
    pub const fn is_waiting(&self, input: u8) -> bool {
        self.edges >> (input % 32) & 1 != 0
    }

    fn register(&self, number: u8) -> u32 {
        match number {
            REGISTER_ID | REGISTER_ARBITRATION => u32::from(self.id) << 24,
            REGISTER_VERSION => VERSION,
            TABLE.. => {
                let input = (number - TABLE) / 2;
                let waits = if self.is_waiting(input) { PENDING } else { 0 };
                let entry = self.table.get(usize::from(input)).map_or(0, |entry| entry | waits);
                (entry >> (32 * (number % 2))) as u32
            }
            _ => 0,
        }
    }

    fn set_register(&mut self, number: u8, value: u32) {
        if number == REGISTER_ID {
            self.id = (value >> 24) as u8 & 0xf;
            return;
        }
        let Some(input) = number.checked_sub(TABLE).map(|at| usize::from(at) / 2) else { return };
        let Some(entry) = self.table.get_mut(input) else { return };
        let shift = 32 * (number % 2);
        let writable = WRITABLE & 0xffff_ffff << shift;
        *entry = *entry & !writable | u64::from(value) << shift & writable;
        // Only a level waits for its end. Software that ends one here switches the entry to edge, and back.
        if *entry & LEVEL == 0 {
            *entry &= !REMOTE_IRR;
        } else {
            self.edges &= !(1 << input);
        }
        let open = *entry & MASKED == 0;
        let level = *entry & LEVEL != 0;
        self.open = self.open & !(1 << input) | u32::from(open) << input;
        self.level = self.level & !(1 << input) | u32::from(level) << input;
        self.look();
    }

    /// Finds the inputs with a message to send.
    fn look(&mut self) {
        let mut ready = 0;
        for (input, entry) in (0..).zip(&self.table) {
            let asks = if entry & LEVEL == 0 { self.edges } else { self.levels };
            let sends = entry & (MASKED | REMOTE_IRR) == 0 && entry & DELIVERY <= 1 << 8;
            ready |= asks & u32::from(sends) << input;
        }
        self.ready = ready;
    }
}
