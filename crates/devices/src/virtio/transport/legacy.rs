//! The legacy interface, behind ports.
//!
//! VIRTIO 1.2, section 4.1.4.10. A register takes writes of its own width only; reads may have any. The vectors of MSI-X are there
//! only where that is on, and the device's configuration is behind them then.

use super::{
    Status, Virtio,
    layout::{LEGACY_HEADER, LEGACY_VECTORS},
};
use crate::{
    Effect, GuestMemory, Width,
    virtio::{Device, queue::LEGACY_ALIGN},
};

const DEVICE_FEATURES: u64 = 0;
const DRIVER_FEATURES: u64 = 4;
/// The queue's address, in pages.
const QUEUE_ADDRESS: u64 = 8;
/// Size and selection of the queue.
const QUEUE_SIZE: u64 = 12;
const QUEUE_SELECT: u64 = 14;
const QUEUE_NOTIFY: u64 = 16;
const STATUS: u64 = 18;
const ISR: u64 = 19;
/// With MSI-X: the vectors of the configuration, and of the selected queue.
const CONFIG_VECTOR: u64 = LEGACY_HEADER as u64;
const QUEUE_VECTOR: u64 = CONFIG_VECTOR + 2;

impl<D: Device> Virtio<D> {
    pub(super) fn read_legacy(&mut self, offset: u64, width: Width) -> u64 {
        let mut value = 0;
        for n in 0..width.bytes() as u64 {
            value |= u64::from(self.legacy_byte(offset.saturating_add(n))) << (8 * n);
        }
        value
    }

    fn legacy_byte(&mut self, at: u64) -> u8 {
        let queue = self.queues.get(usize::from(self.queue_select));
        let word = match at & !3 {
            DEVICE_FEATURES => self.offered().bits() as u32,
            DRIVER_FEATURES => self.accepted.bits() as u32,
            QUEUE_ADDRESS => {
                queue.filter(|queue| queue.is_enabled()).map_or(0, |queue| (queue.places.table / LEGACY_ALIGN) as u32)
            }
            QUEUE_SIZE => u32::from(queue.map_or(0, |queue| queue.size)) | u32::from(self.queue_select) << 16,
            QUEUE_NOTIFY if at == ISR => return self.take_isr(),
            QUEUE_NOTIFY => u32::from(self.status.bits()) << 16,
            CONFIG_VECTOR if self.msix.is_on(&self.config) => {
                u32::from(self.config_vector) | u32::from(self.selected_vector()) << 16
            }
            _ => match self.legacy_config(at) {
                Some(at) if at < D::CONFIG => return self.device.read_config(at),
                _ => return 0,
            },
        };
        (word >> (8 * (at & 3))) as u8
    }

    pub(super) fn write_legacy(&mut self, offset: u64, width: Width, value: u64, memory: &impl GuestMemory) -> Effect {
        match (offset, width) {
            (DRIVER_FEATURES, Width::Dword) => {
                self.accept(0, value as u32 & self.offered().bits() as u32);
                self.hand_features();
            }
            (QUEUE_ADDRESS, Width::Dword) => return self.set_legacy_queue(value, memory),
            (QUEUE_SELECT, Width::Word) => self.queue_select = value as u16,
            (QUEUE_NOTIFY, Width::Word) => return self.serve(value as usize, memory),
            (STATUS, Width::Byte) => {
                // Linux before 2.6.34 never enables bus mastering, so the device does so itself, as QEMU does.
                if Status::from_bits_truncate(value as u8).contains(Status::DRIVER) {
                    self.config.force_bus_master();
                }
                return self.set_status(value as u8, memory);
            }
            (CONFIG_VECTOR, Width::Word) if self.msix.is_on(&self.config) => {
                self.config_vector = self.vector(value as u16);
            }
            (QUEUE_VECTOR, Width::Word) if self.msix.is_on(&self.config) => self.set_selected_vector(value as u16),
            _ => {
                if let Some(at) = self.legacy_config(offset) {
                    self.write_device_config(at, width, value);
                }
            }
        }
        Effect::QUIET
    }

    /// The offset in the device's configuration that is at `at`.
    fn legacy_config(&self, at: u64) -> Option<u16> {
        let vectors = if self.msix.is_on(&self.config) { LEGACY_VECTORS } else { 0 };
        u16::try_from(at.checked_sub(u64::from(LEGACY_HEADER + vectors))?).ok()
    }

    /// Sets the selected queue up at a page, or takes it down at page 0.
    fn set_legacy_queue(&mut self, page: u64, memory: &impl GuestMemory) -> Effect {
        let features = self.accepted & self.offered();
        self.enable(|queue| {
            queue.reset();
            queue.accept(features);
            if page == 0 { Ok(()) } else { queue.enable_legacy(page * LEGACY_ALIGN, memory) }
        })
    }
}
