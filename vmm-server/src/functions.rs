//! The guest's PCI bus and the modelled functions on it: which function has a port or an address, which input of the
//! PIC its interrupt drives, and which side effects its accesses have. Passed-through functions have places on this
//! bus; `passthrough` answers for them.
//!
//! No access makes a system call, so that an exit can be answered from the kernel's message. Work of a back end stays
//! pending until [`Functions::serve`].

use devices::{
    Effect, GuestMemory, Pin, Router, Width,
    channel::Channel,
    ioapic,
    lapic::{self, Lapic, Vectors},
    pci::{self, ConfigSpace, DevFn, Function, Hit, Range, Regions, VirtualBus, msix::Message},
    pic::Pic,
    virtio::{
        Device, Fault, Virtio,
        block::Block,
        console::{self, Console},
        entropy::Entropy,
        network::Network,
        vsock::Vsock,
    },
};
use heapless::Vec;
use layout::{
    guest_board,
    limits::{MAX_MODELLED_FUNCTIONS, MAX_PCI_FUNCTIONS, MAX_PIPES},
};

use crate::{disk::Disk, ram::Ram};

/// The most modelled functions, the host bridge included.
const MOST: usize = 1 + MAX_MODELLED_FUNCTIONS;
/// Device number of the first modelled function besides the bridge. Those from 1 up to it are for passed-through
/// functions.
const FIRST_DEVICE: u8 = 1 + MAX_PCI_FUNCTIONS as u8;
/// Log lines, at most, for queues that a driver has broken: a guest can break any number.
const LINES: u32 = 16;

/// Ports of the board's own devices, where no BAR can be.
const PORTS: [Range; guest_board::PORTS.len()] = {
    let mut ports = [(0, 0); guest_board::PORTS.len()];
    let mut row = 0;
    while row < ports.len() {
        let (first, last, _) = guest_board::PORTS[row];
        ports[row] = (first as u64, last as u64);
        row += 1;
    }
    ports
};
/// Memory of the board's own devices, likewise.
const MEMORY: [Range; 2] =
    [(ioapic::BASE, ioapic::BASE + ioapic::SIZE - 1), (lapic::BASE, lapic::BASE + lapic::SIZE - 1)];

/// Fills in random bytes; returns how many.
pub type Random = fn(&mut [u8]) -> usize;

/// How the other end of a device's rings is signalled.
#[derive(Clone, Copy)]
pub struct Doorbell {
    /// The system call, with the device's number.
    pub ring: fn(usize),
    /// The device, counted from 0 among the guest's devices of its kind.
    pub number: usize,
}

/// Signals the other end of a console device's port.
pub type PortSignal = fn(usize);
const _: () = assert!(console::MAX_PORTS == 1 + MAX_PIPES, "a terminal, and a port for each pipe");

/// A modelled function.
#[expect(clippy::large_enum_variant, reason = "nothing allocates, and there are few of them")]
// Has configuration space, which is first in each kind, at one offset: the fast path finds it without a branch.
#[repr(C)]
enum Resident {
    HostBridge(ConfigSpace),
    Entropy(Virtio<Entropy<Random>>),
    Network(Virtio<Network>, Doorbell),
    Block(Virtio<Block<Disk>>, Doorbell),
    Vsock(Virtio<Vsock>, Doorbell),
    Console(Virtio<Console>, PortSignal),
    Channel(Channel, Doorbell),
}

/// Evaluates `$what` for the function of any kind.
macro_rules! each {
    ($self:expr, $function:ident => $what:expr) => {
        match $self {
            Resident::HostBridge($function) => $what,
            Resident::Entropy($function) => $what,
            Resident::Network($function, _) => $what,
            Resident::Block($function, _) => $what,
            Resident::Vsock($function, _) => $what,
            Resident::Console($function, _) => $what,
            Resident::Channel($function, _) => $what,
        }
    };
}

impl Function for Resident {
    fn config(&self) -> &ConfigSpace {
        each!(self, function => function.config())
    }

    fn read_config(&mut self, register: u8, width: Width, memory: &impl GuestMemory) -> (u32, Effect) {
        each!(self, function => function.read_config(register, width, memory))
    }

    fn write_config(&mut self, register: u8, width: Width, value: u32, memory: &impl GuestMemory) -> Effect {
        each!(self, function => function.write_config(register, width, value, memory))
    }

    fn read(&mut self, bar: u8, offset: u64, width: Width, memory: &impl GuestMemory) -> (u64, Effect) {
        each!(self, function => Function::read(function, bar, offset, width, memory))
    }

    fn write(&mut self, bar: u8, offset: u64, width: Width, value: u64, memory: &impl GuestMemory) -> Effect {
        each!(self, function => Function::write(function, bar, offset, width, value, memory))
    }

