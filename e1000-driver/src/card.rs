//! The controller: registers, and two rings of descriptors in memory that it reads and writes.
//!
//! "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual" (82540EM) and "Intel 82574 GbE Controller
//! Family Datasheet"; with legacy descriptors both are alike. Left out: checksums, segments and tags by the controller,
//! message signalled interrupts, several queues, flow control, choosing a speed.
//!
//! What the controller writes is not trusted. The driver keeps places in the rings and addresses by itself; of a descriptor
//! it reads one bit that says it is done, and a length, which it checks.

use mmio::Window;
use proto::net::{Mac, SHORTEST};

/// Registers, by their offsets.
mod register {
    pub const CTRL: u32 = 0x0000;
    pub const STATUS: u32 = 0x0008;
    pub const EERD: u32 = 0x0014;
    pub const ICR: u32 = 0x00c0;
    pub const ITR: u32 = 0x00c4;
    pub const IMS: u32 = 0x00d0;
    pub const IMC: u32 = 0x00d8;
    pub const RCTL: u32 = 0x0100;
    pub const TCTL: u32 = 0x0400;
    pub const TIPG: u32 = 0x0410;
    /// Of a ring: address (low, high), bytes, head, tail.
    pub const RDBAL: u32 = 0x2800;
    pub const TDBAL: u32 = 0x3800;
    pub const TXDCTL: u32 = 0x3828;
    /// The first receive address.
    pub const RAL: u32 = 0x5400;
    pub const RAH: u32 = 0x5404;
}
use register::{CTRL, EERD, ICR, IMC, IMS, ITR, RAH, RAL, RCTL, RDBAL, STATUS, TCTL, TDBAL, TIPG, TXDCTL};

/// From a ring's first register.
const HIGH: u32 = 0x04;
const BYTES: u32 = 0x08;
const HEAD: u32 = 0x10;
const TAIL: u32 = 0x18;

// CTRL: link reset, choose the speed by what the PHY finds, link up, inverted loss of signal, forced speed and duplex, reset,
// tags, reset of the PHY.
const LRST: u32 = 1 << 3;
const ASDE: u32 = 1 << 5;
const SLU: u32 = 1 << 6;
const ILOS: u32 = 1 << 7;
const FORCED: u32 = 1 << 11 | 1 << 12;
const RST: u32 = 1 << 26;
const VME: u32 = 1 << 30;
const PHY_RST: u32 = 1 << 31;
// STATUS: full duplex, link up, and the speed in two bits.
const FULL_DUPLEX: u32 = 1 << 0;
const LINK_UP: u32 = 1 << 1;
const SPEED: u32 = 6;
// RCTL: enable, everything for one, everything for groups, broadcasts, no FCS. Buffers of 2048 bytes are 0.
const RECEIVE: u32 = 1 << 1;
const PROMISCUOUS: u32 = 1 << 3 | 1 << 4;
const BROADCASTS: u32 = 1 << 15;
const STRIP_FCS: u32 = 1 << 26;
// TCTL: enable, pad short frames, collision threshold, collision distance for full duplex.
const TRANSMIT: u32 = 1 << 1;
const PAD: u32 = 1 << 3;
const COLLISIONS: u32 = 0xff << 4 | 0x3ff << 12;
const FULL: u32 = 0xf << 4 | 0x40 << 12;
/// TIPG for copper: 10, 8 and 6.
const GAPS: u32 = 10 | 8 << 10 | 6 << 20;
/// TXDCTL of the 82574: a bit that is to be one.
const COUNT_DESCRIPTORS: u32 = 1 << 22;
// Causes of interrupts: a descriptor was sent, the link has changed, few descriptors for frames, none, a frame.
const TXDW: u32 = 1 << 0;
const LSC: u32 = 1 << 2;
const RXDMT0: u32 = 1 << 4;
const RXO: u32 = 1 << 6;
const RXT0: u32 = 1 << 7;
/// The least time between two interrupts, in units of 256 ns: 8,000 a second.
const INTERVAL: u32 = 488;
/// RAH: the address is valid.
const VALID: u32 = 1 << 31;
// EERD of the 82540EM: start, done.
const START: u32 = 1 << 0;
const DONE: u32 = 1 << 4;

