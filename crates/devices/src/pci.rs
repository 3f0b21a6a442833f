//! PCI bus 0 as a guest sees it: configuration mechanism 1 and a table of functions.
//!
//! PCI Local Bus Specification 2.3, section 3.2.2.3.2 (ports 0xcf8 and 0xcfc); 82441FX (290549) for the host bridge.
//! Left out: bridges to further buses, mechanism 2, and the host bridge's memory controller registers (they read 0).
//! The one-byte port 0xcf9 in the middle is the board's reset register ([`crate::reset_ports::Port::ResetControl`]).

mod bar;
mod config_space;
mod function;
pub mod msix;
mod regions;
#[cfg(test)]
mod tests;

use crate::{Effect, GuestMemory, Width, read_bytes, write_bytes};
pub use bar::{Bar, Region, Space};
pub use config_space::{BARS, Command, ConfigError, ConfigSpace, Identity};
pub use function::Function;
use heapless::Vec;
pub use regions::{Hit, REGIONS, Range, Regions};

/// The default capacity of a bus, in functions.
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
pub struct DevFn {
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
    /// Another function is there, or the whole device is passed through.
    Taken,
    /// The device has no function 0 whose header says that there are more. Software would not look for them.
    NoFunction0,
    /// The table is full.
    Full,
}

/// The host bridge of the 440FX, which PC emulators have at 00:00.0.
pub fn host_bridge() -> ConfigSpace {
    ConfigSpace::new(Identity { vendor: 0x8086, device: 0x1237, class: 0x0600, revision: 0x02, ..Identity::default() })
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
    pub const fn place(self) -> DevFn {
        DevFn { device: (self.0 >> 11 & 31) as u8, function: (self.0 >> 8 & 7) as u8 }
    }

    /// The first byte of the double word that it selects.
    pub const fn register(self) -> u8 {
        self.0 as u8
    }
}

/// A byte of configuration space that another server answers: that of a passed-through function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elsewhere {
    /// The number under which the function was put on the bus.
    pub number: u8,
    /// The byte.
    pub register: u8,
}

/// Bits of CONFIG_ADDRESS that select a byte of configuration space.
const REGISTER_BITS: u32 = 8;

/// CONFIG_ADDRESS without the register, when it selects a function of bus 0.
const fn selector(place: DevFn) -> u32 {
    ENABLE >> REGISTER_BITS | (place.device as u32) << 3 | place.function as u32
}

/// Bus 0 behind its configuration ports, the first of which is [`CONFIG_ADDRESS`], with up to `N` functions.
#[derive(Clone, Debug)]
pub struct VirtualBus<F, const N: usize = FUNCTIONS> {
    address: ConfigAddress,
    /// By CONFIG_ADDRESS without the register, which makes a comparison of one word of the bus, the place and the enable bit.
    functions: Vec<(u32, F), N>,
    /// By device number: the number of its function 0, if that is served elsewhere.
    elsewhere: [Option<u8>; 32],
}

impl<F: Function, const N: usize> Default for VirtualBus<F, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Function, const N: usize> VirtualBus<F, N> {
    /// A bus with nothing on it.
    pub const fn new() -> Self {
        Self { address: ConfigAddress(0), functions: Vec::new(), elsewhere: [None; 32] }
    }

    /// Puts a function on the bus, function 0 of a device before its others, which its header has to announce
    /// ([`ConfigSpace::with_multi_function`]).
    pub fn insert(&mut self, place: DevFn, function: F) -> Result<(), PlaceError> {
        let DevFn { device, function: number } = place;
        if device > 31 || number > 7 {
            return Err(PlaceError::Range);
        }
        if self.is_taken(place) {
            return Err(PlaceError::Taken);
        }
        let announced = |first: &F| first.config().is_multi_function();
        if number != 0 && !self.function(DevFn { device, function: 0 }).is_some_and(announced) {
            return Err(PlaceError::NoFunction0);
        }
        self.functions.push((selector(place), function)).map_err(|_| PlaceError::Full)
    }

    /// Puts a function on the bus, as the only function of `device`, that another server answers for and knows by
    /// `number`. The owner of the bus has to ask [`elsewhere`](Self::elsewhere) before each access; to the bus itself
    /// the place is empty.
    pub fn insert_elsewhere(&mut self, device: u8, number: u8) -> Result<(), PlaceError> {
        if self.is_taken(DevFn { device, function: 0 }) {
            return Err(PlaceError::Taken);
        }
        *self.elsewhere.get_mut(usize::from(device)).ok_or(PlaceError::Range)? = Some(number);
        Ok(())
    }

    /// The function and byte that an access at `offset` selects, if the function is served elsewhere.
    pub fn elsewhere(&self, offset: u16) -> Option<Elsewhere> {
        let register = register(self.address, offset)?;
        let DevFn { device, function } = self.address.place();
        let number = (*self.elsewhere.get(usize::from(device))?)?;
        (self.address.bus() == Some(0) && function == 0).then_some(Elsewhere { number, register })
    }

    /// Fast path for reads: the double word that the data port reads, if the function is on this bus and the read has
    /// no side effect.
    #[inline(always)]
    pub fn data(&self) -> Option<u32> {
        self.find(self.address.0 >> REGISTER_BITS)?.config().quiet(self.address.register())
    }

