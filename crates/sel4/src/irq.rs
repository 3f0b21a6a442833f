//! Interrupts (seL4 manual, chapter 8).

use crate::{AbsoluteCPtr, Result, Word, cap, sys};

/// The processor's vector of the first that user space may use: in a message, the kernel's interrupt `vector` is this much
/// more (the kernel's `IRQ_INT_OFFSET` and `PIC_IRQ_LINES`, which no interface file has).
pub const FIRST_VECTOR: u8 = 0x30;

/// Trigger mode of an I/O APIC's input (Intel 82093AA data sheet, redirection table bit 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Edge-triggered.
    Edge,
    /// Level-triggered.
    Level,
}

/// Polarity of an I/O APIC's input (redirection table bit 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// High.
    ActiveHigh,
    /// Low, as on PCI.
    ActiveLow,
}

/// The source of a message-signalled interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiSource {
    /// PCI bus.
    pub bus: u8,
    /// PCI device, below 32.
    pub device: u8,
    /// PCI function, below 8.
    pub function: u8,
    /// Distinguishes the vectors of one function.
    pub handle: u32,
}

#[allow(clippy::useless_conversion, reason = "releases differ in the type of `depth`")]
impl cap::IrqControl {
    /// Creates a handler for `pin` of I/O APIC `ioapic` in `slot`. `vector`, below 108, must not be in use; of several
    /// pending interrupts, the highest vector is delivered first.
    pub fn irq_control_get_ioapic(
        self,
        slot: &AbsoluteCPtr,
        ioapic: Word,
        pin: Word,
        trigger: Trigger,
        polarity: Polarity,
        vector: Word,
    ) -> Result<()> {
        sys::seL4_IRQControl_GetIOAPIC(
            self.bits(),
            slot.root().bits(),
            slot.path().bits(),
            slot.path().depth().into(),
            ioapic,
            pin,
            (trigger == Trigger::Level).into(),
            (polarity == Polarity::ActiveLow).into(),
            vector,
        )
    }

    /// Creates a handler for a message-signalled interrupt in `slot`. `vector` as for
    /// [`irq_control_get_ioapic`](Self::irq_control_get_ioapic).
    pub fn irq_control_get_msi(self, slot: &AbsoluteCPtr, source: MsiSource, vector: Word) -> Result<()> {
        sys::seL4_IRQControl_GetMSI(
            self.bits(),
            slot.root().bits(),
            slot.path().bits(),
            slot.path().depth().into(),
            source.bus.into(),
            source.device.into(),
            source.function.into(),
            source.handle.into(),
            vector,
        )
    }
}

impl cap::IrqHandler {
    /// Acknowledges the interrupt, which unmasks it.
    #[inline]
    pub fn irq_handler_ack(self) -> Result<()> {
        sys::seL4_IRQHandler_Ack(self.bits())
    }

    /// Sets the notification that the interrupt signals.
    pub fn irq_handler_set_notification(self, notification: cap::Notification) -> Result<()> {
        sys::seL4_IRQHandler_SetNotification(self.bits(), notification.bits())
    }
}
