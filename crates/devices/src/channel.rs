//! A guest's end of a channel, as a PCI function that Linux drives with `uio_pci_generic`: BAR 0 has the registers of events,
//! BAR 1 and those behind it are the dataports.
//!
//! | offset in BAR 0 | register | |
//! |---|---|---|
//! | 0 | emitted | reads how many events this end has emitted; a write of any value emits one more |
//! | 4 | received | reads how many the other end has emitted |
//! | 8 | taken | how many of those the guest has taken, by what it has last written |
//!
//! All are double words, count modulo 2^32 and go on through resets; the interrupt pin is active while `received` and `taken`
//! differ. After a reset the function's pin is off ("interrupt disable"), until software switches it on: nobody may be there to serve
//! it, and other functions share the input. A reset of the board takes all events that are pending. A vendor-specific capability (PCI Local Bus Specification
//! 2.3, appendix H) says what the function is for:
//!
//! | offset | what |
//! |---|---|
//! | 2 | bytes of the capability |
//! | 3 | version, 1 |
//! | 4 | number of dataports |
//! | 5 | the dataports that the guest may write, bit by bit |
//! | 6 | the channel's name, in ASCII, with a NUL at its end |
//!
//! Each dataport has a *home*, an address where the guest's memory has its pages, and where its BAR is after a reset. There the
//! guest reads and writes without an exit. Where software moves a BAR elsewhere, each access is copied here.

use channel::{Dataport, Events};
use heapless::Vec;
use layout::limits::{MAX_DATAPORTS, MAX_NAME};

use crate::{
    Effect, GuestMemory, Width,
    pci::{Bar, Command, ConfigError, ConfigSpace, Function, Identity},
    read_bytes,
};

/// "Available for experimental usage without registration" are the device numbers 0x10f0 to 0x10ff of this vendor (QEMU,
/// docs/specs/pci-ids).
const IDENTITY: Identity = Identity {
    vendor: 0x1af4,
    device: 0x10f0,
    class: 0x0880,
    interface: 0,
    revision: 1,
    subsystem_vendor: 0,
    subsystem: 0,
};
/// The vendor-specific capability, and the version of its contents.
const VENDOR_SPECIFIC: u8 = 0x09;
const VERSION: u8 = 1;
/// The registers of events have a page of their own, so that a program can map them.
const EVENTS: Bar = Bar::Memory(4096);
const EMITTED: u16 = 0;
const RECEIVED: u16 = 4;
const TAKEN: u16 = 8;
/// The command register, and the first base address register.
const COMMAND: u8 = 0x04;
const BARS: u8 = 0x10;

/// See the head of this file.
#[derive(Debug)]
pub struct Channel {
    config: ConfigSpace,
    events: Events,
    dataports: Vec<(Dataport, u64), MAX_DATAPORTS>,
    /// The other end has to be signalled.
    emitted: bool,
    /// A dataport that the guest has tried to write, and may not.
    refused: Option<u8>,
}

impl Channel {
    /// The function of the channel `name`, with its events and its dataports with their homes, below 4 GiB. It interrupts by
    /// INTA#, which firmware has routed to `line`.
    pub fn new(
        name: &str,
        events: Events,
        dataports: Vec<(Dataport, u64), MAX_DATAPORTS>,
        line: u8,
    ) -> Result<Self, ConfigError> {
        let mut config = ConfigSpace::new(IDENTITY).with_bar(0, EVENTS)?.with_interrupt(1, line);
        for (register, (dataport, _)) in (1..).zip(&dataports) {
            let size = u32::try_from(dataport.len()).map_err(|_| ConfigError::Size)?;
            config = config.with_bar(register, Bar::Memory(size))?;
        }
        let writable = (0..).zip(&dataports).filter(|(_, (dataport, _))| dataport.is_writable());
        let writable = writable.fold(0, |bits, (n, _)| bits | 1 << n);
        let mut body: Vec<u8, { 4 + MAX_NAME + 1 }> = Vec::new();
        // Bytes of the capability are two more than of the body.
        let len = 2 + 4 + name.len() as u8 + 1;
        let head = [len, VERSION, dataports.len() as u8, writable];
        let parts = [head.as_slice(), name.as_bytes(), &[0]];
        parts.into_iter().try_for_each(|part| body.extend_from_slice(part)).map_err(|_| ConfigError::Full)?;
        config.add_capability(VENDOR_SPECIFIC, &body, &[])?;
        let mut function = Self { config, events, dataports, emitted: false, refused: None };
        function.begin();
        Ok(function)
    }

    /// Follows the events of the other end.
    pub fn poll(&mut self) -> Effect {
        let pending = self.events.received() != self.events.taken();
        self.config.set_interrupt(pending);
        Effect::LINES
    }

