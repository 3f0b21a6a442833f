//! The board's part of passed-through devices: accesses to their configuration space, and to ports and memory that were
//! not handed over. The board forwards each of these accesses to pci-server. Ports and memory that were handed over
//! cause no exit at their addresses on the machine; `windows` has the addresses to which the guest moves them, and says
//! which accesses are forwarded then. `lines` has their interrupts.
//!
//! Where pci-server refuses an access, a read gives all ones and a write is dropped. Each reason is logged once.

use devices::{Width, pci::msix::Message};
use heapless::Vec;
use proto::{
    pci::{self, Error, Messages, Target},
    wire::Transport,
};

pub mod lines;
pub mod silence;
pub mod windows;

use lines::{MAX_LINES, Signalling};
use windows::{BarSpace, BarWindow, Forwarded, Full, MAX_WINDOWS, Windows};

/// Registers of configuration space: command; the first and the last base address register; the first of those that only
/// capabilities and the device define.
const COMMAND: u8 = 0x04;
const BARS: u8 = 0x10;
const LAST_BAR: u8 = 0x24;
const CAPABILITIES: u8 = 0x40;
/// In the command register: answers to ports, to memory.
const DECODES_PORTS: u32 = 1 << 0;
const DECODES_MEMORY: u32 = 1 << 1;
/// Raises no interrupt on its pin.
const NO_INTERRUPT: u32 = 1 << 10;
/// Of MSI (PCI Local Bus Specification 3.0, section 6.8.1): message control, in it enable and 64-bit address; the address.
const MSI_CONTROL: u8 = 2;
const MSI_ENABLE: u32 = 1 << 0;
const MSI_WIDE: u32 = 1 << 7;
const MSI_ADDRESS: u8 = 4;
/// Of MSI-X (section 6.8.2): enable and mask, in message control; bytes of an entry of its table.
const MSIX_ENABLE: u32 = 1 << 15;
const MSIX_MASK_ALL: u32 = 1 << 14;
const MSIX_ENTRY: u64 = 16;
/// Reasons to refuse an access that are remembered as logged: `Error` has fewer variants.
const MAX_REASONS: usize = 16;

/// pci-server's accesses, as the board uses them. Tests put a model behind it.
pub trait Server {
    /// Reads `width` from `target`.
    fn read(&self, target: &Target, width: pci::Width) -> Result<u32, Error>;
    /// Writes `value` to `target`.
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

/// The server of a guest without passed-through devices: refuses everything.
struct NoServer;

impl Server for NoServer {
    fn read(&self, _: &Target, _: pci::Width) -> Result<u32, Error> {
        Err(Error::NotYours)
    }

    fn write(&self, _: &Target, _: pci::Width, _: u32) -> Result<(), Error> {
        Err(Error::NotYours)
    }
}

/// A function that sends messages on the machine.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// The function, by its number at pci-server.
    pub function: u8,
    /// By MSI or by MSI-X.
    pub messages: Messages,
    /// Its line, by the position in the configuration.
    pub line: usize,
}

/// The devices of one guest.
pub struct Passthrough {
    server: &'static dyn Server,
    /// How many functions there are: pci-server counts them from 0.
    pub functions: u8,
    windows: Windows,
    /// Ports whose accesses pci-server makes.
    ports: Vec<Forwarded, MAX_WINDOWS>,
    /// First and last of all these ports. Most accesses to unowned ports lie outside, and need no search.
    span: (u64, u64),
    /// Likewise memory.
    memory: Vec<Forwarded, MAX_WINDOWS>,
    /// First and last byte of all of it.
    memory_span: (u64, u64),
    /// Functions with MSI.
    senders: Vec<Sender, MAX_LINES>,
    refused: Vec<Error, MAX_REASONS>,
    /// How often the guest has moved a register.
    relocations: u32,
    /// Accesses that were forwarded to pci-server.
    pub accesses: u64,
}

impl Default for Passthrough {
    fn default() -> Self {
        Self::new(&NoServer)
    }
}

impl Passthrough {
    /// No devices yet.
    pub const fn new(server: &'static dyn Server) -> Self {
        Self {
            server,
            functions: 0,
            windows: Windows::new(),
            ports: Vec::new(),
            span: NOWHERE,
            memory: Vec::new(),
            memory_span: NOWHERE,
            senders: Vec::new(),
            refused: Vec::new(),
            relocations: 0,
            accesses: 0,
        }
    }

    /// Adds the window of a base address register. If it was not handed over, accesses to it are forwarded.
    pub fn add(&mut self, window: BarWindow) -> Result<(), Full> {
        self.windows.add(window)?;
        self.forward();
        Ok(())
    }

    /// Adds a function that sends messages. There are no more than lines.
    pub fn add_sender(&mut self, sender: Sender) {
        let _ = self.senders.push(sender);
    }

