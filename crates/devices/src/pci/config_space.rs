//! One PCI function's configuration space: its bytes, and which bits of them software can change.
//!
//! PCI Local Bus Specification 2.3, section 6.1 (header type 0), 6.2.3 (status), 6.2.5.1 (base address registers) and 6.7
//! (capabilities list). Left out: the expansion ROM, the latency timer and the built-in self test.

use super::bar::{Bar, Region, Space};
use crate::{Effect, Width};
use bitflags::bitflags;

/// The identification of a function, by which drivers find it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// Vendor number.
    pub vendor: u16,
    /// Device number, of the vendor's choice.
    pub device: u16,
    /// Base class (high byte) and subclass.
    pub class: u16,
    /// Programming interface within the class.
    pub interface: u8,
    /// Revision, of the vendor's choice.
    pub revision: u8,
    /// Subsystem vendor: that of the board that the function is on; 0 if unknown.
    pub subsystem_vendor: u16,
    /// That vendor's number of the board.
    pub subsystem: u16,
}

/// Why a configuration space cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// The header has base address registers 0 to 5, each for one BAR; a [`Bar::Memory64`] takes two.
    Register,
    /// The size is not a power of two in the BAR's range.
    Size,
    /// No room is left for another capability.
    Full,
}

bitflags! {
    /// The command register.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Command: u16 {
        /// Answers at its I/O BARs.
        const PORTS = 1 << 0;
        /// Answers at its memory BARs.
        const MEMORY = 1 << 1;
        /// May access memory.
        const BUS_MASTER = 1 << 2;
        /// Reacts to parity errors.
        const PARITY = 1 << 6;
        /// May report system errors.
        const SERR = 1 << 8;
        /// Keeps its INTx pin low.
        const INTX_DISABLE = 1 << 10;
    }
}

/// Base address registers of a header.
pub const BARS: usize = 6;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const HEADER_TYPE: usize = 0x0e;
const FIRST_BAR: usize = 0x10;
const SUBSYSTEM: usize = 0x2c;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const INTERRUPT_PIN: usize = 0x3d;
const HEADER: usize = 0x40;

/// Header type: the device has more functions than this one.
const MULTI_FUNCTION: u8 = 1 << 7;
/// Status: an interrupt is pending in the function; there is a capabilities list.
const STATUS_INTERRUPT: u8 = 1 << 3;
const STATUS_CAPABILITIES: u8 = 1 << 4;
/// The status bits that report errors and clear when written as 1, of the register's high byte.
const STATUS_CLEARABLE: u8 = 0xf9;

/// The configuration space of one function, with its write masks.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: [u8; 256],
    writable: [u8; 256],
    bars: [Option<Bar>; BARS],
    /// What the interrupt line register says after a reset.
    line: u8,
    /// The register that has the offset of the next capability to come, and that offset.
    tail: usize,
    free: usize,
    /// Double words whose reads the function answers itself, bit by bit.
    own: u64,
}

impl ConfigSpace {
    /// A type 0 header, with no BARs and no interrupt.
    pub fn new(identity: Identity) -> Self {
        let mut config = Self {
            bytes: [0; 256],
            writable: [0; 256],
            bars: [None; BARS],
            line: 0,
            tail: CAPABILITIES,
            free: HEADER,
            own: 0,
        };
        config.put(0x00, &identity.vendor.to_le_bytes());
        config.put(0x02, &identity.device.to_le_bytes());
        config.put(0x08, &[identity.revision, identity.interface]);
        config.put(0x0a, &identity.class.to_le_bytes());
        config.put(SUBSYSTEM, &identity.subsystem_vendor.to_le_bytes());
        config.put(SUBSYSTEM + 2, &identity.subsystem.to_le_bytes());
        config.writable[COMMAND..COMMAND + 2].copy_from_slice(&Command::all().bits().to_le_bytes());
        config.writable[INTERRUPT_LINE] = 0xff;
        config
    }