    /// Whether the other end has to be signalled; the caller must do it then.
    pub const fn take_doorbell(&mut self) -> bool {
        core::mem::replace(&mut self.emitted, false)
    }

    /// The dataport that the guest has tried to write and may not, since the last call.
    pub const fn take_refused(&mut self) -> Option<u8> {
        self.refused.take()
    }

    /// After a reset of configuration space: BARs are at home, and the pin is off.
    fn begin(&mut self) {
        let _ = self.config.write(COMMAND, Width::Word, Command::INTX_DISABLE.bits().into());
        for (bar, &(_, home)) in (1..).zip(&self.dataports) {
            self.config.set(BARS + 4 * bar, home as u32);
        }
    }

    /// What the byte at `at` of BAR 0 reads.
    fn register(&self, at: u16) -> u8 {
        let value = match at & !3 {
            EMITTED => self.events.emitted(),
            RECEIVED => self.events.received(),
            TAKEN => self.events.taken(),
            _ => 0,
        };
        (value >> (at % 4 * 8)) as u8
    }

    fn write_register(&mut self, at: u64, width: Width, value: u64) -> Effect {
        // A driver writes double words; a part of one would be half an event.
        match (u16::try_from(at), width) {
            (Ok(EMITTED), Width::Dword) => {
                self.events.emit();
                self.emitted = true;
                Effect::OUTPUT
            }
            (Ok(TAKEN), Width::Dword) => {
                self.events.set_taken(value as u32);
                self.poll()
            }
            _ => Effect::QUIET,
        }
    }
}

impl Function for Channel {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn write_config(&mut self, register: u8, width: Width, value: u32, _memory: &impl GuestMemory) -> Effect {
        self.config.write(register, width, value)
    }

    fn read(&mut self, bar: u8, offset: u64, width: Width, _memory: &impl GuestMemory) -> (u64, Effect) {
        let Some(dataport) = bar.checked_sub(1) else {
            // BAR 0 has 4096 bytes.
            let (low, high) = (offset as u16, offset as u16 + 4);
            let half = |at, width| u64::from(read_bytes(at, width, |at| self.register(at)));
            let value = match width {
                Width::Qword => half(high, Width::Dword) << 32 | half(low, Width::Dword),
                width => half(low, width),
            };
            return (value, Effect::QUIET);
        };
        let mut bytes = [0; 8];
        let part = bytes.get_mut(..width.bytes()).unwrap_or_default();
        let read = self.dataports.get(usize::from(dataport)).map(|(dataport, _)| dataport.read(offset, part));
        match read {
            Some(Ok(())) => (u64::from_le_bytes(bytes), Effect::QUIET),
            _ => (width.mask(), Effect::QUIET),
        }
    }

    fn write(&mut self, bar: u8, offset: u64, width: Width, value: u64, _memory: &impl GuestMemory) -> Effect {
        let Some(number) = bar.checked_sub(1) else { return self.write_register(offset, width, value) };
        let Some((dataport, _)) = self.dataports.get(usize::from(number)) else { return Effect::QUIET };
        let bytes = value.to_le_bytes();
        if dataport.write(offset, bytes.get(..width.bytes()).unwrap_or_default()).is_ok() {
            return Effect::QUIET;
        }
        self.refused = Some(number);
        Effect::OUTPUT
    }

