//! A 16550A serial port.
//!
//! National Semiconductor PC16550D data sheet (TL/C/8652).  The line has no speed: a byte written is sent at once as
//! long as the queue to the backend has room, and a byte received below the FIFO's trigger level raises the character
//! time-out interrupt at once.  A backend that delivers in bulk still gets one interrupt per FIFO.
//! Left out: parity, framing and break errors, DMA mode, and modem inputs that change (a terminal is always there).

#[cfg(test)]
mod tests;

use crate::{Device, Nanos, Width, read_bytes, write_bytes};
use bitflags::bitflags;
use heapless::Deque;

/// Depth of the receive and transmit FIFOs.
pub const FIFO: usize = 16;

/// Capacity of the queue to the back end, in bytes. A full kernel log line fits many times.
pub const TX_QUEUE: usize = 4096;

bitflags! {
    /// Interrupt enable register.
    #[derive(Clone, Copy, Debug)]
    struct Ier: u8 {
        const RECEIVED = 1 << 0;
        const TRANSMIT_EMPTY = 1 << 1;
        const LINE_STATUS = 1 << 2;
        const MODEM_STATUS = 1 << 3;
    }

    /// Modem control register.
    #[derive(Clone, Copy, Debug)]
    struct Mcr: u8 {
        const DTR = 1 << 0;
        const RTS = 1 << 1;
        const OUT1 = 1 << 2;
        const OUT2 = 1 << 3;
        const LOOP = 1 << 4;
    }

    /// Line status register.
    #[derive(Clone, Copy, Debug)]
    struct Lsr: u8 {
        const DATA_READY = 1 << 0;
        const OVERRUN = 1 << 1;
        const HOLDING_EMPTY = 1 << 5;
        const TRANSMITTER_EMPTY = 1 << 6;
    }

    /// Modem status register: the inputs.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Msr: u8 {
        const CTS = 1 << 4;
        const DSR = 1 << 5;
        const RI = 1 << 6;
        const DCD = 1 << 7;
    }
}

/// Modem status register: which inputs changed since it was read.
const MSR_CHANGES: u8 = 0x0f;
const LCR_DLAB: u8 = 1 << 7;
const FCR_ENABLE: u8 = 1 << 0;
const FCR_CLEAR_RECEIVER: u8 = 1 << 1;
const IIR_FIFOS_ENABLED: u8 = 0xc0;

/// The interrupt sources, by their code in the interrupt identification register, in falling priority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum InterruptSource {
    LineStatus = 0x06,
    Received = 0x04,
    TimeOut = 0x0c,
    TransmitEmpty = 0x02,
    ModemStatus = 0x00,
    None = 0x01,
}

/// The registers at offsets 0 to 7; the first two depend on DLAB.
#[derive(Clone, Copy, Debug)]
enum Reg {
    Data,
    InterruptEnable,
    DivisorLow,
    DivisorHigh,
    /// IIR when read, FCR when written.
    InterruptIdOrFifoControl,
    LineControl,
    ModemControl,
    LineStatus,
    ModemStatus,
    Scratch,
}

/// A serial port, with the queue of bytes that it has sent.
#[derive(Clone, Debug)]
pub struct Uart {
    ier: Ier,
    lcr: u8,
    mcr: Mcr,
    msr: Msr,
    divisor: [u8; 2],
    scratch: u8,
    /// The line status register. Kept up to date at each change, since drivers read it for each byte.
    status: Lsr,
    fifo_enabled: bool,
    /// The receiver FIFO's trigger level, from which on the interrupt is "data available": 1 without FIFO.
    trigger: usize,
    /// The transmitter became empty, and the guest has not acknowledged that interrupt.
    transmit_interrupt: bool,
    /// An access has changed something since `take_changed`.
    changed: bool,
    received: Deque<u8, FIFO>,
    last_received: u8,
    sent: Deque<u8, TX_QUEUE>,
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

impl Uart {
    /// A port after its master reset, with a terminal at the other end: CTS, DSR and DCD are on.
    pub const fn new() -> Self {
        Self {
            ier: Ier::empty(),
            lcr: 0,
            mcr: Mcr::empty(),
            msr: Msr::CTS.union(Msr::DSR).union(Msr::DCD),
            divisor: [12, 0],
            scratch: 0,
            status: Lsr::HOLDING_EMPTY.union(Lsr::TRANSMITTER_EMPTY),
            fifo_enabled: false,
            trigger: 1,
            transmit_interrupt: false,
            changed: false,
            received: Deque::new(),
            last_received: 0,
            sent: Deque::new(),
        }
    }

