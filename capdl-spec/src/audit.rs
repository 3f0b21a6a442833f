//! Who can give information to whom: the flows of a compiled system between its VMs and components.
//!
//! | file | what it does |
//! |---|---|
//! | `authority` | the take-grant closure: what each process holds, and may get from others |
//! | `reach` | flows that capabilities and mappings allow, whatever the programs do |
//! | `functions` | flows that honest servers make, by the configurations that they find at their start |
//! | `paths` | flows through others |
//! | `never` | policies of the description that a flow breaks |
//! | `text`, `groups`, `matrix` | the result for people: as text, and as a drawing |
//! | `named` | the result with names in place of numbers, for JSON |
//!
//! All of it comes from the bundle: objects, capabilities, mappings and the servers' configurations. A VM is its guest with its
//! vmm-server, since a guest that takes its vmm-server over has what that holds. root-task, seL4, time and the outside of the
//! machine are left out: see docs/decisions/0029-flows.md.

mod authority;
mod functions;
mod groups;
mod matrix;
mod named;
pub(crate) mod never;
mod paths;
mod reach;
mod text;

use serde::Serialize;

use crate::{
    compile::{bundle::Bundle, error::CompileError},
    services,
    spec::Spec,
};
use functions::Configurations;
pub use named::Named;
use paths::Allowed;
pub use paths::Path;

/// What a process is to the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A guest with its vmm-server.
    Vm,
    /// A process of the user's own.
    Component,
    /// One that drives a disk or a network's uplink for a server, so it sees data of several clients.
    Driver,
    /// A server: trusted to keep its clients apart, but for its function.
    Server,
}

/// A process of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// As the description calls it.
    pub name: String,
    /// What it is.
    pub class: Class,
}

/// What a flow consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// Memory that one may write and the other may read.
    Memory,
    /// Messages of an endpoint's callers to its receiver.
    Call,
    /// Its replies.
    Reply,
    /// Access to all memory.
    AllMemory,
    /// A capability to another process's own objects.
    Control,
    /// I/O ports that both have.
    Ports,
    /// PCI functions that reach each other's registers without passing an IOMMU.
    PciBus,
    /// A network's switch.
    Network,
    /// A network of sockets.
    Sockets,
    /// A disk: requests and data between a client and its driver, or sectors that two clients have.
    Disk,
    /// A notification.
    Signal,
    /// An interrupt line of several owners.
    InterruptLine,
    /// Interrupts that a function behind an IOMMU raises by DMA.
    InterruptMessage,
}

impl Medium {
    /// Whether it carries data, and not only the fact that something has happened.
    pub fn carries_data(self) -> bool {
        !matches!(self, Medium::Signal | Medium::InterruptLine | Medium::InterruptMessage)
    }
}

/// A flow from one process to another, with nobody in between but perhaps a server that does what it is for. Processes are
/// positions in [`Audit::subjects`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Who gives information.
    pub from: usize,
    /// Who gets it.
    pub to: usize,
    /// By what.
    pub medium: Medium,
    /// Which one: `log`, or the name of a network.
    pub what: String,
    /// The server whose function it is; none if the flow takes no server.
    pub server: Option<usize>,
}

/// How much it takes that information flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Degree {
    /// Nothing: the two have something in common.
    Direct,
    /// A server that does what it is for.
    Function,
    /// VMs and components in between that pass it on.
    Relayed,
    /// A server or driver that is taken over.
    TakenOver,
}

/// From one VM or component to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Who gives information.
    pub from: usize,
    /// Who gets it.
    pub to: usize,
    /// The least that it takes; `None` if nothing flows, whichever server is taken over.
    pub degree: Option<Degree>,
    /// Whether that carries data, and not signals only.
    pub data: bool,
    /// A path on which nobody is taken over, if there is one.
    pub path: Option<Path>,
    /// Each server and driver that would open a path if it were taken over alone, and there is none yet that carries as much.
    pub if_taken_over: Vec<TakenOver>,
}

/// See [`Pair::if_taken_over`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// The server or driver.
    pub who: usize,
    /// The path through it.
    pub path: Path,
}

