//! PCI bus 0 as a guest sees it: configuration mechanism 1 and a table of functions.
//!
//! PCI Local Bus Specification 2.3, section 3.2.2.3.2 (ports 0xcf8 and 0xcfc); 82441FX (290549) for the host bridge.
//! Left out: bridges to further buses, mechanism 2, and the host bridge's memory controller registers (they read 0).
//! The one-byte port 0xcf9 in the middle is the board's reset register ([`crate::board::Port::ResetControl`]).

mod function;
#[cfg(test)]
mod tests;

use crate::{Device, Nanos, Width, read_bytes, write_bytes};
pub use function::{Function, Identity, Window, WindowError};
use heapless::Vec;

/// The functions a bus holds at most.
pub const FUNCTIONS: usize = 32;

/// The first of the eight ports.
pub const CONFIG_ADDRESS: u16 = 0xcf8;

/// CONFIG_ADDRESS: accesses to the data port become configuration cycles.
const ENABLE: u32 = 1 << 31;
/// CONFIG_ADDRESS: bits that hold what was written.
const ADDRESS_WRITABLE: u32 = 0x80ff_fffc;
/// Offset of CONFIG_DATA from CONFIG_ADDRESS.
const DATA: u16 = 4;

/// Where a function sits on bus 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Device number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

/// Why a function cannot be put on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlaceError {
    /// There is no such device or function number.
    Range,
    /// Another function is there.
    Taken,
    /// The table is full.
    Full,
}

/// The host bridge of the 440FX, as every PC emulator has it at 00:00.0.
pub fn host_bridge() -> Function {
    Function::new(Identity { vendor: 0x8086, device: 0x1237, class: 0x0600, interface: 0, revision: 0x02 })
}

/// The CONFIG_ADDRESS register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConfigAddress(u32);

impl ConfigAddress {
    /// The register with what software wrote; reserved bits read 0.
    pub const fn new(written: u32) -> Self {
        Self(written & ADDRESS_WRITABLE)
    }

    /// The register's value.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The bus it selects, unless configuration cycles are off.
    pub const fn bus(self) -> Option<u8> {
        if self.0 & ENABLE != 0 { Some((self.0 >> 16) as u8) } else { None }
    }

    /// The device and function it selects.
    pub const fn place(self) -> Place {
        Place { device: (self.0 >> 11 & 31) as u8, function: (self.0 >> 8 & 7) as u8 }
    }

    /// The first byte of the double word that it selects.
    pub const fn register(self) -> u8 {
        self.0 as u8
    }
}

/// A byte of configuration space that somebody else answers for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elsewhere {
    /// The number that the function was put on the bus with.
    pub number: u8,
    /// The byte.
    pub register: u8,
}

/// Bus 0 behind its configuration ports; as a device, its first port is [`CONFIG_ADDRESS`].
#[derive(Clone, Debug, Default)]
pub struct VirtualBus {
    address: ConfigAddress,
    functions: Vec<(Place, Function), FUNCTIONS>,
    /// By device number: its function 0 is served elsewhere.
    elsewhere: [Option<u8>; 32],
}

impl VirtualBus {
    /// A bus with nothing on it.
    pub const fn new() -> Self {
        Self { address: ConfigAddress(0), functions: Vec::new(), elsewhere: [None; 32] }
    }

    /// Puts a function on the bus.
    pub fn insert(&mut self, place: Place, function: Function) -> Result<(), PlaceError> {
        if place.device > 31 || place.function > 7 {
            return Err(PlaceError::Range);
        }
        if self.is_taken(place) {
            return Err(PlaceError::Taken);
        }
        self.functions.push((place, function)).map_err(|_| PlaceError::Full)
    }

    /// Puts a function on the bus, as function 0 of `device`, that somebody else serves and knows by `number`: whoever has
    /// the bus looks at [`elsewhere`](Self::elsewhere) first. As a device, the bus has nothing there.
    pub fn insert_elsewhere(&mut self, device: u8, number: u8) -> Result<(), PlaceError> {
        if self.is_taken(Place { device, function: 0 }) {
            return Err(PlaceError::Taken);
        }
        *self.elsewhere.get_mut(usize::from(device)).ok_or(PlaceError::Range)? = Some(number);
        Ok(())
    }

    /// What an access at `offset` is meant for, if somebody else serves that.
    pub fn elsewhere(&self, offset: u16) -> Option<Elsewhere> {
        let register = register(self.address, offset)?;
        let Place { device, function } = self.address.place();
        let number = (*self.elsewhere.get(usize::from(device))?)?;
        (self.address.bus() == Some(0) && function == 0).then_some(Elsewhere { number, register })
    }

    /// What a double word's access to the data port reads, if the function is here.
    #[inline(always)]
    pub fn data(&self) -> Option<u32> {
        if self.address.bus() != Some(0) {
            return None;
        }
        Some(self.function(self.address.place())?.read_double_word(self.address.register()))
    }

    /// Writes the address register.
    #[inline]
    pub fn set_address(&mut self, value: u32) {
        self.address = ConfigAddress::new(value);
    }

    fn is_taken(&self, place: Place) -> bool {
        let elsewhere = self.elsewhere.get(usize::from(place.device)).copied().flatten();
        self.function(place).is_some() || elsewhere.is_some() && place.function == 0
    }

    /// The function at `place`.
    pub fn function(&self, place: Place) -> Option<&Function> {
        self.functions.iter().find(|(at, _)| *at == place).map(|(_, function)| function)
    }

    /// The function at `place`, to be changed.
    pub fn function_mut(&mut self, place: Place) -> Option<&mut Function> {
        self.functions.iter_mut().find(|(at, _)| *at == place).map(|(_, function)| function)
    }

    /// The CONFIG_ADDRESS register.
    pub const fn address(&self) -> ConfigAddress {
        self.address
    }

    /// The function that the address register selects.
    fn selected(&mut self) -> Option<&mut Function> {
        self.address.bus().filter(|&bus| bus == 0)?;
        self.function_mut(self.address.place())
    }
}

/// The byte of configuration space behind `offset`, if that is one of CONFIG_DATA's ports.
const fn register(address: ConfigAddress, offset: u16) -> Option<u8> {
    if offset >= DATA && offset < 2 * DATA { Some(address.register() | (offset - DATA) as u8) } else { None }
}

impl Device for VirtualBus {
    fn read(&mut self, offset: u16, width: Width, _now: Nanos) -> u32 {
        if (offset, width) == (0, Width::Dword) {
            return self.address.value();
        }
        let address = self.address;
        let Some(function) = self.selected() else {
            return width.mask32();
        };
        read_bytes(offset, width, |offset| register(address, offset).map_or(0xff, |at| function.read(at)))
    }

    /// Only a double word reaches CONFIG_ADDRESS; anything smaller passes it by.
    fn write(&mut self, offset: u16, width: Width, value: u32, _now: Nanos) {
        if (offset, width) == (0, Width::Dword) {
            return self.set_address(value);
        }
        let address = self.address;
        let Some(function) = self.selected() else {
            return;
        };
        write_bytes(offset, width, value, |offset, value| {
            if let Some(at) = register(address, offset) {
                function.write(at, value);
            }
        });
    }
}
