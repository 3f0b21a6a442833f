//! The process: takes the configuration ports, lists the machine, serves.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use layout::Bdf;
use layout::{config, scratch_cptr, slot, window};
use mmio::{Ports, Window};
use pci_server::config_space::{ConfigSpace, Mechanism1};
use pci_server::hardware::{Authority, Clock, Devices};
use pci_server::{Server, WINDOW, scan_for};
use proto::pci::{Config, Width, dispatch};
use proto::supervisor::{self, Refused, Request};
use proto::{
    irq::{self, MsiMessage, Route},
    timer,
};
use rt::{Endpoint, Event, IoPorts};

/// TSC ticks per millisecond at 4 GHz, for when timer-server's rate is not available. On slower machines waits are
/// longer than necessary.
const FASTEST: u64 = 4_000_000;

rt::main!(main);

fn main(config: Config) -> ! {
    let mut space = Mechanism1::new(IoPorts::new(&config.config));
    if !space.is_there() {
        log::error!("no PCI configuration mechanism 1: the machine looks empty");
    }
    let listing = scan_for(&mut space, &config);
    log::info!("{} functions, {} clients", listing.functions.len(), config.clients.len());
    if listing.left_out > 0 {
        log::warn!("{} more functions do not fit the list", listing.left_out);
    }
    let memory = rt::shared(config::Window { at: window::DEVICES, len: WINDOW });
    let ticks_per_millisecond = if config.functions.is_empty() { FASTEST } else { ticks_per_millisecond() };
    let mut server = Server::new(Board { space, memory, ticks_per_millisecond }, &listing, config);
    rt::serve(|event| match event {
        Event::Call(from, message) => dispatch(&mut server, from, message),
        Event::Signal(bits) => {
            server.on_signal(bits);
            Ok(())
        }
    })
}

/// The TSC's rate as timer-server measured it. pci-server has a capability to timer-server if any function has an
/// owner.
fn ticks_per_millisecond() -> u64 {
    let hertz = timer::Client(Endpoint::at(timer::SERVICE.slot)).frequency();
    hertz.map_or(FASTEST, |hertz| hertz.div_ceil(1000))
}

/// The machine through this process's capabilities.
struct Board {
    space: Mechanism1<IoPorts>,
    /// Device memory, as far as root-task has mapped any.
    memory: Window,
    ticks_per_millisecond: u64,
}

impl ConfigSpace for Board {
    fn read(&mut self, at: Bdf, offset: u8) -> u32 {
        self.space.read(at, offset)
    }

    fn write(&mut self, at: Bdf, offset: u8, value: u32) {
        self.space.write(at, offset, value);
    }

    fn write_part(&mut self, at: Bdf, offset: u8, width: Width, value: u32) {
        self.space.write_part(at, offset, width, value);
    }
}

impl Devices for Board {
    fn port_in(&mut self, slot: u16, port: u16, width: Width) -> u32 {
        let mut ports = IoPorts::at(scratch_cptr(slot));
        match width {
            Width::Byte => ports.in8(port).into(),
            Width::Word => ports.in16(port).into(),
            Width::Dword => ports.in32(port),
        }
    }

    fn port_out(&mut self, slot: u16, port: u16, width: Width, value: u32) {
        let mut ports = IoPorts::at(scratch_cptr(slot));
        match width {
            Width::Byte => ports.out8(port, value as u8),
            Width::Word => ports.out16(port, value as u16),
            Width::Dword => ports.out32(port, value),
        }
    }

    fn load(&mut self, at: u64, width: Width) -> u32 {
        let loaded = match width {
            Width::Byte => self.memory.read_u8(at).map(u32::from),
            Width::Word => self.memory.read_u16(at).map(u32::from),
            Width::Dword => self.memory.read_u32(at),
        };
        debug_assert!(loaded.is_ok());
        loaded.unwrap_or(u32::MAX)
    }

    fn store(&mut self, at: u64, width: Width, value: u32) {
        let stored = match width {
            Width::Byte => self.memory.write_u8(at, value as u8),
            Width::Word => self.memory.write_u16(at, value as u16),
            Width::Dword => self.memory.write_u32(at, value),
        };
        debug_assert!(stored.is_ok());
    }
}

impl Clock for Board {
    fn ticks(&mut self) -> u64 {
        rt::tsc()
    }

    fn ticks_per_millisecond(&self) -> u64 {
        self.ticks_per_millisecond
    }
}

impl Authority for Board {
    fn obtain(&mut self, request: Request) -> Result<(), Refused> {
        let request = match request {
            Request::Memory { paddr, pages, bits, slot, map } => {
                Request::Memory { paddr, pages, bits, slot, map: map.map(|at| window::DEVICES + at) }
            }
            ports @ Request::Ports { .. } => ports,
        };
        supervisor::Client(Endpoint::at(slot::SUPERVISOR)).request(request)
    }

    fn revoke(&mut self, slot: u16) {
        if let Err(error) = rt::scratch(slot).revoke() {
            log::error!("slot {slot} cannot be revoked: {error:?}");
        }
    }

    fn capability(&self, slot: u16) -> u64 {
        scratch_cptr(slot)
    }

    fn route(&mut self, line: u8, route: Route) -> Result<(), irq::Error> {
        irq::Client(Endpoint::at(irq::SERVICE.slot)).set_route(line, route)
    }

    fn message(&mut self, line: u8, from: Bdf) -> Result<MsiMessage, irq::Error> {
        irq::Client(Endpoint::at(irq::SERVICE.slot)).set_message(line, from)
    }
}