    /// How the guest wants a function's interrupt, and on which line, after it has written to this register.
    pub fn signalling(&mut self, function: u8, register: u8) -> Option<(usize, Signalling)> {
        let concerned = |sender: &&Sender| match sender.messages {
            _ if sender.function != function => false,
            // A write to any capability may be that of a function level reset, which switches messages off.
            _ if register >= CAPABILITIES => true,
            Messages::Msi(_) => register & !3 == COMMAND,
            Messages::Msix { .. } => false,
        };
        let sender = *self.senders.iter().find(concerned)?;
        Some((sender.line, self.signalling_of(sender)))
    }

    /// The same, after it has written to this address of the machine.
    fn signalling_at(&mut self, address: u64) -> Option<(usize, Signalling)> {
        let concerned = |sender: &&Sender| match sender.messages {
            Messages::Msi(_) => false,
            Messages::Msix { entry, .. } => address.wrapping_sub(entry) < MSIX_ENTRY,
        };
        let sender = *self.senders.iter().find(concerned)?;
        Some((sender.line, self.signalling_of(sender)))
    }

    fn signalling_of(&mut self, Sender { function, messages, .. }: Sender) -> Signalling {
        match messages {
            Messages::Msi(at) => self.msi(function, at),
            Messages::Msix { at, entry } => self.msix(function, at, entry),
        }
    }

    /// Off while the guest has it off, or has masked it: the function then sends nothing.
    fn msix(&mut self, function: u8, at: u8, entry: u64) -> Signalling {
        let offset = at.wrapping_add(MSI_CONTROL);
        let control = self.read(Target::Config { function, offset }, Width::Word);
        let mut word = |n: u64| self.read(Target::Memory(entry.wrapping_add(4 * n)), Width::Dword);
        let [low, high, data, masked] = [0, 1, 2, 3].map(&mut word);
        if control & (MSIX_ENABLE | MSIX_MASK_ALL) != MSIX_ENABLE || masked & 1 != 0 {
            return Signalling::Off;
        }
        Signalling::Message(Message::of(u64::from(high) << 32 | u64::from(low), data))
    }

    fn msi(&mut self, function: u8, msi: u8) -> Signalling {
        let mut read = |offset, width| self.read(Target::Config { function, offset }, width);
        let control = read(msi.wrapping_add(MSI_CONTROL), Width::Word);
        if control & MSI_ENABLE == 0 {
            let off = read(COMMAND, Width::Word) & NO_INTERRUPT != 0;
            return if off { Signalling::Off } else { Signalling::Pin };
        }
        let at = msi.wrapping_add(MSI_ADDRESS);
        let mut address = u64::from(read(at, Width::Dword));
        let mut data = at.wrapping_add(4);
        if control & MSI_WIDE != 0 {
            address |= u64::from(read(data, Width::Dword)) << 32;
            data = data.wrapping_add(4);
        }
        Signalling::Message(Message::of(address, read(data, Width::Word)))
    }

    /// Whether the guest has moved something since [`Self::moved`].
    #[inline]
    pub const fn has_moved(&self) -> bool {
        self.windows.any_moved()
    }

    /// The windows to move that were handed over: number (for [`Self::lose`]), window, and the new address or none.
    pub fn moves(&self) -> Vec<(usize, BarWindow, Option<u64>), MAX_WINDOWS> {
        self.windows.moves().collect()
    }

    /// Notes that the moves are carried out.
    pub fn moved(&mut self) {
        self.windows.done();
        self.forward();
    }

    /// Notes that window `number` could not be mapped at its new address: it has none now.
    pub fn lose(&mut self, number: usize) {
        self.windows.lose(number);
    }

    /// An address below 4 GiB for a window that is to be added.
    pub fn room(&self, window: BarWindow) -> Option<u64> {
        self.windows.room(window)
    }

    /// Puts all windows back where they begin, since a reset of the guest resets the base address registers.
    pub fn reset(&mut self) {
        if self.windows.home() {
            self.forward();
        }
    }

    /// Reads where a function's windows are, after the guest has written to its command register or a base address
    /// register.
    fn follow(&mut self, function: u8) {
        let mut command = None;
        for number in 0..self.windows.len() {
            let Some(window) = self.windows.movable(number, function) else { continue };
            let mut read = |offset, width| self.read(Target::Config { function, offset }, width);
            let command = *command.get_or_insert_with(|| read(COMMAND, Width::Word));
            let decodes = if window.space == BarSpace::Ports { DECODES_PORTS } else { DECODES_MEMORY };
            if command & decodes == 0 {
                continue;
            }
            let at = BARS + 4 * window.bar;
            let mut register = u64::from(read(at, Width::Dword));
            if window.space == (BarSpace::Memory { wide: true }) {
                register |= u64::from(read(at + 4, Width::Dword)) << 32;
            }
            if self.windows.note(number, window.address(register)) {
                self.relocated(window);
            }
        }
    }

