//! pci-server: PCI configuration space, and every function, port and line that has an owner.

use layout::{
    event,
    limits::{MAX_PCI_FUNCTIONS, MAX_PCI_PORTS},
    slot,
};
use proto::{
    irq,
    pci::{Config, PciClient, PciFunction, PciPorts, SERVICE},
    timer,
};

use super::{Look, Server, vmm};
use crate::{
    checks::found::Found,
    compile::{
        error::CompileError,
        part::Role,
        passthrough,
        wire::{Wiring, bounded, encode, name},
    },
    laws::authority::{Badge, Holding, What, Who, Whose, at, holding},
    spec::{Id, Rights},
};

pub(super) static SERVER: Server = Server {
    calls: |devices| if devices { vec![irq::SERVICE, timer::SERVICE] } else { Vec::new() },
    ports: |board| vec![board.pci],
    grants: true,
    // Functions take many slots, one per page of memory.
    scratch_bits: |devices| devices.then_some(layout::SCRATCH_BITS),
    asks_root_task: |devices| devices,
    checks: &[who_lists_functions_may_call],
    holdings: &HOLDINGS,
    // Its clients' own priority, since the kernel's reply fastpath does not return to a caller of lower priority.
    ..Server::new(SERVICE, vmm::PRIORITY, configure, Look::new("#7c3aed", "#f1ebfe"))
};

/// It calls root-task and waits for the reply; other processes only send notices.
static HOLDINGS: [Holding; 1] = [holding(
    Who::Server(SERVICE),
    at(slot::SUPERVISOR),
    What::Endpoint,
    Whose::Supervisor,
    Rights::CALL,
    Badge::Number(0),
)];

fn who_lists_functions_may_call(found: &mut Found) {
    for component in &found.system.components {
        if component.pci_enumerate && !super::component::calls(component).contains(&SERVICE) {
            let message = format!("`{}` may list PCI functions but not call pci-server", component.name.get_ref());
            found.add(component.name.span(), message, "add \"pci\" to its services");
        }
    }
}

fn configure(wiring: &mut Wiring) -> Result<Vec<u8>, CompileError> {
    let server = wiring.server(SERVICE)?;
    let board = wiring.system.board();
    let config = wiring.build.ports(server, board.pci);
    let mut clients = heapless::Vec::new();
    for (process, name) in wiring.named_clients(SERVICE)? {
        let client = PciClient { name, enumerate: enumerates(wiring, wiring.part(process)?.role) };
        clients.push(client).map_err(|_| CompileError::TooMany("clients of pci-server"))?;
    }
    encode(&Config { config, clients, functions: functions(wiring)?, ports: lone_ports(wiring)?, intx: board.intx })
}

/// Whether it may list all functions of the machine.
fn enumerates(wiring: &Wiring, role: Role) -> bool {
    match role {
        Role::Vmm(n) => wiring.system.vms.get(n).is_some_and(|vm| vm.pci_enumerate),
        Role::Component(n) => wiring.system.components.get(n).is_some_and(|component| component.pci_enumerate),
        Role::Server(_) => false,
    }
}

/// The functions that are passed through.
fn functions(wiring: &Wiring) -> Result<heapless::Vec<PciFunction, MAX_PCI_FUNCTIONS>, CompileError> {
    let lines = wiring.lines();
    let mut functions = heapless::Vec::new();
    for function in passthrough::functions(wiring.system) {
        let memory =
            function.device.memory.as_ref().map(|all| {
                all.iter().map(|memory| (memory.get_ref().paddr, memory.get_ref().size)).collect::<Vec<_>>()
            });
        let owner = wiring.client(SERVICE, wiring.process(function.owner.role)?)?;
        let function = PciFunction {
            owner: owner as u8,
            name: name(&function.device.label())?,
            at: function.device.address,
            direct: function.direct(),
            dma: function.dma(),
            group_trusted: function.device.group.is_some(),
            lines: bounded(function.lines(&lines), "interrupt lines of a function")?,
            has_route: function.device.irq.is_some(),
            ports: function.ports().map(|ports| bounded(ports, "ranges of ports of a function")).transpose()?,
            memory: memory.map(|memory| bounded(memory, "ranges of memory of a function")).transpose()?,
        };
        functions.push(function).map_err(|_| CompileError::TooMany("PCI functions"))?;
    }
    Ok(functions)
}

/// Ports that are passed through and belong to no function.
fn lone_ports(wiring: &Wiring) -> Result<heapless::Vec<PciPorts, MAX_PCI_PORTS>, CompileError> {
    let mut lone = heapless::Vec::new();
    for owner in passthrough::owners(wiring.system) {
        let client = wiring.client(SERVICE, wiring.process(owner.role)?)? as u8;
        for ports in owner.devices.ports_of(None) {
            let (first, last) = ports.range();
            let (name, trusted) = (name(ports.name.get_ref())?, ports.trusted());
            let ports = PciPorts { owner: client, name, first, last, trusted };
            lone.push(ports).map_err(|_| CompileError::TooMany("ranges of ports"))?;
        }
    }
    Ok(lone)
}

/// The notification and badge that root-task signals when a process stops: pci-server's, if the process has devices, so
/// that pci-server can reset them.
pub(crate) fn on_stop(wiring: &Wiring, process: usize) -> Result<Option<(Id, u64)>, CompileError> {
    let part = wiring.part(process)?;
    if part.is_server() || !part.devices {
        return Ok(None);
    }
    let client = wiring.client(SERVICE, process)?;
    Ok(Some((wiring.events(wiring.server(SERVICE)?)?, event::client(client))))
}