    fn irq(&self) -> bool {
        each!(self, function => function.irq())
    }

    fn take_message(&mut self) -> Option<Message> {
        each!(self, function => Function::take_message(function))
    }

    fn reset(&mut self) {
        each!(self, function => Function::reset(function))
    }
}

impl Resident {
    /// Does the pending work of the function's back end. Counts `refused` accesses to channels.
    fn serve(&mut self, memory: &impl GuestMemory, refused: &mut u32) -> (Effect, Option<Fault>) {
        match self {
            Self::HostBridge(_) => (Effect::QUIET, None),
            Self::Entropy(function) => (function.poll(memory), function.take_fault()),
            Self::Network(function, doorbell) => {
                let mut effect = function.poll(memory);
                if function.device().take_doorbell() {
                    (doorbell.ring)(doorbell.number);
                }
                if let Some(up) = function.device().take_link_change() {
                    match up {
                        true => log::info!("network device {}: the rings work again", doorbell.number),
                        false => log::error!("network device {}: a ring breaks the rules", doorbell.number),
                    }
                    effect |= function.config_changed();
                }
                (effect, function.take_fault())
            }
            Self::Block(function, doorbell) => {
                let effect = function.poll(memory);
                if function.device().backend().must_signal() {
                    (doorbell.ring)(doorbell.number);
                }
                (effect, function.take_fault())
            }
            Self::Vsock(function, doorbell) => {
                // Without a driver, the device has no queue to serve.
                function.device().announce();
                let effect = function.poll(memory);
                if function.device().take_doorbell() {
                    (doorbell.ring)(doorbell.number);
                }
                if function.device().take_broken() {
                    log::error!("socket device: a ring breaks the rules");
                }
                (effect, function.take_fault())
            }
            Self::Console(function, signal) => {
                function.device().take_again();
                let mut effect = function.poll(memory);
                let doorbells = function.device().take_doorbells();
                (0..console::MAX_PORTS).filter(|port| doorbells & 1 << port != 0).for_each(*signal);
                if function.device().take_resized() {
                    effect |= function.config_changed();
                }
                effect |= Effect::OUTPUT.when(function.device().take_again());
                (effect, function.take_fault())
            }
            Self::Channel(function, doorbell) => {
                if function.take_doorbell() {
                    (doorbell.ring)(doorbell.number);
                }
                if let Some(dataport) = function.take_refused() {
                    *refused = refused.saturating_add(1);
                    if *refused <= LINES {
                        let number = doorbell.number;
                        log::warn!("channel {number}: the guest writes dataport {dataport}, which it may only read");
                    }
                }
                (function.poll(), None)
            }
        }
    }

    /// Whether its back end has to be told of something.
    fn has_output(&mut self) -> bool {
        match self {
            Self::HostBridge(_) | Self::Entropy(_) | Self::Block(..) | Self::Channel(..) => false,
            Self::Network(function, _) => function.device().has_output(),
            Self::Vsock(function, _) => function.device().has_output(),
            Self::Console(function, _) => function.device().has_output(),
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::HostBridge(_) => "host bridge",
            Self::Entropy(_) => "entropy device",
            Self::Network(..) => "network device",
            Self::Block(..) => "disk",
            Self::Vsock(..) => "socket device",
            Self::Console(..) => "console device",
            Self::Channel(..) => "channel",
        }
    }
}

/// Why a function is not on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// The bus has no place for it.
    Bus,
    /// The board's wiring has no pin for it.
    Router,
}

/// The PCI bus and the modelled functions.
pub struct Functions {
    /// The bus.
    bus: VirtualBus<Resident, MOST>,
    regions: Regions,
    router: Router,
    /// Functions with a pin, by their numbers on the bus.
    pins: Vec<(u8, Pin), MOST>,
    ram: Ram,
    /// Messages that the processor has not received yet.
    messages: Vectors,
    /// Work for [`serve`](Self::serve) is pending.
    waiting: bool,
    /// How many queues drivers have broken.
    broken: u32,
    /// How often the guest has written to a channel what it may not.
    refused: u32,
}

impl Functions {
    /// A bus with a host bridge, and from device 1 on `elsewhere` passed-through functions, which pci-server numbers
    /// from 0.
    pub fn new(elsewhere: u8) -> Self {
        let mut bus = VirtualBus::new();
        // Cannot fail: the bus is empty.
        let _ = bus.insert(DevFn { device: 0, function: 0 }, Resident::HostBridge(pci::host_bridge()));
        for (number, device) in (0..elsewhere).zip(1..) {
            // A function beyond the bus's 32 devices is left out.
            let _ = bus.insert_elsewhere(device, number);
        }
        let regions = Regions::new(&PORTS, &MEMORY);
        let (router, pins, messages) = (Router::new(), Vec::new(), Vectors::NONE);
        Self { bus, regions, router, pins, ram: Ram::none(), messages, waiting: false, broken: 0, refused: 0 }
    }