/// Bytes of a descriptor: the buffer's address; its length; from the 12th byte on what became of it.
const DESCRIPTOR: u64 = 16;
const LENGTH: u64 = 8;
const OUTCOME: u64 = 12;
/// A frame's: done, the last descriptor of a frame, and eight bits of errors.
const RX_DONE: u16 = 1 << 0;
const RX_LAST: u16 = 1 << 1;
const RX_ERRORS: u16 = 0xff << 8;
/// To be sent: the last descriptor of a frame, insert FCS, report. Sent: done.
const TX_COMMAND: u64 = (1 << 0 | 1 << 1 | 1 << 3) << 24;
const TX_DONE: u16 = 1 << 0;

/// Bytes of a buffer.
const BUFFER: u64 = 2048;
/// Descriptors of a ring at most. They are a multiple of 8.
const MOST: u32 = 256;
const MULTIPLE: u64 = 8;
/// Looks at a register that is to change soon. Each takes a microsecond at least; the controller reads its EEPROM in some
/// milliseconds.
const LOOKS: u32 = 5_000;

/// The controller's registers.
pub trait Registers {
    /// Reads one.
    fn read(&mut self, at: u32) -> u32;
    /// Writes one.
    fn write(&mut self, at: u32, value: u32);
}

/// Controllers that the driver knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// 8086:100e.
    I82540em,
    /// 8086:10d3.
    I82574,
}

impl Model {
    /// The model with these IDs.
    pub const fn of(vendor: u16, device: u16) -> Option<Self> {
        match (vendor, device) {
            (0x8086, 0x100e) => Some(Self::I82540em),
            (0x8086, 0x10d3) => Some(Self::I82574),
            _ => None,
        }
    }
}

/// The state of the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// There is no partner.
    Down,
    /// There is one.
    Up {
        /// Mb/s.
        speed: u16,
        /// Both may send at the same time.
        full_duplex: bool,
    },
}

impl core::fmt::Display for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Down => write!(f, "down"),
            Self::Up { speed, full_duplex } => {
                write!(f, "up, {speed} Mb/s, {} duplex", if *full_duplex { "full" } else { "half" })
            }
        }
    }
}

/// What keeps the controller from being used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The memory has no room for eight frames each way.
    Memory,
    /// The registers do not answer.
    Silent,
}

/// A frame that has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// It was taken.
    Frame,
    /// Damaged, or a part of a longer one.
    Bad,
}

/// The controller.
#[derive(Debug)]
pub struct Card<R> {
    registers: R,
    memory: Window,
    /// The memory's address on the bus.
    bus: u64,
    /// Descriptors of each ring.
    slots: u32,
    /// The descriptor of the next frame to come, and the last one that the controller has.
    next: u32,
    told: u32,
    /// The last one was not of the last part of its frame.
    in_part: bool,
    untold: bool,
    /// The descriptor of the next frame to be sent, and how many before it are with the controller.
    free: u32,
    sending: u32,
    unsent: bool,
    /// An interrupt says when a frame was sent.
    waits: bool,
}

impl<R: Registers> Card<R> {
    /// Resets the controller and starts it. `memory` is what it may access, `bus` its address for the controller.
    pub fn start(registers: R, model: Model, memory: Window, bus: u64) -> Result<Self, Fault> {
        let fitting = memory.len() / (2 * (DESCRIPTOR + BUFFER)) / MULTIPLE * MULTIPLE;
        let slots = fitting.min(MOST.into()) as u32;
        if slots == 0 {
            return Err(Fault::Memory);
        }
        let mut card = Self {
            registers,
            memory,
            bus,
            slots,
            next: 0,
            told: slots - 1,
            in_part: false,
            untold: false,
            free: 0,
            sending: 0,
            unsent: false,
            waits: false,
        };
        card.reset()?;
        memory.fill(0, 2 * u64::from(slots) * DESCRIPTOR, 0).map_err(|_| Fault::Memory)?;
        for slot in 0..slots {
            card.offer(slot);
        }
        card.configure(model);
        Ok(card)
    }