    /// Gives it base address register `register` (0 to 5) for `bar`, which is nowhere yet.
    pub fn with_bar(mut self, register: usize, bar: Bar) -> Result<Self, ConfigError> {
        let end = register.saturating_add(bar.registers());
        let of = |(at, bar): (usize, &Option<Bar>)| at..at + bar.map_or(0, Bar::registers);
        if end > BARS || self.bars.iter().enumerate().any(|bar| of(bar).any(|taken| (register..end).contains(&taken))) {
            return Err(ConfigError::Register);
        }
        if !bar.is_valid() {
            return Err(ConfigError::Size);
        }
        self.bars[register] = Some(bar);
        let (at, len) = (FIRST_BAR + 4 * register, 4 * bar.registers());
        self.put(at, &bar.kind().to_le_bytes());
        self.writable[at..at + len].copy_from_slice(&bar.mask().to_le_bytes()[..len]);
        Ok(self)
    }

    /// Lets it interrupt by `pin` (1 is INTA#), which firmware has routed to `line`.
    #[must_use]
    pub const fn with_interrupt(mut self, pin: u8, line: u8) -> Self {
        self.bytes[INTERRUPT_PIN] = pin;
        self.bytes[INTERRUPT_LINE] = line;
        self.line = line;
        self
    }

    /// Has function 0 announce that its device has others.
    #[must_use]
    pub const fn with_multi_function(mut self) -> Self {
        self.bytes[HEADER_TYPE] |= MULTI_FUNCTION;
        self
    }

    /// Whether it does.
    pub const fn is_multi_function(&self) -> bool {
        self.bytes[HEADER_TYPE] & MULTI_FUNCTION != 0
    }

