//! What the board has of passed-through devices: their configuration space, always behind pci-server, and ports and memory
//! whose accesses pci-server makes one by one. Ports and memory that were handed over cause no exit and are not here.
//!
//! What pci-server refuses reads all ones and swallows writes; the log says so, once for each reason.

use devices::Width;
use heapless::Vec;
use proto::{
    pci::{self, Error, Target},
    wire::Transport,
};

/// Most ranges of ports, and of memory.
const MAX_RANGES: usize = 32;
/// Reasons to refuse an access, at most: `Error` has fewer.
const MAX_REASONS: usize = 16;

/// pci-server, as the board needs it.
pub trait Server {
    /// Reads.
    fn read(&self, target: &Target, width: pci::Width) -> Result<u32, Error>;
    /// Writes.
    fn write(&self, target: &Target, width: pci::Width, value: u32) -> Result<(), Error>;
}

impl<T: Transport> Server for pci::Client<T> {
    fn read(&self, target: &Target, width: pci::Width) -> Result<u32, Error> {
        self.read(*target, width)
    }

    fn write(&self, target: &Target, width: pci::Width, value: u32) -> Result<(), Error> {
        self.write(*target, width, value)
    }
}

/// Nobody: what a guest without devices has.
struct Nobody;

impl Server for Nobody {
    fn read(&self, _: &Target, _: pci::Width) -> Result<u32, Error> {
        Err(Error::NotYours)
    }

    fn write(&self, _: &Target, _: pci::Width, _: u32) -> Result<(), Error> {
        Err(Error::NotYours)
    }
}

/// There are too many ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The devices of one guest.
pub struct Passthrough {
    server: &'static dyn Server,
    /// How many functions there are: pci-server counts them from 0.
    pub functions: u8,
    /// First and last port.
    ports: Vec<(u16, u16), MAX_RANGES>,
    /// First and last port of them all: most accesses to nobody's ports lie outside.
    span: (u16, u16),
    /// First and last byte.
    memory: Vec<(u64, u64), MAX_RANGES>,
    /// First and last byte of them all.
    memory_span: (u64, u64),
    refused: Vec<Error, MAX_REASONS>,
    /// Accesses that pci-server was asked for.
    pub accesses: u64,
}

impl Default for Passthrough {
    fn default() -> Self {
        Self::new(&Nobody)
    }
}

impl Passthrough {
    /// No devices yet.
    pub const fn new(server: &'static dyn Server) -> Self {
        Self {
            server,
            functions: 0,
            ports: Vec::new(),
            span: (u16::MAX, 0),
            memory: Vec::new(),
            memory_span: (u64::MAX, 0),
            refused: Vec::new(),
            accesses: 0,
        }
    }

    /// Has accesses to the ports `first` to `last` made by pci-server.
    pub fn add_ports(&mut self, first: u16, last: u16) -> Result<(), Full> {
        self.ports.push((first, last)).map_err(|_| Full)?;
        self.span = (self.span.0.min(first), self.span.1.max(last));
        Ok(())
    }

    /// Has accesses to `bytes` of memory from guest-physical address `at` made by pci-server.
    pub fn add_memory(&mut self, at: u64, bytes: u64) -> Result<(), Full> {
        let last = at.saturating_add(bytes.saturating_sub(1));
        self.memory.push((at, last)).map_err(|_| Full)?;
        self.memory_span = (self.memory_span.0.min(at), self.memory_span.1.max(last));
        Ok(())
    }

    /// Reads configuration space as the data port does: bytes behind the double word are nobody's.
    pub fn read_config(&mut self, function: u8, register: u8, width: Width) -> u32 {
        if aligned(register, width) {
            return self.read(Target::Config { function, offset: register }, width);
        }
        devices::read_bytes(register.into(), width, |at| match byte_of(register, at) {
            Some(offset) => self.read(Target::Config { function, offset }, Width::Byte) as u8,
            None => 0xff,
        })
    }

    /// Writes configuration space, likewise.
    pub fn write_config(&mut self, function: u8, register: u8, width: Width, value: u32) {
        if aligned(register, width) {
            return self.write(Target::Config { function, offset: register }, width, value);
        }
        devices::write_bytes(register.into(), width, value, |at, value| {
            if let Some(offset) = byte_of(register, at) {
                self.write(Target::Config { function, offset }, Width::Byte, value.into());
            }
        });
    }

    /// Whether pci-server makes the accesses to `port`.
    #[inline]
    pub fn has_port(&self, port: u16) -> bool {
        let (first, last) = self.span;
        (first..=last).contains(&port) && self.ports.iter().any(|(first, last)| (first..=last).contains(&&port))
    }

    /// Reads a port that no device of the board has.
    #[inline]
    pub fn read_port(&mut self, port: u16, width: Width) -> u32 {
        match self.has_port(port) {
            true => self.read(Target::Port(port), width),
            false => width.mask(),
        }
    }

    /// Writes such a port.
    #[inline]
    pub fn write_port(&mut self, port: u16, width: Width, value: u32) {
        if self.has_port(port) {
            self.write(Target::Port(port), width, value);
        }
    }

    /// Whether pci-server makes the accesses to `gpa`.
    #[inline]
    pub fn has_memory(&self, gpa: u64) -> bool {
        let (first, last) = self.memory_span;
        (first..=last).contains(&gpa) && self.memory.iter().any(|(first, last)| (first..=last).contains(&&gpa))
    }

    /// Reads where there is no RAM.
    pub fn read_memory(&mut self, gpa: u64, width: Width) -> u32 {
        match self.has_memory(gpa) {
            true => self.read(Target::Memory(gpa), width),
            false => width.mask(),
        }
    }

    /// Writes there.
    pub fn write_memory(&mut self, gpa: u64, width: Width, value: u32) {
        if self.has_memory(gpa) {
            self.write(Target::Memory(gpa), width, value);
        }
    }

    #[inline(never)]
    fn read(&mut self, target: Target, width: Width) -> u32 {
        self.accesses += 1;
        match self.server.read(&target, on_the_wire(width)) {
            Ok(value) => value & width.mask(),
            Err(error) => {
                self.note(target, error);
                width.mask()
            }
        }
    }

    #[inline(never)]
    fn write(&mut self, target: Target, width: Width, value: u32) {
        self.accesses += 1;
        if let Err(error) = self.server.write(&target, on_the_wire(width), value & width.mask()) {
            self.note(target, error);
        }
    }

    #[cold]
    fn note(&mut self, target: Target, error: Error) {
        if !self.refused.contains(&error) && self.refused.push(error).is_ok() {
            log::warn!("pci-server refuses the guest's access to {target:?}: {error:?}; more like it are not told");
        }
    }
}

fn aligned(register: u8, width: Width) -> bool {
    usize::from(register) % width.bytes() == 0
}

/// The offset `at`, if it is in the same double word as `register`.
fn byte_of(register: u8, at: u16) -> Option<u8> {
    u8::try_from(at).ok().filter(|at| at / 4 == register / 4)
}

const fn on_the_wire(width: Width) -> pci::Width {
    match width {
        Width::Byte => pci::Width::Byte,
        Width::Word => pci::Width::Word,
        Width::Dword => pci::Width::Dword,
    }
}