    /// Stops the rings and resets everything. Not every reset does the former.
    fn reset(&mut self) -> Result<(), Fault> {
        let r = &mut self.registers;
        for register in [RCTL, TCTL] {
            r.write(register, 0);
        }
        r.write(IMC, u32::MAX);
        let control = r.read(CTRL);
        r.write(CTRL, control | RST);
        if !(0..LOOKS).any(|_| r.read(CTRL) & RST == 0) {
            return Err(Fault::Silent);
        }
        // The address is there when the EEPROM was read. An emulated controller may never say so.
        let _ = (0..LOOKS).any(|_| r.read(RAH) & VALID != 0);
        r.write(IMC, u32::MAX);
        r.read(ICR);
        Ok(())
    }

    fn configure(&mut self, model: Model) {
        let (bus, bytes) = (self.bus, self.slots * DESCRIPTOR as u32);
        let r = &mut self.registers;
        let control = r.read(CTRL) & !(LRST | ILOS | FORCED | VME | PHY_RST);
        r.write(CTRL, control | SLU | ASDE);
        r.write(ITR, INTERVAL);
        for (ring, at) in [(RDBAL, bus), (TDBAL, bus + u64::from(bytes))] {
            r.write(ring, at as u32);
            r.write(ring + HIGH, (at >> 32) as u32);
            r.write(ring + BYTES, bytes);
            r.write(ring + HEAD, 0);
            r.write(ring + TAIL, 0);
        }
        r.write(TIPG, GAPS);
        if model == Model::I82574 {
            let control = r.read(TXDCTL);
            r.write(TXDCTL, control | COUNT_DESCRIPTORS);
        }
        let control = r.read(TCTL) & !COLLISIONS;
        r.write(TCTL, control | TRANSMIT | PAD | FULL);
        // The guests' addresses are not the controller's own.
        r.write(RCTL, RECEIVE | PROMISCUOUS | BROADCASTS | STRIP_FCS);
        r.write(RDBAL + TAIL, self.told);
        r.write(IMS, LSC | RXDMT0 | RXO | RXT0);
    }

    /// The controller's own address, which no frame of a guest has.
    pub fn mac(&mut self) -> Option<Mac> {
        let (low, high) = (self.registers.read(RAL), self.registers.read(RAH));
        if high & VALID != 0 {
            let ([a, b, c, d], [e, f, ..]) = (low.to_le_bytes(), high.to_le_bytes());
            return Some(Mac([a, b, c, d, e, f]));
        }
        let mut word = |n: u32| {
            self.registers.write(EERD, n << 8 | START);
            let read = (0..LOOKS).map(|_| self.registers.read(EERD)).find(|value| value & DONE != 0);
            read.map(|value| ((value >> 16) as u16).to_le_bytes())
        };
        let ([a, b], [c, d], [e, f]) = (word(0)?, word(1)?, word(2)?);
        Some(Mac([a, b, c, d, e, f]))
    }

    /// The state of the link.
    pub fn link(&mut self) -> Link {
        let status = self.registers.read(STATUS);
        if status & LINK_UP == 0 {
            return Link::Down;
        }
        let speed = match status >> SPEED & 3 {
            0 => 10,
            1 => 100,
            _ => 1000,
        };
        Link::Up { speed, full_duplex: status & FULL_DUPLEX != 0 }
    }

    /// Takes the causes of an interrupt away. Returns whether the link has changed.
    pub fn take_interrupt(&mut self) -> bool {
        self.registers.read(ICR) & LSC != 0
    }

