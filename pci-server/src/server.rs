//! Access control. At the start the server checks, resets and sets up each function that the description passes
//! through; from then on it serves clients' calls. A client numbers its own granted functions in the order of the
//! configuration.

use heapless::Vec;
use layout::{
    event,
    limits::{MAX_CLIENTS, MAX_PCI_FUNCTIONS},
};
use proto::irq;
use proto::pci::{
    Access, Config, Dma, Error, Function, GetFunction, GetGrant, GetPorts, Grant, GrantedLine, Mask, Messages,
    PciFunction, PciPorts, Read, Serve, TakeFrame, TakePorts, Target, Width, Write,
};
use proto::wire::ClientId;

use crate::bus::Listing;
use crate::check;
use crate::groups::{Conflict, conflict, is_behind_conventional};
use crate::hardware::Machine;
use crate::lines::{Arrival, arrivals, explain, messages, table};
use crate::msix::{Msix, Table};
use crate::owned::Owned;
use crate::refusals::Refusals;
use crate::reset::Reset;
use crate::resources::{MemoryRange, Missing, Resources, Whose};
use crate::virtual_space::{Interrupts, VirtualSpace, Written};
use crate::wait_budget::WaitBudget;
use crate::wiring::Wiring;

/// The interrupt line register of a function without an ISA interrupt: "not connected".
const NO_LINE: u8 = 0xff;

/// The server.
pub struct Server<'a, M> {
    machine: M,
    listing: &'a Listing,
    config: Config,
    functions: Vec<Owned, MAX_PCI_FUNCTIONS>,
    wiring: Wiring,
    resources: Resources,
    refusals: Refusals,
    /// By client.
    budgets: [WaitBudget; MAX_CLIENTS],
}

/// What an access to memory reaches.
enum Reach {
    /// The device, at this offset of the window.
    Device(u64),
    /// The virtual table of the function at this position, at this offset.
    Table(usize, u64),
}

impl<'a, M: Machine> Server<'a, M> {
    /// The server of the functions in `listing`, with the rights in `config`.
    pub fn new(mut machine: M, listing: &'a Listing, config: Config) -> Self {
        let wiring = Wiring::find(&mut machine, &listing.functions, config.intx);
        let refusals = Refusals::new(&config.clients);
        let (functions, resources) = (Vec::new(), Resources::default());
        let budgets = core::array::from_fn(|_| WaitBudget::default());
        let mut server = Self { machine, listing, config, functions, wiring, resources, refusals, budgets };
        let valid = server.check();
        server.keep_groups_together(valid);
        let obtained = server.obtain(valid);
        for index in (0..).take(server.config.functions.len()).filter(|index| obtained & 1 << index != 0) {
            server.grant(index);
        }
        server
    }

    /// Checks the functions of the configuration. Returns a bit set: bit n is set if the `n`th is valid.
    fn check(&self) -> u16 {
        let mut valid = 0;
        for (index, wanted) in self.config.functions.iter().enumerate() {
            match check::find(&self.listing.functions, &self.config, index) {
                Ok(_) => valid |= 1 << index,
                Err(flaw) => check::explain(flaw, wanted, &self.listing.functions),
            }
        }
        valid
    }

    /// Lets no function become bus master whose group has another owner, unless the description trusts it with the group.
    fn keep_groups_together(&mut self, valid: u16) {
        let functions = &self.listing.functions;
        let confined = self.config.functions.iter().filter(|one| one.dma == Dma::Domain);
        for PciFunction { name, at, .. } in confined.filter(|one| is_behind_conventional(functions, one.at)) {
            log::warn!(
                "`{name}` ({at}) is on conventional PCI, behind a bridge that does its DMA: the IOMMU may refuse it"
            );
        }
        for index in 0..self.config.functions.len() {
            let Some(Conflict { other, root }) = conflict(&self.listing.functions, &self.config, valid, index) else {
                continue;
            };
            let [Some(one), Some(other)] = [index, other].map(|index| self.config.functions.get(index)) else {
                continue;
            };
            let owner = self.config.clients.get(usize::from(other.owner)).map_or("", |owner| &owner.name);
            let (name, at) = (&one.name, one.at);
            if one.group_trusted {
                log::warn!("`{name}` reaches `{}` of `{owner}` past the IOMMU: the description trusts it", other.name);
                continue;
            }
            log::error!(
                "`{name}` ({at}) does not become bus master: `{}` ({}) of `{owner}` is in the same group, at {root}",
                other.name,
                other.at
            );
            log::error!("`{name}`: one owner for the whole group, or group = \"trusted\" in its entry of pci_devices");
            if let Some(one) = self.config.functions.get_mut(index) {
                one.dma = Dma::No;
            }
        }
    }

