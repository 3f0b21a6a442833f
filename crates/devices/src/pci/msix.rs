//! Message-signalled interrupts, by a table of the function's (MSI-X).
//!
//! PCI Local Bus Specification 3.0, section 6.8.2; what a message means to the processor: Intel SDM volume 3, "Message
//! Signalled Interrupts". Left out: MSI without X, and messages to anything but the processor, which would be writes to memory.

use heapless::Vec;

use super::{Bar, Command, ConfigError, ConfigSpace};
use crate::Width;

/// The most vectors of a function.
pub const MAX_VECTORS: usize = 16;
/// The table's BAR: a page, with the pending bits in its upper half, which a driver may map by itself.
const SIZE: u32 = 4096;
const PENDING: u64 = 2048;
const ENTRY: u64 = 16;

const CAPABILITY: u8 = 0x11;
/// Message control, with the capability's second word: enabled, and all vectors masked.
const ENABLE: u32 = 1 << 31;
const MASK_ALL: u32 = 1 << 30;
/// Vector control: this vector is masked.
const MASKED: u32 = 1;

/// An interrupt for the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message(u8);

impl Message {
    /// What a write of `data` at `address` means, if it is an interrupt of a vector for the only processor: others' would go
    /// elsewhere, and modes without a vector (NMI, SMI, INIT) are left out.
    pub const fn of(address: u64, data: u32) -> Option<Self> {
        const PREFIX: u64 = 0xfee;
        const DELIVERY: u32 = 0b111;
        let lowest_or_fixed = data >> 8 & DELIVERY < 2;
        if address >> 20 == PREFIX && lowest_or_fixed { Some(Self(data as u8)) } else { None }
    }

    /// Its vector.
    pub const fn vector(self) -> u8 {
        self.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    data: u32,
    control: u32,
}

/// As after a reset: masked.
const BLANK: Entry = Entry { address: 0, data: 0, control: MASKED };

/// A function's table, and where its capability is.
#[derive(Clone, Debug)]
pub struct Msix {
    capability: u8,
    entries: Vec<Entry, MAX_VECTORS>,
    /// Raised and not sent, as they are masked; and sent, but not taken by the owner. Vector by vector of the table.
    pending: u16,
    due: u16,
}

impl Msix {
    /// A table of so many vectors, at most [`MAX_VECTORS`], in base address register `bar` of this configuration space.
    pub fn new(config: ConfigSpace, bar: u8, vectors: usize) -> Result<(ConfigSpace, Self), ConfigError> {
        let vectors = vectors.clamp(1, MAX_VECTORS);
        let mut config = config.with_bar(bar.into(), Bar::Memory(SIZE))?;
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(vectors as u16 - 1).to_le_bytes());
        body[2..6].copy_from_slice(&u32::from(bar).to_le_bytes());
        body[6..].copy_from_slice(&(PENDING as u32 | u32::from(bar)).to_le_bytes());
        let capability = config.add_capability(CAPABILITY, &body, &[0, 0xc0])?;
        let entries = core::iter::repeat_n(BLANK, vectors).collect();
        Ok((config, Self { capability, entries, pending: 0, due: 0 }))
    }

    /// Whether the driver has switched it on: then the function does not use its pin.
    pub const fn is_on(&self, config: &ConfigSpace) -> bool {
        self.control(config) & ENABLE != 0
    }

    const fn control(&self, config: &ConfigSpace) -> u32 {
        match config.quiet(self.capability) {
            Some(word) => word,
            None => 0,
        }
    }

    /// How many vectors there are.
    pub fn vectors(&self) -> u16 {
        self.entries.len() as u16
    }

    /// Raises the interrupt of a vector of the table; it waits while it is masked.
    pub fn raise(&mut self, vector: u16) {
        if vector < self.vectors() {
            self.pending |= 1 << vector;
        }
    }

    /// Moves what is pending and not masked to what is due, if the function may write to memory, which a message is. Returns
    /// whether something is due.
    pub fn settle(&mut self, config: &ConfigSpace) -> bool {
        let may_send = || {
            let is_open = self.control(config) & (ENABLE | MASK_ALL) == ENABLE;
            is_open && config.command().contains(Command::BUS_MASTER)
        };
        if self.pending != 0 && may_send() {
            let open = (0..).zip(&self.entries).filter(|(_, entry)| entry.control & MASKED == 0);
            let sent = self.pending & open.fold(0, |bits, (n, _)| bits | 1 << n);
            self.pending &= !sent;
            self.due |= sent;
        }
        self.due != 0
    }

    /// Takes a message that is due.
    pub fn take(&mut self) -> Option<Message> {
        loop {
            let n = self.due.trailing_zeros();
            let entry = self.entries.get(n as usize)?;
            self.due &= self.due - 1;
            if let Some(message) = Message::of(entry.address, entry.data) {
                return Some(message);
            }
        }
    }

    /// What a read at `offset` of the table's BAR gives.
    pub fn read(&self, offset: u64, width: Width) -> u64 {
        let byte = |at: u64| -> u64 {
            let word = self.word(at & !3);
            (word >> (at % 4 * 8) & 0xff).into()
        };
        (0..width.bytes() as u64).fold(0, |value, n| value | byte(offset.saturating_add(n)) << (8 * n))
    }

    fn word(&self, at: u64) -> u32 {
        if at == PENDING {
            return self.pending.into();
        }
        let Some(entry) = self.entries.get((at / ENTRY) as usize) else { return 0 };
        match at % ENTRY {
            0 => entry.address as u32,
            4 => (entry.address >> 32) as u32,
            8 => entry.data,
            _ => entry.control,
        }
    }

