//! Who may hold what, as one table: the process, the slot and the kind of object; whose the object is; the rights; the
//! badge. If no row allows a capability, the first of these four columns that does not match names the law that it
//! breaks. No process holds kinds without a row (threads, address spaces, frames, I/O address spaces).

use std::sync::LazyLock;

use layout::{FAULT_BIT, Service, client_badge, client_of, event, limits::MAX_VCPUS, slot};
use proto::{irq, serial, timer};

use super::is_server;
use crate::{
    description::board::PortRange,
    laws::authority::{Badge, Holding, RINGS, What, Who, Whose, at, holding, signals},
    laws::{channels::are_ends_of_one, lifecycle::manages, pipes::pipes_between},
    services::{ALL, Server, block, channels, lifecycle, net, pipes, vmm},
    spec::{CapEntry, Id, Kind, Process, Rights, Spec},
};

const ANYONE: Who = Who::Anyone;
const RECEIVE: Rights = Rights::READ;
/// A server that passes capabilities in replies needs the grant right.
const RECEIVE_AND_GRANT: Rights = Rights { read: true, write: false, grant: true };

/// What any process may hold.
#[rustfmt::skip]
static COMMON: [Holding; 6] = [
    // First for notices, then for the thread's faults, which the kernel sends with the second capability.
    holding(ANYONE, at(slot::SUPERVISOR), What::Endpoint, Whose::Supervisor, Rights::WRITE, Badge::Number(0)),
    holding(ANYONE, at(slot::FAULT), What::Endpoint, Whose::Supervisor, Rights::CALL, Badge::Number(FAULT_BIT)),
    holding(ANYONE, at(slot::EVENTS), What::Notification, Whose::Own, RECEIVE, Badge::None),
    holding(ANYONE, (slot::events(1).0, slot::events(MAX_VCPUS).0), What::Notification, Whose::Own, RECEIVE, Badge::None),
    holding(ANYONE, at(slot::SCRATCH), What::CNode, Whose::Own, Rights::ALL, Badge::None),
    holding(ANYONE, (slot::PORTS.0, slot::SIGNALS.0), What::Ports, Whose::Given, Rights::ALL, Badge::None),
];

/// The rows of each server: its endpoint, its clients' capabilities to it, and its interrupt.
static OF_SERVERS: LazyLock<Vec<Holding>> = LazyLock::new(|| {
    let rows = |server: &'static Server| {
        let (service, rights) = (server.service, if server.grants { RECEIVE_AND_GRANT } else { RECEIVE });
        let own = Who::Server(service);
        let endpoint = holding(own, at(slot::SERVICE), What::Endpoint, Whose::Own, rights, Badge::None);
        let called = Whose::Called(service);
        let clients = holding(ANYONE, at(service.slot), What::Endpoint, called, Rights::CALL, Badge::Client);
        let interrupt = server.line.map(|_| signals(irq::SERVICE, Whose::Server(service), event::INTERRUPT));
        [endpoint, clients].into_iter().chain(interrupt)
    };
    ALL.into_iter().flat_map(rows).collect()
});

/// All rows.
fn holdings() -> impl Iterator<Item = &'static Holding> {
    let own = ALL.into_iter().flat_map(|server| server.holdings);
    COMMON
        .iter()
        .chain(OF_SERVERS.iter())
        .chain(own)
        .chain(&vmm::HOLDINGS)
        .chain(&pipes::HOLDINGS)
        .chain(&channels::HOLDINGS)
        .chain(&lifecycle::HOLDINGS)
}

/// A process's number at root-task.
fn number(spec: &Spec, holder: &Process) -> u64 {
    (1..).zip(&spec.processes).find(|(_, process)| process.cspace == holder.cspace).map_or(0, |(number, _)| number)
}

/// The process that an object is named after.
fn named(spec: &Spec, object: Id) -> Option<&Process> {
    let name = spec.name(object).split('.').next()?;
    spec.processes.iter().find(|process| process.name == name)
}

impl Holding {
    fn is_of(&self, holder: &Process, cap: &CapEntry, kind: &Kind) -> bool {
        let who = match self.who {
            Who::Anyone => true,
            Who::Server(service) => holder.name == service.server,
            Who::Vmm => holder.ept.is_some(),
        };
        let (first, behind) = self.slots;
        who && (u32::from(first)..u32::from(behind)).contains(&cap.slot) && What::of(kind) == Some(self.what)
    }

