//! A function's message-signalled interrupts, MSI (PCI Local Bus Specification 3.0, section 6.8.1): the real capability, which
//! only this server writes, and the virtual one, which the owner sees.
//!
//! On the machine the function always sends the one message that irq-server has given: address and vector of the host. The
//! owner's address, data and enable bit never reach it; they only say how the owner's VMM delivers the interrupt: as the
//! message that the guest has written, or on the function's pin while the guest has MSI off. The owner sees one vector, no
//! mask and no pending bits, whatever the function has.

use layout::Bdf;
use proto::irq::MsiMessage;
use proto::pci::{Function, Width};

use crate::capabilities::MSI;
use crate::config_space::{ConfigSpace, half};

/// Message control, in the upper half of the first register: enable; vectors that software has enabled; 64-bit address; a
/// mask bit for each vector.
const ENABLE: u16 = 1 << 0;
const VECTORS: u16 = 0b111 << 4;
const WIDE: u16 = 1 << 7;
const MASKS: u16 = 1 << 8;

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Msi {
    /// Offset of the capability.
    at: u8,
    /// Real message control, without the bits that this server sets.
    control: u16,
    /// The host's message.
    host: MsiMessage,
    /// The owner has masked it.
    masked: bool,
    /// Virtual registers.
    enabled: bool,
    address: u64,
    data: u16,
}

impl Msi {
    /// Offset and real message control of a function's capability, if it has one that ends within its configuration space.
    pub fn find(space: &mut impl ConfigSpace, function: &Function) -> Option<(u8, u16)> {
        let at = function.capabilities.iter().find(|capability| capability.id == MSI)?.at;
        let control = half(space.read(function.address, at), 2);
        let length = 12 + if control & WIDE != 0 { 4 } else { 0 } + if control & MASKS != 0 { 8 } else { 0 };
        (usize::from(at) + length <= 256).then_some((at, control))
    }

    /// The capability at offset `at`, whose real message control is `control`; the function is to send `host`.
    pub fn new((at, control): (u8, u16), host: MsiMessage) -> Self {
        let control = control & !(ENABLE | VECTORS);
        Self { at, control, host, masked: false, enabled: false, address: 0, data: 0 }
    }

    /// Its offset.
    pub fn at(&self) -> u8 {
        self.at
    }

    fn is_wide(&self) -> bool {
        self.control & WIDE != 0
    }

    /// Offset in the capability of the message's data.
    fn data_at(&self) -> u8 {
        if self.is_wide() { 12 } else { 8 }
    }

    /// The real registers, from the second one on, and what this server has written there.
    fn real(&self) -> impl Iterator<Item = (u8, Width, u32)> {
        let data = self.data_at();
        let address = Some((4, Width::Dword, self.host.address));
        let upper = self.is_wide().then_some((8, Width::Dword, 0));
        let message = Some((data, Width::Word, self.host.data.into()));
        let mask = (self.control & MASKS != 0).then_some((data + 4, Width::Dword, self.masked.into()));
        [address, upper, message, mask]
            .into_iter()
            .flatten()
            .map(|(offset, width, value)| (self.at + offset, width, value))
    }

    /// The real enable bit: off if the message is masked, and there is no mask bit. The pin is off in any case.
    fn enable(&self) -> u16 {
        if self.masked && self.control & MASKS == 0 { 0 } else { ENABLE }
    }

    /// Masks the message from the next [`program`](Self::program) on.
    pub fn mask(&mut self, masked: bool) {
        self.masked = masked;
    }

    /// Writes the host's message into the function, and has it send that.
    pub fn program(&self, space: &mut impl ConfigSpace, at: Bdf) {
        // Off meanwhile: half a message would go elsewhere.
        space.write_part(at, self.at + 2, Width::Word, self.control.into());
        for (offset, width, value) in self.real() {
            space.write_part(at, offset, width, value);
        }
        space.write_part(at, self.at + 2, Width::Word, (self.control | self.enable()).into());
    }

    /// Whether the real registers are still as [`program`](Self::program) has left them.
    pub fn is_intact(&self, space: &mut impl ConfigSpace, at: Bdf) -> bool {
        half(space.read(at, self.at), 2) & (ENABLE | VECTORS) == self.enable()
            && self.real().all(|(offset, width, value)| space.read(at, offset) & width.mask() == value)
    }

    /// What the guest reads in the register `offset` bytes into the capability; of the first one, only the upper half counts.
    pub fn read(&self, offset: u8) -> u32 {
        match offset {
            0 => u32::from(self.control & WIDE | if self.enabled { ENABLE } else { 0 }) << 16,
            4 => self.address as u32,
            8 if self.is_wide() => (self.address >> 32) as u32,
            _ if offset == self.data_at() => self.data.into(),
            _ => 0,
        }
    }

    /// Takes the guest's write of the bytes in `lanes`.
    pub fn write(&mut self, offset: u8, lanes: u32, value: u32) {
        let merge = |old: u32| old & !lanes | value & lanes;
        match offset {
            0 => self.enabled = half(merge(self.read(0)), 2) & ENABLE != 0,
            // An address is a multiple of four.
            4 => self.address = self.address & !0xffff_ffff | u64::from(merge(self.address as u32) & !0b11),
            8 if self.is_wide() => {
                self.address = self.address & 0xffff_ffff | u64::from(merge((self.address >> 32) as u32)) << 32;
            }
            _ if offset == self.data_at() => self.data = merge(self.data.into()) as u16,
            _ => {}
        }
    }

    /// Resets the virtual registers.
    pub fn reset(&mut self) {
        (self.enabled, self.address, self.data) = (false, 0, 0);
    }
}