    /// Sets the memory that the functions reach as bus masters.
    pub const fn use_memory(&mut self, ram: Ram) {
        self.ram = ram;
    }

    /// Adds an entropy device with the bytes of `random`, which interrupts at `input` of the PIC.
    pub fn add_entropy(&mut self, random: Random, input: u8, pic: &mut Pic) -> Result<(), Absent> {
        let function = Virtio::new(Entropy::new(random), input).map_err(|_| Absent::Bus)?;
        self.add(Resident::Entropy(function), input, pic)
    }

    /// Adds a network device, likewise.
    pub fn add_network(&mut self, device: Network, doorbell: Doorbell, input: u8, pic: &mut Pic) -> Result<(), Absent> {
        let function = Virtio::new(device, input).map_err(|_| Absent::Bus)?;
        self.add(Resident::Network(function, doorbell), input, pic)
    }

    /// Adds a disk, likewise.
    pub fn add_disk(&mut self, disk: Disk, doorbell: Doorbell, input: u8, pic: &mut Pic) -> Result<(), Absent> {
        let function = Virtio::new(Block::new(disk), input).map_err(|_| Absent::Bus)?;
        self.add(Resident::Block(function, doorbell), input, pic)
    }

    /// Adds a socket device, likewise.
    pub fn add_vsock(&mut self, device: Vsock, doorbell: Doorbell, input: u8, pic: &mut Pic) -> Result<(), Absent> {
        let function = Virtio::new(device, input).map_err(|_| Absent::Bus)?;
        // net-server may have to learn that an earlier process of this VM is no more.
        self.waiting = true;
        self.add(Resident::Vsock(function, doorbell), input, pic)
    }

    /// Adds a console device, likewise.
    pub fn add_console(&mut self, device: Console, signal: PortSignal, input: u8, pic: &mut Pic) -> Result<(), Absent> {
        let function = Virtio::new(device, input).map_err(|_| Absent::Bus)?;
        // Other ends may have to learn that an earlier process of this VM is no more.
        self.waiting = true;
        self.add(Resident::Console(function, signal), input, pic)
    }

    /// Adds an end of a channel, likewise.
    pub fn add_channel(
        &mut self,
        function: Channel,
        doorbell: Doorbell,
        input: u8,
        pic: &mut Pic,
    ) -> Result<(), Absent> {
        // Events may have come for an earlier process of this VM.
        self.waiting = true;
        self.add(Resident::Channel(function, doorbell), input, pic)
    }

    fn add(&mut self, function: Resident, input: u8, pic: &mut Pic) -> Result<(), Absent> {
        let number = self.bus.functions().count() as u8;
        let pin = self.router.connect(input).ok_or(Absent::Router)?;
        let place = DevFn { device: FIRST_DEVICE + self.pins.len() as u8, function: 0 };
        self.bus.insert(place, function).map_err(|_| Absent::Bus)?;
        self.pins.push((number, pin)).map_err(|_| Absent::Bus)?;
        self.router.reset(pic);
        Ok(())
    }

    /// Resets the bus and the functions. The PIC is new, so the inputs of the pins are set to level again.
    pub fn reset(&mut self, pic: &mut Pic) {
        self.bus.reset();
        self.regions.update(&self.bus);
        self.router.reset(pic);
        self.messages = Vectors::NONE;
        // Socket and console devices tell their other ends of the reset.
        self.waiting = self.bus.functions_mut().any(|(_, function)| function.has_output());
    }

    /// The address register of configuration space: a read without side effects.
    #[inline(always)]
    pub const fn config_address(&self) -> u32 {
        self.bus.address().value()
    }

    /// Writes the address register of configuration space.
    #[inline(always)]
    pub fn set_config_address(&mut self, value: u32) {
        self.bus.set_address(value);
    }

    /// What a double-word read of the data port gives, if it has no side effect and a modelled function answers.
    #[inline(always)]
    pub fn config_data(&self) -> Option<u32> {
        self.bus.data()
    }

    /// The passed-through function and register that an access to the configuration ports selects, if it selects one.
    #[inline]
    pub fn elsewhere(&self, offset: u16) -> Option<pci::Elsewhere> {
        self.bus.elsewhere(offset)
    }

