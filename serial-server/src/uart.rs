//! The UART: a 16550A with its FIFOs enabled (National Semiconductor PC16550D data sheet), 8 data bits, no parity.
//! RTS is low while the console's ring is full. It leaves out modem status and the 8250 without FIFOs.

use mmio::Ports;

/// Bytes that the transmit FIFO takes once it is empty.
pub const FIFO: usize = 16;

/// Registers, from the base port; names as in the data sheet. The first two are the divisor while LCR.DLAB is set.
const RBR_THR_DLL: u16 = 0;
const IER_DLM: u16 = 1;
const IIR_FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;

const IER_RECEIVED: u8 = 1 << 0;
const IER_THR_EMPTY: u8 = 1 << 1;
const IIR_NONE_PENDING: u8 = 1 << 0;
/// FIFOs enabled and reset; an interrupt at 8 received bytes, or when fewer have waited for four character times.
const FCR_ON: u8 = 0b1000_0111;
const LCR_8_BITS: u8 = 0b0000_0011;
const LCR_DLAB: u8 = 1 << 7;
const MCR_DTR: u8 = 1 << 0;
const MCR_RTS: u8 = 1 << 1;
/// On a PC, connects the interrupt to its line.
const MCR_OUT2: u8 = 1 << 3;
const LSR_READY: u8 = 1 << 0;
const LSR_OVERRUN: u8 = 1 << 1;
const LSR_THR_EMPTY: u8 = 1 << 5;
const LSR_IDLE: u8 = 1 << 6;

/// Input clock by 16, in Hz: the rate at divisor 1.
const CLOCK: u32 = 115_200;
/// Polls that take longer than the output of a full FIFO, on any machine.
const MAX_POLLS: u32 = 100_000;

/// Whether the UART receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// It receives.
    On,
    /// RTS is low: the sender has to wait.
    Off,
}

/// The chip.
pub struct Uart<P> {
    ports: P,
    base: u16,
    /// Bytes given to the transmit FIFO when it was last filled.
    filled: usize,
    overruns: u64,
}

impl<P: Ports> Uart<P> {
    /// Sets up the chip at ports `base` to `base` + 7 for `baud` bits per second, after it has sent what is in its
    /// FIFO.
    pub fn new(mut ports: P, base: u16, baud: u32) -> Self {
        // Resetting the FIFO would drop output of seL4 or root-task that is still in it.
        let _ = (0..MAX_POLLS).find(|_| ports.in8(base + LSR) & LSR_IDLE != 0);
        let divisor = u16::try_from(CLOCK / baud.clamp(2, CLOCK)).unwrap_or(1);
        let [low, high] = divisor.to_le_bytes();
        for (register, value) in [
            (IER_DLM, 0),
            (LCR, LCR_8_BITS | LCR_DLAB),
            (RBR_THR_DLL, low),
            (IER_DLM, high),
            (LCR, LCR_8_BITS),
            (IIR_FCR, FCR_ON),
        ] {
            ports.out8(base + register, value);
        }
        let mut uart = Self { ports, base, filled: 0, overruns: 0 };
        uart.accept(Reception::On);
        uart
    }

    /// A received byte.
    pub fn receive(&mut self) -> Option<u8> {
        let status = self.status();
        (status & LSR_READY != 0).then(|| self.ports.in8(self.base + RBR_THR_DLL))
    }

    /// How many bytes may be sent now: a whole FIFO, or none.
    pub fn room(&mut self) -> usize {
        // The 16550A only reports that the FIFO is empty, not how full it is.
        if self.status() & LSR_THR_EMPTY != 0 {
            self.filled = 0;
            FIFO
        } else {
            0
        }
    }