    /// Writes the address register.
    #[inline]
    pub fn set_address(&mut self, value: u32) {
        self.address = ConfigAddress::new(value);
    }

    fn is_taken(&self, place: DevFn) -> bool {
        let elsewhere = self.elsewhere.get(usize::from(place.device)).copied().flatten();
        self.function(place).is_some() || elsewhere.is_some()
    }

    /// The function at `place`.
    pub fn function(&self, place: DevFn) -> Option<&F> {
        self.find(selector(place))
    }

    #[inline(always)]
    fn find(&self, selector: u32) -> Option<&F> {
        self.functions.iter().find(|(at, _)| *at == selector).map(|(_, function)| function)
    }

    /// The function at `place`, to be changed.
    pub fn function_mut(&mut self, place: DevFn) -> Option<&mut F> {
        self.functions.iter_mut().find(|(at, _)| *at == selector(place)).map(|(_, function)| function)
    }

    /// All functions with their numbers, as a [`Hit`] has them.
    pub fn functions(&self) -> impl Iterator<Item = (u8, &F)> {
        (0..).zip(self.functions.iter().map(|(_, function)| function))
    }

    /// All functions with their numbers, to be changed.
    pub fn functions_mut(&mut self) -> impl Iterator<Item = (u8, &mut F)> {
        (0..).zip(self.functions.iter_mut().map(|(_, function)| function))
    }

    /// The CONFIG_ADDRESS register.
    pub const fn address(&self) -> ConfigAddress {
        self.address
    }

    /// The function that the address register selects.
    fn selected(&mut self) -> Option<&mut F> {
        self.address.bus().filter(|&bus| bus == 0)?;
        self.function_mut(self.address.place())
    }

    /// Makes an IN of `width`, `offset` ports behind [`CONFIG_ADDRESS`].
    pub fn read(&mut self, offset: u16, width: Width, memory: &impl GuestMemory) -> (u32, Effect) {
        if (offset, width) == (0, Width::Dword) {
            return (self.address.value(), Effect::QUIET);
        }
        let mut effect = Effect::QUIET;
        let mut part = |offset, width| {
            let (value, more) = self.read_data(offset, width, memory);
            effect |= more;
            value
        };
        let value = match is_within_data(offset, width) {
            true => part(offset, width),
            false => read_bytes(offset, width, |offset| part(offset, Width::Byte) as u8),
        };
        (value & width.mask32(), effect)
    }

    fn read_data(&mut self, offset: u16, width: Width, memory: &impl GuestMemory) -> (u32, Effect) {
        match register(self.address, offset).zip(self.selected()) {
            Some((at, function)) => function.read_config(at, width, memory),
            None => (width.mask32(), Effect::QUIET),
        }
    }

    /// Makes an OUT of `width` there. CONFIG_ADDRESS takes double words only and ignores narrower writes.
    pub fn write(&mut self, offset: u16, width: Width, value: u32, memory: &impl GuestMemory) -> Effect {
        if (offset, width) == (0, Width::Dword) {
            self.set_address(value);
            return Effect::QUIET;
        }
        if is_within_data(offset, width) {
            return self.write_data(offset, width, value, memory);
        }
        let mut effect = Effect::QUIET;
        write_bytes(offset, width, value, |offset, byte| {
            effect |= self.write_data(offset, Width::Byte, byte.into(), memory);
        });
        effect
    }

    fn write_data(&mut self, offset: u16, width: Width, value: u32, memory: &impl GuestMemory) -> Effect {
        match register(self.address, offset).zip(self.selected()) {
            Some((at, function)) => function.write_config(at, width, value, memory),
            None => Effect::QUIET,
        }
    }

    /// Reads a BAR.
    pub fn read_bar(&mut self, hit: Hit, width: Width, memory: &impl GuestMemory) -> (u64, Effect) {
        match self.functions.get_mut(usize::from(hit.function)) {
            Some((_, function)) => function.read(hit.bar, hit.offset, width, memory),
            None => (width.mask(), Effect::QUIET),
        }
    }

    /// Writes a BAR.
    pub fn write_bar(&mut self, hit: Hit, width: Width, value: u64, memory: &impl GuestMemory) -> Effect {
        match self.functions.get_mut(usize::from(hit.function)) {
            Some((_, function)) => function.write(hit.bar, hit.offset, width, value, memory),
            None => Effect::QUIET,
        }
    }

    /// Resets the bus and every function on it, apart from those that are served elsewhere: their server resets them.
    pub fn reset(&mut self) {
        self.address = ConfigAddress::default();
        for (_, function) in &mut self.functions {
            function.reset();
        }
    }
}

/// Whether all bytes of an access are in CONFIG_DATA.
const fn is_within_data(offset: u16, width: Width) -> bool {
    offset >= DATA && offset as usize + width.bytes() <= 2 * DATA as usize
}

/// The byte of configuration space behind `offset`, if that is a port of CONFIG_DATA.
const fn register(address: ConfigAddress, offset: u16) -> Option<u8> {
    if offset >= DATA && offset < 2 * DATA { Some(address.register() | (offset - DATA) as u8) } else { None }
}
