//! An NE2000: its memory by remote DMA, and sending (National Semiconductor DP8390D, sections 7 to 11; Realtek
//! RTL8029AS, section 6). It leaves out receiving.

use mmio::Ports;
use rt::IoPorts;

/// Registers of page 0, those that are written.
const COMMAND: u16 = 0x00;
const PAGE_START: u16 = 0x01;
const PAGE_STOP: u16 = 0x02;
const BOUNDARY: u16 = 0x03;
const TRANSMIT_PAGE: u16 = 0x04;
const TRANSMIT_COUNT: u16 = 0x05;
const STATUS: u16 = 0x07;
const REMOTE_ADDRESS: u16 = 0x08;
const REMOTE_COUNT: u16 = 0x0a;
const RECEIVE: u16 = 0x0c;
const TRANSMIT: u16 = 0x0d;
const DATA_CONFIGURATION: u16 = 0x0e;
const MASK: u16 = 0x0f;
/// Data port of a remote DMA.
const DATA: u16 = 0x10;

/// Commands of page 0: stopped; started and no remote DMA, a remote read or write, or transmit.
const STOP: u8 = 0x21;
const START: u8 = 0x22;
const REMOTE_READ: u8 = 0x0a;
const REMOTE_WRITE: u8 = 0x12;
const SEND: u8 = 0x26;
/// Status: a packet was transmitted.
const SENT: u8 = 1 << 1;

/// The card's memory: 16 KiB from here on.
pub const MEMORY: u16 = 0x4000;
/// The shortest frame, without its checksum.
const FRAME: u8 = 60;

/// A card.
pub struct Ne2000 {
    ports: IoPorts,
    base: u16,
}

impl Ne2000 {
    /// The card at the ports from `base` on: it runs, receives nothing, and interrupts when a frame is sent.
    pub fn start(ports: IoPorts, base: u16) -> Self {
        let mut card = Self { ports, base };
        card.write(COMMAND, STOP);
        // Bytes, no loop-back; monitor only.
        card.write(DATA_CONFIGURATION, 0x48);
        card.write_pair(REMOTE_COUNT, 0);
        card.write(RECEIVE, 0x20);
        card.write(TRANSMIT, 0);
        card.write(PAGE_START, 0x46);
        card.write(BOUNDARY, 0x46);
        card.write(PAGE_STOP, 0x80);
        card.write(STATUS, 0xff);
        card.write(MASK, SENT);
        card.write(COMMAND, START);
        card
    }

    /// The address in its PROM, which has each byte twice.
    pub fn station_address(&mut self) -> [u8; 6] {
        let mut doubled = [0; 12];
        self.read_memory(0, &mut doubled);
        core::array::from_fn(|n| doubled[2 * n])
    }

    /// Reads from its memory.
    pub fn read_memory(&mut self, at: u16, into: &mut [u8]) {
        self.remote(at, into.len(), REMOTE_READ);
        for byte in into {
            *byte = self.ports.in8(self.base + DATA);
        }
    }

    /// Writes to its memory.
    pub fn write_memory(&mut self, at: u16, bytes: &[u8]) {
        self.remote(at, bytes.len(), REMOTE_WRITE);
        for &byte in bytes {
            self.write(DATA, byte);
        }
    }

    /// Sends the frame at the beginning of its memory.
    pub fn send(&mut self) {
        self.write(TRANSMIT_PAGE, (MEMORY >> 8) as u8);
        self.write_pair(TRANSMIT_COUNT, FRAME.into());
        self.write(COMMAND, SEND);
    }

    /// Whether a frame was sent since the last call. The card asserts its interrupt until this is called.
    pub fn take_sent(&mut self) -> bool {
        let sent = self.ports.in8(self.base + STATUS) & SENT;
        self.write(STATUS, sent);
        sent != 0
    }

    fn remote(&mut self, at: u16, bytes: usize, command: u8) {
        self.write_pair(REMOTE_ADDRESS, at);
        self.write_pair(REMOTE_COUNT, bytes as u16);
        self.write(COMMAND, command);
    }

    fn write_pair(&mut self, register: u16, value: u16) {
        self.write(register, value as u8);
        self.write(register + 1, (value >> 8) as u8);
    }

    fn write(&mut self, register: u16, value: u8) {
        self.ports.out8(self.base + register, value);
    }
}