    /// Takes the next frame that has come, if there is one: `with` gets the memory, and where in it the frame is.
    pub(crate) fn take(&mut self, with: impl FnOnce(&Window, u64, u32)) -> Option<Arrival> {
        let descriptor = u64::from(self.next) * DESCRIPTOR;
        let outcome = self.memory.read_u16(descriptor + OUTCOME).unwrap_or_default();
        if outcome & RX_DONE == 0 {
            return None;
        }
        let len = self.memory.read_u16(descriptor + LENGTH).unwrap_or_default().into();
        let begins = !core::mem::replace(&mut self.in_part, outcome & RX_LAST == 0);
        let whole = begins && outcome & (RX_LAST | RX_ERRORS) == RX_LAST && (SHORTEST..=BUFFER as u32).contains(&len);
        if whole {
            with(&self.memory, self.buffers() + u64::from(self.next) * BUFFER, len);
        }
        self.offer(self.next);
        self.told = self.next;
        self.next = self.after(self.next);
        self.untold = true;
        Some(if whole { Arrival::Frame } else { Arrival::Bad })
    }

    /// Whether there is room for a frame to be sent. If there is none, an interrupt says when there is.
    pub(crate) fn has_room(&mut self) -> bool {
        // The controller's writes are looked at where they are needed only.
        let most = self.slots - 1;
        if self.sending == most {
            self.reap();
        }
        let room = self.sending < most;
        if room == self.waits {
            self.waits = !room;
            self.registers.write(if room { IMC } else { IMS }, TXDW);
            if !room {
                self.reap();
                return self.sending < most;
            }
        }
        room
    }

    /// Sends a frame, for which there is room.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        let slot = u64::from(self.free);
        let buffer = self.buffers() + (u64::from(self.slots) + slot) * BUFFER;
        let descriptor = (u64::from(self.slots) + slot) * DESCRIPTOR;
        // Cannot fail: both are in the memory, and a frame fits a buffer.
        let written = self.memory.write(buffer, frame);
        let described = self
            .memory
            .write_u64(descriptor, self.bus + buffer)
            .and_then(|()| self.memory.write_u64(descriptor + LENGTH, frame.len() as u64 | TX_COMMAND));
        debug_assert!(written.is_ok() && described.is_ok());
        self.free = self.after(self.free);
        self.sending += 1;
        self.unsent = true;
    }

    /// Tells the controller of the frames to be sent, and of buffers for frames to come.
    pub(crate) fn tell(&mut self) {
        // An x86 processor carries out its stores in order, and these are behind those to the descriptors.
        if core::mem::take(&mut self.unsent) {
            self.registers.write(TDBAL + TAIL, self.free);
        }
        if core::mem::take(&mut self.untold) {
            self.registers.write(RDBAL + TAIL, self.told);
        }
    }

    /// Takes descriptors back whose frames were sent.
    fn reap(&mut self) {
        while self.sending > 0 {
            let oldest = (self.free + self.slots - self.sending) % self.slots;
            let outcome = self.memory.read_u16(u64::from(self.slots + oldest) * DESCRIPTOR + OUTCOME);
            if outcome.unwrap_or_default() & TX_DONE == 0 {
                break;
            }
            self.sending -= 1;
        }
    }

    /// Gives the controller a buffer for a frame to come. Its address is written anew: the controller may have changed it.
    fn offer(&self, slot: u32) {
        let descriptor = u64::from(slot) * DESCRIPTOR;
        let buffer = self.bus + self.buffers() + u64::from(slot) * BUFFER;
        let offered =
            self.memory.write_u64(descriptor + LENGTH, 0).and_then(|()| self.memory.write_u64(descriptor, buffer));
        debug_assert!(offered.is_ok());
    }

    /// Where the buffers are, behind both rings of descriptors: those for frames to come, then those for frames to be sent.
    fn buffers(&self) -> u64 {
        2 * u64::from(self.slots) * DESCRIPTOR
    }

    const fn after(&self, slot: u32) -> u32 {
        if slot + 1 == self.slots { 0 } else { slot + 1 }
    }
}
