//! Who may have which line. A line's handler is made when its owner first claims it and kept, so that an owner that
//! was restarted can claim it again.

use heapless::Vec;
use layout::config::{self, Line, Route};
use proto::irq::{Claim, Done, Error, Lines, Serve, SetRoute};
use proto::wire::ClientId;

/// The kernel would not give the line out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// What makes handlers: the kernel's IRQControl.
pub trait Controller {
    /// Makes the handler of `line`, the system's `index`th, set to signal its owner; returns the capability's address.
    fn attach(&mut self, index: u8, line: &Line, route: Route) -> Result<u64, Refused>;
}

/// The server.
pub struct Server<C> {
    controller: C,
    lines: Vec<Owned, 32>,
}

struct Owned {
    line: Line,
    handler: Option<u64>,
}

impl Owned {
    fn belongs_to(&self, client: ClientId) -> bool {
        self.line.owner == client.0
    }
}

impl<C: Controller> Server<C> {
    /// The server of the lines in `config`; no handler exists yet.
    pub fn new(config: config::Irq, controller: C) -> Self {
        let lines = config.lines.into_iter().map(|line| Owned { line, handler: None }).collect();
        Self { controller, lines }
    }
}

impl<C: Controller> Serve for Server<C> {
    fn claim(&mut self, from: ClientId, call: Claim) -> Result<Option<u64>, Error> {
        let owned = self.lines.get_mut(usize::from(call.line)).ok_or(Error::NoSuchLine)?;
        let line = &owned.line;
        if !owned.belongs_to(from) {
            log::warn!("client {} asks for line `{}`, which is client {}'s", from.0, line.name, line.owner);
            return Err(Error::NotOwner);
        }
        if let Some(handler) = owned.handler {
            return Ok(Some(handler));
        }
        let route = line.route.ok_or(Error::NoRoute)?;
        let handler = self.controller.attach(call.line, line, route).map_err(|Refused| {
            log::error!("the kernel refuses `{}`: I/O APIC {} pin {}", line.name, route.ioapic, route.pin);
            Error::Kernel
        })?;
        let trigger = if route.level { "level" } else { "edge" };
        log::info!("`{}`: I/O APIC {} pin {}, {trigger}, vector {}", line.name, route.ioapic, route.pin, line.vector);
        owned.handler = Some(handler);
        Ok(Some(handler))
    }

    fn done(&mut self, _: ClientId, _: Done) -> Result<(), Error> {
        Err(Error::NoSuchLine)
    }

    fn set_route(&mut self, _: ClientId, _: SetRoute) -> Result<(), Error> {
        Err(Error::NotOwner)
    }

    fn lines(&mut self, from: ClientId, _: Lines) -> u32 {
        let owned = self.lines.iter().enumerate().filter(|(_, line)| line.belongs_to(from));
        owned.fold(0, |mask, (index, _)| mask | 1 << index)
    }
}