    /// Asks root-task for the ports and memory of all `valid` functions. Returns those for which it got everything.
    fn obtain(&mut self, valid: u16) -> u16 {
        let Self { machine, listing, config, resources, .. } = self;
        for (index, wanted) in (0..).zip(&config.functions).filter(|(index, _)| valid & 1 << index != 0) {
            let found = listing.functions.iter().find(|found| found.address == wanted.at);
            // Of functions that may send messages.
            let table = found.filter(|_| wanted.dma != Dma::No).and_then(|found| Table::find(machine, found));
            for (bar, what) in found.into_iter().flat_map(check::bars) {
                let table = table.filter(|table| table.bar == bar).map(|table| table.bytes());
                resources.add_bar(wanted.owner, index, bar, what, wanted.direct, table);
            }
        }
        for (index, ports) in (0..).zip(&config.ports) {
            let PciPorts { name, owner, first, last, trusted } = ports;
            match check::why_not(ports, &listing.functions) {
                None => resources.add_ports(*owner, index, *first, *last),
                Some(whose) => log::error!("ports `{name}`, {first:#x}-{last:#x}, are {whose}"),
            }
            if *trusted {
                log::warn!(
                    "ports `{name}`, {first:#x}-{last:#x}, may control the whole machine: the description trusts them"
                );
            }
        }
        let mut obtained = valid;
        resources.obtain(machine, |Missing { whose, why }| match whose {
            Whose::Bar { function, bar } => {
                obtained &= !(1 << function);
                let name = config.functions.get(usize::from(function)).map_or("", |wanted| &wanted.name);
                log::error!("`{name}` is not passed through: root-task refuses BAR {bar}: {why:?}");
            }
            Whose::Ports(index) => {
                let name = config.ports.get(usize::from(index)).map_or("", |ports| &ports.name);
                log::error!("ports `{name}` are not passed through: {why:?}");
            }
        });
        for index in (0..16).filter(|index| (valid & !obtained) & 1 << index != 0) {
            resources.forget(index);
        }
        obtained
    }

    /// Routes a function's interrupts, resets it and grants it to its owner.
    fn grant(&mut self, index: u8) {
        let Some(wanted) = self.config.functions.get(usize::from(index)) else { return };
        let all = &self.listing.functions;
        let Some(function) = all.iter().find(|found| found.address == wanted.at) else { return };
        let msi = messages(&mut self.machine, wanted, function);
        let by_messages = msi.is_some();
        let arrivals = if by_messages { Vec::new() } else { arrivals(function, all, self.wiring) };
        let mut lines = Vec::new();
        let mut lost = false;
        let is_pin = |arrival: &Arrival| arrival.isa.is_none();
        // An input that is not the owner's may be another's, and a level there would keep that from interrupting.
        let mut has_pin =
            !wanted.lines.is_empty() && !by_messages && !arrivals.iter().skip(wanted.lines.len()).any(is_pin);
        // If the description names no interrupt, the function has two lines, as many as any needs; it may not use all.
        for (position, (&line, arrival)) in wanted.lines.iter().zip(&arrivals).enumerate() {
            let is_described = position == 0 && wanted.has_route;
            match arrival.route.map(|route| self.machine.route(line, route)) {
                Some(Ok(())) => {}
                // A route in the description takes precedence over the one found here.
                Some(Err(irq::Error::RouteTaken)) if is_described => {}
                Some(Err(error)) => {
                    has_pin &= !is_pin(arrival);
                    log::error!("`{}`: irq-server refuses line {line}: {error:?}", wanted.name);
                }
                None => lost |= !is_described,
            }
            let _ = lines.push(GrantedLine { line, isa: arrival.isa, level: arrival.isa.is_none(), messages: None });
        }
        let msix = if by_messages {
            None
        } else {
            let memory = |bar| self.resources.memory_of(index, bar);
            table(&mut self.machine, memory, wanted, function, arrivals.len())
        };
        if lost {
            explain(wanted, function, msix.is_some());
        }
        let isa = arrivals.iter().find_map(|arrival| arrival.isa).unwrap_or(NO_LINE);
        let may_master = wanted.dma != Dma::No;
        let space = {
            let (has_pin, has_msix) = (has_pin && !lost, msix.is_some());
            let interrupts = Interrupts { line: isa, has_pin, msi, has_msix };
            VirtualSpace::new(&mut self.machine, function, may_master, interrupts)
        };
        let msix = msix.filter(|(_, msix)| space.shows(msix.table.at));
        if let Some(&line) = wanted.lines.first().filter(|_| by_messages) {
            let messages = space.msi().map(Messages::Msi);
            let _ = lines.push(GrantedLine { line, isa: None, level: true, messages });
        }
        if let Some((line, Msix { table: Table { at, bar, offset, .. }, .. })) = &msix {
            let base = function.bars.get(usize::from(*bar)).copied().flatten().map_or(0, |bar| bar.base);
            let messages = Some(Messages::Msix { at: *at, entry: base + offset });
            let _ = lines.push(GrantedLine { line: *line, isa: None, level: false, messages });
        }
        let msix = msix.map(|(_, msix)| msix);
        let (owner, function, away, absences) = (wanted.owner, function.clone(), false, 0);
        let mut owned = Owned { owner, index, function, space, lines, msix, away, absences };
        // The firmware, or the guest before a restart of pci-server, may have left DMA running.
        owned.reset(&mut self.machine, &mut WaitBudget::default(), &self.resources);
        let owner = self.config.clients.get(usize::from(wanted.owner)).map_or("", |client| client.name.as_str());
        announce(wanted, owner, &owned.function, by_messages);
        // There is room for all functions of the configuration.
        let _ = self.functions.push(owned);
    }