    /// Sends `bytes`, at most as many as [`Self::room`] returned.
    pub fn send(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.ports.out8(self.base + RBR_THR_DLL, byte);
        }
        self.filled += bytes.len();
    }

    /// Bytes sent that may still be in the chip.
    pub fn unsent(&mut self) -> usize {
        let idle = self.status() & LSR_IDLE != 0;
        // With the FIFO empty and the chip not idle, the last byte is in the shift register.
        if idle { 0 } else { self.filled.max(1) }
    }

    /// Enables reception (RTS high, receive interrupt on), or disables it, so that the sender waits.
    pub fn accept(&mut self, reception: Reception) {
        let (ier, mcr) = match reception {
            Reception::On => (IER_RECEIVED, MCR_RTS),
            Reception::Off => (0, 0),
        };
        self.ports.out8(self.base + MCR, MCR_DTR | MCR_OUT2 | mcr);
        self.ports.out8(self.base + IER_DLM, IER_THR_EMPTY | ier);
    }

    /// Whether the chip has an interrupt pending. Reading IIR clears the one for the empty transmitter.
    pub fn interrupting(&mut self) -> bool {
        self.ports.in8(self.base + IIR_FCR) & IIR_NONE_PENDING == 0
    }

    /// Receive FIFO overruns.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Reads the line status. A read clears the overrun bit, so every read has to count it.
    fn status(&mut self) -> u8 {
        let status = self.ports.in8(self.base + LSR);
        self.overruns += u64::from(status & LSR_OVERRUN != 0);
        status
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{cell::RefCell, rc::Rc, vec, vec::Vec};

    /// Register contents to read, and all writes.
    type State = ([u8; 8], Vec<(u16, u8)>);

    #[derive(Clone, Default)]
    struct Chip(Rc<RefCell<State>>);

    impl Ports for Chip {
        fn in8(&mut self, port: u16) -> u8 {
            self.0.borrow().0[usize::from(port - 0x3f8)]
        }
        fn out8(&mut self, port: u16, value: u8) {
            self.0.borrow_mut().1.push((port, value));
        }
        fn in16(&mut self, _: u16) -> u16 {
            unreachable!()
        }
        fn out16(&mut self, _: u16, _: u16) {
            unreachable!()
        }
        fn in32(&mut self, _: u16) -> u32 {
            unreachable!()
        }
        fn out32(&mut self, _: u16, _: u32) {
            unreachable!()
        }
    }

    fn uart(baud: u32) -> (Chip, Uart<Chip>) {
        let chip = Chip::default();
        chip.0.borrow_mut().0[5] = 0x60;
        let uart = Uart::new(chip.clone(), 0x3f8, baud);
        (chip, uart)
    }

    fn written(chip: &Chip) -> Vec<(u16, u8)> {
        std::mem::take(&mut chip.0.borrow_mut().1)
    }

    #[test]
    fn the_divisor_is_set_behind_dlab() {
        let (chip, _) = uart(9600);
        let expected = vec![
            (0x3f9, 0),
            (0x3fb, 0x83),
            (0x3f8, 12),
            (0x3f9, 0),
            (0x3fb, 0x03),
            (0x3fa, 0x87),
            (0x3fc, 0x0b),
            (0x3f9, 0x03),
        ];
        assert_eq!(written(&chip), expected);
    }

    #[test]
    fn there_is_room_for_a_fifo_or_for_nothing() {
        let (chip, mut uart) = uart(115_200);
        assert_eq!(uart.room(), 16);
        uart.send(b"ab");
        chip.0.borrow_mut().0[5] = 0x00;
        assert_eq!((uart.room(), uart.unsent()), (0, 2));
        chip.0.borrow_mut().0[5] = 0x20;
        assert_eq!((uart.room(), uart.unsent()), (16, 1), "the last byte is still on the line");
        chip.0.borrow_mut().0[5] = 0x60;
        assert_eq!(uart.unsent(), 0);
    }

    #[test]
    fn a_byte_is_received_when_there_is_one_and_overruns_count() {
        let (chip, mut uart) = uart(115_200);
        assert_eq!(uart.receive(), None);
        chip.0.borrow_mut().0[0] = b'k';
        chip.0.borrow_mut().0[5] = 0x63;
        assert_eq!((uart.receive(), uart.overruns()), (Some(b'k'), 1));
    }

    #[test]
    fn disabling_reception_drops_rts_and_the_interrupt() {
        let (chip, mut uart) = uart(115_200);
        written(&chip);
        uart.accept(Reception::Off);
        assert_eq!(written(&chip), [(0x3fc, 0x09), (0x3f9, 0x02)]);
    }

    #[test]
    fn pending_is_a_zero_bit() {
        let (chip, mut uart) = uart(115_200);
        chip.0.borrow_mut().0[2] = 0xc1;
        assert!(!uart.interrupting());
        chip.0.borrow_mut().0[2] = 0xc2;
        assert!(uart.interrupting());
    }
}