    /// Appends a capability to the list and returns its offset. `body` is what follows the identifier and the offset of the
    /// next one; `writable` has the bits of it that software changes, and may be shorter.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> Result<u8, ConfigError> {
        let (at, end) = (self.free, self.free + 2 + body.len());
        let Ok(offset) = u8::try_from(at) else { return Err(ConfigError::Full) };
        if end > self.bytes.len() || writable.len() > body.len() {
            return Err(ConfigError::Full);
        }
        self.bytes[self.tail] = offset;
        self.put(at, &[id, 0]);
        self.put(at + 2, body);
        self.writable[at + 2..at + 2 + writable.len()].copy_from_slice(writable);
        self.bytes[STATUS] |= STATUS_CAPABILITIES;
        self.tail = at + 1;
        self.free = end.next_multiple_of(4);
        Ok(offset)
    }

    /// Has the function answer reads of the double word with `register` itself: [`quiet`](Self::quiet) does not.
    pub const fn own(&mut self, register: u8) {
        self.own |= 1 << (register / 4);
    }

    /// As after power-on: what software has written is gone, and so is an interrupt.
    pub fn reset(&mut self) {
        for (byte, writable) in self.bytes.iter_mut().zip(&self.writable) {
            *byte &= !writable;
        }
        self.bytes[STATUS] &= !STATUS_INTERRUPT;
        self.bytes[STATUS + 1] &= !STATUS_CLEARABLE;
        self.bytes[INTERRUPT_LINE] = self.line;
    }

    /// The command register: what software has switched on.
    pub const fn command(&self) -> Command {
        Command::from_bits_truncate(u16::from_le_bytes([self.bytes[COMMAND], self.bytes[COMMAND + 1]]))
    }

    /// Switches bus mastering on without software having asked for it.
    pub const fn force_bus_master(&mut self) {
        self.bytes[COMMAND] |= Command::BUS_MASTER.bits() as u8;
    }

    /// The BAR that begins at `register`.
    pub fn bar(&self, register: usize) -> Option<Bar> {
        *self.bars.get(register)?
    }

    /// The address in base address register `register`; `None` if no BAR begins there.
    pub fn base(&self, register: usize) -> Option<u64> {
        let bar = self.bar(register)?;
        let at = FIRST_BAR + 4 * register;
        let low = u64::from(self.read(at as u8, Width::Dword));
        let high = if bar.registers() == 2 { self.read(at as u8 + 4, Width::Dword).into() } else { 0 };
        Some((high << 32 | low) & bar.mask())
    }

    /// The region of the BAR at `register`, if it is enabled: its decoding is on in the command register, and software
    /// has given it an address other than 0.
    pub fn region(&self, register: usize) -> Option<Region> {
        let (bar, first) = (self.bar(register)?, self.base(register)?);
        let space = bar.space();
        (self.decodes(space) && first != 0).then(|| Region { space, first, last: first + (bar.size() - 1) })
    }

    const fn decodes(&self, space: Space) -> bool {
        self.command().contains(match space {
            Space::Ports => Command::PORTS,
            Space::Memory => Command::MEMORY,
        })
    }

    /// What an access at `register` reads. Beyond the end there are ones.
    pub fn read(&self, register: u8, width: Width) -> u32 {
        crate::read_bytes(register.into(), width, |at| self.bytes.get(usize::from(at)).copied().unwrap_or(0xff))
    }

    /// The double word that has `register`, unless the function answers reads of it itself.
    #[inline]
    pub const fn quiet(&self, register: u8) -> Option<u32> {
        let (words, _) = self.bytes.as_chunks();
        let word = register as usize / 4;
        if self.own >> word & 1 == 0 { Some(u32::from_le_bytes(words[word])) } else { None }
    }

    /// Writes as software may: read-only bits stay, and error bits clear where they are written as 1.
    pub fn write(&mut self, register: u8, width: Width, value: u32) -> Effect {
        let mut effect = Effect::QUIET;
        crate::write_bytes(register.into(), width, value, |at, value| effect |= self.write_byte(at.into(), value));
        effect
    }

    fn write_byte(&mut self, at: usize, value: u8) -> Effect {
        let Some((byte, &writable)) = self.bytes.get_mut(at).zip(self.writable.get(at)) else { return Effect::QUIET };
        let clearable = if at == STATUS + 1 { STATUS_CLEARABLE } else { 0 };
        let before = *byte;
        *byte = before & !writable & !(value & clearable) | value & writable;
        let changed = u16::from(before ^ *byte);
        match at {
            COMMAND => Effect::REGIONS.when(changed & (Command::PORTS | Command::MEMORY).bits() != 0),
            at if at == COMMAND + 1 => Effect::LINES.when(changed << 8 & Command::INTX_DISABLE.bits() != 0),
            FIRST_BAR..SUBSYSTEM => Effect::REGIONS.when(changed != 0 && self.decodes_any()),
            _ => Effect::QUIET,
        }
    }

    fn decodes_any(&self) -> bool {
        self.decodes(Space::Ports) || self.decodes(Space::Memory)
    }

    /// Changes what software reads at `register`, whatever the write masks say.
    pub fn set(&mut self, register: u8, value: u32) {
        let at = usize::from(register & !3);
        self.put(at, &value.to_le_bytes());
    }

    /// Has an interrupt pending in the function, or none. The status register says so; the pin follows unless software has
    /// disabled it.
    pub const fn set_interrupt(&mut self, pending: bool) {
        let rest = self.bytes[STATUS] & !STATUS_INTERRUPT;
        self.bytes[STATUS] = if pending { rest | STATUS_INTERRUPT } else { rest };
    }

    /// The level of its INTx pin.
    pub const fn intx(&self) -> bool {
        let pending = self.bytes[STATUS] & STATUS_INTERRUPT != 0 && self.bytes[INTERRUPT_PIN] != 0;
        pending && !self.command().contains(Command::INTX_DISABLE)
    }

    /// Reports errors in the status register, as the device does; other bits are not touched.
    pub fn report(&mut self, errors: u16) {
        let [_, errors] = errors.to_le_bytes();
        self.bytes[STATUS + 1] |= errors & STATUS_CLEARABLE;
    }

    /// All callers' offsets are constants of the header, or checked by `add_capability`.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}