    fn reset(&mut self) {
        self.config.reset();
        self.begin();
        self.events.take();
        let _ = self.poll();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoMemory;
    use mmio::Window;
    use proptest::prelude::*;
    use std::{vec, vec::Vec as Bytes};

    const HOMES: [u64; 2] = [0x0800_0000, 0x0801_0000];

    fn memory(len: usize) -> Window {
        Window::leak(vec![0; len].leak())
    }

    /// The function, with a dataport of 4 KiB that it may write, one of 64 KiB that it may not, and the other end of both.
    fn both() -> (Channel, Events, [Dataport; 2]) {
        let (page, ports) = (memory(4096), [memory(4096), memory(0x1_0000)]);
        let own = [Dataport::new(ports[0], true), Dataport::new(ports[1], false)];
        let dataports = own.into_iter().zip(HOMES).collect();
        let function = Channel::new("strings", Events::new(page, true), dataports, 11).unwrap();
        (function, Events::new(page, false), ports.map(|port| Dataport::new(port, true)))
    }

    fn dword(function: &mut Channel, at: u64) -> u64 {
        Function::read(function, 0, at, Width::Dword, &NoMemory).0
    }

    #[test]
    fn the_capability_says_what_it_is() {
        let (function, ..) = both();
        let config = function.config();
        let at = config.read(0x34, Width::Byte) as u8;
        let bytes: Bytes<u8> = (0..14).map(|n| config.read(at + n, Width::Byte) as u8).collect();
        assert_eq!(bytes, b"\x09\0\x0e\x01\x02\x01strings\0");
    }

    #[test]
    fn a_write_emits_and_the_other_end_is_signalled_once() {
        let (mut function, mut other, _) = both();
        for _ in 0..2 {
            assert_eq!(Function::write(&mut function, 0, 0, Width::Dword, 7, &NoMemory), Effect::OUTPUT);
        }
        assert!(function.take_doorbell() && !function.take_doorbell());
        assert_eq!((other.take(), dword(&mut function, 0)), (2, 2));
        assert_eq!(Function::write(&mut function, 0, 0, Width::Byte, 1, &NoMemory), Effect::QUIET, "no event");
        assert_eq!(Function::read(&mut function, 0, 0, Width::Qword, &NoMemory).0, 2, "received is 0");
    }

    #[test]
    fn the_pin_is_active_until_all_events_are_taken() {
        let (mut function, mut other, _) = both();
        other.emit();
        assert!(!function.irq());
        assert_eq!(function.poll(), Effect::LINES);
        assert!(!function.irq(), "no driver has switched it on");
        assert_eq!(function.write_config(0x04, Width::Word, 2, &NoMemory), Effect::REGIONS | Effect::LINES);
        assert!(function.irq());
        other.emit();
        let _ = Function::write(&mut function, 0, 8, Width::Dword, 1, &NoMemory);
        assert!(function.irq(), "one is left");
        assert_eq!(dword(&mut function, 4), 2);
        let _ = Function::write(&mut function, 0, 8, Width::Dword, 2, &NoMemory);
        assert!(!function.irq());
    }

    #[test]
    fn accesses_elsewhere_than_at_home_are_copied() {
        let (mut function, _, others) = both();
        assert_eq!(
            Function::write(&mut function, 1, 4088, Width::Qword, 0x0807_0605_0403_0201, &NoMemory),
            Effect::QUIET
        );
        let mut bytes = [0; 8];
        others[0].read(4088, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
        others[1].write(0xfffe, &[0x34, 0x12]).unwrap();
        assert_eq!(Function::read(&mut function, 2, 0xfffe, Width::Word, &NoMemory).0, 0x1234);
    }

    #[test]
    fn a_dataport_that_only_the_other_end_writes_stays_as_it_is() {
        let (mut function, _, others) = both();
        assert_eq!(Function::write(&mut function, 2, 0, Width::Dword, 1, &NoMemory), Effect::OUTPUT);
        assert_eq!((function.take_refused(), function.take_refused()), (Some(1), None));
        let mut bytes = [9; 4];
        others[1].read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 4]);
    }

    #[test]
    fn a_reset_brings_bars_home_and_takes_what_is_pending() {
        let (mut function, mut other, _) = both();
        assert_eq!([1, 2].map(|bar| function.config().base(bar)), HOMES.map(Some));
        let _ = function.write_config(0x14, Width::Dword, 0xe000_0000, &NoMemory);
        let _ = function.write_config(0x04, Width::Word, 2, &NoMemory);
        assert_eq!(function.config().base(1), Some(0xe000_0000));
        other.emit();
        let _ = function.poll();
        function.reset();
        assert_eq!([1, 2].map(|bar| function.config().base(bar)), HOMES.map(Some));
        other.emit();
        let _ = function.poll();
        assert!(!function.irq() && function.config().base(0) == Some(0));
        assert_eq!((dword(&mut function, 4), dword(&mut function, 8)), (2, 1));
    }

    proptest! {
        /// No access fails, and whatever the guest does, a dataport that it may not write keeps its contents.
        #[test]
        fn any_accesses(accesses in prop::collection::vec((0..6u8, any::<u64>(), 0..4usize, any::<u64>(), any::<bool>()), 0..64)) {
            let (mut function, mut other, others) = both();
            for (bar, offset, width, value, write) in accesses {
                let width = [Width::Byte, Width::Word, Width::Dword, Width::Qword][width];
                let size = [4096, 4096, 0x1_0000].get(usize::from(bar)).copied().unwrap_or(4096);
                let offset = offset % (size - width.bytes() as u64 + 1);
                if write {
                    let _ = Function::write(&mut function, bar, offset, width, value, &NoMemory);
                    let _ = function.write_config(offset as u8 & !3, Width::Dword, value as u32, &NoMemory);
                } else {
                    let (value, _) = Function::read(&mut function, bar, offset, width, &NoMemory);
                    prop_assert_eq!(value & !width.mask(), 0);
                }
                other.emit();
            }
            let mut bytes = vec![1; 0x1_0000];
            others[1].read(0, &mut bytes).unwrap();
            prop_assert!(bytes.iter().all(|byte| *byte == 0));
        }
    }
}
