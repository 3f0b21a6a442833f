//! Takes over the guest's devices from pci-server at the start. pci-server hands over once the ports and frames that
//! the description makes direct; from then on the guest's accesses to them cause no exit. The board forwards all other
//! accesses to pci-server. A range that pci-server or the kernel refuses is logged and left out: reads there give all
//! ones.
//!
//! Capabilities go to slots of the scratch CNode in the order in which they come, the same at every start.

use heapless::Vec;
use layout::{
    Bdf,
    config::{VmLine, Vmm},
};
use proto::{
    irq,
    pci::{self, Access, Bar, BarKind, Error, Grant, GrantedLine, TakeFrame, Target, Width},
};
use rt::{Endpoint, Interrupt};
use vmm_server::{
    board::{self, Board},
    passthrough::{
        Passthrough, Sender,
        lines::{Lines, MAX_LINES},
        windows::{BarSpace, BarWindow, MAX_WINDOWS},
    },
    vm::VCPUS,
};
use vtx::enter::VcpuObject;

use super::placement::{Placement, ports};

/// Registers of configuration space: the first base address, and the input of the PIC that firmware has routed a function's
/// interrupt to.
const BARS: u8 = 0x10;
const INTERRUPT_LINE: u8 = 0x3c;
/// First slot of the scratch CNode for ports and frames; those before it are for interrupt handlers.
const FIRST_SLOT: u16 = 1 + MAX_LINES as u16;
/// The end of the scratch CNode.
const SLOTS: u16 = 1 << layout::SCRATCH_BITS;

static SERVER: pci::Client<Endpoint> = pci::Client(Endpoint::at(pci::SERVICE.slot));

/// Waits until pci-server has stopped the devices of this process's last life, of whose end root-task has told it by a
/// signal: a server handles signals before calls. Until then their DMA may overwrite what is put into the guest's memory.
pub fn wait_for_stop() {
    let _ = SERVER.grants().next();
}

/// The guest's devices, apart from the accesses that the board forwards.
pub struct Devices {
    handlers: Vec<Option<Interrupt>, MAX_LINES>,
    /// Function and input of the PIC: the guest's firmware would have written these to the interrupt line registers.
    routed: Vec<(u8, u8), MAX_LINES>,
    /// Windows that are elsewhere in the guest than on the machine, likewise to the base address registers.
    elsewhere: Vec<BarWindow, MAX_WINDOWS>,
    /// Functions that send messages.
    senders: Vec<Sender, MAX_LINES>,
    /// Lines that pci-server has masked.
    masked: u16,
    present: bool,
    placement: Placement,
}

impl Devices {
    /// Takes over the devices of the configuration's VM, and plugs them into the board.
    pub fn take(config: &Vmm, vcpus: [VcpuObject; VCPUS], board: &mut Board) -> Self {
        let mut takeover = Takeover::new(config, vcpus);
        let present = config.directories > 0;
        if present {
            takeover.functions();
            takeover.high_windows();
            takeover.loose_ports();
        }
        let granted: Vec<GrantedLine, MAX_LINES> = takeover.lines.iter().map(|&(_, line)| line).collect();
        let handlers = claim(config);
        let claimed: Vec<Option<VmLine>, MAX_LINES> =
            config.lines.iter().zip(&handlers).map(|(line, handler)| handler.map(|_| *line)).collect();
        let mut lines = Lines::new(config.chipset, &claimed, &granted);
        let input = |line: u8| lines.input(config.lines.iter().position(|known| known.line == line)?);
        let routed: Vec<(u8, u8), MAX_LINES> =
            takeover.lines.iter().filter_map(|(function, line)| Some((*function, input(line.line)?))).collect();
        let sender = |&(function, line): &(u8, GrantedLine)| {
            let position = config.lines.iter().position(|known| known.line == line.line)?;
            Some(Sender { function, messages: line.messages?, line: position })
        };
        let senders: Vec<Sender, MAX_LINES> = takeover.lines.iter().filter_map(sender).collect();
        senders.iter().for_each(|sender| takeover.board.add_sender(*sender));
        for (line, function) in takeover.pins {
            if let Some(position) = config.lines.iter().position(|known| known.line == line) {
                lines.expect(position, function);
            }
        }
        board.plug(takeover.board);
        board.lines = lines;
        // The bridge is device 0.
        for &(function, input) in &routed {
            board.lines.wire(function + 1, input);
        }
        let _ = board.lines.reset(&mut board.controllers);
        let (elsewhere, placement) = (takeover.elsewhere, takeover.placement);
        let devices = Self { handlers, routed, elsewhere, senders, masked: 0, present, placement };
        devices.set_up();
        devices
    }