    /// Handles root-task's signals that clients were stopped.
    pub fn on_signal(&mut self, bits: u64) {
        for client in
            (0..self.config.clients.len().min(event::RINGS)).filter(|&client| bits & event::client(client) != 0)
        {
            if let Some(stopped) = self.config.clients.get(client) {
                log::info!("`{}` has stopped", stopped.name);
            }
            self.revoke(client);
            // With a full budget: the client did not request this reset, and root-task limits restarts.
            for owned in self.functions.iter_mut().filter(|owned| usize::from(owned.owner) == client) {
                owned.renew();
                owned.reset(&mut self.machine, &mut WaitBudget::default(), &self.resources);
            }
        }
    }

    /// How many calls of a client were refused.
    pub fn refused(&self, client: ClientId) -> u32 {
        self.refusals.count(client)
    }

    fn revoke(&mut self, client: usize) {
        for slot in self.resources.slots(client) {
            self.machine.revoke(slot);
        }
    }

    fn reset_all(&mut self, from: ClientId) {
        for position in 0..self.functions.len() {
            let owned = self.functions.get_mut(position).filter(|owned| usize::from(owned.owner) == from.index());
            if let Some(owned) = owned {
                owned.renew();
                self.reset_one(from, position);
            }
        }
    }

    /// Resets a function at its owner's request, and within the owner's budget.
    fn reset_one(&mut self, from: ClientId, position: usize) {
        let budget = self.budgets.get_mut(from.index());
        let (Some(owned), Some(budget)) = (self.functions.get_mut(position), budget) else { return };
        if owned.reset(&mut self.machine, budget, &self.resources) == Reset::Hurried {
            let at = owned.function.address;
            self.refusals.add(from, format_args!("a full reset of {at}"), Error::TooOften);
        }
    }

    /// Position in `functions` of the client's `n`th function.
    fn position(&self, from: ClientId, n: u8) -> Result<usize, Error> {
        let own = self.functions.iter().enumerate().filter(|(_, owned)| usize::from(owned.owner) == from.index());
        own.map(|(position, _)| position).nth(n.into()).ok_or(Error::NotYours)
    }

    /// The slot of the port capability for an access.
    fn port(&self, from: ClientId, port: u16, width: Width) -> Result<u16, Error> {
        let range = self.resources.port(port).filter(|range| usize::from(range.owner) == from.index());
        let range = range.ok_or(Error::NotYours)?;
        let bytes = u16::from(width.bytes());
        // The ports beyond the range may be another client's.
        let fits = port.is_multiple_of(bytes) && range.last - port >= bytes - 1;
        fits.then_some(range.slot).ok_or(Error::Straddles)
    }

    /// What a client's access to memory reaches.
    fn memory(&self, from: ClientId, at: u64, width: Width) -> Result<Reach, Error> {
        let range = self.resources.memory(at).filter(|range| usize::from(range.owner) == from.index());
        let range = range.filter(|range| range.is_mediated(at - range.first)).ok_or(Error::NotYours)?;
        let bytes = u64::from(width.bytes());
        let fits = at.is_multiple_of(bytes) && range.last - at >= bytes - 1;
        let mapped = range.mapped.ok_or(Error::Unavailable)?;
        let offset = at - range.first;
        match range.table {
            Some((first, last)) if (first..=last).contains(&offset) => self.table(range.whose, offset - first),
            _ => fits.then_some(Reach::Device(mapped + offset)).ok_or(Error::Straddles),
        }
    }