    /// Takes a write there: of double words and quad words, aligned, as the specification asks for; others are ignored.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) {
        match width {
            Width::Dword if offset.is_multiple_of(4) => self.set(offset, value as u32),
            Width::Qword if offset.is_multiple_of(8) => {
                self.set(offset, value as u32);
                self.set(offset + 4, (value >> 32) as u32);
            }
            _ => {}
        }
    }

    fn set(&mut self, at: u64, value: u32) {
        let Some(entry) = self.entries.get_mut((at / ENTRY) as usize) else { return };
        match at % ENTRY {
            0 => entry.address = entry.address & !0xffff_ffff | u64::from(value & !3),
            4 => entry.address = entry.address & 0xffff_ffff | u64::from(value) << 32,
            8 => entry.data = value,
            _ => entry.control = value & MASKED,
        }
    }

    /// As after power-on.
    pub fn reset(&mut self) {
        self.entries.fill(BLANK);
        self.forget();
    }

    /// The driver has reset the device: what it has raised is not pending any more.
    pub const fn forget(&mut self) {
        (self.pending, self.due) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pci::Identity;
    use std::vec::Vec as Taken;

    /// A function with three vectors, and its table's capability.
    fn function() -> (ConfigSpace, Msix, u8) {
        let (mut config, msix) = Msix::new(ConfigSpace::new(Identity::default()), 1, 3).unwrap();
        let _ = config.write(0x04, Width::Word, 4);
        let at = config.read(0x34, Width::Byte) as u8;
        (config, msix, at)
    }

    fn switch(config: &mut ConfigSpace, at: u8, control: u32) {
        let _ = config.write(at + 2, Width::Word, control);
    }

    fn aim(msix: &mut Msix, entry: u64, data: u32) {
        msix.write(16 * entry, Width::Dword, 0xfee0_0000);
        msix.write(16 * entry + 4, Width::Dword, 0);
        msix.write(16 * entry + 8, Width::Dword, data.into());
        msix.write(16 * entry + 12, Width::Dword, 0);
    }

    fn taken(msix: &mut Msix, config: &ConfigSpace) -> Taken<u8> {
        msix.settle(config);
        core::iter::from_fn(|| msix.take()).map(Message::vector).collect()
    }

    #[test]
    fn the_capability_says_where_the_table_is() {
        let (config, msix, at) = function();
        assert_eq!(config.read(at, Width::Dword), 0x0002_0011);
        assert_eq!([4, 8].map(|more| config.read(at + more, Width::Dword)), [1, 0x801]);
        assert!(!msix.is_on(&config) && msix.read(12, Width::Dword) == 1);
    }

    #[test]
    fn a_message_has_the_vector_of_its_entry() {
        let (mut config, mut msix, at) = function();
        aim(&mut msix, 0, 0x41);
        aim(&mut msix, 2, 0x51);
        switch(&mut config, at, 0x8000);
        assert!(msix.is_on(&config));
        msix.raise(2);
        msix.raise(0);
        msix.raise(0);
        msix.raise(3);
        assert_eq!(taken(&mut msix, &config), [0x41, 0x51]);
        assert_eq!(taken(&mut msix, &config), []);
    }

    #[test]
    fn what_is_masked_is_pending_until_it_is_not() {
        let (mut config, mut msix, at) = function();
        aim(&mut msix, 1, 0x61);
        switch(&mut config, at, 0xc000);
        msix.raise(1);
        assert_eq!((taken(&mut msix, &config), msix.read(2048, Width::Qword)), (Taken::new(), 2));
        switch(&mut config, at, 0x8000);
        msix.write(28, Width::Dword, 1);
        assert_eq!((taken(&mut msix, &config), msix.read(2048, Width::Dword)), (Taken::new(), 2));
        msix.write(28, Width::Dword, 0);
        assert_eq!((taken(&mut msix, &config), msix.read(2048, Width::Dword)), (Taken::from([0x61]), 0));
    }

    #[test]
    fn without_bus_mastering_a_message_waits() {
        let (mut config, mut msix, at) = function();
        aim(&mut msix, 1, 0x61);
        switch(&mut config, at, 0x8000);
        let _ = config.write(0x04, Width::Word, 0);
        msix.raise(1);
        assert_eq!((taken(&mut msix, &config), msix.read(2048, Width::Dword)), (Taken::new(), 2));
        let _ = config.write(0x04, Width::Word, 4);
        assert_eq!(taken(&mut msix, &config), [0x61]);
    }

    #[test]
    fn messages_to_memory_and_of_other_kinds_are_none() {
        let (mut config, mut msix, at) = function();
        switch(&mut config, at, 0x8000);
        for (address, data) in [(0x0010_0000, 0x41), (0x1_fee0_0000, 0x41), (0xfee0_0000, 0x441), (0xfed0_0000, 0x41)] {
            aim(&mut msix, 0, data);
            msix.write(0, Width::Qword, address);
            msix.raise(0);
            assert_eq!(taken(&mut msix, &config), [], "{address:#x} {data:#x}");
        }
    }

    #[test]
    fn accesses_of_odd_widths_and_places_change_nothing() {
        let (_, mut msix, _) = function();
        aim(&mut msix, 0, 0x41);
        for (offset, width) in
            [(1, Width::Dword), (4, Width::Byte), (8, Width::Word), (12, Width::Qword), (48, Width::Dword)]
        {
            msix.write(offset, width, u64::MAX);
        }
        assert_eq!([0, 4, 8, 12].map(|at| msix.read(at, Width::Dword)), [0xfee0_0000, 0, 0x41, 0]);
        assert_eq!(
            (msix.read(9, Width::Byte), msix.read(4088, Width::Qword), msix.read(u64::MAX, Width::Qword)),
            (0, 0, 0)
        );
        msix.reset();
        assert_eq!((msix.read(0, Width::Dword), msix.read(12, Width::Dword)), (0, 1));
    }
}