    /// Maps windows where the guest has moved base address registers to.
    pub fn follow(&mut self, board: &mut Passthrough) {
        self.placement.follow(board);
    }

    /// Has pci-server reset the devices when the guest is reset, before the loader overwrites its memory: a device must
    /// not go on with DMA into the new kernel.
    pub fn stop(&self) {
        self.ask("reset", pci::Client::reset);
    }

    /// Prepares the lines for the guest's next start: its PIC has been reset, so it will end no service that it has
    /// begun.
    pub fn restart(&mut self, board: &mut Board) {
        let acknowledge = board.lines.reset(&mut board.controllers);
        self.acknowledge(acknowledge);
        // A reset unmasks.
        self.masked = 0;
        self.set_up();
    }

    /// Gives the devices back to pci-server: the guest has powered off or failed, and does not start again.
    pub fn release(&self) {
        self.ask("release", pci::Client::release);
    }

    fn ask(&self, what: &str, call: impl Fn(&pci::Client<Endpoint>) -> Result<(), Error>) {
        if self.present
            && let Err(error) = call(&SERVER)
        {
            log::error!("pci-server does not {what} the devices: {error:?}");
        }
    }

    /// Has pci-server mask the messages of these lines, and unmask all others.
    #[inline]
    pub fn mask(&mut self, lines: u16) {
        if lines != self.masked {
            self.mask_some(lines);
        }
    }

    #[cold]
    #[inline(never)]
    fn mask_some(&mut self, lines: u16) {
        let changed = lines ^ self.masked;
        for &Sender { function, line, .. } in self.senders.iter().filter(|sender| changed & 1 << sender.line != 0) {
            if let Err(error) = SERVER.mask(function, lines & 1 << line != 0) {
                log::error!("function {function}: its messages cannot be masked: {error:?}");
            }
        }
        self.masked = lines;
    }

    /// Lets these lines interrupt again.
    #[inline]
    pub fn acknowledge(&self, lines: u16) {
        if lines != 0 {
            self.acknowledge_some(lines);
        }
    }

    #[inline(never)]
    fn acknowledge_some(&self, lines: u16) {
        let all = self.handlers.iter().enumerate();
        for handler in all.filter(|(n, _)| lines & 1 << n != 0).filter_map(|(_, handler)| handler.as_ref()) {
            handler.acknowledge();
        }
    }

    /// What a firmware writes into the functions' configuration space.
    fn set_up(&self) {
        for &BarWindow { function, bar, home, .. } in &self.elsewhere {
            let offset = BARS + 4 * bar;
            for (offset, half) in [(offset, home as u32), (offset + 4, (home >> 32) as u32)] {
                if let Err(error) = SERVER.write(Target::Config { function, offset }, Width::Dword, half) {
                    log::error!("function {function}: base address register {bar}: {error:?}");
                }
            }
        }
        // A function has one interrupt line register. With several lines, it names the first: in reverse order, that
        // one is written last.
        for &(function, input) in self.routed.iter().rev() {
            let register = Target::Config { function, offset: INTERRUPT_LINE };
            if let Err(error) = SERVER.write(register, Width::Byte, input.into()) {
                log::error!("function {function}: interrupt line register: {error:?}");
            }
        }
    }
}