    /// Moves bytes that the guest has sent into `buffer`; returns how many.
    pub fn take_tx(&mut self, buffer: &mut [u8]) -> usize {
        let was_empty = self.holding_empty();
        let mut taken = 0;
        for (slot, byte) in buffer.iter_mut().zip(core::iter::from_fn(|| self.sent.pop_front())) {
            *slot = byte;
            taken += 1;
        }
        self.transmit_interrupt |= !was_empty && self.holding_empty();
        self.follow_queues();
        taken
    }

    /// Bytes that are pending in the queue to the back end.
    pub fn tx_pending(&self) -> usize {
        self.sent.len()
    }

    /// Free bytes of the queue to the back end.
    pub fn tx_free(&self) -> usize {
        TX_QUEUE - self.sent.len()
    }

    /// Bytes that [`Self::push_rx`] will take now: none in loopback, where the line is disconnected.
    pub fn rx_room(&self) -> usize {
        if self.mcr.contains(Mcr::LOOP) { 0 } else { self.depth().saturating_sub(self.received.len()) }
    }

    /// Receives `byte` from the line. False means that there was no room: the caller keeps the byte and tries again.
    pub fn push_rx(&mut self, byte: u8) -> bool {
        let taken = self.rx_room() > 0 && self.received.push_back(byte).is_ok();
        self.follow_queues();
        taken
    }

    /// What the line status register reads, unless that clears an error.
    #[inline]
    pub fn line_status(&self) -> Option<u8> {
        (!self.status.contains(Lsr::OVERRUN)).then_some(self.status.bits())
    }

    /// Whether a read since the last call has had a side effect: on the interrupt, or on the room in a queue. Reads of
    /// the line status, which drivers make for each byte, mostly have none.
    pub fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    const fn depth(&self) -> usize {
        if self.fifo_enabled { FIFO } else { 1 }
    }

    /// THRE: a driver may now write as much as the transmit FIFO holds without asking again.
    fn holding_empty(&self) -> bool {
        self.tx_free() >= self.depth()
    }

    /// The interrupt to name: the enabled one of highest priority.
    fn source(&self) -> InterruptSource {
        if self.status.contains(Lsr::OVERRUN) && self.ier.contains(Ier::LINE_STATUS) {
            InterruptSource::LineStatus
        } else if !self.received.is_empty() && self.ier.contains(Ier::RECEIVED) {
            if self.received.len() >= self.trigger { InterruptSource::Received } else { InterruptSource::TimeOut }
        } else if self.transmit_interrupt && self.ier.contains(Ier::TRANSMIT_EMPTY) {
            InterruptSource::TransmitEmpty
        } else if self.msr.bits() & MSR_CHANGES != 0 && self.ier.contains(Ier::MODEM_STATUS) {
            InterruptSource::ModemStatus
        } else {
            InterruptSource::None
        }
    }

    fn reg(&self, offset: u16) -> Option<Reg> {
        let dlab = self.lcr & LCR_DLAB != 0;
        Some(match offset {
            0 if dlab => Reg::DivisorLow,
            1 if dlab => Reg::DivisorHigh,
            0 => Reg::Data,
            1 => Reg::InterruptEnable,
            2 => Reg::InterruptIdOrFifoControl,
            3 => Reg::LineControl,
            4 => Reg::ModemControl,
            5 => Reg::LineStatus,
            6 => Reg::ModemStatus,
            7 => Reg::Scratch,
            _ => return None,
        })
    }

    fn read_byte(&mut self, offset: u16) -> u8 {
        match self.reg(offset) {
            None => 0xff,
            Some(Reg::Data) => {
                self.changed = true;
                self.last_received = self.received.pop_front().unwrap_or(self.last_received);
                self.follow_queues();
                self.last_received
            }
            Some(Reg::InterruptEnable) => self.ier.bits(),
            Some(Reg::DivisorLow) => self.divisor[0],
            Some(Reg::DivisorHigh) => self.divisor[1],
            Some(Reg::InterruptIdOrFifoControl) => self.read_iir(),
            Some(Reg::LineControl) => self.lcr,
            Some(Reg::ModemControl) => self.mcr.bits(),
            Some(Reg::LineStatus) => self.read_lsr(),
            Some(Reg::ModemStatus) => {
                let msr = self.msr;
                self.changed |= msr.bits() & MSR_CHANGES != 0;
                self.msr = Msr::from_bits_retain(msr.bits() & !MSR_CHANGES);
                msr.bits()
            }
            Some(Reg::Scratch) => self.scratch,
        }
    }

