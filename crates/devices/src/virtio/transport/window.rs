//! The capability by which a driver reaches the BARs from configuration space, before they have an address.
//!
//! VIRTIO 1.2, section 4.1.4.9 (`VIRTIO_PCI_CAP_PCI_CFG`).

use super::Virtio;
use crate::{Effect, GuestMemory, Width, virtio::Device};

/// Offsets in the capability: BAR, offset in it, bytes to access, data.
const BAR: u8 = 4;
const OFFSET: u8 = 8;
const LENGTH: u8 = 12;
pub(super) const DATA: u8 = 16;

impl<D: Device> Virtio<D> {
    /// Whether an access to configuration space, within one double word, is one to the data.
    pub(super) const fn is_window(&self, register: u8) -> bool {
        register & !3 == self.window + DATA
    }

    /// Reads what the driver has chosen, so that it is there to be read.
    pub(super) fn look_through(&mut self) {
        if let Some((bar, offset, width)) = self.chosen() {
            let value = self.read_bar(bar, offset, width);
            self.config.set(self.window + DATA, value as u32 & width.mask32());
        }
    }

    /// Writes there what the driver has written.
    pub(super) fn reach_through(&mut self, memory: &impl GuestMemory) -> Effect {
        let Some((bar, offset, width)) = self.chosen() else { return Effect::QUIET };
        let value = self.config.read(self.window + DATA, width);
        self.write_bar(bar, offset, width, value.into(), memory)
    }

    /// The access that the driver has chosen, if it is aligned and in a BAR of the function's.
    fn chosen(&self) -> Option<(u8, u64, Width)> {
        let bar = self.config.read(self.window + BAR, Width::Byte) as u8;
        let [offset, length] = [OFFSET, LENGTH].map(|at| self.config.read(self.window + at, Width::Dword));
        let width = match length {
            1 => Width::Byte,
            2 => Width::Word,
            4 => Width::Dword,
            _ => return None,
        };
        let end = u64::from(offset) + width.bytes() as u64;
        let fits = end <= self.config.bar(bar.into())?.size() && u64::from(offset).is_multiple_of(width.bytes() as u64);
        fits.then_some((bar, offset.into(), width))
    }
}