    fn is_whose(&self, spec: &Spec, holder: &Process, object: Id) -> bool {
        let owner = named(spec, object);
        let of_server = |service: Service| owner.is_some_and(|owner| owner.name == service.server);
        let calls = |process: &Process| spec.endpoint_of(&holder.name).is_some_and(|own| process.calls.contains(&own));
        match self.whose {
            Whose::Own => owner.is_some_and(|owner| owner.cspace == holder.cspace),
            Whose::Guests => {
                holder.ept == Some(object) || holder.threads.iter().any(|thread| thread.vcpu == Some(object))
            }
            Whose::Called(service) => {
                let endpoint = spec.endpoint_of(service.server);
                of_server(service) && endpoint.is_some_and(|endpoint| holder.calls.contains(&endpoint))
            }
            Whose::Server(service) => of_server(service) && holder.name != service.server,
            Whose::Callers => owner.is_some_and(calls),
            Whose::Users => owner.is_some_and(|owner| calls(owner) && !is_server(owner)),
            Whose::Vmms => owner.is_some_and(|owner| owner.ept.is_some()),
            Whose::Peers => owner.is_some_and(|owner| pipes_between(spec, holder, owner) > 0),
            Whose::OtherEnds => owner.is_some_and(|owner| are_ends_of_one(spec, holder, owner)),
            Whose::Managed => owner.is_some_and(|owner| manages(spec, holder, owner)),
            Whose::Managers => owner.is_some_and(|owner| manages(spec, owner, holder)),
            Whose::Supervisor => object == spec.supervisor,
            Whose::Given => holder.ports.contains(&object),
            Whose::Machines => owner.is_none(),
        }
    }

    fn has_badge(&self, spec: &Spec, holder: &Process, badge: u64) -> bool {
        match self.badge {
            Badge::None => badge == 0,
            Badge::Client => {
                client_of(badge).is_some_and(|client| client_badge(client) == badge && badge < FAULT_BIT << 2)
            }
            Badge::Bit(bits) => badge.is_power_of_two() && badge & bits != 0,
            Badge::Number(with) => badge == number(spec, holder) | with,
        }
    }
}

/// The first column in which no row matches a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Kind,
    Owner,
    Rights,
    Badge,
}

fn judge(spec: &Spec, cap: &CapEntry) -> Result<(), Wrong> {
    let kind = spec.kind(cap.object).ok_or(Wrong::Kind)?;
    let Some(holder) = spec.processes.iter().find(|process| process.cspace == cap.cnode) else {
        return of_scratch(spec, cap, kind);
    };
    let holds = |wrong, rows: Vec<&'static Holding>| if rows.is_empty() { Err(wrong) } else { Ok(rows) };
    let rows = holdings().filter(|row| row.is_of(holder, cap, kind)).collect();
    let mut rows = holds(Wrong::Kind, rows)?;
    rows.retain(|row| row.is_whose(spec, holder, cap.object));
    let mut rows = holds(Wrong::Owner, rows)?;
    rows.retain(|row| row.rights == cap.rights);
    let mut rows = holds(Wrong::Rights, rows)?;
    rows.retain(|row| row.has_badge(spec, holder, cap.badge));
    holds(Wrong::Badge, rows).map(|_| ())
}

/// A scratch CNode has a capability to itself in its first slot, and is otherwise empty when its process starts.
fn of_scratch(spec: &Spec, cap: &CapEntry, kind: &Kind) -> Result<(), Wrong> {
    let is_scratch = named(spec, cap.cnode).is_some_and(|process| {
        spec.caps.iter().any(|entry| {
            entry.cnode == process.cspace && entry.slot == slot::SCRATCH.0.into() && entry.object == cap.cnode
        })
    });
    match () {
        () if !is_scratch || cap.slot != 0 || What::of(kind) != Some(What::CNode) => Err(Wrong::Kind),
        () if cap.object != cap.cnode => Err(Wrong::Owner),
        () if cap.rights != Rights::ALL => Err(Wrong::Rights),
        () if cap.badge != 0 => Err(Wrong::Badge),
        () => Ok(()),
    }
}

fn all(spec: &Spec, wrong: Wrong) -> Result<(), String> {
    spec.caps.iter().try_for_each(|cap| super::unless(judge(spec, cap) != Err(wrong), || super::at(spec, cap)))
}

pub(super) fn capabilities_are_of_kinds_that_processes_may_hold(spec: &Spec) -> Result<(), String> {
    all(spec, Wrong::Kind)
}

pub(super) fn a_process_holds_its_own_and_what_it_was_given(spec: &Spec) -> Result<(), String> {
    all(spec, Wrong::Owner)
}

pub(super) fn a_capability_has_the_rights_of_its_use(spec: &Spec) -> Result<(), String> {
    all(spec, Wrong::Rights)
}

pub(super) fn a_capability_has_the_badge_of_its_use(spec: &Spec) -> Result<(), String> {
    all(spec, Wrong::Badge)
}

