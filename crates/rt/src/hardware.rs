//! Ports, interrupts, signals and the TSC.

use core::arch::x86_64::{__cpuid, __cpuid_count, _rdrand64_step, _rdseed64_step, _rdtsc};

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

/// The ID of the local APIC of the only processor that the kernel runs on (SDM volume 2, CPUID leaf 1).
pub fn local_apic() -> u8 {
    (__cpuid(1).ebx >> 24) as u8
}

/// What fills in bytes of the processor's random number generator, and returns how many: RDSEED, or RDRAND on an older
/// processor. `None` if this one has neither.
///
/// Both fail now and then, when more is asked for than comes. After some attempts there are no more bytes for now (SDM volume
/// 1, "Random Number Generator Instructions").
pub fn random() -> Option<fn(&mut [u8]) -> usize> {
    const LEAF_1_ECX_RDRAND: u32 = 1 << 30;
    const LEAF_7_EBX_RDSEED: u32 = 1 << 18;
    if __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & LEAF_7_EBX_RDSEED != 0 {
        // SAFETY: CPUID has just said that the processor has the instruction, which needs nothing else.
        return Some(|into| fill(into, |word| unsafe { _rdseed64_step(word) }));
    }
    if __cpuid(1).ecx & LEAF_1_ECX_RDRAND != 0 {
        // SAFETY: likewise.
        return Some(|into| fill(into, |word| unsafe { _rdrand64_step(word) }));
    }
    None
}

/// Fills in what `step` gives, eight bytes at a time; 0 is its word for a failure.
fn fill(into: &mut [u8], step: impl Fn(&mut u64) -> i32) -> usize {
    /// For each word.
    const ATTEMPTS: usize = 10;
    let mut done = 0;
    for bytes in into.chunks_mut(8) {
        let mut word = 0;
        if (0..ATTEMPTS).all(|_| step(&mut word) == 0) {
            break;
        }
        bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        done += bytes.len();
    }
    done
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