    /// Logs a move: it is rare, and explains why a driver does not find its device.
    #[cold]
    #[inline(never)]
    fn relocated(&mut self, window: BarWindow) {
        /// Log lines, at most: a guest can do this any number of times.
        const LINES: u32 = 16;
        self.relocations = self.relocations.saturating_add(1);
        if self.relocations <= LINES {
            let BarWindow { function, bar, base, .. } = window;
            log::info!("the guest moves register {bar} of function {function}, on the machine at {base:#x}");
        }
        self.forward();
    }

    fn forward(&mut self) {
        self.ports = self.windows.forwarded(true).collect();
        self.memory = self.windows.forwarded(false).collect();
        (self.span, self.memory_span) = (span(&self.ports), span(&self.memory));
    }

    /// Reads configuration space as the data port does: bytes behind the double word read all ones.
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
            self.write(Target::Config { function, offset: register }, width, value);
        } else {
            devices::write_bytes(register.into(), width, value, |at, value| {
                if let Some(offset) = byte_of(register, at) {
                    self.write(Target::Config { function, offset }, Width::Byte, value.into());
                }
            });
        }
        if matches!(register & !3, COMMAND | BARS..=LAST_BAR) {
            self.follow(function);
        }
    }

    /// Whether pci-server makes the accesses to `port`.
    #[inline]
    pub fn has_port(&self, port: u16) -> bool {
        self.port(port).is_some()
    }

    /// Reads a forwarded port.
    #[inline]
    pub fn read_port(&mut self, port: u16, width: Width) -> u32 {
        match self.port(port) {
            Some(target) => self.read(target, width),
            None => width.mask32(),
        }
    }

    /// Writes a forwarded port.
    #[inline]
    pub fn write_port(&mut self, port: u16, width: Width, value: u32) {
        if let Some(target) = self.port(port) {
            self.write(target, width, value);
        }
    }

    #[inline]
    fn port(&self, port: u16) -> Option<Target> {
        let (first, last) = self.span;
        if !(first..=last).contains(&port.into()) {
            return None;
        }
        Some(Target::Port(u16::try_from(on_the_machine(&self.ports, port.into())?).ok()?))
    }

    /// Whether pci-server makes the accesses to `gpa`.
    #[inline(always)]
    pub fn has_memory(&self, gpa: u64) -> bool {
        self.memory_at(gpa).is_some()
    }

    /// Whether it makes the accesses to any address in the page of `gpa`.
    pub fn has_memory_near(&self, gpa: u64) -> bool {
        const PAGE: u64 = 4096;
        self.memory.iter().any(|range| (range.first / PAGE..=range.last / PAGE).contains(&(gpa / PAGE)))
    }

    /// Reads forwarded memory.
    pub fn read_memory(&mut self, gpa: u64, width: Width) -> u32 {
        match self.memory_at(gpa) {
            Some(target) => self.read(target, width),
            None => width.mask32(),
        }
    }

    /// Writes forwarded memory. Returns the line whose function interrupts in another way by that, and how.
    pub fn write_memory(&mut self, gpa: u64, width: Width, value: u32) -> Option<(usize, Signalling)> {
        let target = self.memory_at(gpa)?;
        self.write(target, width, value);
        match target {
            Target::Memory(address) => self.signalling_at(address),
            _ => None,
        }
    }

    #[inline(always)]
    fn memory_at(&self, gpa: u64) -> Option<Target> {
        let (first, last) = self.memory_span;
        if !(first..=last).contains(&gpa) {
            return None;
        }
        on_the_machine(&self.memory, gpa).map(Target::Memory)
    }

    #[inline(never)]
    fn read(&mut self, target: Target, width: Width) -> u32 {
        self.accesses += 1;
        match self.server.read(&target, on_the_wire(width)) {
            Ok(value) => value & width.mask32(),
            Err(error) => {
                self.note(target, error);
                width.mask32()
            }
        }
    }

    #[inline(never)]
    fn write(&mut self, target: Target, width: Width, value: u32) {
        self.accesses += 1;
        if let Err(error) = self.server.write(&target, on_the_wire(width), value & width.mask32()) {
            self.note(target, error);
        }
    }

    #[cold]
    fn note(&mut self, target: Target, error: Error) {
        if !self.refused.contains(&error) && self.refused.push(error).is_ok() {
            log::warn!("pci-server refuses the guest's access to {target:?}: {error:?}; further ones are not logged");
        }
    }
}

/// The span of no range: it contains no address.
const NOWHERE: (u64, u64) = (u64::MAX, 0);

/// First and last address of all of them.
fn span(ranges: &[Forwarded]) -> (u64, u64) {
    ranges.iter().fold(NOWHERE, |(first, last), range| (first.min(range.first), last.max(range.last)))
}

/// The address on the machine for address `at` of the guest, if one of the ranges has it.
#[inline]
fn on_the_machine(ranges: &[Forwarded], at: u64) -> Option<u64> {
    let range = ranges.iter().find(|range| (range.first..=range.last).contains(&at))?;
    range.to.checked_add(at - range.first)
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
        Width::Dword | Width::Qword => pci::Width::Dword,
    }
}