    #[cold]
    fn table(&self, whose: Whose, offset: u64) -> Result<Reach, Error> {
        let is_its = |owned: &Owned| matches!(whose, Whose::Bar { function, .. } if function == owned.index);
        let position = self.functions.iter().position(|owned| is_its(owned) && owned.msix.is_some());
        Ok(Reach::Table(position.ok_or(Error::Unavailable)?, offset))
    }

    #[inline]
    fn do_read(&mut self, from: ClientId, Read { target, width }: Read) -> Result<u32, Error> {
        match target {
            Target::Port(port) => Ok(self.machine.port_in(self.port(from, port, width)?, port, width)),
            Target::Memory(at) => match self.memory(from, at, width)? {
                Reach::Device(at) => Ok(self.machine.load(at, width)),
                Reach::Table(position, offset) => {
                    let msix = self.functions.get(position).and_then(|owned| owned.msix.as_ref());
                    Ok(msix.ok_or(Error::NotYours)?.read_table(offset, width))
                }
            },
            Target::Config { function, offset } => self.read_config(from, function, offset, width),
        }
    }

    // Not inlined: accesses to ports and memory are frequent, and should not save registers for this rare case.
    #[inline(never)]
    fn read_config(&mut self, from: ClientId, function: u8, offset: u8, width: Width) -> Result<u32, Error> {
        let position = self.position(from, function)?;
        aligned(offset, width)?;
        let owned = self.functions.get_mut(position).ok_or(Error::NotYours)?;
        if !owned.settle(&mut self.machine) {
            return Ok(width.mask());
        }
        let word = owned.space.read(&mut self.machine, offset & !3, Width::Dword);
        let word = match &owned.msix {
            Some(msix) if msix.table.at == offset & !3 => word & 0xffff | u32::from(msix.control()) << 16,
            _ => word,
        };
        Ok(word >> (8 * u32::from(offset & 3)) & width.mask())
    }

    #[inline]
    fn do_write(&mut self, from: ClientId, Write { target, width, value }: Write) -> Result<(), Error> {
        let value = value & width.mask();
        match target {
            Target::Port(port) => self.machine.port_out(self.port(from, port, width)?, port, width, value),
            Target::Memory(at) => match self.memory(from, at, width)? {
                Reach::Device(at) => self.machine.store(at, width, value),
                Reach::Table(position, offset) => {
                    let msix = self.functions.get_mut(position).and_then(|owned| owned.msix.as_mut());
                    msix.ok_or(Error::NotYours)?.write_table(&mut self.machine, offset, width, value);
                }
            },
            Target::Config { function, offset } => self.write_config(from, function, offset, width, value)?,
        }
        Ok(())
    }

    #[inline(never)]
    fn write_config(
        &mut self,
        from: ClientId,
        function: u8,
        offset: u8,
        width: Width,
        value: u32,
    ) -> Result<(), Error> {
        let position = self.position(from, function)?;
        aligned(offset, width)?;
        let owned = self.functions.get_mut(position).ok_or(Error::NotYours)?;
        if !owned.settle(&mut self.machine) {
            return Ok(());
        }
        let (at, shift) = (owned.function.address, 8 * u32::from(offset & 3));
        if let Some(msix) = owned.msix.as_mut().filter(|msix| msix.table.at == offset & !3) {
            msix.write(&mut self.machine, at, width.mask() << shift, (value & width.mask()) << shift);
            return Ok(());
        }
        let written = owned.space.write(&mut self.machine, offset, width, value);
        if offset >= 0x40 && owned.msix.as_ref().is_some_and(|msix| msix.put_back(&mut self.machine, at)) {
            return Err(Error::ReadOnly);
        }
        if written? == Written::Reset {
            self.reset_one(from, position);
        }
        Ok(())
    }

    #[cold]
    fn refuse_access(&mut self, from: ClientId, how: &str, target: Target, why: Error) {
        self.refusals.add(from, format_args!("{how} {target}"), why);
    }

    fn ports_to_take(&self, from: ClientId, first: u16) -> Result<u64, Error> {
        let range = self.resources.port(first).filter(|range| usize::from(range.owner) == from.index());
        let range = range.filter(|range| range.first == first && range.direct).ok_or(Error::NotYours)?;
        Ok(self.machine.capability(range.slot))
    }

    fn frame_to_take(&self, from: ClientId, call: TakeFrame) -> Result<u64, Error> {
        let owned = self.functions.get(self.position(from, call.function)?).ok_or(Error::NotYours)?;
        let range = self.resources.memory_of(owned.index, call.bar).filter(|range| range.direct);
        let is_kept =
            |range: &MemoryRange| range.kept().is_some_and(|(first, last)| (first..=last).contains(&call.page));
        let range = range.filter(|range| call.page < range.frames && !is_kept(range)).ok_or(Error::NotYours)?;
        Ok(self.machine.capability(range.slot + call.page))
    }
}

