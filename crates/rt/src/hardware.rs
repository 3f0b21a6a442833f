//! Ports, interrupts, signals and the TSC.

use core::arch::x86_64::_rdtsc;

use layout::{Slot, config, slot};
use mmio::Ports;
use proto::irq;
use sel4::cap;

use crate::Endpoint;
use crate::endpoint::scratch;

/// The time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: reads a register; seL4 leaves CR4.TSD clear, so RDTSC is allowed at user level.
    unsafe { _rdtsc() }
}

/// Signals the notification at `slot`.
pub fn signal(slot: Slot) {
    cap::Notification::from_bits(slot.cptr()).signal();
}

/// Waits for signals of this process's notification; returns and clears all of them. For processes that do not
/// [`serve`](crate::serve()).
pub fn wait() -> u64 {
    cap::Notification::from_bits(slot::EVENTS.cptr()).wait()
}

/// An interrupt line of this process's device.
#[derive(Clone, Copy, Debug)]
pub enum Interrupt {
    /// This process is the only owner: the kernel signals it directly.
    Alone(cap::IrqHandler),
    /// A line with several owners, by its number at irq-server, which signals all owners and waits for their answers.
    Shared(u8),
}

impl Interrupt {
    /// Claims line `line` from irq-server, and with it the line's signals. If this process is the only owner, the
    /// handler goes to slot `index` of the scratch CNode.
    pub fn claim(line: u8, index: u16) -> Result<Self, irq::Error> {
        // In a restarted process, the slot has the handler that it claimed before. Deleting an empty slot is no error.
        let _ = scratch(index).delete();
        let handler = irq::Client(Endpoint::at(irq::SERVICE.slot).receive_into(index)).claim(line)?;
        Ok(handler.map_or(Self::Shared(line), |handler| Self::Alone(cap::IrqHandler::from_bits(handler))))
    }

    /// Unmasks the line. An edge that came before is lost: poll the device afterwards.
    pub fn acknowledge(&self) {
        match self {
            Self::Alone(handler) => {
                let acknowledged = handler.irq_handler_ack();
                debug_assert!(acknowledged.is_ok());
            }
            Self::Shared(line) => {
                // irq-server has a timeout, so a failed call only delays the line.
                let _ = irq::Client(Endpoint::at(irq::SERVICE.slot)).done(*line);
            }
        }
    }
}

/// I/O ports through a capability.
#[derive(Clone, Copy, Debug)]
pub struct IoPorts(cap::IoPort);

impl IoPorts {
    /// The ports that the configuration lists.
    pub const fn new(ports: &config::Ports) -> Self {
        Self::at(ports.slot.cptr())
    }

    /// The ports of the capability at `cptr`, for example one that was received with a reply.
    pub const fn at(cptr: u64) -> Self {
        Self(cap::IoPort::from_bits(cptr))
    }

    /// The capability itself.
    pub const fn cap(&self) -> cap::IoPort {
        self.0
    }
}

/// Panics on a port outside the capability, which is a bug of this process.
impl Ports for IoPorts {
    #[inline]
    fn in8(&mut self, port: u16) -> u8 {
        self.0.ioport_in8(port).unwrap_or_else(|error| refused(port, error))
    }
    #[inline]
    fn out8(&mut self, port: u16, value: u8) {
        self.0.ioport_out8(port, value).unwrap_or_else(|error| refused(port, error))
    }
    #[inline]
    fn in16(&mut self, port: u16) -> u16 {
        self.0.ioport_in16(port).unwrap_or_else(|error| refused(port, error))
    }
    #[inline]
    fn out16(&mut self, port: u16, value: u16) {
        self.0.ioport_out16(port, value).unwrap_or_else(|error| refused(port, error))
    }
    #[inline]
    fn in32(&mut self, port: u16) -> u32 {
        self.0.ioport_in32(port).unwrap_or_else(|error| refused(port, error))
    }
    #[inline]
    fn out32(&mut self, port: u16, value: u32) {
        self.0.ioport_out32(port, value).unwrap_or_else(|error| refused(port, error))
    }
}

#[cold]
fn refused(port: u16, error: sel4::Error) -> ! {
    panic!("port {port:#x}: {error:?}")
}