/// Claims the lines that irq-server has. Each is acknowledged at once: it may have been raised, and not acknowledged,
/// before this process was restarted.
fn claim(config: &Vmm) -> Vec<Option<Interrupt>, MAX_LINES> {
    if config.lines.is_empty() {
        return Vec::new();
    }
    let there = irq::Client(Endpoint::at(irq::SERVICE.slot)).lines().unwrap_or_else(|error| {
        log::error!("irq-server tells no lines: {error:?}");
        0
    });
    let claim = |(slot, wanted): (u16, &VmLine)| match Interrupt::claim(wanted.line, slot) {
        Ok(interrupt) => {
            interrupt.acknowledge();
            Some(interrupt)
        }
        Err(error) => {
            log::error!("interrupt line {}: irq-server says {error:?}", slot - 1);
            None
        }
    };
    let is_there = |line: u8| there.checked_shr(line.into()).is_some_and(|bits| bits & 1 != 0);
    let all = (1..).zip(&config.lines);
    all.map(|numbered| is_there(numbered.1.line).then(|| claim(numbered)).flatten()).collect()
}

/// The takeover in progress, range by range.
struct Takeover {
    placement: Placement,
    board: Passthrough,
    /// Lines of functions.
    lines: Vec<(u8, GrantedLine), MAX_LINES>,
    /// Pins whose wiring the description says or the chipset has, with their functions.
    pins: Vec<(u8, Bdf), MAX_LINES>,
    next_slot: u16,
    /// Windows that the machine has above 4 GiB.
    high: Vec<(BarWindow, Access), MAX_WINDOWS>,
    elsewhere: Vec<BarWindow, MAX_WINDOWS>,
}

impl Takeover {
    fn new(config: &Vmm, vcpus: [VcpuObject; VCPUS]) -> Self {
        Self {
            placement: Placement::new(config, vcpus),
            board: Passthrough::new(&SERVER),
            lines: Vec::new(),
            pins: Vec::new(),
            next_slot: FIRST_SLOT,
            high: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    fn functions(&mut self) {
        for grant in SERVER.grants() {
            match grant {
                Ok((index, grant)) => {
                    self.function(index, &grant);
                    self.board.functions = index + 1;
                }
                Err(error) => log::error!("pci-server: functions behind the first {}: {error:?}", self.board.functions),
            }
        }
    }

    fn function(&mut self, index: u8, grant: &Grant) {
        let at = grant.function.address;
        log::info!("{at} ({:04x}:{:04x}) is the guest's", grant.function.vendor, grant.function.device);
        for line in &grant.lines {
            if self.lines.push((index, *line)).is_err() {
                log::error!("{at}: too many interrupt lines");
            } else if line.isa.is_none() && line.messages.is_none() {
                let _ = self.pins.push((line.line, at));
            }
        }
        for (register, (bar, access)) in (0..).zip(grant.function.bars.iter().zip(grant.bars)) {
            let Some(bar) = bar.filter(|_| access != Access::No) else { continue };
            let window = BarWindow { kept: grant.kept[usize::from(register)], ..window(index, register, &bar, access) };
            if window.is_high() && window.movable {
                // Later, when all others have their places.
                let _ = self.high.push((window, access));
            } else if let Err(why) = self.register(window, access) {
                log::error!("{at}: register {register} at {:#x} is not the guest's: {why}", bar.base);
            }
        }
    }

    /// Windows above 4 GiB: below it in the guest, as long as there is room.
    fn high_windows(&mut self) {
        for (window, access) in self.high.clone() {
            let BarWindow { function, bar, base, .. } = window;
            let home = self.board.room(window);
            let window = BarWindow { home: home.unwrap_or(base), ..window };
            match (self.register(window, access), home) {
                (Err(why), _) => {
                    log::error!("register {bar} of function {function} at {base:#x} is not the guest's: {why}")
                }
                (Ok(()), None) => log::warn!("register {bar} of function {function} at {base:#x}: no room below 4 GiB"),
                (Ok(()), Some(home)) => {
                    log::info!("register {bar} of function {function}: {base:#x} is {home:#x} in the guest");
                    let _ = self.elsewhere.push(window);
                }
            }
        }
    }

    fn register(&mut self, window: BarWindow, access: Access) -> Result<(), &'static str> {
        window.last().ok_or("it goes on behind the last address")?;
        if window.space == BarSpace::Ports {
            let (first, last) = ports(window).ok_or("no processor has such ports")?;
            free(first, last)?;
        }
        match (window.space, access) {
            (_, Access::No) => return Ok(()),
            (_, Access::Mediated) => {}
            (BarSpace::Ports, Access::Direct { .. }) => {
                let slot = self.receive(|client| client.take_ports(window.base as u16))?;
                self.placement.hold(window, slot, 0, 1)?;
            }
            (BarSpace::Memory { .. }, Access::Direct { bits, count }) => self.frames(window, bits, count)?,
        }
        self.board.add(window).map_err(|_| "there are too many ranges")
    }

    fn loose_ports(&mut self) {
        for ports in SERVER.all_ports() {
            match ports {
                Ok((first, last)) => {
                    if let Err(why) = self.ports(first, last) {
                        log::error!("ports {first:#x} to {last:#x} are not the guest's: {why}");
                    }
                }
                Err(error) => log::error!("pci-server: ports: {error:?}"),
            }
        }
    }

    fn ports(&mut self, first: u16, last: u16) -> Result<(), &'static str> {
        free(first, last)?;
        let slot = self.receive(|client| client.take_ports(first))?;
        self.placement.open(slot, first, last)
    }

