//! One PCI function's configuration space: its bytes, and which bits of them software can change.
//!
//! PCI Local Bus Specification 2.3, section 6.1 (header type 0) and 6.2.5.1 (base address registers).

/// What a driver finds a function by, and what kind it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
}

/// A window that a function wants: its size, a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// I/O ports, 4 to 256 of them.
    Ports(u32),
    /// Memory below 4 GiB, 16 bytes or more.
    Memory(u32),
}

/// Why a window cannot be a base address register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WindowError {
    /// The header has registers 0 to 5.
    Register,
    /// The size is not a power of two in the window's range.
    Size,
}

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const HEADER_TYPE: usize = 0x0e;
const FIRST_BAR: usize = 0x10;
const INTERRUPT_LINE: usize = 0x3c;
const INTERRUPT_PIN: usize = 0x3d;
const BARS: usize = 6;

/// I/O, memory, bus master, parity, SERR and INTx disable.
const COMMAND_WRITABLE: u16 = 0x0547;
/// The status bits that report errors and clear when written as 1.
const STATUS_CLEARABLE: u16 = 0xf900;
const BAR_PORTS: u32 = 1;
const MULTI_FUNCTION: u8 = 0x80;

/// The configuration space of one function, with its write masks.
#[derive(Clone, Debug)]
pub struct Function {
    bytes: [u8; 256],
    writable: [u8; 256],
    clearable: [u8; 256],
}

impl Function {
    /// A function with a type 0 header, no windows and no interrupt.
    pub fn new(identity: Identity) -> Self {
        let mut function = Self { bytes: [0; 256], writable: [0; 256], clearable: [0; 256] };
        function.set_word(0x00, identity.vendor);
        function.set_word(0x02, identity.device);
        function.bytes[0x08] = identity.revision;
        function.bytes[0x09] = identity.interface;
        function.set_word(0x0a, identity.class);
        function.writable[COMMAND..COMMAND + 2].copy_from_slice(&COMMAND_WRITABLE.to_le_bytes());
        function.clearable[STATUS..STATUS + 2].copy_from_slice(&STATUS_CLEARABLE.to_le_bytes());
        function.writable[INTERRUPT_LINE] = 0xff;
        function
    }

    /// Gives it base address register `register` (0 to 5) for `window`, at address 0.
    pub fn with_window(mut self, register: usize, window: Window) -> Result<Self, WindowError> {
        let (size, range, kind) = match window {
            Window::Ports(size) => (size, 4..=256, BAR_PORTS),
            Window::Memory(size) => (size, 16..=1 << 31, 0),
        };
        if register >= BARS {
            return Err(WindowError::Register);
        }
        if !size.is_power_of_two() || !range.contains(&size) {
            return Err(WindowError::Size);
        }
        let at = FIRST_BAR + 4 * register;
        self.bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        self.writable[at..at + 4].copy_from_slice(&(!(size - 1)).to_le_bytes());
        Ok(self)
    }

    /// Lets it interrupt by `pin` (1 is INTA#), which firmware has routed to `line`.
    #[must_use]
    pub const fn with_interrupt(mut self, pin: u8, line: u8) -> Self {
        self.bytes[INTERRUPT_PIN] = pin;
        self.bytes[INTERRUPT_LINE] = line;
        self
    }

    /// Says in its header that its device has further functions.
    #[must_use]
    pub const fn with_siblings(mut self) -> Self {
        self.bytes[HEADER_TYPE] |= MULTI_FUNCTION;
        self
    }

    /// The command register: which of its windows a guest has switched on.
    pub const fn command(&self) -> u16 {
        u16::from_le_bytes([self.bytes[COMMAND], self.bytes[COMMAND + 1]])
    }

    /// Where the guest has put the window of `register`; `None` if there is no such window.
    pub fn base(&self, register: usize) -> Option<u32> {
        let at = FIRST_BAR + 4 * register.min(BARS);
        let bar = u32::from_le_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?);
        let mask = u32::from_le_bytes(self.writable.get(at..at + 4)?.try_into().ok()?);
        (register < BARS && mask != 0).then_some(bar & mask)
    }

    /// The double word of the configuration space that has `register`.
    #[inline]
    pub const fn read_double_word(&self, register: u8) -> u32 {
        let (words, _) = self.bytes.as_chunks();
        u32::from_le_bytes(words[register as usize / 4])
    }

    /// A byte of the configuration space.
    pub const fn read(&self, register: u8) -> u8 {
        self.bytes[register as usize]
    }

    /// Writes a byte as software may: read-only bits stay, and error bits clear where it is 1.
    pub const fn write(&mut self, register: u8, value: u8) {
        let at = register as usize;
        let kept = self.bytes[at] & !self.writable[at] & !(value & self.clearable[at]);
        self.bytes[at] = kept | value & self.writable[at];
    }

    /// Reports errors in the status register, as the device does; other bits are not touched.
    pub fn report(&mut self, errors: u16) {
        let errors = errors & STATUS_CLEARABLE;
        self.set_word(STATUS, u16::from_le_bytes([self.bytes[STATUS], self.bytes[STATUS + 1]]) | errors);
    }

    fn set_word(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
}
