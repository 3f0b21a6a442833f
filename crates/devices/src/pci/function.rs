//! The contract of a modelled PCI function.

use super::{ConfigSpace, msix::Message};
use crate::{Effect, GuestMemory, Width};

/// A function on the virtual bus: configuration space, what its BARs stand for, and an interrupt pin.
///
/// It is pure, as every device: it holds no clock, no capability and no memory. An access passes it the guest's memory,
/// which it uses only while software has enabled bus mastering. The bus selects it by its BARs, and passes only
/// accesses within one BAR. A value read has no bits outside the width; those of a written one are ignored.
pub trait Function {
    /// Its configuration space.
    fn config(&self) -> &ConfigSpace;

    /// What an access of up to four bytes to configuration space reads, within one double word.
    fn read_config(&mut self, register: u8, width: Width, _memory: &impl GuestMemory) -> (u32, Effect) {
        (self.config().read(register, width), Effect::QUIET)
    }

    /// Takes such an access that writes.
    fn write_config(&mut self, register: u8, width: Width, value: u32, memory: &impl GuestMemory) -> Effect;

    /// What an access at `offset` of BAR `bar` reads.
    fn read(&mut self, _bar: u8, _offset: u64, width: Width, _memory: &impl GuestMemory) -> (u64, Effect) {
        (width.mask(), Effect::QUIET)
    }

    /// Takes an access that writes there.
    fn write(&mut self, _bar: u8, _offset: u64, _width: Width, _value: u64, _memory: &impl GuestMemory) -> Effect {
        Effect::QUIET
    }

    /// The level of its INTx pin now.
    fn irq(&self) -> bool {
        self.config().intx()
    }

    /// Takes an interrupt message that the function has sent, after an access with [`Effect::MESSAGES`].
    fn take_message(&mut self) -> Option<Message> {
        None
    }

    /// The bus is reset: everything is as after power-on.
    fn reset(&mut self);
}

/// A function that is nothing but its configuration space, such as a host bridge.
impl Function for ConfigSpace {
    fn config(&self) -> &ConfigSpace {
        self
    }

    fn write_config(&mut self, register: u8, width: Width, value: u32, _memory: &impl GuestMemory) -> Effect {
        self.write(register, width, value)
    }

    fn reset(&mut self) {
        self.reset();
    }
}