/// The flows of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The system's name.
    pub system: String,
    /// All processes, in the specification's order.
    pub subjects: Vec<Subject>,
    /// Flows between VMs and components that take nobody else, or a server's function.
    pub flows: Vec<Flow>,
    /// All ordered pairs of VMs and components.
    pub pairs: Vec<Pair>,
    /// What each server and driver exchanges with others by its capabilities and mappings: what it could leak (flows to it) and
    /// forge (flows from it) if it were taken over.
    pub exchanged: Vec<Flow>,
}

/// A compiled system, and what the audit knows about it.
pub(crate) struct Model<'a> {
    spec: &'a Spec,
    subjects: Vec<Subject>,
    configurations: Configurations,
}

impl<'a> Model<'a> {
    pub fn of(bundle: &'a Bundle) -> Result<Self, CompileError> {
        let spec = &bundle.spec;
        let configurations = Configurations::of(bundle)?;
        let is_server = |name: &str| services::ALL.iter().any(|server| server.service.server == name);
        let subjects = spec.processes.iter().map(|process| match process.ept {
            Some(_) => {
                let name = process.name.strip_prefix("vmm-").unwrap_or(&process.name);
                Subject { name: name.into(), class: Class::Vm }
            }
            None => {
                let class = if is_server(&process.name) { Class::Server } else { Class::Component };
                Subject { name: process.name.clone(), class }
            }
        });
        let mut model = Model { spec, subjects: subjects.collect(), configurations };
        for driver in model.drivers() {
            model.subjects[driver].class = Class::Driver;
        }
        Ok(model)
    }

    /// VMs, components and drivers.
    fn clients(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        (0..self.subjects.len()).filter(|&n| self.subjects[n].class != Class::Server)
    }

    /// Those that are trusted to keep others apart.
    fn keepers(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        (0..self.subjects.len()).filter(|&n| matches!(self.subjects[n].class, Class::Server | Class::Driver))
    }
}

/// The flows of a compiled system.
pub fn audit(bundle: &Bundle) -> Result<Audit, CompileError> {
    let model = Model::of(bundle)?;
    let honest = model.ways(&Allowed::default());
    let taken: Vec<_> = model.keepers().map(|who| (who, model.ways(&Allowed::taken_over(who)))).collect();
    let mut pairs = Vec::new();
    for from in model.clients() {
        for to in model.clients().filter(|&to| to != from) {
            let path = honest.path(from, to, None);
            let opens = |other: &Path| match &path {
                Some(path) => !path.carries_data() && other.carries_data(),
                None => true,
            };
            let others = taken.iter().filter(|(who, _)| ![from, to].contains(who));
            let opened = others.filter_map(|(who, ways)| Some((*who, ways.path(from, to, Some(*who))?)));
            let if_taken_over: Vec<TakenOver> =
                opened.filter(|(_, path)| opens(path)).map(|(who, path)| TakenOver { who, path }).collect();
            let degree = match &path {
                Some(path) => Some(path.degree()),
                None => (!if_taken_over.is_empty()).then_some(Degree::TakenOver),
            };
            let data = match &path {
                Some(path) => path.carries_data(),
                None => if_taken_over.iter().any(|one| one.path.carries_data()),
            };
            pairs.push(Pair { from, to, degree, data, path, if_taken_over });
        }
    }
    let among = |flow: &Flow, some: &[usize]| [flow.from, flow.to].map(|n| some.contains(&n));
    let (clients, keepers): (Vec<_>, Vec<_>) = (model.clients().collect(), model.keepers().collect());
    let flows = honest.flows().iter().filter(|flow| among(flow, &clients) == [true; 2]).cloned().collect();
    let exchanged = honest.flows().iter().filter(|flow| flow.server.is_none() && among(flow, &keepers) != [false; 2]);
    let exchanged = exchanged.cloned().collect();
    Ok(Audit { system: bundle.spec.name.clone(), subjects: model.subjects, flows, pairs, exchanged })
}

impl Audit {
    /// The name of a process.
    fn name(&self, subject: usize) -> &str {
        &self.subjects[subject].name
    }

    /// VMs, components and drivers.
    fn clients(&self) -> impl Iterator<Item = usize> + Clone + '_ {
        (0..self.subjects.len()).filter(|&n| self.subjects[n].class != Class::Server)
    }

    /// The pair of these two.
    fn pair(&self, from: usize, to: usize) -> Option<&Pair> {
        self.pairs.iter().find(|pair| pair.from == from && pair.to == to)
    }
}