fn aligned(offset: u8, width: Width) -> Result<(), Error> {
    if offset.is_multiple_of(width.bytes()) { Ok(()) } else { Err(Error::Straddles) }
}

/// The kernel reports DMA faults by address, which only this line connects with the function's name and owner.
fn announce(wanted: &PciFunction, owner: &str, function: &Function, by_messages: bool) {
    let by = if by_messages { ", interrupts by MSI" } else { "" };
    let how = if wanted.direct { "direct" } else { "mediated" };
    let (vendor, device) = (function.vendor, function.device);
    log::info!("`{}`: {} {vendor:04x}:{device:04x} of `{owner}`, {how}{by}", wanted.name, function.address);
    if wanted.dma == Dma::Trusted {
        log::warn!("`{}` may reach all of memory where no IOMMU is on: the description trusts it", wanted.name);
    }
}

impl<M: Machine> Serve for Server<'_, M> {
    fn function(&mut self, from: ClientId, call: GetFunction) -> Result<Option<Function>, Error> {
        match self.config.clients.get(from.index()) {
            Some(client) if client.enumerate => Ok(self.listing.functions.get(usize::from(call.index)).cloned()),
            _ => {
                self.refusals.add(from, "the listing", Error::NotAllowed);
                Err(Error::NotAllowed)
            }
        }
    }

    fn grant(&mut self, from: ClientId, call: GetGrant) -> Result<Option<Grant>, Error> {
        let Ok(position) = self.position(from, call.index) else { return Ok(None) };
        let Some(owned) = self.functions.get(position) else { return Ok(None) };
        let mut bars = [Access::No; 6];
        for (index, access) in (0..).zip(&mut bars) {
            *access = self.resources.access(owned.index, index);
        }
        let kept = core::array::from_fn(|bar| {
            let range = self.resources.memory_of(owned.index, bar as u8).filter(|range| range.direct);
            range.and_then(MemoryRange::kept)
        });
        Ok(Some(Grant { function: owned.function.clone(), bars, kept, lines: owned.lines.clone() }))
    }

    fn ports(&mut self, from: ClientId, call: GetPorts) -> Result<Option<(u16, u16)>, Error> {
        let range = self.resources.loose_ports(from.index()).nth(call.index.into());
        Ok(range.map(|range| (range.first, range.last)))
    }

    fn take_ports(&mut self, from: ClientId, call: TakePorts) -> Result<u64, Error> {
        let taken = self.ports_to_take(from, call.first);
        taken.inspect_err(|&why| {
            self.refusals.add(from, format_args!("the capability to port {:#x}", call.first), why);
        })
    }

    fn take_frame(&mut self, from: ClientId, call: TakeFrame) -> Result<u64, Error> {
        let taken = self.frame_to_take(from, call);
        taken.inspect_err(|&why| {
            let TakeFrame { function, bar, page } = call;
            self.refusals.add(from, format_args!("page {page} of register {bar} of function {function}"), why);
        })
    }

    fn reset(&mut self, from: ClientId) -> Result<(), Error> {
        self.reset_all(from);
        Ok(())
    }

    fn release(&mut self, from: ClientId) -> Result<(), Error> {
        self.revoke(from.index());
        self.reset_all(from);
        Ok(())
    }

    fn mask(&mut self, from: ClientId, call: Mask) -> Result<(), Error> {
        let position = self.position(from, call.function);
        let owned = position.ok().and_then(|position| self.functions.get_mut(position)).ok_or(Error::NotYours);
        let masked = owned.and_then(|owned| match &mut owned.msix {
            Some(msix) => {
                msix.hold(&mut self.machine, owned.function.address, call.masked);
                Ok(())
            }
            None => owned.space.mask(&mut self.machine, call.masked),
        });
        masked.inspect_err(|&why| self.refusals.add(from, format_args!("masking function {}", call.function), why))
    }

    #[inline]
    fn read(&mut self, from: ClientId, call: Read) -> Result<u32, Error> {
        let done = self.do_read(from, call);
        done.inspect_err(|&why| self.refuse_access(from, "reading", call.target, why))
    }

    #[inline]
    fn write(&mut self, from: ClientId, call: Write) -> Result<(), Error> {
        let done = self.do_write(from, call);
        done.inspect_err(|&why| self.refuse_access(from, "writing", call.target, why))
    }
}