    /// Reads the configuration ports, from CONFIG_ADDRESS on.
    pub fn read_config(&mut self, offset: u16, width: Width, pic: &mut Pic) -> (u32, Effect) {
        let (value, effect) = self.bus.read(offset, width, &self.ram);
        (value, self.follow(effect, pic))
    }

    /// Writes the configuration ports, from CONFIG_ADDRESS on.
    pub fn write_config(&mut self, offset: u16, width: Width, value: u32, pic: &mut Pic) -> Effect {
        let effect = self.bus.write(offset, width, value, &self.ram);
        self.follow(effect, pic)
    }

    /// The BAR of a modelled function that has `port`, if any.
    #[inline(always)]
    pub fn port(&self, port: u16, width: Width) -> Option<Hit> {
        self.regions.port(port, width)
    }

    /// The BAR of a modelled function that has `gpa`, if any.
    #[inline(always)]
    pub fn memory(&self, gpa: u64, width: Width) -> Option<Hit> {
        self.regions.memory(gpa, width)
    }

    /// Whether a BAR reaches into the page of `gpa`.
    pub fn has_memory_near(&self, gpa: u64) -> bool {
        const PAGE: u64 = 4096;
        let first = gpa & !(PAGE - 1);
        self.regions.has_memory(first, first + (PAGE - 1))
    }

    /// Reads the BAR at `hit`.
    #[inline(never)]
    pub fn read(&mut self, hit: Hit, width: Width, pic: &mut Pic) -> (u64, Effect) {
        let (value, effect) = self.bus.read_bar(hit, width, &self.ram);
        (value, self.follow(effect, pic))
    }

    /// Writes the BAR at `hit`.
    #[inline(never)]
    pub fn write(&mut self, hit: Hit, width: Width, value: u64, pic: &mut Pic) -> Effect {
        let effect = self.bus.write_bar(hit, width, value, &self.ram);
        self.follow(effect, pic)
    }

    /// A back end has something new, or room.
    pub const fn wake(&mut self) {
        self.waiting = true;
    }

    /// Whether work for [`serve`](Self::serve) is pending.
    #[inline(always)]
    pub const fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Does the pending work of the back ends, and logs queues that a driver has broken.
    #[cold]
    #[inline(never)]
    pub fn serve(&mut self, pic: &mut Pic) -> Effect {
        self.waiting = false;
        let mut effect = Effect::QUIET;
        for (_, function) in self.bus.functions_mut() {
            let (more, fault) = function.serve(&self.ram, &mut self.refused);
            effect |= more;
            let Some(Fault { queue, broken }) = fault else { continue };
            self.broken = self.broken.saturating_add(1);
            if self.broken <= LINES {
                log::warn!("{}: the driver breaks queue {queue}: {broken:?}", function.name());
            }
        }
        self.follow(effect, pic)
    }

    /// Carries out the side effects that concern the bus, and returns those that are left to the board and the run
    /// loop.
    #[inline(always)]
    fn follow(&mut self, effect: Effect, pic: &mut Pic) -> Effect {
        if effect.is_quiet() { effect } else { self.settle(effect, pic) }
    }

    fn settle(&mut self, effect: Effect, pic: &mut Pic) -> Effect {
        if effect.contains(Effect::REGIONS) {
            self.regions.update(&self.bus);
        }
        if effect.contains(Effect::LINES) {
            for (number, function) in self.bus.functions() {
                if let Some(&(_, pin)) = self.pins.iter().find(|(at, _)| *at == number) {
                    self.router.drive(pin, function.irq(), pic);
                }
            }
        }
        let mut effect = effect;
        if effect.contains(Effect::MESSAGES) {
            for (_, function) in self.bus.functions_mut() {
                while let Some(message) = function.take_message() {
                    self.messages.set(message.vector());
                }
            }
            // The run loop has the processor receive them when it looks at its interrupts.
            effect |= Effect::LINES;
        }
        self.waiting |= effect.contains(Effect::OUTPUT);
        // REGIONS is done. To the run loop it would mean that passed-through windows have moved.
        effect - Effect::REGIONS - Effect::MESSAGES
    }

    /// Messages of passed-through functions, too, are for the processor.
    pub const fn send(&mut self, messages: Vectors) {
        self.messages.add(messages);
    }

    /// Has the processor's local APIC receive the messages that functions have sent.
    #[inline(always)]
    pub fn deliver(&mut self, lapic: &mut Lapic) {
        if !self.messages.is_empty() {
            self.deliver_all(lapic);
        }
    }

    #[inline(never)]
    fn deliver_all(&mut self, lapic: &mut Lapic) {
        while let Some(vector) = self.messages.highest() {
            self.messages.clear(vector);
            lapic.receive(vector);
        }
    }
}
