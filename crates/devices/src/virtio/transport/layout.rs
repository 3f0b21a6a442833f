//! What a virtio function shows of itself in configuration space, and where its registers are.
//!
//! VIRTIO 1.2, sections 4.1.2 (identity) and 4.1.4 (layout).

use super::super::{Device, VENDOR};
use crate::{
    Width,
    pci::{Bar, ConfigError, ConfigSpace, Identity, msix::Msix},
};

/// The BAR of the legacy interface: ports.
pub(super) const LEGACY_BAR: u8 = 0;
/// The BAR of the table of MSI-X, where other VMMs have it.
pub(super) const MSIX_BAR: u8 = 1;
/// The BAR of the modern interface: memory.
pub(super) const MODERN_BAR: u8 = 4;

/// Bytes of each part of the modern BAR, which they fill: a page, so that one could be mapped by itself.
const PART: u64 = 0x1000;
const PARTS: u32 = 4;
/// Bytes between the notification addresses of two queues.
const NOTIFY_STEP: u32 = 4;
/// Bytes of the legacy interface before the device's configuration; with MSI-X there are two vectors in addition.
pub(super) const LEGACY_HEADER: u16 = 20;
pub(super) const LEGACY_VECTORS: u16 = 4;

/// Numbers of modern devices begin here.
const MODERN_DEVICE: u16 = 0x1040;
/// A vendor-specific capability.
const VENDOR_SPECIFIC: u8 = 9;

/// The parts of the modern BAR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Common,
    Isr,
    Device,
    Notify,
}

impl Part {
    /// The part that has all bytes of an access, and the offset in it.
    pub fn at(offset: u64, width: Width) -> Option<(Self, u16)> {
        let (part, at) = (offset / PART, offset % PART);
        let part = match part {
            0 => Self::Common,
            1 => Self::Isr,
            2 => Self::Device,
            3 => Self::Notify,
            _ => return None,
        };
        (at + width.bytes() as u64 <= PART).then_some((part, at as u16))
    }

    /// Its number in a capability (`cfg_type`).
    const fn kind(self) -> u8 {
        match self {
            Self::Common => 1,
            Self::Notify => 2,
            Self::Isr => 3,
            Self::Device => 4,
        }
    }

    const fn start(self) -> u32 {
        PART as u32
            * match self {
                Self::Common => 0,
                Self::Isr => 1,
                Self::Device => 2,
                Self::Notify => 3,
            }
    }
}

/// The number of the queue that a write at `at` of the notification part notifies.
pub(super) const fn notified(at: u16) -> usize {
    at as usize / NOTIFY_STEP as usize
}

/// `cfg_type` of the window to the BARs.
const WINDOW: u8 = 5;

/// The configuration space of a device, where in it the window is, and the table of messages.
pub(super) fn config_space<D: Device>(line: u8) -> Result<(ConfigSpace, u8, Msix), ConfigError> {
    let kind = D::KIND;
    let (device, revision) = match kind.transitional {
        Some(number) => (number, 0),
        None => (MODERN_DEVICE + kind.id, 1),
    };
    let identity = Identity {
        vendor: VENDOR,
        device,
        class: kind.class,
        interface: 0,
        revision,
        subsystem_vendor: VENDOR,
        subsystem: kind.id,
    };
    let mut config = ConfigSpace::new(identity).with_interrupt(1, line);
    if kind.transitional.is_some() {
        let ports = u32::from(LEGACY_HEADER + LEGACY_VECTORS + D::CONFIG).next_power_of_two();
        config = config.with_bar(LEGACY_BAR.into(), Bar::Ports(ports))?;
    }
    config = config.with_bar(MODERN_BAR.into(), Bar::Memory(PART as u32 * PARTS))?;
    for part in [Part::Common, Part::Isr, Part::Device] {
        config.add_capability(VENDOR_SPECIFIC, &capability(16, part.kind(), part.start()), &[])?;
    }
    let mut notify = [0; 18];
    notify[..14].copy_from_slice(&capability(20, Part::Notify.kind(), Part::Notify.start()));
    notify[14..].copy_from_slice(&NOTIFY_STEP.to_le_bytes());
    config.add_capability(VENDOR_SPECIFIC, &notify, &[])?;
    let mut window = [0; 18];
    window[..2].copy_from_slice(&[20, WINDOW]);
    // BAR, offset, length and data are the driver's to write; number and padding are not.
    let mut writable = [0xff; 18];
    writable[..2].fill(0);
    writable[3..6].fill(0);
    let window = config.add_capability(VENDOR_SPECIFIC, &window, &writable)?;
    config.own(window + super::window::DATA);
    // A vector for each queue, and one for the configuration.
    let (config, msix) = Msix::new(config, MSIX_BAR, D::QUEUES.len() + 1)?;
    Ok((config, window, msix))
}

/// `struct virtio_pci_cap` without its first two bytes (4.1.4).
fn capability(len: u8, kind: u8, start: u32) -> [u8; 14] {
    let mut bytes = [0; 14];
    bytes[..3].copy_from_slice(&[len, kind, MODERN_BAR]);
    bytes[6..10].copy_from_slice(&start.to_le_bytes());
    bytes[10..].copy_from_slice(&(PART as u32).to_le_bytes());
    bytes
}