/// A server's clients, doorbells and lines are numbered from 0 without gaps: one number too many is authority that no
/// description asked for, and a missing one means that a capability is in the wrong slot.
pub(super) fn numbers_have_no_gaps(spec: &Spec) -> Result<(), String> {
    let held = |object: Id| {
        let caps = spec.caps.iter().filter(move |cap| cap.object == object && cap.rights.write);
        caps.map(|cap| (cap.cnode, cap.badge))
    };
    for server in ALL {
        let Some(endpoint) = spec.endpoint_of(server.service.server) else { continue };
        let clients = spec.processes.iter().filter(|process| process.calls.contains(&endpoint));
        let wanted = clients.zip(0..).map(|(process, number)| (process.cspace, client_badge(number)));
        let mut held: Vec<_> = held(endpoint).collect();
        held.sort_unstable_by_key(|(_, badge)| *badge);
        super::unless(held.into_iter().eq(wanted), || spec.name(endpoint).into())?;
    }
    doorbells_and_lines(spec).map_or(Ok(()), Err)
}

/// The notification whose numbers are wrong.
fn doorbells_and_lines(spec: &Spec) -> Option<String> {
    let find = |service: Service| spec.processes.iter().find(|process| process.name == service.server);
    let (irq, events) = (find(irq::SERVICE)?, |service| find(service).and_then(|process| process.events()));
    let said = |to: Id, by: Option<Id>| {
        let caps = spec.caps.iter().filter(|cap| cap.object == to && cap.rights.write);
        let caps = caps.filter(|cap| by.is_none_or(|by| cap.cnode == by));
        caps.fold(0, |bits, cap| bits | cap.badge)
    };
    let from_irq = |to: Id| said(to, Some(irq.cspace));
    let whole = |bits: u64| (bits + 1).is_power_of_two();
    let wrong = |id: Id| Some(spec.name(id).to_string());
    let servers_lines: Vec<Service> =
        ALL.iter().filter(|server| server.line.is_some()).map(|server| server.service).collect();
    for &service in &servers_lines {
        // With devices, irq-server asks timer-server for an alarm by this signal.
        let alarm = if service == timer::SERVICE && irq.events().is_some() { event::ALARM } else { 0 };
        // serial-server also gets the doorbell of irq-server's log.
        let log = if service == serial::SERVICE { RINGS } else { 0 };
        if let Some(id) = events(service).filter(|id| from_irq(*id) & !log != event::INTERRUPT | alarm) {
            return wrong(id);
        }
    }
    if let Some(id) = events(serial::SERVICE).filter(|id| !streams_have_bits_in_turn(spec, *id)) {
        return wrong(id);
    }
    for (service, doorbells) in [(proto::net::SERVICE, net::DOORBELLS), (proto::block::SERVICE, block::DOORBELLS)] {
        if let Some(id) = events(service).filter(|id| !whole(said(*id, None) & doorbells)) {
            return wrong(id);
        }
    }
    let mut all_lines = 0;
    for id in spec.processes.iter().filter(|process| !is_server(process)).filter_map(|process| process.events()) {
        let own = from_irq(id) / event::line(0);
        all_lines += own.count_ones();
        if !whole(own) {
            return wrong(id);
        }
    }
    // The lines of the servers' own devices are never shared and come first.
    let expected = (event::ring(all_lines as usize) - 1) * event::ring(servers_lines.len());
    irq.events().filter(|id| from_irq(*id) != expected).and_then(wrong)
}

/// Whether the streams to serial-server have the bits of its notification in turn: each its own, if there are enough.
fn streams_have_bits_in_turn(spec: &Spec, events: Id) -> bool {
    let mut uses = [0; event::RINGS];
    for cap in spec.caps.iter().filter(|cap| cap.object == events && cap.rights.write && cap.badge & RINGS != 0) {
        uses[cap.badge.trailing_zeros() as usize] += 1;
    }
    let (each, more) = (uses.iter().sum::<usize>() / uses.len(), uses.iter().sum::<usize>() % uses.len());
    uses.iter().enumerate().all(|(bit, uses)| *uses == each + usize::from(bit < more))
}

/// The names of ports and I/O address spaces say which they are.
pub(super) fn resources_of_the_machine_bear_their_numbers(spec: &Spec) -> Result<(), String> {
    spec.objects.iter().try_for_each(|object| {
        let right = match object.kind {
            Kind::IoPorts { first, last } => object.name == format!("ports.{}", PortRange { first, last }),
            Kind::IoSpace { function, .. } => object.name.ends_with(&format!(".iospace.{function}")),
            _ => true,
        };
        super::unless(right, || object.name.clone())
    })
}