    fn write_byte(&mut self, offset: u16, value: u8) {
        match self.reg(offset) {
            None | Some(Reg::LineStatus | Reg::ModemStatus) => {}
            Some(Reg::Data) => self.transmit(value),
            Some(Reg::InterruptEnable) => self.write_ier(Ier::from_bits_truncate(value)),
            Some(Reg::DivisorLow) => self.divisor[0] = value,
            Some(Reg::DivisorHigh) => self.divisor[1] = value,
            Some(Reg::InterruptIdOrFifoControl) => self.write_fcr(value),
            Some(Reg::LineControl) => self.lcr = value,
            Some(Reg::ModemControl) => self.write_mcr(Mcr::from_bits_truncate(value)),
            Some(Reg::Scratch) => self.scratch = value,
        }
        self.follow_queues();
    }

    /// A read that names the transmitter's interrupt also clears it.
    fn read_iir(&mut self) -> u8 {
        let source = self.source();
        if source == InterruptSource::TransmitEmpty {
            self.changed = true;
            self.transmit_interrupt = false;
        }
        source as u8 | if self.fifo_enabled { IIR_FIFOS_ENABLED } else { 0 }
    }

    /// A read clears the overrun error.
    fn read_lsr(&mut self) -> u8 {
        let status = self.status;
        self.changed |= status.contains(Lsr::OVERRUN);
        self.status.remove(Lsr::OVERRUN);
        status.bits()
    }

    /// Updates the line status after a change of the queues.
    fn follow_queues(&mut self) {
        let holding_empty = self.holding_empty();
        self.status.set(Lsr::DATA_READY, !self.received.is_empty());
        self.status.set(Lsr::HOLDING_EMPTY | Lsr::TRANSMITTER_EMPTY, holding_empty);
    }

    /// Linux checks that enabling the interrupt with an idle transmitter raises it, and works around ports that don't.
    fn write_ier(&mut self, ier: Ier) {
        let enabled = ier.difference(self.ier).contains(Ier::TRANSMIT_EMPTY);
        self.transmit_interrupt |= enabled && self.holding_empty();
        self.ier = ier;
    }

    fn write_fcr(&mut self, value: u8) {
        let enable = value & FCR_ENABLE != 0;
        if enable != self.fifo_enabled || value & FCR_CLEAR_RECEIVER != 0 {
            self.received.clear();
        }
        // There is nothing to clear in the transmit FIFO: bytes in the queue have already left the chip.
        self.fifo_enabled = enable;
        self.trigger = match (enable, value >> 6) {
            (false, _) | (true, 0) => 1,
            (true, 1) => 4,
            (true, 2) => 8,
            (true, _) => 14,
        };
    }

    /// Loopback wires the modem outputs to the inputs, and changes of them set the delta bits as on a real line.
    fn write_mcr(&mut self, mcr: Mcr) {
        self.mcr = mcr;
        let inputs = if mcr.contains(Mcr::LOOP) {
            let mut looped = Msr::empty();
            looped.set(Msr::CTS, mcr.contains(Mcr::RTS));
            looped.set(Msr::DSR, mcr.contains(Mcr::DTR));
            looped.set(Msr::RI, mcr.contains(Mcr::OUT1));
            looped.set(Msr::DCD, mcr.contains(Mcr::OUT2));
            looped
        } else {
            Msr::CTS | Msr::DSR | Msr::DCD
        };
        // The delta bit of each input is four bits below it. For RI only the trailing edge counts.
        let changed = (self.msr ^ inputs).bits() & !(inputs & Msr::RI).bits();
        self.msr = Msr::from_bits_retain(inputs.bits() | (self.msr.bits() | changed >> 4) & MSR_CHANGES);
    }

    fn transmit(&mut self, byte: u8) {
        if self.mcr.contains(Mcr::LOOP) {
            self.receive_looped(byte);
        } else {
            // A driver that does not wait for THRE loses the byte, as it would on the wire.
            let _ = self.sent.push_back(byte);
        }
        self.transmit_interrupt = self.holding_empty();
    }

    /// Receives a byte in loopback. At an overrun, the new byte is lost with FIFOs, and the old one without.
    fn receive_looped(&mut self, byte: u8) {
        if self.received.len() >= self.depth() {
            self.status.insert(Lsr::OVERRUN);
            if self.fifo_enabled {
                return;
            }
            self.received.clear();
        }
        let _ = self.received.push_back(byte);
    }
}

impl Device for Uart {
    fn read(&mut self, offset: u16, width: Width, _now: Nanos) -> u32 {
        read_bytes(offset, width, |offset| self.read_byte(offset))
    }

    fn write(&mut self, offset: u16, width: Width, value: u32, _now: Nanos) {
        write_bytes(offset, width, value, |offset, value| self.write_byte(offset, value));
    }

    /// The PC gates the interrupt by OUT2, which loopback holds inactive.
    fn irq(&self) -> bool {
        self.mcr.contains(Mcr::OUT2) && !self.mcr.contains(Mcr::LOOP) && self.source() != InterruptSource::None
    }
}
