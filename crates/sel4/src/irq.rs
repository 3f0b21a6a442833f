//! Interrupts (seL4 manual, chapter 8).

use crate::{AbsoluteCPtr, Result, Word, cap, sys};

/// How a line of an I/O APIC asks (Intel 82093AA data sheet, redirection table bit 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// By a change.
    Edge,
    /// For as long as it is asserted.
    Level,
}

/// Which level of an I/O APIC's line asserts it (redirection table bit 13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polarity {
    /// High.
    ActiveHigh,
    /// Low, as on PCI.
    ActiveLow,
}

/// Where a message-signalled interrupt comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiSource {
    /// PCI bus.
    pub bus: u8,
    /// PCI device, below 32.
    pub device: u8,
    /// PCI function, below 8.
    pub function: u8,
    /// Tells apart the vectors of one function.
    pub handle: u32,
}

impl cap::IrqControl {
    /// Puts a handler for `pin` of I/O APIC `ioapic` into `slot`. `vector`, below 108, must not be in use; among
    /// pending interrupts, the higher is served first.
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

    /// Puts a handler for a message-signalled interrupt into `slot`. `vector` as for
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
    /// Lets the interrupt come again.
    #[inline]
    pub fn irq_handler_ack(self) -> Result<()> {
        sys::seL4_IRQHandler_Ack(self.bits())
    }

    /// Has the interrupt signal `notification`.
    pub fn irq_handler_set_notification(self, notification: cap::Notification) -> Result<()> {
        sys::seL4_IRQHandler_SetNotification(self.bits(), notification.bits())
    }
}