    fn frames(&mut self, window: BarWindow, bits: u8, count: u16) -> Result<(), &'static str> {
        let BarWindow { function, bar, .. } = window;
        let first = self.next_slot;
        for page in 0..count {
            if window.keeps(page) {
                // The slot stays free.
                self.next_slot += 1;
                continue;
            }
            self.receive(|client| client.take_frame(TakeFrame { function, bar, page }))?;
        }
        self.placement.hold(window, first, bits, count)
    }

    /// Has pci-server hand a capability over into the next slot, and returns the slot.
    fn receive(&mut self, take: impl Fn(pci::Client<Endpoint>) -> Result<u64, Error>) -> Result<u16, &'static str> {
        let slot = self.next_slot;
        if slot >= SLOTS {
            return Err("there is no slot left");
        }
        self.next_slot += 1;
        // Before a restart, the process may have left a capability there. Deleting from an empty slot is no error.
        let _ = rt::scratch(slot).delete();
        take(pci::Client(SERVER.0.receive_into(slot))).map_err(|error| {
            log::error!("pci-server: {error:?}");
            "pci-server does not hand it over"
        })?;
        Ok(slot)
    }
}

/// The window behind a base address register. The guest may move it if the register shows its address.
fn window(function: u8, bar: u8, what: &Bar, access: Access) -> BarWindow {
    let space = match what.kind {
        BarKind::Io => BarSpace::Ports,
        BarKind::Memory32 { .. } => BarSpace::Memory { wide: false },
        BarKind::Memory64 { .. } => BarSpace::Memory { wide: true },
    };
    let direct = matches!(access, Access::Direct { .. });
    let (base, size) = (what.base, what.size.max(1));
    let window = BarWindow { function, bar, space, base, home: base, size, direct, kept: None, movable: false };
    let shown = SERVER.read(Target::Config { function, offset: BARS + 4 * bar }, Width::Dword);
    BarWindow { movable: shown.is_ok_and(|shown| window.address(shown.into()) == base & 0xffff_ffff), ..window }
}

/// Refuses ports at which the board has a device of its own.
fn free(first: u16, last: u16) -> Result<(), &'static str> {
    if board::models_port(first, last) { Err("the board has a device of its own there") } else { Ok(()) }
}
