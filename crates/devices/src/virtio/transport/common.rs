//! The modern interface's common registers.
//!
//! VIRTIO 1.2, section 4.1.4.3. A register takes writes of its own width only, and one of 64 bits those of its halves as well
//! (4.1.3.1); other writes are ignored. Reads may have any width.

use super::{Status, Virtio};
use crate::{Effect, GuestMemory, Width, virtio::Device};

const DEVICE_FEATURE_SELECT: u16 = 0x00;
const DEVICE_FEATURE: u16 = 0x04;
const DRIVER_FEATURE_SELECT: u16 = 0x08;
const DRIVER_FEATURE: u16 = 0x0c;
/// The vector of configuration changes, and the number of queues.
const CONFIG_VECTOR: u16 = 0x10;
const STATUS: u16 = 0x14;
const QUEUE_SELECT: u16 = 0x16;
const QUEUE_SIZE: u16 = 0x18;
/// The vector of the queue.
const QUEUE_VECTOR: u16 = 0x1a;
const QUEUE_ENABLE: u16 = 0x1c;
/// Three addresses, 64 bits each: descriptor table, available ring, used ring.
const QUEUE_TABLE: u16 = 0x20;
const QUEUE_AVAILABLE: u16 = 0x28;
const END_OF_ADDRESSES: u16 = 0x38;

impl<D: Device> Virtio<D> {
    pub(super) fn read_common(&self, at: u16, width: Width) -> u64 {
        let byte = |n: u64| {
            let at = at + n as u16;
            self.common_word(at & !3) >> (8 * (at & 3)) & 0xff
        };
        (0..width.bytes() as u64).fold(0, |value, n| value | u64::from(byte(n)) << (8 * n))
    }

    /// The four bytes at `at`.
    fn common_word(&self, at: u16) -> u32 {
        let queue = self.queues.get(usize::from(self.queue_select));
        let address = |at: u16| {
            let places = queue.map(|queue| queue.places).unwrap_or_default();
            let whole = match at & !7 {
                QUEUE_TABLE => places.table,
                QUEUE_AVAILABLE => places.available,
                _ => places.used,
            };
            (whole >> (8 * (at & 4))) as u32
        };
        match at {
            DEVICE_FEATURE_SELECT => self.device_half,
            DEVICE_FEATURE => half(self.offered().bits(), self.device_half),
            DRIVER_FEATURE_SELECT => self.driver_half,
            DRIVER_FEATURE => half(self.accepted.bits(), self.driver_half),
            CONFIG_VECTOR => u32::from(self.config_vector) | (self.queues.len() as u32) << 16,
            STATUS => {
                let select = u32::from(self.queue_select);
                u32::from(self.status.bits()) | u32::from(self.generation) << 8 | select << 16
            }
            QUEUE_SIZE => u32::from(queue.map_or(0, |queue| queue.size)) | u32::from(self.selected_vector()) << 16,
            // With it goes the place of the queue's notifications, in steps.
            QUEUE_ENABLE => queue.map_or(0, |queue| u32::from(queue.is_enabled()) | u32::from(self.queue_select) << 16),
            QUEUE_TABLE..END_OF_ADDRESSES => address(at),
            _ => 0,
        }
    }

    pub(super) fn write_common(&mut self, at: u16, width: Width, value: u64, memory: &impl GuestMemory) -> Effect {
        match (at, width) {
            (DEVICE_FEATURE_SELECT, Width::Dword) => self.device_half = value as u32,
            (DRIVER_FEATURE_SELECT, Width::Dword) => self.driver_half = value as u32,
            (DRIVER_FEATURE, Width::Dword) => self.accept(self.driver_half, value as u32),
            (STATUS, Width::Byte) => return self.set_status(value as u8, memory),
            (CONFIG_VECTOR, Width::Word) => self.config_vector = self.vector(value as u16),
            (QUEUE_VECTOR, Width::Word) => self.set_selected_vector(value as u16),
            (QUEUE_SELECT, Width::Word) => self.queue_select = value as u16,
            (QUEUE_SIZE, Width::Word) => {
                if let Some(queue) = self.selected().filter(|queue| !queue.is_enabled()) {
                    queue.size = value as u16;
                }
            }
            (QUEUE_ENABLE, Width::Word) if value == 1 => return self.enable_selected(memory),
            (QUEUE_TABLE..END_OF_ADDRESSES, Width::Dword) if at.is_multiple_of(4) => {
                self.write_address(at, value as u32)
            }
            (QUEUE_TABLE..END_OF_ADDRESSES, Width::Qword) if at.is_multiple_of(8) => {
                self.write_address(at, value as u32);
                self.write_address(at + 4, (value >> 32) as u32);
            }
            _ => {}
        }
        Effect::QUIET
    }

    /// Begins with the selected queue, once.
    fn enable_selected(&mut self, memory: &impl GuestMemory) -> Effect {
        match self.selected().is_some_and(|queue| !queue.is_enabled()) {
            true => self.enable(|queue| queue.enable(memory)),
            false => Effect::QUIET,
        }
    }

    /// Half of an address of the selected queue.
    fn write_address(&mut self, at: u16, half: u32) {
        let Some(queue) = self.selected().filter(|queue| !queue.is_enabled()) else { return };
        let whole = match at & !7 {
            QUEUE_TABLE => &mut queue.places.table,
            QUEUE_AVAILABLE => &mut queue.places.available,
            _ => &mut queue.places.used,
        };
        let shift = 8 * (at & 4);
        *whole = *whole & !(u64::from(u32::MAX) << shift) | u64::from(half) << shift;
    }
}

/// Feature bits 0 to 31 or 32 to 63; there are no others.
const fn half(bits: u64, half: u32) -> u32 {
    if half < 2 { (bits >> (32 * half)) as u32 } else { 0 }
}

const _: () = assert!(Status::all().bits() == 0xcf);
